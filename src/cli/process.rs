//! The process around the guest: the thread it runs on, and the signals of the terminal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::iterator::Signals;

use super::output::{Failure, note};
use super::{backtrace, profile, status};
use crate::sys::is_ignored;
use crate::{InterruptHandle, Module};

/// Bytes of stack that WebAssembly code may use in the tool: eight times as much as a native program usually has.
pub(super) const MAX_WASM_STACK: usize = 64 << 20;

/// Room on the same thread for the engine and host functions.
const HOST_STACK: usize = 4 << 20;

/// Ends the process with status 130 on Ctrl-C, whatever the guest is doing; prints the guest's backtrace on Ctrl-\ and lets it
/// run on.
///
/// Where one is ignored already, as in jobs that a shell started in the background, it stays ignored.
pub(super) fn handle_signals() {
    let handled = [SIGINT, SIGQUIT].into_iter().filter(|signal| !is_ignored(*signal));
    // Without a thread for it, the signals do what they do by default.
    let Ok(mut signals) = Signals::new(handled) else { return };
    let handle = signals.handle();
    let serve = move || {
        for signal in signals.forever() {
            match signal {
                SIGINT => interrupt(),
                _ => tell_backtrace(),
            }
        }
    };
    if thread::Builder::new().name("signals".into()).spawn(serve).is_err() {
        handle.close();
    }
}

/// Ends the process; but if the guest's core is to be dumped, ends the guest, and the process when it is asked for again.
fn interrupt() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(guest) = guest.filter(|guest| guest.dumps_core)
        && !ASKED.swap(true, Relaxed)
    {
        return guest.handle.interrupt();
    }
    profile::finish(true);
    flush_caches();
    if let Some(file) = unfinished().take() {
        let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir_all(&file));
    }
    std::process::exit(status::INTERRUPTED.into())
}

/// The guest that runs.
#[derive(Clone)]
pub(super) struct Guest {
    pub handle: InterruptHandle,
    /// The name of its module's file.
    pub file: String,
    /// Whether its backtraces are told in full.
    pub is_verbose: bool,
    /// Whether it is to be interrupted on Ctrl-C, so that its core can be dumped.
    pub dumps_core: bool,
}

static GUEST: Mutex<Option<Guest>> = Mutex::new(None);

/// Sets the guest whose backtrace is printed on Ctrl-\; without one, the process ends as others do.
pub(super) fn set_guest(guest: Option<Guest>) {
    *GUEST.lock().unwrap_or_else(PoisonError::into_inner) = guest;
}

fn tell_backtrace() {
    let Some(Guest { handle, file, is_verbose, .. }) = GUEST.lock().unwrap_or_else(PoisonError::into_inner).clone()
    else {
        let _ = signal_hook::low_level::emulate_default_handler(SIGQUIT);
        return;
    };
    handle.backtrace(move |backtrace| match backtrace.frames() {
        [] => note(&format!("{file}: is about to run")),
        _ => note(&format!("{file}: is running\n{}", backtrace::text(&backtrace, is_verbose))),
    });
}

/// The modules that are running.
static MODULES: Mutex<Vec<Module>> = Mutex::new(Vec::new());

/// A file that is being written, under a name that is not its own yet; or a folder for a while.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has this file or folder removed on Ctrl-C, and no other any more.
pub(super) fn remove_at_interrupt(file: Option<&Path>) {
    *unfinished() = file.map(Path::to_path_buf);
}

/// Notes a module whose compiled code is to be written to the cache when the process ends, in whatever way.
pub(super) fn flush_at_end(module: &Module) {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner).push(module.clone());
}

/// Writes the compiled code of all noted modules to the cache.
pub(super) fn flush_caches() {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Module::flush_cache);
}

/// Runs `guest` on a thread with a big stack and waits for it.
///
/// Where address space is short, a smaller stack is tried: the engines ask the thread how much it has.
pub(super) fn on_big_stack<R: Send>(guest: impl FnOnce() -> R + Send) -> Result<R, Failure> {
    // Lent to each attempt, not given, so that it is still there if the thread could not be made.
    let guest = Mutex::new(Some(guest));
    let run = || {
        let guest = guest.lock().unwrap_or_else(PoisonError::into_inner).take();
        guest.map(|guest| guest())
    };
    thread::scope(|scope| {
        let mut size = MAX_WASM_STACK + HOST_STACK;
        let thread = loop {
            match thread::Builder::new().name("guest".into()).stack_size(size).spawn_scoped(scope, run) {
                Ok(thread) => break thread,
                Err(_) if size > HOST_STACK => size /= 4,
                Err(error) => return Err(Failure::error(format!("cannot start a thread: {error}"))),
            }
        };
        match thread.join() {
            Ok(Some(result)) => Ok(result),
            Ok(None) => unreachable!("one thread was made, and it took the guest"),
            // A bug of wasmrun: the panic hook has printed where.
            Err(_) => Err(Failure::error("internal error; please report it together with the lines above")),
        }
    })
}
