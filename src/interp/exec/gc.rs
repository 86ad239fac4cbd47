//! Structures, arrays, `i31` and casts. What allocates or takes long is in [`vm::gc::ops`](crate::vm::gc::ops).
//!
//! A reference is in the low half of its slot, and zero for null; see `module::layout`.

use super::call::ty;
use super::control::exit_here;
use super::memory::after;
use crate::error::{Error, Trap};
use crate::interp::machine::{Flow, Machine, Step};
use crate::interp::value::SlotValue;
use crate::module::layout::{
    ALWAYS, ARRAY, DESCRIPTOR, DESCRIPTOR_DEPTH, DESCRIPTOR_KIND, HEADER, I31_BIT, LENGTH, STRUCT, Storage, TAG_BITS,
    array_size, display,
};
use crate::numeric::simd::V128;
use crate::vm::context::VMFuncRef;
use crate::vm::func::is_of_type;
use crate::vm::gc::{access, ops};
use crate::vm::ops::{PIECE, Payer};

run! {
    StructGet8S(m) struct_get(m, |byte: i8| byte as u32)
    StructGet8U(m) struct_get(m, |byte: u8| u32::from(byte))
    StructGet16S(m) struct_get(m, |number: i16| number as u32)
    StructGet16U(m) struct_get(m, |number: u16| u32::from(number))
    StructGet32(m) struct_get(m, |number: u32| number)
    StructGet64(m) struct_get(m, |number: u64| number)
    StructGetWide(m) struct_get(m, vector)
    StructGetFar(_m) Flow::Slow(struct_get_far)
    StructSet8(m) struct_set(m, |number: u32| number as u8)
    StructSet16(m) struct_set(m, |number: u32| number as u16)
    StructSet32(m) struct_set(m, |number: u32| number)
    StructSet64(m) struct_set(m, |number: u64| number)
    StructSetWide(m) struct_set(m, slots)
    StructSetRef(m) if is_marking(m) { Flow::Slow(struct_set_ref) } else { struct_set(m, |reference: u32| reference) }
    StructSetFar(_m) Flow::Slow(struct_set_far)
    StructNew(_m) Flow::Slow(struct_new)
    StructNewDefault(_m) Flow::Slow(struct_new_default)

    ArrayGet8S(m) array_get(m, |byte: i8| byte as u32)
    ArrayGet8U(m) array_get(m, |byte: u8| u32::from(byte))
    ArrayGet16S(m) array_get(m, |number: i16| number as u32)
    ArrayGet16U(m) array_get(m, |number: u16| u32::from(number))
    ArrayGet32(m) array_get(m, |number: u32| number)
    ArrayGet64(m) array_get(m, |number: u64| number)
    ArrayGetWide(m) array_get(m, vector)
    ArrayGetFunc(_m) Flow::Slow(array_get_func)
    ArraySet8(m) array_set(m, |number: u32| number as u8)
    ArraySet16(m) array_set(m, |number: u32| number as u16)
    ArraySet32(m) array_set(m, |number: u32| number)
    ArraySet64(m) array_set(m, |number: u64| number)
    ArraySetWide(m) array_set(m, slots)
    ArraySetRef(m) if is_marking(m) { Flow::Slow(array_set_ref) } else { array_set(m, |reference: u32| reference) }
    ArraySetFunc(_m) Flow::Slow(array_set_func)
    ArrayLen(m) {
        match m.get(m.b()) {
            0 => Flow::Trap(Trap::NullArrayReference),
            array => {
                let length: u32 = read(m, array, LENGTH);
                m.finish(length, 1)
            }
        }
    }
    ArrayNew(_m) Flow::Slow(array_new)
    ArrayNewDefault(_m) Flow::Slow(array_new_default)
    ArrayNewFixed(_m) Flow::Slow(array_new_fixed)
    ArrayNewData(_m) Flow::Slow(array_new_data)
    ArrayNewElem(_m) Flow::Slow(array_new_elem)
    ArrayFill(_m) Flow::Slow(array_fill)
    ArrayCopy(_m) Flow::Slow(array_copy)
    ArrayInitData(_m) Flow::Slow(array_init_data)
    ArrayInitElem(_m) Flow::Slow(array_init_elem)

    RefI31(m) m.finish(m.get::<u32>(m.b()) << 1 | I31_BIT, 1)
    I31GetS(m) i31_get(m, |reference| (reference as i32 >> 1) as u32)
    I31GetU(m) i31_get(m, |reference| reference >> 1)

    RefTestI31(m) test(m, 1, is_i31)
    RefTestEq(m) test(m, 1, is_eq)
    RefTestStruct(m) test(m, 1, is_kind::<STRUCT>)
    RefTestArray(m) test(m, 1, is_kind::<ARRAY>)
    RefTestFinal(m) test(m, 2, is_final)
    RefTestObject(m) test(m, 2, is_object)
    RefTestFunc(m) {
        let func = m.get::<u64>(m.b());
        let holds = if func == 0 { m.c() != 0 } else { is_func(m, func) };
        m.finish(u32::from(holds), 2)
    }
    RefCastI31(m) cast(m, 1, is_i31)
    RefCastEq(m) cast(m, 1, is_eq)
    RefCastStruct(m) cast(m, 1, is_kind::<STRUCT>)
    RefCastArray(m) cast(m, 1, is_kind::<ARRAY>)
    RefCastFinal(m) cast(m, 2, is_final)
    RefCastObject(m) cast(m, 2, is_object)
    RefCastFunc(m) {
        let func = m.get::<u64>(m.a());
        let holds = if func == 0 { m.b() != 0 } else { is_func(m, func) };
        passed(m, 2, holds)
    }
    // All hierarchies: functions have 64 bits.
    RefCastNonNull(m) passed(m, 1, m.get::<u64>(m.a()) != 0)
    RefCastNull(m) passed(m, 1, m.get::<u64>(m.a()) == 0)
    RefCastNothing(_m) Flow::Trap(Trap::CastFailure)
}

/// Reads from an object.
#[inline(always)]
fn read<T: Copy>(m: &Machine, object: u32, offset: u32) -> T {
    // SAFETY: the store of the running instance. There is a reference to an object, so there is a heap.
    unsafe { access::read(m.store(), object.wrapping_add(offset)) }
}

/// Writes to an object.
#[inline(always)]
fn write<T: Copy>(m: &Machine, object: u32, offset: u32, value: T) {
    // SAFETY: as in `read`.
    unsafe { access::write(m.store(), object.wrapping_add(offset), value) }
}

/// Whether a collection marks, so that references must not be overwritten before they are marked.
#[inline(always)]
fn is_marking(m: &Machine) -> bool {
    // SAFETY: the store of the running instance.
    unsafe { (*m.store()).gc_marking != 0 }
}

/// The vector that two slots hold.
#[inline(always)]
fn vector(slots: [u64; 2]) -> V128 {
    // SAFETY: both slots are there.
    unsafe { V128::read(slots.as_ptr()) }
}

/// The slots that hold a vector.
#[inline(always)]
fn slots(vector: V128) -> [u64; 2] {
    let mut slots = [0; 2];
    // SAFETY: both slots are there.
    unsafe { vector.write(slots.as_mut_ptr()) };
    slots
}

/// Reads a field as it is stored.
#[inline(always)]
fn struct_get<T: Copy, V: SlotValue>(m: &mut Machine, extend: impl FnOnce(T) -> V) -> Flow {
    match m.get(m.b()) {
        0 => Flow::Trap(Trap::NullStructReference),
        object => {
            let value = extend(read(m, object, m.c().into()));
            m.finish(value, 1)
        }
    }
}

/// Writes a field as it is stored.
#[inline(always)]
fn struct_set<T: Copy, V: SlotValue>(m: &mut Machine, wrap: impl FnOnce(V) -> T) -> Flow {
    match m.get(m.a()) {
        0 => Flow::Trap(Trap::NullStructReference),
        object => {
            write(m, object, m.c().into(), wrap(m.get(m.b())));
            m.skip(1)
        }
    }
}

/// Where an element of an array is, from its start.
#[inline(always)]
fn element<T>(m: &Machine, array: u32, index: u32) -> Result<u32, Trap> {
    if array == 0 {
        return Err(Trap::NullArrayReference);
    }
    if index >= read::<u32>(m, array, LENGTH) {
        return Err(Trap::ArrayOutOfBounds);
    }
    Ok(HEADER.wrapping_add(index.wrapping_mul(size_of::<T>() as u32)))
}

/// Reads an element as it is stored.
#[inline(always)]
fn array_get<T: Copy, V: SlotValue>(m: &mut Machine, extend: impl FnOnce(T) -> V) -> Flow {
    let array = m.get(m.b());
    match element::<T>(m, array, m.get(m.c())) {
        Ok(offset) => {
            let value = extend(read(m, array, offset));
            m.finish(value, 1)
        }
        Err(trap) => Flow::Trap(trap),
    }
}

/// Writes an element as it is stored.
#[inline(always)]
fn array_set<T: Copy, V: SlotValue>(m: &mut Machine, wrap: impl FnOnce(V) -> T) -> Flow {
    let array = m.get(m.a());
    match element::<T>(m, array, m.get(m.b())) {
        Ok(offset) => {
            write(m, array, offset, wrap(m.get(m.c())));
            m.skip(1)
        }
        Err(trap) => Flow::Trap(trap),
    }
}

/// Writes a reference to a part of an object while a collection marks.
fn set_ref(m: &mut Machine, object: u32, offset: u32, reference: u32) {
    // SAFETY: the store of the running instance, and a part of an object in which a reference is.
    unsafe { ops::set_reference(m.store().cast(), object.wrapping_add(offset), reference) };
    m.skip(1);
}

fn struct_set_ref(m: &mut Machine) -> Step {
    match m.get(m.a()) {
        0 => m.stop(Trap::NullStructReference),
        object => {
            set_ref(m, object, m.c().into(), m.get(m.b()));
            Step::Next
        }
    }
}

fn array_set_ref(m: &mut Machine) -> Step {
    let array = m.get(m.a());
    match element::<u32>(m, array, m.get(m.b())) {
        Ok(offset) => {
            set_ref(m, array, offset, m.get(m.c()));
            Step::Next
        }
        Err(trap) => m.stop(trap),
    }
}

#[inline(always)]
fn i31_get(m: &mut Machine, value: impl FnOnce(u32) -> u32) -> Flow {
    match m.get(m.b()) {
        0 => Flow::Trap(Trap::NullI31Reference),
        reference => m.finish(value(reference), 1),
    }
}

/// Tests the reference in slot `b`.
#[inline(always)]
fn test(m: &mut Machine, words: usize, holds: impl FnOnce(&Machine, u32) -> bool) -> Flow {
    let holds = match m.get(m.b()) {
        0 => m.c() != 0,
        reference => holds(m, reference),
    };
    m.finish(u32::from(holds), words)
}

/// Casts the reference in slot `a`.
#[inline(always)]
fn cast(m: &mut Machine, words: usize, holds: impl FnOnce(&Machine, u32) -> bool) -> Flow {
    let holds = match m.get(m.a()) {
        0 => m.b() != 0,
        reference => holds(m, reference),
    };
    passed(m, words, holds)
}

#[inline(always)]
fn passed(m: &mut Machine, words: usize, holds: bool) -> Flow {
    if holds { m.skip(words) } else { Flow::Trap(Trap::CastFailure) }
}

#[inline(always)]
fn is_i31(_: &Machine, reference: u32) -> bool {
    reference & I31_BIT != 0
}

#[inline(always)]
fn is_object_at_all(reference: u32) -> bool {
    reference & TAG_BITS == 0
}

#[inline(always)]
fn is_eq(m: &Machine, reference: u32) -> bool {
    is_object_at_all(reference) || is_i31(m, reference)
}

#[inline(always)]
fn is_kind<const KIND: u32>(m: &Machine, reference: u32) -> bool {
    is_object_at_all(reference) && read::<u32>(m, read(m, reference, DESCRIPTOR), DESCRIPTOR_KIND) == KIND
}

/// The descriptor of the type that the test or cast is for.
#[inline(always)]
fn wanted(m: &Machine) -> u32 {
    // SAFETY: the translator took the offset from the module's.
    unsafe { *m.vmctx().wrapping_byte_add(m.low(1) as usize).cast::<u32>() }
}

#[inline(always)]
fn is_final(m: &Machine, reference: u32) -> bool {
    is_object_at_all(reference) && read::<u32>(m, reference, DESCRIPTOR) == wanted(m)
}

#[inline(always)]
fn is_object(m: &Machine, reference: u32) -> bool {
    if !is_object_at_all(reference) {
        return false;
    }
    let (descriptor, depth) = (read::<u32>(m, reference, DESCRIPTOR), m.high(1));
    (depth < ALWAYS || depth <= read::<u32>(m, descriptor, DESCRIPTOR_DEPTH))
        && read::<u32>(m, descriptor, display(depth)) == wanted(m)
}

/// Whether a function is of the type that the test or cast is for.
#[inline(always)]
fn is_func(m: &Machine, func: u64) -> bool {
    // SAFETY: a live reference to a function, and an index of the running module's types.
    unsafe { is_of_type(func as usize as *const VMFuncRef, ty(m, m.low(1))) }
}

/// The consecutive slots of operands, of which the first is in the low half of word 1.
fn operands(m: &Machine) -> *const u64 {
    m.fp.wrapping_add(m.low(1) as usize)
}

/// The operand in slot `slot` of these.
fn operand(m: &Machine, slot: usize) -> u32 {
    // SAFETY: the machine's invariant.
    unsafe { *operands(m).add(slot) as u32 }
}

/// Goes on with a reference to a new object in slot `a`, or stops with the error.
fn made(m: &mut Machine, words: usize, object: Result<u32, Error>) -> Step {
    let result = object.map(|object| m.put(m.a(), object));
    after(m, words, result)
}

fn struct_get_far(m: &mut Machine) -> Step {
    let signed = m.c() != 0;
    // SAFETY: the running instance, a field of its module's types, and a reference to such a structure.
    let value = unsafe { ops::struct_get(m.vmctx(), m.low(1), m.high(1), m.get(m.b()), signed) };
    let result = value.map(|[low, high]| {
        m.put(m.a(), low);
        // SAFETY: as above.
        let storage = unsafe { ops::field_storage(m.vmctx(), m.low(1), m.high(1)) };
        if storage == Storage::V128 {
            // SAFETY: the result has two slots.
            unsafe { *m.slot(m.a()).add(1) = high };
        }
    });
    after(m, 2, result)
}

fn struct_set_far(m: &mut Machine) -> Step {
    // SAFETY: as in `struct_get_far`, and a value of the field's type.
    let result = unsafe { ops::struct_set(m.vmctx(), m.low(1), m.high(1), m.get(m.a()), m.slot(m.b())) };
    after(m, 2, result)
}

/// Before an allocation of so many bytes: if it may collect, leaves the activation in the running instruction. So does a
/// larger one, in whose course requests are looked for.
fn before_alloc(m: &mut Machine, bytes: u64) {
    // SAFETY: the store of the running instance, to which nobody holds a reference.
    let free = unsafe { (*m.store()).gc_limit - (*m.store()).gc_cursor };
    if bytes > free.min(PIECE) as u64 {
        exit_here(m);
    }
}

/// The same before an instruction that moves so many elements.
fn before_moving(m: &mut Machine, storage: Storage, count: u32) {
    if (u64::from(count) << storage.size_log2()) > PIECE as u64 {
        exit_here(m);
    }
}

/// The same before an instruction that converts so many elements of a segment.
fn before_converting(m: &mut Machine, count: u32) {
    if count > ops::CONVERTED {
        exit_here(m);
    }
}

fn struct_new(m: &mut Machine) -> Step {
    // SAFETY: the running instance, a type of its module, and values of its fields. `value_top` is set if that is needed.
    let object = unsafe {
        before_alloc(m, ops::struct_size(m.vmctx(), m.high(1)).into());
        ops::struct_new(m.vmctx(), m.high(1), operands(m))
    };
    made(m, 2, object)
}

fn struct_new_default(m: &mut Machine) -> Step {
    // SAFETY: as in `struct_new`.
    let object = unsafe {
        before_alloc(m, ops::struct_size(m.vmctx(), m.bc()).into());
        ops::struct_new_default(m.vmctx(), m.bc())
    };
    made(m, 1, object)
}

fn array_get_func(m: &mut Machine) -> Step {
    // SAFETY: the running instance, a type of its module, and a reference to such an array.
    let value = unsafe { ops::array_get_func(m.vmctx(), m.low(1), m.get(m.b()), m.get(m.c())) };
    let result = value.map(|func| m.put(m.a(), func as u64));
    after(m, 2, result)
}

fn array_set_func(m: &mut Machine) -> Step {
    // SAFETY: the running instance, a reference to an array of functions, and one to a function.
    let result = unsafe { ops::array_set_func(m.vmctx(), m.get(m.a()), m.get(m.b()), m.get(m.c())) };
    after(m, 1, result)
}

/// How the elements of a type of arrays of the running module are stored.
fn storage(m: &Machine, ty: u32) -> Storage {
    // SAFETY: the running instance, and a type of its module.
    unsafe { ops::storage(m.vmctx(), ty) }
}

fn array_new(m: &mut Machine) -> Step {
    let (ty, storage) = (m.high(1), storage(m, m.high(1)));
    // The length follows the value.
    let length = operand(m, ops::slots(storage));
    before_alloc(m, array_size(storage, length));
    // SAFETY: as in `struct_new`.
    let array = unsafe { ops::array_new(m.vmctx(), ty, operands(m), length, Payer::Guest) };
    made(m, 2, array)
}

fn array_new_default(m: &mut Machine) -> Step {
    let (ty, length) = (m.low(1), m.get(m.b()));
    before_alloc(m, array_size(storage(m, ty), length));
    // SAFETY: as in `struct_new`.
    let array = unsafe { ops::array_new_default(m.vmctx(), ty, length, Payer::Guest) };
    made(m, 2, array)
}

fn array_new_fixed(m: &mut Machine) -> Step {
    let (ty, length) = (m.high(1), m.low(2));
    before_alloc(m, array_size(storage(m, ty), length));
    // SAFETY: as in `struct_new`.
    let array = unsafe { ops::array_new_fixed(m.vmctx(), ty, operands(m), length, Payer::Guest) };
    made(m, 3, array)
}

fn array_new_data(m: &mut Machine) -> Step {
    let (ty, length) = (m.high(1), operand(m, 1));
    before_alloc(m, array_size(storage(m, ty), length));
    // SAFETY: as in `struct_new`; the segment is one of the module.
    let array = unsafe { ops::array_new_data(m.vmctx(), ty, m.low(2), operand(m, 0), length) };
    made(m, 3, array)
}

fn array_new_elem(m: &mut Machine) -> Step {
    let (ty, length) = (m.high(1), operand(m, 1));
    before_alloc(m, array_size(storage(m, ty), length));
    before_converting(m, length);
    // SAFETY: as in `struct_new`; the segment is one of the module, of the elements' type.
    let array = unsafe { ops::array_new_elem(m.vmctx(), ty, m.low(2), operand(m, 0), length) };
    made(m, 3, array)
}

fn array_fill(m: &mut Machine) -> Step {
    let (ty, storage) = (m.high(1), storage(m, m.high(1)));
    let range = (operand(m, 0), operand(m, 1), operand(m, 2 + ops::slots(storage)));
    before_moving(m, storage, range.2);
    // SAFETY: the running instance, a type of its module, a reference to such an array, and a value of its elements.
    let result = unsafe { ops::array_fill(m.vmctx(), ty, range, operands(m).add(2)) };
    after(m, 2, result)
}

fn array_copy(m: &mut Machine) -> Step {
    let (to, from) = ((operand(m, 0), operand(m, 1)), (operand(m, 2), operand(m, 3)));
    let (ty, count) = (m.high(1), operand(m, 4));
    before_moving(m, storage(m, ty), count);
    // SAFETY: as in `array_fill`; the elements of both arrays are stored alike.
    let result = unsafe { ops::array_copy(m.vmctx(), ty, to, from, count) };
    after(m, 3, result)
}

fn array_init_data(m: &mut Machine) -> Step {
    let range = (operand(m, 0), operand(m, 1), operand(m, 3));
    let ty = m.high(1);
    before_moving(m, storage(m, ty), range.2);
    // SAFETY: as in `array_fill`; the segment is one of the module.
    let result = unsafe { ops::array_init_data(m.vmctx(), ty, m.low(2), range, operand(m, 2)) };
    after(m, 3, result)
}

fn array_init_elem(m: &mut Machine) -> Step {
    let range = (operand(m, 0), operand(m, 1), operand(m, 3));
    before_converting(m, range.2);
    // SAFETY: as in `array_fill`; the segment is one of the module, of the elements' type.
    let result = unsafe { ops::array_init_elem(m.vmctx(), m.high(1), m.low(2), range, operand(m, 2)) };
    after(m, 3, result)
}
