//! Instances for the embedder, and instantiation with checked imports.

use std::panic::resume_unwind;
use std::ptr::NonNull;

use super::external::{Export, Extern};
use super::func::{Func, Invoke, invoke};
use super::global::Global;
use super::import::check_import;
use super::linker::import_name;
use super::memory::Memory;
use super::module::{Module, ModuleExport};
use super::shared_memory::SharedMemory;
use super::store::{AsContext, AsContextMut, StoreContextMut, StoreInner};
use super::table::Table;
use super::tag::Tag;
use super::typed::{TypedFunc, WasmParams, WasmResults};
use crate::error::{Error, ErrorKind, Result};
use crate::module::ExternIndex;
use crate::printable::Printable;
use crate::vm::context::VMContext;
use crate::vm::fiber::Unsuspended;
use crate::vm::instance::{InstanceData, func_ref};
use crate::vm::instantiate::initialize;
use crate::vm::limits::{self, GrowthRequest, LimitedResource};
use crate::vm::store::{StoreOpaque, Stored};

/// The object at an index of an instance's index spaces.
///
/// # Safety
/// `vmctx` must be live, and `index` in its module's index space.
pub(crate) unsafe fn external(vmctx: *mut VMContext, index: ExternIndex) -> Extern {
    // SAFETY: context and index are valid by the caller's promise; the instance is as live as its context, and its store too.
    unsafe {
        let this = &*(*vmctx).instance;
        match index {
            ExternIndex::Func(index) => {
                let func = func_ref(vmctx, index) as u64;
                Extern::Func(Func::from_slot(func, &*this.store).expect("functions are not null"))
            }
            ExternIndex::Memory(index) => {
                let memory = this.memory(index);
                let store = &*this.store;
                match store.memories[memory.index(store)].as_shared() {
                    Some(memory) => Extern::SharedMemory(SharedMemory(memory.clone())),
                    None => Extern::Memory(Memory(memory)),
                }
            }
            ExternIndex::Table(index) => Extern::Table(Table(this.table(index))),
            ExternIndex::Global(index) => Extern::Global(Global(this.globals[index as usize])),
            ExternIndex::Tag(index) => Extern::Tag(Tag(this.tags[index as usize])),
        }
    }
}

/// An instance of a module in a store (specification, section 4.2.5).
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
///
/// ```
/// use wasmrun::{Engine, Instance, Module, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module
///     (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#)?;
/// let mut store = Store::new(&engine, ());
/// let instance = Instance::new(&mut store, &module, &[])?;
/// let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
/// assert_eq!(add.call(&mut store, (2, 3))?, 5);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance(Stored);

impl Instance {
    /// Instantiates a module with its imports in the order of [`Module::imports`], and runs its start function.
    ///
    /// # Errors
    /// - [`Usage`](ErrorKind::Usage) if the number of imports is wrong, or module or imports belong to another engine or store;
    /// - [`Link`](ErrorKind::Link) if an import has the wrong type;
    /// - [`Resource`](ErrorKind::Resource) if memory is short or the store's limiter refuses;
    /// - a trap if an active segment does not fit; segments that were copied before stay, as specified;
    /// - whatever ends the start function, or interrupts the store meanwhile.
    ///
    /// # Panics
    /// Resumes the panic of the function of an epoch deadline.
    pub fn new(mut store: impl AsContextMut, module: &Module, imports: &[Extern]) -> Result<Self> {
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        // SAFETY: the store's own pointer, which is borrowed; the imports are checked first.
        unsafe {
            Self::check_imports(&*store, module, imports)?;
            Self::instantiate_unsuspended(store, module, imports)
        }
    }

    /// [`Instance::instantiate`] for a synchronous caller, whose frames may be on the stack.
    ///
    /// # Safety
    /// As for `instantiate`.
    pub(crate) unsafe fn instantiate_unsuspended(
        store: *mut StoreOpaque,
        module: &Module,
        imports: &[Extern],
    ) -> Result<Self> {
        // SAFETY: the caller's promise. The guard goes first.
        unsafe {
            let _unsuspended = Unsuspended::new(store);
            Self::instantiate(store, module, imports, invoke)
        }
    }

    /// Instantiates a module, without checking its imports; calls the start function by `invoke`.
    ///
    /// # Safety
    /// What `invoke` asks for.
    ///
    /// `store` must be the own pointer of a store to which nobody holds a reference, because code runs in it. The module must
    /// be of the store's engine, and the imports must fit.
    pub(crate) unsafe fn instantiate(
        store: *mut StoreOpaque,
        module: &Module,
        imports: &[Extern],
        invoke: Invoke,
    ) -> Result<Self> {
        // SAFETY: the store is live and nobody refers to it, by the caller's promise. The instance is complete, and nobody
        // refers to it, when `initialize` is called.
        let (vmctx, handle) = unsafe {
            let none = GrowthRequest { current: 0, desired: 0, maximum: None };
            limits::admit(store, LimitedResource::Instance, none)?;
            let imports: Vec<_> = imports.iter().map(|import| import.to_import(&mut *store)).collect();
            let data = InstanceData::new(&mut *store, module.runtime_info(), &imports);
            let (vmctx, place) = (data.vmctx, data.as_ptr());
            // Before `define`: collections look for the values of its element segments meanwhile. Even if that fails, objects
            // that it has put into the store point into the context, so the store must keep the instance.
            let instances = &mut (*store).instances;
            instances.push(data);
            let handle = Instance(Stored::new(&*store, (*store).instances.len() - 1));
            InstanceData::define(place, store, &module.0.image)?;
            let initialized = initialize(vmctx, &module.0.facts, &module.0.image);
            // Of the function of an epoch deadline.
            if let Some(panic) = (*store).panic.take() {
                resume_unwind(panic);
            }
            initialized?;
            (vmctx, handle)
        };
        if let Some(start) = module.0.facts.start {
            // SAFETY: the instance is complete and the index is its module's. Start functions have no parameters or results,
            // so no slot is accessed.
            unsafe {
                let func = NonNull::new_unchecked(func_ref(vmctx, start));
                invoke(store, func, std::ptr::NonNull::<u64>::dangling().as_ptr())?;
            }
        }
        Ok(handle)
    }

    /// Checks that module and imports belong to the store and that the imports fit.
    pub(super) fn check_imports(store: &StoreOpaque, module: &Module, imports: &[Extern]) -> Result<()> {
        let wanted = &module.0.facts.imports;
        if !module.0.engine.owns(store) {
            return Err(Error::usage("the module belongs to another engine than the store"));
        }
        if wanted.len() != imports.len() {
            let message = format!("the module has {} import(s), got {}", wanted.len(), imports.len());
            return Err(Error::usage(message));
        }
        for (want, got) in wanted.iter().zip(imports) {
            if !got.belongs_to(store) {
                return Err(Error::usage("an import belongs to another store"));
            }
            check_import(store, &want.ty, got).map_err(|message| {
                let import = import_name(&want.module, &want.name);
                Error::new(ErrorKind::Link(format!("incompatible import type for {import}: {message}")))
            })?;
        }
        Ok(())
    }

    fn data(self, store: &StoreOpaque) -> &InstanceData {
        &store.instances[self.0.index(store)]
    }

    /// The module that was instantiated.
    pub fn module<'a>(&self, store: &'a impl AsContext) -> &'a Module {
        let owner = &store.as_context().0.instance_of(*self).owner;
        owner.downcast_ref().expect("the owner of an instance is its module")
    }

    /// The export `name`, if there is one.
    pub fn get_export(&self, mut store: impl AsContextMut, name: &str) -> Option<Extern> {
        let data = self.data(&store.as_context_mut().into_inner().opaque);
        let module = &data.module;
        let index = module.exports[*module.export_index.get(name)? as usize].index;
        // SAFETY: the store, which is borrowed, keeps the instance and its context; the index is its module's.
        Some(unsafe { external(data.vmctx, index) })
    }

    /// An export that [`Module::get_export_index`] has found, without looking its name up; `None` if the instance is of another
    /// module.
    pub fn get_module_export(&self, mut store: impl AsContextMut, export: &ModuleExport) -> Option<Extern> {
        let data = self.data(&store.as_context_mut().into_inner().opaque);
        let index = export.index_in(&data.module)?;
        // SAFETY: the store, which is borrowed, keeps the instance and its context; the index is its module's.
        Some(unsafe { external(data.vmctx, index) })
    }

    /// All exports, in the order of the module.
    ///
    /// ```
    /// use wasmrun::{Instance, Module, Store};
    /// let mut store = Store::<()>::default();
    /// let module = Module::new(store.engine(), r#"(module (memory (export "m") 1) (func (export "f")))"#)?;
    /// let instance = Instance::new(&mut store, &module, &[])?;
    /// let names: Vec<_> = instance.exports(&mut store).map(|export| export.name()).collect();
    /// assert_eq!(names, ["m", "f"]);
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn exports<'a, T: 'static>(
        &self,
        store: impl Into<StoreContextMut<'a, T>>,
    ) -> impl ExactSizeIterator<Item = Export<'a>> {
        let data: &'a InstanceData = self.data(&store.into().into_inner().opaque);
        // SAFETY: the store, which is borrowed, keeps the instance and its context; the indices are its module's.
        data.module.exports.iter().map(|e| Export::new(&e.name, unsafe { external(data.vmctx, e.index) }))
    }

    /// The exported function `name`; `None` if there is no such export or it is no function.
    pub fn get_func(&self, store: impl AsContextMut, name: &str) -> Option<Func> {
        self.get_export(store, name)?.into_func()
    }

    /// The exported memory `name`; `None` if there is no such export, or it is no memory or a shared one.
    pub fn get_memory(&self, store: impl AsContextMut, name: &str) -> Option<Memory> {
        self.get_export(store, name)?.into_memory()
    }

    /// The exported shared memory `name`; `None` if there is no such export or it is no shared memory.
    pub fn get_shared_memory(&self, store: impl AsContextMut, name: &str) -> Option<SharedMemory> {
        self.get_export(store, name)?.into_shared_memory()
    }

    /// The exported table `name`; `None` if there is no such export or it is no table.
    pub fn get_table(&self, store: impl AsContextMut, name: &str) -> Option<Table> {
        self.get_export(store, name)?.into_table()
    }

    /// The exported global `name`; `None` if there is no such export or it is no global.
    pub fn get_global(&self, store: impl AsContextMut, name: &str) -> Option<Global> {
        self.get_export(store, name)?.into_global()
    }

    /// The exported tag `name`; `None` if there is no such export or it is no tag.
    pub fn get_tag(&self, store: impl AsContextMut, name: &str) -> Option<Tag> {
        self.get_export(store, name)?.into_tag()
    }

    /// The exported function `name` with Rust types for parameters and results; see [`Func::typed`].
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if there is no such function or it has another type.
    pub fn get_typed_func<P: WasmParams, R: WasmResults>(
        &self,
        mut store: impl AsContextMut,
        name: &str,
    ) -> Result<TypedFunc<P, R>> {
        let func = self.get_func(store.as_context_mut(), name);
        func.ok_or_else(|| Error::usage(format!("no exported function {}", Printable::quoted(name))))?.typed(store)
    }

    /// A function of the instance by its index in the function index space, whether or not it is exported.
    pub(crate) fn func_by_index(&self, store: &mut StoreOpaque, index: u32) -> Option<Func> {
        let data = self.data(store);
        ((index as usize) < data.module.funcs.len()).then(|| {
            // SAFETY: the store, which is borrowed, keeps the instance and its context; the index was checked.
            unsafe { external(data.vmctx, ExternIndex::Func(index)) }.into_func().expect("a function")
        })
    }
}

impl<T> StoreInner<T> {
    fn instance_of(&self, instance: Instance) -> &InstanceData {
        instance.data(&self.opaque)
    }
}
