//! Fuel: the instruction that pays for a segment, see [`module::fuel`](crate::module::fuel).

use super::memory::after;
use crate::interp::machine::{Flow, Machine, Step};
use crate::vm::fuel;

run! {
    Charge(m) {
        let (fuel, price) = (m.fuel(), u64::from(m.bc()));
        // SAFETY: the fuel of the store of the running instance, which lives as long as the activation.
        match unsafe { (*fuel).checked_sub(price) } {
            Some(left) => {
                // SAFETY: as above.
                unsafe { *fuel = left };
                m.skip(1)
            }
            None => Flow::Slow(exhausted),
        }
    }
}

fn exhausted(m: &mut Machine) -> Step {
    // SAFETY: the store of the running instance, to which nobody holds a reference.
    let result = unsafe { fuel::exhausted((*m.vmctx()).store.cast(), m.bc().into()) };
    after(m, 1, result)
}
