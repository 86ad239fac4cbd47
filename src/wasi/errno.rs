//! `errno` of WASI, and the translation of the host's errors to it.

use std::io;

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal $text:literal $(<- $host:ident)?;)*) => {
        /// Why a call failed, with the numbers of the witx.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Errno {
            $($(#[$doc])* $name = $value,)*
        }

        impl Errno {
            /// The name that the witx gives it.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => $text,)*
                }
            }
        }

        impl From<rustix::io::Errno> for Errno {
            #[cold]
            fn from(error: rustix::io::Errno) -> Self {
                match error {
                    $($(rustix::io::Errno::$host => Errno::$name,)?)*
                    // On Linux another name for `NOTSUP`, elsewhere another number.
                    error if error == rustix::io::Errno::OPNOTSUPP => Errno::NotSup,
                    _ => Errno::Io,
                }
            }
        }

        /// All of them, each at its number.
        pub(crate) const ALL: &[Errno] = &[$(Errno::$name),*];
    };
}

errno! {
    Success = 0 "success";
    TooBig = 1 "2big" <- TOOBIG;
    Acces = 2 "acces" <- ACCESS;
    AddrInUse = 3 "addrinuse" <- ADDRINUSE;
    AddrNotAvail = 4 "addrnotavail" <- ADDRNOTAVAIL;
    AfNoSupport = 5 "afnosupport" <- AFNOSUPPORT;
    Again = 6 "again" <- AGAIN;
    Already = 7 "already" <- ALREADY;
    Badf = 8 "badf" <- BADF;
    BadMsg = 9 "badmsg" <- BADMSG;
    Busy = 10 "busy" <- BUSY;
    Canceled = 11 "canceled" <- CANCELED;
    Child = 12 "child" <- CHILD;
    ConnAborted = 13 "connaborted" <- CONNABORTED;
    ConnRefused = 14 "connrefused" <- CONNREFUSED;
    ConnReset = 15 "connreset" <- CONNRESET;
    DeadLk = 16 "deadlk" <- DEADLK;
    DestAddrReq = 17 "destaddrreq" <- DESTADDRREQ;
    Dom = 18 "dom" <- DOM;
    Dquot = 19 "dquot" <- DQUOT;
    Exist = 20 "exist" <- EXIST;
    Fault = 21 "fault" <- FAULT;
    Fbig = 22 "fbig" <- FBIG;
    HostUnreach = 23 "hostunreach" <- HOSTUNREACH;
    Idrm = 24 "idrm" <- IDRM;
    Ilseq = 25 "ilseq" <- ILSEQ;
    InProgress = 26 "inprogress" <- INPROGRESS;
    Intr = 27 "intr" <- INTR;
    Inval = 28 "inval" <- INVAL;
    Io = 29 "io" <- IO;
    IsConn = 30 "isconn" <- ISCONN;
    IsDir = 31 "isdir" <- ISDIR;
    Loop = 32 "loop" <- LOOP;
    Mfile = 33 "mfile" <- MFILE;
    Mlink = 34 "mlink" <- MLINK;
    MsgSize = 35 "msgsize" <- MSGSIZE;
    Multihop = 36 "multihop" <- MULTIHOP;
    NameTooLong = 37 "nametoolong" <- NAMETOOLONG;
    NetDown = 38 "netdown" <- NETDOWN;
    NetReset = 39 "netreset" <- NETRESET;
    NetUnreach = 40 "netunreach" <- NETUNREACH;
    Nfile = 41 "nfile" <- NFILE;
    NoBufs = 42 "nobufs" <- NOBUFS;
    NoDev = 43 "nodev" <- NODEV;
    NoEnt = 44 "noent" <- NOENT;
    NoExec = 45 "noexec" <- NOEXEC;
    NoLck = 46 "nolck" <- NOLCK;
    NoLink = 47 "nolink" <- NOLINK;
    NoMem = 48 "nomem" <- NOMEM;
    NoMsg = 49 "nomsg" <- NOMSG;
    NoProtoOpt = 50 "noprotoopt" <- NOPROTOOPT;
    NoSpc = 51 "nospc" <- NOSPC;
    NoSys = 52 "nosys" <- NOSYS;
    NotConn = 53 "notconn" <- NOTCONN;
    NotDir = 54 "notdir" <- NOTDIR;
    NotEmpty = 55 "notempty" <- NOTEMPTY;
    NotRecoverable = 56 "notrecoverable" <- NOTRECOVERABLE;
    NotSock = 57 "notsock" <- NOTSOCK;
    NotSup = 58 "notsup" <- NOTSUP;
    NoTty = 59 "notty" <- NOTTY;
    Nxio = 60 "nxio" <- NXIO;
    Overflow = 61 "overflow" <- OVERFLOW;
    OwnerDead = 62 "ownerdead" <- OWNERDEAD;
    Perm = 63 "perm" <- PERM;
    Pipe = 64 "pipe" <- PIPE;
    Proto = 65 "proto" <- PROTO;
    ProtoNoSupport = 66 "protonosupport" <- PROTONOSUPPORT;
    Prototype = 67 "prototype" <- PROTOTYPE;
    Range = 68 "range" <- RANGE;
    Rofs = 69 "rofs" <- ROFS;
    Spipe = 70 "spipe" <- SPIPE;
    Srch = 71 "srch" <- SRCH;
    Stale = 72 "stale" <- STALE;
    TimedOut = 73 "timedout" <- TIMEDOUT;
    TxtBsy = 74 "txtbsy" <- TXTBSY;
    Xdev = 75 "xdev" <- XDEV;
    /// Capabilities insufficient: a right that was given up.
    NotCapable = 76 "notcapable";
    /// Not an errno of the witx, and never returned to a program: the host holds the lock on the environment for longer than
    /// a call waits. The program is ended with an error for the host.
    Held = 77 "held";
    /// Not an errno of the witx, and never returned to a program: the call has to wait for something before it can be done.
    Waits = 78 "waits";
}

impl From<io::Error> for Errno {
    #[cold]
    fn from(error: io::Error) -> Self {
        if let Some(error) = rustix::io::Errno::from_io_error(&error) {
            return error.into();
        }
        match error.kind() {
            // Not from the system: cap-std refuses a path that leads out of its directory.
            io::ErrorKind::PermissionDenied => Errno::Perm,
            // A path with a NUL byte in it.
            io::ErrorKind::InvalidInput => Errno::Inval,
            // Errors of an embedder's own streams.
            io::ErrorKind::NotFound => Errno::NoEnt,
            io::ErrorKind::AlreadyExists => Errno::Exist,
            io::ErrorKind::WouldBlock => Errno::Again,
            io::ErrorKind::BrokenPipe => Errno::Pipe,
            io::ErrorKind::Interrupted => Errno::Intr,
            io::ErrorKind::StorageFull => Errno::NoSpc,
            io::ErrorKind::Unsupported => Errno::NotSup,
            io::ErrorKind::ConnectionReset => Errno::ConnReset,
            io::ErrorKind::ConnectionAborted => Errno::ConnAborted,
            io::ErrorKind::NotConnected => Errno::NotConn,
            io::ErrorKind::TimedOut => Errno::TimedOut,
            _ => Errno::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_differ() {
        for (number, errno) in ALL.iter().enumerate() {
            assert_eq!(*errno as usize, number, "{}", errno.name());
        }
        // Those of the witx, `Held` and `Waits`.
        assert_eq!(ALL.len(), 79);
    }

    #[test]
    fn host_errors_keep_their_names() {
        assert_eq!(Errno::from(rustix::io::Errno::NOTEMPTY), Errno::NotEmpty);
        assert_eq!(Errno::from(io::Error::from_raw_os_error(libc::EXDEV)), Errno::Xdev);
        assert_eq!(Errno::from(io::Error::from(io::ErrorKind::PermissionDenied)), Errno::Perm);
    }
}
