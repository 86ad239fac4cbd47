//! The layout that both engines share: what native code reads by offset, and the interpreter by field.
//!
//! Every type here is `#[repr(C)]`; the offsets that compiled code uses are constants beside the type, asserted
//! where they are declared. A [`VMContext`] is a header followed by arrays whose places [`VMOffsets`] computes from
//! the module, so they are the same for all instances of it:
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

use super::libcalls::Libcalls;
use crate::module::ModuleInner;
use crate::module::registry::RegisteredType;
use crate::runtime::store::InstanceData;

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
    /// [`StoreOpaque::way`]: crate::runtime::store::StoreOpaque
    pub on_its_way: *mut VMException,
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
    pub origin: Option<(Arc<ModuleInner>, u32)>,
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
    assert!(align_of::<VMContext>() == 16 && size_of::<VMContext>().is_multiple_of(16));
    assert!(size_of::<VMGlobal>() == 16 && size_of::<VMMemory>() <= 16 && size_of::<VMTable>() <= 16);
    assert!(size_of::<*mut VMGlobal>() <= 8 && size_of::<VMFuncRef>().is_multiple_of(align_of::<VMFuncRef>()));
};
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<VMContext>() == 48 && size_of::<VMFuncRef>() == 32 && VMFuncRef::SIG == 24);

/// Where something of a module's index spaces is found from its VMContext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The object itself lies at this byte offset.
    Inline(i32),
    /// A pointer to the object (imported, unchanging while the instance lives) lies at this byte offset.
    Pointer(i32),
}

/// Byte offsets of a module's arrays in its VMContext. All fit `i32`: validation bounds every index space.
#[derive(Clone, Debug, Default)]
pub(crate) struct VMOffsets {
    pub imported_globals: u32,
    pub imported_memories: u32,
    pub imported_tables: u32,
    pub imported_funcs: u32,
    globals: u32,
    memories: u32,
    tables: u32,
    global_imports: u32,
    memory_imports: u32,
    table_imports: u32,
    func_imports: u32,
    tags: u32,
    sigs: u32,
    func_refs: u32,
    size: u32,
}

/// How many of each kind a module defines and imports: (imported, defined).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub globals: (u32, u32),
    pub memories: (u32, u32),
    pub tables: (u32, u32),
    pub funcs: (u32, u32),
    pub tags: (u32, u32),
    /// All types; they are not imported.
    pub types: u32,
}

impl VMOffsets {
    pub fn new(counts: Counts) -> Self {
        let globals = size_of::<VMContext>() as u32;
        let memories = globals + 16 * counts.globals.1;
        let tables = memories + 16 * counts.memories.1;
        let global_imports = tables + 16 * counts.tables.1;
        let memory_imports = global_imports + 8 * counts.globals.0;
        let table_imports = memory_imports + 8 * counts.memories.0;
        let func_imports = table_imports + 8 * counts.tables.0;
        let tags = func_imports + 8 * counts.funcs.0;
        let sigs = tags + 8 * (counts.tags.0 + counts.tags.1);
        let func_refs = (sigs + 4 * counts.types).next_multiple_of(align_of::<VMFuncRef>() as u32);
        VMOffsets {
            imported_globals: counts.globals.0,
            imported_memories: counts.memories.0,
            imported_tables: counts.tables.0,
            imported_funcs: counts.funcs.0,
            globals,
            memories,
            tables,
            global_imports,
            memory_imports,
            table_imports,
            func_imports,
            tags,
            sigs,
            func_refs,
            size: func_refs + size_of::<VMFuncRef>() as u32 * counts.funcs.1,
        }
    }

    /// Bytes of the whole context.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    fn place(index: u32, imported: u32, pointers: u32, objects: u32) -> Place {
        match index.checked_sub(imported) {
            None => Place::Pointer((pointers + 8 * index) as i32),
            Some(defined) => Place::Inline((objects + 16 * defined) as i32),
        }
    }

    /// The [`VMGlobal`] of a global index.
    pub fn global(&self, index: u32) -> Place {
        Self::place(index, self.imported_globals, self.global_imports, self.globals)
    }

    /// The [`VMMemory`] of a memory index.
    pub fn memory(&self, index: u32) -> Place {
        Self::place(index, self.imported_memories, self.memory_imports, self.memories)
    }

    /// The [`VMTable`] of a table index.
    pub fn table(&self, index: u32) -> Place {
        Self::place(index, self.imported_tables, self.table_imports, self.tables)
    }

    /// Offset of the `*mut VMFuncRef` of an imported function.
    pub fn imported_func(&self, index: u32) -> i32 {
        (self.func_imports + 8 * index) as i32
    }

    /// Offset of the `*const VMTag` of a tag, imported or defined.
    pub fn tag(&self, index: u32) -> i32 {
        (self.tags + 8 * index) as i32
    }

    /// Offset of the engine-wide number of a type, by its type index. Compiled code reads it from here, so that it
    /// is good for any engine and process.
    pub fn sig(&self, ty: u32) -> i32 {
        (self.sigs + 4 * ty) as i32
    }

    /// Offset of the [`VMFuncRef`] of a defined function, by its defined index.
    pub fn func_ref(&self, defined: u32) -> i32 {
        (self.func_refs + size_of::<VMFuncRef>() as u32 * defined) as i32
    }
}
