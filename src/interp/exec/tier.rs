//! From interpreted to native code: functions that have it, frames that it takes over.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::control::{cross_instance_return, return_cross_instance};
use super::exception;
use crate::error::{Result, Trap};
use crate::interp::code::{Code, ModuleCode};
use crate::interp::machine::{Context, HEADER, Machine, SlowPath, Step};
use crate::interp::tiers::{Hot, Native};
use crate::sys;
use crate::vm::context::{VMCode, VMContext};
use crate::vm::engine::NativeCalls;
use crate::vm::store::StoreOpaque;

/// What keeps code that calls itself by tail calls, native and interpreted in turn, from nesting ever deeper. Each does
/// alone, so tests turn one off to see the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NestingRule {
    /// Near the stack's end what has native code is interpreted.
    NestLimit,
    /// What the outermost frame of an activation calls by a tail call is interpreted.
    OutermostTailCall,
}

#[cfg(test)]
thread_local! {
    /// The rules that are not kept.
    pub(crate) static RULES_OFF: std::cell::Cell<&'static [NestingRule]> = const { std::cell::Cell::new(&[]) };
}

#[inline(always)]
pub(super) fn is_kept(rule: NestingRule) -> bool {
    #[cfg(test)]
    return !RULES_OFF.get().contains(&rule);
    #[cfg(not(test))]
    {
        let _ = rule;
        true
    }
}

/// The running instance's module.
fn module<'a>(m: &Machine) -> &'a ModuleCode {
    // SAFETY: instances of running code are live, and keep their module.
    unsafe { ModuleCode::of(m.vmctx()) }
}

/// How native code is entered.
///
/// # Safety
/// A live context of a store that has native code.
unsafe fn native_calls(vmctx: *mut VMContext) -> &'static NativeCalls {
    // SAFETY: the caller's promise.
    unsafe { (*(*vmctx).store).native_calls.expect("there is native code") }
}

/// Runs the native code of a function that was called, whose results are then in place; or gives the path to take instead. Where
/// not much of the native stack is left it is interpreted all the same: calls from engine to engine take far more of that than
/// interpreted ones, which take none.
#[inline(always)]
pub(super) fn native(m: &mut Machine) -> Option<SlowPath> {
    // SAFETY: the machine's invariant; the words of a stub are those that `Code::stub` put there.
    let path = unsafe { run_stub(m.ctx, m.ip, m.fp, m.slot(m.a())) };
    if path.is_none() {
        m.reload_memory();
        (m.acc32, m.acc64) = (0.0, 0.0);
    }
    path
}

/// Does that. All that it needs of the machine comes by value, so that the handler can go on by a tail call.
///
/// # Safety
/// A valid machine's registers, at a stub's instruction in the frame with this header.
#[inline(never)]
unsafe fn run_stub(ctx: *mut Context, ip: *const u64, frame: *mut u64, header: *mut u64) -> Option<SlowPath> {
    // SAFETY: the caller's promise. The frame holds the arguments, and has room for the results below its header.
    unsafe {
        let vmctx = (*ctx).vmctx;
        let store = (*vmctx).store;
        let (glue, entry) = (*ip.add(1) as *const VMCode, *ip.add(2) as *const AtomicPtr<VMCode>);
        let is_deep = sys::stack_pointer() <= (*store).nest_limit && is_kept(NestingRule::NestLimit);
        if is_deep || glue.is_null() {
            return Some(interpret);
        }
        (*store).value_top = header.add(HEADER as usize);
        let result = (native_calls(vmctx).by_trampoline)(vmctx, glue, (*entry).load(Ordering::Acquire), frame);
        (*ctx).error = Some(result.err()?);
        Some(native_failed)
    }
}

/// Leaves the frame of a stub, with the error in the context.
fn native_failed(m: &mut Machine) -> Step {
    let header = m.slot(m.a());
    let result = m.context().error.take().map_or(Ok(()), Err);
    leave(m, header, result)
}

/// Interprets the function of a stub.
fn interpret(m: &mut Machine) -> Step {
    let defined = m.bc();
    // SAFETY: code lives as long as the module.
    let code = match module(m).translated(defined) {
        Ok(code) => unsafe { &*code },
        Err(error) => return m.stop(error),
    };
    if !m.room(code.frame_bytes) {
        return m.stop(Trap::StackOverflow);
    }
    // SAFETY: the frame of the function, with the same header, fits the stack.
    unsafe { code.zero_locals(m.fp) };
    m.ip = code.entry;
    Step::Next
}

/// Runs native code in the frame that was made for the function, and returns.
fn run_native(m: &mut Machine, defined: u32, header: *mut u64) -> Step {
    let (vmctx, frame) = (m.vmctx(), m.fp);
    let sig = module(m).facts.defined_sig(defined);
    // SAFETY: the running instance; functions that calls find native keep an entry that leads to native code. The frame
    // holds the arguments, and has room for the results below its header.
    let result = unsafe {
        (*(*vmctx).store).value_top = header.add(HEADER as usize);
        let code = (*(*vmctx).entries.add(defined as usize)).load(Ordering::Acquire);
        (native_calls(vmctx).by_type)(vmctx, code, sig, frame)
    };
    leave(m, header, result)
}

/// Whether native code may be entered in place of a frame. Code that calls itself by tail calls may come from native code
/// to interpreted code and here again, deeper each time: then it stays interpreted, when half of the stack is used.
fn may_nest(vmctx: *mut VMContext) -> bool {
    // SAFETY: the store of the running instance.
    let store = unsafe { &*(*vmctx).store.cast::<StoreOpaque>() };
    sys::stack_pointer().saturating_sub(store.vm.stack_limit) > store.whole_stack() / 2
}

/// A function has used up its budget, and was just called.
pub(super) fn count_call(m: &mut Machine) -> Step {
    let (module, defined) = (module(m), m.bc());
    let hot = module.tiers().map_or(Hot::Same, |tiers| tiers.hot_call(defined));
    if let Some((code, word)) = module.find(m.ip) {
        if matches!(hot, Hot::Native(_)) && may_nest(m.vmctx()) {
            return run_native(m, defined, m.fp.wrapping_add(code.header as usize));
        }
        if go_on(m, code, word, hot) {
            return Step::Next;
        }
    }
    m.skip(1);
    Step::Next
}

/// A function has used up its budget in a loop.
pub(super) fn count_loop(m: &mut Machine) -> Step {
    let (module, vmctx, frame) = (module(m), m.vmctx(), m.fp);
    if let Some((code, word)) = module.find(m.ip) {
        let hot = module.tiers().map_or(Hot::Same, |tiers| tiers.hot_loop(m.bc(), m.low(1), code.wide_slots));
        if let Hot::Native(native) = hot
            && may_nest(vmctx)
        {
            module.engine.stats.loops_entered.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the frame is the function's, at that loop; the code was compiled for it.
            let result = unsafe {
                (*(*vmctx).store).value_top = frame.add(code.frame_slots());
                match native {
                    Native::Function => unreachable!("a loop is entered by code for loops"),
                    Native::Loop(code) => (native_calls(vmctx).at_loop)(vmctx, code, frame),
                    Native::FunctionAtLoop(native, number) => {
                        let sig = module.facts.defined_sig(code.defined());
                        (native_calls(vmctx).at_loop_of_function)(vmctx, native, sig, frame, number)
                    }
                }
            };
            return leave(m, frame.wrapping_add(code.header as usize), result);
        }
        if go_on(m, code, word, hot) {
            return Step::Next;
        }
    }
    m.skip(2);
    Step::Next
}

/// Goes on in baseline code, behind the instruction at a word of a function's bytecode, which counts. False if there is none.
fn go_on(m: &mut Machine, code: &Code, word: u32, hot: Hot) -> bool {
    if let Hot::Baseline(asked) = hot {
        let module = module(m);
        if let Some(tiers) = module.tiers()
            && module.want_baseline(code, asked)
        {
            tiers.has_baseline(code.defined());
        }
    }
    let Some(ip) = code.behind_count(word) else { return false };
    m.ip = ip;
    true
}

/// Leaves the frame of this header, whose function has ended in native code.
fn leave(m: &mut Machine, header: *mut u64, result: Result<()>) -> Step {
    match result {
        Ok(()) => return_from(m, header),
        Err(error) => {
            // SAFETY: the header of the running frame.
            let header = unsafe { header.cast::<[u64; HEADER as usize]>().read() };
            exception::failed_in_caller(m, header, error)
        }
    }
}

/// Returns from the running frame, whose results are in place.
pub(super) fn return_from(m: &mut Machine, header: *mut u64) -> Step {
    // SAFETY: the header of the running frame.
    unsafe {
        m.fp = *header.add(1) as *mut u64;
        m.ip = *header as *const u64;
    }
    if m.ip == cross_instance_return() {
        m.context().crossing = header;
        return return_cross_instance(m);
    }
    Step::Next
}
