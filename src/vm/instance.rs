//! Instances: a module's facts together with the functions, memories, tables, globals and tags that its code acts on.

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
    /// Keeps the module's code alive; the room that made the instance knows the type.
    pub owner: Box<dyn Any + Send + Sync>,
    pub store: *mut StoreOpaque,
    /// The context and its arrays, in the layout of `module.offsets`. The instance owns it.
    pub vmctx: *mut VMContext,
    /// The index spaces of memories, tables, globals and tags; imports come first.
    pub memories: Vec<Stored>,
    pub tables: Vec<Stored>,
    pub globals: Vec<Stored>,
    pub tags: Vec<Stored>,
    /// The memory that a host function's `LinearMemory` shows: export `memory`, or else memory 0.
    pub host_memory: HostMemory,
    /// The values of each element segment that consists of expressions; `None` for one that consists of function indices.
    pub element_values: Vec<Option<Box<[u64]>>>,
    /// The element segments whose expressions make objects, to which nothing else may refer.
    pub object_elements: Vec<u32>,
    pub dropped_elements: Vec<bool>,
    pub dropped_data: Vec<bool>,
}

/// The memory of an instance that host functions see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostMemory {
    /// Null if there is none.
    pub vm: *mut VMMemory,
    pub is_shared: bool,
}

impl HostMemory {
    pub const NONE: HostMemory = HostMemory { vm: std::ptr::null_mut(), is_shared: false };
}

impl Drop for InstanceData {
    fn drop(&mut self) {
        // SAFETY: `InstanceData::new` allocated the context with this layout, and the instance owns it.
        unsafe { dealloc(self.vmctx.cast(), context_layout(&self.module)) };
    }
}

/// Size and alignment of the context of an instance of `module`.
pub(super) fn context_layout(module: &ModuleFacts) -> Layout {
    Layout::from_size_align(module.offsets.size(), align_of::<VMContext>()).expect("offsets fit i32")
}

impl InstanceData {
    /// The layout of a context's arrays.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub unsafe fn offsets<'a>(vmctx: *mut VMContext) -> &'a VMOffsets {
        // SAFETY: the context is live by the caller's promise, so its instance is, which keeps the module.
        unsafe { &(&(*(*vmctx).instance)).module.offsets }
    }

    /// The values of the element segments that may be all that refers to some object.
    pub fn collected_elements(&self) -> impl Iterator<Item = &[u64]> {
        let kept = self.object_elements.iter().filter(|segment| !self.dropped_elements[**segment as usize]);
        // While a segment is evaluated, it has no values yet.
        kept.filter_map(|segment| self.element_values.get(*segment as usize)?.as_deref())
    }

    /// The memory at an index of the memory index space.
    pub fn memory(&self, index: u32) -> Stored {
        self.memories[index as usize]
    }

    /// The table at an index of the table index space.
    pub fn table(&self, index: u32) -> Stored {
        self.tables[index as usize]
    }
}

/// The address of the object at a location of a context.
///
/// # Safety
/// `vmctx` must be a live context, `location` one of its module's, and `T` the type of the object there.
#[inline]
pub(crate) unsafe fn resolve<T>(vmctx: *mut VMContext, location: Location) -> *mut T {
    // SAFETY: the module's offsets lie in its contexts, and `vmctx` is one of these by the caller's promise.
    unsafe {
        match location {
            Location::Inline(offset) => vmctx.byte_offset(offset as isize).cast(),
            Location::Pointer(offset) => *vmctx.byte_offset(offset as isize).cast::<*mut T>(),
        }
    }
}

/// The reference to a function of an instance, by its index in the function index space. It is initialised when it is first
/// asked for.
///
/// # Safety
/// `vmctx` must be live and `func` an index of its module's function index space.
pub(crate) unsafe fn func_ref(vmctx: *mut VMContext, func: u32) -> *mut VMFuncRef {
    // SAFETY: context and index are valid by the caller's promise. A new context is zeroed, so the owner is null exactly if
    // the reference has not been initialised; zeros are a valid `VMFuncRef`.
    unsafe {
        let module = &(*(*vmctx).instance).module;
        let Some(defined) = func.checked_sub(module.imported_funcs()) else {
            return resolve(vmctx, Location::Pointer(module.offsets.imported_func(func)));
        };
        let place = resolve::<VMFuncRef>(vmctx, Location::Inline(module.offsets.func_ref(defined)));
        if (*place).owner.is_null() {
            let engine = &(*(*vmctx).store.cast::<StoreOpaque>()).engine;
            let ty = &module.sigs[module.funcs[func as usize] as usize];
            place.write(VMFuncRef {
                code: (engine.hooks.ref_entry)(engine.config.strategy, module.func_type(func)),
                callee: place.cast(),
                owner: vmctx.cast(),
                sig: ty.number(),
                index: defined,
                supertypes: ty.supertypes().as_ptr(),
                gc_id: 0,
            });
        }
        place
    }
}
