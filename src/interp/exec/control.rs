//! Copies, branches, calls, and the table of the instructions with handlers of their own.

use super::{exception, memory, reference, simd, table, tier};
use crate::error::{Error, Trap};
use crate::interp::code::{Code, ModuleCode};
use crate::interp::machine::{Flow, HEADER, Handler, Machine, SLACK, Step};
use crate::interp::op::{Plain, for_each_op, word};
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;
use crate::numeric::simd::V128;
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::func::call_host;

/// Where the outermost frame of an activation returns to.
static EXIT: [u64; 1] = [word(Plain::Exit.op(), 0, 0, 0)];

/// Where a frame returns to whose caller is of another instance.
static CROSS: [u64; 1] = [word(Plain::ReturnCross.op(), 0, 0, 0)];

/// The address of the instruction that ends an activation.
pub(crate) fn exit() -> *const u64 {
    EXIT.as_ptr()
}

/// The address of the instruction that returns to another instance.
pub(crate) fn cross() -> *const u64 {
    CROSS.as_ptr()
}

/// The handlers of the list's first part, as types.
pub(crate) mod plain {
    use super::*;

    macro_rules! handlers {
        (
            plain { $($(#[$doc:meta])* $name:ident: $fields:tt,)* }
            $($rest:tt)*
        ) => {
            $(
                $(#[$doc])*
                pub struct $name;
                impl Handler for $name {
                    const FIELDS: &'static [Field] = &$fields;

                    fn name() -> String {
                        super::super::printed(stringify!($name))
                    }

                    #[inline(always)]
                    fn run(m: &mut Machine) -> Flow {
                        run::$name(m)
                    }
                }
            )*
        };
    }

    for_each_op!(handlers);
}

/// What they do.
#[allow(non_snake_case, reason = "named like the instructions")]
mod run {
    use super::*;

    macro_rules! run {
        ($($name:ident($m:ident) $body:expr)*) => {
            $(
                #[inline(always)]
                pub fn $name($m: &mut Machine) -> Flow {
                    $body
                }
            )*
        };
    }

    macro_rules! slow {
        ($($name:ident = $path:expr;)*) => {
            $(
                #[inline(always)]
                pub fn $name(_: &mut Machine) -> Flow {
                    Flow::Slow($path)
                }
            )*
        };
    }

    // Copies leave the accumulators alone: they often stand between a comparison and the branch on it.
    run! {
        Copy(m) {
            m.put::<u64>(m.a(), m.get(m.b()));
            m.skip(1)
        }
        Copy2(m) {
            let (x, y) = (m.get::<u64>(m.b()), m.get::<u64>(m.c()));
            let to = m.slot(m.a());
            // SAFETY: the machine's invariant.
            unsafe { to.cast::<[u64; 2]>().write([x, y]) };
            m.skip(1)
        }
        CopyWide(m) {
            m.put::<V128>(m.a(), m.get(m.b()));
            m.skip(1)
        }
        Imm32(m) {
            m.put(m.a(), m.bc() as i32 as u64);
            m.skip(1)
        }
        Imm32U(m) {
            m.put(m.a(), m.bc());
            m.skip(1)
        }
        Imm64(m) {
            m.put(m.a(), m.word(1));
            m.skip(2)
        }
        ImmWide(m) {
            let value = u128::from(m.word(1)) | u128::from(m.word(2)) << 64;
            m.put(m.a(), V128::from(value));
            m.skip(3)
        }
        CopySpan(m) {
            let (to, from) = (m.fp.wrapping_add(m.low(1) as usize), m.fp.wrapping_add(m.high(1) as usize));
            // SAFETY: the machine's invariant; the spans may overlap.
            unsafe { from.copy_to(to, m.low(2) as usize) };
            m.skip(3)
        }
        FarLoad(m) {
            let from = m.fp.wrapping_add(m.low(1) as usize);
            // SAFETY: the machine's invariant, and the slack behind the frame.
            unsafe { from.copy_to(m.slot(m.a()), 2) };
            m.skip(2)
        }
        FarStore(m) {
            let to = m.fp.wrapping_add(m.low(1) as usize);
            // SAFETY: the machine's invariant.
            unsafe { m.slot(m.a()).copy_to(to, m.high(1) as usize) };
            m.skip(2)
        }
        ShiftFrame(m) {
            m.fp = m.fp.wrapping_offset(m.bc() as i32 as isize);
            m.skip(1)
        }
        Unreachable(_m) Flow::Trap(Trap::Unreachable)
        Exit(_m) Flow::Exit
        Try(m) m.jump(0, m.bc())

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

        // The header's address is left for `return_cross`.
        Return(m) {
            let header = m.slot(m.a());
            // SAFETY: the machine's invariant; `enter` or `tail` wrote the header.
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
        ReturnCross(m) {
            m.context().crossing = m.acc as *mut u64;
            Flow::Slow(return_cross)
        }

        // Where the callee is native by now, its code is a stub that runs that.
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

        Native(m) match tier::native(m) {
            None => Return(m),
            Some(path) => Flow::Slow(path),
        }
        CountCall(m) if m.counter().call(m.a()) { m.skip(1) } else { Flow::Slow(tier::count_call) }
        CountLoop(m) if m.counter().pass(m.a()) { m.skip(2) } else { Flow::Slow(tier::count_loop) }

        GlobalGet(m) reference::global_get::<false>(m)
        GlobalGetIndirect(m) reference::global_get::<true>(m)
        GlobalGetAdd(m) reference::global_get_add(m)
        GlobalBump(m) reference::global_bump(m)
        GlobalSetAdd(m) reference::global_set_add(m)
        GlobalGetWide(m) reference::global_get_wide(m)
        GlobalSet(m) reference::global_set::<false>(m)
        GlobalSetIndirect(m) reference::global_set::<true>(m)
        GlobalSetWide(m) reference::global_set_wide(m)
        I32Move(m) memory::copy::<u32>(m)
        I64Move(m) memory::copy::<u64>(m)
        MemorySize(m) memory::memory_size(m)
        TableGet(m) table::table_get(m)
        TableSet(m) table::table_set(m)
        TableSize(m) table::table_size(m)
        Shuffle(m) simd::shuffle(m)
    }

    #[cfg(baseline)]
    #[inline(always)]
    pub fn Baseline(m: &mut Machine) -> Flow {
        Flow::Native(m.word(1) as *const u8)
    }

    // Nothing puts it out.
    #[cfg(not(baseline))]
    #[inline(always)]
    pub fn Baseline(_: &mut Machine) -> Flow {
        Flow::Trap(Trap::Unreachable)
    }

    slow! {
        Throw = exception::throw;
        ThrowRef = exception::throw_ref;
        CallImport = call_import;
        ReturnCall = return_call;
        ReturnCallImport = return_call_import;
        ReturnCallIndirect = return_call_indirect;
        MemoryGrow = memory::memory_grow;
        MemoryFill = memory::memory_fill;
        MemoryCopy = memory::memory_copy;
        MemoryInit = memory::memory_init;
        DataDrop = memory::data_drop;
        TableGrow = table::table_grow;
        TableFill = table::table_fill;
        TableCopy = table::table_copy;
        TableInit = table::table_init;
        ElemDrop = table::elem_drop;
        RefFunc = reference::ref_func;
    }
}

/// The engine-wide number of a type of the running module.
#[inline(always)]
fn sig(m: &Machine, type_index: u32) -> u32 {
    // SAFETY: the running instance, and an index of its module.
    unsafe { (*(*m.ctx).sigs.add(type_index as usize)).number() }
}

/// The translated code behind an indirect call of the running instance's own functions.
#[inline(always)]
fn indirect_code(m: &Machine) -> Option<*const Code> {
    let element = table::element(m, m.low(1), m.get(m.b()))?;
    // SAFETY: elements of funcref tables are null or live references.
    let func = unsafe { (*element as *const VMFuncRef).as_ref()? };
    // The owner of a host function is no context.
    if func.sig != sig(m, m.high(1)) || func.owner.cast() != m.vmctx() {
        return None;
    }
    let code = m.code(func.index);
    (!code.is_null()).then_some(code)
}

/// The function an indirect call means, or the trap; table, type and index are found as `CallIndirect` has them.
fn indirect_func(m: &Machine) -> Result<*mut VMFuncRef, Trap> {
    let element = table::element(m, m.low(1), m.get(m.b())).ok_or(Trap::UndefinedElement)?;
    // SAFETY: elements of funcref tables are null or live references.
    let func = unsafe { *element as *mut VMFuncRef };
    // SAFETY: as above.
    match unsafe { func.as_ref() } {
        None => Err(Trap::UninitializedElement),
        Some(func) if func.sig != sig(m, m.high(1)) => Err(Trap::IndirectCallTypeMismatch),
        Some(_) => Ok(func),
    }
}

fn import_func(m: &Machine, func: u32) -> *mut VMFuncRef {
    // SAFETY: the running instance, and an index of its module.
    unsafe { crate::vm::instance::func_ref(m.vmctx(), func) }
}

/// The code of a defined function, translated now if it is not yet.
fn defined(vmctx: *mut VMContext, index: u32) -> Result<*const Code, Error> {
    // SAFETY: a live context, and an index of its module.
    unsafe { ModuleCode::of(vmctx) }.get(index)
}

pub(super) fn return_cross(m: &mut Machine) -> Step {
    let header = m.context().crossing;
    // SAFETY: `Return` left the address of a header that says `CROSS`, so its last two slots are written. Nothing has
    // run since that could have overwritten it.
    unsafe {
        m.context().switch(*header.add(2) as *mut VMContext);
        m.ip = *header.add(3) as *const u64;
    }
    Step::Next
}

fn call(m: &mut Machine) -> Step {
    let (base, ret) = (m.slot(m.a()), m.ip.wrapping_add(1));
    match defined(m.vmctx(), m.bc()) {
        Ok(code) if m.enter(code, base, ret) => Step::Next,
        Ok(_) => m.stop(Trap::StackOverflow),
        Err(error) => m.stop(error),
    }
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

/// Calls any function, with the arguments from slot `a` on and room for `slots` of arguments or results, from an
/// instruction of `words`.
fn call_func(m: &mut Machine, func: *mut VMFuncRef, slots: u32, words: usize) -> Step {
    let (base, ret) = (m.slot(m.a()), m.ip.wrapping_add(words));
    // SAFETY: a live reference.
    let (index, owner) = unsafe { ((*func).index, (*func).owner) };
    if index == VMFuncRef::HOST {
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
    let entered = m.enter(code, base, if callee == caller { ret } else { cross() });
    if !entered {
        return m.stop(Trap::StackOverflow);
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

/// Calls a host function with its arguments at `slots`; the stack is in use up to `top`.
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

/// Slot of the arguments of a tail call, and the words of the running frame's header.
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

/// The code to replace the running frame's by. From the outermost frame of an activation it goes on interpreted: native
/// code might tail-call back into a new activation, and so on without end.
fn tail_code(m: &Machine, callee: *mut VMContext, index: u32) -> Result<*const Code, Error> {
    let (_, header) = tail_operands(m);
    let ret = if header[0] == cross() as u64 { header[3] } else { header[0] };
    if ret != exit() as u64 || !tier::is_kept(tier::NestingRule::OutermostTailCall) {
        return defined(callee, index);
    }
    // SAFETY: a live context, and an index of its module.
    unsafe { ModuleCode::of(callee) }.translated(index)
}

/// Replaces the running frame by one of a defined function.
fn tail_defined(m: &mut Machine, callee: *mut VMContext, code: Result<*const Code, Error>) -> Step {
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
        if header[0] != cross() as u64 {
            header = [cross() as u64, header[1], caller as u64, header[0]];
        }
        // SAFETY: live, as it is the context of a function reference.
        unsafe { m.context().switch(callee) };
    }
    // SAFETY: the arguments are on the operand stack, behind where they go; the new frame fits the stack.
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
    let ty = unsafe { ModuleCode::of(m.vmctx()).engine.types.get((*func).sig) };
    let slots = ty.param_slots().max(ty.result_slots());
    if !m.room(8 * (slots + (HEADER + SLACK) as usize)) {
        return m.stop(Trap::StackOverflow);
    }
    let (base, place) = (m.fp, m.fp.wrapping_add(slots));
    // SAFETY: the arguments are behind where they go; the header then has a place behind all that the host writes.
    unsafe {
        args.copy_to(base, ty.param_slots());
        place.cast::<[u64; HEADER as usize]>().write(header);
    }
    if let Err(error) = host(m, func, base, place.wrapping_add(HEADER as usize)) {
        return exception::failed_in_caller(m, header, error);
    }
    tier::return_from(m, place)
}
