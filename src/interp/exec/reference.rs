//! References.

use crate::error::Trap;
use crate::interp::machine::{Flow, Machine, Step};
use crate::vm::instance::func_ref;

run! {
    RefFunc(_m) Flow::Slow(ref_func)
    RefAsNonNull(m) if m.get::<u64>(m.a()) == 0 { Flow::Trap(Trap::NullReference) } else { m.skip(1) }
}

fn ref_func(m: &mut Machine) -> Step {
    // SAFETY: the running instance, and an index of its module.
    let reference = unsafe { func_ref(m.vmctx(), m.bc()) };
    m.put(m.a(), reference as u64);
    m.skip(1);
    Step::Next
}
