//! References to anything that is in the hierarchy of `any`.

use std::fmt;

use super::scope::reference_methods;
use super::{ArrayRef, I31, Object, StructRef};
use crate::error::Result;
use crate::module::composite::CompositeType;
use crate::module::layout::I31_BIT;
use crate::module::types::HeapType;
use crate::runtime::store::{AsContext, AsContextMut};
use crate::vm::extern_ref::{ExternRef, Referent};
use crate::vm::store::StoreOpaque;

/// A reference to an object of WebAssembly code, an [`I31`], or an object of the host that was converted by
/// `any.convert_extern` (specification 3.0, `(ref any)`).
///
/// It keeps its object alive, and nothing else of its store. It may be dropped on any thread, also after the store. Use with
/// another store than its own is a [`Usage`](crate::ErrorKind::Usage) error; `i31`s and objects of the host are of no store.
///
/// A host object that holds a reference to what refers to the host object in turn lives as long as the store: no collection sees
/// what host objects hold.
///
/// ```
/// use wasmrun::{AnyRef, FieldType, HeapType, Mutability, Store, StructRef, StructRefPre, StructType, Val, ValType};
/// let mut store = Store::<()>::default();
/// let ty = StructType::new(store.engine(), [FieldType::new(Mutability::Var, ValType::I64.into())])?;
/// let pre = StructRefPre::new(&mut store, ty.clone());
/// let object: AnyRef = StructRef::new(&mut store, &pre, &[Val::I64(7)])?.into();
/// assert_eq!(object.ty(&store)?, HeapType::from(ty));
/// assert!(object.matches_ty(&store, &HeapType::Eq)? && !object.is_array(&store)?);
/// assert_eq!(object.unwrap_struct(&store)?.field(&mut store, 0)?.unwrap_i64(), 7);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyRef(pub(crate) ExternRef);

/// A reference to what can be compared by `ref.eq`: a structure, an array or an [`I31`] (specification 3.0, `(ref eq)`). See
/// [`AnyRef`].
///
/// ```
/// use wasmrun::{AnyRef, EqRef, I31, Rooted, Store};
/// let mut store = Store::<()>::default();
/// let [one, same, other] = [1, 1, 2].map(|number| EqRef::from_i31(&mut store, I31::wrapping_u32(number)));
/// assert!(one.same(&same) && !EqRef::ref_eq(&store, &one, &other)?);
/// assert_eq!(one.to_anyref().as_eqref(&store)?.unwrap().unwrap_i31(&store)?.get_u32(), 1);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct EqRef(pub(crate) AnyRef);

impl fmt::Debug for AnyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => f.debug_tuple("AnyRef").field(&number).finish(),
            None => f.write_str("AnyRef"),
        }
    }
}

impl fmt::Debug for EqRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.number() {
            Some(number) => f.debug_tuple("EqRef").field(&number).finish(),
            None => f.write_str("EqRef"),
        }
    }
}

reference_methods!(AnyRef | this | this);
reference_methods!(EqRef | this | this.0);

macro_rules! kinds {
    ($name:ident |$this:ident| $any:expr) => {
        impl $name {
            /// The reference for a number.
            pub fn from_i31(_store: impl AsContextMut, number: I31) -> Self {
                number.into()
            }

            /// The type of what it refers to: a concrete type for a structure or an array.
            ///
            /// # Errors
            /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
            pub fn ty(&self, store: impl AsContext) -> Result<HeapType> {
                let $this = self;
                $any.ty_in(&store.as_context().0.opaque)
            }

            /// Whether what it refers to is of a type.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn matches_ty(&self, store: impl AsContext, ty: &HeapType) -> Result<bool> {
                Ok(self.ty(store)?.matches(ty))
            }

            /// Whether it is an `i31`.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn is_i31(&self, store: impl AsContext) -> Result<bool> {
                self.as_i31(store).map(|number| number.is_some())
            }

            /// The number, if it is an `i31`.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn as_i31(&self, store: impl AsContext) -> Result<Option<I31>> {
                self.ty(store)?;
                let $this = self;
                Ok($any.number())
            }

            /// The number.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            ///
            /// # Panics
            /// If it is no `i31`.
            pub fn unwrap_i31(&self, store: impl AsContext) -> Result<I31> {
                Ok(self.as_i31(store)?.expect("expected an i31"))
            }

            /// Whether it refers to a structure.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn is_struct(&self, store: impl AsContext) -> Result<bool> {
                self.as_struct(store).map(|found| found.is_some())
            }

            /// The reference to a structure, if it is one.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn as_struct(&self, store: impl AsContext) -> Result<Option<StructRef>> {
                let $this = self;
                let object = Object::of(&$any.0, &store.as_context().0.opaque)?;
                let is_struct = object.is_some_and(|object| matches!(object.ty, CompositeType::Struct(_)));
                Ok(is_struct.then(|| StructRef($any.clone())))
            }

            /// The reference to a structure.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            ///
            /// # Panics
            /// If it refers to something else.
            pub fn unwrap_struct(&self, store: impl AsContext) -> Result<StructRef> {
                Ok(self.as_struct(store)?.expect("expected a structure"))
            }

            /// Whether it refers to an array.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn is_array(&self, store: impl AsContext) -> Result<bool> {
                self.as_array(store).map(|found| found.is_some())
            }

            /// The reference to an array, if it is one.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            pub fn as_array(&self, store: impl AsContext) -> Result<Option<ArrayRef>> {
                let $this = self;
                let object = Object::of(&$any.0, &store.as_context().0.opaque)?;
                let is_array = object.is_some_and(|object| matches!(object.ty, CompositeType::Array(_)));
                Ok(is_array.then(|| ArrayRef($any.clone())))
            }

            /// The reference to an array.
            ///
            /// # Errors
            /// As for [`ty`](Self::ty).
            ///
            /// # Panics
            /// If it refers to something else.
            pub fn unwrap_array(&self, store: impl AsContext) -> Result<ArrayRef> {
                Ok(self.as_array(store)?.expect("expected an array"))
            }
        }

        impl From<I31> for $name {
            fn from(number: I31) -> Self {
                let any = AnyRef(ExternRef(Referent::I31(number.get_u32() << 1 | I31_BIT)));
                <$name>::of_any(any)
            }
        }
    };
}

kinds!(AnyRef | this | this);
kinds!(EqRef | this | this.0);

impl AnyRef {
    fn of_any(any: AnyRef) -> Self {
        any
    }

    /// The type of what it refers to.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    pub(crate) fn ty_in(&self, store: &StoreOpaque) -> Result<HeapType> {
        Ok(match Object::of(&self.0, store)? {
            Some(Object { ty: CompositeType::Struct(ty), .. }) => ty.clone().into(),
            Some(Object { ty: CompositeType::Array(ty), .. }) => ty.clone().into(),
            Some(Object { ty: CompositeType::Func(_), .. }) => unreachable!("functions are not in the heap"),
            None => self.known_type(),
        })
    }

    /// What is known of the type without the store.
    pub(crate) fn known_type(&self) -> HeapType {
        match self.0.0 {
            Referent::I31(_) => HeapType::I31,
            Referent::Object(_) => HeapType::Eq,
            Referent::Host(_) => HeapType::Any,
        }
    }

    /// The number, if it is an `i31`.
    pub(crate) fn number(&self) -> Option<I31> {
        match self.0.0 {
            Referent::I31(bits) => Some(I31::wrapping_u32(bits >> 1)),
            Referent::Host(_) | Referent::Object(_) => None,
        }
    }

    /// Whether it can be compared by `ref.eq`: it is not a reference to an object of the host.
    ///
    /// # Errors
    /// As for [`AnyRef::ty`].
    pub fn is_eqref(&self, store: impl AsContext) -> Result<bool> {
        self.as_eqref(store).map(|found| found.is_some())
    }

    /// The reference as one that can be compared, if it is not one to an object of the host.
    ///
    /// # Errors
    /// As for [`AnyRef::ty`].
    pub fn as_eqref(&self, store: impl AsContext) -> Result<Option<EqRef>> {
        self.ty(store)?;
        Ok((!self.0.is_host_object()).then(|| EqRef(self.clone())))
    }

    /// The reference as one that can be compared.
    ///
    /// # Errors
    /// As for [`AnyRef::ty`].
    ///
    /// # Panics
    /// If it refers to an object of the host.
    pub fn unwrap_eqref(&self, store: impl AsContext) -> Result<EqRef> {
        Ok(self.as_eqref(store)?.expect("expected a reference that can be compared"))
    }

    /// What the instruction `any.convert_extern` makes of a reference: the same object or number, as an `anyref`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    ///
    /// ```
    /// use wasmrun::{AnyRef, ExternRef, HeapType, Store};
    /// let mut store = Store::<()>::default();
    /// let object = ExternRef::new("a host object");
    /// let any = AnyRef::convert_extern(&mut store, object.clone())?;
    /// assert_eq!(any.ty(&store)?, HeapType::Any);
    /// assert!(ExternRef::convert_any(&mut store, any)?.same(&object));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn convert_extern(store: impl AsContextMut, reference: ExternRef) -> Result<Self> {
        let any = AnyRef(reference);
        any.ty(store)?;
        Ok(any)
    }
}

impl ExternRef {
    /// What the instruction `extern.convert_any` makes of a reference: the same object or number, as an `externref`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    ///
    /// ```
    /// use wasmrun::{AnyRef, ExternRef, I31, Store};
    /// let mut store = Store::<()>::default();
    /// let number = AnyRef::from(I31::wrapping_u32(5));
    /// let external = ExternRef::convert_any(&mut store, number)?;
    /// assert!(external.data().downcast_ref::<I31>().is_none());
    /// assert_eq!(AnyRef::convert_extern(&mut store, external)?.unwrap_i31(&store)?.get_u32(), 5);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn convert_any(store: impl AsContextMut, reference: AnyRef) -> Result<Self> {
        reference.ty(store)?;
        Ok(reference.0)
    }
}

impl EqRef {
    fn of_any(any: AnyRef) -> Self {
        EqRef(any)
    }

    /// The reference as an `anyref`.
    pub fn to_anyref(&self) -> AnyRef {
        self.0.clone()
    }
}

impl From<EqRef> for AnyRef {
    fn from(reference: EqRef) -> Self {
        reference.0
    }
}
