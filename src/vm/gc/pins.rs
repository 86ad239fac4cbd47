//! Objects that the host holds, from any thread and in any order of drops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The objects of a store that the host holds. Each pin has a part in it, so it may outlive the store.
#[derive(Default)]
pub(crate) struct Pins {
    /// The id of the store.
    store: u64,
    table: Mutex<PinTable>,
}

#[derive(Default)]
struct PinTable {
    /// The reference of each pin; 0 where there is none.
    entries: Vec<u32>,
    /// Indices of entries without a pin.
    free: Vec<u32>,
}

/// Keeps an object alive as long as it exists. A clone is a pin of its own.
pub(crate) struct GcPin {
    pins: Arc<Pins>,
    reference: u32,
    index: u32,
}

impl Pins {
    /// The pins of the store with this id: none.
    pub fn new(store: u64) -> Self {
        Pins { store, table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PinTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a reference of the store refers to.
    pub fn pin(self: &Arc<Self>, reference: u32) -> GcPin {
        let mut table = self.lock();
        let index = match table.free.pop() {
            Some(index) => {
                table.entries[index as usize] = reference;
                index
            }
            None => {
                table.entries.push(reference);
                u32::try_from(table.entries.len() - 1).expect("each has an owner of more bytes")
            }
        };
        GcPin { pins: self.clone(), reference, index }
    }

    /// Has `visit` visit each reference, and 0 some times.
    pub fn for_each(&self, visit: impl FnMut(u32)) {
        self.lock().entries.iter().copied().for_each(visit);
    }

    /// Number of references.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        let table = self.lock();
        table.entries.len() - table.free.len()
    }
}

impl GcPin {
    /// The reference. Only in its own store does it refer to the object.
    pub fn reference(&self) -> u32 {
        self.reference
    }

    /// The id of the store of the object.
    pub fn store(&self) -> u64 {
        self.pins.store
    }
}

impl Clone for GcPin {
    fn clone(&self) -> Self {
        self.pins.pin(self.reference)
    }
}

impl Drop for GcPin {
    fn drop(&mut self) {
        let mut table = self.pins.lock();
        table.entries[self.index as usize] = 0;
        table.free.push(self.index);
    }
}
