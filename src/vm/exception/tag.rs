//! Tags: what an exception is of, and what it carries.

use std::sync::Arc;

use crate::module::ModuleInner;
use crate::module::types::FuncType;
use crate::runtime::store::{AsContext, AsContextMut, InstanceData, StoreOpaque, Stored};
use crate::vm::context::{VMContext, VMTag};

/// A tag of a store (specification 3.0, section 4.2.10): exceptions of it carry values of its parameter types.
///
/// ```
/// use wasmrun::{Engine, FuncType, Store, Tag, ValType};
/// let mut store = Store::new(&Engine::default(), ());
/// let tag = Tag::new(&mut store, FuncType::new([ValType::I32], []));
/// assert_eq!(tag.ty(&store).params(), [ValType::I32]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(crate) Stored);

impl Tag {
    /// Makes a tag. Only the parameters of the type count: exceptions have no results.
    pub fn new(mut store: impl AsContextMut, ty: FuncType) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        Tag(store.add_tag(&ty, None))
    }

    /// Its type.
    pub fn ty(&self, store: impl AsContext) -> FuncType {
        let store = &store.as_context().0.opaque;
        (*store.engine().sig_type(store.tags[self.0.index(store)].sig.number())).clone()
    }
}

impl StoreOpaque {
    pub(crate) fn add_tag(&mut self, ty: &FuncType, origin: Option<(Arc<ModuleInner>, u32)>) -> Stored {
        let sig = self.engine().register_type(ty);
        self.tags.push(Box::new(VMTag { slots: ty.param_slots(), sig, origin }));
        Stored::new(self, self.tags.len() - 1)
    }
}

/// The tag of an index of the running instance's tag index space.
///
/// # Safety
/// A live context and a validated index.
pub(crate) unsafe fn of(vmctx: *mut VMContext, tag: u32) -> *const VMTag {
    // SAFETY: the caller's promise; contexts hold a pointer for each tag.
    unsafe {
        let offset = InstanceData::offsets(vmctx).tag(tag);
        vmctx.byte_offset(offset as isize).cast::<*const VMTag>().read()
    }
}
