//! Atomic instructions (specification of the threads proposal). They are sequentially consistent, on shared memories and others.
//!
//! An address that is not a multiple of the unit's size traps, also where it is out of bounds.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use super::control::exit_here;
use super::memory::{after, any_address, memory_at};
use super::{Named, printed};
use crate::error::Trap;
use crate::interp::machine::{Flow, Handler, Machine, Step};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::interp::value::Unit;
use crate::vm::ops;
use crate::vm::shared::Expected;

run! {
    MemoryAtomicNotify(_m) Flow::Slow(notify)
    MemoryAtomicWait32(_m) Flow::Slow(wait32)
    MemoryAtomicWait64(_m) Flow::Slow(wait64)
    AtomicFence(m) {
        fence(Ordering::SeqCst);
        m.skip(1)
    }
}

/// What one atomic instruction reads and writes: little-endian, at an address that is a multiple of its size.
///
/// # Safety
/// For all functions with a place: the unit's bytes there are readable and writable, at a multiple of the unit's size, and as long
/// as the function runs, other threads access them atomically if at all.
pub(crate) trait AtomicUnit: Unit {
    /// The unit in the low bits of a slot.
    fn from_slot(slot: u64) -> Self;

    /// A slot with the unit in its low bits, and zeros above.
    fn to_slot(self) -> u64;

    unsafe fn atomic_load(place: *mut u8) -> Self;
    unsafe fn atomic_store(self, place: *mut u8);

    // Each of these returns what was there before.
    unsafe fn fetch_add(place: *mut u8, operand: Self) -> Self;
    unsafe fn fetch_sub(place: *mut u8, operand: Self) -> Self;
    unsafe fn fetch_and(place: *mut u8, operand: Self) -> Self;
    unsafe fn fetch_or(place: *mut u8, operand: Self) -> Self;
    unsafe fn fetch_xor(place: *mut u8, operand: Self) -> Self;
    unsafe fn swap(place: *mut u8, operand: Self) -> Self;
    unsafe fn compare_exchange(place: *mut u8, expected: Self, replacement: Self) -> Self;
}

macro_rules! atomic_units {
    ($($ty:ident as $atomic:ident;)*) => {
        $(impl AtomicUnit for $ty {
            #[inline(always)]
            fn from_slot(slot: u64) -> Self {
                slot as $ty
            }

            #[inline(always)]
            fn to_slot(self) -> u64 {
                self.into()
            }

            #[inline(always)]
            unsafe fn atomic_load(place: *mut u8) -> Self {
                // SAFETY: the caller's promise.
                $ty::from_le(unsafe { $atomic::from_ptr(place.cast()) }.load(Ordering::SeqCst))
            }

            #[inline(always)]
            unsafe fn atomic_store(self, place: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { $atomic::from_ptr(place.cast()) }.store(self.to_le(), Ordering::SeqCst);
            }

            atomic_units! { @bytewise $ty $atomic fetch_and fetch_or fetch_xor swap }
            atomic_units! { @carrying $ty $atomic fetch_add wrapping_add, fetch_sub wrapping_sub }

            #[inline(always)]
            unsafe fn compare_exchange(place: *mut u8, expected: Self, replacement: Self) -> Self {
                let (expected, replacement) = (expected.to_le(), replacement.to_le());
                // SAFETY: the caller's promise.
                let atomic = unsafe { $atomic::from_ptr(place.cast()) };
                let (Ok(old) | Err(old)) =
                    atomic.compare_exchange(expected, replacement, Ordering::SeqCst, Ordering::SeqCst);
                $ty::from_le(old)
            }
        })*
    };
    (@bytewise $ty:ident $atomic:ident $($name:ident)*) => {
        $(#[inline(always)]
        unsafe fn $name(place: *mut u8, operand: Self) -> Self {
            // SAFETY: the caller's promise.
            $ty::from_le(unsafe { $atomic::from_ptr(place.cast()) }.$name(operand.to_le(), Ordering::SeqCst))
        })*
    };
    // Where the host has the other byte order, its instructions would carry in the wrong direction.
    (@carrying $ty:ident $atomic:ident $($name:ident $wrapping:ident),*) => {
        $(#[inline(always)]
        unsafe fn $name(place: *mut u8, operand: Self) -> Self {
            // SAFETY: the caller's promise.
            let atomic = unsafe { $atomic::from_ptr(place.cast()) };
            if cfg!(target_endian = "little") {
                return atomic.$name(operand, Ordering::SeqCst);
            }
            let apply = |old| Some($ty::from_le(old).$wrapping(operand).to_le());
            let (Ok(old) | Err(old)) = atomic.fetch_update(Ordering::SeqCst, Ordering::SeqCst, apply);
            $ty::from_le(old)
        })*
    };
}

atomic_units! {
    u8 as AtomicU8;
    u16 as AtomicU16;
    u32 as AtomicU32;
    u64 as AtomicU64;
}

pub(crate) trait AtomicLoadOp: Named {
    type Unit: AtomicUnit;
}

pub(crate) trait AtomicStoreOp: Named {
    type Unit: AtomicUnit;
}

pub(crate) trait AtomicRmwOp: Named {
    type Unit: AtomicUnit;

    /// Replaces the unit at a place, and returns what was there.
    ///
    /// # Safety
    /// As for [`AtomicUnit`].
    unsafe fn apply(place: *mut u8, operand: Self::Unit) -> Self::Unit;
}

pub(crate) trait AtomicCmpxchgOp: Named {
    type Unit: AtomicUnit;
}

/// Where the unit lies that an instruction accesses: at the index in a slot plus the offset in word 1, in the memory that word 2
/// names.
#[inline(always)]
fn place<U: AtomicUnit>(m: &mut Machine, slot: u16) -> Result<*mut u8, Flow> {
    let (index, offset) = (m.get::<u64>(slot), m.word(1));
    if !index.wrapping_add(offset).is_multiple_of(U::SIZE) {
        return Err(Flow::Trap(Trap::HeapMisaligned));
    }
    let (base, length) = memory_at(m, m.low(2));
    match any_address::<U>(index, offset, length) {
        // Memories begin at addresses that are multiples of every unit's size.
        Ok(address) if address + U::SIZE <= length => Ok(base.wrapping_add(address as usize)),
        Ok(address) => {
            m.context().other_length = Some(length);
            Err(Flow::OutOfBounds { address, size: U::SIZE })
        }
        Err(flow) => {
            m.context().other_length = Some(length);
            Err(flow)
        }
    }
}

fn notify(m: &mut Machine) -> Step {
    // SAFETY: the running instance, and an index of its module.
    let woken = unsafe { ops::atomic_notify(m.vmctx(), m.low(2), (m.get(m.b()), m.word(1)), m.get(m.c())) };
    let result = woken.map(|woken| m.put(m.a(), woken));
    after(m, 3, result)
}

fn wait32(m: &mut Machine) -> Step {
    let expected = Expected::U32(m.get(m.c()));
    wait(m, expected)
}

fn wait64(m: &mut Machine) -> Step {
    let expected = Expected::U64(m.get(m.c()));
    wait(m, expected)
}

fn wait(m: &mut Machine, expected: Expected) -> Step {
    exit_here(m);
    let (place, nanoseconds) = ((m.get(m.b()), m.word(1)), m.get(m.high(2) as u16));
    // SAFETY: as in `notify`. `value_top` and where the code was left were set.
    let waited = unsafe { ops::atomic_wait(m.vmctx(), m.low(2), place, expected, nanoseconds) };
    let result = waited.map(|waited| m.put(m.a(), waited));
    after(m, 3, result)
}

macro_rules! handlers {
    ($($name:ident<$op:ident> at $half:ident $fields:expr, |$m:ident, $place:ident| $run:expr;)*) => {
        $(
            pub(crate) struct $name<O>(PhantomData<O>);
            impl<O: $op> Handler for $name<O> {
                const FIELDS: &'static [Field] = &$fields;

                fn name() -> String {
                    printed(O::NAME)
                }

                #[inline(always)]
                fn run($m: &mut Machine) -> Flow {
                    match place::<O::Unit>($m, $m.$half()) {
                        // SAFETY: `place` has checked that the unit lies in the memory and is aligned. Where other threads access it
                        // otherwise than atomically, they do so by instructions that Rust does not know of (`racy`).
                        Ok($place) => unsafe { $run },
                        Err(flow) => flow,
                    }
                }
            }
        )*
    };
}

handlers! {
    AtomicLoadHandler<AtomicLoadOp> at b [Def(A), Slot(B), Word(1), Place(2)], |m, place| {
        m.finish(O::Unit::atomic_load(place).to_slot(), 3)
    };
    AtomicStoreHandler<AtomicStoreOp> at a [Slot(A), Slot(B), Word(1), Place(2)], |m, place| {
        O::Unit::from_slot(m.get(m.b())).atomic_store(place);
        m.skip(3)
    };
    AtomicRmwHandler<AtomicRmwOp> at b [Def(A), Slot(B), Slot(C), Word(1), Place(2)], |m, place| {
        m.finish(O::apply(place, O::Unit::from_slot(m.get(m.c()))).to_slot(), 3)
    };
    AtomicCmpxchgHandler<AtomicCmpxchgOp> at b [Def(A), Slot(B), Slot(C), Word(1), Place(2), High(2)], |m, place| {
        let (expected, replacement) = (m.get(m.c()), m.get(m.high(2) as u16));
        let (expected, replacement) = (O::Unit::from_slot(expected), O::Unit::from_slot(replacement));
        m.finish(O::Unit::compare_exchange(place, expected, replacement).to_slot(), 3)
    };
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// A unit that several threads modify. Accesses go through its address.
    #[repr(C, align(8))]
    struct Shared(std::cell::UnsafeCell<[u8; 8]>);

    // SAFETY: the test accesses it atomically.
    unsafe impl Sync for Shared {}

    /// Has four threads do the same for so long that they run at once even on a busy machine. Returns the unit and how often it was
    /// done in all, each thread an even number of times.
    fn many(start: u64, run: impl Fn(*mut u8, u64) + Sync) -> (u64, u64) {
        let (shared, until) = (Shared(start.to_le_bytes().into()), Instant::now() + Duration::from_millis(50));
        let count = thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|thread| {
                let (shared, run) = (&shared, &run);
                scope.spawn(move || {
                    let mut count = 0;
                    while count < 50 || !cfg!(miri) && Instant::now() < until {
                        // Not known to be the same place each time, or what is not atomic would be done once.
                        (0..50).for_each(|_| run(black_box(shared.0.get().cast()), thread));
                        count += 50;
                    }
                    count
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        (u64::from_le_bytes(shared.0.into_inner()), count)
    }

    /// No modification of one thread is lost to another's.
    #[test]
    fn modifications_are_atomic() {
        // SAFETY: an aligned unit that all threads access atomically.
        unsafe {
            let (sum, count) = many(5, |place, _| {
                u64::fetch_add(place, 3);
            });
            assert_eq!(sum, 5 + 3 * count);
            let (difference, count) = many(5, |place, _| {
                u16::fetch_sub(place, 1);
            });
            assert_eq!(difference as u16, 5u16.wrapping_sub(count as u16));
            let (toggled, _) = many(0, |place, thread| {
                u32::fetch_xor(place, 1 << thread);
            });
            assert_eq!(toggled, 0);
            // Each thread sets and clears a bit of its own.
            let (bits, _) = many(0, |place, thread| {
                assert_eq!(u8::fetch_or(place, 1 << thread) >> thread & 1, 0);
                assert_eq!(u8::fetch_and(place, !(1 << thread)) >> thread & 1, 1);
            });
            assert_eq!(bits, 0);
            let (sum, count) = many(0, |place, _| {
                let mut old = u32::atomic_load(place);
                loop {
                    match u32::compare_exchange(place, old, old + 1) {
                        seen if seen == old => break,
                        seen => old = seen,
                    }
                }
            });
            assert_eq!(sum, count);
        }
    }

    /// A lock that is taken by exchange and left by a store guards an addition that is not atomic.
    #[test]
    fn accesses_are_ordered() {
        // SAFETY: the lock is an aligned unit that is accessed atomically; the number beside it only by who has the lock.
        let (both, count) = many(0, |place, _| unsafe {
            while u32::swap(place, 1) != 0 {
                thread::yield_now();
            }
            let number = place.add(4);
            u32::store(u32::load(number, 0) + 1, number, 0);
            u32::atomic_store(0, place);
        });
        assert_eq!(both, count << 32);
    }
}
