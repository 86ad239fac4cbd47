//! Globals of a store: type, and where the value is.

use super::context::VMGlobal;
use super::store::{AliasableBox, StoreOpaque, Stored};
use crate::module::types::GlobalType;

/// The Rust side of a global.
pub(crate) struct GlobalData {
    /// The value, which engines read and write: in the defining instance's context, or in `_owned`.
    pub vm: *mut VMGlobal,
    pub ty: GlobalType,
    _owned: Option<AliasableBox<VMGlobal>>,
}

impl GlobalData {
    /// A global that a module defines: its value is in an instance's context.
    ///
    /// # Safety
    /// As long as the store lives, `vm` must be valid and hold a value of the type.
    pub unsafe fn in_context(vm: *mut VMGlobal, ty: GlobalType) -> Self {
        GlobalData { vm, ty, _owned: None }
    }

    /// A global that the host makes, with its initial value in slots.
    pub fn new(ty: GlobalType, slots: [u64; 2]) -> Self {
        let owned = AliasableBox::new(VMGlobal { slots });
        GlobalData { vm: owned.as_ptr(), ty, _owned: Some(owned) }
    }
}

impl StoreOpaque {
    /// Adds a global to the store; returns its handle.
    pub(crate) fn add_global(&mut self, global: GlobalData) -> Stored {
        self.globals.push(global);
        Stored::new(self, self.globals.len() - 1)
    }
}
