//! The memory layout that both engines share: native code reads it by offset, the interpreter by field.
//!
//! Every type that native code reads is `#[repr(C)]`, with the offsets that native code uses as constants beside it; the
//! assertions at the end hold the sizes to those that `module::offsets` computes with. A [`VMContext`] is a header followed
//! by arrays. [`VMOffsets`](crate::module::offsets::VMOffsets) computes their offsets from the module, so all instances of a
//! module have the same:
//!
//! ```text
//! VMContext | VMGlobal x defined | VMMemory x defined, not shared | VMTable x defined
//!           | *VMGlobal x imported | *VMMemory x imported or shared | *VMTable x imported | *VMFuncRef x imported functions
//!           | *VMTag x all | u32 x all types (their engine-wide numbers)
//!           | u32 x all types (their descriptors in the heap; only if there are types of structures or arrays)
//!           | VMFuncRef x defined functions (all zero until first needed)
//! ```

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use super::activation::Link;
use super::engine::NativeCalls;
use super::instance::InstanceData;
use super::libcalls::Libcalls;
use super::store::Stored;
use crate::module::ModuleFacts;
use crate::module::offsets::{FUNC_REF_ALIGN, FUNC_REF_SIZE, VMCONTEXT_SIZE};
use crate::module::registry::RegisteredType;
use crate::module::types::RefType;

/// Native code: only ever used behind a pointer.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMCode {
    _opaque: [u8; 0],
}

/// The part of a store that engines read and write while code runs: the first field of
/// [`StoreOpaque`](super::store::StoreOpaque), at an address that does not change.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMStore {
    /// The lowest address that the stack pointer may have. Running code compares with [`VMInterrupt::stack_limit`].
    pub stack_limit: usize,
    /// While the native stack pointer is at or below this, interpreted code does not call native code: it interprets the
    /// callee. That keeps the last quarter of the native stack for calls that nest between the engines.
    pub nest_limit: usize,
    /// First free slot of the value stack: the next frame of interpreted code starts here.
    pub value_top: *mut u64,
    /// End of the value stack. Running code compares with [`VMInterrupt::value_end`].
    pub value_end: *mut u64,
    /// The slot of the pending exception, which native code is about to throw, or null; see `exception`.
    pub thrown: u64,
    /// Native code that starts unwinding. Compiled code calls it, without arguments, when a pending exception or error is in
    /// the store; it continues at the handler and never returns. Null where there is no JIT.
    pub raise: *const VMCode,
    /// The exception in flight, whose propagation [`StoreOpaque`](super::store::StoreOpaque) records, or null. Null when an
    /// exception is thrown anew, so that its backtrace starts there.
    pub in_flight: u64,
    /// Native code that does what was requested of the running code. Compiled code without signals calls it, without arguments.
    /// Null where there is no JIT.
    pub poll: *const VMCode,
    /// The frame pointer of the code by which native code of the innermost activation last called Rust code that may run other
    /// code of the store; 0 if it is not known.
    pub exit_fp: usize,
    /// The innermost activation, null if there is none; see [`activation`](super::activation).
    pub innermost: *const Link,
    /// How interpreted code enters native code; `None` where there is no JIT.
    pub native_calls: Option<&'static NativeCalls>,
    /// Units of fuel left. Code of an engine that consumes fuel takes from it; see `fuel`.
    pub fuel: u64,
    /// Whether the engine's code consumes fuel.
    pub consumes_fuel: bool,
    /// Base of the heap of objects, see [`gc`](super::gc). Null before there is one; it never changes again.
    pub gc_base: *mut u8,
    /// Offset in the heap where the next object starts. What is from there to the limit is zero.
    pub gc_cursor: usize,
    /// Offset in the heap up to which objects may be made without asking; the cursor if every one must ask.
    pub gc_limit: usize,
    /// Offset in the heap up to which its bytes are accessible.
    pub gc_end: usize,
    /// Whether a collection marks: 1 or 0. Code that overwrites a reference in an object must have the old one marked then, see
    /// [`heap::shade`](super::heap::shade).
    pub gc_marking: u32,
    /// The functions that have a number in the heap, by that number. Moves when there are more.
    pub func_table: *const *mut VMFuncRef,
    /// Number of entries of `func_table`.
    pub func_count: usize,
    /// Native code that waits in a shared memory, and tells the store where it was called. Compiled code calls it as a runtime
    /// function, see [`libcalls`](super::libcalls). Null where there is no JIT.
    pub wait: *const VMCode,
}

#[allow(dead_code, reason = "compiled code that allocates comes next")]
impl VMStore {
    pub const VALUE_TOP: i32 = offset_of!(VMStore, value_top) as i32;
    pub const VALUE_END: i32 = offset_of!(VMStore, value_end) as i32;
    pub const RAISE: i32 = offset_of!(VMStore, raise) as i32;
    pub const POLL: i32 = offset_of!(VMStore, poll) as i32;
    pub const WAIT: i32 = offset_of!(VMStore, wait) as i32;
    pub const STACK_LIMIT: i32 = offset_of!(VMStore, stack_limit) as i32;
    pub const EXIT_FP: i32 = offset_of!(VMStore, exit_fp) as i32;
    pub const IN_FLIGHT: i32 = offset_of!(VMStore, in_flight) as i32;
    pub const FUEL: i32 = offset_of!(VMStore, fuel) as i32;
    pub const GC_BASE: i32 = offset_of!(VMStore, gc_base) as i32;
    pub const GC_CURSOR: i32 = offset_of!(VMStore, gc_cursor) as i32;
    pub const GC_LIMIT: i32 = offset_of!(VMStore, gc_limit) as i32;
    pub const GC_MARKING: i32 = offset_of!(VMStore, gc_marking) as i32;
    pub const FUNC_TABLE: i32 = offset_of!(VMStore, func_table) as i32;
    pub const FUNC_COUNT: i32 = offset_of!(VMStore, func_count) as i32;
}

/// What running code of a store looks at to notice a request from another thread, see
/// [`interrupt`](super::interrupt): at each entry of a function it compares its stack with the limits, at the head of each
/// loop it looks at the word. A request sets all three so that the code goes to a cold path. It is not a part of
/// [`VMStore`] because other threads write to it, while this thread has exclusive references to the store.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMInterrupt {
    /// Zero if there is no request.
    pub word: AtomicU32,
    /// Native code traps with `StackOverflow` when the stack pointer is below this; so does each entry into an engine.
    pub stack_limit: AtomicUsize,
    /// The end of the value stack, which no frame may exceed.
    pub value_end: AtomicUsize,
}

#[cfg_attr(not(all(jit, baseline)), allow(dead_code, reason = "each kind of native code uses some of them"))]
impl VMInterrupt {
    pub const WORD: i32 = offset_of!(VMInterrupt, word) as i32;
    pub const STACK_LIMIT: i32 = offset_of!(VMInterrupt, stack_limit) as i32;
    pub const VALUE_END: i32 = offset_of!(VMInterrupt, value_end) as i32;
}

/// One linear memory. The base never moves; the length only grows: on the thread that runs the store's code, or on any if the
/// memory is shared.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMMemory {
    /// Address of byte 0.
    pub base: *mut u8,
    /// Length in bytes.
    length: AtomicUsize,
}

impl VMMemory {
    pub const fn new(base: *mut u8, length: usize) -> Self {
        VMMemory { base, length: AtomicUsize::new(length) }
    }

    /// Length in bytes. Of a shared memory, it is at least what it was when this thread learned of it.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Sets the length, when so many bytes are accessible.
    pub fn set_length(&self, length: usize) {
        // `memory.size` and `memory.grow` are in the one order of sequentially consistent instructions.
        self.length.store(length, Ordering::SeqCst);
    }

    pub const BASE: i32 = offset_of!(VMMemory, base) as i32;
    pub const LENGTH: i32 = offset_of!(VMMemory, length) as i32;
}

/// One table. Each element is a 64-bit slot: null is 0; a `funcref` is a `*mut VMFuncRef`; an `externref`
/// is a number that the [`Heap`](super::heap::Heap) assigns; other references are offsets in the heap, see [`gc`](super::gc).
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMTable {
    /// Address of element 0; moves when the table grows.
    pub base: *mut u64,
    /// Number of elements, at most `u32::MAX`.
    pub length: usize,
}

impl VMTable {
    pub const BASE: i32 = offset_of!(VMTable, base) as i32;
    pub const LENGTH: i32 = offset_of!(VMTable, length) as i32;
}

/// The value of a global: in the first slot, zero-extended if it has 32 bits; a `v128` takes both.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct VMGlobal {
    pub slots: [u64; 2],
}

/// The target of a function reference: everything that a caller needs to call a function of any instance or of the host.
///
/// Code that the JIT compiled calls `code(callee, caller_vmctx, arguments...)`. The interpreter and baseline code find the
/// callee by `owner` and `index`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMFuncRef {
    /// Native code to call. At first a trampoline, which finds the function through `callee`: a lazy-compile trampoline, or
    /// one that jumps to what `VMContext::entries` has for the function. Null where there is no JIT.
    pub code: *const VMCode,
    /// First hidden argument of `code`: the callee's VMContext if `code` is compiled code of the function; this VMFuncRef
    /// itself if `code` is a trampoline, as it always is for host functions.
    pub callee: *mut u8,
    /// The `*mut VMContext` of the defining instance, or the `*const HostFunc` of a host function.
    pub owner: *mut u8,
    /// Engine-wide number of the function's type: two types are equal if and only if their numbers are.
    pub sig: u32,
    /// Index among the *defined* functions of the owner's module, or [`VMFuncRef::HOST`].
    pub index: u32,
    /// The record of supertypes of the function's type, see [`RegisteredType::supertypes`]; the owner keeps the type.
    pub supertypes: *const u32,
    /// Its number in the heap, see [`gc::functions`](super::gc::functions); 0 if it has none yet.
    pub gc_id: u32,
}

#[allow(dead_code, reason = "compiled code that stores functions in objects comes next")]
impl VMFuncRef {
    pub const CODE: i32 = offset_of!(VMFuncRef, code) as i32;
    pub const CALLEE: i32 = offset_of!(VMFuncRef, callee) as i32;
    pub const OWNER: i32 = offset_of!(VMFuncRef, owner) as i32;
    pub const INDEX: i32 = offset_of!(VMFuncRef, index) as i32;
    pub const SIG: i32 = offset_of!(VMFuncRef, sig) as i32;
    pub const SUPERTYPES: i32 = offset_of!(VMFuncRef, supertypes) as i32;
    pub const GC_ID: i32 = offset_of!(VMFuncRef, gc_id) as i32;
    /// The `index` of host functions.
    pub const HOST: u32 = u32::MAX;
}

/// A tag (specification, section 4.2.10). Its exceptions have its descriptor.
#[repr(C)]
pub(crate) struct VMTag {
    /// Offset of the descriptor in the heap; 0 until the first exception is made. Exceptions of other tags have another.
    pub descriptor: AtomicU32,
    /// Number of slots that the payload of its exceptions takes.
    pub slots: usize,
    /// The functions in the payload: slot and type.
    pub functions: Box<[(u32, RefType)]>,
    /// The function type whose parameters are the types of the payload.
    pub sig: RegisteredType,
    /// The tag's own handle.
    pub handle: Stored,
    /// The module that defines the tag, and the tag's index there; `None` if the host made it.
    pub origin: Option<(Arc<ModuleFacts>, u32)>,
}

#[cfg_attr(not(jit), allow(dead_code, reason = "only compiled code uses the offset"))]
impl VMTag {
    pub const DESCRIPTOR: i32 = offset_of!(VMTag, descriptor) as i32;
}

/// The header of an instance's context.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct VMContext {
    /// The store, which outlives the context. It is the first field of a `StoreOpaque`.
    pub store: *mut VMStore,
    /// The store's, which lives at least as long as the store.
    pub interrupt: *const VMInterrupt,
    /// The entry of each function that the module defines, by defined index: native code, or a trampoline. All instances of
    /// the module share the array; one atomic store replaces an entry when better code is ready. Called as
    /// `entry(vmctx, defined_index, arguments...)`. Null where the engine does not compile.
    pub entries: *const AtomicPtr<VMCode>,
    /// Tier of the code that each entry points to, as the JIT numbers tiers; 0 for a trampoline. Null where the engine does
    /// not compile.
    pub tiers: *const AtomicU8,
    /// The runtime functions that compiled code calls; see `libcalls`.
    pub libcalls: *const Libcalls,
    /// The Rust side of the instance, which owns the context.
    pub instance: *mut InstanceData,
    /// The interpreter's data for the module; only the interpreter knows its type.
    pub interp: *const (),
    /// The JIT's data for the module; only the JIT knows its type. Null where there is no JIT.
    pub jit: *const (),
}

impl VMContext {
    pub const STORE: i32 = offset_of!(VMContext, store) as i32;
    pub const INTERRUPT: i32 = offset_of!(VMContext, interrupt) as i32;
    pub const ENTRIES: i32 = offset_of!(VMContext, entries) as i32;
    pub const TIERS: i32 = offset_of!(VMContext, tiers) as i32;
    pub const LIBCALLS: i32 = offset_of!(VMContext, libcalls) as i32;
}

// `module::offsets` gives each global, memory and table 16 bytes and each pointer 8, on every target.
const _: () = {
    assert!(align_of::<VMContext>() == 16 && size_of::<VMContext>() == VMCONTEXT_SIZE as usize);
    assert!(size_of::<VMGlobal>() == 16 && size_of::<VMMemory>() <= 16 && size_of::<VMTable>() <= 16);
    assert!(size_of::<*mut VMGlobal>() <= 8 && size_of::<VMFuncRef>() == FUNC_REF_SIZE as usize);
    assert!(align_of::<VMFuncRef>() == FUNC_REF_ALIGN as usize);
};
#[cfg(target_pointer_width = "64")]
const _: () = assert!(VMFuncRef::SIG == 24);
