//! References and globals.

use crate::interp::machine::{Flow, Machine, Step};
use crate::interp::value::Value;
use crate::numeric::simd::V128;
use crate::vm::instance::func_ref;

pub(super) fn ref_func(m: &mut Machine) -> Step {
    // SAFETY: the running instance, and an index of its module.
    let reference = unsafe { func_ref(m.vmctx(), m.bc()) };
    m.put(m.a(), reference as u64);
    m.skip(1);
    Step::Next
}

/// The global whose cell, or the pointer to it, lies at the byte offset in `b` and `c`.
#[inline(always)]
fn global<const INDIRECT: bool>(m: &Machine) -> *mut u64 {
    let at = m.vmctx().wrapping_byte_add(m.bc() as usize);
    // SAFETY: the translator took the offset from the module's.
    if INDIRECT { unsafe { *at.cast::<*mut u64>() } } else { at.cast() }
}

#[inline(always)]
pub(super) fn global_get<const INDIRECT: bool>(m: &mut Machine) -> Flow {
    // SAFETY: a global of the running instance.
    m.finish(unsafe { *global::<INDIRECT>(m) }, 1)
}

#[inline(always)]
pub(super) fn global_set<const INDIRECT: bool>(m: &mut Machine) -> Flow {
    // SAFETY: as above.
    unsafe { *global::<INDIRECT>(m) = m.get(m.a()) };
    m.skip(1)
}

/// The sum of a global, the number of whose eight bytes is in `c`, or of slot `a`, and the sign-extended `b`; and where
/// the global is.
#[inline(always)]
fn sum(m: &Machine, of_slot: bool) -> (u32, *mut u64) {
    let global = m.vmctx().wrapping_byte_add(8 * usize::from(m.c())).cast::<u64>();
    // SAFETY: as above.
    let value = if of_slot { m.get(m.a()) } else { unsafe { *global as u32 } };
    (value.wrapping_add(m.b() as i16 as u32), global)
}

#[inline(always)]
pub(super) fn global_get_add(m: &mut Machine) -> Flow {
    let (sum, _) = sum(m, false);
    m.finish(sum, 1)
}

#[inline(always)]
pub(super) fn global_bump(m: &mut Machine) -> Flow {
    let (sum, global) = sum(m, false);
    // SAFETY: as above.
    unsafe { *global = sum.into() };
    m.finish(sum, 1)
}

#[inline(always)]
pub(super) fn global_set_add(m: &mut Machine) -> Flow {
    let (sum, global) = sum(m, true);
    // SAFETY: as above.
    unsafe { *global = sum.into() };
    m.skip(1)
}

#[inline(always)]
pub(super) fn global_get_wide(m: &mut Machine) -> Flow {
    // SAFETY: as above; cells have room for a vector.
    m.finish(unsafe { V128::read(m.at_place(m.bc())) }, 1)
}

#[inline(always)]
pub(super) fn global_set_wide(m: &mut Machine) -> Flow {
    // SAFETY: as above.
    unsafe { m.get::<V128>(m.a()).write(m.at_place(m.bc())) };
    m.skip(1)
}
