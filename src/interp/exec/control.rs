//! Branches, returns, `select`, and the instructions that begin and end code.

use std::marker::PhantomData;

use super::numeric::{CompareOp, FormOf};
use super::{printed, tier};
use crate::error::Trap;
use crate::interp::code::InterpretedModule;
use crate::interp::frames::frame_shift;
use crate::interp::machine::{Flow, Handler, Left, Machine, Step};
use crate::interp::op::{Plain, word};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::interp::value::SlotValue;
use crate::numeric::simd::V128;
use crate::vm::context::VMContext;
use crate::vm::interrupt;

/// The instruction that the outermost frame of an activation returns to.
static EXIT: [u64; 1] = [word(Plain::Exit.op(), 0, 0, 0)];

/// The instruction that a frame returns to whose caller is of another instance.
static CROSS_INSTANCE_RETURN: [u64; 1] = [word(Plain::ReturnCrossInstance.op(), 0, 0, 0)];

/// The address of the instruction that ends an activation.
pub(crate) fn exit() -> *const u64 {
    EXIT.as_ptr()
}

/// The address of the instruction that returns to another instance.
pub(crate) fn cross_instance_return() -> *const u64 {
    CROSS_INSTANCE_RETURN.as_ptr()
}

run! {
    Unreachable(_m) Flow::Trap(Trap::Unreachable)
    Exit(_m) Flow::Exit

    Br(m) m.jump(0, m.bc())
    BrNonzero(m) if m.get::<u32>(m.a()) != 0 { m.jump(0, m.bc()) } else { m.skip(1) }
    BrNonzeroAcc(m) if m.acc as u32 != 0 { m.jump(0, m.bc()) } else { m.skip(1) }
    BrZero(m) if m.get::<u32>(m.a()) == 0 { m.jump(0, m.bc()) } else { m.skip(1) }
    BrZeroAcc(m) if m.acc as u32 == 0 { m.jump(0, m.bc()) } else { m.skip(1) }
    BrTable(m) {
        // The last entry is the default.
        let entry = 1 + m.get::<u32>(m.a()).min(m.bc()) as usize;
        m.jump(entry, m.low(entry))
    }

    Select(m) {
        let from = if m.get::<u32>(m.low(1) as u16) != 0 { m.b() } else { m.c() };
        m.finish(m.get::<u64>(from), 2)
    }
    SelectAcc(m) {
        let from = if m.acc as u32 != 0 { m.b() } else { m.c() };
        m.finish(m.get::<u64>(from), 1)
    }
    SelectWide(m) {
        let from = if m.get::<u32>(m.low(1) as u16) != 0 { m.b() } else { m.c() };
        m.finish(m.get::<V128>(from), 2)
    }

    // Leaves the header's address in the accumulator, for `ReturnCrossInstance`.
    Return(m) {
        let header = m.slot(m.a());
        // SAFETY: the machine's invariant; the header was written when the frame was made.
        unsafe {
            m.ip = *header as *const u64;
            m.fp = *header.add(1) as *mut u64;
        }
        m.acc = header as u64;
        Flow::Next
    }
    ReturnCopy(m) {
        m.put::<u64>(0, m.get(m.b()));
        Return(m)
    }
    ReturnImm(m) {
        m.put(0, m.bc() as i32 as u64);
        Return(m)
    }
    ReturnCrossInstance(m) {
        m.context().cross_instance_header = m.acc as *mut u64;
        Flow::Slow(return_cross_instance)
    }
    CountLoop(m) if m.counter().pass(m.a()) { m.skip(2) } else { Flow::Slow(tier::count_loop) }
    Baseline(m) baseline(m)
}

#[cfg(baseline)]
#[inline(always)]
fn baseline(m: &mut Machine) -> Flow {
    Flow::Native(m.word(1) as *const u8)
}

/// Nothing emits `Baseline` on targets without baseline code.
#[cfg(not(baseline))]
#[inline(always)]
fn baseline(_: &mut Machine) -> Flow {
    Flow::Trap(Trap::Unreachable)
}

/// Leaves the activation in the running instruction for code of the host that may run: notes where that is, and sets the
/// store's `value_top` above the running frame, which is the topmost.
pub(super) fn exit_here(m: &mut Machine) {
    m.context().left = Left::Instruction { ip: m.ip, fp: m.fp };
    let vmctx = m.vmctx();
    // SAFETY: the instance is running, so its module and its store are live, to which nobody holds a reference.
    unsafe {
        if let Some((code, word)) = InterpretedModule::of(vmctx).find(m.ip) {
            // Before a call from a wide slot the frame pointer is shifted.
            let frame = m.fp.wrapping_offset(frame_shift(code.words(), word as usize, false));
            (*(*vmctx).store).value_top = frame.add(code.frame_slots());
        }
    }
}

/// Does what was requested of the running code. `ip` is at the target of a branch, or at a call.
pub(crate) fn poll(m: &mut Machine) -> Step {
    exit_here(m);
    // SAFETY: the instance is running, so its store is live, to which nobody holds a reference.
    match unsafe { interrupt::poll((*m.vmctx()).store.cast()) } {
        Ok(()) => Step::Next,
        Err(error) => m.stop(error),
    }
}

pub(super) fn return_cross_instance(m: &mut Machine) -> Step {
    let header = m.context().cross_instance_header;
    // SAFETY: `Return` left the address of a header that returns to `CROSS_INSTANCE_RETURN`, so the header's last two slots are written.
    // Nothing that could have overwritten them has run since.
    unsafe {
        m.context().switch(*header.add(2) as *mut VMContext);
        m.ip = *header.add(3) as *const u64;
    }
    Step::Next
}

/// A branch that is taken where a comparison holds.
pub(crate) struct BranchHandler<O, F>(PhantomData<(O, F)>);

impl<O: CompareOp, F: FormOf> Handler for BranchHandler<O, F> {
    const FIELDS: &'static [Field] = F::BRANCH_FIELDS;

    fn name() -> String {
        format!("br_{}.{}", printed(O::NAME), F::SUFFIX)
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let (a, b) = F::branch_operands(m);
        if O::holds(a, b) { m.jump(1, m.low(1)) } else { m.skip(F::BRANCH_WORDS) }
    }
}

/// Adds a number to a slot, and branches where the comparison of the sum with an immediate (`IMM`) or a slot holds. Most loops end
/// in one.
pub(crate) struct StepHandler<O, const IMM: bool>(PhantomData<O>);

impl<O: CompareOp, const IMM: bool> Handler for StepHandler<O, IMM> {
    const FIELDS: &'static [Field] =
        if IMM { &[Def(A), ImmC, Imm(1), Jump(1)] } else { &[Def(A), ImmC, Slot(B), Jump(1)] };

    fn name() -> String {
        format!("step_{}.{}", printed(O::NAME), if IMM { "i" } else { "s" })
    }

    #[inline(always)]
    fn run(m: &mut Machine) -> Flow {
        let sum = m.get::<u32>(m.a()).wrapping_add(m.c() as i16 as u32);
        m.put(m.a(), sum);
        sum.to_acc(m);
        let a = O::Operand::from_acc(m);
        let b = if IMM { O::Operand::from_imm(m.high(1) as i32) } else { m.get(m.b()) };
        if O::holds(a, b) { m.jump(1, m.low(1)) } else { m.skip(2) }
    }
}
