//! Tags: what an exception is of, and what it carries.

use std::sync::Arc;

use super::context::VMTag;
use super::store::{StoreOpaque, Stored};
use crate::module::ModuleFacts;
use crate::module::types::FuncType;

impl StoreOpaque {
    pub(crate) fn add_tag(&mut self, ty: &FuncType, origin: Option<(Arc<ModuleFacts>, u32)>) -> Stored {
        let sig = self.engine.types.register_func(ty);
        self.tags.push(Box::new(VMTag { slots: ty.param_slots(), sig, origin }));
        Stored::new(self, self.tags.len() - 1)
    }
}
