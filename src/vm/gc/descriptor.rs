//! The descriptors of types: the part of a type that casts and the collector look at, in the heap itself, where a 32-bit
//! offset reaches it. A store makes one for each type when a module that defines it is instantiated, and keeps it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use super::super::context::{VMContext, VMStore, VMTag};
use super::super::instance::InstanceData;
use super::super::store::StoreOpaque;
use super::access;
use super::heap::{alloc_immortal, reserve};
use super::layout::{self, Layout, Storage};
use crate::error::{Error, Result};
use crate::module::ModuleFacts;
use crate::module::composite::CompositeType;
use crate::module::registry::RegisteredType;
use crate::module::types::ValType;

/// The descriptors of a store.
#[derive(Default)]
pub(crate) struct Descriptors {
    /// The descriptor of each type, by the type's number.
    by_type: HashMap<u32, u32>,
    /// By the number that the descriptor has.
    described: Vec<Described>,
}

/// A type that has a descriptor.
struct Described {
    /// Offset of the descriptor.
    descriptor: u32,
    traced: Traced,
    /// Of exceptions: the index of their tag in the store.
    tag: Option<usize>,
    /// The type, which is kept, so that its number is not that of another one.
    ty: RegisteredType,
    /// What the host knows of the objects, when it has looked at one.
    known: OnceLock<Box<ObjectType>>,
}

impl Described {
    /// One whose descriptor is to be made.
    fn new(traced: Traced, tag: Option<usize>, ty: RegisteredType) -> Self {
        Described { descriptor: 0, traced, tag, ty, known: OnceLock::new() }
    }
}

/// What the host knows of the objects of a type.
pub(crate) struct ObjectType {
    pub ty: CompositeType,
    pub layout: Layout,
}

impl ObjectType {
    fn new(ty: &RegisteredType) -> Self {
        let ty = CompositeType::of(ty);
        let layout = Layout::of(&ty).expect("functions have no descriptors");
        ObjectType { ty, layout }
    }
}

/// What the collector knows of the objects of a type.
pub(super) enum Traced {
    Struct {
        /// Bytes, header included.
        size: u32,
        /// Offsets of the references.
        references: Box<[u32]>,
    },
    Array {
        element: Storage,
        has_references: bool,
    },
    Exception {
        /// Bytes, header included.
        size: u32,
        /// Offsets of the references.
        references: Box<[u32]>,
    },
}

impl Traced {
    /// Exceptions with a payload of these types.
    fn of_payload(types: &[ValType]) -> Self {
        // A reference is in the low half of its slot.
        let low = if cfg!(target_endian = "big") { 4 } else { 0 };
        let (mut slots, mut references) = (0, Vec::new());
        for ty in types {
            if ty.as_ref().is_some_and(|ty| !ty.is_of_functions()) {
                references.push(layout::PAYLOAD + 8 * slots as u32 + low);
            }
            slots += ty.slots();
        }
        Traced::Exception { size: layout::exception_size(slots) as u32, references: references.into() }
    }

    fn new(layout: &Layout) -> Self {
        match layout {
            Layout::Struct(layout) => {
                let references = layout.fields.iter().filter(|field| field.storage == Storage::Reference);
                Traced::Struct { size: layout.size, references: references.map(|field| field.offset).collect() }
            }
            Layout::Array(element) => {
                Traced::Array { element: *element, has_references: *element == Storage::Reference }
            }
        }
    }
}

impl Descriptors {
    /// What the collector knows of the objects that have the descriptor at this offset, whose number is `number`; `None` if
    /// there is no such descriptor.
    #[inline]
    pub(super) fn traced(&self, number: u32, descriptor: u32) -> Option<&Traced> {
        let found = self.described.get(number as usize)?;
        (found.descriptor == descriptor).then_some(&found.traced)
    }

    /// The type that has the descriptor at this offset; `None` if there is no such descriptor.
    ///
    /// # Safety
    /// `store` must be the one with these descriptors, live, and have a heap.
    unsafe fn at(&self, store: *const VMStore, descriptor: u32) -> Option<&Described> {
        // SAFETY: the caller's promise.
        let number = unsafe { access::read::<u32>(store, descriptor.wrapping_add(layout::DESCRIPTOR_LAYOUT)) };
        self.described.get(number as usize).filter(|found| found.descriptor == descriptor)
    }

    /// What the host knows of the objects that have the descriptor at this offset; `None` if it is that of no structures or
    /// arrays.
    ///
    /// # Safety
    /// As for [`Descriptors::at`].
    pub(super) unsafe fn object_type(&self, store: *const VMStore, descriptor: u32) -> Option<&ObjectType> {
        // SAFETY: the caller's promise.
        let found = unsafe { self.at(store, descriptor)? };
        if found.tag.is_some() {
            return None;
        }
        Some(found.known.get_or_init(|| Box::new(ObjectType::new(&found.ty))))
    }

    /// The index of the tag that has the descriptor at this offset.
    ///
    /// # Safety
    /// As for [`Descriptors::at`].
    pub(super) unsafe fn tag(&self, store: *const VMStore, descriptor: u32) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe { self.at(store, descriptor)?.tag }
    }
}

/// Reserves the heap and makes the descriptors for an instance of a module that defines types of structures or arrays, and
/// writes their offsets into its context.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for them, or what the store's limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, and `vmctx` a live context of it whose
/// module has these facts.
pub(crate) unsafe fn prepare(store: *mut StoreOpaque, vmctx: *mut VMContext, module: &ModuleFacts) -> Result<()> {
    if !module.offsets.has_gc_descriptors() {
        return Ok(());
    }
    // SAFETY: the caller's promise; the context has a number for each type of the module.
    unsafe {
        reserve(&mut *store)?;
        for (ty, index) in module.sigs.iter().zip(0..) {
            if !matches!(module.types[index as usize], CompositeType::Func(_)) {
                let descriptor = of_type(store, ty)?;
                let place = vmctx.byte_offset(module.offsets.gc_descriptor(index) as isize);
                place.cast::<u32>().write(descriptor);
            }
        }
    }
    Ok(())
}

/// The descriptor of a type of structures or arrays, which is made if the store has none yet.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, and which has a heap; the type must be
/// one of its engine, and not one of functions.
pub(crate) unsafe fn of_type(store: *mut StoreOpaque, ty: &RegisteredType) -> Result<u32> {
    // SAFETY: the store is live, and nobody holds a reference over a call, by the caller's promise.
    unsafe {
        let known = |ty: &RegisteredType| (&*store).gc.descriptors.by_type.get(&ty.number()).copied();
        if let Some(known) = known(ty) {
            return Ok(known);
        }
        // The supertypes without a descriptor, from the type itself on; there are at most 63.
        let mut missing = vec![ty.clone()];
        let mut supertype = None;
        while supertype.is_none()
            && let Some(next) = missing.last().and_then(RegisteredType::supertype)
        {
            supertype = known(&next);
            if supertype.is_none() {
                missing.push(next);
            }
        }
        while let Some(ty) = missing.pop() {
            supertype = Some(make(store, &ty, supertype)?);
        }
        Ok(supertype.expect("at least the type itself was missing"))
    }
}

/// Makes the descriptor of a type; `supertype` is that of its supertype.
///
/// # Safety
/// As for [`of_type`].
unsafe fn make(store: *mut StoreOpaque, ty: &RegisteredType, supertype: Option<u32>) -> Result<u32> {
    let layout = Layout::of(&CompositeType::of(ty)).expect("functions have no descriptors");
    // SAFETY: the caller's promise.
    unsafe {
        let described = Described::new(Traced::new(&layout), None, ty.clone());
        let descriptor = write(store, described, layout.kind(), supertype)?;
        match (*store).gc.descriptors.by_type.entry(ty.number()) {
            Entry::Vacant(entry) => entry.insert(descriptor),
            Entry::Occupied(_) => return Err(Error::usage("a type has a descriptor already")),
        };
        Ok(descriptor)
    }
}

/// The descriptor of the exceptions of a tag, which is made if the tag has none yet; so is the heap.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no room for it, or what the store's limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store to which nobody holds a reference, and `tag` a live one of it.
pub(crate) unsafe fn of_tag(store: *mut StoreOpaque, tag: *const VMTag) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let known = (*tag).descriptor.load(Relaxed);
        if known != 0 {
            return Ok(known);
        }
        reserve(&mut *store)?;
        let (sig, index) = ((*tag).sig.clone(), (*tag).handle.index(&*store));
        let ty = (&*store).engine.types.func_type(sig.number());
        let traced = Traced::of_payload(ty.params());
        let described = Described::new(traced, Some(index), sig);
        let descriptor = write(store, described, layout::EXCEPTION, None)?;
        (*tag).descriptor.store(descriptor, Relaxed);
        Ok(descriptor)
    }
}

/// Writes a descriptor into the heap, and keeps what is said of it, with its offset.
///
/// # Safety
/// As for [`of_type`].
unsafe fn write(store: *mut StoreOpaque, described: Described, kind: u32, supertype: Option<u32>) -> Result<u32> {
    // SAFETY: the caller's promise; what is read and written are the words of two descriptors.
    unsafe {
        let vm = store.cast();
        let depth = supertype.map_or(0, |of| access::read::<u32>(vm, of + layout::DESCRIPTOR_DEPTH) + 1);
        let descriptor = alloc_immortal(store, layout::descriptor_size(depth))?;
        let all = &mut (*store).gc.descriptors.described;
        access::write(vm, descriptor + layout::DESCRIPTOR_LAYOUT, all.len() as u32);
        access::write(vm, descriptor + layout::DESCRIPTOR_DEPTH, depth);
        access::write(vm, descriptor + layout::DESCRIPTOR_KIND, kind);
        for depth in 0..depth {
            let of = supertype.map_or(0, |of| access::read::<u32>(vm, of + layout::display(depth)));
            access::write(vm, descriptor + layout::display(depth), of);
        }
        access::write(vm, descriptor + layout::display(depth), descriptor);
        all.push(Described { descriptor, ..described });
        Ok(descriptor)
    }
}

/// The descriptor of a type of the context's module.
///
/// # Safety
/// `vmctx` must be live, and `ty` the index of a type of structures or arrays of its module.
#[inline]
pub(crate) unsafe fn descriptor(vmctx: *mut VMContext, ty: u32) -> u32 {
    // SAFETY: the context is live by the caller's promise, and has the descriptors of its module's types.
    unsafe {
        let offset = InstanceData::offsets(vmctx).gc_descriptor(ty);
        vmctx.byte_offset(offset as isize).cast::<u32>().read()
    }
}

#[cfg(test)]
mod tests {
    use super::super::heap::alloc;
    use super::*;
    use crate::{ArrayType, Engine, FieldType, Finality, Mutability, StorageType, Store, StructType, ValType};

    #[test]
    fn descriptors_have_the_supertypes_by_depth() {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let own = store.inner_mut().opaque.as_ptr();
        reserve(&mut store.inner_mut().opaque).unwrap();
        let mut types: Vec<StructType> = Vec::new();
        for _ in 0..12 {
            let field = FieldType::new(Mutability::Var, ValType::I64.into());
            let open = Finality::NonFinal;
            types.push(StructType::with_finality_and_supertype(&engine, open, types.last(), [field]).unwrap());
        }
        // SAFETY: the store is live and used by nobody else.
        let of = |ty: &RegisteredType| unsafe { of_type(own, ty).unwrap() };
        // SAFETY: as above.
        let word = |at| unsafe { access::read::<u32>(own.cast::<VMStore>(), at) };
        let last = of(types[11].registered_type());
        let all: Vec<u32> = types.iter().map(|ty| of(ty.registered_type())).collect();
        assert_eq!(all[11], last);
        for (depth, descriptor) in (0..).zip(&all) {
            assert_eq!(word(descriptor + layout::DESCRIPTOR_DEPTH), depth);
            assert_eq!(word(descriptor + layout::DESCRIPTOR_KIND), layout::STRUCT);
            let shown: Vec<u32> =
                (0..layout::ALWAYS.max(depth + 1)).map(|depth| word(descriptor + layout::display(depth))).collect();
            let mut expected = all[..=depth as usize].to_vec();
            expected.resize(shown.len(), 0);
            assert_eq!(shown, expected);
        }
        let bytes = ArrayType::new(&engine, FieldType::new(Mutability::Var, StorageType::I8));
        let descriptor = of(bytes.registered_type());
        assert_eq!(word(descriptor + layout::DESCRIPTOR_KIND), layout::ARRAY);
        // SAFETY: the store is live, and the size is that of five bytes.
        let array = unsafe { alloc(own, descriptor, 5, layout::array_size(layout::Storage::I8, 5)).unwrap() };
        assert_eq!((word(array), word(array + 4), word(array + 8), word(array + 12)), (descriptor, 5, 0, 0));
        // SAFETY: the store is live, and has a heap.
        let object_type = |at| unsafe { (&*own).gc.descriptors.object_type(own.cast(), at).map(|found| &found.layout) };
        assert_eq!(object_type(descriptor), Some(&Layout::Array(layout::Storage::I8)));
        assert!(object_type(descriptor + 8).is_none() && object_type(array).is_none());
        // SAFETY: the store is live.
        let traced = |number, at| unsafe { (&*own).gc.descriptors.traced(number, at).is_some() };
        assert!(traced(12, descriptor) && traced(11, last));
        assert!(!traced(11, descriptor) && !traced(12, descriptor + 8) && !traced(13, descriptor));
    }
}
