//! Instantiation (specification, section 4.5.4): makes the context and the objects that a module defines, and copies its
//! active segments.

use std::alloc::{alloc_zeroed, handle_alloc_error};
use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8};

use super::const_expr::{evaluate, evaluate_all};
use super::context::{VMCode, VMContext, VMFuncRef, VMGlobal, VMMemory, VMTable, VMTag};
use super::global::GlobalData;
use super::image::MemoryImage;
use super::instance::{HostMemory, InstanceData, context_layout, resolve};
use super::limits::{self, LimitedResource};
use super::memory::{self, MemoryData};
use super::ops::Payer;
use super::shared::SharedMemory;
use super::store::{AliasableBox, StoreOpaque, Stored};
use super::table::{self, TableData};
use super::{gc, libcalls, ops};
use crate::error::Result;
use crate::module::offsets::Location;
use crate::module::{ElementItems, ExternIndex, ModuleFacts, SegmentMode};
use crate::sys::Image;

/// Everything about a module that an instance of it needs: its facts, and the engines' data for it.
pub(crate) struct ModuleRuntimeInfo<'a> {
    pub facts: &'a Arc<ModuleFacts>,
    /// Keeps everything that the pointers below point to; the instance takes it.
    pub owner: Box<dyn Any + Send + Sync>,
    // The values of the fields of `VMContext` with the same names.
    pub entries: *const AtomicPtr<VMCode>,
    pub tiers: *const AtomicU8,
    pub interp: *const (),
    pub jit: *const (),
}

/// An object of the store that an instance imports.
#[derive(Clone, Copy)]
pub(crate) enum ImportedObject {
    Func(NonNull<VMFuncRef>),
    Memory(Stored),
    Table(Stored),
    Global(Stored),
    Tag(Stored),
}

impl InstanceData {
    /// Makes the context and puts the imports into it. [`InstanceData::define`] must be called next.
    pub fn new(store: &mut StoreOpaque, code: ModuleRuntimeInfo<'_>, imports: &[ImportedObject]) -> AliasableBox<Self> {
        let inner = code.facts;
        let layout = context_layout(inner);
        // SAFETY: the layout is never empty, the header has a size.
        let vmctx = unsafe { alloc_zeroed(layout) }.cast::<VMContext>();
        if vmctx.is_null() {
            handle_alloc_error(layout);
        }
        let mut this = InstanceData {
            module: inner.clone(),
            owner: code.owner,
            store: store.as_ptr(),
            vmctx,
            memories: Vec::with_capacity(inner.memories.len()),
            tables: Vec::with_capacity(inner.tables.len()),
            globals: Vec::with_capacity(inner.globals.len()),
            tags: Vec::with_capacity(inner.tags.len()),
            host_memory: HostMemory::NONE,
            element_values: Vec::new(),
            object_elements: Vec::new(),
            dropped_elements: vec![false; inner.elements.len()],
            dropped_data: vec![false; inner.data.len()],
        };
        let header = VMContext {
            interrupt: store.interrupts.vm(),
            store: store.as_ptr().cast(),
            entries: code.entries,
            tiers: code.tiers,
            libcalls: libcalls::table(),
            instance: std::ptr::null_mut(),
            interp: code.interp,
            jit: code.jit,
        };
        // SAFETY: the context was allocated with this layout, so every offset lies in it; nobody else has a pointer to it.
        // The pointers written are to objects of the store, which live as long as the store.
        unsafe {
            vmctx.write(header);
            for (ty, sig) in inner.sigs.iter().enumerate() {
                vmctx.byte_offset(inner.offsets.sig(ty as u32) as isize).cast::<u32>().write(sig.number());
            }
            let mut funcs = 0;
            for import in imports {
                match *import {
                    ImportedObject::Func(func) => {
                        let place = vmctx.byte_offset(inner.offsets.imported_func(funcs) as isize);
                        place.cast::<*mut VMFuncRef>().write(func.as_ptr());
                        funcs += 1;
                    }
                    ImportedObject::Memory(memory) => {
                        let vm = store.memories[memory.index(store)].vm;
                        this.import_object(inner.offsets.memory(this.memories.len() as u32), vm);
                        this.memories.push(memory);
                    }
                    ImportedObject::Table(table) => {
                        let vm = store.tables[table.index(store)].vm;
                        this.import_object(inner.offsets.table(this.tables.len() as u32), vm);
                        this.tables.push(table);
                    }
                    ImportedObject::Global(global) => {
                        let vm = store.globals[global.index(store)].vm;
                        this.import_object(inner.offsets.global(this.globals.len() as u32), vm);
                        this.globals.push(global);
                    }
                    ImportedObject::Tag(tag) => this.push_tag(tag, store),
                }
            }
            let this = AliasableBox::new(this);
            (*vmctx).instance = this.as_ptr();
            this
        }
    }

    /// Puts the next tag of the index space into the context.
    ///
    /// # Safety
    /// The context must be live.
    unsafe fn push_tag(&mut self, tag: Stored, store: &StoreOpaque) {
        let offset = self.module.offsets.tag(self.tags.len() as u32);
        let address: *const VMTag = &raw const *store.tags[tag.index(store)];
        // SAFETY: the context is live by the caller's promise, and has a pointer for each tag. Tags are boxed, so the address
        // is valid as long as the store.
        unsafe { self.vmctx.byte_offset(offset as isize).cast::<*const VMTag>().write(address) };
        self.tags.push(tag);
    }

    /// Writes the pointer to an object outside of the context into it.
    ///
    /// # Safety
    /// The context must be live, and `location` one of its own for an object of type `T`.
    unsafe fn import_object<T>(&mut self, location: Location, object: *mut T) {
        let Location::Pointer(offset) = location else { unreachable!("the object lies in the context") };
        // SAFETY: the context has room for a pointer at the location, by the caller's promise.
        unsafe { self.vmctx.byte_offset(offset as isize).cast::<*mut T>().write(object) };
    }

    /// Makes the memories, tags, globals and tables that the module defines, and evaluates its element segments. `images` is
    /// what [`initialize`] will get.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if a memory, a table or an object of an initial value can't be allocated, or
    /// what the store's limiter returns.
    ///
    /// # Safety
    /// The instance must be live and in the store; `store` must be the store's own pointer. Nobody may hold a reference to
    /// either, because contexts and the limiter access both through pointers.
    pub unsafe fn define(this: *mut Self, store: *mut StoreOpaque, images: &MemoryImage) -> Result<()> {
        // SAFETY: both are live and nobody else refers to them, by the caller's promise. No reference that is made here is
        // used after the next one is made.
        let (module, vmctx) = unsafe { ((*this).module.clone(), (*this).vmctx) };
        let (own, this) = (store, || unsafe { &mut *this });
        let store = || unsafe { &mut *own };
        let inner = &module;
        let engine = store().engine.clone();
        // SAFETY: the store and the context are live and nobody refers to them, by the caller's promise.
        unsafe { gc::prepare(own, vmctx, inner)? };
        for index in this().memories.len()..inner.memories.len() {
            let ty = inner.memories[index];
            // SAFETY: the location is one of this context, which lives as long as the store.
            unsafe {
                let growth = memory::initial_growth(ty);
                limits::make_room(store(), LimitedResource::Memory, Some(growth));
                limits::admit(own, LimitedResource::Memory, growth)?;
                let location = inner.offsets.memory(index as u32);
                if ty.is_shared() {
                    let memory = SharedMemory::new(ty, &engine)?;
                    store().charge(LimitedResource::Memory, memory.length());
                    this().import_object(location, memory.vm());
                    this().memories.push(store().add_shared_memory(&memory));
                    continue;
                }
                let place = resolve::<VMMemory>(vmctx, location);
                let image = if index == 0 { images.get().map(Image::id) } else { None };
                let memory = MemoryData::new(Some(place), ty, &engine, store().placement(image))?;
                this().memories.push(store().add_memory(memory));
            }
        }
        for index in this().tags.len()..inner.tags.len() {
            let tag = store().add_tag(inner.tag_type(index as u32), Some((inner.clone(), index as u32)));
            // SAFETY: the instance owns the context, which is live.
            unsafe { this().push_tag(tag, store()) };
        }
        for index in this().globals.len()..inner.globals.len() {
            let init = &inner.global_inits[index - inner.offsets.imported_globals as usize];
            // SAFETY: the location is one of this context, which lives as long as the store. The initial value has the
            // global's type, and reads earlier globals only, by validation.
            let global = unsafe {
                let place = resolve::<VMGlobal>(vmctx, inner.offsets.global(index as u32));
                place.write(VMGlobal { slots: evaluate(vmctx, inner, init)? });
                GlobalData::in_context(place, inner.globals[index].clone())
            };
            this().globals.push(store().add_global(global));
        }
        for index in this().tables.len()..inner.tables.len() {
            let init = &inner.table_inits[index - inner.offsets.imported_tables as usize];
            // SAFETY: the location is one of this context, which lives as long as the store. All globals that the initial
            // value may read are initialised.
            let table = unsafe {
                let growth = table::initial_growth(&inner.tables[index]);
                limits::make_room(store(), LimitedResource::Table, Some(growth));
                limits::admit(own, LimitedResource::Table, growth)?;
                let [init, _] = init.as_ref().map_or(Ok([0, 0]), |init| evaluate(vmctx, inner, init))?;
                let place = resolve::<VMTable>(vmctx, inner.offsets.table(index as u32));
                TableData::new(Some(place), inner.tables[index].clone(), init)?
            };
            this().tables.push(store().add_table(table));
        }
        for (segment, index) in inner.elements.iter().zip(0..) {
            if segment.makes_objects() {
                this().object_elements.push(index);
            }
            let values = match &segment.items {
                ElementItems::Funcs(_) => None,
                // SAFETY: the context is live and all its globals are initialised.
                ElementItems::Exprs(exprs) => Some(unsafe { evaluate_all(vmctx, inner, exprs)? }),
            };
            this().element_values.push(values);
        }
        let exported = inner.export_index.get("memory").map(|at| inner.exports[*at as usize].index);
        let memory = match exported {
            Some(ExternIndex::Memory(index)) => Some(index),
            _ => (!this().memories.is_empty()).then_some(0),
        };
        if let Some(index) = memory {
            let store = store();
            let at = this().memories[index as usize].index(store);
            let memory = &store.memories[at];
            this().host_memory = HostMemory { vm: memory.vm, is_shared: memory.as_shared().is_some() };
        }
        Ok(())
    }
}

/// Copies the active segments, element segments first, each kind in order, and drops them; drops declarative segments too.
///
/// # Errors
/// A trap if a segment does not fit its table or memory; the segments before it stay copied.
///
/// # Safety
/// `vmctx` must be live and its instance complete ([`InstanceData::define`] has returned); nobody may hold a reference to
/// the instance.
pub(crate) unsafe fn initialize(vmctx: *mut VMContext, module: &ModuleFacts, images: &MemoryImage) -> Result<()> {
    // SAFETY: the context is live and complete by the caller's promise, and the indices are those of its module. An image is
    // mapped only over the memory that the instance defines, before anything has written to it.
    unsafe {
        let memory = || {
            let store = &mut *(*vmctx).store.cast::<StoreOpaque>();
            let index = (*(*vmctx).instance).memory(0).index(store);
            &mut store.memories[index]
        };
        let image = images.get();
        for (segment, index) in module.elements.iter().zip(0..) {
            if let SegmentMode::Active { index: table, offset } = &segment.mode {
                let [offset, _] = evaluate(vmctx, module, offset)?;
                let count = ops::element_count(segment);
                let copied = ops::table_init(vmctx, *table, index, offset, 0, count, Payer::Host);
                if let (Err(_), Some(image)) = (&copied, image) {
                    memory().remove_image(image);
                }
                copied?;
            }
            if !matches!(segment.mode, SegmentMode::Passive) {
                ops::elem_drop(vmctx, index);
            }
        }
        let is_mapped = match image {
            Some(image) => memory().map(image)?,
            None => false,
        };
        for (segment, index) in module.data.iter().zip(0..) {
            if let SegmentMode::Active { index: memory, offset } = &segment.mode {
                if !is_mapped {
                    let [offset, _] = evaluate(vmctx, module, offset)?;
                    ops::memory_init(vmctx, *memory, index, offset, 0, segment.bytes.len() as u32, Payer::Host)?;
                }
                ops::data_drop(vmctx, index);
            }
        }
        if let Some(range) = images.count_instance(module) {
            images.make(&memory().own_bytes()[range.clone()], range.start);
        }
    }
    Ok(())
}
