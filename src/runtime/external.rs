//! External values: the objects that can be imported and exported.

use super::func::Func;
use super::global::Global;
use super::memory::Memory;
use super::shared_memory::SharedMemory;
use super::store::AsContext;
use super::table::Table;
use super::tag::Tag;
use crate::module::types::ExternType;
use crate::vm::instantiate::ImportedObject;
use crate::vm::store::StoreOpaque;

/// An object that can be imported or exported (specification, section 4.2, "External Values"): one of a store, or a shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extern {
    /// A function.
    Func(Func),
    /// A table.
    Table(Table),
    /// A memory that is not shared.
    Memory(Memory),
    /// A shared memory, which belongs to no store.
    SharedMemory(SharedMemory),
    /// A global.
    Global(Global),
    /// A tag.
    Tag(Tag),
}

impl Extern {
    /// The function, if it is one.
    pub fn into_func(self) -> Option<Func> {
        if let Extern::Func(func) = self { Some(func) } else { None }
    }

    /// The table, if it is one.
    pub fn into_table(self) -> Option<Table> {
        if let Extern::Table(table) = self { Some(table) } else { None }
    }

    /// The memory, if it is one that is not shared.
    pub fn into_memory(self) -> Option<Memory> {
        if let Extern::Memory(memory) = self { Some(memory) } else { None }
    }

    /// The shared memory, if it is one.
    pub fn into_shared_memory(self) -> Option<SharedMemory> {
        if let Extern::SharedMemory(memory) = self { Some(memory) } else { None }
    }

    /// The global, if it is one.
    pub fn into_global(self) -> Option<Global> {
        if let Extern::Global(global) = self { Some(global) } else { None }
    }

    /// The tag, if it is one.
    pub fn into_tag(self) -> Option<Tag> {
        if let Extern::Tag(tag) = self { Some(tag) } else { None }
    }

    /// The object's type. For a memory or table, the minimum is the current size.
    ///
    /// # Panics
    /// If the object is in another store.
    pub fn ty(&self, store: impl AsContext) -> ExternType {
        match self {
            Extern::Func(func) => ExternType::Func(func.ty(store)),
            Extern::Table(table) => ExternType::Table(table.ty(store)),
            Extern::Memory(memory) => ExternType::Memory(memory.ty(store)),
            Extern::SharedMemory(memory) => ExternType::Memory(memory.ty()),
            Extern::Global(global) => ExternType::Global(global.ty(store)),
            Extern::Tag(tag) => ExternType::Tag(tag.ty(store)),
        }
    }

    /// The object in the form that instantiation takes. The store has a shared memory from then on.
    ///
    /// # Panics
    /// If a function is in another store.
    pub(super) fn to_import(&self, store: &mut StoreOpaque) -> ImportedObject {
        match self {
            Extern::Func(func) => ImportedObject::Func(func.func_ref(store)),
            Extern::Table(table) => ImportedObject::Table(table.0),
            Extern::Memory(memory) => ImportedObject::Memory(memory.0),
            Extern::SharedMemory(memory) => ImportedObject::Memory(store.add_shared_memory(&memory.0)),
            Extern::Global(global) => ImportedObject::Global(global.0),
            Extern::Tag(tag) => ImportedObject::Tag(tag.0),
        }
    }

    /// Whether the object is in `store`, or may be.
    pub(crate) fn belongs_to(&self, store: &StoreOpaque) -> bool {
        match self {
            Extern::Func(func) => func.belongs_to(store),
            Extern::Table(table) => table.0.belongs_to(store),
            Extern::Memory(memory) => memory.0.belongs_to(store),
            Extern::SharedMemory(memory) => memory.0.is_of(&store.engine),
            Extern::Global(global) => global.0.belongs_to(store),
            Extern::Tag(tag) => tag.0.belongs_to(store),
        }
    }
}

/// An export of an instance, with its name; see [`Instance::exports`](crate::Instance::exports).
#[derive(Clone, Debug)]
pub struct Export<'instance> {
    name: &'instance str,
    object: Extern,
}

impl<'instance> Export<'instance> {
    pub(super) fn new(name: &'instance str, object: Extern) -> Self {
        Export { name, object }
    }

    /// Name of the export.
    pub fn name(&self) -> &'instance str {
        self.name
    }

    /// Type of the exported object.
    ///
    /// # Panics
    /// If it is in another store.
    pub fn ty(&self, store: impl AsContext) -> ExternType {
        self.object.ty(store)
    }

    /// The exported object.
    pub fn into_extern(self) -> Extern {
        self.object
    }

    /// The function, if it is one.
    pub fn into_func(self) -> Option<Func> {
        self.object.into_func()
    }

    /// The table, if it is one.
    pub fn into_table(self) -> Option<Table> {
        self.object.into_table()
    }

    /// The memory, if it is one that is not shared.
    pub fn into_memory(self) -> Option<Memory> {
        self.object.into_memory()
    }

    /// The shared memory, if it is one.
    pub fn into_shared_memory(self) -> Option<SharedMemory> {
        self.object.into_shared_memory()
    }

    /// The global, if it is one.
    pub fn into_global(self) -> Option<Global> {
        self.object.into_global()
    }

    /// The tag, if it is one.
    pub fn into_tag(self) -> Option<Tag> {
        self.object.into_tag()
    }
}

macro_rules! from {
    ($($ty:ident)*) => {
        $(impl From<$ty> for Extern {
            fn from(object: $ty) -> Self {
                Extern::$ty(object)
            }
        })*
    };
}

from!(Func Table Memory SharedMemory Global Tag);
