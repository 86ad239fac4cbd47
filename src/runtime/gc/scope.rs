//! Names of wasmtime for the lifetime of references.

use crate::runtime::store::{AsContext, AsContextMut, StoreContext, StoreContextMut};

/// A reference that keeps its object alive: any does. wasmtime has this name for references that a [`RootScope`] ends.
pub type Rooted<T> = T;

/// A reference that keeps its object alive: any does. wasmtime has this name for references that no scope ends.
pub type OwnedRooted<T> = T;

/// Gives access to a store, as it is.
///
/// In wasmtime the end of a scope ends the references that were made in it. Here each reference lives until it is dropped, so
/// a scope has nothing to do; code that has some compiles and runs the same.
///
/// ```
/// use wasmrun::{I31, AnyRef, RootScope, Store};
/// let mut store = Store::<()>::default();
/// let number = {
///     let mut scope = RootScope::new(&mut store);
///     AnyRef::from_i31(&mut scope, I31::wrapping_u32(5))
/// };
/// assert!(number.is_i31(&store)?);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Debug)]
pub struct RootScope<C>(C);

impl<C: AsContextMut> RootScope<C> {
    /// A scope in a store.
    pub fn new(store: C) -> Self {
        RootScope(store)
    }
}

impl<C: AsContext> AsContext for RootScope<C> {
    type Data = C::Data;

    fn as_context(&self) -> StoreContext<'_, C::Data> {
        self.0.as_context()
    }
}

impl<C: AsContextMut> AsContextMut for RootScope<C> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, C::Data> {
        self.0.as_context_mut()
    }
}

/// The methods that all references to objects of WebAssembly code have, given how they are made an [`AnyRef`](super::AnyRef).
macro_rules! reference_methods {
    ($name:ident |$this:ident| $any:expr) => {
        impl $name {
            /// Whether both refer to the same object, or are the same number.
            pub fn same(&self, other: &Self) -> bool {
                let same = |$this: &Self| $any.0.clone();
                same(self).same(&same(other))
            }

            /// Whether both refer to the same object, or are the same number; as [`same`](Self::same), with a check of the
            /// store.
            ///
            /// # Errors
            /// [`Usage`](crate::ErrorKind::Usage) if one is in another store.
            pub fn ref_eq(store: impl AsContext, a: &Self, b: &Self) -> Result<bool> {
                a.ty(&store)?;
                b.ty(&store)?;
                Ok(a.same(b))
            }

            /// A clone, which wasmtime's references need to outlive a scope.
            ///
            /// # Errors
            /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
            pub fn to_owned_rooted(&self, store: impl AsContext) -> Result<Self> {
                self.ty(store).map(|_| self.clone())
            }

            /// A clone; the counterpart of [`to_owned_rooted`](Self::to_owned_rooted).
            pub fn to_rooted(&self, _store: impl AsContext) -> Self {
                self.clone()
            }
        }
    };
}

/// The conversions of references to one kind of objects, which wrap an [`AnyRef`](super::AnyRef), to the types of wider ones.
macro_rules! object_conversions {
    ($name:ident) => {
        impl $name {
            /// The reference as an `anyref`.
            pub fn to_anyref(&self) -> AnyRef {
                self.0.clone()
            }

            /// The reference as an `eqref`.
            pub fn to_eqref(&self) -> EqRef {
                EqRef(self.0.clone())
            }
        }

        impl From<$name> for AnyRef {
            fn from(reference: $name) -> Self {
                reference.0
            }
        }

        impl From<$name> for EqRef {
            fn from(reference: $name) -> Self {
                EqRef(reference.0)
            }
        }
    };
}
pub(super) use {object_conversions, reference_methods};
