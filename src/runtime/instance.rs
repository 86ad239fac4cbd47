//! Instances: a module's code with the memories, tables and globals it acts on.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::external::Extern;
use super::func::{Func, invoke};
use super::global::{Global, GlobalData};
use super::linker::both;
use super::memory::{Memory, MemoryData};
use super::store::{AsContext, AsContextMut, Shared, StoreOpaque, Stored};
use super::table::{Table, TableData};
use super::typed::{TypedFunc, WasmParams, WasmResults};
use crate::error::{Error, ErrorKind, Result};
use crate::module::types::ExternType;
use crate::module::{ConstExpr, ConstOp, ElementItems, ExternIndex, Module, ModuleInner, SegmentMode};
use crate::printable::Printable;
use crate::vm::context::{Place, VMContext, VMFuncRef, VMGlobal, VMMemory, VMOffsets, VMTable, VMTag};
use crate::vm::exception::tag::Tag;
use crate::vm::libcalls;
use crate::vm::ops;

/// The Rust side of an instance.
pub(crate) struct InstanceData {
    pub module: Module,
    pub store: *mut StoreOpaque,
    /// The context with its arrays, of the layout that `module` computes.
    pub vmctx: *mut VMContext,
    /// What the index spaces refer to, imported items first.
    memories: Vec<Stored>,
    tables: Vec<Stored>,
    globals: Vec<Stored>,
    tags: Vec<Stored>,
    /// The memory that host functions see: export `memory`, or else memory 0. Null if there is none.
    pub host_memory: *mut VMMemory,
    /// Values of the element segments that are made of expressions.
    pub element_values: Vec<Option<Box<[u64]>>>,
    pub dropped_elements: Vec<bool>,
    pub dropped_data: Vec<bool>,
}

impl Drop for InstanceData {
    fn drop(&mut self) {
        // SAFETY: allocated in `InstanceData::new` with this layout; contexts live as long as their instance.
        unsafe { dealloc(self.vmctx.cast(), context_layout(&self.module.0)) };
    }
}

fn context_layout(module: &ModuleInner) -> Layout {
    Layout::from_size_align(module.offsets.size(), align_of::<VMContext>()).expect("offsets fit i32")
}

/// The object at a place of a context.
///
/// # Safety
/// `vmctx` must be a live context of the module the place is of, and `T` what is there.
#[inline]
pub(crate) unsafe fn resolve<T>(vmctx: *mut VMContext, place: Place) -> *mut T {
    // SAFETY: offsets lie in the context by construction.
    unsafe {
        match place {
            Place::Inline(offset) => vmctx.byte_offset(offset as isize).cast(),
            Place::Pointer(offset) => *vmctx.byte_offset(offset as isize).cast::<*mut T>(),
        }
    }
}

/// The reference to a function of an instance, by its index in the function index space; made when first asked for.
///
/// # Safety
/// `vmctx` must be live and `func` in its module's index space.
pub(crate) unsafe fn func_ref(vmctx: *mut VMContext, func: u32) -> *mut VMFuncRef {
    // SAFETY: the caller's promise; contexts start zeroed, so a reference without owner has not been made yet.
    unsafe {
        let module = &(*(*vmctx).instance).module.0;
        let Some(defined) = func.checked_sub(module.imported_funcs()) else {
            return resolve(vmctx, Place::Pointer(module.offsets.imported_func(func)));
        };
        let place = resolve::<VMFuncRef>(vmctx, Place::Inline(module.offsets.func_ref(defined)));
        if (*place).owner.is_null() {
            place.write(VMFuncRef {
                code: crate::jit::ref_entry(module.engine.config().strategy, module.func_type(func)),
                callee: place.cast(),
                owner: vmctx.cast(),
                sig: module.sig(module.funcs[func as usize]),
                index: defined,
            });
        }
        place
    }
}

/// The slots of a constant expression's value.
///
/// # Safety
/// `vmctx` must be live, the expression of its module, and the globals it reads in the context.
unsafe fn evaluate(vmctx: *mut VMContext, module: &ModuleInner, expr: &ConstExpr) -> [u64; 2] {
    // Modules have tens of thousands of these, and others hardly any.
    if let [ConstOp::Slot(slot)] = expr.0[..] {
        return [slot, 0];
    }
    let mut stack: Vec<[u64; 2]> = Vec::with_capacity(2);
    for op in &expr.0 {
        let mut binary = |op: fn(u64, u64) -> u64| {
            let (b, a) = (stack.pop(), stack.pop());
            let (Some([b, _]), Some([a, _])) = (b, a) else { unreachable!("constant expressions are validated") };
            [op(a, b), 0]
        };
        let value = match *op {
            ConstOp::Slot(slot) => [slot, 0],
            ConstOp::V128(value) => [value as u64, (value >> 64) as u64],
            ConstOp::RefNull => [0, 0],
            // SAFETY: a validated index and a live context.
            ConstOp::RefFunc(func) => [unsafe { func_ref(vmctx, func) } as u64, 0],
            ConstOp::GlobalGet(global) => {
                // SAFETY: the caller's promise.
                unsafe { (*resolve::<VMGlobal>(vmctx, module.offsets.global(global))).slots }
            }
            ConstOp::I32Add => binary(|a, b| (a as u32).wrapping_add(b as u32) as u64),
            ConstOp::I32Sub => binary(|a, b| (a as u32).wrapping_sub(b as u32) as u64),
            ConstOp::I32Mul => binary(|a, b| (a as u32).wrapping_mul(b as u32) as u64),
            ConstOp::I64Add => binary(u64::wrapping_add),
            ConstOp::I64Sub => binary(u64::wrapping_sub),
            ConstOp::I64Mul => binary(u64::wrapping_mul),
        };
        stack.push(value);
    }
    stack.pop().expect("constant expressions are validated")
}

/// Copies the active segments, in the order the specification gives, and drops them.
///
/// # Safety
/// `vmctx` must be live and complete, and no reference into its instance held.
unsafe fn initialize(vmctx: *mut VMContext, module: &ModuleInner) -> Result<()> {
    // SAFETY: the caller's promise; indices are the module's own.
    unsafe {
        for (segment, index) in module.elements.iter().zip(0..) {
            if let SegmentMode::Active { index: table, offset } = &segment.mode {
                let offset = evaluate(vmctx, module, offset)[0] as u32;
                ops::table_init(vmctx, *table, index, offset.into(), 0, ops::element_count(segment))?;
            }
            if !matches!(segment.mode, SegmentMode::Passive) {
                ops::elem_drop(vmctx, index);
            }
        }
        let memory = || {
            let store = &mut *(*vmctx).store.cast::<StoreOpaque>();
            let index = (*(*vmctx).instance).memory(0).index(store);
            &mut store.memories[index]
        };
        let image = module.image.get();
        if let Some(image) = image {
            memory().map(image)?;
        }
        for (segment, index) in module.data.iter().zip(0..) {
            if let SegmentMode::Active { index: memory, offset } = &segment.mode {
                if image.is_none() {
                    let offset = evaluate(vmctx, module, offset)[0] as u32;
                    ops::memory_init(vmctx, *memory, index, offset.into(), 0, segment.bytes.len() as u32)?;
                }
                ops::data_drop(vmctx, index);
            }
        }
        if let Some(range) = module.image.wanted(module) {
            module.image.make(&memory().bytes()[range.clone()], range.start);
        }
    }
    Ok(())
}

impl InstanceData {
    /// Makes the context and puts the imports into it. What the module defines comes next.
    fn new(store: &mut StoreOpaque, module: &Module, imports: &[Extern]) -> Shared<Self> {
        let inner = &module.0;
        let layout = context_layout(inner);
        // SAFETY: the layout is never empty, the header has a size.
        let vmctx = unsafe { alloc_zeroed(layout) }.cast::<VMContext>();
        if vmctx.is_null() {
            handle_alloc_error(layout);
        }
        let mut this = InstanceData {
            module: module.clone(),
            store: store.as_ptr(),
            vmctx,
            memories: Vec::with_capacity(inner.memories.len()),
            tables: Vec::with_capacity(inner.tables.len()),
            globals: Vec::with_capacity(inner.globals.len()),
            tags: Vec::with_capacity(inner.tags.len()),
            host_memory: std::ptr::null_mut(),
            element_values: Vec::new(),
            dropped_elements: vec![false; inner.elements.len()],
            dropped_data: vec![false; inner.data.len()],
        };
        let header = VMContext {
            store: store.as_ptr().cast(),
            entries: inner.jit.entries(),
            tiers: inner.jit.tiers(),
            heat: inner.jit.heat(),
            libcalls: libcalls::table(),
            instance: std::ptr::null_mut(),
        };
        // SAFETY: freshly allocated for this layout; the pointers written are those of live objects of the store.
        unsafe {
            vmctx.write(header);
            for (ty, sig) in inner.sigs.iter().enumerate() {
                vmctx.byte_offset(inner.offsets.sig(ty as u32) as isize).cast::<u32>().write(sig.number());
            }
            let mut funcs = 0;
            for import in imports {
                match import {
                    Extern::Func(func) => {
                        let place = vmctx.byte_offset(inner.offsets.imported_func(funcs) as isize);
                        place.cast::<*mut VMFuncRef>().write(func.func_ref(store).as_ptr());
                        funcs += 1;
                    }
                    Extern::Memory(memory) => {
                        let vm = store.memories[memory.0.index(store)].vm;
                        this.import_object(inner.offsets.memory(this.memories.len() as u32), vm);
                        this.memories.push(memory.0);
                    }
                    Extern::Table(table) => {
                        let vm = store.tables[table.0.index(store)].vm;
                        this.import_object(inner.offsets.table(this.tables.len() as u32), vm);
                        this.tables.push(table.0);
                    }
                    Extern::Global(global) => {
                        let vm = store.globals[global.0.index(store)].vm;
                        this.import_object(inner.offsets.global(this.globals.len() as u32), vm);
                        this.globals.push(global.0);
                    }
                    Extern::Tag(tag) => this.push_tag(tag.0, store),
                }
            }
            let this = Shared::new(this);
            (*vmctx).instance = this.as_ptr();
            this
        }
    }

    /// Puts the next tag of the index space into the context.
    ///
    /// # Safety
    /// The context must be live.
    unsafe fn push_tag(&mut self, tag: Stored, store: &StoreOpaque) {
        let offset = self.module.0.offsets.tag(self.tags.len() as u32);
        let address: *const VMTag = &raw const *store.tags[tag.index(store)];
        // SAFETY: the context has a pointer for each tag; boxed tags live as long as the store.
        unsafe { self.vmctx.byte_offset(offset as isize).cast::<*const VMTag>().write(address) };
        self.tags.push(tag);
    }

    /// # Safety
    /// The place must be of this context and for pointers to `T`.
    unsafe fn import_object<T>(&mut self, place: Place, object: *mut T) {
        let Place::Pointer(offset) = place else { unreachable!("imports come first in their index space") };
        // SAFETY: the caller's promise.
        unsafe { self.vmctx.byte_offset(offset as isize).cast::<*mut T>().write(object) };
    }

    /// Makes the memories, tables and globals that the module defines.
    ///
    /// # Safety
    /// The instance must be live and of the store. It is reached by its context too, so no reference is held.
    unsafe fn define(this: *mut Self, store: &mut StoreOpaque) -> Result<()> {
        // SAFETY: the caller's promise. Each reference is gone before the next is made.
        let (module, vmctx) = unsafe { ((*this).module.clone(), (*this).vmctx) };
        let this = || unsafe { &mut *this };
        let inner = &module.0;
        let engine = store.engine().clone();
        for index in this().memories.len()..inner.memories.len() {
            // SAFETY: the place is the context's own, which lives as long as the store.
            let memory = unsafe {
                let place = resolve::<VMMemory>(vmctx, inner.offsets.memory(index as u32));
                MemoryData::new(Some(place), inner.memories[index], &engine)?
            };
            this().memories.push(store.add_memory(memory));
        }
        for index in this().tags.len()..inner.tags.len() {
            let ty = &inner.types[inner.tags[index] as usize];
            let tag = store.add_tag(ty, Some((inner.clone(), index as u32)));
            // SAFETY: the context is ours.
            unsafe { this().push_tag(tag, store) };
        }
        for index in this().globals.len()..inner.globals.len() {
            let init = &inner.global_inits[index - inner.offsets.imported_globals as usize];
            // SAFETY: as above; the initial value is of the global's type by validation.
            let global = unsafe {
                let place = resolve::<VMGlobal>(vmctx, inner.offsets.global(index as u32));
                place.write(VMGlobal { slots: evaluate(vmctx, inner, init) });
                GlobalData::in_context(place, inner.globals[index].clone())
            };
            this().globals.push(store.add_global(global));
        }
        for index in this().tables.len()..inner.tables.len() {
            let init = &inner.table_inits[index - inner.offsets.imported_tables as usize];
            // SAFETY: as above.
            let table = unsafe {
                let init = init.as_ref().map_or(0, |init| evaluate(vmctx, inner, init)[0]);
                let place = resolve::<VMTable>(vmctx, inner.offsets.table(index as u32));
                TableData::new(Some(place), inner.tables[index].clone(), init)?
            };
            this().tables.push(store.add_table(table));
        }
        for segment in &inner.elements {
            let values = match &segment.items {
                ElementItems::Funcs(_) => None,
                // SAFETY: the context has all globals by now.
                ElementItems::Exprs(exprs) => {
                    Some(exprs.iter().map(|e| unsafe { evaluate(vmctx, inner, e)[0] }).collect())
                }
            };
            this().element_values.push(values);
        }
        let exported = inner.export_index.get("memory").map(|at| inner.exports[*at as usize].index);
        let memory = match exported {
            Some(ExternIndex::Memory(index)) => Some(index),
            _ => (!this().memories.is_empty()).then_some(0),
        };
        if let Some(index) = memory {
            this().host_memory = store.memories[this().memories[index as usize].index(store)].vm;
        }
        Ok(())
    }

    /// Where things are in a context.
    ///
    /// # Safety
    /// `vmctx` must be live for `'a`.
    pub unsafe fn offsets<'a>(vmctx: *mut VMContext) -> &'a VMOffsets {
        // SAFETY: the caller's promise; instances keep their module.
        unsafe { &(&(*(*vmctx).instance)).module.0.offsets }
    }

    /// The memory of an index of the memory index space.
    pub fn memory(&self, index: u32) -> Stored {
        self.memories[index as usize]
    }

    /// The table of an index of the table index space.
    pub fn table(&self, index: u32) -> Stored {
        self.tables[index as usize]
    }

    /// An item of the instance's index spaces as an object.
    ///
    /// # Safety
    /// `vmctx` must be live and the index in its module's index space.
    pub unsafe fn external(vmctx: *mut VMContext, index: ExternIndex) -> Extern {
        // SAFETY: the caller's promise.
        unsafe {
            let this = &*(*vmctx).instance;
            match index {
                ExternIndex::Func(index) => {
                    let func = func_ref(vmctx, index) as u64;
                    Extern::Func(Func::from_slot(func, &*this.store).expect("functions are not null"))
                }
                ExternIndex::Memory(index) => Extern::Memory(Memory(this.memory(index))),
                ExternIndex::Table(index) => Extern::Table(Table(this.table(index))),
                ExternIndex::Global(index) => Extern::Global(Global(this.globals[index as usize])),
                ExternIndex::Tag(index) => Extern::Tag(Tag(this.tags[index as usize])),
            }
        }
    }
}

/// An instance of a module in a store (specification, section 4.2.5).
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
    /// [`Link`](ErrorKind::Link) if imports do not fit, [`Resource`](ErrorKind::Resource) if memory is short, a trap if
    /// a segment does not fit or the start function traps. As the specification has it, segments that were copied
    /// before the trap stay.
    pub fn new(mut store: impl AsContextMut, module: &Module, imports: &[Extern]) -> Result<Self> {
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        // SAFETY: the store's own pointer, which is borrowed; the imports are checked first.
        unsafe {
            Self::check_imports(&*store, module, imports)?;
            Self::instantiate(store, module, imports)
        }
    }

    /// Instantiates with imports that are known to fit.
    ///
    /// # Safety
    /// `store` must be the own pointer of a store that nobody refers to, as code runs in it.
    pub(crate) unsafe fn instantiate(store: *mut StoreOpaque, module: &Module, imports: &[Extern]) -> Result<Self> {
        // SAFETY: the caller's promise; the context is complete when it is initialised, and nothing borrows the instance.
        let (vmctx, handle) = unsafe {
            let data = InstanceData::new(&mut *store, module, imports);
            // Objects that were made refer to the context, so it is kept from here on, whatever happens.
            let defined = InstanceData::define(data.as_ptr(), &mut *store);
            let vmctx = data.vmctx;
            let instances = &mut (*store).instances;
            instances.push(data);
            let handle = Instance(Stored::new(&*store, (*store).instances.len() - 1));
            defined?;
            initialize(vmctx, &module.0)?;
            (vmctx, handle)
        };
        if let Some(start) = module.0.start {
            // SAFETY: the context is complete; start functions take and return nothing.
            unsafe {
                let func = NonNull::new_unchecked(func_ref(vmctx, start));
                invoke(store, func, std::ptr::NonNull::<u64>::dangling().as_ptr())?;
            }
        }
        Ok(handle)
    }

    fn check_imports(store: &StoreOpaque, module: &Module, imports: &[Extern]) -> Result<()> {
        let wanted = &module.0.imports;
        if !module.0.engine.same(store.engine()) {
            return Err(Error::usage("the module is of another engine than the store"));
        }
        if wanted.len() != imports.len() {
            let message = format!("the module has {} import(s), got {}", wanted.len(), imports.len());
            return Err(Error::usage(message));
        }
        for (want, got) in wanted.iter().zip(imports) {
            if !got.belongs_to(store) {
                return Err(Error::usage("import of another store than the instance's"));
            }
            check_import(store, &want.ty, got).map_err(|message| {
                let import = both(&want.module, &want.name);
                Error::new(ErrorKind::Link(format!("incompatible import type for {import}: {message}")))
            })?;
        }
        Ok(())
    }

    fn data(self, store: &StoreOpaque) -> &InstanceData {
        &store.instances[self.0.index(store)]
    }

    /// The module it is an instance of.
    pub fn module<'a>(&self, store: &'a impl AsContext) -> &'a Module {
        &store.as_context().0.instance_of(*self).module
    }

    /// The export of this name.
    pub fn get_export(&self, mut store: impl AsContextMut, name: &str) -> Option<Extern> {
        let data = self.data(&store.as_context_mut().into_inner().opaque);
        let module = &data.module.0;
        let index = module.exports[*module.export_index.get(name)? as usize].index;
        // SAFETY: the instance is live with its store.
        Some(unsafe { InstanceData::external(data.vmctx, index) })
    }

    /// All exports, in the order of the module.
    pub fn exports(&self, mut store: impl AsContextMut) -> Vec<(String, Extern)> {
        let data = self.data(&store.as_context_mut().into_inner().opaque);
        let exports = data.module.0.exports.iter();
        // SAFETY: the instance is live with its store.
        exports.map(|e| (e.name.to_string(), unsafe { InstanceData::external(data.vmctx, e.index) })).collect()
    }

    /// The exported function of this name.
    pub fn get_func(&self, store: impl AsContextMut, name: &str) -> Option<Func> {
        self.get_export(store, name)?.into_func()
    }

    /// The exported memory of this name.
    pub fn get_memory(&self, store: impl AsContextMut, name: &str) -> Option<Memory> {
        self.get_export(store, name)?.into_memory()
    }

    /// The exported table of this name.
    pub fn get_table(&self, store: impl AsContextMut, name: &str) -> Option<Table> {
        self.get_export(store, name)?.into_table()
    }

    /// The exported global of this name.
    pub fn get_global(&self, store: impl AsContextMut, name: &str) -> Option<Global> {
        self.get_export(store, name)?.into_global()
    }

    /// The exported function of this name, with its type known to Rust.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if there is none or it has another type.
    pub fn get_typed_func<P: WasmParams, R: WasmResults>(
        &self,
        mut store: impl AsContextMut,
        name: &str,
    ) -> Result<TypedFunc<P, R>> {
        let func = self.get_func(store.as_context_mut(), name);
        func.ok_or_else(|| Error::usage(format!("no exported function {}", Printable::quoted(name))))?.typed(store)
    }

    /// A function of the instance by its index in the function index space, exported or not.
    pub(crate) fn func_by_index(&self, store: &mut StoreOpaque, index: u32) -> Option<Func> {
        let data = self.data(store);
        ((index as usize) < data.module.0.funcs.len()).then(|| {
            // SAFETY: the instance is live with its store, the index was checked.
            unsafe { InstanceData::external(data.vmctx, ExternIndex::Func(index)) }.into_func().expect("a function")
        })
    }
}

impl<T> super::store::StoreInner<T> {
    fn instance_of(&self, instance: Instance) -> &InstanceData {
        instance.data(&self.opaque)
    }
}

/// Checks that an object fits an import (specification, section 3.4.17, "import matching"); says why not.
pub(crate) fn check_import(store: &StoreOpaque, want: &ExternType, got: &Extern) -> Result<(), String> {
    let mismatch = |got: ExternType| Err(format!("expected {want}, got {got}"));
    match (want, got) {
        (ExternType::Func(want), Extern::Func(func)) => {
            let got = store.engine().sig_type(func.sig(store));
            if *got == *want { Ok(()) } else { mismatch(ExternType::Func((*got).clone())) }
        }
        (ExternType::Memory(want), Extern::Memory(memory)) => {
            let data = &store.memories[memory.0.index(store)];
            let got = data.ty.with_minimum(data.pages());
            if got.matches(want) { Ok(()) } else { mismatch(ExternType::Memory(got)) }
        }
        (ExternType::Table(want), Extern::Table(table)) => {
            let data = &store.tables[table.0.index(store)];
            let got = data.ty.with_minimum(data.len());
            if got.matches(want) { Ok(()) } else { mismatch(ExternType::Table(got)) }
        }
        (ExternType::Global(want), Extern::Global(global)) => {
            let got = &store.globals[global.0.index(store)].ty;
            // What can be set through one must be what the other reads.
            let fits = got.mutability == want.mutability
                && if got.is_mutable() { got.content == want.content } else { got.content.matches(&want.content) };
            if fits { Ok(()) } else { mismatch(ExternType::Global(got.clone())) }
        }
        (ExternType::Tag(want), Extern::Tag(tag)) => {
            let got = store.engine().sig_type(store.tags[tag.0.index(store)].sig.number());
            if *got == *want { Ok(()) } else { mismatch(ExternType::Tag((*got).clone())) }
        }
        (_, Extern::Tag(tag)) => {
            let got = store.engine().sig_type(store.tags[tag.0.index(store)].sig.number());
            mismatch(ExternType::Tag((*got).clone()))
        }
        (_, Extern::Func(func)) => mismatch(ExternType::Func((*store.engine().sig_type(func.sig(store))).clone())),
        (_, Extern::Memory(memory)) => mismatch(ExternType::Memory(store.memories[memory.0.index(store)].ty)),
        (_, Extern::Table(table)) => mismatch(ExternType::Table(store.tables[table.0.index(store)].ty.clone())),
        (_, Extern::Global(global)) => mismatch(ExternType::Global(store.globals[global.0.index(store)].ty.clone())),
    }
}
