//! A random module, or a changed one, on every engine.
#![cfg_attr(fuzzing, no_main)]

use wasmrun_fuzz::{
    compare, generate,
    runner::{Input, Target},
};

wasmrun_fuzz::target!(Target {
    name: "differential",
    generate: generate::module,
    test: compare::compare,
    input: Input::Module,
});
