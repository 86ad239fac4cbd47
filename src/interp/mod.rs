//! The interpreter: functions are translated to register bytecode when first called, and run from that.
//!
//! What may be here: translation (`translate`), the bytecode (`op`, `print`, `portable`), translated functions
//! (`code`), the instruction handlers (`exec`) and dispatch from one to the next (`dispatch`), frames (`layout`,
//! `machine`, `frames`, `backtrace`), how hot functions are (`counter`), and baseline code compiled from bytecode
//! (`baseline`).
//! What may not: objects of the store and what instructions do to them (`vm::ops`), arithmetic (`numeric`), other
//! tiers, which it reaches through `Tiers` and the hooks of `vm::engine`.

mod backtrace;
#[cfg(baseline)]
mod baseline;
mod code;
mod counter;
mod dispatch;
mod exec;
mod frames;
mod layout;
mod machine;
mod op;
mod portable;
mod print;
#[cfg(test)]
mod tests;
mod tiers;
mod translate;
mod tries;
mod value;

pub(crate) use code::InterpretedModule;
#[cfg_attr(not(jit), expect(unused_imports, reason = "there are no other tiers"))]
pub(crate) use counter::Counter;
pub(crate) use dispatch::available as available_dispatch;
#[cfg(all(test, jit))]
pub(crate) use exec::tier::{NestingRule, RULES_OFF};
#[cfg_attr(not(jit), expect(unused_imports, reason = "only native code takes frames over"))]
pub(crate) use layout::FrameLayout;
pub(crate) use print::print_bytecode;
#[cfg(baseline)]
pub(crate) use tiers::BaselineMemory;
#[cfg_attr(not(jit), expect(unused_imports, reason = "there are no other tiers"))]
pub(crate) use tiers::{Hot, Native, Tiers};

use std::mem::MaybeUninit;
use std::ptr;

use crate::error::{Result, Trap};
use crate::sys;
use crate::vm::activation::Link;
use crate::vm::context::VMContext;
use crate::vm::interrupt::poll;
use crate::vm::store::StoreOpaque;
use machine::{Context, Machine};

/// Runs a defined function. `slots` hold the arguments and take the results; nothing is copied if they are at the
/// store's `value_top`, where the function's frame begins.
///
/// # Errors
/// Whatever ended the call, with the backtrace of its frames.
///
/// # Safety
/// `vmctx` must be a live context, `defined` in its module, and `slots` hold arguments and have room for results.
pub(crate) unsafe fn call(vmctx: *mut VMContext, defined: u32, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller promises a live context; its store and value stack live as long. `enter` checks that the frame
    // fits the value stack, and puts the machine at the function's entry in this frame.
    unsafe {
        let store = (*vmctx).store;
        if sys::stack_pointer() < (*store).stack_limit {
            return Err(Trap::StackOverflow.into());
        }
        let module = InterpretedModule::of(vmctx);
        let code = module.get(defined)?;
        let base = (*store).value_top;
        let mut saved = MaybeUninit::<Machine>::uninit();
        let link = Link::new(store.cast(), backtrace::frames_of);
        let mut context = Context::new(link, vmctx, (*vmctx).interrupt, store, saved.as_mut_ptr());
        context.switch(vmctx);
        let ctx = &raw mut context;
        let mut m = Machine {
            ip: ptr::null(),
            fp: ptr::null_mut(),
            memory: ptr::null_mut(),
            handlers: ptr::null(),
            ctx,
            acc: 0,
            acc32: 0.0,
            acc64: 0.0,
        };
        m.reload_memory();
        if base.is_null() {
            return Err((*store.cast::<StoreOpaque>()).no_value_stack());
        }
        // The end may be below the base: the budget may have been lowered since the calls around this one.
        let end = base as usize + (*code).frame_bytes;
        if end > (*store).value_end as usize {
            return Err(Trap::StackOverflow.into());
        }
        let params = (*code).params as usize;
        if slots != base {
            slots.copy_to(base, params);
        }
        // As long as the frame fits, only a request keeps it from being entered. Below `value_top` a collection finds the
        // arguments.
        Link::begin(&raw const (*ctx).link, store.cast());
        while !m.enter(code, base, exec::control::exit()) {
            (*store).value_top = base.add(params);
            let polled = poll(store.cast());
            (*store).value_top = base;
            if polled.is_err() || end > (*store).value_end as usize {
                (*ctx).link.end(store.cast());
                return polled.and(Err(Trap::StackOverflow.into()));
            }
            m.reload_memory();
        }
        dispatch::run(m, module.engine.config.dispatch);
        (*ctx).link.end(store.cast());
        (*store).value_top = base;
        match (*ctx).error.take() {
            None => {
                if slots != base {
                    base.copy_to(slots, module.facts.defined_type(defined).result_slots());
                }
                Ok(())
            }
            Some(mut error) => {
                error.push_frames(backtrace::frames(&mut *(*ctx).saved));
                Err(error)
            }
        }
    }
}
