//! Recursive groups of types: the items of a type section (specification, section 2.3.7).
//!
//! A group is a value that can be compared and hashed: it names its own types by their index in the group, and types
//! outside of it by a `T`. If `T` is the engine-wide type number, equal groups define the same types (specification,
//! section 3.1.4, "rolling and unrolling").

use wasmparser::{CompositeInnerType, UnpackedIndex};

use super::types::{FuncType, HeapType, RefType, ValType};

/// Types that are defined together and may refer to one another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecGroup<T> {
    pub types: Box<[SubType<T>]>,
}

/// One type of a group.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubType<T> {
    /// Whether it can have no subtypes.
    pub is_final: bool,
    /// A type outside of the group, or one before this one in it.
    pub supertype: Option<TypeUse<T>>,
    pub composite: CompositeType<T>,
}

/// How a type of a group names another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TypeUse<T> {
    /// By its index in the group.
    InGroup(u32),
    Outside(T),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum CompositeType<T> {
    Func { params: Box<[Component<T>]>, results: Box<[Component<T>]> },
    Struct(Box<[FieldType<T>]>),
    Array(FieldType<T>),
}

/// The type of a parameter, result, field or element.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Component<T> {
    /// A type that names no defined type.
    Val(ValType),
    /// A reference to a defined type.
    Ref { nullable: bool, ty: TypeUse<T> },
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FieldType<T> {
    pub storage: StorageType<T>,
    pub is_mutable: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum StorageType<T> {
    I8,
    I16,
    Val(Component<T>),
}

impl<T> RecGroup<T> {
    /// The same group with the types outside named in another way.
    pub fn map<U>(&self, mut name: impl FnMut(&T) -> U) -> RecGroup<U> {
        RecGroup { types: self.types.iter().map(|ty| ty.map(&mut name)).collect() }
    }
}

impl<T> SubType<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> SubType<U> {
        let supertype = self.supertype.as_ref().map(|ty| ty.map(name));
        let composite = match &self.composite {
            CompositeType::Func { params, results } => CompositeType::Func {
                params: params.iter().map(|ty| ty.map(name)).collect(),
                results: results.iter().map(|ty| ty.map(name)).collect(),
            },
            CompositeType::Struct(fields) => CompositeType::Struct(fields.iter().map(|ty| ty.map(name)).collect()),
            CompositeType::Array(element) => CompositeType::Array(element.map(name)),
        };
        SubType { is_final: self.is_final, supertype, composite }
    }
}

impl<T> TypeUse<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> TypeUse<U> {
        match self {
            TypeUse::InGroup(index) => TypeUse::InGroup(*index),
            TypeUse::Outside(ty) => TypeUse::Outside(name(ty)),
        }
    }
}

impl<T> Component<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> Component<U> {
        match self {
            Component::Val(ty) => Component::Val(ty.clone()),
            Component::Ref { nullable, ty } => Component::Ref { nullable: *nullable, ty: ty.map(name) },
        }
    }
}

impl<T> FieldType<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> FieldType<U> {
        let storage = match &self.storage {
            StorageType::I8 => StorageType::I8,
            StorageType::I16 => StorageType::I16,
            StorageType::Val(ty) => StorageType::Val(ty.map(name)),
        };
        FieldType { storage, is_mutable: self.is_mutable }
    }
}

impl RecGroup<u32> {
    /// Translates a group from wasmparser; `first` is the type index of its first type, and types outside are named by
    /// their type index. `None` for a group of one final function type without a supertype that names no defined type:
    /// its [`FuncType`] says everything about it.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub fn from_wasmparser(group: &wasmparser::RecGroup, first: u32) -> Option<Self> {
        let read = GroupReader { first };
        let types: Box<[_]> = group.types().map(|ty| read.sub_type(ty)).collect();
        let is_plain = matches!(
            &*types,
            [SubType { is_final: true, supertype: None, composite: CompositeType::Func { params, results } }]
                if params.iter().chain(results).all(|ty| matches!(ty, Component::Val(_)))
        );
        (!is_plain).then_some(RecGroup { types })
    }
}

/// Translates the types of a group from wasmparser.
struct GroupReader {
    /// Type index of the group's first type.
    first: u32,
}

impl GroupReader {
    fn sub_type(&self, ty: &wasmparser::SubType) -> SubType<u32> {
        let all = |types: &[wasmparser::ValType]| types.iter().map(|ty| self.component(*ty)).collect();
        let composite = match &ty.composite_type.inner {
            CompositeInnerType::Func(func) => {
                CompositeType::Func { params: all(func.params()), results: all(func.results()) }
            }
            CompositeInnerType::Struct(ty) => {
                CompositeType::Struct(ty.fields.iter().map(|field| self.field(field)).collect())
            }
            CompositeInnerType::Array(ty) => CompositeType::Array(self.field(&ty.0)),
            CompositeInnerType::Cont(_) => unreachable!("continuations do not validate"),
        };
        let supertype = ty.supertype_idxs.first().map(|index| self.type_use(index.unpack()));
        SubType { is_final: ty.is_final, supertype, composite }
    }

    fn field(&self, field: &wasmparser::FieldType) -> FieldType<u32> {
        let storage = match field.element_type {
            wasmparser::StorageType::I8 => StorageType::I8,
            wasmparser::StorageType::I16 => StorageType::I16,
            wasmparser::StorageType::Val(ty) => StorageType::Val(self.component(ty)),
        };
        FieldType { storage, is_mutable: field.mutable }
    }

    fn component(&self, ty: wasmparser::ValType) -> Component<u32> {
        if let wasmparser::ValType::Ref(ty) = ty
            && let wasmparser::HeapType::Concrete(index) = ty.heap_type()
        {
            return Component::Ref { nullable: ty.is_nullable(), ty: self.type_use(index) };
        }
        Component::Val(ValType::from_wasmparser(ty))
    }

    fn type_use(&self, index: UnpackedIndex) -> TypeUse<u32> {
        let index = index.as_module_index().expect("a type section that was only read names types by their index");
        match index.checked_sub(self.first) {
            Some(index) => TypeUse::InGroup(index),
            None => TypeUse::Outside(index),
        }
    }
}

impl RecGroup<super::registry::RegisteredType> {
    /// The group whose only type is this function type.
    pub fn of_func(ty: &FuncType) -> Self {
        let all = |types: &[ValType]| types.iter().map(Component::of).collect();
        let composite = CompositeType::Func { params: all(ty.params()), results: all(ty.results()) };
        RecGroup { types: [SubType { is_final: true, supertype: None, composite }].into() }
    }
}

impl Component<super::registry::RegisteredType> {
    fn of(ty: &ValType) -> Self {
        match ty {
            ValType::Ref(reference) => match reference.heap_type() {
                HeapType::Concrete(defined) => {
                    Component::Ref { nullable: reference.is_nullable(), ty: TypeUse::Outside(defined.clone()) }
                }
                _ => Component::Val(ty.clone()),
            },
            _ => Component::Val(ty.clone()),
        }
    }
}

impl Component<u32> {
    /// This component as a value type; `defined` finds the defined type that it names.
    pub fn resolve(&self, defined: impl FnOnce(TypeUse<u32>) -> super::registry::RegisteredType) -> ValType {
        match self {
            Component::Val(ty) => ty.clone(),
            Component::Ref { nullable, ty } => RefType::new(*nullable, HeapType::Concrete(defined(*ty))).into(),
        }
    }
}
