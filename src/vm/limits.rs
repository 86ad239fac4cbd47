//! Requests to a store's limiter, and looks at its budget: before an instance, memory or table is made, and before a memory or
//! table grows. Those for collected objects are in `heap`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::store::StoreOpaque;
use super::{activation, heap};
use crate::error::{Error, Result};

/// A kind of object that a limiter decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitedResource {
    Instance,
    /// A linear memory, whose size is counted in bytes.
    Memory,
    /// A table, whose size is counted in elements.
    Table,
    /// All collected objects of the store together, counted in bytes.
    Heap,
}

/// A request to make a memory or table of a size, or to grow one to it. Sizes of memories are in bytes, of tables in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrowthRequest {
    /// The current size; 0 if the object is to be made.
    pub current: usize,
    pub desired: usize,
    /// The maximum of the object's type.
    pub maximum: Option<usize>,
}

/// The limiter of a store, as functions that know the type of the store's data.
///
/// # Safety
/// For all: the pointer must be the store's own pointer. Nobody may hold a reference to what comes behind the `StoreOpaque`,
/// because the limiter may be in the store's data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    /// Whether a memory or table may grow. An error is a trap for the guest.
    pub growing: unsafe fn(*mut StoreOpaque, LimitedResource, GrowthRequest) -> Result<bool>,
    /// Reports that a memory or table could not grow. An error is a trap for the guest.
    pub failed: unsafe fn(*mut StoreOpaque, LimitedResource, Error) -> Result<()>,
    /// The most objects of the kind that the store may have.
    pub max_count: unsafe fn(*mut StoreOpaque, LimitedResource) -> usize,
}

/// Runs `ask`, which may ask the store's limiter, for running code. If the limiter panics, the panic is kept for the innermost
/// Rust caller of WebAssembly code to resume, as for a host function.
///
/// # Errors
/// What `ask` returns.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
pub(crate) unsafe fn catching<R>(store: *mut StoreOpaque, ask: impl FnOnce() -> Result<R>) -> Result<R> {
    let result = catch_unwind(AssertUnwindSafe(ask));
    // SAFETY: the store is live and nobody refers to it, by the caller's promise.
    unsafe {
        // The limiter may have run code of another store.
        activation::set_current((*store).activation);
        result.unwrap_or_else(|panic| {
            (*store).panic = Some(panic);
            Err(Error::host("a limiter panicked"))
        })
    }
}

/// Collects if the budget has no room for growth of a memory or table otherwise.
///
/// # Safety
/// As for [`heap::collect`].
pub(crate) unsafe fn make_room(store: &mut StoreOpaque, resource: LimitedResource, growth: Option<GrowthRequest>) {
    if let Some(GrowthRequest { current, desired, .. }) = growth
        && !store.has_room(resource, desired.saturating_sub(current))
        && store.collected_bytes() > 0
    {
        // SAFETY: the caller's promise.
        unsafe { heap::collect(store) };
    }
}

/// Asks the limiter, if there is one, and the budget whether one more object may be made; memories and tables with the size
/// `growth.desired`. The caller counts the object when it is made.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if it may not, or what the limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
pub(crate) unsafe fn admit(store: *mut StoreOpaque, resource: LimitedResource, growth: GrowthRequest) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. No reference is held over a call.
    unsafe {
        let (what, unit) = match resource {
            LimitedResource::Instance => ("instance", ""),
            LimitedResource::Memory => ("memory", " bytes"),
            LimitedResource::Table => ("table", " elements"),
            LimitedResource::Heap => ("heap", " bytes"),
        };
        let size = growth.desired;
        if let Some(limiter) = (*store).limiter {
            let count = (*store).count(resource);
            if count >= (limiter.max_count)(store, resource) {
                return Err(Error::resource(format!("the store's limit of {count} {what}(s) is reached")));
            }
            if resource != LimitedResource::Instance && !(limiter.growing)(store, resource, growth)? {
                return Err(Error::resource(format!("a {what} of {size}{unit} is beyond the store's limit")));
            }
        }
        if !(*store).has_room(resource, size) {
            let error = (*store).over_memory_budget(&format!("a {what} of {size}{unit}"));
            return Err((*store).note_refusal(error));
        }
    }
    Ok(())
}

/// Asks the limiter, if there is one, and the budget, and then has `grow` grow a memory or table. Returns the old size in pages
/// or elements, or `None` if the object could not grow. `request` gives `None` if the new size would overflow.
///
/// Another thread may let a shared memory grow between the question and the growth. Then the question is asked again, with the new
/// sizes: so a memory never has more than a limiter has allowed.
///
/// # Errors
/// What the limiter returns; it is a trap for the guest.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference; `grow` gets the only one.
pub(crate) unsafe fn grow(
    store: *mut StoreOpaque,
    resource: LimitedResource,
    request: impl Fn(&StoreOpaque) -> Option<GrowthRequest>,
    mut grow: impl FnMut(&mut StoreOpaque, GrowthRequest) -> Option<u64>,
) -> Result<Option<u64>> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. No reference is held over a call.
    unsafe {
        let limiter = (*store).limiter;
        let refused = loop {
            let growth = request(&*store);
            break match growth {
                Some(growth) if growth.maximum.is_none_or(|maximum| growth.desired <= maximum) => {
                    if let Some(limiter) = limiter
                        && !(limiter.growing)(store, resource, growth)?
                    {
                        return Ok(None);
                    }
                    let more = growth.desired - growth.current;
                    if !(*store).has_room(resource, more) {
                        (*store).note_refusal((*store).over_memory_budget("the new size"))
                    } else if let Some(old) = grow(&mut *store, growth) {
                        (*store).charge(resource, more);
                        return Ok(Some(old));
                    } else if request(&*store).is_some_and(|now| now.current != growth.current) {
                        continue;
                    } else {
                        Error::resource("the system refuses the new size")
                    }
                }
                _ => Error::resource("the new size is beyond the maximum of the type"),
            };
        };
        if let Some(limiter) = limiter {
            (limiter.failed)(store, resource, refused)?;
        }
        Ok(None)
    }
}
