//! Globals for the embedder.

use super::store::{AsContext, AsContextMut};
use super::value::Value;
use crate::error::{Error, Result};
use crate::module::types::GlobalType;
use crate::vm::global::GlobalData;
use crate::vm::store::{StoreOpaque, Stored};

/// A global in a store (specification, section 4.2.9).
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
///
/// ```
/// use wasmrun::{Engine, Global, GlobalType, Mutability, Store, ValType, Value};
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = GlobalType::new(ValType::I32, Mutability::Var);
/// let global = Global::new(&mut store, ty, Value::I32(1))?;
/// global.set(&mut store, Value::I32(2))?;
/// assert!(matches!(global.get(&mut store), Value::I32(2)));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Global(pub(crate) Stored);

impl Global {
    /// Makes a global with an initial value.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the value does not match the type, or refers to an object in another store.
    pub fn new(mut store: impl AsContextMut, ty: GlobalType, value: Value) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        Value::check_all(store, std::slice::from_ref(&value), std::slice::from_ref(&ty.content), "value")?;
        store.collect_if_due(true);
        let slots = value.to_slots(store)?;
        Ok(Global(store.add_global(GlobalData::new(ty, slots))))
    }

    fn in_store(self, store: &StoreOpaque) -> &GlobalData {
        &store.globals[self.0.index(store)]
    }

    /// The global's type.
    pub fn ty(&self, store: impl AsContext) -> GlobalType {
        self.in_store(&store.as_context().0.opaque).ty.clone()
    }

    /// The global's value.
    pub fn get(&self, store: impl AsContext) -> Value {
        let store = &store.as_context().0.opaque;
        let global = self.in_store(store);
        // SAFETY: `vm` is valid as long as the store, and holds a value of the global's type.
        unsafe { Value::from_slots(&global.ty.content, (*global.vm).slots, store) }
    }

    /// Sets the global's value.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the global is immutable, or if the value does not match its type or refers to an
    /// object in another store.
    pub fn set(&self, mut store: impl AsContextMut, value: Value) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let ty = &self.in_store(store).ty;
        if !ty.is_mutable() {
            return Err(Error::usage("an immutable global cannot be set"));
        }
        Value::check_all(store, std::slice::from_ref(&value), std::slice::from_ref(&ty.content), "value")?;
        store.collect_if_due(true);
        let slots = value.to_slots(store)?;
        // SAFETY: `vm` is valid as long as the store, which is borrowed exclusively, so no code reads it meanwhile.
        unsafe { (*self.in_store(store).vm).slots = slots };
        Ok(())
    }
}
