//! Globals.

use super::context::VMGlobal;
use super::store::{StoreOpaque, Stored};
use crate::module::types::GlobalType;

/// The Rust side of a global.
pub(crate) struct GlobalData {
    /// Where engines see it: in the defining instance's context, or in `owned`.
    pub vm: *mut VMGlobal,
    pub ty: GlobalType,
    _owned: Option<Box<VMGlobal>>,
}

impl GlobalData {
    /// A global of a context.
    ///
    /// # Safety
    /// `vm` must be valid, and written only with values of the type, as long as the store lives.
    pub unsafe fn in_context(vm: *mut VMGlobal, ty: GlobalType) -> Self {
        GlobalData { vm, ty, _owned: None }
    }

    /// A global that the host makes, with its initial value.
    pub fn new(ty: GlobalType, slots: [u64; 2]) -> Self {
        let mut owned = Box::new(VMGlobal { slots });
        GlobalData { vm: &raw mut *owned, ty, _owned: Some(owned) }
    }
}

impl StoreOpaque {
    pub(crate) fn add_global(&mut self, global: GlobalData) -> Stored {
        self.globals.push(global);
        Stored::new(self, self.globals.len() - 1)
    }
}
