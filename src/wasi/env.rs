//! What a program is given: arguments, environment, streams, directories, clocks, randomness, limits.

use crate::error::{Error, Result};
use crate::printable::Printable;
use crate::vm::budget::IoAccount;
use crate::wasi::clock::Clock;
use crate::wasi::errno::Errno;
use crate::wasi::fs::{self, Directory, ListingBudget};
use crate::wasi::quota::Quota;
use crate::wasi::random::Random;
use crate::wasi::stream::{Capture, Input, Output, lock};
use crate::wasi::table::{Descriptor, HostFile, Object, Table};
use crate::wasi::types::{Abi, Fd, Fdflags, Filetype, Rights};
use crate::wasi::wait::Attempts;
use crate::wasi::watch::{Denial, Refusal, Watch};
use cap_std::ambient_authority;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use std::cell::{RefCell, RefMut};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The world of a WASI program: all it can see, and nothing else.
///
/// A new environment has no arguments, no variables and no files; its input is at its end, its output is captured and
/// read with [`get_stdout`](WasiEnv::get_stdout) and [`get_stderr`](WasiEnv::get_stderr). The `with_` methods add to
/// that. It is shared with a program through [`create_wasi_linker`](crate::create_wasi_linker); any number of
/// instances can use the same one, from several threads, and then have their descriptors in common.
///
/// ```
/// use wasmrun::WasiEnv;
/// # fn main() -> wasmrun::Result<()> {
/// # let directory = std::env::temp_dir();
/// let env = WasiEnv::new()
///     .with_args(vec!["grep".into(), "-n".into(), "main".into()])
///     .with_env("LANG".into(), "C".into())
///     .with_stdin(std::io::Cursor::new("fn main() {}\n"))
///     .with_preopen(directory, "/")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WasiEnv {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) table: Table,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) limits: Option<Arc<Limits>>,
    pub(crate) looked_for_directories: bool,
    pub(crate) ends_on_closed_pipe: bool,
    watch: Watch,
    listings: ListingBudget,
    stdout: Capture,
    stderr: Capture,
    directories: usize,
    listeners: usize,
}

/// Bounds on what a program may write. Shared, so that a call can hold them without the environment's lock.
#[derive(Debug)]
pub(crate) struct Limits {
    file_size: u64,
    /// Bytes that may still be written.
    budget: AtomicU64,
    /// Whether a file was kept from growing.
    reached_size: AtomicBool,
    /// Whether something was not written because the budget was used up.
    reached_sum: AtomicBool,
}

impl Limits {
    fn new(file_size: u64, budget: u64) -> Option<Arc<Self>> {
        let budget = AtomicU64::new(budget);
        Some(Arc::new(Limits { file_size, budget, reached_size: false.into(), reached_sum: false.into() }))
    }

    fn too_large(&self) -> Errno {
        self.reached_size.store(true, Ordering::Relaxed);
        Errno::Fbig
    }

    /// How far a file may be extended when `len` bytes go to `position`.
    pub(crate) fn within_file(&self, position: u64, len: u64) -> Result<u64, Errno> {
        match self.file_size.checked_sub(position) {
            Some(0) | None if len > 0 => Err(self.too_large()),
            room => Ok(len.min(room.unwrap_or(0))),
        }
    }

    /// Whether a file may be `size` bytes long.
    pub(crate) fn check_size(&self, size: u64) -> Result<(), Errno> {
        if size > self.file_size { Err(self.too_large()) } else { Ok(()) }
    }

    /// Takes up to `len` bytes from the budget.
    pub(crate) fn take(&self, len: u64) -> Result<u64, Errno> {
        let update = |budget: u64| (budget > 0).then(|| budget - budget.min(len));
        match self.budget.try_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(budget) => Ok(len.min(budget)),
            Err(_) if len == 0 => Ok(0),
            Err(_) => Err(self.used_up()),
        }
    }

    pub(crate) fn used_up(&self) -> Errno {
        self.reached_sum.store(true, Ordering::Relaxed);
        Errno::Dquot
    }

    /// Gives back what was taken and not written.
    pub(crate) fn give_back(&self, len: u64) {
        self.budget.fetch_add(len, Ordering::Relaxed);
    }
}

impl Default for WasiEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl WasiEnv {
    /// An environment with nothing in it.
    pub fn new() -> Self {
        let mut env = WasiEnv {
            args: Vec::new(),
            env: Vec::new(),
            table: Table::new(),
            clock: Clock::host(),
            random: Random::Host,
            limits: None,
            looked_for_directories: false,
            ends_on_closed_pipe: false,
            watch: Watch::default(),
            listings: ListingBudget::default(),
            stdout: Capture::new(),
            stderr: Capture::new(),
            directories: 0,
            listeners: 0,
        };
        let (stdout, stderr) = (env.stdout.clone(), env.stderr.clone());
        env.table.insert_at(0, input(Input::new(std::io::empty())));
        env.table.insert_at(1, output(Output::Captured(stdout)));
        env.table.insert_at(2, output(Output::Captured(stderr)));
        env
    }

    /// Sets the arguments; the first is the program's name.
    ///
    /// A program written in C sees an argument only up to its first NUL byte.
    #[must_use]
    pub fn with_args(mut self, args: Vec<String>) -> Self {
        self.args = args;
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn with_arg(mut self, arg: String) -> Self {
        self.args.push(arg);
        self
    }

    /// Sets an environment variable, in place of one of the same name.
    #[must_use]
    pub fn with_env(mut self, key: String, value: String) -> Self {
        match self.env.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.env.push((key, value)),
        }
        self
    }

    /// Lets the program use this process's standard input, output and error directly, unbuffered.
    #[must_use]
    pub fn with_inherited_stdio(self) -> Self {
        self.with_inherited_stdin().with_inherited_stdout().with_inherited_stderr()
    }

    /// Lets the program read this process's standard input.
    ///
    /// It is read past the buffer of [`std::io::stdin`].
    #[must_use]
    pub fn with_inherited_stdin(mut self) -> Self {
        self.table.replace(0, inherited(rustix::stdio::stdin(), Rights::FD_READ));
        self
    }

    /// Lets the program write to this process's standard output.
    #[must_use]
    pub fn with_inherited_stdout(mut self) -> Self {
        self.table.replace(1, inherited(rustix::stdio::stdout(), Rights::FD_WRITE));
        self
    }

    /// Lets the program write to this process's standard error.
    #[must_use]
    pub fn with_inherited_stderr(mut self) -> Self {
        self.table.replace(2, inherited(rustix::stdio::stderr(), Rights::FD_WRITE));
        self
    }

    /// Lets the program read its standard input from a stream.
    ///
    /// A call that waits in the stream does not end when the store is interrupted, as one on
    /// [`with_stdin_file`](Self::with_stdin_file) does.
    #[must_use]
    pub fn with_stdin(mut self, stream: impl Read + Send + 'static) -> Self {
        self.table.replace(0, input(Input::new(stream)));
        self
    }

    /// Sends the program's standard output to a stream, instead of capturing it.
    #[must_use]
    pub fn with_stdout(mut self, stream: impl Write + Send + 'static) -> Self {
        self.table.replace(1, output(Output::custom(stream)));
        self
    }

    /// Sends the program's standard error to a stream, instead of capturing it.
    #[must_use]
    pub fn with_stderr(mut self, stream: impl Write + Send + 'static) -> Self {
        self.table.replace(2, output(Output::custom(stream)));
        self
    }

    /// Lets the program read its standard input from a file, pipe or terminal, which it can wait for and, where that
    /// is possible, seek in.
    #[must_use]
    pub fn with_stdin_file(mut self, file: File) -> Self {
        self.table.replace(0, standard(HostFile::Owned(file.into()), Rights::FD_READ));
        self
    }

    /// Sends the program's standard output to a file, pipe or terminal. To a file that is open for appending the program
    /// can only append.
    #[must_use]
    pub fn with_stdout_file(mut self, file: File) -> Self {
        self.table.replace(1, standard(HostFile::Owned(file.into()), Rights::FD_WRITE));
        self
    }

    /// Sends the program's standard error to a file, pipe or terminal.
    #[must_use]
    pub fn with_stderr_file(mut self, file: File) -> Self {
        self.table.replace(2, standard(HostFile::Owned(file.into()), Rights::FD_WRITE));
        self
    }

    /// Opens the directory `host` and shows it to the program as `guest`.
    ///
    /// The program reaches what is below the directory and nothing beside it, whatever paths or symbolic links it uses.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) with the path and the reason if `host` can't be opened as a
    /// directory.
    pub fn with_preopen(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Result<Self> {
        self.preopen(host.as_ref(), guest.into(), false)
    }

    /// Like [`with_preopen`](WasiEnv::with_preopen), but the program can change nothing in the directory: no contents,
    /// names, times or sizes. What it tries is `perm`.
    ///
    /// # Errors
    /// As there.
    pub fn with_read_only_preopen(self, host: impl AsRef<Path>, guest: impl Into<String>) -> Result<Self> {
        self.preopen(host.as_ref(), guest.into(), true)
    }

    fn preopen(mut self, host: &Path, guest: String, read_only: bool) -> Result<Self> {
        let dir = cap_std::fs::Dir::open_ambient_dir(host, ambient_authority()).map_err(|error| {
            Error::resource(format!("cannot open directory `{}`: {error}", Printable::line(&host.to_string_lossy())))
        })?;
        let directory = Object::Directory(Directory::given(dir, guest, self.listings.clone()));
        let mut descriptor =
            Descriptor::new(directory, Filetype::Directory, Fdflags::NONE, Rights::DIRECTORY, Rights::INHERITING);
        descriptor.read_only = read_only;
        // Before the sockets: C libraries stop looking for directories at the first number that is none.
        let index = self.table.len() - self.listeners;
        self.table.insert_at(index, descriptor);
        if let Some((number, _)) = &mut self.table.nowhere {
            *number = index as Fd + 1;
        }
        self.directories += 1;
        Ok(self)
    }

    /// Lets the program accept connections on a listening socket. Sockets come after all directories, in the order of
    /// the calls.
    ///
    /// The socket is made non-blocking, and so are its clones: a program that waits for a connection does not block in the
    /// call that accepts it, which another thread or process may have done first.
    #[must_use]
    pub fn with_listener(mut self, listener: TcpListener) -> Self {
        let rights = Rights::STREAM.with(Rights::SOCK_ACCEPT);
        let inheriting = Rights::STREAM.with(Rights::FD_READ).with(Rights::FD_WRITE).with(Rights::SOCK_SHUTDOWN);
        // This can fail only for a descriptor that is none, which no call can accept on either.
        let _ = listener.set_nonblocking(true);
        let object = Object::Host(HostFile::Owned(listener.into()));
        let descriptor = Descriptor::new(object, Filetype::SocketStream, Fdflags::NONE, rights, inheriting);
        self.table.insert_at(self.table.len(), descriptor);
        self.listeners += 1;
        self
    }

    /// Makes time repeatable: it starts at `start` and passes only by being read, a microsecond each time, and by
    /// being waited for, which then takes no time.
    #[must_use]
    pub fn with_virtual_clock(mut self, start: SystemTime) -> Self {
        let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(start.as_nanos()).unwrap_or(u64::MAX);
        self.clock = Clock::Virtual { start, elapsed: Arc::default() };
        self
    }

    /// Makes randomness repeatable: `random_get` gives the same bytes for the same seed. They are no secret then.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = Random::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))));
        self
    }

    /// Lets no file grow beyond `bytes`: a program that tries gets `fbig`.
    #[must_use]
    pub fn with_max_file_size(mut self, bytes: u64) -> Self {
        let budget = self.budget();
        self.limits = Limits::new(bytes, budget);
        self
    }

    /// Lets the program write no more than `bytes` in all, to files and streams: after that it gets `dquot`.
    #[must_use]
    pub fn with_max_written(mut self, bytes: u64) -> Self {
        let file_size = self.limits.as_ref().map_or(u64::MAX, |limits| limits.file_size);
        self.limits = Limits::new(file_size, bytes);
        self
    }

    /// Lets the program have no more than `count` descriptors, the three standard streams and preopens included:
    /// after that it gets `mfile`.
    #[must_use]
    pub fn with_max_descriptors(mut self, count: usize) -> Self {
        self.table.limit = count;
        self
    }

    /// Captures no more than `bytes` of each of standard output and error, where they are captured: after that the
    /// program gets `nospc`.
    #[must_use]
    pub fn with_max_captured(mut self, bytes: usize) -> Self {
        self.stdout.limit = bytes;
        self.stderr.limit = bytes;
        for (fd, capture) in [(1, self.stdout.clone()), (2, self.stderr.clone())] {
            if let Ok(descriptor) = self.table.get(fd)
                && let Object::Output(Output::Captured(_)) = descriptor.object
            {
                self.table.replace(fd, output(Output::Captured(capture)));
            }
        }
        self
    }

    /// Ends the program when it writes to this process's own standard output or error and nobody reads that any more,
    /// with 141, which is what a shell reports of a native program then. Otherwise the program gets `pipe`.
    #[must_use]
    pub fn with_exit_on_closed_pipe(mut self) -> Self {
        self.ends_on_closed_pipe = true;
        self
    }

    /// Writes a line to `stream` for each call of a WASI function, with its arguments decoded, its errno and results.
    ///
    /// Only linkers made afterwards do so. What comes from the program is escaped, so that it is safe to show on a
    /// terminal.
    #[must_use]
    pub fn with_trace(mut self, stream: impl Write + Send + 'static) -> Self {
        self.watch.trace = Some(Arc::new(Mutex::new(stream)));
        self
    }

    /// Records what the program is refused, for [`denials`](WasiEnv::denials). Only linkers made afterwards do so.
    ///
    /// C libraries look for the directory of a path themselves, and make no call if there is none. So that these paths are
    /// recorded too, the program is shown one more directory, `/`, unless it already has one of the name `/` or `.`: it is
    /// empty, and nothing can be made in it. Its number stays free for a file of the program; calls on paths then still find
    /// the directory. Add all other directories before.
    #[must_use]
    pub fn with_denials_recorded(mut self) -> Self {
        self.watch.denials = Some(Arc::default());
        let is_root = |fd| {
            let descriptor = self.table.get(fd as Fd).ok();
            let name = descriptor.and_then(|descriptor| descriptor.preopened_as());
            name.is_some_and(|name| matches!(name.trim_end_matches('/'), "" | "."))
        };
        if !(0..self.table.len()).any(is_root) {
            let (rights, inheriting) = (Rights::DIRECTORY, Rights::INHERITING);
            let nowhere = Descriptor::new(Object::Nowhere, Filetype::Directory, Fdflags::NONE, rights, inheriting);
            self.table.nowhere = Some(((self.table.len() - self.listeners) as Fd, Arc::new(nowhere)));
        }
        self
    }

    /// What the program was refused so far, in the order in which it asked, each once, if that is
    /// [recorded](WasiEnv::with_denials_recorded).
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use wasmrun::{Engine, Executor, Module, Refusal, WasiEnv, create_wasi_linker};
    /// # fn main() -> wasmrun::Result<()> {
    /// let module = Module::new(&Engine::default(), r#"(module
    ///     (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
    ///     (memory (export "memory") 1) (data (i32.const 8) "file")
    ///     (func (export "_start") (drop (call $unlink (i32.const 3) (i32.const 8) (i32.const 4)))))"#)?;
    /// # let directory = std::env::temp_dir();
    /// let env = WasiEnv::new().with_read_only_preopen(directory, "/in")?.with_denials_recorded();
    /// let env = Arc::new(Mutex::new(env));
    /// Executor::new_with_linker(module, create_wasi_linker(env.clone()))?.execute_export("_start", vec![])?;
    /// let denials = env.lock().unwrap().denials();
    /// assert_eq!((denials[0].path.as_str(), denials[0].reason), ("/in/file", Refusal::ReadOnly));
    /// # Ok(())
    /// # }
    /// ```
    pub fn denials(&self) -> Vec<Denial> {
        self.watch.denials.as_ref().map_or(Vec::new(), |denials| lock(denials).clone())
    }

    /// The limits of this environment that the program has run into so far, each once: what it wrote then was cut off, what
    /// it wanted to open was not opened.
    ///
    /// ```
    /// use wasmrun::WasiEnv;
    /// assert!(WasiEnv::new().with_max_written(1 << 20).limits_reached().is_empty());
    /// ```
    pub fn limits_reached(&self) -> Vec<Refusal> {
        let limit = |reached: &dyn Fn(&Limits) -> &AtomicBool| {
            self.limits.as_ref().is_some_and(|limits| reached(limits).load(Ordering::Relaxed))
        };
        let all = [
            (limit(&|limits| &limits.reached_size), Refusal::MaxFileSize),
            (limit(&|limits| &limits.reached_sum), Refusal::MaxWritten),
            (self.table.reached_limit(), Refusal::MaxDescriptors),
        ];
        all.into_iter().filter_map(|(reached, limit)| reached.then_some(limit)).collect()
    }

    /// What the program has written to standard output so far, if it is captured.
    pub fn get_stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    /// What the program has written to standard error so far, if it is captured.
    pub fn get_stderr(&self) -> Vec<u8> {
        self.stderr.bytes()
    }

    /// Whether the program has looked for directories and found that it has none. If it then failed, that may be why.
    pub fn missed_directories(&self) -> bool {
        self.looked_for_directories && self.directories == 0
    }

    fn budget(&self) -> u64 {
        self.limits.as_ref().map_or(u64::MAX, |limits| limits.budget.load(Ordering::Relaxed))
    }
}

fn input(input: Input) -> Descriptor {
    let rights = Rights::STREAM.with(Rights::FD_READ);
    Descriptor::new(Object::Input(input), Filetype::Unknown, Fdflags::NONE, rights, rights)
}

fn output(output: Output) -> Descriptor {
    let rights = Rights::STREAM.with(Rights::FD_WRITE);
    Descriptor::new(Object::Output(output), Filetype::Unknown, Fdflags::NONE, rights, rights)
}

fn inherited(fd: BorrowedFd<'static>, right: Rights) -> Descriptor {
    standard(HostFile::Inherited(fd), right)
}

/// A standard stream that is a descriptor of the host.
fn standard(file: HostFile, right: Rights) -> Descriptor {
    let (filetype, rights) = fs::classify(&file);
    let appends = rustix::fs::fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    // The embedder's file: the program may read or write it, but its times are not the program's to set.
    let mut never = Rights::FD_READ.with(Rights::FD_WRITE).with(Rights::FD_FILESTAT_SET_TIMES);
    if right == Rights::FD_READ {
        never = never.with(Rights::FD_ALLOCATE).with(Rights::FD_FILESTAT_SET_SIZE);
    }
    // A program that may only append to a file must not truncate it.
    if appends {
        never = never.with(Rights::FD_FILESTAT_SET_SIZE);
    }
    let flags = if appends { Fdflags::APPEND } else { Fdflags::NONE };
    let rights = rights.without(never).with(right);
    Descriptor::new(Object::Host(file), filetype, flags, rights, rights)
}

/// The watch for the calls of a linker that is made now, if a trace or denials are asked for.
pub(crate) fn watch(env: &Mutex<WasiEnv>) -> Result<Option<Watch>, Errno> {
    Ok(Some(lock_in_time(env)?.watch.clone()).filter(Watch::is_wanted))
}

/// What a WASI function acts on: an environment, in the layout of the module that the function was imported from.
pub(crate) struct Wasi<'a> {
    env: Source<'a>,
    pub(crate) abi: Abi,
    pub(crate) watch: Option<Watch>,
    pub(crate) attempts: &'a Attempts,
    /// What the store's code has written and opened, and may.
    pub(crate) account: &'a IoAccount,
}

/// Where the environment is.
enum Source<'a> {
    /// Shared by all stores that a linker serves, and by the host.
    Shared(&'a Mutex<WasiEnv>),
    /// In the data of the store whose code calls, for the time of the call.
    OfStore(RefCell<&'a mut WasiEnv>),
}

/// The environment, while a call looks something up in it.
pub(crate) enum EnvGuard<'a, 'e> {
    Shared(MutexGuard<'a, WasiEnv>),
    OfStore(RefMut<'a, &'e mut WasiEnv>),
}

impl Deref for EnvGuard<'_, '_> {
    type Target = WasiEnv;

    #[inline]
    fn deref(&self) -> &WasiEnv {
        match self {
            EnvGuard::Shared(env) => env,
            EnvGuard::OfStore(env) => env,
        }
    }
}

impl DerefMut for EnvGuard<'_, '_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut WasiEnv {
        match self {
            EnvGuard::Shared(env) => env,
            EnvGuard::OfStore(env) => env,
        }
    }
}

impl<'e> Wasi<'e> {
    /// Of an environment that is shared, for one call.
    #[inline]
    pub(crate) fn shared(
        env: &'e Mutex<WasiEnv>,
        abi: Abi,
        watch: &Option<Watch>,
        attempts: &'e Attempts,
        account: &'e IoAccount,
    ) -> Self {
        Wasi { env: Source::Shared(env), abi, watch: watch.clone(), attempts, account }
    }

    /// Of the environment in a store's data, for one call.
    #[inline]
    pub(crate) fn of_store(env: &'e mut WasiEnv, abi: Abi, attempts: &'e Attempts, account: &'e IoAccount) -> Self {
        let watch = if env.watch.is_wanted() { Some(env.watch.clone()) } else { None };
        Wasi { env: Source::OfStore(RefCell::new(env)), abi, watch, attempts, account }
    }

    /// Locks the environment for a look-up. Nothing that can block is done under the lock.
    #[inline]
    pub(crate) fn lock(&self) -> Result<EnvGuard<'_, 'e>, Errno> {
        match &self.env {
            Source::Shared(env) => Ok(EnvGuard::Shared(lock_in_time(env)?)),
            Source::OfStore(env) => env.try_borrow_mut().map(EnvGuard::OfStore).map_err(|_| Errno::Held),
        }
    }

    /// The descriptor with this number.
    #[inline]
    pub(crate) fn get(&self, fd: Fd) -> Result<Arc<Descriptor>, Errno> {
        self.lock()?.table.get(fd).cloned()
    }

    /// The directory with this number, for a call on a path. If no directory has it, it may be that of the empty directory that
    /// [`WasiEnv::with_denials_recorded`] shows.
    #[inline]
    pub(crate) fn get_for_path(&self, fd: Fd) -> Result<Arc<Descriptor>, Errno> {
        self.lock()?.table.get_for_path(fd).cloned()
    }

    /// The descriptor with this number, and what may be written to it.
    #[inline]
    pub(crate) fn get_limited(&self, fd: Fd) -> Result<(Arc<Descriptor>, Quota<'e>), Errno> {
        let env = self.lock()?;
        let descriptor = env.table.get(fd)?.clone();
        let quota = Quota::new(&descriptor, env.limits.clone(), self.account);
        Ok((descriptor, quota))
    }

    /// Whether one more descriptor may be opened: `mfile` if not.
    pub(crate) fn check_room(&self) -> Result<(), Errno> {
        let env = self.lock()?;
        self.account.check_open(env.table.open())?;
        env.table.check_room()
    }

    /// Gives a descriptor a number.
    pub(crate) fn insert(&self, descriptor: Descriptor) -> Result<Fd, Errno> {
        let mut env = self.lock()?;
        let fd = env.table.insert(descriptor)?;
        self.account.note_open(env.table.open());
        Ok(fd)
    }
}

/// Locks an environment. Fails if it stays locked for so long that the host must be holding it: a host that calls into
/// a guest while it holds the guard would otherwise wait for itself for ever.
#[inline]
fn lock_in_time(env: &Mutex<WasiEnv>) -> Result<MutexGuard<'_, WasiEnv>, Errno> {
    match env.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => await_lock(env),
    }
}

/// Tries of [`await_lock`] that only let other threads run. WASI calls hold the lock for less than a microsecond.
const YIELDS: u32 = 100;

/// Tries of [`await_lock`] with a millisecond of sleep before each. Tries are counted, and not time, so that a process
/// that is stopped for a while does not run out of it.
const NAPS: u32 = 5_000;

/// Waits for the lock. A mutex does not tell which thread holds it, so a thread that waits for itself is recognised by how
/// long it has waited.
#[cold]
fn await_lock(env: &Mutex<WasiEnv>) -> Result<MutexGuard<'_, WasiEnv>, Errno> {
    for attempt in 0..YIELDS + NAPS {
        match attempt {
            0..YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        match env.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Err(Errno::Held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_on_size_and_sum() {
        let limits = Limits::new(10, 7).unwrap();
        assert_eq!(limits.within_file(4, 20), Ok(6));
        assert_eq!(limits.within_file(10, 1), Err(Errno::Fbig));
        assert_eq!(limits.within_file(11, 0), Ok(0));
        assert_eq!(limits.take(5), Ok(5));
        limits.give_back(1);
        assert_eq!(limits.take(5), Ok(3));
        assert_eq!(limits.take(1), Err(Errno::Dquot));
        assert_eq!(limits.take(0), Ok(0));
    }

    #[test]
    fn directories_come_before_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let env = WasiEnv::new().with_listener(listener).with_preopen(".", "/").unwrap();
        assert_eq!(env.table.get(3).unwrap().filetype, Filetype::Directory);
        assert_eq!(env.table.get(4).unwrap().filetype, Filetype::SocketStream);
    }

    #[test]
    fn a_refused_directory_is_named() {
        let error = WasiEnv::new().with_preopen("no/such/directory", "/").unwrap_err();
        assert!(error.to_string().contains("no/such/directory"), "{error}");
    }
}
