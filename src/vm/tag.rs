//! Tags of a store: each gives exceptions their identity and the types of their payload.

use std::sync::Arc;

use super::context::VMTag;
use super::store::{StoreOpaque, Stored};
use crate::module::ModuleFacts;
use crate::module::types::FuncType;

impl StoreOpaque {
    /// Adds a tag with the parameters of `ty` to the store; returns its handle. `origin` is the module that defines the tag,
    /// and the tag's index there; `None` if the host makes the tag.
    pub(crate) fn add_tag(&mut self, ty: &FuncType, origin: Option<(Arc<ModuleFacts>, u32)>) -> Stored {
        let sig = self.engine.types.register_func(ty);
        let handle = Stored::new(self, self.tags.len());
        let mut slot = 0;
        let functions = ty.params().iter().filter_map(|ty| {
            let place = slot;
            slot += ty.slots() as u32;
            let ty = ty.as_ref().filter(|ty| ty.is_of_functions())?;
            Some((place, ty.clone()))
        });
        let functions = functions.collect();
        self.tags.push(Box::new(VMTag {
            descriptor: 0.into(),
            slots: ty.param_slots(),
            functions,
            sig,
            handle,
            origin,
        }));
        handle
    }
}
