//! Recursive groups of types: the items of a type section (specification, section 2.3.7).
//!
//! A group is a value that can be compared and hashed: it names its own types by their index in the group, and types
//! outside of it by a `T`. If `T` is the engine-wide type number, equal groups define the same types (specification,
//! section 3.1.4, "rolling and unrolling").

use wasmparser::{CompositeInnerType, UnpackedIndex};

use super::composite::{FieldType, StorageType};
use super::registry::RegisteredType;
use super::types::{FuncType, HeapType, Mutability, RefType, ValType};

/// Types that are defined together and may refer to one another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecGroup<T> {
    pub types: Box<[TypeDef<T>]>,
}

/// One type of a group.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TypeDef<T> {
    /// Whether it can have no subtypes.
    pub is_final: bool,
    /// A type outside of the group, or one before this one in it.
    pub supertype: Option<TypeUse<T>>,
    pub composite: CompositeDef<T>,
}

/// How a type of a group names another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TypeUse<T> {
    /// By its index in the group.
    InGroup(u32),
    Outside(T),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum CompositeDef<T> {
    Func { params: Box<[Component<T>]>, results: Box<[Component<T>]> },
    Struct(Box<[FieldDef<T>]>),
    Array(FieldDef<T>),
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
pub(crate) struct FieldDef<T> {
    pub storage: StorageDef<T>,
    pub is_mutable: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum StorageDef<T> {
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

impl<T> TypeDef<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> TypeDef<U> {
        let supertype = self.supertype.as_ref().map(|ty| ty.map(name));
        let composite = match &self.composite {
            CompositeDef::Func { params, results } => CompositeDef::Func {
                params: params.iter().map(|ty| ty.map(name)).collect(),
                results: results.iter().map(|ty| ty.map(name)).collect(),
            },
            CompositeDef::Struct(fields) => CompositeDef::Struct(fields.iter().map(|ty| ty.map(name)).collect()),
            CompositeDef::Array(element) => CompositeDef::Array(element.map(name)),
        };
        TypeDef { is_final: self.is_final, supertype, composite }
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

impl<T> FieldDef<T> {
    fn map<U>(&self, name: &mut impl FnMut(&T) -> U) -> FieldDef<U> {
        let storage = match &self.storage {
            StorageDef::I8 => StorageDef::I8,
            StorageDef::I16 => StorageDef::I16,
            StorageDef::Val(ty) => StorageDef::Val(ty.map(name)),
        };
        FieldDef { storage, is_mutable: self.is_mutable }
    }
}

impl RecGroup<u32> {
    /// Translates a group from wasmparser; `first` is the type index of its first type, and types outside are named by
    /// their type index. A group of one final function type without a supertype that names no defined type is returned as
    /// `Ok`: its [`FuncType`] says everything about it.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub fn from_wasmparser(group: &wasmparser::RecGroup, first: u32) -> Result<FuncType, Self> {
        let read = GroupReader { first };
        let types: Box<[_]> = group.types().map(|ty| read.sub_type(ty)).collect();
        if let [TypeDef { is_final: true, supertype: None, composite: CompositeDef::Func { params, results } }] =
            &*types
        {
            let all = |types: &[Component<u32>]| types.iter().map(Component::as_val).collect::<Option<Vec<_>>>();
            if let (Some(params), Some(results)) = (all(params), all(results)) {
                return Ok(FuncType::of(params, results));
            }
        }
        Err(RecGroup { types })
    }
}

impl<T> Component<T> {
    /// The type, if it names no defined type.
    fn as_val(&self) -> Option<ValType> {
        if let Component::Val(ty) = self { Some(ty.clone()) } else { None }
    }
}

/// Translates the types of a group from wasmparser.
struct GroupReader {
    /// Type index of the group's first type.
    first: u32,
}

impl GroupReader {
    fn sub_type(&self, ty: &wasmparser::SubType) -> TypeDef<u32> {
        let all = |types: &[wasmparser::ValType]| types.iter().map(|ty| self.component(*ty)).collect();
        let composite = match &ty.composite_type.inner {
            CompositeInnerType::Func(func) => {
                CompositeDef::Func { params: all(func.params()), results: all(func.results()) }
            }
            CompositeInnerType::Struct(ty) => {
                CompositeDef::Struct(ty.fields.iter().map(|field| self.field(field)).collect())
            }
            CompositeInnerType::Array(ty) => CompositeDef::Array(self.field(&ty.0)),
            CompositeInnerType::Cont(_) => unreachable!("continuations do not validate"),
        };
        let supertype = ty.supertype_idxs.first().map(|index| self.type_use(index.unpack()));
        TypeDef { is_final: ty.is_final, supertype, composite }
    }

    fn field(&self, field: &wasmparser::FieldType) -> FieldDef<u32> {
        let storage = match field.element_type {
            wasmparser::StorageType::I8 => StorageDef::I8,
            wasmparser::StorageType::I16 => StorageDef::I16,
            wasmparser::StorageType::Val(ty) => StorageDef::Val(self.component(ty)),
        };
        FieldDef { storage, is_mutable: field.mutable }
    }

    fn component(&self, ty: wasmparser::ValType) -> Component<u32> {
        if let wasmparser::ValType::Ref(ty) = ty
            && let wasmparser::HeapType::Concrete(index) = ty.heap_type()
        {
            return Component::Ref { nullable: ty.is_nullable(), ty: self.type_use(index) };
        }
        Component::Val(ValType::from_wasmparser(ty, &[]))
    }

    fn type_use(&self, index: UnpackedIndex) -> TypeUse<u32> {
        let index = index.as_module_index().expect("a type section that was only read names types by their index");
        match index.checked_sub(self.first) {
            Some(index) => TypeUse::InGroup(index),
            None => TypeUse::Outside(index),
        }
    }
}

impl RecGroup<RegisteredType> {
    /// The group whose only type is this one.
    pub fn of_one(is_final: bool, supertype: Option<&RegisteredType>, composite: CompositeDef<RegisteredType>) -> Self {
        let supertype = supertype.cloned().map(TypeUse::Outside);
        RecGroup { types: [TypeDef { is_final, supertype, composite }].into() }
    }

    /// The group whose only type is this function type, final and without supertype.
    pub fn of_func(ty: &FuncType) -> Self {
        Self::of_one(true, None, CompositeDef::of_func(ty))
    }
}

impl CompositeDef<RegisteredType> {
    /// Functions with the parameters and results of `ty`.
    pub fn of_func(ty: &FuncType) -> Self {
        let all = |types: &[ValType]| types.iter().map(Component::of).collect();
        CompositeDef::Func { params: all(ty.params()), results: all(ty.results()) }
    }

    /// Structures with these fields.
    pub fn of_struct(fields: &[FieldType]) -> Self {
        CompositeDef::Struct(fields.iter().map(FieldDef::of).collect())
    }

    /// Arrays of such elements.
    pub fn of_array(element: &FieldType) -> Self {
        CompositeDef::Array(FieldDef::of(element))
    }

    /// The registered types that it refers to.
    pub fn outside(&self) -> impl Iterator<Item = &RegisteredType> {
        let (components, fields): (Vec<&Component<_>>, &[FieldDef<_>]) = match self {
            CompositeDef::Func { params, results } => (params.iter().chain(results).collect(), &[]),
            CompositeDef::Struct(fields) => (Vec::new(), fields),
            CompositeDef::Array(element) => (Vec::new(), std::slice::from_ref(element)),
        };
        let of_fields = fields.iter().filter_map(|field| match &field.storage {
            StorageDef::Val(component) => Some(component),
            StorageDef::I8 | StorageDef::I16 => None,
        });
        components.into_iter().chain(of_fields).filter_map(|component| match component {
            Component::Ref { ty: TypeUse::Outside(ty), .. } => Some(ty),
            _ => None,
        })
    }
}

impl FieldDef<RegisteredType> {
    fn of(field: &FieldType) -> Self {
        let storage = match field.element_type() {
            StorageType::I8 => StorageDef::I8,
            StorageType::I16 => StorageDef::I16,
            StorageType::ValType(ty) => StorageDef::Val(Component::of(ty)),
        };
        FieldDef { storage, is_mutable: field.mutability().is_var() }
    }
}

impl Component<RegisteredType> {
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

impl FieldDef<u32> {
    /// This field as a field type; `defined` finds the defined type that it names.
    pub fn resolve(&self, defined: impl FnOnce(TypeUse<u32>) -> RegisteredType) -> FieldType {
        let storage = match &self.storage {
            StorageDef::I8 => StorageType::I8,
            StorageDef::I16 => StorageType::I16,
            StorageDef::Val(ty) => StorageType::ValType(ty.resolve(defined)),
        };
        FieldType::new(if self.is_mutable { Mutability::Var } else { Mutability::Const }, storage)
    }
}

impl Component<u32> {
    /// This component as a value type; `defined` finds the defined type that it names.
    pub fn resolve(&self, defined: impl FnOnce(TypeUse<u32>) -> RegisteredType) -> ValType {
        match self {
            Component::Val(ty) => ty.clone(),
            Component::Ref { nullable, ty } => RefType::new(*nullable, HeapType::Concrete(defined(*ty))).into(),
        }
    }
}
