//! Tables of references.

use super::context::VMTable;
use super::limits::Growth;
use super::store::{StoreOpaque, Stored};
use crate::error::{Error, Result};
use crate::module::types::TableType;

/// Most elements of a table, whatever its type allows: what a hostile module can cost is bounded by this.
pub(crate) const MAX_ELEMENTS: u64 = 10_000_000;

/// The Rust side of a table.
pub(crate) struct TableData {
    /// Where engines see it: in the defining instance's context, or in `owned`.
    pub vm: *mut VMTable,
    pub ty: TableType,
    elements: Vec<u64>,
    _owned: Option<Box<VMTable>>,
}

impl TableData {
    /// Makes a table of its minimum size filled with `init`, seen by engines at `vm`, or at a place of its own.
    ///
    /// # Safety
    /// `vm` must be valid for writes as long as the table lives.
    pub unsafe fn new(vm: Option<*mut VMTable>, ty: TableType, init: u64) -> Result<Self> {
        ty.check()?;
        if ty.is_64() {
            return Err(Error::usage("tables with 64-bit indices (the memory64 proposal) are not supported"));
        }
        if ty.minimum > MAX_ELEMENTS {
            let message = format!("a table of {} elements is larger than the limit of {MAX_ELEMENTS}", ty.minimum);
            return Err(Error::resource(message));
        }
        let mut owned = None;
        let vm =
            vm.unwrap_or_else(|| &raw mut **owned.insert(Box::new(VMTable { base: std::ptr::null_mut(), length: 0 })));
        let mut table = TableData { vm, elements: vec![init; ty.minimum as usize], ty, _owned: owned };
        table.publish();
        Ok(table)
    }

    /// Tells engines where the elements are.
    fn publish(&mut self) {
        // SAFETY: `vm` is valid while the table lives.
        unsafe { self.vm.write(VMTable { base: self.elements.as_mut_ptr(), length: self.elements.len() }) }
    }

    pub fn len(&self) -> u64 {
        self.elements.len() as u64
    }

    /// The elements; engines write them too, through the pointer published.
    pub fn elements(&self) -> &[u64] {
        &self.elements
    }

    pub fn elements_mut(&mut self) -> &mut [u64] {
        &mut self.elements
    }

    /// The pointer to the elements that engines use, and how many there are.
    pub fn elements_ptr(&self) -> (*mut u64, usize) {
        // SAFETY: `vm` is valid while the table lives.
        let vm = unsafe { self.vm.read() };
        (vm.base, vm.length)
    }

    /// What growth by `delta` elements is; `None` if that is beyond all limits.
    pub fn growth(&self, delta: u64) -> Option<Growth> {
        let desired = usize::try_from(self.len().checked_add(delta)?).ok()?;
        Some(Growth { current: self.elements.len(), desired, ..initial_growth(&self.ty) })
    }

    /// Grows by `delta` elements of `init`; the old size, or `None` if it can't (specification, `table.grow`).
    pub fn grow(&mut self, delta: u64, init: u64) -> Option<u64> {
        let old = self.len();
        let limit = self.ty.maximum.unwrap_or(MAX_ELEMENTS).min(MAX_ELEMENTS);
        let new = old.checked_add(delta).filter(|new| *new <= limit)?;
        self.elements.try_reserve((new - old) as usize).ok()?;
        self.elements.resize(new as usize, init);
        self.publish();
        Some(old)
    }
}

/// What making a table of a type is.
pub(crate) fn initial_growth(ty: &TableType) -> Growth {
    let elements = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let maximum = Some(elements(ty.maximum.unwrap_or(MAX_ELEMENTS).min(MAX_ELEMENTS)));
    Growth { current: 0, desired: elements(ty.minimum), maximum }
}

impl StoreOpaque {
    pub(crate) fn add_table(&mut self, table: TableData) -> Stored {
        self.tables.push(table);
        Stored::new(self, self.tables.len() - 1)
    }
}
