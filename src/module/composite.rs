//! Types of structures and arrays, and their fields (specification 3.0, section 2.3.5).
//!
//! A [`StructType`] or [`ArrayType`] is a handle to a registered type together with its fields, because two types with
//! equal fields may be different types.

use std::fmt;
use std::sync::Arc;

use super::registry::{RegisteredType, TypeKind};
use super::types::{FuncType, Mutability, ValType};

/// The most fields that a structure has (implementation limit of the specification's JavaScript API, also kept by wasmparser).
pub(crate) const MAX_FIELDS: usize = 10_000;

/// Whether a type can have subtypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finality {
    /// It cannot.
    Final,
    /// It can.
    NonFinal,
}

impl Finality {
    /// Whether it is [`Finality::Final`].
    pub const fn is_final(self) -> bool {
        matches!(self, Finality::Final)
    }

    /// Whether it is [`Finality::NonFinal`].
    pub const fn is_non_final(self) -> bool {
        matches!(self, Finality::NonFinal)
    }
}

/// What a field of a structure or an element of an array is stored as.
///
/// ```
/// use wasmrun::{StorageType, ValType};
/// assert_eq!(StorageType::I8.unpack(), &ValType::I32);
/// assert_eq!(StorageType::from(ValType::F64).as_val_type(), Some(&ValType::F64));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageType {
    /// 8 bits of an integer.
    I8,
    /// 16 bits of an integer.
    I16,
    /// A value.
    ValType(ValType),
}

impl From<ValType> for StorageType {
    fn from(ty: ValType) -> Self {
        StorageType::ValType(ty)
    }
}

impl StorageType {
    /// Whether it is [`StorageType::I8`].
    pub const fn is_i8(&self) -> bool {
        matches!(self, StorageType::I8)
    }

    /// Whether it is [`StorageType::I16`].
    pub const fn is_i16(&self) -> bool {
        matches!(self, StorageType::I16)
    }

    /// Whether it is [`StorageType::ValType`].
    pub const fn is_val_type(&self) -> bool {
        matches!(self, StorageType::ValType(_))
    }

    /// The type of the value, if it is not packed.
    pub const fn as_val_type(&self) -> Option<&ValType> {
        match self {
            StorageType::ValType(ty) => Some(ty),
            StorageType::I8 | StorageType::I16 => None,
        }
    }

    /// The type of the value.
    ///
    /// # Panics
    /// If it is packed.
    pub const fn unwrap_val_type(&self) -> &ValType {
        self.as_val_type().expect("expected a type that is not packed")
    }

    /// The type of the values that are read from and written to it: `i32` if it is packed.
    pub const fn unpack(&self) -> &ValType {
        match self {
            StorageType::I8 | StorageType::I16 => &ValType::I32,
            StorageType::ValType(ty) => ty,
        }
    }

    /// Whether everything that is stored as this can be read as `other`.
    pub fn matches(&self, other: &StorageType) -> bool {
        match (self, other) {
            (StorageType::ValType(this), StorageType::ValType(other)) => this.matches(other),
            _ => self == other,
        }
    }
}

impl fmt::Display for StorageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageType::I8 => f.write_str("i8"),
            StorageType::I16 => f.write_str("i16"),
            StorageType::ValType(ty) => ty.fmt(f),
        }
    }
}

/// The type of a structure's field or of an array's elements.
///
/// ```
/// use wasmrun::{FieldType, Mutability, StorageType, ValType};
/// let field = FieldType::new(Mutability::Var, StorageType::I16);
/// assert!(field.mutability().is_var());
/// assert_eq!(field.to_string(), "(mut i16)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldType {
    mutability: Mutability,
    storage: StorageType,
}

impl FieldType {
    /// Fields stored as `storage`.
    pub const fn new(mutability: Mutability, storage: StorageType) -> Self {
        FieldType { mutability, storage }
    }

    /// Whether it can be set.
    pub const fn mutability(&self) -> Mutability {
        self.mutability
    }

    /// What it is stored as.
    pub const fn element_type(&self) -> &StorageType {
        &self.storage
    }

    /// Whether a field of this type can be used as one of `other` (specification 3.0, section 3.3.8, "field types"): one
    /// that can be set is written through both types, so they must be equal.
    pub fn matches(&self, other: &FieldType) -> bool {
        match (self.mutability, other.mutability) {
            (Mutability::Var, Mutability::Var) => self.storage == other.storage,
            (Mutability::Const, Mutability::Const) => self.storage.matches(&other.storage),
            _ => false,
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mutability {
            Mutability::Const => self.storage.fmt(f),
            Mutability::Var => write!(f, "(mut {})", self.storage),
        }
    }
}

macro_rules! common_methods {
    ($name:ident $kind:ident $get:ident) => {
        impl $name {
            /// The registered type, for a [`HeapType`](crate::HeapType).
            pub const fn registered_type(&self) -> &RegisteredType {
                &self.ty
            }

            /// Whether it can have subtypes.
            pub fn finality(&self) -> Finality {
                if self.ty.is_final() { Finality::Final } else { Finality::NonFinal }
            }

            /// The type that its definition names as supertype.
            pub fn supertype(&self) -> Option<$name> {
                self.ty.supertype()?.$get()
            }

            /// Whether it is `other` or a subtype of it, as declared.
            pub fn matches(&self, other: &$name) -> bool {
                self.ty.matches(&other.ty)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ty == other.ty
            }
        }

        impl Eq for $name {}

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.ty.hash(state);
            }
        }

        impl From<$name> for crate::HeapType {
            fn from(ty: $name) -> Self {
                crate::HeapType::Concrete(ty.ty)
            }
        }
    };
}

/// The type of a structure (specification 3.0, section 2.3.5), as an engine knows it.
///
/// ```
/// use wasmrun::{Engine, FieldType, Finality, HeapType, Mutability, RefType, StorageType, StructType, ValType};
/// let engine = Engine::default();
/// let x = FieldType::new(Mutability::Var, ValType::I32.into());
/// let point = StructType::with_finality_and_supertype(&engine, Finality::NonFinal, None, [x.clone()])?;
/// let y = FieldType::new(Mutability::Const, StorageType::I8);
/// let sub = StructType::with_finality_and_supertype(&engine, Finality::Final, Some(&point), [x, y])?;
/// assert!(sub.matches(&point) && !point.matches(&sub));
/// assert_eq!(sub.to_string(), "(field (mut i32) i8)");
/// assert!(HeapType::from(sub).matches(&HeapType::Struct));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StructType {
    ty: RegisteredType,
    fields: Arc<[FieldType]>,
}

common_methods!(StructType Struct as_struct);

impl StructType {
    /// The structure type `ty`, which has these fields.
    pub(crate) fn of(ty: RegisteredType, fields: impl IntoIterator<Item = FieldType>) -> Self {
        StructType { ty, fields: fields.into_iter().collect() }
    }

    /// The types of the fields; a subtype has those of its supertype first.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = FieldType> + '_ {
        self.fields.iter().cloned()
    }

    /// The type of the field with this index.
    pub fn field(&self, index: usize) -> Option<FieldType> {
        self.fields.get(index).cloned()
    }

    /// The types of the fields.
    pub(crate) fn field_types(&self) -> &[FieldType] {
        &self.fields
    }
}

impl fmt::Display for StructType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(field")?;
        self.fields.iter().try_for_each(|field| write!(f, " {field}"))?;
        f.write_str(")")
    }
}

/// The type of an array (specification 3.0, section 2.3.5), as an engine knows it.
///
/// ```
/// use wasmrun::{ArrayType, Engine, FieldType, Mutability, StorageType};
/// let engine = Engine::default();
/// let bytes = ArrayType::new(&engine, FieldType::new(Mutability::Var, StorageType::I8));
/// assert_eq!(bytes.to_string(), "(mut i8)");
/// assert_eq!(bytes.element_type(), StorageType::I8);
/// ```
#[derive(Clone, Debug)]
pub struct ArrayType {
    ty: RegisteredType,
    element: FieldType,
}

common_methods!(ArrayType Array as_array);

impl ArrayType {
    /// The array type `ty`, which has such elements.
    pub(crate) fn of(ty: RegisteredType, element: FieldType) -> Self {
        ArrayType { ty, element }
    }

    /// The type of the elements, and whether they can be set.
    pub fn field_type(&self) -> FieldType {
        self.element.clone()
    }

    /// What the elements are stored as.
    pub fn element_type(&self) -> StorageType {
        self.element.storage.clone()
    }

    /// Whether the elements can be set.
    pub fn mutability(&self) -> Mutability {
        self.element.mutability
    }

    /// The type of the elements.
    pub(crate) fn element(&self) -> &FieldType {
        &self.element
    }
}

impl fmt::Display for ArrayType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.element.fmt(f)
    }
}

/// What a type of a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CompositeType {
    Func(FuncType),
    Struct(StructType),
    Array(ArrayType),
}

impl CompositeType {
    /// The definition of a registered type.
    pub fn of(ty: &RegisteredType) -> Self {
        let found = match ty.kind() {
            TypeKind::Func => ty.as_func().map(CompositeType::Func),
            TypeKind::Struct => ty.as_struct().map(CompositeType::Struct),
            TypeKind::Array => ty.as_array().map(CompositeType::Array),
        };
        found.expect("a type is of its kind")
    }

    /// The function type, if it is one.
    pub fn as_func(&self) -> Option<&FuncType> {
        if let CompositeType::Func(ty) = self { Some(ty) } else { None }
    }

    /// The function type.
    ///
    /// # Panics
    /// If it is another type.
    pub fn unwrap_func(&self) -> &FuncType {
        self.as_func().expect("validation asks for a function type here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, HeapType, RefType};

    fn field(mutability: Mutability, storage: impl Into<StorageType>) -> FieldType {
        FieldType::new(mutability, storage.into())
    }

    #[test]
    fn fields_match_by_mutability_and_storage() {
        use Mutability::{Const, Var};
        for (this, other, fits) in [
            (field(Const, ValType::NULLEXNREF), field(Const, ValType::EXNREF), true),
            (field(Const, ValType::EXNREF), field(Const, ValType::NULLEXNREF), false),
            (field(Var, ValType::NULLEXNREF), field(Var, ValType::EXNREF), false),
            (field(Var, ValType::EXNREF), field(Var, ValType::EXNREF), true),
            (field(Var, ValType::I32), field(Const, ValType::I32), false),
            (field(Const, ValType::I32), field(Var, ValType::I32), false),
            (field(Const, StorageType::I8), field(Const, StorageType::I8), true),
            (field(Const, StorageType::I8), field(Const, StorageType::I16), false),
            (field(Const, StorageType::I8), field(Const, ValType::I32), false),
        ] {
            assert_eq!(this.matches(&other), fits, "{this} {other}");
        }
    }

    #[test]
    fn a_subtype_is_refused_unless_it_matches_an_open_supertype() {
        let engine = Engine::default();
        let of = |finality, supertype: Option<&StructType>, fields: &[FieldType]| {
            StructType::with_finality_and_supertype(&engine, finality, supertype, fields.iter().cloned())
        };
        let (a, b) = (field(Mutability::Const, ValType::EXNREF), field(Mutability::Var, StorageType::I8));
        let base = of(Finality::NonFinal, None, std::slice::from_ref(&a)).unwrap();
        let sub = of(Finality::Final, Some(&base), &[a.clone(), b.clone()]).unwrap();
        assert!(sub.matches(&base) && !base.matches(&sub) && sub.supertype() == Some(base.clone()));
        assert_eq!((base.finality(), sub.finality()), (Finality::NonFinal, Finality::Final));
        assert!(of(Finality::Final, Some(&sub), &[a.clone(), b.clone()]).is_err());
        assert!(of(Finality::Final, Some(&base), &[]).is_err());
        assert!(of(Finality::Final, Some(&base), &[b.clone(), a.clone()]).is_err());
        let element = |ty| field(Mutability::Const, ty);
        let array = |finality, supertype: Option<&ArrayType>, ty| {
            ArrayType::with_finality_and_supertype(&engine, finality, supertype, element(ty))
        };
        let arrays = array(Finality::NonFinal, None, ValType::EXNREF).unwrap();
        assert!(array(Finality::Final, Some(&arrays), ValType::NULLEXNREF).is_ok());
        assert!(array(Finality::Final, Some(&arrays), ValType::I32).is_err());
        let func = |supertype: Option<&FuncType>, params: &[ValType]| {
            FuncType::with_finality_and_supertype(&engine, Finality::NonFinal, supertype, params.to_vec(), [])
        };
        let funcs = func(None, &[ValType::NULLEXNREF]).unwrap();
        assert!(func(Some(&funcs), &[ValType::EXNREF]).is_ok());
        assert!(func(Some(&funcs), &[ValType::I32]).is_err() && func(Some(&funcs), &[]).is_err());
    }

    #[test]
    fn types_of_the_host_have_at_most_63_supertypes() {
        let engine = Engine::default();
        let mut last: Option<StructType> = None;
        for depth in 0..=64 {
            let next = StructType::with_finality_and_supertype(&engine, Finality::NonFinal, last.as_ref(), []);
            assert_eq!(next.is_ok(), depth <= 63);
            last = next.ok();
        }
    }

    #[test]
    fn a_field_may_refer_to_a_type() {
        let engine = Engine::default();
        let inner = ArrayType::new(&engine, field(Mutability::Var, StorageType::I8));
        let reference = RefType::new(true, HeapType::from(inner.clone()));
        let outer = StructType::new(&engine, [field(Mutability::Const, ValType::from(reference.clone()))]).unwrap();
        let again = outer.registered_type().as_struct().unwrap();
        assert_eq!((&again, again.field(0)), (&outer, outer.field(0)));
        assert_eq!(outer.field(0).unwrap().element_type().unwrap_val_type(), &ValType::Ref(reference));
        assert_eq!(inner.registered_type().as_array(), Some(inner));
    }

    #[test]
    #[should_panic(expected = "another engine")]
    fn a_type_of_another_engine_panics() {
        let [one, other] = [Engine::default(), Engine::default()];
        let foreign = ArrayType::new(&one, field(Mutability::Var, StorageType::I8));
        let reference = RefType::new(true, HeapType::from(foreign));
        ArrayType::new(&other, field(Mutability::Var, ValType::from(reference)));
    }
}
