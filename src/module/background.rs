//! Validation, by a background thread of the lowest priority, of functions that have not been called yet.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::ModuleFacts;
use crate::sys::{self, lower_priority};

/// Time before validation begins: programs that end sooner do not pay for functions that they never call.
const DELAY: Duration = Duration::from_millis(100);

/// While the compiler is busy, validation waits another [`DELAY`], at most so many times: the program waits for the
/// compiler, and for validation it does not.
const PATIENCE: u32 = 20;

/// Bytes of code that are validated before the thread checks again whether the module is still in use.
const PIECE: usize = 256 << 10;

/// Niceness that is added to the thread's: the most there is, so that it runs when no other thread does.
const NICEST: i32 = 19;

/// Stack of the thread; validation does not recurse.
const STACK: usize = 256 << 10;

/// Begins to validate a module in the background, if it is one that is validated lazily.
///
/// If no thread can be started, invalid functions are found only when they are called. Validation waits while `is_busy`
/// says that the compiler is at work, but not for ever. `took` is told the processor time and the time that pieces of the
/// work took.
pub(crate) fn start(
    module: &Arc<ModuleFacts>,
    is_busy: impl Fn() -> bool + Send + 'static,
    took: impl Fn(Duration, Duration) + Send + 'static,
) {
    if module.lazy.is_none() {
        return;
    }
    let module = Arc::downgrade(module);
    let thread = thread::Builder::new().name("wasmrun validation".into()).stack_size(STACK);
    let _ = thread.spawn(move || run(&module, &is_busy, &took));
}

/// Validates piece by piece. The module is not kept alive, and work stops once its outcome is known from elsewhere.
fn run(module: &Weak<ModuleFacts>, is_busy: &dyn Fn() -> bool, took: &dyn Fn(Duration, Duration)) {
    thread::sleep(DELAY);
    lower_priority(NICEST);
    for _ in 0..PATIENCE {
        // Not held while asleep.
        if module.strong_count() == 0 || !is_busy() {
            break;
        }
        thread::sleep(DELAY);
    }
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
        let (begun, before) = (Instant::now(), sys::thread_time());
        let outcome = match next == end {
            true => Some(Ok(())),
            false => module.validate_some(lazy, next..end).err().map(Err),
        };
        took(sys::thread_time().saturating_sub(before), begun.elapsed());
        if let Some(outcome) = outcome {
            // `assume_background_valid` may have set the outcome meanwhile.
            let _ = lazy.background.set(outcome);
            return;
        }
        next = end;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::Engine;
    use crate::Module;
    use crate::config::{Config, Strategy};
    use crate::error::ErrorKind;
    use crate::module::validate::ValidationState;

    fn engine() -> Engine {
        let mut config = Config::new();
        config.strategy(Strategy::Interpreter).lazy_validation(true).lazy_validation_from(0);
        Engine::new(&config).unwrap()
    }

    /// More code than is validated in one piece, then the function `last`.
    fn module(last: &str) -> Vec<u8> {
        let function = format!("(func {})", "nop ".repeat(100_000));
        let text = format!("(module {function} {function} {function} {last} (data \"{}\"))", "x".repeat(1 << 20));
        wat::parse_str(text).unwrap()
    }

    fn in_memory_and_in_a_file(bytes: &[u8]) -> [Module; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("module.wasm");
        std::fs::write(&path, bytes).unwrap();
        [Module::new(&engine(), bytes).unwrap(), Module::from_file(&engine(), path).unwrap()]
    }

    fn wait(module: &Module) {
        while matches!(module.0.facts.validation_state(), ValidationState::Pending) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_background_finds_invalid_functions_that_are_not_called() {
        for module in in_memory_and_in_a_file(&module("(func $bad (result i32))")) {
            wait(&module);
            let ValidationState::Invalid(error) = module.0.facts.validation_state() else { panic!("it is invalid") };
            assert!(matches!(error.kind(), ErrorKind::Invalid { function: Some(name), .. } if name == "function bad"));
        }
    }

    #[test]
    fn the_background_comes_to_an_end() {
        for module in in_memory_and_in_a_file(&module("(func)")) {
            wait(&module);
            assert!(matches!(module.0.facts.validation_state(), ValidationState::Valid));
        }
    }

    #[test]
    fn what_is_known_to_be_valid_is_left_alone_until_it_is_called() {
        let modules = in_memory_and_in_a_file(&module("(func $bad (result i32))"));
        // At once: it begins in a tenth of a second.
        modules.iter().for_each(|module| module.0.facts.assume_background_valid());
        for module in modules {
            assert!(matches!(module.0.facts.validation_state(), ValidationState::Valid));
            assert!(module.0.facts.body(2).is_ok());
            assert!(module.0.facts.body(3).is_err());
        }
    }

    #[test]
    fn the_background_keeps_no_module_alive() {
        for module in in_memory_and_in_a_file(&module("(func)")) {
            let weak = Arc::downgrade(&module.0.facts);
            drop(module);
            while weak.strong_count() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
