//! Loads, stores, and the instructions on whole memories.
//!
//! Index and offset of an access to memory 0, if that has 32-bit addresses, are below 2^32 and units have at most 16 bytes, so their
//! sum does not wrap in 64 bits, and `index + offset + size <= length` is the whole bounds check. All other accesses have the form
//! `Any`, whose index and offset have 64 bits; an address beyond 2^64 is taken as the greatest, which no memory reaches.
//!
//! A slot with an `i32` has zeros above, so 32-bit and 64-bit operands of instructions on ranges are read alike.

use std::marker::PhantomData;

use super::control::exit_here;
use super::{Named, kept, printed};
use crate::interp::machine::{Flow, Handler, Machine, Step};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::interp::value::{SlotValue, Unit};
use crate::vm::context::VMMemory;
use crate::vm::ops::{self, Payer};

run! {
    I32Move(m) copy::<u32>(m)
    I64Move(m) copy::<u64>(m)
    MemorySize(m) {
        let (_, length) = memory_at(m, m.bc());
        m.finish(length >> m.low(1), 2)
    }
    MemoryGrow(_m) Flow::Slow(memory_grow)
    MemoryFill(_m) Flow::Slow(memory_fill)
    MemoryCopy(_m) Flow::Slow(memory_copy)
    MemoryInit(_m) Flow::Slow(memory_init)
    DataDrop(_m) Flow::Slow(data_drop)
}

pub(crate) trait LoadOp: Named {
    /// What is read from memory.
    type Unit: Unit;
    type Output: SlotValue;
    fn extend(unit: Self::Unit) -> Self::Output;
}

pub(crate) trait StoreOp: Named {
    type Value: SlotValue;
    /// What is written to memory.
    type Unit: Unit;
    fn wrap(value: Self::Value) -> Self::Unit;
}

/// Reads a unit at an address of a memory.
#[inline(always)]
pub(super) fn load<U: Unit>(memory: *const u8, length: u64, address: u64) -> Result<U, Flow> {
    if address + U::SIZE > length {
        return Err(Flow::OutOfBounds { address, size: U::SIZE });
    }
    // SAFETY: the unit lies in the memory.
    Ok(unsafe { U::load(memory, address as usize) })
}

/// Writes a unit at an address of a memory.
#[inline(always)]
pub(super) fn store<U: Unit>(memory: *mut u8, length: u64, address: u64, unit: U) -> Result<(), Flow> {
    if address + U::SIZE > length {
        return Err(Flow::OutOfBounds { address, size: U::SIZE });
    }
    // SAFETY: the unit lies in the memory.
    unsafe { unit.store(memory, address as usize) };
    Ok(())
}

/// Reads a unit at an index and an offset of any value.
#[inline(always)]
pub(super) fn load_any<U: Unit>(memory: *const u8, length: u64, index: u64, offset: u64) -> Result<U, Flow> {
    load(memory, length, any_address::<U>(index, offset, length)?)
}

/// Writes a unit at an index and an offset of any value.
#[inline(always)]
pub(super) fn store_any<U: Unit>(memory: *mut u8, length: u64, index: u64, offset: u64, unit: U) -> Result<(), Flow> {
    store(memory, length, any_address::<U>(index, offset, length)?, unit)
}

/// The sum of index and offset if that is not above the length, so that adding the size of a unit does not wrap.
#[inline(always)]
pub(super) fn any_address<U: Unit>(index: u64, offset: u64, length: u64) -> Result<u64, Flow> {
    let address = index.saturating_add(offset);
    if address <= length { Ok(address) } else { Err(Flow::OutOfBounds { address, size: U::SIZE }) }
}

/// The address in a slot plus an offset.
#[inline(always)]
fn address(m: &Machine, slot: u16, offset: impl Into<u64>) -> u64 {
    u64::from(m.get::<u32>(slot)) + offset.into()
}

/// A [`LoadForm`](crate::interp::op::LoadForm) as a type: where the address comes from.
pub(crate) trait LoadAt {
    const SUFFIX: &'static str;
    const WORDS: usize;
    const FIELDS: &'static [Field];
    fn address(m: &Machine) -> Result<u64, Flow>;
}

/// A [`StoreForm`](crate::interp::op::StoreForm) as a type: where address and value come from.
pub(crate) trait StoreAt {
    const SUFFIX: &'static str;
    const FIELDS: &'static [Field];
    fn address(m: &Machine) -> u64;
    fn value<T: SlotValue>(m: &Machine) -> T;
}

macro_rules! load_forms {
    ($($name:ident $suffix:literal $words:literal $fields:expr, |$m:ident| $address:expr;)*) => {
        $(
            pub(crate) struct $name;
            impl LoadAt for $name {
                const SUFFIX: &'static str = $suffix;
                const WORDS: usize = $words;
                const FIELDS: &'static [Field] = &$fields;
                #[inline(always)]
                fn address($m: &Machine) -> Result<u64, Flow> {
                    Ok($address)
                }
            }
        )*
    };
}

load_forms! {
    AtSlot "s" 1 [Def(A), Slot(B), OffsetC], |m| address(m, m.b(), m.c());
    AtAcc "a" 1 [Def(A), OffsetBC], |m| m.acc + u64::from(m.bc());
    AtConst "k" 1 [Def(A), OffsetBC], |m| m.bc().into();
    AtSum "plus" 1 [Def(A), Slot(B), ImmC], |m| m.get::<u32>(m.b()).wrapping_add(m.c() as i16 as u32).into();
    AtIndex "index" 2 [Def(A), Slot(B), Slot(C), High(1), Offset(1)], |m| {
        let index = m.get::<u32>(m.c()).wrapping_shl(m.high(1));
        u64::from(m.get::<u32>(m.b()).wrapping_add(index)) + u64::from(m.low(1))
    };
    AtDeref "deref" 2 [Def(A), Slot(B), OffsetC, Offset(1)], |m| {
        u64::from(load::<u32>(m.memory, m.length(), address(m, m.b(), m.c()))?) + u64::from(m.low(1))
    };
    AtAccDeref "aderef" 2 [Def(A), OffsetBC, Offset(1)], |m| {
        u64::from(load::<u32>(m.memory, m.length(), m.acc + u64::from(m.bc()))?) + u64::from(m.low(1))
    };
}

macro_rules! store_forms {
    ($($name:ident $suffix:literal $fields:expr, |$m:ident| $address:expr, $value:expr;)*) => {
        $(
            pub(crate) struct $name;
            impl StoreAt for $name {
                const SUFFIX: &'static str = $suffix;
                const FIELDS: &'static [Field] = &$fields;
                #[inline(always)]
                fn address($m: &Machine) -> u64 {
                    $address
                }
                #[inline(always)]
                fn value<T: SlotValue>($m: &Machine) -> T {
                    $value
                }
            }
        )*
    };
}

store_forms! {
    Slots "ss" [Slot(A), Slot(B), OffsetC], |m| address(m, m.a(), m.c()), m.get(m.b());
    AddrAcc "as" [Slot(A), OffsetBC], |m| m.acc + u64::from(m.bc()), m.get(m.a());
    ValueAcc "sa" [Slot(A), OffsetBC], |m| address(m, m.a(), m.bc()), T::from_acc(m);
    ValueImm "si" [Slot(A), ImmB, OffsetC], |m| address(m, m.a(), m.c()), T::from_imm(m.b() as i16 as i32);
    AccImm "ai" [ImmA, OffsetBC], |m| m.acc + u64::from(m.bc()), T::from_imm(m.a() as i16 as i32);
    AddrConst "ks" [Slot(A), OffsetBC], |m| m.bc().into(), m.get(m.a());
}

/// A load from memory 0. `KEPT`: the result is only left in the accumulator.
pub(crate) struct LoadHandler<O, F, const KEPT: bool>(PhantomData<(O, F)>);

impl<O: LoadOp, F: LoadAt, const KEPT: bool> Handler for LoadHandler<O, F, KEPT> {
    const FIELDS: &'static [Field] = F::FIELDS;

    fn name() -> String {
        format!("{}.{}{}", printed(O::NAME), F::SUFFIX, kept(KEPT))
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let unit = match F::address(m) {
            Ok(address) => load(m.memory, m.length(), address),
            Err(flow) => Err(flow),
        };
        match unit {
            Ok(unit) if KEPT => m.keep(O::extend(unit), F::WORDS),
            Ok(unit) => m.finish(O::extend(unit), F::WORDS),
            Err(flow) => flow,
        }
    }
}

/// A store to memory 0.
pub(crate) struct StoreHandler<O, F>(PhantomData<(O, F)>);

impl<O: StoreOp, F: StoreAt> Handler for StoreHandler<O, F> {
    const FIELDS: &'static [Field] = F::FIELDS;

    fn name() -> String {
        format!("{}.{}", printed(O::NAME), F::SUFFIX)
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        match store(m.memory, m.length(), F::address(m), O::wrap(F::value(m))) {
            Ok(()) => m.skip(1),
            Err(flow) => flow,
        }
    }
}

/// Base and length of the memory at a place. If an access fails, its handler leaves the length in the context.
#[inline(always)]
pub(super) fn memory_at(m: &Machine, place: u32) -> (*mut u8, u64) {
    // SAFETY: a place of a memory in the running instance.
    let memory = unsafe { &*m.at_place::<VMMemory>(place) };
    (memory.base, memory.length() as u64)
}

/// A load with any offset from any memory.
pub(crate) struct LoadAnyHandler<O>(PhantomData<O>);

impl<O: LoadOp> Handler for LoadAnyHandler<O> {
    const FIELDS: &'static [Field] = &[Def(A), Slot(B), Word(1), Place(2)];

    fn name() -> String {
        format!("{}.any", printed(O::NAME))
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let (base, length) = memory_at(m, m.low(2));
        match load_any(base, length, m.get(m.b()), m.word(1)) {
            Ok(unit) => m.finish(O::extend(unit), 3),
            Err(flow) => {
                m.context().other_length = Some(length);
                flow
            }
        }
    }
}

/// A store with any offset to any memory.
pub(crate) struct StoreAnyHandler<O>(PhantomData<O>);

impl<O: StoreOp> Handler for StoreAnyHandler<O> {
    const FIELDS: &'static [Field] = &[Slot(A), Slot(B), Word(1), Place(2)];

    fn name() -> String {
        format!("{}.any", printed(O::NAME))
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let (base, length) = memory_at(m, m.low(2));
        match store_any(base, length, m.get(m.a()), m.word(1), O::wrap(m.get(m.b()))) {
            Ok(()) => m.skip(3),
            Err(flow) => {
                m.context().other_length = Some(length);
                flow
            }
        }
    }
}

/// Loads a unit and stores it.
#[inline(always)]
fn copy<U: Unit>(m: &mut Machine) -> Flow {
    let unit = match load::<U>(m.memory, m.length(), address(m, m.b(), m.low(1))) {
        Ok(unit) => unit,
        Err(flow) => return flow,
    };
    match store(m.memory, m.length(), address(m, m.a(), m.c()), unit) {
        Ok(()) => m.skip(2),
        Err(flow) => flow,
    }
}

fn memory_grow(m: &mut Machine) -> Step {
    exit_here(m);
    // SAFETY: the running instance, and an index of its module. `value_top` was set.
    let grown = unsafe { ops::memory_grow(m.vmctx(), m.low(1), m.get(m.b())) };
    let result = grown.map(|old| put_size(m, old));
    after(m, 2, result)
}

/// Puts the old size, or `u64::MAX`, into slot `a`: with 64 bits if the high half of word 1 says so.
pub(super) fn put_size(m: &mut Machine, old: u64) {
    let size = if m.high(1) == 0 { u64::from(old as u32) } else { old };
    m.put(m.a(), size);
}

/// The operands in slots `a`, `b` and `c`.
pub(super) fn three(m: &Machine) -> (u64, u64, u64) {
    (m.get(m.a()), m.get(m.b()), m.get(m.c()))
}

/// Goes on after an instruction of `words` words, or stops with its error.
pub(super) fn after(m: &mut Machine, words: usize, result: crate::error::Result<()>) -> Step {
    match result {
        Ok(()) => {
            m.skip(words);
            Step::Next
        }
        Err(error) => m.stop(error),
    }
}

fn memory_fill(m: &mut Machine) -> Step {
    let (dst, value, len) = three(m);
    if len > ops::PIECE as u64 {
        exit_here(m);
    }
    // SAFETY: as in `memory_grow`.
    let result = unsafe { ops::memory_fill(m.vmctx(), m.low(1), dst, value as u32, len) };
    after(m, 2, result)
}

fn memory_copy(m: &mut Machine) -> Step {
    let (dst, src, len) = three(m);
    if len > ops::PIECE as u64 {
        exit_here(m);
    }
    // SAFETY: as in `memory_grow`.
    let result = unsafe { ops::memory_copy(m.vmctx(), m.low(1), m.high(1), dst, src, len) };
    after(m, 2, result)
}

fn memory_init(m: &mut Machine) -> Step {
    let (dst, src, len) = three(m);
    if len > ops::PIECE as u64 {
        exit_here(m);
    }
    // SAFETY: as in `memory_grow`.
    let result = unsafe { ops::memory_init(m.vmctx(), m.low(1), m.high(1), dst, src as u32, len as u32, Payer::Guest) };
    after(m, 2, result)
}

fn data_drop(m: &mut Machine) -> Step {
    // SAFETY: as in `memory_grow`.
    unsafe { ops::data_drop(m.vmctx(), m.bc()) };
    after(m, 1, Ok(()))
}
