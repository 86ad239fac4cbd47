//! The type registry of an engine: it gives equal types of all modules equal numbers.
//!
//! Types are registered by recursive group, because types are equal if their groups are (specification, section 3.1.4):
//! equal groups get equal numbers. A group lives as long as any handle to a type of it, and keeps the groups it refers
//! to alive. Its numbers are never used again, so that code compiled for a number stays right.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::composite::{ArrayType, FieldType, StructType};
use super::rec_group::{Component, CompositeDef, RecGroup, TypeDef, TypeUse};
use super::types::{FuncType, HeapType, ValType};
use crate::error::{Error, Result};

/// A handle to a type that an engine knows. Two handles are equal if their types are the same, whichever modules define
/// them.
///
/// Types of modules are registered when the module is made, others by
/// [`Engine::register_type`](crate::Engine::register_type). The type stays registered while a handle to it lives;
/// cloning a handle is cheap.
///
/// ```
/// use wasmrun::{Engine, FuncType, HeapType, RefType, ValType};
/// let engine = Engine::default();
/// let callback = engine.register_type(&FuncType::new(&engine, [ValType::I32], []));
/// assert_eq!(callback, engine.register_type(&FuncType::new(&engine, [ValType::I32], [])));
/// let reference = RefType::new(true, HeapType::Concrete(callback));
/// assert!(reference.matches(&RefType::FUNCREF) && !RefType::FUNCREF.matches(&reference));
/// ```
#[derive(Clone)]
pub struct RegisteredType {
    number: u32,
    /// Index in its group.
    index: u32,
    group: Arc<Group>,
}

/// The kind of a registered type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TypeKind {
    /// Functions.
    Func,
    /// Structures.
    Struct,
    /// Arrays.
    Array,
}

impl RegisteredType {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Byte offset of element `index`'s number in a `[RegisteredType]` of fewer than 2^20 elements.
    #[cfg(baseline)]
    pub(crate) fn numbers_offset(index: u32) -> i32 {
        index as i32 * size_of::<Self>() as i32 + std::mem::offset_of!(Self, number) as i32
    }

    /// Whether it is a type of this registry.
    pub(crate) fn is_of(&self, registry: &Arc<TypeRegistry>) -> bool {
        Arc::ptr_eq(&self.group.registry, registry)
    }

    /// Whether it is a type of functions, of structures or of arrays.
    pub fn kind(&self) -> TypeKind {
        match self.group.sub_type(self.index) {
            None => TypeKind::Func,
            Some(ty) => match ty.composite {
                CompositeDef::Func { .. } => TypeKind::Func,
                CompositeDef::Struct(_) => TypeKind::Struct,
                CompositeDef::Array(_) => TypeKind::Array,
            },
        }
    }

    /// Whether it can have no subtypes.
    pub fn is_final(&self) -> bool {
        self.group.sub_type(self.index).is_none_or(|ty| ty.is_final)
    }

    /// The type that its definition names as supertype.
    pub fn supertype(&self) -> Option<RegisteredType> {
        Some(self.resolve(self.group.sub_type(self.index)?.supertype?))
    }

    /// The function type, if it is one.
    pub fn as_func(&self) -> Option<FuncType> {
        let def = match &self.group.content {
            Content::Func(ty) => return Some((**ty).clone()),
            Content::Group(group) => &group.types[self.index as usize],
        };
        let CompositeDef::Func { params, results } = &def.composite else { return None };
        let all =
            |types: &[Component<u32>]| types.iter().map(|ty| ty.resolve(|ty| self.resolve(ty))).collect::<Vec<_>>();
        let ty = FuncType::of(all(params), all(results));
        let names_group = |ty: &Component<u32>| matches!(ty, Component::Ref { ty: TypeUse::InGroup(_), .. });
        let is_lone = self.group.len() == 1
            && def.is_final
            && def.supertype.is_none()
            && !params.iter().chain(results).any(names_group);
        Some(if is_lone { ty } else { ty.defined_as(self.clone()) })
    }

    /// The type of structures, if it is one.
    pub fn as_struct(&self) -> Option<StructType> {
        let CompositeDef::Struct(fields) = &self.group.sub_type(self.index)?.composite else { return None };
        let resolve = |ty| self.resolve(ty);
        Some(StructType::of(self.clone(), fields.iter().map(|field| field.resolve(resolve))))
    }

    /// The type of arrays, if it is one.
    pub fn as_array(&self) -> Option<ArrayType> {
        let CompositeDef::Array(element) = &self.group.sub_type(self.index)?.composite else { return None };
        Some(ArrayType::of(self.clone(), element.resolve(|ty| self.resolve(ty))))
    }

    /// Its index in its recursive group.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only the cache of compiled code names types by place"))]
    pub(crate) fn index_in_group(&self) -> u32 {
        self.index
    }

    /// Whether this type is `other` or a subtype of it, as declared. Types of different engines never match.
    pub fn matches(&self, other: &RegisteredType) -> bool {
        let by_depth = &self.supertypes()[SUPERTYPES..];
        by_depth.get(other.depth()) == Some(&other.number) && self.is_of_engine_of(other)
    }

    /// How many supertypes it has.
    pub(crate) fn depth(&self) -> usize {
        self.supertypes()[DEPTH] as usize
    }

    /// Whether a [record of supertypes](Self::supertypes) is that of this type or of a subtype.
    ///
    /// # Safety
    /// `record` must be that of a live type of this type's engine.
    pub(crate) unsafe fn is_in_record(&self, record: *const u32) -> bool {
        let depth = self.depth();
        // SAFETY: the record is live by the caller's promise, and has the numbers of as many types as its first word says.
        unsafe { depth <= *record.add(DEPTH) as usize && *record.add(SUPERTYPES + depth) == self.number }
    }

    /// Its record of supertypes, laid out as [`SUPERTYPES`] says. It stays where it is while the type lives.
    pub(crate) fn supertypes(&self) -> &[u32] {
        let start = self.group.starts.get(self.index as usize).map_or(0, |start| *start as usize);
        let record = &self.group.records[start..];
        &record[..record_len(record[DEPTH] as usize)]
    }

    /// Whether its definition matches that of the supertype that it declares (specification 3.0, section 3.3.8, "composite
    /// types").
    fn is_valid_subtype(&self, supertype: &RegisteredType) -> bool {
        fn all_match(these: &[FieldType], others: &[FieldType]) -> bool {
            these.len() >= others.len() && these.iter().zip(others).all(|(this, other)| this.matches(other))
        }
        if let (Some(this), Some(other)) = (self.as_func(), supertype.as_func()) {
            return this.matches(&other);
        }
        if let (Some(this), Some(other)) = (self.as_struct(), supertype.as_struct()) {
            return all_match(this.field_types(), other.field_types());
        }
        match (self.as_array(), supertype.as_array()) {
            (Some(this), Some(other)) => this.element().matches(other.element()),
            _ => false,
        }
    }

    fn is_of_engine_of(&self, other: &RegisteredType) -> bool {
        Arc::ptr_eq(&self.group.registry, &other.group.registry)
    }

    /// The type that `ty` names in this type's group.
    fn resolve(&self, ty: TypeUse<u32>) -> RegisteredType {
        match ty {
            TypeUse::InGroup(index) => Group::handle(&self.group, index),
            TypeUse::Outside(number) => self.group.outside[&number].clone(),
        }
    }
}

impl PartialEq for RegisteredType {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && self.is_of_engine_of(other)
    }
}

impl Eq for RegisteredType {}

impl Hash for RegisteredType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl fmt::Debug for RegisteredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisteredType({})", self.number)
    }
}

impl fmt::Display for RegisteredType {
    /// Its number: a type may refer to itself, so it cannot be written out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type#{}", self.number)
    }
}

/// Most supertypes of a type (implementation limit of the specification's JavaScript API, also kept by wasmparser).
const MAX_DEPTH: usize = 63;

/// Word of a record of supertypes with the number of supertypes.
const DEPTH: usize = 0;

/// First of a record's words with the numbers of the supertypes: the one without supertypes first, the type itself
/// last.
///
/// A cast to a type of depth `d` is thus a load of word `SUPERTYPES + d` of the object's type and a comparison with the
/// number wanted. Every record has [`ALWAYS`] such words, whatever its depth, so that compiled code looks at word [`DEPTH`]
/// only for `d >= ALWAYS`; the words past the type's own number are [`NO_TYPE`], which no type has.
///
/// Compiled code reaches a record by its address, which is fixed while the type lives. A table indexed by number would
/// cost one load less where only the number is at hand, but could never give memory back: numbers are not used twice,
/// and a server registers new types as long as it loads modules. What carries a type at run time (a function reference,
/// the description of an object's layout) carries the address beside the number.
const SUPERTYPES: usize = 1;

/// Numbers of supertypes that every record has room for.
pub(crate) const ALWAYS: usize = 7;

/// Byte offset of a record's number of supertypes.
#[cfg(jit)]
pub(crate) const DEPTH_OFFSET: i32 = 4 * DEPTH as i32;

/// Byte offset in a record of the number of the supertype of depth `depth`; it is there if `depth` is below [`ALWAYS`], or no
/// more than the record's number of supertypes.
#[cfg(jit)]
pub(crate) const fn supertype_offset(depth: usize) -> i32 {
    4 * (SUPERTYPES + depth) as i32
}

/// No type's number.
const NO_TYPE: u32 = u32::MAX;

/// Words of the record of a type of this depth.
fn record_len(depth: usize) -> usize {
    SUPERTYPES + (depth + 1).max(ALWAYS)
}

/// Appends the record of the type `number`, given that of its supertype.
fn push_record(records: &mut Vec<u32>, supertype: Option<&[u32]>, number: u32) -> Result<()> {
    let supertypes = supertype.map_or(&[][..], |record| &record[SUPERTYPES..][..=record[DEPTH] as usize]);
    let depth = supertypes.len();
    if depth > MAX_DEPTH {
        return Err(Error::usage(format!("a type has more than {MAX_DEPTH} supertypes")));
    }
    let end = records.len() + record_len(depth);
    records.push(depth as u32);
    records.extend_from_slice(supertypes);
    records.push(number);
    records.resize(end, NO_TYPE);
    Ok(())
}

/// A registered recursive group.
struct Group {
    registry: Arc<TypeRegistry>,
    content: Content,
    /// Number of its first type; the others follow.
    first: u32,
    /// The records of supertypes of its types.
    records: Box<[u32]>,
    /// Index in `records` where each type's record starts; empty for a plain function type, whose record starts at 0.
    starts: Box<[u32]>,
    /// The types of other groups that it refers to, by number.
    outside: HashMap<u32, RegisteredType>,
}

#[derive(Clone)]
enum Content {
    /// A final function type without supertype that refers to no defined type, as nearly all are.
    Func(Arc<FuncType>),
    Group(Arc<RecGroup<u32>>),
}

impl Group {
    fn handle(self: &Arc<Self>, index: u32) -> RegisteredType {
        RegisteredType { number: self.first + index, index, group: self.clone() }
    }

    fn len(&self) -> u32 {
        match &self.content {
            Content::Func(_) => 1,
            Content::Group(group) => group.types.len() as u32,
        }
    }

    /// `None` for a plain function type.
    fn sub_type(&self, index: u32) -> Option<&TypeDef<u32>> {
        match &self.content {
            Content::Func(_) => None,
            Content::Group(group) => Some(&group.types[index as usize]),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.registry.forget(self);
        // In a loop instead of by recursion: each may be the last handle to a group that refers to another group, in a
        // chain whose length the module chooses.
        let mut handles: Vec<RegisteredType> = self.outside.drain().map(|(_, ty)| ty).collect();
        while let Some(ty) = handles.pop() {
            if let Some(mut group) = Arc::into_inner(ty.group) {
                handles.extend(group.outside.drain().map(|(_, ty)| ty));
            }
        }
    }
}

/// The types of an engine.
#[derive(Default)]
pub(crate) struct TypeRegistry(Mutex<RegistryTables>);

#[derive(Default)]
struct RegistryTables {
    funcs: HashMap<Arc<FuncType>, Weak<Group>>,
    groups: HashMap<Arc<RecGroup<u32>>, Weak<Group>>,
    by_number: HashMap<u32, Numbered>,
    /// The number to be given next.
    next: u32,
}

struct Numbered {
    /// For a plain function type: the type, which calls from the host look up by number.
    func: Option<Arc<FuncType>>,
    group: Weak<Group>,
}

/// So many numbers are kept for types that the host registers: when modules have used up all others, only modules are
/// refused.
const FOR_THE_HOST: u32 = 1 << 24;

impl TypeRegistry {
    fn lock(&self) -> MutexGuard<'_, RegistryTables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function type with this number; a handle to it must be alive.
    pub fn func_type(&self, number: u32) -> Arc<FuncType> {
        if let Some(ty) = &self.lock().by_number[&number].func {
            return ty.clone();
        }
        Arc::new(self.handle(number).as_func().expect("functions have function types"))
    }

    /// A handle to the type with this number; another handle to it must be alive.
    pub fn handle(&self, number: u32) -> RegisteredType {
        let group = self.lock().by_number[&number].group.upgrade();
        // If this becomes the last handle, dropping the group takes the lock, which is not held here.
        let group = group.expect("the number is that of a live handle");
        group.handle(number - group.first)
    }

    /// Registers a function type, final and without supertype.
    ///
    /// # Panics
    /// If it refers to a type of another engine, or the host registers millions of types after modules have used up all
    /// numbers but those that are kept for it.
    pub fn register_func(self: &Arc<Self>, ty: &FuncType) -> RegisteredType {
        self.register(ty, NO_TYPE).expect("fewer than 2^32 types in the life of an engine")
    }

    /// Registers the types of the next group of a module's type section; `registered` has those of the groups before it, in
    /// the order of their indices, and gets these.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if the numbers are used up.
    pub fn register_module_group(
        self: &Arc<Self>,
        group: &wasmparser::RecGroup,
        registered: &mut Vec<RegisteredType>,
    ) -> Result<()> {
        const LIMIT: u32 = NO_TYPE - FOR_THE_HOST;
        match RecGroup::from_wasmparser(group, registered.len() as u32) {
            Ok(plain) => registered.push(self.register(&plain, LIMIT)?),
            Err(group) => {
                let named = group.map(|index| registered[*index as usize].clone());
                registered.extend(self.register_group(&named, LIMIT)?);
            }
        }
        Ok(())
    }

    /// Registers a type that the host describes, which is a recursive group of its own.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the supertype can have no subtypes, or this type does not match it, or it has
    /// too many supertypes; [`Resource`](crate::ErrorKind::Resource) if the numbers are used up.
    ///
    /// # Panics
    /// If it refers to a type of another engine.
    pub fn register_subtype(
        self: &Arc<Self>,
        is_final: bool,
        supertype: Option<&RegisteredType>,
        composite: CompositeDef<RegisteredType>,
    ) -> Result<RegisteredType> {
        assert!(
            composite.outside().chain(supertype).all(|ty| ty.is_of(self)),
            "a type refers to a type of another engine"
        );
        if supertype.is_some_and(RegisteredType::is_final) {
            return Err(Error::usage("a final type can have no subtypes"));
        }
        let group = RecGroup::of_one(is_final, supertype, composite);
        let ty = self.register_group(&group, NO_TYPE)?.next().expect("it has one type");
        match supertype {
            Some(supertype) if !ty.is_valid_subtype(supertype) => {
                Err(Error::usage("the type does not match its supertype"))
            }
            _ => Ok(ty),
        }
    }

    /// Registers a function type; its number must come out below `limit`.
    fn register(self: &Arc<Self>, ty: &FuncType, limit: u32) -> Result<RegisteredType> {
        if let Some(defined) = ty.defined() {
            assert!(defined.is_of(self), "a type refers to a type of another engine");
            return Ok(defined.clone());
        }
        let is_concrete = |ty: &ValType| ty.as_ref().is_some_and(|ty| matches!(ty.heap_type(), HeapType::Concrete(_)));
        if ty.params().iter().chain(ty.results()).any(is_concrete) {
            let mut types = self.register_group(&RecGroup::of_func(ty), limit)?;
            return Ok(types.next().expect("it has one type"));
        }
        let mut tables = self.lock();
        if let Some(group) = tables.funcs.get(ty).and_then(Weak::upgrade) {
            return Ok(group.handle(0));
        }
        let first = tables.take_numbers(1, limit)?;
        let mut records = Vec::new();
        push_record(&mut records, None, first)?;
        let content = Content::Func(Arc::new(ty.clone()));
        Ok(tables.insert(self, content, first, records, Box::default(), HashMap::new()).handle(0))
    }

    /// Registers all types of a group; their numbers must come out below `limit`. A group that is equal to a live one
    /// gets that one's numbers.
    fn register_group(
        self: &Arc<Self>,
        group: &RecGroup<RegisteredType>,
        limit: u32,
    ) -> Result<impl Iterator<Item = RegisteredType> + use<>> {
        let mut outside = HashMap::new();
        let key = group.map(|ty| {
            assert!(ty.is_of(self), "a type refers to a type of another engine");
            outside.insert(ty.number, ty.clone());
            ty.number
        });
        let mut tables = self.lock();
        let found = tables.groups.get(&key).and_then(Weak::upgrade);
        let group = match found {
            Some(group) => group,
            None => {
                let first = tables.take_numbers(key.types.len() as u32, limit)?;
                let (mut records, mut starts) = (Vec::new(), Vec::with_capacity(key.types.len()));
                for (ty, number) in key.types.iter().zip(first..) {
                    let start = records.len();
                    // A copy: the supertype's record may be in the same buffer.
                    let supertype = match ty.supertype {
                        None => None,
                        Some(TypeUse::InGroup(index)) => {
                            let record = &records[starts[index as usize] as usize..];
                            Some(record[..record_len(record[DEPTH] as usize)].to_vec())
                        }
                        Some(TypeUse::Outside(number)) => Some(outside[&number].supertypes().to_vec()),
                    };
                    push_record(&mut records, supertype.as_deref(), number)?;
                    starts.push(start as u32);
                }
                tables.insert(self, Content::Group(Arc::new(key)), first, records, starts.into(), outside)
            }
        };
        drop(tables);
        Ok((0..group.len()).map(move |index| group.handle(index)))
    }

    /// Removes a group to which no handle is left.
    fn forget(&self, group: &Group) {
        let mut tables = self.lock();
        for number in (group.first..).take(group.len() as usize) {
            tables.by_number.remove(&number);
        }
        // An equal group may have been registered since the last handle was dropped: its entry stays.
        match &group.content {
            Content::Func(ty) => remove_dead(&mut tables.funcs, ty.clone()),
            Content::Group(types) => remove_dead(&mut tables.groups, types.clone()),
        }
    }
}

/// Removes an entry if its group is gone.
fn remove_dead<K: Eq + Hash>(map: &mut HashMap<K, Weak<Group>>, key: K) {
    if let Entry::Occupied(entry) = map.entry(key)
        && entry.get().strong_count() == 0
    {
        entry.remove();
    }
}

impl RegistryTables {
    /// Takes `count` consecutive numbers out of use for others, and returns the first.
    fn take_numbers(&mut self, count: u32, limit: u32) -> Result<u32> {
        let first = self.next;
        let end = first.checked_add(count).filter(|end| *end <= limit);
        self.next = end.ok_or_else(|| Error::resource("the engine has had too many types: make a new one"))?;
        Ok(first)
    }

    fn insert(
        &mut self,
        registry: &Arc<TypeRegistry>,
        content: Content,
        first: u32,
        records: Vec<u32>,
        starts: Box<[u32]>,
        outside: HashMap<u32, RegisteredType>,
    ) -> Arc<Group> {
        let group = Group { registry: registry.clone(), content, first, records: records.into(), starts, outside };
        let group = Arc::new(group);
        let func = match &group.content {
            Content::Func(ty) => Some(ty.clone()),
            Content::Group(_) => None,
        };
        for number in (first..).take(group.len() as usize) {
            self.by_number.insert(number, Numbered { func: func.clone(), group: Arc::downgrade(&group) });
        }
        match &group.content {
            Content::Func(ty) => self.funcs.insert(ty.clone(), Arc::downgrade(&group)),
            Content::Group(types) => self.groups.insert(types.clone(), Arc::downgrade(&group)),
        };
        group
    }
}

#[cfg(test)]
mod tests {
    use super::super::rec_group::{FieldDef, StorageDef};
    use super::*;
    use wasmparser::{Parser, Payload, Validator, WasmFeatures};

    /// Registers the types of a module whose text is valid with the types of WebAssembly 3.0.
    fn register(registry: &Arc<TypeRegistry>, text: &str) -> Vec<RegisteredType> {
        let binary = crate::module::decode::text(format!("(module {text})").as_bytes()).unwrap();
        Validator::new_with_features(WasmFeatures::default() | WasmFeatures::GC).validate_all(&binary).unwrap();
        let mut types = Vec::new();
        for payload in Parser::new(0).parse_all(&binary) {
            if let Payload::TypeSection(section) = payload.unwrap() {
                for group in section {
                    registry.register_module_group(&group.unwrap(), &mut types).unwrap();
                }
            }
        }
        types
    }

    /// How many groups, types and numbers the registry holds.
    fn sizes(registry: &TypeRegistry) -> (usize, usize) {
        let tables = registry.lock();
        (tables.funcs.len() + tables.groups.len(), tables.by_number.len())
    }

    #[test]
    fn equal_groups_of_different_modules_are_the_same_types() {
        let registry = Arc::default();
        // Other indices, other names: what counts is the structure.
        let list =
            "(rec (type $list (sub (struct (field i32 (ref null $list))))) (type $f (func (param (ref $list)))))";
        let one = register(&registry, list);
        let other = register(&registry, &format!("(type (func)) (type (array i8)) {list}"));
        assert_eq!(one[..], other[2..]);
        assert_eq!((one[0].number(), one[1].number()), (other[2].number(), other[3].number()));
        assert_eq!(
            (one[0].kind(), one[1].kind(), other[1].kind()),
            (TypeKind::Struct, TypeKind::Func, TypeKind::Array)
        );
        assert!(!one[0].is_final() && one[1].is_final());
        // A type outside is the same if it is the same type, not if its index is.
        let uses = |text: &str| register(&registry, &format!("{text} (type (struct (field (ref 1)))) ")).pop().unwrap();
        assert_eq!(uses("(type (func)) (type (array i8))"), uses("(type (array i16)) (type (array i8))"));
        assert_ne!(uses("(type (func)) (type (array i8))"), uses("(type (func)) (type (array i16))"));
    }

    #[test]
    fn groups_that_differ_in_anything_are_other_types() {
        let registry = Arc::default();
        let groups = [
            "(type (func))",
            "(type (sub (func)))",
            "(rec (type (func)) (type (func)))",
            "(rec (type (func)) (type (func (param i32))))",
            "(rec (type (func)) (type (func (result i32))))",
            "(rec (type (func)) (type (func)) (type (func)))",
            "(rec (type (func)) (type (sub 0 (func))))".replace("(type (func)) ", "(type (sub (func))) ").leak(),
            "(rec (type (sub (func))) (type (func)))",
            "(type (struct))",
            "(type (struct (field i8)))",
            "(type (struct (field i16)))",
            "(type (struct (field (mut i8))))",
            "(type (struct (field i8 i8)))",
            "(type (array i8))",
            "(type (array (ref null any)))",
            "(type (array (ref any)))",
            "(rec (type (array (ref 0))))",
            "(rec (type (array (ref null 0))))",
            "(rec (type (array (ref 0))) (type (struct)))",
            "(rec (type (array (ref 1))) (type (struct)))",
        ];
        let types: Vec<_> = groups.iter().map(|text| register(&registry, text)).collect();
        for (at, one) in types.iter().enumerate() {
            for (text, other) in groups.iter().zip(&types).skip(at + 1) {
                assert!(one.iter().all(|ty| !other.contains(ty)), "{} {text}", groups[at]);
            }
        }
        // Types of one group have different numbers even if they look the same.
        assert_ne!(types[2][0], types[2][1]);
    }

    #[test]
    fn the_host_and_modules_name_one_function_type() {
        let registry: Arc<TypeRegistry> = Arc::default();
        let types = register(&registry, "(type $f (func (param i32))) (type (func (param (ref null $f))))");
        let plain = registry.register_func(&FuncType::of([ValType::I32], []));
        assert_eq!(plain, types[0]);
        let reference = ValType::Ref(crate::RefType::new(true, HeapType::Concrete(plain)));
        let of_reference = registry.register_func(&FuncType::of([reference.clone()], []));
        assert_eq!(of_reference, types[1]);
        assert_eq!(types[1].as_func(), Some(FuncType::of([reference], [])));
        assert_eq!(*registry.func_type(types[1].number()), types[1].as_func().unwrap());
    }

    #[test]
    #[should_panic(expected = "another engine")]
    fn a_type_of_another_engine_panics() {
        let [one, other]: [Arc<TypeRegistry>; 2] = Default::default();
        let foreign = HeapType::Concrete(one.register_func(&FuncType::of([], [])));
        other.register_func(&FuncType::of([crate::RefType::new(true, foreign).into()], []));
    }

    #[test]
    fn types_of_different_engines_never_match() {
        let [one, other]: [Arc<TypeRegistry>; 2] = Default::default();
        let [one, other] = [one, other].map(|registry| registry.register_func(&FuncType::of([], [])));
        assert_eq!(one.number(), other.number());
        assert!(one != other && !one.matches(&other));
    }

    #[test]
    fn every_type_matches_its_supertypes_alone() {
        let registry = Arc::default();
        let mut text = "(type $t0 (sub (struct)))".to_string();
        for depth in 1..=MAX_DEPTH {
            text += &format!("(type $t{depth} (sub $t{} (struct)))", depth - 1);
        }
        let chain = register(&registry, &text);
        // In one group, so that the supertypes' records are made with it.
        let group = register(&registry, &format!("(rec {text})"));
        for chain in [&chain, &group] {
            for (depth, ty) in chain.iter().enumerate() {
                assert_eq!(ty.supertype().as_ref(), depth.checked_sub(1).map(|above| &chain[above]));
                let record = ty.supertypes();
                assert_eq!((record[DEPTH] as usize, record.len()), (depth, record_len(depth)));
                for (above, supertype) in chain.iter().enumerate() {
                    assert_eq!(ty.matches(supertype), above <= depth, "{depth} {above}");
                    // SAFETY: the type is live, and of the same engine.
                    let in_record = unsafe { supertype.is_in_record(ty.supertypes().as_ptr()) };
                    assert_eq!(in_record, above <= depth, "{depth} {above}");
                }
                assert!(record[SUPERTYPES + depth + 1..].iter().all(|number| *number == NO_TYPE));
            }
        }
        assert!(chain.iter().zip(&group).all(|(one, other)| one != other && !one.matches(other)));
        let sibling = register(&registry, &format!("{text} (type (sub $t3 (struct (field i32))))")).pop().unwrap();
        assert!(sibling.matches(&chain[3]) && !sibling.matches(&chain[4]) && !chain[4].matches(&sibling));
    }

    #[test]
    fn more_supertypes_than_the_limit_are_refused() {
        let registry: Arc<TypeRegistry> = Arc::default();
        let mut last: Option<RegisteredType> = None;
        for depth in 0.. {
            let supertype = last.clone().map(TypeUse::Outside);
            let ty = TypeDef { is_final: false, supertype, composite: CompositeDef::Struct([].into()) };
            match registry.register_group(&RecGroup { types: [ty].into() }, NO_TYPE) {
                Ok(mut types) => last = types.next(),
                Err(_) => {
                    assert_eq!(depth, MAX_DEPTH + 1);
                    break;
                }
            }
        }
        drop(last);
        assert_eq!(sizes(&registry), (0, 0));
    }

    #[test]
    fn a_group_lives_as_long_as_what_refers_to_it_and_its_numbers_are_not_used_again() {
        let registry: Arc<TypeRegistry> = Arc::default();
        let text = "(type $a (array i8)) (rec (type $b (struct (field (ref $a)))) (type (struct (field (ref $b)))))";
        let mut types = register(&registry, text);
        let numbers: Vec<_> = types.iter().map(RegisteredType::number).collect();
        // The handle of one type of a group is enough.
        let last = types.pop().unwrap();
        drop(types);
        assert_eq!(sizes(&registry), (2, 3));
        let again = register(&registry, text);
        assert_eq!(numbers, Vec::from_iter(again.iter().map(RegisteredType::number)));
        drop((again, last));
        assert_eq!(sizes(&registry), (0, 0));
        let new = register(&registry, text);
        assert!(new.iter().all(|ty| !numbers.contains(&ty.number())));
    }

    /// As groups of one and as groups of two, each of which refers to the one before.
    #[test]
    fn chains_of_100_000_groups_are_registered_and_dropped() {
        let registry: Arc<TypeRegistry> = Arc::default();
        for len in [1, 2] {
            let mut last: Option<RegisteredType> = None;
            for _ in 0..100_000 {
                let field = || {
                    let ty = last.clone().map_or(TypeUse::InGroup(0), TypeUse::Outside);
                    FieldDef { storage: StorageDef::Val(Component::Ref { nullable: true, ty }), is_mutable: false }
                };
                let ty = || TypeDef { is_final: true, supertype: None, composite: CompositeDef::Array(field()) };
                let group = RecGroup { types: (0..len).map(|_| ty()).collect() };
                last = registry.register_group(&group, NO_TYPE).unwrap().last();
            }
            assert_eq!(sizes(&registry), (100_000, 100_000 * len));
            drop(last);
            assert_eq!(sizes(&registry), (0, 0));
        }
    }

    #[test]
    fn threads_agree_on_numbers() {
        let registry: Arc<TypeRegistry> = Arc::default();
        let text =
            "(type $a (array i8)) (rec (type (struct (field (ref $a)))) (type (func))) (type (func (param i32)))";
        let kept = register(&registry, text);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..200 {
                        assert_eq!(register(&registry, text), kept);
                        // Types to which no handle is kept: threads drop them while others find them.
                        drop(register(&registry, &format!("(type (struct (field (mut i{}))))", 8 << (round % 2))));
                        drop(registry.register_func(&FuncType::of([ValType::F32], [])));
                    }
                });
            }
        });
        assert_eq!(sizes(&registry), (3, 4));
    }

    /// A thread may register an equal group between the drop of a group's last handle and the removal of the group.
    #[test]
    fn a_group_that_goes_leaves_an_equal_one_that_came_meanwhile() {
        let registry: Arc<TypeRegistry> = Arc::default();
        let text = "(type (array i8)) (type (func))";
        let kept = register(&registry, text);
        for ty in &kept {
            drop(Group {
                registry: registry.clone(),
                content: ty.group.content.clone(),
                first: NO_TYPE - 1,
                records: Box::default(),
                starts: Box::default(),
                outside: HashMap::new(),
            });
        }
        assert_eq!(register(&registry, text), kept);
    }

    #[test]
    fn modules_are_refused_before_the_host_is_out_of_numbers() {
        let registry: Arc<TypeRegistry> = Arc::default();
        registry.lock().next = NO_TYPE - FOR_THE_HOST - 1;
        let [one, other] = [ValType::I32, ValType::I64].map(|ty| FuncType::of([ty], []));
        let kept_of_one = registry.register(&one, NO_TYPE - FOR_THE_HOST).unwrap();
        let kept = registry.register_func(&other);
        assert!(registry.register(&other, NO_TYPE - FOR_THE_HOST).is_ok());
        assert!(registry.register(&FuncType::of([], []), NO_TYPE - FOR_THE_HOST).is_err());
        assert_eq!((kept_of_one.number() + 1, kept.number()), (kept.number(), NO_TYPE - FOR_THE_HOST));
    }
}
