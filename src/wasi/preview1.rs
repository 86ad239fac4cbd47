//! The functions of WASI Preview 1: one list, from which their definitions in the linker and their traces are made.

use crate::error::{Error, Result};
use crate::runtime::caller::Caller;
use crate::runtime::linear::LinearMemory;
use crate::runtime::linker::Linker;
use crate::wasi::clock::{clock_res_get, clock_time_get};
use crate::wasi::env::{self, Wasi, WasiEnv};
use crate::wasi::errno::Errno;
use crate::wasi::fd::*;
use crate::wasi::fuel;
use crate::wasi::path::*;
use crate::wasi::poll::poll_oneoff;
use crate::wasi::process::*;
use crate::wasi::random::random_get;
use crate::wasi::sock::*;
use crate::wasi::types::list::*;
use crate::wasi::types::{
    Abi, Bits, Dircookie, Exitcode, Fd, Filedelta, Filesize, Pointer, RightsBits, Size, Timestamp,
};
use crate::wasi::wait;
use crate::wasi::watch::{Argument, Kind};
use std::sync::{Arc, Mutex};

/// Calls a macro with every function: its parameters as in the witx, and whether it gives an errno or, as `proc_exit`,
/// nothing.
macro_rules! for_each_function {
    ($callback:ident) => {
        $callback! {
            args_get(argv: Pointer, argv_buf: Pointer) -> Errno;
            args_sizes_get(count: Out32, bytes: Out32) -> Errno;
            environ_get(environ: Pointer, environ_buf: Pointer) -> Errno;
            environ_sizes_get(count: Out32, bytes: Out32) -> Errno;
            clock_res_get(id: ClockBits, resolution: Out64) -> Errno;
            clock_time_get(id: ClockBits, precision: Timestamp, time: Out64) -> Errno;
            fd_advise(fd: Fd, offset: Filesize, len: Filesize, advice: AdviceBits) -> Errno;
            fd_allocate(fd: Fd, offset: Filesize, len: Filesize) -> Errno;
            fd_close(fd: Fd) -> Errno;
            fd_datasync(fd: Fd) -> Errno;
            fd_fdstat_get(fd: Fd, stat: OutFdstat) -> Errno;
            fd_fdstat_set_flags(fd: Fd, flags: FdflagsBits) -> Errno;
            fd_fdstat_set_rights(fd: Fd, base: RightsBits, inheriting: RightsBits) -> Errno;
            fd_filestat_get(fd: Fd, stat: OutFilestat) -> Errno;
            fd_filestat_set_size(fd: Fd, size: Filesize) -> Errno;
            fd_filestat_set_times(fd: Fd, atim: Timestamp, mtim: Timestamp, flags: FstflagsBits) -> Errno;
            fd_pread(fd: Fd, iovs: Iovs, iovs_len: Size, offset: Filesize, nread: Out32) -> Errno;
            fd_prestat_get(fd: Fd, prestat: Pointer) -> Errno;
            fd_prestat_dir_name(fd: Fd, path: Buffer, path_len: Size) -> Errno;
            fd_pwrite(fd: Fd, iovs: Ciovs, iovs_len: Size, offset: Filesize, nwritten: Out32) -> Errno;
            fd_read(fd: Fd, iovs: Iovs, iovs_len: Size, nread: Out32) -> Errno;
            fd_readdir(fd: Fd, buf: Buffer, buf_len: Size, cookie: Dircookie, bufused: Out32) -> Errno;
            fd_renumber(fd: Fd, to: Fd) -> Errno;
            fd_seek(fd: Fd, offset: Filedelta, whence: WhenceBits, newoffset: Out64) -> Errno;
            fd_sync(fd: Fd) -> Errno;
            fd_tell(fd: Fd, offset: Out64) -> Errno;
            fd_write(fd: Fd, iovs: Ciovs, iovs_len: Size, nwritten: Out32) -> Errno;
            path_create_directory(fd: Fd, path: Path, path_len: Size) -> Errno;
            path_filestat_get(fd: Fd, flags: LookupBits, path: Path, path_len: Size, stat: OutFilestat) -> Errno;
            path_filestat_set_times(
                fd: Fd, flags: LookupBits, path: Path, path_len: Size,
                atim: Timestamp, mtim: Timestamp, fst_flags: FstflagsBits
            ) -> Errno;
            path_link(
                old_fd: Fd, old_flags: LookupBits, old_path: Path, old_path_len: Size,
                new_fd: Fd, new_path: Path, new_path_len: Size
            ) -> Errno;
            path_open(
                fd: Fd, dirflags: LookupBits, path: Path, path_len: Size, oflags: OflagsBits,
                base: RightsBits, inheriting: RightsBits, fdflags: FdflagsBits, opened_fd: Out32
            ) -> Errno;
            path_readlink(
                fd: Fd, path: Path, path_len: Size, buf: Buffer, buf_len: Size, bufused: Out32
            ) -> Errno;
            path_remove_directory(fd: Fd, path: Path, path_len: Size) -> Errno;
            path_rename(
                fd: Fd, old_path: Path, old_path_len: Size, new_fd: Fd, new_path: Path, new_path_len: Size
            ) -> Errno;
            path_symlink(
                old_path: Text, old_path_len: Size, fd: Fd, new_path: Path, new_path_len: Size
            ) -> Errno;
            path_unlink_file(fd: Fd, path: Path, path_len: Size) -> Errno;
            poll_oneoff(subscriptions: Subscriptions, events: Pointer, count: Size, stored: Out32) -> Errno;
            proc_exit(code: Exitcode);
            proc_raise(signal: Bits) -> Errno;
            sched_yield() -> Errno;
            random_get(buffer: Buffer, len: Size) -> Errno;
            sock_accept(fd: Fd, flags: FdflagsBits, accepted_fd: Out32) -> Errno;
            sock_recv(
                fd: Fd, data: Iovs, data_len: Size, flags: Bits, received: Out32, out_flags: Out16
            ) -> Errno;
            sock_send(fd: Fd, data: Ciovs, data_len: Size, flags: Bits, sent: Out32) -> Errno;
            sock_shutdown(fd: Fd, how: ShutdownBits) -> Errno;
        }
    };
}

/// The errno in the result that WebAssembly gets, if it has one.
trait HasErrno {
    fn errno(&self) -> Option<u32>;
}

impl HasErrno for u32 {
    fn errno(&self) -> Option<u32> {
        Some(*self)
    }
}

impl HasErrno for () {
    fn errno(&self) -> Option<u32> {
        None
    }
}

/// The result that WebAssembly gets for the Rust result of a function.
trait IntoWasmResult {
    type Wasm: HasErrno;
    fn into_wasm_result(self) -> Result<Self::Wasm>;
}

/// The errno as the program gets it; `Held`, which is none of the witx, as an error for the host.
#[inline]
fn errno_result(errno: Errno) -> Result<u32> {
    if errno == Errno::Held { Err(held()) } else { Ok(errno as u32) }
}

#[cold]
fn held() -> Error {
    Error::host(
        "the host holds the lock on the `WasiEnv`, which a WASI call of the program needs: drop the guard before \
         running the program or calling it",
    )
}

impl IntoWasmResult for Result<(), Errno> {
    type Wasm = u32;
    #[inline]
    fn into_wasm_result(self) -> Result<u32> {
        match self {
            Ok(()) => Ok(Errno::Success as u32),
            Err(errno) => errno_result(errno),
        }
    }
}

impl IntoWasmResult for Result<Errno> {
    type Wasm = u32;
    fn into_wasm_result(self) -> Result<u32> {
        self.and_then(errno_result)
    }
}

impl IntoWasmResult for Result<()> {
    type Wasm = ();
    fn into_wasm_result(self) -> Result<()> {
        self
    }
}

/// What WebAssembly code gets of a function: its errno, or nothing.
macro_rules! wasm_result {
    (Errno) => {
        u32
    };
    () => {
        ()
    };
}

/// The arguments of a call as [`Argument`]s.
macro_rules! arguments {
    ($($param:ident: $ty:ident),*) => {
        [$(Argument { name: stringify!($param), kind: Kind::$ty, value: $param as u64 }),*]
    };
}

macro_rules! define_functions {
    ($($name:ident($($param:ident: $ty:ident),*) $(-> $result:ident)?;)*) => {
        /// Adds all functions under the names of both modules.
        pub(crate) fn add_to_linker<T: 'static>(linker: &mut Linker<T>, env: &Arc<Mutex<WasiEnv>>) -> Result<()> {
            let watch = env::watch(env).map_err(|_| held())?;
            for (module, abi) in [("wasi_snapshot_preview1", Abi::Preview1), ("wasi_unstable", Abi::Unstable)] {
                $(
                    let (shared, watcher) = (env.clone(), watch.clone());
                    linker.func_wrap_suspending(module, stringify!($name), move |mut caller: Caller<'_, T>, $($param: $ty),*| {
                        fuel::pay(&mut caller, &arguments!($($param: $ty),*))?;
                        wait::complete(caller, |caller, attempts| {
                            let (mut memory, _, account) = caller.parts();
                            let wasi = Wasi::shared(&shared, abi, &watcher, attempts, account);
                            watched::$name(&wasi, &mut memory, $($param),*)
                        })
                    })?;
                )*
            }
            Ok(())
        }

        /// Adds all functions, acting on the environment that `find` finds in the data of the store whose code calls.
        pub(crate) fn add_to_linker_of_stores<T: 'static>(
            linker: &mut Linker<T>,
            find: impl Fn(&mut T) -> &mut WasiEnv + Copy + Send + Sync + 'static,
        ) -> Result<()> {
            for (module, abi) in [("wasi_snapshot_preview1", Abi::Preview1), ("wasi_unstable", Abi::Unstable)] {
                $(linker.func_wrap_suspending(module, stringify!($name), move |mut caller: Caller<'_, T>, $($param: $ty),*| {
                    fuel::pay(&mut caller, &arguments!($($param: $ty),*))?;
                    wait::complete(caller, |caller, attempts| {
                        let (mut memory, data, account) = caller.parts();
                        let wasi = Wasi::of_store(find(data), abi, attempts, account);
                        watched::$name(&wasi, &mut memory, $($param),*)
                    })
                })?;)*
            }
            Ok(())
        }

        /// The functions as WebAssembly code calls them: recorded if somebody wants that.
        mod watched {
            use super::*;

            $(
                #[inline]
                #[allow(clippy::too_many_arguments, reason = "they are the witx's")]
                pub(super) fn $name(
                    wasi: &Wasi<'_>,
                    memory: &mut LinearMemory<'_>,
                    $($param: $ty),*
                ) -> Result<wasm_result!($($result)?)> {
                    let Some(watch) = &wasi.watch else {
                        return IntoWasmResult::into_wasm_result(super::$name(wasi, memory, $($param),*));
                    };
                    let arguments = arguments!($($param: $ty),*);
                    let mut call = match wasi.attempts.watched() {
                        Some(call) => call,
                        None => {
                            wasi.account.forget_refused();
                            watch.begin(wasi, memory, stringify!($name), &arguments).map_err(|_| held())?
                        }
                    };
                    let answer = IntoWasmResult::into_wasm_result(super::$name(wasi, memory, $($param),*));
                    if wasi.attempts.waits() {
                        call.write();
                        wasi.attempts.keep_watched(call);
                    } else {
                        let errno = answer.as_ref().ok().and_then(|value| value.errno());
                        call.end(memory, errno, wasi.account.refused());
                    }
                    answer
                }
            )*
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

for_each_function!(define_functions);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_witx_is_there() {
        assert_eq!(NAMES.len(), 46);
        assert!(NAMES.iter().enumerate().all(|(index, name)| !NAMES[..index].contains(name)));
    }
}
