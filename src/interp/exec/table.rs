//! Tables.

use super::control::exit_here;
use super::memory::{after, put_size, three};
use crate::error::Trap;
use crate::interp::machine::{Flow, Machine, Step};
use crate::vm::context::VMTable;
use crate::vm::ops::{self, Payer};

run! {
    TableGet(m) {
        match element(m, m.low(1), m.get(m.b())) {
            // SAFETY: an element of the table.
            Some(element) => m.finish(unsafe { *element }, 2),
            None => Flow::Trap(Trap::TableOutOfBounds),
        }
    }
    TableSet(m) {
        match element(m, m.low(1), m.get(m.a())) {
            Some(element) => {
                // SAFETY: an element of the table, and a reference of its type.
                unsafe { *element = m.get(m.b()) };
                m.skip(2)
            }
            None => Flow::Trap(Trap::TableOutOfBounds),
        }
    }
    TableSize(m) {
        // SAFETY: a place of a table in the running instance.
        let length = unsafe { (*m.at_place::<VMTable>(m.bc())).length };
        m.finish(length as u64, 1)
    }
    TableGrow(_m) Flow::Slow(table_grow)
    TableFill(_m) Flow::Slow(table_fill)
    TableCopy(_m) Flow::Slow(table_copy)
    TableInit(_m) Flow::Slow(table_init)
    ElemDrop(_m) Flow::Slow(elem_drop)
}

/// The address of element `index` of the table at a place, if the table has that many.
#[inline(always)]
pub(super) fn element(m: &Machine, place: u32, index: u64) -> Option<*mut u64> {
    // SAFETY: a place of a table in the running instance.
    let table = unsafe { &*m.at_place::<VMTable>(place) };
    (index < table.length as u64).then(|| table.base.wrapping_add(index as usize))
}

fn table_grow(m: &mut Machine) -> Step {
    exit_here(m);
    // SAFETY: the running instance, an index of its module, and a reference of the table's type. `value_top` was set.
    let grown = unsafe { ops::table_grow(m.vmctx(), m.low(1), m.get(m.c()), m.get(m.b())) };
    let result = grown.map(|old| put_size(m, old));
    after(m, 2, result)
}

fn table_fill(m: &mut Machine) -> Step {
    let (dst, _, len) = three(m);
    // SAFETY: as in `table_grow`.
    let result = unsafe { ops::table_fill(m.vmctx(), m.low(1), dst, m.get(m.b()), len) };
    after(m, 2, result)
}

fn table_copy(m: &mut Machine) -> Step {
    let (dst, src, len) = three(m);
    // SAFETY: as in `table_grow`; both tables are of one type.
    let result = unsafe { ops::table_copy(m.vmctx(), m.low(1), m.high(1), dst, src, len) };
    after(m, 2, result)
}

fn table_init(m: &mut Machine) -> Step {
    let (dst, src, len) = three(m);
    // SAFETY: as in `table_grow`; the segment is of the table's type.
    let result = unsafe { ops::table_init(m.vmctx(), m.low(1), m.high(1), dst, src as u32, len as u32, Payer::Guest) };
    after(m, 2, result)
}

fn elem_drop(m: &mut Machine) -> Step {
    // SAFETY: as in `table_grow`.
    unsafe { ops::elem_drop(m.vmctx(), m.bc()) };
    after(m, 1, Ok(()))
}
