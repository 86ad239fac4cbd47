//! Stands in for the room `tier` where there is no JIT: nothing is counted, nothing gets hot.

use std::ptr;

use crate::module::{Module, ModuleInner};
use crate::runtime::engine::Engine;
use crate::vm::context::VMCode;

/// Counts nothing. As large as a counter, so that the interpreter can index them.
pub(crate) struct Counter(#[allow(dead_code, reason = "only its size counts")] u64);

impl Counter {
    pub fn call(&self, _: u16) -> bool {
        true
    }

    pub fn pass(&self, _: u16) -> bool {
        true
    }
}

/// Native code for one entry of a function: there is none.
#[allow(dead_code, reason = "the interpreter knows what there could be")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    Function,
    Loop(*const VMCode),
    FunctionAtLoop(*const VMCode, u16),
}

/// How a function goes on whose budget is used up: as before.
#[allow(dead_code, reason = "the interpreter knows what there could be")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hot {
    Same,
    Baseline(u8),
    Native(Native),
}

pub(crate) struct ModuleTier;

impl ModuleTier {
    pub fn new(_: &Engine, _: usize) -> Self {
        ModuleTier
    }

    pub fn counters(&self) -> *const Counter {
        ptr::null()
    }

    pub fn starts_native(&self, _: &ModuleInner, _: u32) -> bool {
        false
    }

    pub fn hot_call(&self, _: &Module, _: u32) -> Hot {
        Hot::Same
    }

    pub fn hot_loop(&self, _: &Module, _: u32, _: u32, _: bool) -> Hot {
        Hot::Same
    }

    pub fn has_baseline(&self, _: &ModuleInner, _: u32) {}
}
