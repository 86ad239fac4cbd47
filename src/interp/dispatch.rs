//! From one instruction to the next: by tail calls, where each handler jumps to the next one with the registers in
//! registers, or by a loop that handlers return to.
//!
//! Rust does not promise tail calls. LLVM makes one of a call in tail position when caller and callee have the same
//! signature, all arguments are in registers and nothing of the caller's stack frame is live, in optimised builds.
//! `build.rs` sets `tail_dispatch` only there; the test `deep_loops` runs enough instructions to overflow the native
//! stack if a handler should lose the property. So handlers hand nothing of theirs to other functions by reference:
//! slow paths get the registers by way of the context.

#[cfg(baseline)]
use super::exec::control::plain;
use super::exec::{dispatch_table, handlers_of_list_into_table};
use super::machine::{Flow, Handler, Machine, SlowPath, Step};
use super::op::Table;
use crate::error::{Error, ErrorKind};
use crate::runtime::engine::Dispatch;
use crate::runtime::trap::{MemoryFault, Trap};

/// Runs from the machine's `ip` until the activation ends.
pub(super) fn run(m: Machine, dispatch: Dispatch) {
    match dispatch {
        #[cfg(tail_dispatch)]
        Dispatch::TailCall => tail::run(m),
        _ => looped::run(m),
    }
}

/// Runs a slow path on the registers as the context keeps them.
#[cold]
fn slow_path(m: Machine, path: SlowPath) -> Option<Machine> {
    let ctx = m.ctx;
    // SAFETY: the machine's invariant; `saved` is not part of the context itself.
    let saved = unsafe { &mut *(*ctx).saved };
    *saved = m;
    (path(saved) == Step::Next).then(|| {
        saved.reload_memory();
        *saved
    })
}

#[cold]
fn trap(m: Machine, trap: Trap) {
    fail(m, trap.into());
}

#[cold]
fn out_of_bounds(m: Machine, address: u64, size: u64) {
    // An access of another memory than 0 has set the length to that memory's.
    let fault = MemoryFault { address, size, length: m.length() };
    fail(m, Error::new(ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault: Some(fault) }));
}

fn fail(mut m: Machine, error: Error) {
    m.context().error = Some(error);
    // SAFETY: the machine's invariant.
    unsafe { *m.context().saved = m };
}

/// What runs a function's bytecode after zeroing its locals; see [`Code::start`](super::code::Code).
#[cfg(baseline)]
pub(super) fn start() -> *const u8 {
    tail::start as *const u8
}

/// The same for the code of stubs, which has no locals.
#[cfg(baseline)]
pub(super) fn start_native() -> *const u8 {
    tail::handler::<plain::Native> as *const u8
}

/// Dispatch by tail calls.
#[cfg(tail_dispatch)]
mod tail {
    use super::*;
    #[cfg(baseline)]
    use crate::interp::code::Code;
    use crate::interp::machine::Context;
    use std::mem::transmute;

    /// The registers as arguments: six integers and two floats, all that both targets' C convention has room for
    /// (x86-64: six integers).
    type Tail = unsafe extern "C" fn(*const u64, *mut u64, *mut u8, *const u8, *mut Context, u64, f32, f64);

    static HANDLERS: Table<Tail> = dispatch_table!(handler);

    pub fn run(mut m: Machine) {
        m.handlers = HANDLERS.entries().as_ptr().cast();
        next(m);
    }

    /// The next instruction.
    #[inline(always)]
    pub fn next(m: Machine) {
        // SAFETY: translated code has only opcodes of the table, which `run` set; the machine is valid.
        unsafe {
            let handler = *m.handlers.cast::<Tail>().add(m.op() as usize);
            handler(m.ip, m.fp, m.memory, m.handlers, m.ctx, m.acc, m.acc32, m.acc64)
        }
    }

    /// Nothing, but nothing that LLVM could run on both sides of a branch: else it makes one dispatch of a conditional
    /// branch's two, by a conditional move that the next instruction has to wait for (1.3 times on a sieve).
    #[inline(always)]
    fn keep_apart() {
        // SAFETY: no instruction.
        unsafe { std::arch::asm!("", options(nomem, nostack, preserves_flags)) };
    }

    /// A handler; its arguments are a valid machine.
    pub unsafe extern "C" fn handler<H: Handler>(
        ip: *const u64,
        fp: *mut u64,
        memory: *mut u8,
        handlers: *const u8,
        ctx: *mut Context,
        acc: u64,
        acc32: f32,
        acc64: f64,
    ) {
        let mut m = Machine { ip, fp, memory, handlers, ctx, acc, acc32, acc64 };
        match H::run(&mut m) {
            Flow::Next => next(m),
            Flow::Jump => {
                keep_apart();
                next(m)
            }
            // The accumulator is the one register that these paths don't need.
            // SAFETY: the machine is valid.
            Flow::Slow(path) => unsafe {
                slow(m.ip, m.fp, m.memory, m.handlers, m.ctx, path as usize as u64, m.acc32, m.acc64)
            },
            // SAFETY: as above.
            Flow::Trap(trap) => unsafe {
                trapped(m.ip, m.fp, m.memory, m.handlers, m.ctx, trap as u64, m.acc32, m.acc64)
            },
            // SAFETY: as above; the base is not needed any more.
            Flow::OutOfBounds { address, size } => unsafe {
                let size = std::ptr::without_provenance_mut(size as usize);
                faulted(m.ip, m.fp, size, m.handlers, m.ctx, address, m.acc32, m.acc64)
            },
            // SAFETY: only baseline code's bytecode has addresses, which are those of native code for these registers.
            #[cfg(baseline)]
            Flow::Native(code) => unsafe {
                let code = transmute::<*const u8, Tail>(code);
                code(m.ip, m.fp, m.memory, m.handlers, m.ctx, m.acc, m.acc32, m.acc64)
            },
            Flow::Exit => (),
        }
    }

    /// Starts the function whose code the accumulator points to, in a frame that was made for it.
    #[cfg(baseline)]
    pub unsafe extern "C" fn start(
        ip: *const u64,
        fp: *mut u64,
        memory: *mut u8,
        handlers: *const u8,
        ctx: *mut Context,
        acc: u64,
        acc32: f32,
        acc64: f64,
    ) {
        // SAFETY: the caller's promise; code lives as long as the module.
        unsafe { (*(acc as *const Code)).zero_locals(fp) };
        next(Machine { ip, fp, memory, handlers, ctx, acc, acc32, acc64 });
    }

    #[cold]
    #[inline(never)]
    unsafe extern "C" fn slow(
        ip: *const u64,
        fp: *mut u64,
        memory: *mut u8,
        handlers: *const u8,
        ctx: *mut Context,
        path: u64,
        acc32: f32,
        acc64: f64,
    ) {
        // SAFETY: `handler` passes a path.
        let path = unsafe { transmute::<usize, SlowPath>(path as usize) };
        if let Some(m) = slow_path(Machine { ip, fp, memory, handlers, ctx, acc: 0, acc32, acc64 }, path) {
            next(m);
        }
    }

    #[cold]
    #[inline(never)]
    unsafe extern "C" fn trapped(
        ip: *const u64,
        fp: *mut u64,
        memory: *mut u8,
        handlers: *const u8,
        ctx: *mut Context,
        code: u64,
        acc32: f32,
        acc64: f64,
    ) {
        let code = Trap::from_code(code as u8).unwrap_or(Trap::Unreachable);
        trap(Machine { ip, fp, memory, handlers, ctx, acc: 0, acc32, acc64 }, code);
    }

    #[cold]
    #[inline(never)]
    unsafe extern "C" fn faulted(
        ip: *const u64,
        fp: *mut u64,
        size: *mut u8,
        handlers: *const u8,
        ctx: *mut Context,
        address: u64,
        acc32: f32,
        acc64: f64,
    ) {
        out_of_bounds(Machine { ip, fp, memory: size, handlers, ctx, acc: 0, acc32, acc64 }, address, size as u64);
    }
}

/// Dispatch by a loop.
mod looped {
    use super::*;

    /// Runs one instruction; false ends the activation.
    type Looped = fn(&mut Machine) -> bool;

    static HANDLERS: Table<Looped> = dispatch_table!(handler);

    pub fn run(mut m: Machine) {
        loop {
            // SAFETY: translated code has only opcodes of the table.
            let handler = unsafe { *HANDLERS.entries().get_unchecked(m.op() as usize) };
            if !handler(&mut m) {
                return;
            }
        }
    }

    fn handler<H: Handler>(m: &mut Machine) -> bool {
        match H::run(m) {
            Flow::Next | Flow::Jump => return true,
            Flow::Slow(path) => {
                if let Some(after) = slow_path(*m, path) {
                    *m = after;
                    return true;
                }
            }
            Flow::Trap(code) => trap(*m, code),
            Flow::OutOfBounds { address, size } => out_of_bounds(*m, address, size),
            #[cfg(baseline)]
            Flow::Native(_) => unreachable!("baseline code is made for the other dispatch"),
            Flow::Exit => (),
        }
        false
    }
}
