//! The collection of exceptions.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::{Exceptions, MIN_THRESHOLD, free, layout};
use crate::module::types::ValType;
use crate::runtime::store::StoreOpaque;
use crate::runtime::sys;
use crate::runtime::vmcontext::VMException;

/// What has been reached, by address.
struct Marks {
    reached: HashMap<usize, bool>,
    pending: Vec<*mut VMException>,
}

impl Marks {
    /// Marks the exception at this address, if there is one.
    fn word(&mut self, word: u64) {
        if let Some(reached) = self.reached.get_mut(&(word as usize))
            && !std::mem::replace(reached, true)
        {
            self.pending.push(word as usize as *mut VMException);
        }
    }

    /// Marks from all words of a range.
    ///
    /// # Safety
    /// The range must be readable.
    unsafe fn words(&mut self, mut from: *const u64, to: *const u64) {
        while from < to {
            // SAFETY: the caller's promise.
            self.word(unsafe { from.read_volatile() });
            from = from.wrapping_add(1);
        }
    }
}

/// Frees the exceptions that nothing refers to: neither the stacks, nor `slots` words from `payload`, nor globals,
/// tables, the host, or another exception that something refers to.
///
/// # Safety
/// As for [`super::new`].
#[inline(never)]
pub(super) unsafe fn run(store: &mut StoreOpaque, payload: *const u64, slots: usize) {
    if store.stack_base() == sys::SCATTERED {
        return;
    }
    let mut marks =
        Marks { reached: store.exceptions.all.iter().map(|e| (*e as usize, false)).collect(), pending: Vec::new() };
    // SAFETY: the value stack is mapped up to its top; the native stack is from here to where this store's code was
    // entered, all on this thread; what compiled code kept over the call in a register is
    // in that still, or was saved by a frame from here on; `payload` is readable by the caller's promise.
    unsafe {
        marks.words(store.value_base(), store.vm.value_top);
        let registers = sys::saved_registers();
        registers.iter().for_each(|word| marks.word(*word));
        marks.words((sys::stack_pointer() & !7) as *const u64, store.stack_base() as *const u64);
        marks.words(payload, payload.add(slots));
    }
    for global in store.globals.iter().filter(|global| global.ty.content == ValType::ExnRef) {
        // SAFETY: cells live as long as the store.
        marks.word(unsafe { (*global.vm).slots[0] });
    }
    for table in store.tables.iter().filter(|table| table.ty.element == ValType::ExnRef) {
        table.elements().iter().for_each(|slot| marks.word(*slot));
    }
    store.exceptions.pins.get_mut().unwrap_or_else(PoisonError::into_inner).retain(|pin| match pin.upgrade() {
        Some(pin) => {
            marks.word(pin.exception as u64);
            true
        }
        None => false,
    });
    while let Some(exception) = marks.pending.pop() {
        // SAFETY: live until the sweep below.
        unsafe {
            let payload = VMException::payload(exception);
            marks.words(payload, payload.add((*exception).slots));
        }
    }
    let Exceptions { all, bytes, threshold, .. } = &mut store.exceptions;
    all.retain(|exception| {
        let reached = marks.reached[&(*exception as usize)];
        if !reached {
            // SAFETY: nothing refers to it.
            unsafe {
                *bytes -= layout((**exception).slots).size();
                free(*exception);
            }
        }
        reached
    });
    *threshold = (*bytes * 2).max(MIN_THRESHOLD);
}
