//! What a call of a WASI function costs in fuel, besides what every call of a host function does: as much as moving the
//! bytes that its arguments name would. It is paid before the function does anything, so a guest can't have a gigabyte written
//! for the price of a call.

use crate::error::Result;
use crate::module::fuel::of_bytes;
use crate::runtime::caller::Caller;
use crate::runtime::linear::LinearMemory;
use crate::wasi::guest::Buffers;
use crate::wasi::watch::{Argument, Kind};

/// Bytes of a buffer in a list of buffers.
const LISTED_BUFFER: u64 = 8;

/// Bytes of a subscription and of the event that comes of it.
const SUBSCRIPTION: u64 = 48 + 32;

/// Takes the fuel for a call with these arguments, if fuel is consumed.
///
/// # Errors
/// [`Trap::OutOfFuel`](crate::Trap::OutOfFuel).
#[inline]
pub(crate) fn pay<T>(caller: &mut Caller<'_, T>, arguments: &[Argument]) -> Result<()> {
    if caller.consumes_fuel() { pay_for_all(caller, arguments) } else { Ok(()) }
}

#[inline(never)]
fn pay_for_all<T>(caller: &mut Caller<'_, T>, arguments: &[Argument]) -> Result<()> {
    for (at, argument) in arguments.iter().enumerate() {
        // The argument after a pointer is the number of what is there.
        let number = |after: usize| arguments.get(at + after).map_or(0, |number| number.value);
        let count = number(1);
        match argument.kind {
            Kind::Buffer | Kind::Path | Kind::Text => pay_for(caller, argument.pointer(), count)?,
            // After the place of the events.
            Kind::Subscriptions => pay_for(caller, argument.pointer(), number(2) * SUBSCRIPTION)?,
            Kind::Iovs | Kind::Ciovs => {
                pay_for(caller, argument.pointer(), count * LISTED_BUFFER)?;
                let bytes = caller.memory().map_or(0, |memory| listed(&memory, argument.pointer(), count as u32));
                caller.consume_fuel(of_bytes(bytes))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the price of bytes in the guest's memory. If they are not all there the function refuses them, and they cost nothing.
fn pay_for<T>(caller: &mut Caller<'_, T>, pointer: u32, bytes: u64) -> Result<()> {
    let is_there = caller.memory().is_some_and(|memory| u64::from(pointer) + bytes <= memory.len());
    caller.consume_fuel(if is_there { of_bytes(bytes) } else { 0 })
}

/// The bytes of the buffers in a list that a function would use: none from the system call on that is to have one that is not in
/// memory.
fn listed(memory: &LinearMemory<'_>, list: u32, count: u32) -> u64 {
    let Ok(mut buffers) = Buffers::new(memory, list, count) else { return 0 };
    let mut bytes = 0;
    while let Ok(batch) = buffers.batch(memory)
        && batch.bytes() > 0
    {
        bytes += batch.bytes() as u64;
    }
    bytes
}
