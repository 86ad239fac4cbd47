//! Tags for the embedder.

use super::store::{AsContext, AsContextMut};
use crate::error::{Error, Result};
use crate::module::types::TagType;
use crate::vm::store::Stored;

/// A tag in a store (specification 3.0, section 4.2.10): identifies a kind of exception, whose payload has the tag's parameter
/// types.
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
///
/// ```
/// use wasmrun::{Engine, FuncType, Store, Tag, TagType, ValType};
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = TagType::new(FuncType::new(store.engine(), [ValType::I32], []));
/// let tag = Tag::new(&mut store, &ty)?;
/// assert_eq!(tag.ty(&store), ty);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(crate) Stored);

impl Tag {
    /// Makes a tag.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the type has results.
    ///
    /// # Panics
    /// If the type refers to a type of another engine.
    pub fn new(mut store: impl AsContextMut, ty: &TagType) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        if !ty.ty().results().is_empty() {
            return Err(Error::usage("the type of a tag has no results"));
        }
        Ok(Tag(store.add_tag(ty.ty(), None)))
    }

    /// The tag's type.
    pub fn ty(&self, store: impl AsContext) -> TagType {
        let store = &store.as_context().0.opaque;
        TagType::new((*store.engine.types.func_type(store.tags[self.0.index(store)].sig.number())).clone())
    }

    /// Whether both are the same tag.
    pub fn eq(a: &Tag, b: &Tag, _store: impl AsContext) -> bool {
        a == b
    }
}
