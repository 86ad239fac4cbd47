//! Tables of a store: type, and the elements as slots.

use super::context::VMTable;
use super::limits::{GrowthRequest, LimitedResource};
use super::store::{AliasableBox, StoreOpaque, Stored};
use crate::error::{Error, Result};
use crate::module::types::TableType;

/// Most elements of a table, whatever its type allows, so that a hostile module can't take all memory.
pub(crate) const MAX_ELEMENTS: u64 = 10_000_000;

/// The Rust side of a table.
pub(crate) struct TableData {
    /// Base and length, which engines read: in the defining instance's context, or in `_owned`.
    pub vm: *mut VMTable,
    pub ty: TableType,
    elements: Vec<u64>,
    _owned: Option<AliasableBox<VMTable>>,
}

impl TableData {
    /// Makes a table of its minimum size filled with the slot `init`, whose base and length engines read at `vm`, or in a box
    /// of its own if that is `None`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for a type that is invalid;
    /// [`Resource`](crate::ErrorKind::Resource) if the minimum is above the limit on elements.
    ///
    /// # Safety
    /// `vm` must be valid for reads and writes as long as the table lives.
    pub unsafe fn new(vm: Option<*mut VMTable>, ty: TableType, init: u64) -> Result<Self> {
        ty.check()?;
        if ty.minimum > MAX_ELEMENTS {
            let message = format!("a table of {} elements is larger than the limit of {MAX_ELEMENTS}", ty.minimum);
            return Err(Error::resource(message));
        }
        let mut owned = None;
        let vm = vm.unwrap_or_else(|| {
            owned.insert(AliasableBox::new(VMTable { base: std::ptr::null_mut(), length: 0 })).as_ptr()
        });
        let mut table = TableData { vm, elements: vec![init; ty.minimum as usize], ty, _owned: owned };
        table.publish();
        Ok(table)
    }

    /// Writes base and length to where engines read them; needed whenever the elements may have moved.
    fn publish(&mut self) {
        // SAFETY: `vm` is valid while the table lives.
        unsafe { self.vm.write(VMTable { base: self.elements.as_mut_ptr(), length: self.elements.len() }) }
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.elements.len() as u64
    }

    /// The elements as slots. Engines write to them too, through the published pointer.
    pub fn elements(&self) -> &[u64] {
        &self.elements
    }

    /// The elements as slots, to be written.
    pub fn elements_mut(&mut self) -> &mut [u64] {
        &mut self.elements
    }

    /// The published pointer to the elements, and their number.
    pub fn elements_ptr(&self) -> (*mut u64, usize) {
        // SAFETY: `vm` is valid while the table lives.
        let vm = unsafe { self.vm.read() };
        (vm.base, vm.length)
    }

    /// The request to a limiter for growth by `delta` elements; `None` if the new size would overflow.
    pub fn growth(&self, delta: u64) -> Option<GrowthRequest> {
        let desired = usize::try_from(self.len().checked_add(delta)?).ok()?;
        Some(GrowthRequest { current: self.elements.len(), desired, ..initial_growth(&self.ty) })
    }

    /// Grows by `delta` elements of `init` (specification, `table.grow`). Returns the old size, or `None` if it can't grow.
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

/// The request to a limiter for making a table of a type.
pub(crate) fn initial_growth(ty: &TableType) -> GrowthRequest {
    let elements = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let maximum = Some(elements(ty.maximum.unwrap_or(MAX_ELEMENTS).min(MAX_ELEMENTS)));
    GrowthRequest { current: 0, desired: elements(ty.minimum), maximum }
}

impl StoreOpaque {
    /// Adds a table to the store; returns its handle.
    pub(crate) fn add_table(&mut self, table: TableData) -> Stored {
        self.charge(LimitedResource::Table, table.elements.len());
        self.tables.push(table);
        Stored::new(self, self.tables.len() - 1)
    }
}
