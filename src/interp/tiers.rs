//! The interface between the interpreter and the other tiers.

use std::io;
use std::sync::atomic::AtomicPtr;

use crate::vm::context::VMCode;

/// Native code for one entry of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(jit), expect(dead_code, reason = "the interpreter knows what there could be"))]
pub(crate) enum Native {
    /// Code of the function, to be called.
    Function,
    /// Code compiled for one loop: it takes over the interpreter's frame there.
    Loop(*const VMCode),
    /// Code of the function that has loop entries as well, and the number of the loop.
    FunctionAtLoop(*const VMCode, u16),
}

/// How a function continues when its budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(jit), expect(dead_code, reason = "the interpreter knows what there could be"))]
pub(crate) enum Hot {
    /// As before, with a new budget.
    Same,
    /// In baseline code, which is requested now; the number is how often it was requested before.
    Baseline(u8),
    /// In native code.
    Native(Native),
}

/// The tiering of one module's functions, as the interpreter sees it. A higher room implements it.
pub(crate) trait Tiers: Send + Sync {
    /// Calls `read` with the bytecode of a function that earlier runs recorded, if there is some. The function counts
    /// as valid then.
    fn load_bytecode(&self, defined: u32, read: &mut dyn FnMut(&[u8]));

    /// Whether a function that is called for the first time has native code from earlier runs, which is loaded now.
    fn starts_native(&self, defined: u32) -> bool;

    /// What a native-call shim needs: the entry trampoline for the function's type, null if there is no memory for one,
    /// and the address of the function's entry.
    fn native_entry(&self, defined: u32) -> (*const VMCode, *const AtomicPtr<VMCode>);

    /// How to continue a function whose budget is used up when it is called.
    fn hot_call(&self, defined: u32) -> Hot;

    /// How to continue a function whose budget is used up at the `loop` with this byte offset. `wide_slots` says
    /// whether its frame has scratch slots.
    fn hot_loop(&self, defined: u32, offset: u32, wide_slots: bool) -> Hot;

    /// How many words of bytecode have to wait before baseline code is compiled from them together, after `made` words,
    /// and for a function that has requested it `requests` times before.
    #[cfg(baseline)]
    fn baseline_batch(&self, made: usize, requests: u8) -> usize;

    /// Tells that a function has baseline code now, or cannot have any: it does not request it again.
    fn has_baseline(&self, defined: u32);

    /// Memory for the module's baseline code.
    #[cfg(baseline)]
    fn baseline_memory(&self) -> Box<dyn BaselineMemory>;
}

/// Memory for baseline code; freed when dropped.
#[cfg_attr(not(baseline), expect(dead_code, reason = "there is no baseline code"))]
pub(crate) trait BaselineMemory: Send {
    /// Copies code of functions, given with their defined indices, into executable memory, and returns its addresses.
    /// The code must be position-independent.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn add(&mut self, codes: &[(u32, &[u8])]) -> io::Result<Vec<*const u8>>;
}
