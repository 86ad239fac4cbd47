//! The numbers that stand for functions in the heap. A field has no pointer that something might overwrite: whatever number
//! is there, a look-up gives null or a function of the store.

use super::super::context::VMFuncRef;
use super::super::func::is_of_type;
use super::super::store::StoreOpaque;
use crate::error::{Error, Result, Trap};
use crate::module::types::RefType;

/// The functions of a store that have a number, which is their index here. The first is null.
#[derive(Default)]
pub(crate) struct Functions {
    by_id: Vec<*mut VMFuncRef>,
}

/// The number of a function; 0 for null.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there are 2^32 functions, or no memory for the table.
///
/// # Safety
/// The store must be live, and `func` null or a reference to a function of it, which lives as long as the store.
#[inline]
pub(crate) unsafe fn func_to_id(store: *mut StoreOpaque, func: *mut VMFuncRef) -> Result<u32> {
    // SAFETY: both are live by the caller's promise.
    unsafe {
        if func.is_null() {
            return Ok(0);
        }
        match (*func).gc_id {
            0 => give_id(&mut *store, func),
            id => Ok(id),
        }
    }
}

/// Gives a function its number.
///
/// # Safety
/// As for [`func_to_id`].
#[cold]
unsafe fn give_id(store: &mut StoreOpaque, func: *mut VMFuncRef) -> Result<u32> {
    let table = &mut store.gc.functions.by_id;
    let refused = || Error::resource("no memory for the numbers of functions in the heap");
    table.try_reserve(2).map_err(|_| refused())?;
    if table.is_empty() {
        table.push(std::ptr::null_mut());
    }
    let id = u32::try_from(table.len()).map_err(|_| refused())?;
    table.push(func);
    (store.vm.func_table, store.vm.func_count) = (table.as_ptr(), table.len());
    // SAFETY: the function is live by the caller's promise.
    unsafe { (*func).gc_id = id };
    Ok(id)
}

/// The function with a number; null for 0 and for numbers that no function has.
///
/// # Safety
/// The store must be live.
#[inline]
pub(crate) unsafe fn func_of_id(store: *const StoreOpaque, id: u32) -> *mut VMFuncRef {
    // SAFETY: the store is live by the caller's promise.
    let table = unsafe { &(&*store).gc.functions.by_id };
    table.get(id as usize).copied().unwrap_or(std::ptr::null_mut())
}

/// The function with a number, which must be of a type. What is not, in a heap that a fault has overwritten, does not get out.
///
/// # Errors
/// [`Trap::CastFailure`] if it is not of the type, or null where that may not be.
///
/// # Safety
/// The store must be live, and the type one of functions of its engine.
pub(crate) unsafe fn func_of_type(store: *const StoreOpaque, id: u32, ty: &RefType) -> Result<*mut VMFuncRef> {
    // SAFETY: the caller's promise; functions of the table live as long as the store.
    let (func, fits) = unsafe {
        let func = func_of_id(store, id);
        let fits = match ty.heap_type().as_concrete() {
            _ if func.is_null() => ty.is_nullable(),
            Some(ty) => is_of_type(func, ty),
            None => true,
        };
        (func, fits)
    };
    if fits { Ok(func) } else { Err(Trap::CastFailure.into()) }
}
