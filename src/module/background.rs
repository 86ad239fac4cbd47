//! Validation of what has not been run yet, by a thread that gets only the time nobody else wants.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::ModuleInner;

/// Programs that end within this time do not pay for functions they never call.
const DELAY: Duration = Duration::from_millis(100);

/// Bytes of code that are validated between looks at whether somebody still wants the module.
const PIECE: usize = 256 << 10;

/// Stack of the thread; validation does not recurse.
const STACK: usize = 256 << 10;

/// Begins to validate a module in the background, if it is one that is validated lazily.
///
/// Without a thread for it, nothing is lost but early knowledge of an invalid function.
pub(super) fn start(module: &Arc<ModuleInner>) {
    if module.lazy.is_none() {
        return;
    }
    let module = Arc::downgrade(module);
    let thread = thread::Builder::new().name("wasmrun validation".into()).stack_size(STACK);
    let _ = thread.spawn(move || run(&module));
}

/// Validates piece by piece. The module is not kept alive, and work stops where the outcome is known.
fn run(module: &Weak<ModuleInner>) {
    thread::sleep(DELAY);
    step_back();
    let mut next = 0;
    while let Some(module) = module.upgrade() {
        let Some(lazy) = module.lazy.as_ref().filter(|lazy| lazy.background.get().is_none()) else { return };
        let mut bytes = 0;
        let bodies = &module.bodies[next..];
        let fits = bodies.iter().take_while(|body| {
            let is_first = bytes == 0;
            bytes += body.len();
            is_first || bytes <= PIECE
        });
        let end = next + fits.count();
        let outcome = match next == end {
            true => Some(Ok(())),
            false => module.validate_some(lazy, next..end).err().map(Err),
        };
        if let Some(outcome) = outcome {
            // Somebody may have said meanwhile that the module is valid.
            let _ = lazy.background.set(outcome);
            return;
        }
        next = end;
    }
}

/// Gives the thread the lowest priority, where a thread has one of its own.
fn step_back() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::setpriority_process(None, 19);
}
