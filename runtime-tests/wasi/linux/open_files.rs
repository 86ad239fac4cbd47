//! What is done with open files: of each kind, opened in each way.

use super::guest::{Arg, Guest, OUT, ROOT};
use super::paths::times;
use super::{INVAL, Report, Twins, number};
use crate::Result;
use Arg::*;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use wasmrun::{Strategy, WasiEnv};

const BADF: i32 = 8;

/// Positions and lengths: near the ends of files, of what the system counts in, and of what the guest does.
const NUMBERS: [i64; 12] = [0, 1, 4, 5, 4096, -1, -4, -5, i64::MAX, i64::MAX - 1, i64::MIN, 0x7fff_ffff_ffff_f000];

/// What is opened, and with which rights: a name, rights of WASI, flags of the system.
const KINDS: &[(&str, i64, OFlags)] = &[
    ("f", 2, OFlags::RDONLY),
    ("f", 64, OFlags::WRONLY),
    ("f", 66, OFlags::RDWR),
    ("fifo", 2, OFlags::RDONLY),
    ("fifo", 66, OFlags::RDWR),
];

/// The same file, opened by the guest and by this process.
struct Pair {
    guest: i32,
    own: OwnedFd,
}

fn open(guest: &mut Guest, own: &File, (name, rights, flags): (&str, i64, OFlags)) -> Result<Pair> {
    match guest.open(ROOT, 0, name, 0, rights, 0)? {
        (0, fd) => {
            let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(Pair { guest: fd, own: rustix::fs::openat(own, name, flags, Mode::empty())? })
        }
        (errno, _) => Err(format!("opening {name}: {errno}").into()),
    }
}

pub(crate) fn open_files(strategy: Strategy) -> Result<()> {
    let twins = Twins::new()?;
    let own = File::open(twins.own())?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_preopen(twins.guest(), "/")?)?;
    let mut report = Report::default();
    for kind in KINDS {
        let name = format!("{} {}", kind.0, kind.1);
        let pair = open(&mut guest, &own, *kind)?;
        seeking(&mut guest, &pair, &name, &mut report)?;
        transfers(&mut guest, &pair, &name, &mut report)?;
        hints(&mut guest, &pair, &name, &mut report)?;
        for flags in 0..16 {
            let args = [I32(pair.guest), I64(1_000_000_000), I64(2_000_000_000), I32(flags)];
            let wanted = times(flags).map_or(INVAL, |times| number(rustix::fs::futimens(&pair.own, &times)));
            report.add(|| format!("{name}: set_times {flags}"), guest.call("fd_filestat_set_times", &args)?, wanted);
        }
        report.add(
            || format!("{name}: sync"),
            guest.call("fd_sync", &[I32(pair.guest)])?,
            number(rustix::fs::fsync(&pair.own)),
        );
        let wanted = number(rustix::fs::fdatasync(&pair.own));
        report.add(|| format!("{name}: datasync"), guest.call("fd_datasync", &[I32(pair.guest)])?, wanted);
        guest.call("fd_close", &[I32(pair.guest)])?;
        report.add(|| format!("{name}: closed"), guest.call("fd_close", &[I32(pair.guest)])?, BADF);
        drop(pair);
        sizes(&mut guest, &own, &twins, *kind, &mut report)?;
    }
    // A directory that was given, which is one that only finds things, and one that was opened.
    let (_, opened) = guest.open(ROOT, 0, "d", 2, 0, 0)?;
    for fd in [ROOT, opened] {
        report.add(|| format!("directory {fd}: sync"), guest.call("fd_sync", &[I32(fd)])?, 0);
        report.add(|| format!("directory {fd}: datasync"), guest.call("fd_datasync", &[I32(fd)])?, 0);
    }
    report.end()
}

fn seeking(guest: &mut Guest, pair: &Pair, name: &str, report: &mut Report) -> Result<()> {
    for whence in 0..3 {
        for offset in NUMBERS {
            let position = match whence {
                0 => u64::try_from(offset).map(SeekFrom::Start).ok(),
                1 => Some(SeekFrom::Current(offset)),
                _ => Some(SeekFrom::End(offset)),
            };
            let wanted = match position {
                Some(position) => rustix::fs::seek(&pair.own, position),
                // A pipe has no position at all.
                None => rustix::fs::tell(&pair.own).and(Err(rustix::io::Errno::INVAL)),
            };
            let errno = guest.call("fd_seek", &[I32(pair.guest), I64(offset), I32(whence), I32(OUT)])?;
            if let (0, Ok(position)) = (errno, wanted)
                && guest.u64_at(OUT) != position
            {
                return Err(format!("{name}: seek {offset} {whence} to {}", guest.u64_at(OUT)).into());
            }
            report.add(|| format!("{name}: seek {offset} {whence}"), errno, number(wanted));
        }
    }
    let errno = guest.call("fd_tell", &[I32(pair.guest), I32(OUT)])?;
    report.add(|| format!("{name}: tell"), errno, number(rustix::fs::tell(&pair.own)));
    let _ = guest.call("fd_seek", &[I32(pair.guest), I64(0), I32(0), I32(OUT)])?;
    let _ = rustix::fs::seek(&pair.own, SeekFrom::Start(0));
    Ok(())
}

/// Lists of buffers that are read into or written from: none, empty ones, some.
const LISTS: [&[usize]; 5] = [&[], &[0], &[0, 0], &[2, 0, 1], &[1, 1, 1, 1, 1, 1]];

fn transfers(guest: &mut Guest, pair: &Pair, name: &str, report: &mut Report) -> Result<()> {
    for list in LISTS {
        let places = list.iter().enumerate().map(|(index, len)| (4096 + 16 * index as i32, *len as i32));
        guest.buffers(2048, places)?;
        let count = I32(list.len() as i32);
        let mut bytes = [[0; 4]; 8];
        let mut into: Vec<_> =
            bytes.iter_mut().zip(list).map(|(bytes, len)| IoSliceMut::new(&mut bytes[..*len])).collect();
        let from: Vec<_> = list.iter().map(|len| IoSlice::new(&b"abcd"[..*len])).collect();
        let mut add = |call: &str, guest: (i32, u32), wanted: rustix::io::Result<usize>| {
            report.add(|| format!("{name}: {call} {list:?}"), guest.0, number(wanted));
            if let (0, Ok(len)) = (guest.0, wanted) {
                report.add(|| format!("{name}: length of {call} {list:?}"), guest.1 as i32, len as i32);
            }
        };
        for offset in NUMBERS {
            // The system takes it for a negative position where the guest means a high one: both are refused.
            let args = [I32(pair.guest), I32(2048), count, I64(offset), I32(OUT)];
            let errno = guest.call("fd_pread", &args)?;
            add(
                &format!("pread {offset}"),
                (errno, guest.u32_at(OUT)),
                rustix::io::preadv(&pair.own, &mut into, offset as u64),
            );
            if offset <= 4096 {
                let errno = guest.call("fd_pwrite", &args)?;
                add(
                    &format!("pwrite {offset}"),
                    (errno, guest.u32_at(OUT)),
                    rustix::io::pwritev(&pair.own, &from, offset as u64),
                );
            }
        }
        let args = [I32(pair.guest), I32(2048), count, I32(OUT)];
        let errno = guest.call("fd_write", &args)?;
        add("write", (errno, guest.u32_at(OUT)), rustix::io::writev(&pair.own, &from));
        let errno = guest.call("fd_read", &args)?;
        add("read", (errno, guest.u32_at(OUT)), rustix::io::readv(&pair.own, &mut into));
    }
    Ok(())
}

fn hints(guest: &mut Guest, pair: &Pair, name: &str, report: &mut Report) -> Result<()> {
    let advices =
        [Advice::Normal, Advice::Sequential, Advice::Random, Advice::WillNeed, Advice::DontNeed, Advice::NoReuse];
    for (advice, own) in advices.into_iter().enumerate() {
        for offset in NUMBERS {
            for len in NUMBERS {
                let args = [I32(pair.guest), I64(offset), I64(len), I32(advice as i32)];
                let wanted = rustix::fs::fadvise(&pair.own, offset as u64, NonZeroU64::new(len as u64), own);
                report.add(
                    || format!("{name}: advise {offset} {len} {advice}"),
                    guest.call("fd_advise", &args)?,
                    number(wanted),
                );
            }
        }
    }
    Ok(())
}

fn sizes(guest: &mut Guest, own: &File, twins: &Twins, kind: (&str, i64, OFlags), report: &mut Report) -> Result<()> {
    for offset in NUMBERS {
        for len in [None].into_iter().chain(NUMBERS.map(Some)) {
            let pair = open(guest, own, kind)?;
            let (errno, wanted) = match len {
                None => {
                    let errno = guest.call("fd_filestat_set_size", &[I32(pair.guest), I64(offset)])?;
                    (errno, number(rustix::fs::ftruncate(pair.own.as_fd(), offset as u64)))
                }
                Some(len) => {
                    let errno = guest.call("fd_allocate", &[I32(pair.guest), I64(offset), I64(len)])?;
                    let own = rustix::fs::fallocate(&pair.own, FallocateFlags::empty(), offset as u64, len as u64);
                    (errno, number(own))
                }
            };
            guest.call("fd_close", &[I32(pair.guest)])?;
            let call = || format!("{} {}: size {offset} {len:?}", kind.0, kind.1);
            report.add(call, errno, wanted);
            if errno == 0 || wanted == 0 {
                report.same_files(call, twins.compare()?);
            }
        }
    }
    Ok(())
}
