//! The layout that both engines share: what native code reads by offset, and the interpreter by field.
//!
//! Every type here is `#[repr(C)]`; the offsets that compiled code uses are constants beside the type, asserted
//! where they are declared. A [`VMContext`] is a header followed by arrays whose places
//! [`VMOffsets`](crate::module::offsets::VMOffsets) computes from the module, so they are the same for all instances of it:
//!
//! ```text
//! VMContext | VMGlobal x defined | VMMemory x defined | VMTable x defined
//!           | *VMGlobal x imported | *VMMemory x imported | *VMTable x imported | *VMFuncRef x imported functions
//!           | *VMTag x all | u32 x all types (their engine-wide numbers)
//!           | VMFuncRef x defined functions (all zero until first needed)
//! ```

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32};

use super::engine::NativeCalls;
use super::instance::InstanceData;
use super::libcalls::Libcalls;
use crate::module::ModuleFacts;
use crate::module::offsets::{FUNC_REF_ALIGN, FUNC_REF_SIZE, VMCONTEXT_SIZE};
use crate::module::registry::RegisteredType;

/// Native code; never called as a Rust function of this type.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMCode {
    _opaque: [u8; 0],
}

/// The part of a store that engines touch while code runs. One per store, first field of it, at a fixed address.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMStore {
    /// Compiled code and the engines' entries trap with `StackOverflow` when the stack pointer is below this.
    pub stack_limit: usize,
    /// Interpreted code has functions that are native interpreted all the same when the stack pointer is below this: a
    /// quarter of the stack is left for that.
    pub nest_limit: usize,
    /// First free slot of the value stack; a callee's frame starts here.
    pub value_top: *mut u64,
    /// End of the value stack.
    pub value_end: *mut u64,
    /// The exception that compiled code is about to throw, or null (see `exception`).
    pub thrown: *mut VMException,
    /// Native code that compiled code calls, without arguments, once an exception or an error is in the store: it goes on
    /// where that is handled and never returns. Null where there is no JIT.
    pub raise: *const VMCode,
    /// The exception of which the store notes the functions that it has left ([`StoreOpaque::way`]), or null. Null where
    /// an exception is thrown, not thrown on.
    ///
    /// [`StoreOpaque::way`]: super::store::StoreOpaque
    pub on_its_way: *mut VMException,
    /// How interpreted code enters native code; `None` where there is no JIT.
    pub native_calls: Option<&'static NativeCalls>,
}

impl VMStore {
    pub const STACK_LIMIT: i32 = offset_of!(VMStore, stack_limit) as i32;
    pub const VALUE_TOP: i32 = offset_of!(VMStore, value_top) as i32;
    pub const VALUE_END: i32 = offset_of!(VMStore, value_end) as i32;
    pub const RAISE: i32 = offset_of!(VMStore, raise) as i32;
    pub const ON_ITS_WAY: i32 = offset_of!(VMStore, on_its_way) as i32;
}

/// One linear memory. The base never moves; the length changes by growth only, on the store's thread.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMMemory {
    /// Address of byte 0.
    pub base: *mut u8,
    /// Length in bytes.
    pub length: usize,
}

impl VMMemory {
    pub const BASE: i32 = offset_of!(VMMemory, base) as i32;
    pub const LENGTH: i32 = offset_of!(VMMemory, length) as i32;
}

/// One table. Elements are 64-bit slots: null is 0; a funcref is a `*mut VMFuncRef`, an externref an index into the
/// store's host objects plus one.
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

/// The cell of a global: one slot for most types (the low 8 bytes), both for `v128`.
/// A 32-bit value is stored zero-extended.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct VMGlobal {
    pub slots: [u64; 2],
}

/// What a function reference points to, and the way to call a function of another instance or of the host.
///
/// Compiled code calls it as `code(callee, caller_vmctx, arguments...)`. The interpreter and its baseline code go by `index`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMFuncRef {
    /// Native entry; at first a resolver, or what goes through the function's entry, which find the callee through
    /// `callee`. Null where there is no JIT.
    pub code: *const VMCode,
    /// First hidden argument for `code`: the callee's VMContext once it is compiled code, before that (and for host
    /// functions always) this VMFuncRef itself.
    pub callee: *mut u8,
    /// The `*mut VMContext` of the defining instance, or the `*const HostFunc` of a host function.
    pub owner: *mut u8,
    /// Engine-wide number of the function's type: equal numbers, equal types.
    pub sig: u32,
    /// Index among the *defined* functions of the owner's module, or [`VMFuncRef::HOST`].
    pub index: u32,
}

impl VMFuncRef {
    pub const CODE: i32 = offset_of!(VMFuncRef, code) as i32;
    pub const CALLEE: i32 = offset_of!(VMFuncRef, callee) as i32;
    pub const OWNER: i32 = offset_of!(VMFuncRef, owner) as i32;
    pub const INDEX: i32 = offset_of!(VMFuncRef, index) as i32;
    pub const SIG: i32 = offset_of!(VMFuncRef, sig) as i32;
    /// The `index` of host functions.
    pub const HOST: u32 = u32::MAX;
}

/// A tag; its identity is its address.
pub(crate) struct VMTag {
    /// Slots of the payload of its exceptions.
    pub slots: usize,
    pub sig: RegisteredType,
    /// The module that defines it, and its index there; `None` for one of the host's.
    pub origin: Option<(Arc<ModuleFacts>, u32)>,
}

/// An exception: this header, then the payload's slots. What an `exnref` slot points to.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct VMException {
    pub tag: *const VMTag,
    /// Slots of the payload.
    pub slots: usize,
}

impl VMException {
    pub const TAG: i32 = offset_of!(VMException, tag) as i32;
    /// Where the payload begins.
    pub const PAYLOAD: i32 = size_of::<VMException>() as i32;

    /// The first slot of the payload.
    ///
    /// # Safety
    /// The exception must be live.
    pub unsafe fn payload(this: *mut Self) -> *mut u64 {
        // SAFETY: the payload is allocated with the header.
        unsafe { this.add(1).cast() }
    }
}

/// The header of an instance's context.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct VMContext {
    /// The store, alive as long as this.
    pub store: *mut VMStore,
    /// Native entries of the module's defined functions, by defined index; shared by all its instances and replaced
    /// (one atomic store) when code is ready. Called as `entry(vmctx, defined_index, arguments...)`.
    /// Null where there is no JIT.
    pub entries: *const AtomicPtr<VMCode>,
    /// How well compiled what each of these leads to is, as the JIT numbers it. Null where there is no JIT.
    pub tiers: *const AtomicU8,
    /// What quick code of these has run, in the units of the interpreter's counters, modulo 2^32. Null where there is no JIT.
    pub heat: *const AtomicU32,
    /// Runtime functions that compiled code calls; see `libcalls`.
    pub libcalls: *const Libcalls,
    /// The Rust side of the instance, alive as long as this.
    pub instance: *mut InstanceData,
    /// What the interpreter keeps of the module; only the interpreter knows its type.
    pub interp: *const (),
    /// What the JIT keeps of the module; only the JIT knows its type. Null where there is no JIT.
    pub jit: *const (),
}

impl VMContext {
    pub const STORE: i32 = offset_of!(VMContext, store) as i32;
    pub const ENTRIES: i32 = offset_of!(VMContext, entries) as i32;
    pub const TIERS: i32 = offset_of!(VMContext, tiers) as i32;
    pub const HEAT: i32 = offset_of!(VMContext, heat) as i32;
    pub const LIBCALLS: i32 = offset_of!(VMContext, libcalls) as i32;
}

// The arrays behind the header have elements of 16 and 8 bytes on every target, also where pointers are shorter.
const _: () = {
    assert!(align_of::<VMContext>() == 16 && size_of::<VMContext>() == VMCONTEXT_SIZE as usize);
    assert!(size_of::<VMGlobal>() == 16 && size_of::<VMMemory>() <= 16 && size_of::<VMTable>() <= 16);
    assert!(size_of::<*mut VMGlobal>() <= 8 && size_of::<VMFuncRef>() == FUNC_REF_SIZE as usize);
    assert!(align_of::<VMFuncRef>() == FUNC_REF_ALIGN as usize);
};
#[cfg(target_pointer_width = "64")]
const _: () = assert!(VMFuncRef::SIG == 24);
