//! What the interpreter asks of the other tiers, and what they answer.

use std::io;
use std::sync::atomic::AtomicPtr;

use crate::vm::context::VMCode;

/// Native code for one entry of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(jit), expect(dead_code, reason = "the interpreter knows what there could be"))]
pub(crate) enum Native {
    /// Code of the function, to be called.
    Function,
    /// Code that takes over a frame at a loop, and does nothing else.
    Loop(*const VMCode),
    /// The same, but code of the function as well: the number of the loop in that.
    FunctionAtLoop(*const VMCode, u16),
}

/// How a function goes on whose budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(jit), expect(dead_code, reason = "the interpreter knows what there could be"))]
pub(crate) enum Hot {
    /// As before, with a new budget.
    Same,
    /// In baseline code, which is to be made; it has been asked for so often.
    Baseline(u8),
    Native(Native),
}

/// The tiering of one module's functions, as the interpreter sees it. A higher room implements it.
pub(crate) trait Tiers: Send + Sync {
    /// Has `read` take the bytecode of a function that earlier runs left, if there is some. The function counts as valid then.
    fn load_bytecode(&self, defined: u32, read: &mut dyn FnMut(&[u8]));

    /// Whether a function that is called for the first time has native code already, from earlier runs.
    fn starts_native(&self, defined: u32) -> bool;

    /// How to call a function that has native code: the trampoline for its type, null if there is no memory for one, and
    /// where the function's entry is.
    fn native_entry(&self, defined: u32) -> (*const VMCode, *const AtomicPtr<VMCode>);

    /// How to go on with a function whose budget is used up as it is called.
    fn hot_call(&self, defined: u32) -> Hot;

    /// How to go on with a function whose budget is used up in a loop, at the `loop` of this byte offset, in a frame with
    /// wide slots if `wide_slots`.
    fn hot_loop(&self, defined: u32, offset: u32, wide_slots: bool) -> Hot;

    /// How many words of bytecode have to wait before baseline code is compiled from them, when it has been compiled from
    /// `made` words, and one function has asked for it `asked` times.
    #[cfg(baseline)]
    fn baseline_batch(&self, made: usize, asked: u8) -> usize;

    /// Takes note that a function runs baseline code from now on, or that there is none to be had.
    fn has_baseline(&self, defined: u32);

    /// Memory for the module's baseline code.
    #[cfg(baseline)]
    fn baseline_memory(&self) -> Box<dyn BaselineMemory>;
}

/// Memory for baseline code, which goes when this is dropped.
#[cfg_attr(not(baseline), expect(dead_code, reason = "there is no baseline code"))]
pub(crate) trait BaselineMemory: Send {
    /// Puts code of functions, by defined index, where it can be run. It must not depend on where that is.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn add(&mut self, codes: &[(u32, &[u8])]) -> io::Result<Vec<*const u8>>;
}
