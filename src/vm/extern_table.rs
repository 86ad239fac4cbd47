//! The host objects that `externref` slots of a store refer to, and the numbers that the slots have.

use std::collections::HashMap;

use super::extern_ref::ExternRef;
use super::gc::layout::{EXTERN_BITS, TAG_BITS};

/// Exclusive-ored with an object's index in its slot, so that small integers on a stack rarely look like one. 29 bits.
const SALT: u32 = 0x1CE5_A5E7;

/// The host objects that `externref` slots refer to.
#[derive(Default)]
pub(crate) struct ExternTable {
    entries: Vec<Option<ExternEntry>>,
    /// Indices of empty entries.
    free: Vec<u32>,
    by_address: HashMap<usize, u32>,
    next_serial: u64,
    /// While a collection marks: whether each entry is marked, of those that there were when it began. Else empty.
    marks: Vec<bool>,
}

struct ExternEntry {
    object: ExternRef,
    /// Serial numbers rise in the order in which objects were added.
    serial: u64,
}

impl ExternTable {
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Number of entries, those without an object included.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// The serial number that the next object gets.
    pub fn next_serial(&self) -> u64 {
        self.next_serial
    }

    /// The index of the entry that a slot refers to, if it is one of a host object.
    #[inline]
    fn index(&self, slot: u32) -> Option<usize> {
        let index = ((slot >> 3) ^ SALT) as usize;
        (slot & TAG_BITS == EXTERN_BITS && index < self.entries.len()).then_some(index)
    }

    fn slot(index: u32) -> u32 {
        (index ^ SALT) << 3 | EXTERN_BITS
    }

    /// Whether an object has a slot.
    pub fn has(&self, object: &ExternRef) -> bool {
        self.by_address.contains_key(&object.address())
    }

    /// The slot for an object; the same for each call while the object is in the table. `None` if the numbers are used up.
    pub fn intern(&mut self, object: &ExternRef) -> Option<u32> {
        const MOST: usize = 1 << 29;
        if let Some(index) = self.by_address.get(&object.address()).copied() {
            // Nothing else may have referred to it when the collection began.
            self.mark_entry(index as usize);
            return Some(Self::slot(index));
        }
        let entry = Some(ExternEntry { object: object.clone(), serial: self.next_serial });
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None if self.entries.len() < MOST => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        self.next_serial += 1;
        self.by_address.insert(object.address(), index);
        self.mark_entry(index as usize);
        Some(Self::slot(index))
    }

    /// The object that a slot refers to; `None` if it refers to none.
    pub fn get(&self, slot: u32) -> Option<&ExternRef> {
        self.entries[self.index(slot)?].as_ref().map(|entry| &entry.object)
    }

    /// A collection begins: no object is marked.
    pub fn begin_marking(&mut self) {
        self.marks.clear();
        self.marks.resize(self.entries.len(), false);
    }

    /// Marks the object that a slot refers to, if it refers to one.
    #[inline]
    pub fn mark(&mut self, slot: u32) {
        if let Some(index) = self.index(slot) {
            self.mark_entry(index);
        }
    }

    #[inline]
    fn mark_entry(&mut self, index: usize) {
        if let Some(mark) = self.marks.get_mut(index) {
            *mark = true;
        }
    }

    /// Ends a collection: removes the objects that are not marked, apart from those with a serial number below `frozen` and
    /// those that came since it began; adds them to `dead`.
    pub fn sweep(&mut self, frozen: u64, dead: &mut Vec<ExternRef>) {
        let ExternTable { entries, free, by_address, marks, .. } = self;
        for (index, entry) in entries.iter_mut().enumerate().take(marks.len()) {
            if let Some(entry) = entry.take_if(|entry| !marks[index] && entry.serial >= frozen) {
                by_address.remove(&entry.object.address());
                free.push(index as u32);
                dead.push(entry.object);
            }
        }
        marks.clear();
    }
}
