//! Requests to a store's limiter: before an instance, memory or table is made, and before a memory or table grows.

use super::store::StoreOpaque;
use crate::error::{Error, Result};

/// A kind of object that a limiter decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitedResource {
    Instance,
    /// A linear memory, whose size is counted in bytes.
    Memory,
    /// A table, whose size is counted in elements.
    Table,
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
/// For all: the pointer must be the store's own pointer. Nobody may hold a reference to the store, because the limiter may be
/// in its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    /// Whether a memory or table may grow. An error is a trap for the guest.
    pub growing: unsafe fn(*mut StoreOpaque, LimitedResource, GrowthRequest) -> Result<bool>,
    /// Reports that a memory or table could not grow. An error is a trap for the guest.
    pub failed: unsafe fn(*mut StoreOpaque, LimitedResource, Error) -> Result<()>,
    /// The most objects of the kind that the store may have.
    pub max_count: unsafe fn(*mut StoreOpaque, LimitedResource) -> usize,
}

/// Asks the limiter, if there is one, whether one more object may be made; memories and tables with the size `growth.desired`.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if it may not, or what the limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
pub(crate) unsafe fn admit(store: *mut StoreOpaque, resource: LimitedResource, growth: GrowthRequest) -> Result<()> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. No reference is held over a call.
    unsafe {
        let Some(limiter) = (*store).limiter else { return Ok(()) };
        let (what, unit) = match resource {
            LimitedResource::Instance => ("instance", ""),
            LimitedResource::Memory => ("memory", " bytes"),
            LimitedResource::Table => ("table", " elements"),
        };
        let count = (*store).count(resource);
        if count >= (limiter.max_count)(store, resource) {
            return Err(Error::resource(format!("the store's limit of {count} {what}(s) is reached")));
        }
        if resource != LimitedResource::Instance && !(limiter.growing)(store, resource, growth)? {
            let size = growth.desired;
            return Err(Error::resource(format!("a {what} of {size}{unit} is beyond the store's limit")));
        }
    }
    Ok(())
}

/// Asks the limiter, if there is one, and then has `grow` grow a memory or table. Returns the old size in pages or elements,
/// or `None` if the object could not grow. `growth` is `None` if the new size would overflow.
///
/// # Errors
/// What the limiter returns; it is a trap for the guest.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference; `grow` gets the only one.
pub(crate) unsafe fn grow(
    store: *mut StoreOpaque,
    resource: LimitedResource,
    growth: Option<GrowthRequest>,
    grow: impl FnOnce(&mut StoreOpaque) -> Option<u64>,
) -> Result<Option<u64>> {
    // SAFETY: the store is live and nobody refers to it, by the caller's promise. No reference is held over a call.
    unsafe {
        let Some(limiter) = (*store).limiter else { return Ok(grow(&mut *store)) };
        let beyond = || Error::resource("the new size is beyond the maximum of the type");
        let refused = match growth {
            Some(growth) if growth.maximum.is_none_or(|maximum| growth.desired <= maximum) => {
                if !(limiter.growing)(store, resource, growth)? {
                    return Ok(None);
                }
                match grow(&mut *store) {
                    Some(old) => return Ok(Some(old)),
                    None => Error::resource("the system refuses the new size"),
                }
            }
            _ => beyond(),
        };
        (limiter.failed)(store, resource, refused)?;
        Ok(None)
    }
}
