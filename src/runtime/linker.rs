//! Linkers, which resolve a module's imports by name.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use super::caller::Caller;
use super::engine::Engine;
use super::external::Extern;
use super::func::{Func, host_func_over_values};
use super::global::Global;
use super::import::check_import;
use super::instance::Instance;
use super::limits::DEFAULT_COUNT;
use super::memory::Memory;
use super::module::{ImportType, Module};
use super::shared_memory::SharedMemory;
use super::store::{AsContext, AsContextMut};
use super::table::Table;
use super::tag::Tag;
use super::typed::IntoFunc;
use super::value::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::module::Import;
use crate::module::types::{ExternType, FuncType};
use crate::printable::Printable;
use crate::vm::func::HostFunc;
use crate::vm::shared;
use crate::vm::store::StoreOpaque;

/// Definitions for imports, by module name and name, for stores with data `T`.
///
/// Host functions in a linker belong to no store, so one linker serves any number of stores. Objects of a store that are
/// defined in a linker, such as exports of an instance, can only be imported in that store.
///
/// ```
/// use wasmrun::{Engine, LinearMemory, Linker, Module, Store};
/// let engine = Engine::default();
/// let mut linker = Linker::new(&engine);
/// linker.func_wrap("host", "sum", |memory: &mut LinearMemory<'_>, at: u32, len: u32| {
///     Ok(memory.read_vec(at, len)?.iter().map(|byte| u32::from(*byte)).sum::<u32>())
/// })?;
/// let module = Module::new(&engine, r#"(module
///     (import "host" "sum" (func $sum (param i32 i32) (result i32)))
///     (memory 1) (data (i32.const 8) "\01\02\03")
///     (func (export "run") (result i32) (call $sum (i32.const 8) (i32.const 3))))"#)?;
/// let mut store = Store::new(&engine, ());
/// let instance = linker.instantiate(&mut store, &module)?;
/// assert_eq!(instance.get_typed_func::<(), u32>(&mut store, "run")?.call(&mut store, ())?, 6);
/// # Ok::<(), wasmrun::Error>(())
/// ```
///
/// The type of the data is fixed, even where Rust would convert between function types, because host functions read and
/// write the data:
///
/// ```compile_fail,E0308
/// use wasmrun::Linker;
/// fn widen(linker: Linker<fn(&'static str)>) -> Linker<for<'a> fn(&'a str)> {
///     linker
/// }
/// ```
pub struct Linker<T: 'static = ()> {
    allow_shadowing: bool,
    definitions: HashMap<Box<str>, HashMap<Box<str>, Definition>>,
    /// Makes the linker invariant in `T`, because host functions read and write the data.
    _data: PhantomData<fn(T) -> T>,
}

#[derive(Clone)]
enum Definition {
    Host(Arc<HostFunc>),
    Extern(Extern),
}

impl<T> Clone for Linker<T> {
    fn clone(&self) -> Self {
        Linker { allow_shadowing: self.allow_shadowing, definitions: self.definitions.clone(), _data: PhantomData }
    }
}

impl<T: 'static> Default for Linker<T> {
    fn default() -> Self {
        Linker { allow_shadowing: false, definitions: HashMap::new(), _data: PhantomData }
    }
}

impl<T> std::fmt::Debug for Linker<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.definitions.iter().flat_map(|(module, names)| names.keys().map(move |name| (module, name)));
        f.debug_set().entries(names).finish()
    }
}

impl<T: 'static> Linker<T> {
    /// A linker without definitions.
    ///
    /// The engine is not used, because a linker serves stores of any engine: the parameter makes the signature that of other
    /// runtimes with this API. [`Linker::default`] does without.
    pub fn new(_engine: &Engine) -> Self {
        Self::default()
    }

    /// Sets whether a definition may replace an earlier one of the same name. If not, which is the default, that is a
    /// [`Link`](ErrorKind::Link) error.
    pub fn allow_shadowing(&mut self, allow: bool) -> &mut Self {
        self.allow_shadowing = allow;
        self
    }

    /// Defines a host function.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if the name is taken.
    pub(super) fn insert_host(&mut self, module: &str, name: &str, host: HostFunc) -> Result<&mut Self> {
        self.insert(module, name, Definition::Host(Arc::new(host)))
    }

    fn insert(&mut self, module: &str, name: &str, definition: Definition) -> Result<&mut Self> {
        let names = match self.definitions.get_mut(module) {
            Some(names) => names,
            None => self.definitions.entry(module.into()).or_default(),
        };
        if names.contains_key(name) && !self.allow_shadowing {
            return Err(Error::new(ErrorKind::Link(format!("{} is defined already", import_name(module, name)))));
        }
        names.insert(name.into(), definition);
        Ok(self)
    }

    /// Defines a host function from a closure; the closure's Rust type gives the WebAssembly type, see [`IntoFunc`].
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if the name is taken.
    pub fn func_wrap<Params, Results>(
        &mut self,
        module: &str,
        name: &str,
        func: impl IntoFunc<T, Params, Results>,
    ) -> Result<&mut Self> {
        self.insert_host(module, name, func.into_host_func::<false>().0)
    }

    /// [`Linker::func_wrap`] for a function that may suspend the code that calls it ([`Caller::suspend_for`]).
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if the name is taken.
    pub(crate) fn func_wrap_suspending<Params, Results>(
        &mut self,
        module: &str,
        name: &str,
        func: impl IntoFunc<T, Params, Results>,
    ) -> Result<&mut Self> {
        self.insert_host(module, name, func.into_host_func::<true>().0)
    }

    /// Defines a host function of the given type that takes and returns [`Value`]s; see [`Func::new`].
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if the name is taken.
    pub fn func_new(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        func: impl Fn(Caller<'_, T>, &[Value], &mut [Value]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        self.insert_host(module, name, host_func_over_values(ty, func))
    }

    /// Defines an object of `store`; it can only be imported in that store.
    ///
    /// ```
    /// use wasmrun::{Global, GlobalType, Linker, Mutability, Store, ValType};
    /// let mut store = Store::<()>::default();
    /// let mut linker = Linker::new(store.engine());
    /// let ty = GlobalType::new(ValType::I32, Mutability::Const);
    /// let global = Global::new(&mut store, ty, 7.into())?;
    /// linker.define(&store, "host", "seven", global)?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if the name is taken; [`Usage`](ErrorKind::Usage) if the object is in another store.
    pub fn define(
        &mut self,
        store: impl AsContext<Data = T>,
        module: &str,
        name: &str,
        object: impl Into<Extern>,
    ) -> Result<&mut Self> {
        let object = object.into();
        if !object.belongs_to(&store.as_context().0.opaque) {
            return Err(Error::usage(format!("{} belongs to another store", import_name(module, name))));
        }
        self.insert(module, name, Definition::Extern(object))
    }

    /// Defines all exports of an instance under the module name `module`.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if a name is taken.
    pub fn instance(
        &mut self,
        mut store: impl AsContextMut<Data = T>,
        module: &str,
        instance: Instance,
    ) -> Result<&mut Self> {
        for export in instance.exports(store.as_context_mut()) {
            self.insert(module, export.name(), Definition::Extern(export.into_extern()))?;
        }
        Ok(self)
    }

    /// Defines the exports of a module under the module name `name`, with the definitions so far as its imports.
    ///
    /// If the module is a reactor, it is instantiated once, and its exported function `_initialize` is called if there is one. If
    /// it is a command, which exports a function `_start` and no `_initialize`, it is instantiated anew for each call of an
    /// exported function, and only its functions are defined; the instances live as long as the store. If that has 10,000 instances,
    /// or what its [limiter](crate::Store::limiter) allows, a further call fails with a [`Resource`](ErrorKind::Resource) error.
    ///
    /// ```
    /// use wasmrun::{Linker, Module, Store};
    /// let mut store = Store::<()>::default();
    /// let mut linker = Linker::new(store.engine());
    /// let module = Module::new(store.engine(), r#"(module (func (export "_start")))"#)?;
    /// linker.module(&mut store, "", &module)?;
    /// linker.get_default(&mut store, "")?.typed::<(), ()>(&store)?.call(&mut store, ())?;
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Linker::instantiate`], whatever ends `_initialize`, and [`Link`](ErrorKind::Link) if a name is taken.
    pub fn module(&mut self, mut store: impl AsContextMut<Data = T>, name: &str, module: &Module) -> Result<&mut Self> {
        if module.is_command() {
            let pre = Arc::new(self.instantiate_pre(module)?);
            for (export, ty) in module.exported_funcs() {
                let (pre, own_name) = (pre.clone(), export.to_string());
                self.func_new(name, export, ty, move |mut caller, args, results| {
                    admit_command(&caller)?;
                    let instance = pre.instantiate(&mut caller)?;
                    let func = instance.get_func(&mut caller, &own_name).expect("the module exports it");
                    func.call(caller, args, results)
                })?;
            }
            return Ok(self);
        }
        let instance = self.instantiate(store.as_context_mut(), module)?;
        if let Some(initialize) = instance.get_func(store.as_context_mut(), "_initialize") {
            initialize.call(store.as_context_mut(), &[], &mut [])?;
        }
        self.instance(store, name, instance)
    }

    /// Defines under another module name and name what is defined under `module` and `name`.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if nothing is defined there, or the new name is taken.
    pub fn alias(&mut self, module: &str, name: &str, as_module: &str, as_name: &str) -> Result<&mut Self> {
        let Some(definition) = self.lookup(module, name).cloned() else {
            return Err(Error::new(ErrorKind::Link(format!("{} is not defined", import_name(module, name)))));
        };
        self.insert(as_module, as_name, definition)
    }

    /// Copies all definitions of the module name `module` to the module name `as_module`.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if `module` has no definitions, or a name is taken.
    pub fn alias_module(&mut self, module: &str, as_module: &str) -> Result<&mut Self> {
        let Some(names) = self.definitions.get(module).cloned() else {
            return Err(nothing_under(module));
        };
        for (name, definition) in names {
            self.insert(as_module, &name, definition)?;
        }
        Ok(self)
    }

    fn lookup(&self, module: &str, name: &str) -> Option<&Definition> {
        self.definitions.get(module)?.get(name)
    }

    /// The object of a definition in a store; makes the store's reference to a host function.
    fn object(definition: &Definition, store: &mut StoreOpaque) -> Extern {
        match definition {
            Definition::Host(host) => Extern::Func(Func::from_host(store, host)),
            Definition::Extern(object) => object.clone(),
        }
    }

    /// The object that is defined under a name, for use in this store; `None` if there is no definition.
    pub fn get(&self, mut store: impl AsContextMut<Data = T>, module: &str, name: &str) -> Option<Extern> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        self.lookup(module, name).map(|definition| Self::object(definition, store))
    }

    /// The object that a module's import is resolved to, for use in this store; `None` if there is no definition.
    pub fn get_by_import(&self, store: impl AsContextMut<Data = T>, import: &ImportType<'_>) -> Option<Extern> {
        self.get(store, import.module(), import.name())
    }

    /// All definitions with their names, for use in this store, in no particular order.
    pub fn iter<'a: 'p, 'p>(
        &'a self,
        mut store: impl AsContextMut<Data = T> + 'p,
    ) -> impl Iterator<Item = (&'a str, &'a str, Extern)> + 'p {
        let all = self.definitions.iter().flat_map(|(module, names)| names.iter().map(move |it| (module, it)));
        all.map(move |(module, (name, definition))| {
            let store = &mut store.as_context_mut().into_inner().opaque;
            (&**module, &**name, Self::object(definition, store))
        })
    }

    /// What running the module `module` means: the function that is defined there under the empty name, or else `_start`; one
    /// that does nothing if neither is defined there.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if nothing is defined under `module`, or the definition is no function.
    pub fn get_default(&self, mut store: impl AsContextMut<Data = T>, module: &str) -> Result<Func> {
        if !self.definitions.contains_key(module) {
            return Err(nothing_under(module));
        }
        for name in ["", "_start"] {
            if let Some(object) = self.get(store.as_context_mut(), module, name) {
                let message = || Error::new(ErrorKind::Link(format!("{} is no function", import_name(module, name))));
                return object.into_func().ok_or_else(message);
            }
        }
        Ok(Func::wrap(store, || ()))
    }

    /// The imports of `module` without a definition: module name, name, type.
    fn missing<'m>(&self, module: &'m Module) -> impl Iterator<Item = (&'m str, &'m str, &'m ExternType)> {
        let imports = module.0.facts.imports.iter();
        imports.filter(|i| self.lookup(&i.module, &i.name).is_none()).map(|i| (&*i.module, &*i.name, &i.ty))
    }

    /// Looks a module's imports up by name, once for any number of instances.
    ///
    /// See [`wasi::add_to_linker`](crate::wasi::add_to_linker) for an example.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) with all imports that are missing, or the first host function that does not fit. Objects of a
    /// store are checked when the module is instantiated in that.
    pub fn instantiate_pre(&self, module: &Module) -> Result<InstancePre<T>> {
        let mut imports = Vec::with_capacity(module.0.facts.imports.len());
        for import in &module.0.facts.imports {
            let Some(definition) = self.lookup(&import.module, &import.name) else {
                return Err(self.unresolved(module));
            };
            if let Definition::Host(host) = definition
                && !matches!(&import.ty, ExternType::Func(ty) if *ty == host.ty)
            {
                let (wanted, import) = (&import.ty, import_name(&import.module, &import.name));
                let got = ExternType::Func(host.ty.clone());
                let message = format!("incompatible import type for {import}: expected {wanted}, got {got}");
                return Err(Error::new(ErrorKind::Link(message)));
            }
            imports.push(definition.clone());
        }
        Ok(InstancePre { module: module.clone(), imports, _data: PhantomData })
    }

    /// Instantiates a module, its imports looked up by name.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link), naming the imports that are not defined (up to 100), or the first that has the wrong type;
    /// otherwise those of [`Instance::new`].
    pub fn instantiate(&self, mut store: impl AsContextMut<Data = T>, module: &Module) -> Result<Instance> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let imports = self.resolve(store, module)?;
        // SAFETY: the store is borrowed exclusively, and the reference is not used after its own pointer was taken. The module
        // is of the store's engine, and all imports were checked.
        unsafe { Instance::instantiate_unsuspended(store.as_ptr(), module, &imports) }
    }

    /// The imports of a module for an instance in a store, checked.
    ///
    /// # Errors
    /// Those of [`Linker::instantiate`] before there is an instance.
    pub(super) fn resolve(&self, store: &mut StoreOpaque, module: &Module) -> Result<Vec<Extern>> {
        if !module.0.engine.owns(store) {
            return Err(Error::usage("the module belongs to another engine than the store"));
        }
        let mut imports = Vec::with_capacity(module.0.facts.imports.len());
        for import in &module.0.facts.imports {
            let Some(definition) = self.lookup(&import.module, &import.name) else {
                return Err(self.unresolved(module));
            };
            let object = Self::object(definition, store);
            check_object(store, import, &object)?;
            imports.push(object);
        }
        Ok(imports)
    }

    /// The error that lists the imports of `module` without a definition.
    fn unresolved(&self, module: &Module) -> Error {
        let missing: Vec<_> = self.missing(module).collect();
        let mut message = format!("unknown import{}:", if missing.len() == 1 { "" } else { "s" });
        for (module, name, ty) in missing.iter().take(MAX_LISTED) {
            message.push_str(&format!("\n  {} {ty}", import_name(module, name)));
        }
        if missing.len() > MAX_LISTED {
            message.push_str(&format!("\n  and {} more", missing.len() - MAX_LISTED));
        }
        Error::new(ErrorKind::Link(message))
    }

    /// Defines each function import of `module` that is not defined yet as a function that fails when it is called, with a
    /// [`Host`](ErrorKind::Host) error that names the import.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if an import that is not a function is missing.
    pub fn define_unknown_imports_as_traps(&mut self, module: &Module) -> Result<()> {
        self.define_unknown(module, |import, name, _| {
            let message = format!("call of unknown import {}", import_name(import, name));
            move |_: &mut [Value]| Err(Error::host(message.clone()))
        })
    }

    /// Defines each import of `module` that is not defined yet: functions that return zeros and nulls, and memories, tables,
    /// globals and tags of `store` with the import's minimal size, zeros and nulls.
    ///
    /// # Errors
    /// Those of [`Memory::new`], [`Table::new`] and [`Global::new`]; [`Link`](ErrorKind::Link) for a table or global of
    /// references that are not null.
    pub fn define_unknown_imports_as_default_values(
        &mut self,
        mut store: impl AsContextMut<Data = T>,
        module: &Module,
    ) -> Result<()> {
        let missing: Vec<_> = self.missing(module).filter(|(_, _, ty)| ty.func().is_none()).collect();
        for (import, name, ty) in missing {
            if self.lookup(import, name).is_some() {
                continue;
            }
            let no_default = || {
                let import = import_name(import, name);
                Error::new(ErrorKind::Link(format!("{import} has a type without a default value: {ty}")))
            };
            let object: Extern = match ty {
                ExternType::Memory(ty) if ty.is_shared() => {
                    let engine = &store.as_context().0.opaque.engine;
                    SharedMemory(shared::SharedMemory::new(*ty, engine)?).into()
                }
                ExternType::Memory(ty) => Memory::new(store.as_context_mut(), *ty)?.into(),
                ExternType::Table(ty) => {
                    let null = Value::default_for_ty(&ty.element().clone().into()).and_then(Value::ref_);
                    Table::new(store.as_context_mut(), ty.clone(), null.ok_or_else(no_default)?)?.into()
                }
                ExternType::Global(ty) => {
                    let zero = ty.content().default_value().ok_or_else(no_default)?;
                    Global::new(store.as_context_mut(), ty.clone(), zero)?.into()
                }
                ExternType::Tag(ty) => Tag::new(store.as_context_mut(), ty)?.into(),
                ExternType::Func(_) => unreachable!("filtered out"),
            };
            self.insert(import, name, Definition::Extern(object))?;
        }
        self.define_unknown(module, |_, _, ty| {
            let zeros: Vec<Value> = ty.results().iter().map(Value::default_for).collect();
            move |results: &mut [Value]| {
                results.clone_from_slice(&zeros);
                Ok(())
            }
        })
    }

    /// Defines each function import of `module` that is not defined yet as the function that `make` gives for module name, name
    /// and type.
    fn define_unknown<F>(&mut self, module: &Module, make: impl Fn(&str, &str, &FuncType) -> F) -> Result<()>
    where
        F: Fn(&mut [Value]) -> Result<()> + Send + Sync + 'static,
    {
        let missing: Vec<_> = self.missing(module).collect();
        if missing.iter().any(|(_, _, ty)| !matches!(ty, ExternType::Func(_))) {
            return Err(self.unresolved(module));
        }
        for (import, name, ty) in missing {
            let ExternType::Func(ty) = ty else { unreachable!("checked above") };
            // A module may import the same name twice, even with different types; the first one is defined.
            if self.lookup(import, name).is_none() {
                let body = make(import, name, ty);
                self.func_new(import, name, ty.clone(), move |_, _, results| body(results))?;
            }
        }
        Ok(())
    }
}

/// A module with its imports looked up, from which instances are made; see [`Linker::instantiate_pre`].
pub struct InstancePre<T: 'static> {
    module: Module,
    /// In the order of the module's imports; host functions are of the types wanted.
    imports: Vec<Definition>,
    /// Invariant, as for [`Linker`].
    _data: PhantomData<fn(T) -> T>,
}

impl<T> Clone for InstancePre<T> {
    fn clone(&self) -> Self {
        InstancePre { module: self.module.clone(), imports: self.imports.clone(), _data: PhantomData }
    }
}

impl<T> std::fmt::Debug for InstancePre<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstancePre").field("module", &self.module).finish_non_exhaustive()
    }
}

impl<T: 'static> InstancePre<T> {
    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Makes an instance, and runs the module's start function.
    ///
    /// # Errors
    /// [`Link`](ErrorKind::Link) if an object of the store does not fit, and those of [`Instance::new`].
    pub fn instantiate(&self, mut store: impl AsContextMut<Data = T>) -> Result<Instance> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let imports = self.resolve(store)?;
        // SAFETY: the store's own pointer; the reference to it is not used any more.
        unsafe { Instance::instantiate_unsuspended(store.as_ptr(), &self.module, &imports) }
    }

    /// The imports for an instance in a store, checked.
    ///
    /// # Errors
    /// Those of [`InstancePre::instantiate`] before there is an instance.
    pub(super) fn resolve(&self, store: &mut StoreOpaque) -> Result<Vec<Extern>> {
        if !self.module.0.engine.owns(store) {
            return Err(Error::usage("the module belongs to another engine than the store"));
        }
        let mut imports = Vec::with_capacity(self.imports.len());
        for (import, definition) in self.module.0.facts.imports.iter().zip(&self.imports) {
            let object = Linker::<T>::object(definition, store);
            if let Definition::Extern(_) = definition {
                check_object(store, import, &object)?;
            }
            imports.push(object);
        }
        Ok(imports)
    }
}

/// Checks that a command may have one more instance. Guests decide how many it gets, so there is an end to them without a limiter
/// too.
///
/// # Errors
/// [`Resource`](ErrorKind::Resource) if it may not.
pub(super) fn admit_command(store: impl AsContext) -> Result<()> {
    let store = &store.as_context().0.opaque;
    if store.limiter.is_none() && store.instances.len() >= DEFAULT_COUNT {
        return Err(Error::resource(format!(
            "the store has {DEFAULT_COUNT} instances: for a call of a command to make more, it needs a limiter that allows them"
        )));
    }
    Ok(())
}

/// Checks that an object can be imported into a store.
fn check_object(store: &StoreOpaque, import: &Import, object: &Extern) -> Result<()> {
    if !object.belongs_to(store) {
        let message = format!("{} belongs to another store", import_name(&import.module, &import.name));
        return Err(Error::usage(message));
    }
    check_import(store, &import.ty, object).map_err(|message| {
        let import = import_name(&import.module, &import.name);
        Error::new(ErrorKind::Link(format!("incompatible import type for {import}: {message}")))
    })
}

fn nothing_under(module: &str) -> Error {
    Error::new(ErrorKind::Link(format!("nothing is defined under {}", Printable::quoted(module))))
}

/// Missing imports that an error lists.
const MAX_LISTED: usize = 100;

/// The quoted names of an import, for messages.
pub(super) fn import_name(module: &str, name: &str) -> String {
    format!("{} {}", Printable::quoted(module), Printable::quoted(name))
}
