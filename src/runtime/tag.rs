//! Tags for the embedder.

use super::store::{AsContext, AsContextMut};
use crate::module::types::FuncType;
use crate::vm::store::Stored;

/// A tag in a store (specification 3.0, section 4.2.10): identifies a kind of exception, whose payload has the tag's parameter
/// types.
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
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
    /// Makes a tag whose exceptions carry values of the parameter types of `ty`, which should have no results.
    pub fn new(mut store: impl AsContextMut, ty: FuncType) -> Self {
        let store = &mut store.as_context_mut().into_inner().opaque;
        Tag(store.add_tag(&ty, None))
    }

    /// The tag's type.
    pub fn ty(&self, store: impl AsContext) -> FuncType {
        let store = &store.as_context().0.opaque;
        (*store.engine.types.func_type(store.tags[self.0.index(store)].sig.number())).clone()
    }
}
