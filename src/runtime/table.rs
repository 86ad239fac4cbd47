//! Tables for the embedder.

use super::store::{AsContext, AsContextMut};
use super::value::{Ref, Value};
use crate::error::{Error, Result, Trap};
use crate::module::types::TableType;
use crate::vm::limits::{self, LimitedResource};
use crate::vm::store::{StoreOpaque, Stored};
use crate::vm::table::{TableData, initial_growth};

/// A table in a store (specification, section 4.2.7).
///
/// A handle: it can be copied, and lives as long as the store. A method panics if it is given another store.
///
/// ```
/// use wasmrun::{Engine, Ref, RefType, Store, Table, TableType};
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = TableType::new(RefType::FUNCREF, 2, None);
/// let table = Table::new(&mut store, ty, Ref::Func(None))?;
/// assert_eq!(table.grow(&mut store, 1, Ref::Func(None))?, 2);
/// assert!(table.get(&mut store, 3).is_none());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table(pub(crate) Stored);

impl Table {
    /// Makes a table filled with `init`.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if `init` does not match the element type or refers to an object in another store,
    ///   if the type's maximum is below its minimum or no 32-bit number where indices have 32 bits;
    /// - [`Resource`](crate::ErrorKind::Resource) if the store's limiter refuses the table, or it has more than 10 million
    ///   elements.
    pub fn new(mut store: impl AsContextMut, ty: TableType, init: Ref) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let init = Value::from(init);
        Value::check_all(store, std::slice::from_ref(&init), &[ty.element.clone().into()], "initial element")?;
        store.collect_if_due(true);
        let growth = initial_growth(&ty);
        // SAFETY: no slot is held yet.
        unsafe { limits::make_room(store, LimitedResource::Table, Some(growth)) };
        let init = init.to_slots(store)?[0];
        let store = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and used through its own pointer. No `vm` is passed that would have to be
        // valid.
        unsafe {
            limits::admit(store, LimitedResource::Table, growth)?;
            let data = TableData::new(None, ty, init)?;
            Ok(Table((*store).add_table(data)))
        }
    }

    fn in_store(self, store: &StoreOpaque) -> &TableData {
        &store.tables[self.0.index(store)]
    }

    fn in_store_mut(self, store: &mut StoreOpaque) -> &mut TableData {
        let index = self.0.index(store);
        &mut store.tables[index]
    }

    /// Checks a value that is to become an element, and converts it to a slot.
    fn slot_of(self, store: &mut StoreOpaque, value: Ref) -> Result<u64> {
        let (element, value) = (self.in_store(store).ty.element.clone(), Value::from(value));
        Value::check_all(store, std::slice::from_ref(&value), &[element.into()], "element")?;
        store.collect_if_due(true);
        Ok(value.to_slots(store)?[0])
    }

    /// The table's type, with the current size as the minimum.
    pub fn ty(&self, store: impl AsContext) -> TableType {
        let table = self.in_store(&store.as_context().0.opaque);
        table.ty.with_minimum(table.len())
    }

    /// Number of elements.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.in_store(&store.as_context().0.opaque).len()
    }

    /// The element at `index`, or `None` if that is out of bounds.
    pub fn get(&self, store: impl AsContext, index: u64) -> Option<Ref> {
        let store = &store.as_context().0.opaque;
        let table = self.in_store(store);
        let slot = *table.elements().get(usize::try_from(index).ok()?)?;
        // SAFETY: each element is a slot of the element type, for an object of this store or null.
        unsafe { Value::from_slots(&table.ty.element.clone().into(), [slot, 0], store) }.ref_()
    }

    /// Sets the element at `index`.
    ///
    /// # Errors
    /// [`Trap::TableOutOfBounds`], or [`Usage`](crate::ErrorKind::Usage) if the value does not match the element type or refers
    /// to an object in another store.
    pub fn set(&self, mut store: impl AsContextMut, index: u64, value: Ref) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let slot = self.slot_of(store, value)?;
        let elements = self.in_store_mut(store).elements_mut();
        let place = usize::try_from(index).ok().and_then(|index| elements.get_mut(index));
        *place.ok_or(Trap::TableOutOfBounds)? = slot;
        Ok(())
    }

    /// Sets the `len` elements from `index` on.
    ///
    /// # Errors
    /// As for [`Table::set`]; nothing is set then.
    pub fn fill(&self, mut store: impl AsContextMut, index: u64, value: Ref, len: u64) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let slot = self.slot_of(store, value)?;
        let elements = self.in_store_mut(store).elements_mut();
        let range = range(elements.len(), index, len)?;
        elements[range].fill(slot);
        Ok(())
    }

    /// Copies `len` elements from `from` on of the table `source` to `target`, from `to` on. Both may be the same table, and the
    /// ranges may overlap.
    ///
    /// # Errors
    /// [`Trap::TableOutOfBounds`], or [`Usage`](crate::ErrorKind::Usage) if the source's elements are not of the target's type;
    /// nothing is copied then.
    pub fn copy(
        mut store: impl AsContextMut,
        target: &Table,
        to: u64,
        source: &Table,
        from: u64,
        len: u64,
    ) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let (own, wanted) = (&source.in_store(store).ty.element, &target.in_store(store).ty.element);
        if !own.matches(wanted) {
            return Err(Error::usage(format!("a table of {own} cannot be copied to one of {wanted}")));
        }
        let of_source = range(source.in_store(store).elements().len(), from, len)?;
        let of_target = range(target.in_store(store).elements().len(), to, len)?;
        if source == target {
            target.in_store_mut(store).elements_mut().copy_within(of_source, of_target.start);
        } else {
            let (source, target) = (source.0.index(store), target.0.index(store));
            let [source, target] = store.tables.get_disjoint_mut([source, target]).expect("two tables of the store");
            target.elements_mut()[of_target].copy_from_slice(&source.elements()[of_source]);
        }
        Ok(())
    }

    /// Grows the table by `delta` elements of `init`; returns the old size.
    ///
    /// # Errors
    /// - [`Resource`](crate::ErrorKind::Resource) if the type's maximum, the store's limiter, the limit of 10 million elements
    ///   or the system does not allow that, or the error that the limiter returns;
    /// - [`Usage`](crate::ErrorKind::Usage) if `init` does not match the element type or refers to an object in another store.
    pub fn grow(&self, mut store: impl AsContextMut, delta: u64, init: Ref) -> Result<u64> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let growth = self.in_store(store).growth(delta);
        // SAFETY: no slot is held yet.
        unsafe { limits::make_room(store, LimitedResource::Table, growth) };
        let slot = self.slot_of(store, init)?;
        let store = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and used through its own pointer.
        let grown = unsafe {
            let request = |store: &StoreOpaque| self.in_store(store).growth(delta);
            let grow = |store: &mut StoreOpaque, _| self.in_store_mut(store).grow(delta, slot);
            limits::grow(store, LimitedResource::Table, request, grow)?
        };
        grown.ok_or_else(|| Error::resource(format!("the table cannot grow by {delta} elements")))
    }
}

/// The range of `len` elements from `index` on in a table of `size` elements.
fn range(size: usize, index: u64, len: u64) -> Result<std::ops::Range<usize>> {
    let end = index.checked_add(len).filter(|end| *end <= size as u64).ok_or(Trap::TableOutOfBounds)?;
    // Both fit, because they are no larger than the size.
    Ok(index as usize..end as usize)
}
