//! What a store asks its limiter before something grows.

use super::store::StoreOpaque;
use crate::error::{Error, Result};

/// What a limiter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Instance,
    /// A linear memory, whose size is counted in bytes.
    Memory,
    /// A table, whose size is counted in elements.
    Table,
}

/// A wish to make or grow a memory or table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Its size; 0 for one that is to be made.
    pub current: usize,
    pub desired: usize,
    /// The maximum of its type.
    pub maximum: Option<usize>,
}

/// The limiter of a store, by functions that know the type of the store's data. All take the store's own pointer, to which
/// nobody may hold a reference: the limiter may be in the data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    /// Whether a memory or table may grow; an error is a trap.
    pub growing: unsafe fn(*mut StoreOpaque, Resource, Growth) -> Result<bool>,
    /// Tells that one could not grow; an error is a trap.
    pub failed: unsafe fn(*mut StoreOpaque, Resource, Error) -> Result<()>,
    /// How many there may be.
    pub most: unsafe fn(*mut StoreOpaque, Resource) -> usize,
}

/// Asks whether one more instance, memory or table may be made, memories and tables with this size.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if not, or what the limiter returns.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
pub(crate) unsafe fn admit(store: *mut StoreOpaque, resource: Resource, growth: Growth) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(limiter) = (*store).limiter else { return Ok(()) };
        let (what, unit) = match resource {
            Resource::Instance => ("instance", ""),
            Resource::Memory => ("memory", " bytes"),
            Resource::Table => ("table", " elements"),
        };
        let count = (*store).count(resource);
        if count >= (limiter.most)(store, resource) {
            return Err(Error::resource(format!("the store's limit of {count} {what}(s) is reached")));
        }
        if resource != Resource::Instance && !(limiter.growing)(store, resource, growth)? {
            let size = growth.desired;
            return Err(Error::resource(format!("a {what} of {size}{unit} is beyond the store's limit")));
        }
    }
    Ok(())
}

/// Grows a memory or table: `grow` does so, once the limiter has agreed. The old size in its own units, or `None` if it can't
/// grow.
///
/// # Errors
/// What the limiter returns: a trap.
///
/// # Safety
/// As for [`admit`]; `grow` gets the store back.
pub(crate) unsafe fn grow(
    store: *mut StoreOpaque,
    resource: Resource,
    growth: Option<Growth>,
    grow: impl FnOnce(&mut StoreOpaque) -> Option<u64>,
) -> Result<Option<u64>> {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(limiter) = (*store).limiter else { return Ok(grow(&mut *store)) };
        let beyond = || Error::resource("it is beyond the maximum of its type");
        let refused = match growth {
            Some(growth) if growth.maximum.is_none_or(|maximum| growth.desired <= maximum) => {
                if !(limiter.growing)(store, resource, growth)? {
                    return Ok(None);
                }
                match grow(&mut *store) {
                    Some(old) => return Ok(Some(old)),
                    None => Error::resource("the system has no room for it"),
                }
            }
            _ => beyond(),
        };
        (limiter.failed)(store, resource, refused)?;
        Ok(None)
    }
}
