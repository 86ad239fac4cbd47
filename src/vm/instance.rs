//! Instances: a module's facts with the memories, tables and globals that its code acts on.

use std::alloc::{Layout, dealloc};
use std::any::Any;
use std::sync::Arc;

use super::context::{VMContext, VMFuncRef, VMMemory};
use super::store::{StoreOpaque, Stored};
use crate::module::ModuleFacts;
use crate::module::offsets::{Location, VMOffsets};

/// The Rust side of an instance.
pub(crate) struct InstanceData {
    pub module: Arc<ModuleFacts>,
    /// The module with its code, which the room that made it knows the type of.
    pub owner: Box<dyn Any + Send + Sync>,
    pub store: *mut StoreOpaque,
    /// The context with its arrays, of the layout that `module` computes.
    pub vmctx: *mut VMContext,
    /// What the index spaces refer to, imported items first.
    pub memories: Vec<Stored>,
    pub tables: Vec<Stored>,
    pub globals: Vec<Stored>,
    pub tags: Vec<Stored>,
    /// The memory that host functions see: export `memory`, or else memory 0. Null if there is none.
    pub host_memory: *mut VMMemory,
    /// Values of the element segments that are made of expressions.
    pub element_values: Vec<Option<Box<[u64]>>>,
    pub dropped_elements: Vec<bool>,
    pub dropped_data: Vec<bool>,
}

impl Drop for InstanceData {
    fn drop(&mut self) {
        // SAFETY: allocated in `InstanceData::new` with this layout; contexts live as long as their instance.
        unsafe { dealloc(self.vmctx.cast(), context_layout(&self.module)) };
    }
}

pub(super) fn context_layout(module: &ModuleFacts) -> Layout {
    Layout::from_size_align(module.offsets.size(), align_of::<VMContext>()).expect("offsets fit i32")
}

impl InstanceData {
    /// Where things are in a context.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub unsafe fn offsets<'a>(vmctx: *mut VMContext) -> &'a VMOffsets {
        // SAFETY: the caller's promise; instances keep their module.
        unsafe { &(&(*(*vmctx).instance)).module.offsets }
    }

    /// The memory of an index of the memory index space.
    pub fn memory(&self, index: u32) -> Stored {
        self.memories[index as usize]
    }

    /// The table of an index of the table index space.
    pub fn table(&self, index: u32) -> Stored {
        self.tables[index as usize]
    }
}

/// The object at a location of a context.
///
/// # Safety
/// `vmctx` must be a live context of the module the location is of, and `T` what is there.
#[inline]
pub(crate) unsafe fn resolve<T>(vmctx: *mut VMContext, location: Location) -> *mut T {
    // SAFETY: offsets lie in the context by construction.
    unsafe {
        match location {
            Location::Inline(offset) => vmctx.byte_offset(offset as isize).cast(),
            Location::Pointer(offset) => *vmctx.byte_offset(offset as isize).cast::<*mut T>(),
        }
    }
}

/// The reference to a function of an instance, by its index in the function index space; made when first asked for.
///
/// # Safety
/// `vmctx` must be live and `func` in its module's index space.
pub(crate) unsafe fn func_ref(vmctx: *mut VMContext, func: u32) -> *mut VMFuncRef {
    // SAFETY: the caller's promise; contexts start zeroed, so a reference without owner has not been made yet.
    unsafe {
        let module = &(*(*vmctx).instance).module;
        let Some(defined) = func.checked_sub(module.imported_funcs()) else {
            return resolve(vmctx, Location::Pointer(module.offsets.imported_func(func)));
        };
        let place = resolve::<VMFuncRef>(vmctx, Location::Inline(module.offsets.func_ref(defined)));
        if (*place).owner.is_null() {
            let engine = &(*(*vmctx).store.cast::<StoreOpaque>()).engine;
            place.write(VMFuncRef {
                code: (engine.hooks.ref_entry)(engine.config.strategy, module.func_type(func)),
                callee: place.cast(),
                owner: vmctx.cast(),
                sig: module.sig(module.funcs[func as usize]),
                index: defined,
            });
        }
        place
    }
}
