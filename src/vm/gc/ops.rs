//! The instructions that make, fill, copy and initialise structures and arrays (specification 3.0, "Aggregate
//! Instructions"), as all engines run them.
//!
//! Values are passed in slots, two for a `v128`. A new object is complete when it is returned; nothing but the caller knows
//! of it.
//!
//! # Safety
//! For all functions here: the context must be that of the running code, or of an instance that is being made, so that it is
//! live and nobody else holds a reference to its store; indices must be validated ones of its module, and slots hold values
//! of the types that the instruction has. A collection may run: references must be where it looks, and `value_top` above all
//! slots in use.

use std::hint::black_box;

use super::super::context::{VMContext, VMFuncRef, VMStore};
use super::super::heap;
use super::super::instance::func_ref;
use super::super::ops::{PIECE, Payer, element_count, in_pieces, in_pieces_of, instance, look_for_requests, pay};
use super::super::store::StoreOpaque;
use super::functions::{func_of_type, func_to_id};
use super::{access, alloc, descriptor};
use crate::error::{Result, Trap};
use crate::module::composite::{CompositeType, FieldType};
use crate::module::fuel::of_bytes;
use crate::module::layout::{HEADER, LENGTH, Storage, array_size};
use crate::module::{ElementItems, ModuleFacts};

/// Elements that are converted one by one, at most some milliseconds long, without a look for requests.
pub(crate) const CONVERTED: u32 = 1 << 17;

/// The store of a context.
///
/// # Safety
/// The context must be live.
unsafe fn store(vmctx: *mut VMContext) -> *mut StoreOpaque {
    // SAFETY: the context is live by the caller's promise; `VMStore` is the first field of its store.
    unsafe { (*vmctx).store.cast() }
}

/// The facts of a context's module.
///
/// # Safety
/// The context must be live as long as the reference is used.
unsafe fn facts<'a>(vmctx: *mut VMContext) -> &'a ModuleFacts {
    // SAFETY: the context is live by the caller's promise, so its instance is, which keeps the module.
    unsafe { &instance(vmctx).module }
}

/// Writes the value in a slot, or two, to a field or element.
///
/// # Safety
/// See the module's documentation; `at` must be that of a field or element that is so stored.
pub(crate) unsafe fn write_value(store: *mut StoreOpaque, at: u32, storage: Storage, value: *const u64) -> Result<()> {
    let vm = store.cast::<VMStore>();
    // SAFETY: the caller's promise.
    unsafe {
        match storage {
            Storage::I8 => access::write(vm, at, *value as u8),
            Storage::I16 => access::write(vm, at, *value as u16),
            Storage::Bits32 => access::write(vm, at, *value as u32),
            Storage::Reference => set_reference(store, at, *value as u32),
            Storage::Bits64 => access::write(vm, at, *value),
            Storage::V128 => access::write(vm, at, value.cast::<[u64; 2]>().read()),
            Storage::Function => access::write(vm, at, func_to_id(store, *value as usize as *mut VMFuncRef)?),
        }
    }
    Ok(())
}

/// Writes a reference to a field or element; marks the one that is there, if a collection marks.
///
/// # Safety
/// The store must be live, nobody hold a reference to it, and `at` be that of a field or element with such a reference.
#[inline]
pub(crate) unsafe fn set_reference(store: *mut StoreOpaque, at: u32, reference: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let vm = store.cast::<VMStore>();
        if (*vm).gc_marking != 0 {
            heap::shade(&mut *store, &[access::read(vm, at)]);
        }
        access::write(vm, at, reference);
    }
}

/// Marks the references in bytes that are about to be overwritten, if a collection marks.
///
/// # Safety
/// The context must be live, nobody hold a reference to its store, and elements be in these bytes of an array that are so stored.
unsafe fn shade(vmctx: *mut VMContext, storage: Storage, start: *const u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let store = store(vmctx);
        if storage == Storage::Reference && (*store).vm.gc_marking != 0 {
            heap::shade(&mut *store, std::slice::from_raw_parts(start.cast(), bytes / size_of::<u32>()));
        }
    }
}

/// Reads a field or element into slots, of which the second is zero for all types but `v128`. Packed ones are zero-extended.
///
/// # Errors
/// As [`read_func`].
///
/// # Safety
/// See the module's documentation; `at` must be that of a field or element of this type.
pub(crate) unsafe fn read_value(
    store: *mut StoreOpaque,
    at: u32,
    storage: Storage,
    ty: &FieldType,
) -> Result<[u64; 2]> {
    let vm = store.cast::<VMStore>();
    // SAFETY: the caller's promise.
    unsafe {
        Ok(match storage {
            Storage::I8 => [access::read::<u8>(vm, at).into(), 0],
            Storage::I16 => [access::read::<u16>(vm, at).into(), 0],
            Storage::Bits32 | Storage::Reference => [access::read::<u32>(vm, at).into(), 0],
            Storage::Bits64 => [access::read(vm, at), 0],
            Storage::V128 => access::read(vm, at),
            Storage::Function => [read_func(store, at, ty)? as u64, 0],
        })
    }
}

/// Reads a field or element of this type, which is a reference to a function.
///
/// # Errors
/// As [`func_of_type`].
///
/// # Safety
/// See the module's documentation.
unsafe fn read_func(store: *mut StoreOpaque, at: u32, ty: &FieldType) -> Result<*mut VMFuncRef> {
    let ty = ty.element_type().unwrap_val_type().unwrap_ref();
    // SAFETY: the caller's promise.
    unsafe { func_of_type(store, access::read(store.cast(), at), ty) }
}

/// The type of a field.
///
/// # Panics
/// If the type has no such field.
pub(crate) fn field_type(module: &ModuleFacts, ty: u32, field: u32) -> &FieldType {
    match &module.types[ty as usize] {
        CompositeType::Struct(ty) => &ty.field_types()[field as usize],
        _ => unreachable!("validated instructions have the field of a structure"),
    }
}

/// The type of the elements of an array type.
///
/// # Panics
/// If it is another type.
pub(crate) fn element_type(module: &ModuleFacts, ty: u32) -> &FieldType {
    match &module.types[ty as usize] {
        CompositeType::Array(ty) => ty.element(),
        _ => unreachable!("validated instructions have the type of an array"),
    }
}

/// How the elements of a type of arrays of the context's module are stored.
///
/// # Safety
/// The context must be live, and the type one of its module.
pub(crate) unsafe fn storage(vmctx: *mut VMContext, ty: u32) -> Storage {
    // SAFETY: the caller's promise.
    unsafe { facts(vmctx).array_storage(ty) }
}

/// Bytes of a structure of a type of the context's module.
///
/// # Safety
/// The context must be live, and the type one of its module.
pub(crate) unsafe fn struct_size(vmctx: *mut VMContext, ty: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { facts(vmctx).struct_layout(ty).size }
}

/// How a field of a type of structures of the context's module is stored.
///
/// # Safety
/// The context must be live, and the field one of its module.
pub(crate) unsafe fn field_storage(vmctx: *mut VMContext, ty: u32, field: u32) -> Storage {
    // SAFETY: the caller's promise.
    unsafe { facts(vmctx).struct_layout(ty).fields[field as usize].storage }
}

/// `struct.get` of any field; packed ones are extended by `signed`.
///
/// # Errors
/// A trap if the reference is null.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn struct_get(
    vmctx: *mut VMContext,
    ty: u32,
    field: u32,
    object: u32,
    signed: bool,
) -> Result<[u64; 2]> {
    if object == 0 {
        return Err(Trap::NullStructReference.into());
    }
    // SAFETY: the caller's promise.
    unsafe {
        let module = facts(vmctx);
        let place = module.struct_layout(ty).fields[field as usize];
        let at = object.wrapping_add(place.offset);
        let [low, high] = read_value(store(vmctx), at, place.storage, field_type(module, ty, field))?;
        Ok(match place.storage {
            Storage::I8 if signed => [(low as i8 as u32).into(), 0],
            Storage::I16 if signed => [(low as i16 as u32).into(), 0],
            _ => [low, high],
        })
    }
}

/// `struct.set` of any field.
///
/// # Errors
/// A trap if the reference is null, or an error if the store can't number another function.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn struct_set(
    vmctx: *mut VMContext,
    ty: u32,
    field: u32,
    object: u32,
    value: *const u64,
) -> Result<()> {
    if object == 0 {
        return Err(Trap::NullStructReference.into());
    }
    // SAFETY: the caller's promise.
    unsafe {
        let place = facts(vmctx).struct_layout(ty).fields[field as usize];
        write_value(store(vmctx), object.wrapping_add(place.offset), place.storage, value)
    }
}

/// `struct.new`, with the values of the fields in consecutive slots.
///
/// # Errors
/// Those of [`alloc`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn struct_new(vmctx: *mut VMContext, ty: u32, mut values: *const u64) -> Result<u32> {
    // SAFETY: the caller's promise; the fields are in the object, and there is a value for each.
    unsafe {
        let (store, layout) = (store(vmctx), facts(vmctx).struct_layout(ty));
        let object = alloc(store, descriptor(vmctx, ty), 0, layout.size.into())?;
        for field in &layout.fields {
            write_value(store, object + field.offset, field.storage, values)?;
            values = values.add(slots(field.storage));
        }
        Ok(object)
    }
}

/// Slots of a value that is so stored.
pub(crate) fn slots(storage: Storage) -> usize {
    if storage == Storage::V128 { 2 } else { 1 }
}

/// `struct.new_default`.
///
/// # Errors
/// Those of [`alloc`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn struct_new_default(vmctx: *mut VMContext, ty: u32) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe { alloc(store(vmctx), descriptor(vmctx, ty), 0, facts(vmctx).struct_layout(ty).size.into()) }
}

/// `array.new_default`: zeros or nulls.
///
/// # Errors
/// A trap if no heap has room for so many, [`Trap::OutOfFuel`], or those of [`alloc`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_new_default(vmctx: *mut VMContext, ty: u32, length: u32, payer: Payer) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        let size = array_size(storage, length);
        if size > u32::MAX.into() {
            return Err(Trap::AllocationTooLarge.into());
        }
        if payer == Payer::Guest {
            pay(vmctx, price(storage, length))?;
            // The free blocks that a large array gets may have to be made zero.
            while size > PIECE as u64 && (*store(vmctx)).gc.zero_ahead(size) {
                look_for_requests(vmctx)?;
            }
        }
        alloc(store(vmctx), descriptor(vmctx, ty), length, size)
    }
}

/// The price of so many elements, without that of the instruction.
fn price(storage: Storage, count: u32) -> u64 {
    of_bytes(u64::from(count) << storage.size_log2())
}

/// `array.new`.
///
/// # Errors
/// Those of [`array_new_default`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_new(
    vmctx: *mut VMContext,
    ty: u32,
    value: *const u64,
    length: u32,
    payer: Payer,
) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let array = array_new_default(vmctx, ty, length, payer)?;
        rooted(array, || fill(vmctx, facts(vmctx).array_storage(ty), (array, 0, length), value))
    }
}

/// Has `init` initialise a new array, and returns that. A collection finds it meanwhile, on the native stack.
fn rooted(array: u32, init: impl FnOnce() -> Result<()>) -> Result<u32> {
    // The collector looks at whole words, and a number of 32 bits may share one with something else.
    let root = u64::from(array);
    black_box(&root);
    let done = init();
    black_box(&root);
    done.map(|()| array)
}

/// `array.new_fixed`, with the elements in consecutive slots.
///
/// # Errors
/// Those of [`array_new_default`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_new_fixed(
    vmctx: *mut VMContext,
    ty: u32,
    mut values: *const u64,
    length: u32,
    payer: Payer,
) -> Result<u32> {
    // SAFETY: the caller's promise; there are at most 10,000 elements, all in the object, and a value for each.
    unsafe {
        let array = array_new_default(vmctx, ty, length, payer)?;
        let storage = facts(vmctx).array_storage(ty);
        for index in 0..length {
            write_value(store(vmctx), element(array, storage, index), storage, values)?;
            values = values.add(slots(storage));
        }
        Ok(array)
    }
}

/// Where an element of an array is. The sum wraps, so whatever length an array has, what is below that leads into the heap.
#[inline]
pub(crate) fn element(array: u32, storage: Storage, index: u32) -> u32 {
    array.wrapping_add(HEADER).wrapping_add(index << storage.size_log2())
}

/// `array.get` of a function.
///
/// # Errors
/// A trap if the reference is null, or the array is shorter.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_get_func(vmctx: *mut VMContext, ty: u32, array: u32, index: u32) -> Result<*mut VMFuncRef> {
    // SAFETY: the caller's promise.
    unsafe {
        check(vmctx, (array, index, 1))?;
        let at = element(array, Storage::Function, index);
        read_func(store(vmctx), at, element_type(facts(vmctx), ty))
    }
}

/// `array.set` of a function.
///
/// # Errors
/// A trap if the reference is null, or the array is shorter; or an error if the store can't number another function.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_set_func(vmctx: *mut VMContext, array: u32, index: u32, func: u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        check(vmctx, (array, index, 1))?;
        write_value(store(vmctx), element(array, Storage::Function, index), Storage::Function, &raw const func)
    }
}

/// Checks that an array has the elements from `index` on.
///
/// # Errors
/// A trap if the reference is null, or the array has fewer.
///
/// # Safety
/// The context must be live, and `array` null or a reference to an array of its store.
unsafe fn check(vmctx: *mut VMContext, (array, index, count): (u32, u32, u32)) -> Result<()> {
    if array == 0 {
        return Err(Trap::NullArrayReference.into());
    }
    // SAFETY: the caller's promise.
    let length = unsafe { access::read::<u32>(store(vmctx).cast(), array.wrapping_add(LENGTH)) };
    match index.checked_add(count) {
        Some(end) if end <= length => Ok(()),
        _ => Err(Trap::ArrayOutOfBounds.into()),
    }
}

/// The address of elements of an array, which [`check`] has found there.
///
/// # Errors
/// A trap if they are not in the heap: a fault has overwritten the length.
///
/// # Safety
/// The context must be live. The address is valid until the store is dropped.
unsafe fn elements(vmctx: *mut VMContext, storage: Storage, array: (u32, u32, u32)) -> Result<*mut u8> {
    let (array, index, count) = array;
    let start = u64::from(array) + u64::from(HEADER) + (u64::from(index) << storage.size_log2());
    // SAFETY: the context is live by the caller's promise.
    let place = unsafe { access::range(store(vmctx).cast(), start, u64::from(count) << storage.size_log2()) };
    place.ok_or_else(|| Trap::ArrayOutOfBounds.into())
}

/// `array.fill`: `range` is the array, the first index and the number of elements.
///
/// # Errors
/// A trap if the array is null or has fewer elements; [`Trap::OutOfFuel`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_fill(
    vmctx: *mut VMContext,
    ty: u32,
    range: (u32, u32, u32),
    value: *const u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        check(vmctx, range)?;
        pay(vmctx, price(storage, range.2))?;
        fill(vmctx, storage, range, value)
    }
}

/// Sets elements, which are there.
///
/// # Safety
/// See the module's documentation.
unsafe fn fill(vmctx: *mut VMContext, storage: Storage, range: (u32, u32, u32), value: *const u64) -> Result<()> {
    // SAFETY: the caller's promise. The elements are in the heap, and aligned as objects are; nobody has a reference to them.
    unsafe {
        let start = elements(vmctx, storage, range)?;
        let value = match storage {
            Storage::Function => [func_to_id(store(vmctx), *value as usize as *mut VMFuncRef)?.into(), 0],
            Storage::V128 => value.cast::<[u64; 2]>().read(),
            _ => [*value, 0],
        };
        in_pieces(vmctx, (range.2 as usize) << storage.size_log2(), |piece| {
            let (place, count) = (start.add(piece.start), piece.len() >> storage.size_log2());
            shade(vmctx, storage, place, piece.len());
            match storage {
                Storage::I8 => place.write_bytes(value[0] as u8, count),
                Storage::I16 => std::slice::from_raw_parts_mut(place.cast::<u16>(), count).fill(value[0] as u16),
                Storage::Bits32 | Storage::Reference | Storage::Function => {
                    std::slice::from_raw_parts_mut(place.cast::<u32>(), count).fill(value[0] as u32);
                }
                Storage::Bits64 => std::slice::from_raw_parts_mut(place.cast::<u64>(), count).fill(value[0]),
                Storage::V128 => std::slice::from_raw_parts_mut(place.cast::<[u64; 2]>(), count).fill(value),
            }
            Ok(())
        })
    }
}

/// `array.copy` of `count` elements; the ranges may overlap. `to` and `from` are arrays with the first index, `ty` is the type
/// of the one that is written.
///
/// # Errors
/// A trap if an array is null or has fewer elements; [`Trap::OutOfFuel`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_copy(
    vmctx: *mut VMContext,
    ty: u32,
    to: (u32, u32),
    from: (u32, u32),
    count: u32,
) -> Result<()> {
    let ((to, to_index), (from, from_index)) = (to, from);
    let (target, source) = ((to, to_index, count), (from, from_index, count));
    // SAFETY: the caller's promise; both ranges are in the heap, and the copy allows them to overlap. The elements of both
    // are stored alike, as those of one are of a subtype.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        check(vmctx, target)?;
        check(vmctx, source)?;
        pay(vmctx, price(storage, count))?;
        let (target, source) = (elements(vmctx, storage, target)?, elements(vmctx, storage, source)?);
        let length = (count as usize) << storage.size_log2();
        // Where the target begins within the source, the last bytes are copied first.
        let is_upward = to == from && to_index > from_index;
        in_pieces(vmctx, length, |piece| {
            let at = if is_upward { length - piece.end } else { piece.start };
            shade(vmctx, storage, target.add(at), piece.len());
            std::ptr::copy(source.add(at), target.add(at), piece.len());
            Ok(())
        })
    }
}

/// Where in the module the bytes are that `count` elements are read from, from byte `offset` of a data segment on.
///
/// # Errors
/// A trap if the segment has fewer.
///
/// # Safety
/// See the module's documentation.
unsafe fn data(vmctx: *mut VMContext, segment: u32, offset: u32, count: u32, storage: Storage) -> Result<usize> {
    // SAFETY: the caller's promise.
    let instance = unsafe { instance(vmctx) };
    let dropped = instance.dropped_data[segment as usize];
    let bytes = if dropped { 0..0 } else { instance.module.data[segment as usize].bytes.clone() };
    let end = u64::from(offset) + (u64::from(count) << storage.size_log2());
    if end > bytes.len() as u64 {
        return Err(Trap::MemoryOutOfBounds.into());
    }
    Ok(bytes.start + offset as usize)
}

/// Reads elements, which are there, from byte `from` of the module.
///
/// # Safety
/// See the module's documentation.
unsafe fn copy_data(vmctx: *mut VMContext, storage: Storage, range: (u32, u32, u32), from: usize) -> Result<()> {
    // SAFETY: the caller's promise. The elements are in the heap, and nobody else has a reference to them.
    unsafe {
        let start = elements(vmctx, storage, range)?;
        in_pieces(vmctx, (range.2 as usize) << storage.size_log2(), |piece| {
            let target = std::slice::from_raw_parts_mut(start.add(piece.start), piece.len());
            instance(vmctx).module.source.copy_data(from + piece.start, target)?;
            if cfg!(target_endian = "big") {
                // A vector is two slots, the lower half first.
                target.chunks_exact_mut(storage.size().min(8) as usize).for_each(<[u8]>::reverse);
            }
            Ok(())
        })
    }
}

/// `array.new_data`: `count` elements from byte `offset` of a segment on.
///
/// # Errors
/// A trap if the segment has fewer; those of [`array_new_default`]; [`Resource`](crate::ErrorKind::Resource) if the segment is
/// in a file that can't be read any more.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_new_data(
    vmctx: *mut VMContext,
    ty: u32,
    segment: u32,
    offset: u32,
    count: u32,
) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        let from = data(vmctx, segment, offset, count, storage)?;
        let array = array_new_default(vmctx, ty, count, Payer::Guest)?;
        rooted(array, || copy_data(vmctx, storage, (array, 0, count), from))
    }
}

/// `array.init_data`: `range` is the array, the first index and the number of elements.
///
/// # Errors
/// A trap if the array is null, or has or the segment has fewer; [`Trap::OutOfFuel`]; [`Resource`](crate::ErrorKind::Resource)
/// if the segment is in a file that can't be read any more.
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_init_data(
    vmctx: *mut VMContext,
    ty: u32,
    segment: u32,
    range: (u32, u32, u32),
    offset: u32,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        check(vmctx, range)?;
        let from = data(vmctx, segment, offset, range.2, storage)?;
        pay(vmctx, price(storage, range.2))?;
        copy_data(vmctx, storage, range, from)
    }
}

/// Checks that an element segment has `count` elements from `offset` on.
///
/// # Errors
/// A trap if it has fewer.
///
/// # Safety
/// See the module's documentation.
unsafe fn check_elements(vmctx: *mut VMContext, segment: u32, offset: u32, count: u32) -> Result<()> {
    // SAFETY: the caller's promise.
    let instance = unsafe { instance(vmctx) };
    let dropped = instance.dropped_elements[segment as usize];
    let length = if dropped { 0 } else { element_count(&instance.module.elements[segment as usize]) };
    match offset.checked_add(count) {
        Some(end) if end <= length => Ok(()),
        _ => Err(Trap::TableOutOfBounds.into()),
    }
}

/// Copies elements of a segment from `offset` on to an array; all are there.
///
/// # Safety
/// See the module's documentation.
unsafe fn copy_elements(
    vmctx: *mut VMContext,
    storage: Storage,
    (array, index, count): (u32, u32, u32),
    segment: u32,
    offset: u32,
) -> Result<()> {
    // SAFETY: the caller's promise. No reference to the instance is held over what is requested between two pieces, which may
    // drop the segment.
    unsafe {
        in_pieces_of(CONVERTED as usize, vmctx, count as usize, |piece| {
            check_elements(vmctx, segment, offset, count)?;
            let items = &facts(vmctx).elements[segment as usize].items;
            let values = &instance(vmctx).element_values[segment as usize];
            for at in piece {
                let from = offset as usize + at;
                let value = match (items, values) {
                    (ElementItems::Funcs(funcs), _) => func_ref(vmctx, funcs[from]) as u64,
                    (ElementItems::Exprs(_), Some(values)) => values[from],
                    (ElementItems::Exprs(_), None) => unreachable!("expressions were evaluated at instantiation"),
                };
                let to = element(array, storage, index + at as u32);
                write_value(store(vmctx), to, storage, &raw const value)?;
            }
            Ok(())
        })
    }
}

/// `array.new_elem`: `count` elements of a segment from `offset` on.
///
/// # Errors
/// A trap if the segment has fewer; those of [`array_new_default`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_new_elem(
    vmctx: *mut VMContext,
    ty: u32,
    segment: u32,
    offset: u32,
    count: u32,
) -> Result<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        check_elements(vmctx, segment, offset, count)?;
        let array = array_new_default(vmctx, ty, count, Payer::Guest)?;
        let storage = facts(vmctx).array_storage(ty);
        rooted(array, || copy_elements(vmctx, storage, (array, 0, count), segment, offset))
    }
}

/// `array.init_elem`: `range` is the array, the first index and the number of elements.
///
/// # Errors
/// A trap if the array is null, or has or the segment has fewer; [`Trap::OutOfFuel`].
///
/// # Safety
/// See the module's documentation.
pub(crate) unsafe fn array_init_elem(
    vmctx: *mut VMContext,
    ty: u32,
    segment: u32,
    range: (u32, u32, u32),
    offset: u32,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let storage = facts(vmctx).array_storage(ty);
        check(vmctx, range)?;
        check_elements(vmctx, segment, offset, range.2)?;
        pay(vmctx, price(storage, range.2))?;
        copy_elements(vmctx, storage, range, segment, offset)
    }
}
