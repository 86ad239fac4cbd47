//! Locals, as copies between slots, and globals.

use crate::interp::machine::{Flow, Machine};
use crate::interp::value::SlotValue;
use crate::numeric::simd::V128;

run! {
    // Copies leave the accumulators alone: they often stand between a comparison and the branch on it.
    Copy(m) {
        m.put::<u64>(m.a(), m.get(m.b()));
        m.skip(1)
    }
    Copy2(m) {
        let (x, y) = (m.get::<u64>(m.b()), m.get::<u64>(m.c()));
        let to = m.slot(m.a());
        // SAFETY: the machine's invariant.
        unsafe { to.cast::<[u64; 2]>().write([x, y]) };
        m.skip(1)
    }
    CopyWide(m) {
        m.put::<V128>(m.a(), m.get(m.b()));
        m.skip(1)
    }
    CopySpan(m) {
        let (to, from) = (m.fp.wrapping_add(m.low(1) as usize), m.fp.wrapping_add(m.high(1) as usize));
        // SAFETY: the machine's invariant; the spans may overlap.
        unsafe { from.copy_to(to, m.low(2) as usize) };
        m.skip(3)
    }
    LoadWideSlot(m) {
        let from = m.fp.wrapping_add(m.low(1) as usize);
        // SAFETY: the machine's invariant, and the slack behind the frame.
        unsafe { from.copy_to(m.slot(m.a()), 2) };
        m.skip(2)
    }
    StoreWideSlot(m) {
        let to = m.fp.wrapping_add(m.low(1) as usize);
        // SAFETY: the machine's invariant.
        unsafe { m.slot(m.a()).copy_to(to, m.high(1) as usize) };
        m.skip(2)
    }

    GlobalGet(m) global_get::<false>(m)
    GlobalGetIndirect(m) global_get::<true>(m)
    GlobalGetAdd(m) {
        let (sum, _) = sum(m, false);
        m.finish(sum, 1)
    }
    GlobalBump(m) {
        let (sum, global) = sum(m, false);
        // SAFETY: a global of the running instance.
        unsafe { *global = sum.into() };
        m.finish(sum, 1)
    }
    GlobalSetAdd(m) {
        let (sum, global) = sum(m, true);
        // SAFETY: a global of the running instance.
        unsafe { *global = sum.into() };
        m.skip(1)
    }
    GlobalGetWide(m) {
        // SAFETY: a global of the running instance; cells have room for a vector.
        m.finish(unsafe { V128::read(m.at_place(m.bc())) }, 1)
    }
    GlobalSet(m) global_set::<false>(m)
    GlobalSetIndirect(m) global_set::<true>(m)
    GlobalSetWide(m) {
        // SAFETY: a global of the running instance.
        unsafe { m.get::<V128>(m.a()).write(m.at_place(m.bc())) };
        m.skip(1)
    }
}

/// The cell of the global at the byte offset in `b` and `c` of the context, where `INDIRECT` globals have a pointer to it.
#[inline(always)]
fn global<const INDIRECT: bool>(m: &Machine) -> *mut u64 {
    let at = m.vmctx().wrapping_byte_add(m.bc() as usize);
    // SAFETY: the translator took the offset from the module's.
    if INDIRECT { unsafe { *at.cast::<*mut u64>() } } else { at.cast() }
}

#[inline(always)]
fn global_get<const INDIRECT: bool>(m: &mut Machine) -> Flow {
    // SAFETY: a global of the running instance.
    m.finish(unsafe { *global::<INDIRECT>(m) }, 1)
}

#[inline(always)]
fn global_set<const INDIRECT: bool>(m: &mut Machine) -> Flow {
    // SAFETY: a global of the running instance.
    unsafe { *global::<INDIRECT>(m) = m.get(m.a()) };
    m.skip(1)
}

/// Adds the sign-extended `b` to slot `a`, if `of_slot`, or to the global at eight times `c` bytes of the context. Returns the sum
/// and the global's cell.
#[inline(always)]
fn sum(m: &Machine, of_slot: bool) -> (u32, *mut u64) {
    let global = m.vmctx().wrapping_byte_add(8 * usize::from(m.c())).cast::<u64>();
    // SAFETY: a global of the running instance.
    let value = if of_slot { m.get(m.a()) } else { unsafe { *global as u32 } };
    (value.wrapping_add(m.b() as i16 as u32), global)
}
