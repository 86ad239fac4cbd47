//! What the fuzz targets share: the runner for seeds, and the modules to run.

pub mod engines;
pub mod generate;
pub mod runner;

/// Makes a target of a function of bytes: under `cargo fuzz` for libFuzzer, else a program that runs seeds or a file.
#[macro_export]
macro_rules! target {
    ($test:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $test(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::runner::main($test)
        }
    };
}
