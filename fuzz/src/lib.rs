//! What the fuzz targets share: the runner for seeds, the modules to run, the engines to run them on, and the comparison.

pub mod compare;
mod dense;
pub mod engines;
pub mod generate;
pub mod host;
pub mod module;
pub mod mutate;
pub mod reduce;
pub mod runner;
pub mod value;

/// Makes a target: under `cargo fuzz` for libFuzzer, else a program that runs seeds or a file.
#[macro_export]
macro_rules! target {
    ($target:expr) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::runner::once(&$target, data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::runner::main(&$target)
        }
    };
}
