//! Tables of references.

use super::store::{AsContext, AsContextMut, StoreOpaque, Stored};
use super::value::Value;
use crate::error::Trap;
use crate::error::{Error, Result};
use crate::module::types::TableType;
use crate::vm::context::VMTable;

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

/// A table of a store (specification, section 4.2.7).
///
/// ```
/// use wasmrun::{Engine, RefType, Store, Table, TableType, Value};
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = TableType::new(RefType::FUNCREF, 2, None);
/// let table = Table::new(&mut store, ty, Value::FuncRef(None))?;
/// assert_eq!(table.grow(&mut store, 1, Value::FuncRef(None))?, 2);
/// assert!(table.get(&mut store, 3).is_none());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table(pub(crate) Stored);

impl Table {
    /// Makes a table filled with `init`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if `init` is not of the element type, the maximum is below the minimum or no 32-bit
    /// number, or indices have 64 bits, which is not supported yet; [`Resource`](crate::ErrorKind::Resource) if the table
    /// would be too large.
    pub fn new(mut store: impl AsContextMut, ty: TableType, init: Value) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        Value::check_all(std::slice::from_ref(&init), &[ty.element.clone().into()], "initial element")?;
        store.collect_if_due();
        let init = init.to_slots(store)?[0];
        // SAFETY: without a place given there is nothing to promise.
        let data = unsafe { TableData::new(None, ty, init)? };
        Ok(Table(store.add_table(data)))
    }

    fn in_store(self, store: &StoreOpaque) -> &TableData {
        &store.tables[self.0.index(store)]
    }

    fn in_store_mut(self, store: &mut StoreOpaque) -> &mut TableData {
        let index = self.0.index(store);
        &mut store.tables[index]
    }

    /// The slot of a value that is to become an element.
    fn slot_of(self, store: &mut StoreOpaque, value: &Value) -> Result<u64> {
        let element = self.in_store(store).ty.element.clone();
        Value::check_all(std::slice::from_ref(value), &[element.into()], "element")?;
        store.collect_if_due();
        Ok(value.to_slots(store)?[0])
    }

    /// Its type, with the current size as minimum.
    pub fn ty(&self, store: impl AsContext) -> TableType {
        let table = self.in_store(&store.as_context().0.opaque);
        table.ty.with_minimum(table.len())
    }

    /// Number of elements.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.in_store(&store.as_context().0.opaque).len()
    }

    /// The element at `index`, or `None` if there is none.
    pub fn get(&self, store: impl AsContext, index: u64) -> Option<Value> {
        let store = &store.as_context().0.opaque;
        let table = self.in_store(store);
        let slot = *table.elements().get(usize::try_from(index).ok()?)?;
        // SAFETY: elements of a funcref table are null or references of this store.
        Some(unsafe { Value::from_slots(&table.ty.element.clone().into(), [slot, 0], store) })
    }

    /// Sets the element at `index`.
    ///
    /// # Errors
    /// [`Trap::TableOutOfBounds`], or [`Usage`](crate::ErrorKind::Usage) for a value of another type.
    pub fn set(&self, mut store: impl AsContextMut, index: u64, value: Value) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let slot = self.slot_of(store, &value)?;
        let elements = self.in_store_mut(store).elements_mut();
        let place = usize::try_from(index).ok().and_then(|index| elements.get_mut(index));
        *place.ok_or(Trap::TableOutOfBounds)? = slot;
        Ok(())
    }

    /// Grows it by `delta` elements of `init` and returns the old size.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if its maximum or the limit of 10 million elements does not allow that,
    /// [`Usage`](crate::ErrorKind::Usage) for a value of another type.
    pub fn grow(&self, mut store: impl AsContextMut, delta: u64, init: Value) -> Result<u64> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let slot = self.slot_of(store, &init)?;
        let grown = self.in_store_mut(store).grow(delta, slot);
        grown.ok_or_else(|| Error::resource(format!("the table cannot grow by {delta} elements")))
    }
}

impl StoreOpaque {
    pub(crate) fn add_table(&mut self, table: TableData) -> Stored {
        self.tables.push(table);
        Stored::new(self, self.tables.len() - 1)
    }
}
