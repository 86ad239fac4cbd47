//! Calls, to bytecode, native code and the host, and the instructions that functions begin with.

use super::control::{cross_instance_return, exit};
use super::{control, exception, table, tier};
use crate::error::{Error, Trap};
use crate::interp::code::{InterpretedFunction, InterpretedModule};
use crate::interp::machine::{Flow, HEADER, Left, Machine, SLACK, Step};
use crate::interp::op::Plain;
use crate::module::registry::RegisteredType;
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::func::{call_host, is_of_type};

run! {
    // If the callee has native code, its `InterpretedFunction` has one instruction, `Native`, which runs that.
    Call(m) {
        let code = m.code(m.bc());
        let (base, ret) = (m.slot(m.a()), m.ip.wrapping_add(1));
        if !code.is_null() && m.enter(code, base, ret) { Flow::Next } else { Flow::Slow(call) }
    }
    CallIndirect(m) {
        match indirect_code(m) {
            Some(code) if m.enter(code, m.slot(m.a()), m.ip.wrapping_add(3)) => Flow::Next,
            _ => Flow::Slow(call_indirect),
        }
    }

    CallRef(m) {
        let func = m.get::<u64>(m.b()) as *const VMFuncRef;
        // SAFETY: a reference to a function is null or live.
        match unsafe { func.as_ref() }.and_then(|func| own_code(m, func)) {
            Some(code) if m.enter(code, m.slot(m.a()), m.ip.wrapping_add(2)) => Flow::Next,
            _ => Flow::Slow(call_ref),
        }
    }

    Native(m) match tier::native(m) {
        None => control::run::Return(m),
        Some(path) => Flow::Slow(path),
    }
    CountCall(m) if m.counter().call(m.a()) { m.skip(1) } else { Flow::Slow(tier::count_call) }
    ShiftFrame(m) {
        m.fp = m.fp.wrapping_offset(m.bc() as i32 as isize);
        m.skip(1)
    }
    CallImport(_m) Flow::Slow(call_import)
    ReturnCall(_m) Flow::Slow(return_call)
    ReturnCallImport(_m) Flow::Slow(return_call_import)
    ReturnCallIndirect(_m) Flow::Slow(return_call_indirect)
    ReturnCallRef(_m) Flow::Slow(return_call_ref)
}

/// A type of the running module.
#[inline(always)]
pub(super) fn ty(m: &Machine, type_index: u32) -> &RegisteredType {
    // SAFETY: the running instance, and an index of its module.
    unsafe { &*(*m.ctx).sigs.add(type_index as usize) }
}

/// The `InterpretedFunction` that an indirect call leads to, if its callee is a function of the running instance that
/// has some, and of the very type that is wanted.
#[inline(always)]
fn indirect_code(m: &Machine) -> Option<*const InterpretedFunction> {
    let element = table::element(m, m.low(1), m.get(m.b()))?;
    // SAFETY: elements of funcref tables are null or live references.
    let func = unsafe { (*element as *const VMFuncRef).as_ref()? };
    if func.sig != ty(m, m.high(1)).number() { None } else { own_code(m, func) }
}

/// The `InterpretedFunction` of a function, if it is of the running instance and has some.
#[inline(always)]
fn own_code(m: &Machine, func: &VMFuncRef) -> Option<*const InterpretedFunction> {
    // The owner of a host function is no context.
    if func.owner.cast() != m.vmctx() {
        return None;
    }
    let code = m.code(func.index);
    (!code.is_null()).then_some(code)
}

/// The callee of an indirect call, or the trap. Table, type and index are where `CallIndirect` has them.
fn indirect_func(m: &Machine) -> Result<*mut VMFuncRef, Trap> {
    let element = table::element(m, m.low(1), m.get(m.b())).ok_or(Trap::UndefinedElement)?;
    // SAFETY: elements of funcref tables are null or live references.
    let func = unsafe { *element as *mut VMFuncRef };
    // SAFETY: as above.
    match unsafe { func.as_ref() } {
        None => Err(Trap::UninitializedElement),
        // SAFETY: as above, and the running module's engine is the store's.
        Some(live) if !unsafe { is_of_type(live, ty(m, m.high(1))) } => Err(Trap::IndirectCallTypeMismatch),
        Some(_) => Ok(func),
    }
}

/// The callee of a call through a reference, or the trap.
fn referenced_func(m: &Machine) -> Result<*mut VMFuncRef, Trap> {
    let func = m.get::<u64>(m.b()) as *mut VMFuncRef;
    if func.is_null() { Err(Trap::NullFunctionReference) } else { Ok(func) }
}

fn import_func(m: &Machine, func: u32) -> *mut VMFuncRef {
    // SAFETY: the running instance, and an index of its module.
    unsafe { crate::vm::instance::func_ref(m.vmctx(), func) }
}

/// The `InterpretedFunction` of a defined function, which is translated now if it has none.
fn defined(vmctx: *mut VMContext, index: u32) -> Result<*const InterpretedFunction, Error> {
    // SAFETY: a live context, and an index of its module.
    unsafe { InterpretedModule::of(vmctx) }.get(index)
}

fn call(m: &mut Machine) -> Step {
    let (base, ret) = (m.slot(m.a()), m.ip.wrapping_add(1));
    match defined(m.vmctx(), m.bc()) {
        Ok(code) if m.enter(code, base, ret) => Step::Next,
        Ok(code) => not_entered(m, code, base),
        Err(error) => m.stop(error),
    }
}

/// The call at `ip` did not get a frame: because of a request, after which it is run again, or because the stack is
/// exhausted.
fn not_entered(m: &mut Machine, code: *const InterpretedFunction, base: *mut u64) -> Step {
    // SAFETY: functions of running instances are live, and so is their store.
    let fits = unsafe { base as usize + (*code).frame_bytes <= (*(*m.vmctx()).store).value_end as usize };
    if fits { control::poll(m) } else { m.stop(Trap::StackOverflow) }
}

fn call_import(m: &mut Machine) -> Step {
    let func = import_func(m, m.bc());
    call_func(m, func, m.low(1), 2)
}

fn call_indirect(m: &mut Machine) -> Step {
    match indirect_func(m) {
        Ok(func) => call_func(m, func, m.low(2), 3),
        Err(trap) => m.stop(trap),
    }
}

fn call_ref(m: &mut Machine) -> Step {
    match referenced_func(m) {
        Ok(func) => call_func(m, func, m.low(1), 2),
        Err(trap) => m.stop(trap),
    }
}

/// Calls any function, from an instruction of `words` words. The arguments are in the slots from `a` on; arguments and
/// results need no more than `slots`.
fn call_func(m: &mut Machine, func: *mut VMFuncRef, slots: u32, words: usize) -> Step {
    let (base, ret) = (m.slot(m.a()), m.ip.wrapping_add(words));
    // SAFETY: a live reference.
    let (index, owner) = unsafe { ((*func).index, (*func).owner) };
    if index == VMFuncRef::HOST {
        m.context().left = Left::Instruction { ip: m.ip, fp: m.fp };
        return match host(m, func, base, base.wrapping_add(slots as usize)) {
            Ok(()) => {
                m.ip = ret;
                Step::Next
            }
            Err(error) => exception::failed(m, error),
        };
    }
    let (caller, callee) = (m.vmctx(), owner.cast());
    let code = match defined(callee, index) {
        Ok(code) => code,
        Err(error) => return m.stop(error),
    };
    let entered = m.enter(code, base, if callee == caller { ret } else { cross_instance_return() });
    if !entered {
        return not_entered(m, code, base);
    }
    if callee != caller {
        // SAFETY: the header was just made; the callee is live.
        unsafe {
            let header = base.add((*code).header as usize);
            *header.add(2) = caller as u64;
            *header.add(3) = ret as u64;
            m.context().switch(callee);
        }
    }
    Step::Next
}

/// Calls a host function with its arguments at `slots`. The value stack is in use up to `top`, and `left` says where the
/// activation is left.
fn host(m: &mut Machine, func: *mut VMFuncRef, slots: *mut u64, top: *mut u64) -> Result<(), Error> {
    let vmctx = m.vmctx();
    // SAFETY: the running instance and a live reference to a host function; the slots are those of its type.
    unsafe {
        (*(*vmctx).store).value_top = top;
        call_host(func, vmctx, slots)
    }
}

fn return_call(m: &mut Machine) -> Step {
    let vmctx = m.vmctx();
    let code = tail_code(m, vmctx, m.low(1));
    tail_defined(m, vmctx, code)
}

fn return_call_import(m: &mut Machine) -> Step {
    let func = import_func(m, m.low(1));
    tail_func(m, func)
}

fn return_call_indirect(m: &mut Machine) -> Step {
    match indirect_func(m) {
        Ok(func) => tail_func(m, func),
        Err(trap) => m.stop(trap),
    }
}

fn return_call_ref(m: &mut Machine) -> Step {
    match referenced_func(m) {
        Ok(func) => tail_func(m, func),
        Err(trap) => m.stop(trap),
    }
}

/// The address of a tail call's arguments, and the running frame's header.
fn tail_operands(m: &Machine) -> (*mut u64, [u64; HEADER as usize]) {
    let args = if m.op() == Plain::ReturnCallIndirect.op() { m.low(2) } else { m.high(1) };
    // SAFETY: the machine's invariant.
    let header = unsafe { m.slot(m.a()).cast::<[u64; HEADER as usize]>().read() };
    (m.fp.wrapping_add(args as usize), header)
}

fn tail_func(m: &mut Machine, func: *mut VMFuncRef) -> Step {
    // SAFETY: a live reference.
    let (index, owner) = unsafe { ((*func).index, (*func).owner) };
    if index == VMFuncRef::HOST {
        return tail_host(m, func);
    }
    let code = tail_code(m, owner.cast(), index);
    tail_defined(m, owner.cast(), code)
}

/// The callee's code for a tail call. In the outermost frame of an activation that is its bytecode even if it has
/// native code: native code might tail-call back into a new activation, and so on, nesting without end.
fn tail_code(m: &Machine, callee: *mut VMContext, index: u32) -> Result<*const InterpretedFunction, Error> {
    let (_, header) = tail_operands(m);
    let ret = if header[0] == cross_instance_return() as u64 { header[3] } else { header[0] };
    if ret != exit() as u64 || !tier::is_kept(tier::NestingRule::OutermostTailCall) {
        return defined(callee, index);
    }
    // SAFETY: a live context, and an index of its module.
    unsafe { InterpretedModule::of(callee) }.translated(index)
}

/// Replaces the running frame with one of a defined function.
fn tail_defined(m: &mut Machine, callee: *mut VMContext, code: Result<*const InterpretedFunction, Error>) -> Step {
    // Tail calls may go on for ever without a loop or a deeper frame.
    if m.is_interrupted() && control::poll(m) == Step::Stop {
        return Step::Stop;
    }
    // SAFETY: published code lives as long as the module.
    let code = match code {
        Ok(code) => unsafe { &*code },
        Err(error) => return m.stop(error),
    };
    if !m.room(code.frame_bytes) {
        return m.stop(Trap::StackOverflow);
    }
    let (args, mut header) = tail_operands(m);
    let caller = m.vmctx();
    if callee != caller {
        if header[0] != cross_instance_return() as u64 {
            header = [cross_instance_return() as u64, header[1], caller as u64, header[0]];
        }
        // SAFETY: live, as it is the context of a function reference.
        unsafe { m.context().switch(callee) };
    }
    // SAFETY: the arguments are on the operand stack, above where they are copied to; the new frame fits the stack.
    unsafe {
        args.copy_to(m.fp, code.params as usize);
        let place = m.fp.add(code.header as usize);
        place.cast::<[u64; HEADER as usize]>().write(header);
        code.zero_locals(m.fp);
    }
    m.ip = code.entry;
    Step::Next
}

/// Calls a host function in place of the running frame, and returns.
fn tail_host(m: &mut Machine, func: *mut VMFuncRef) -> Step {
    let (args, header) = tail_operands(m);
    // SAFETY: a live reference; the engine knows the types of live references.
    let ty = unsafe { InterpretedModule::of(m.vmctx()).engine.types.func_type((*func).sig) };
    let slots = ty.param_slots().max(ty.result_slots());
    if !m.room(8 * (slots + (HEADER + SLACK) as usize)) {
        return m.stop(Trap::StackOverflow);
    }
    let (base, place) = (m.fp, m.fp.wrapping_add(slots));
    // SAFETY: the arguments are above where they are copied to; the header is copied above all that the host writes.
    unsafe {
        args.copy_to(base, ty.param_slots());
        place.cast::<[u64; HEADER as usize]>().write(header);
    }
    m.context().left = Left::Caller(place);
    if let Err(error) = host(m, func, base, place.wrapping_add(HEADER as usize)) {
        return exception::failed_in_caller(m, header, error);
    }
    tier::return_from(m, place)
}
