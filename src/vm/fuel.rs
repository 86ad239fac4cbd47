//! The fuel of a store: what is left of it, and how it is taken.
//!
//! What is left is in [`VMStore::fuel`](super::context::VMStore), and nowhere else while code runs that can be looked at. Code
//! of functions takes the price of a segment ([`module::fuel`](crate::module::fuel)) itself; all other prices, and segments for
//! which too little is left, come here.

use super::store::StoreOpaque;
use crate::error::{Error, Result, Trap};

impl StoreOpaque {
    /// What is left.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the engine's code does not consume fuel.
    pub fn fuel(&self) -> Result<u64> {
        if self.vm.consumes_fuel { Ok(self.vm.fuel) } else { Err(not_configured()) }
    }

    /// Replaces what is left.
    ///
    /// # Errors
    /// As for [`StoreOpaque::fuel`].
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        if !self.vm.consumes_fuel {
            return Err(not_configured());
        }
        self.vm.fuel = fuel;
        Ok(())
    }
}

#[cold]
fn not_configured() -> Error {
    Error::usage("fuel is not configured in this store: see `Config::consume_fuel`")
}

/// Takes so much fuel, if the engine's code consumes fuel.
///
/// # Errors
/// Those of [`exhausted`], with nothing done, if less is left.
///
/// # Safety
/// `store` must be the own pointer of a live store, to which nobody holds a reference.
#[inline]
pub(crate) unsafe fn pay(store: *mut StoreOpaque, price: u64) -> Result<()> {
    // SAFETY: the store is live by the caller's promise, and no reference to it is made.
    unsafe {
        if !(*store).vm.consumes_fuel {
            return Ok(());
        }
        match (*store).vm.fuel.checked_sub(price) {
            Some(left) => {
                (*store).vm.fuel = left;
                Ok(())
            }
            None => exhausted(store, price),
        }
    }
}

/// Gives back what [`pay`] has taken for something that was not done.
///
/// # Safety
/// As for [`pay`].
pub(crate) unsafe fn give_back(store: *mut StoreOpaque, price: u64) {
    // SAFETY: the store is live by the caller's promise, and no reference to it is made.
    unsafe {
        if (*store).vm.consumes_fuel {
            (*store).vm.fuel = (*store).vm.fuel.saturating_add(price);
        }
    }
}

/// Decides what happens when less fuel is left than something costs: nothing is left any more, and the code traps. All engines
/// and all prices come here. `Ok` would mean that the price has been paid after all, and that the code goes on.
///
/// # Errors
/// [`Trap::OutOfFuel`].
///
/// # Safety
/// As for [`pay`].
#[cold]
pub(crate) unsafe fn exhausted(store: *mut StoreOpaque, _price: u64) -> Result<()> {
    // SAFETY: the store is live by the caller's promise, and no reference to it is made.
    unsafe { (*store).vm.fuel = 0 };
    Err(Trap::OutOfFuel.into())
}
