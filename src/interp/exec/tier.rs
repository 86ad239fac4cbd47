//! Transitions from interpreted to native code: calls of functions that have native code, and frames that native code
//! takes over.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::control::{self, cross_instance_return, return_cross_instance};
use super::exception;
use crate::error::{Result, Trap};
use crate::interp::code::{InterpretedFunction, InterpretedModule};
use crate::interp::machine::{Context, HEADER, Left, Machine, SlowPath, Step};
use crate::interp::tiers::{Hot, Native};
use crate::sys;
use crate::vm::context::{VMCode, VMContext};
use crate::vm::engine::NativeCalls;
use crate::vm::store::StoreOpaque;

/// The two rules that keep tail calls between native and interpreted functions from nesting ever deeper on the native
/// stack. Each suffices alone, so tests switch one off to test the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NestingRule {
    /// Near the native stack's end, functions with native code are interpreted.
    NestLimit,
    /// The target of a tail call from the outermost frame of an activation is interpreted.
    OutermostTailCall,
}

#[cfg(test)]
thread_local! {
    /// The rules that are switched off on this thread.
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

/// The interpreter's functions of the running instance's module.
fn module<'a>(m: &Machine) -> &'a InterpretedModule {
    // SAFETY: the instance of running code is live, and keeps its module alive.
    unsafe { InterpretedModule::of(m.vmctx()) }
}

/// The functions that enter native code.
///
/// # Safety
/// `vmctx` must be a live context of a store whose engine has native code.
unsafe fn native_calls(vmctx: *mut VMContext) -> &'static NativeCalls {
    // SAFETY: the context is live by the caller's promise, and so is its store.
    unsafe { (*(*vmctx).store).native_calls.expect("there is native code") }
}

/// Runs a native-call shim: calls the function's native code, which leaves the results in place; or returns the slow
/// path to take instead. If little of the native stack is left, the function is interpreted all the same, because
/// transitions between engines take much of that stack, and interpreted calls none.
#[inline(always)]
pub(super) fn native(m: &mut Machine) -> Option<SlowPath> {
    // SAFETY: the machine is valid by its invariant; the words at `ip` are those that
    // `InterpretedFunction::native_call_shim` wrote.
    let path = unsafe { call_native_code(m.ctx, m.ip, m.fp, m.slot(m.a())) };
    if path.is_none() {
        m.reload_memory();
        (m.acc32, m.acc64) = (0.0, 0.0);
    }
    path
}

/// The part of [`native`] that makes the call. It takes the registers by value, so that the handler can continue by a
/// tail call.
///
/// # Safety
/// The registers must be those of a valid machine that is at a native-call shim's instruction, in the frame `frame`
/// with the header `header`.
#[inline(never)]
unsafe fn call_native_code(ctx: *mut Context, ip: *const u64, frame: *mut u64, header: *mut u64) -> Option<SlowPath> {
    // SAFETY: the registers are valid by the caller's promise. The frame holds the arguments, and has room for the
    // results below its header.
    unsafe {
        let vmctx = (*ctx).vmctx;
        let store = (*vmctx).store;
        let (trampoline, entry) = (*ip.add(1) as *const VMCode, *ip.add(2) as *const AtomicPtr<VMCode>);
        let is_deep = sys::stack_pointer() <= (*store).nest_limit && is_kept(NestingRule::NestLimit);
        if is_deep || trampoline.is_null() || !(*store.cast::<StoreOpaque>()).admits_native() {
            return Some(interpret);
        }
        (*store).value_top = header.add(HEADER as usize);
        (*ctx).left = Left::Caller(header);
        let result = (native_calls(vmctx).by_trampoline)(vmctx, trampoline, (*entry).load(Ordering::Acquire), frame);
        (*ctx).error = Some(result.err()?);
        Some(native_failed)
    }
}

/// Leaves the frame of a native-call shim whose call failed, with the error in the context.
fn native_failed(m: &mut Machine) -> Step {
    let header = m.slot(m.a());
    let result = m.context().error.take().map_or(Ok(()), Err);
    leave(m, header, result)
}

/// Interprets the function of a native-call shim.
fn interpret(m: &mut Machine) -> Step {
    let defined = m.bc();
    // SAFETY: translated functions live as long as their module.
    let code = match module(m).translated(defined) {
        Ok(code) => unsafe { &*code },
        Err(error) => return m.stop(error),
    };
    if !m.room(code.frame_bytes) {
        return m.stop(Trap::StackOverflow);
    }
    // SAFETY: the function's own frame begins where the shim's does, and fits the stack by the check above.
    unsafe { code.zero_locals(m.fp) };
    m.ip = code.entry;
    Step::Next
}

/// Runs a function's native code in the frame that was made for interpreting it, and returns from that.
fn run_native(m: &mut Machine, defined: u32, header: *mut u64) -> Step {
    let (vmctx, frame) = (m.vmctx(), m.fp);
    m.context().left = Left::Caller(header);
    let sig = module(m).facts.defined_sig(defined);
    // SAFETY: the instance is running. The tiers said that the function has native code, so its entry points to native
    // code and will stay so. The frame holds the arguments, and has room for the results below its header.
    let result = unsafe {
        (*(*vmctx).store).value_top = header.add(HEADER as usize);
        let code = (*(*vmctx).entries.add(defined as usize)).load(Ordering::Acquire);
        (native_calls(vmctx).by_type)(vmctx, code, sig, frame)
    };
    leave(m, header, result)
}

/// Whether native code may be entered to replace a frame: not if half of the native stack is used. Functions that
/// tail-call each other may go from native to interpreted code and come here again, deeper on the stack each time.
fn may_nest(vmctx: *mut VMContext) -> bool {
    // SAFETY: the store of a running instance is live, and nobody else refers to it here.
    let store = unsafe { &mut *(*vmctx).store.cast::<StoreOpaque>() };
    sys::stack_pointer().saturating_sub(store.vm.stack_limit) > store.whole_stack() / 2 && store.admits_native()
}

/// Slow path of the instruction that counts a call: the function's budget is used up.
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

/// Slow path of the instruction that counts a pass through a loop: the function's budget is used up.
pub(super) fn count_loop(m: &mut Machine) -> Step {
    // Baseline code comes here at a request, and would be entered again before any branch.
    if m.is_interrupted() && control::poll(m) == Step::Stop {
        return Step::Stop;
    }
    let (module, vmctx, frame) = (module(m), m.vmctx(), m.fp);
    if let Some((code, word)) = module.find(m.ip) {
        let hot = module.tiers().map_or(Hot::Same, |tiers| tiers.hot_loop(m.bc(), m.low(1), code.wide_slots));
        if let Hot::Native(native) = hot
            && may_nest(vmctx)
        {
            module.engine.stats.loops_entered.fetch_add(1, Ordering::Relaxed);
            let header = frame.wrapping_add(code.header as usize);
            m.context().left = Left::Caller(header);
            // SAFETY: the frame is one of the function, at this loop, for which the tiers gave the code.
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
            return leave(m, header, result);
        }
        if go_on(m, code, word, hot) {
            return Step::Next;
        }
    }
    m.skip(2);
    Step::Next
}

/// Continues in baseline code, after the counting instruction at word `word` of the function's bytecode; requests
/// baseline code first if `hot` says so. False if there is none.
fn go_on(m: &mut Machine, code: &InterpretedFunction, word: u32, hot: Hot) -> bool {
    if let Hot::Baseline(requests) = hot {
        let module = module(m);
        if let Some(tiers) = module.tiers()
            && module.request_baseline(code, requests)
        {
            tiers.has_baseline(code.defined());
        }
    }
    let Some(ip) = code.after_count(word) else { return false };
    m.ip = ip;
    true
}

/// Leaves the frame with this header: its function has ended in native code.
fn leave(m: &mut Machine, header: *mut u64, result: Result<()>) -> Step {
    match result {
        Ok(()) => return_from(m, header),
        Err(error) => {
            // SAFETY: the running frame's header, which was written when the frame was entered.
            let header = unsafe { header.cast::<[u64; HEADER as usize]>().read() };
            exception::failed_in_caller(m, header, error)
        }
    }
}

/// Returns from the running frame, whose results are in place.
pub(super) fn return_from(m: &mut Machine, header: *mut u64) -> Step {
    // SAFETY: the running frame's header, which was written when the frame was entered.
    unsafe {
        m.fp = *header.add(1) as *mut u64;
        m.ip = *header as *const u64;
    }
    if m.ip == cross_instance_return() {
        m.context().cross_instance_header = header;
        return return_cross_instance(m);
    }
    Step::Next
}
