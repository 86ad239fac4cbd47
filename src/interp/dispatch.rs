//! Dispatch, from one instruction to the next: by tail calls, where each handler jumps to the next one and the machine
//! stays in the processor's registers, or by a loop to which handlers return.
//!
//! Rust does not promise tail calls. In optimised builds LLVM turns a call in tail position into a jump if caller and
//! callee have the same signature, all arguments are in registers, and nothing of the caller's stack frame is live.
//! `build.rs` sets `tail_dispatch` only for such builds; the test `deep_loops` runs enough instructions to overflow the
//! native stack if a handler loses the property. So handlers pass no reference to their locals to other functions: slow
//! paths find the registers in the context.

#[cfg(tail_dispatch)]
use std::sync::OnceLock;

#[cfg(baseline)]
use super::exec::plain;
use super::exec::{control, dispatch_table, handlers_of_list_into_table};
use super::machine::{Flow, Handler, Machine, SlowPath, Step};
use super::op::OpTable;
use crate::config::Dispatch;
use crate::error::{Error, ErrorKind};
use crate::error::{MemoryFault, Trap};

/// The dispatch to use when `wanted` is configured: by tail calls only if this build has it and its handlers leave
/// nothing on the native stack.
pub(crate) fn available(wanted: Dispatch) -> Dispatch {
    #[cfg(tail_dispatch)]
    {
        static KEEPS: OnceLock<bool> = OnceLock::new();
        if wanted == Dispatch::TailCall && !*KEEPS.get_or_init(tail::keeps_stack) {
            return Dispatch::Loop;
        }
    }
    wanted
}

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
    // SAFETY: the context is live by the machine's invariant, and so is `saved`, which is not part of the context
    // itself.
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
    let mut m = m;
    let length = m.context().other_length.take().unwrap_or(m.length());
    let fault = MemoryFault { address, size, length };
    fail(m, Error::new(ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault: Some(fault) }));
}

fn fail(mut m: Machine, error: Error) {
    m.context().error = Some(error);
    // SAFETY: the context is live by the machine's invariant, and so is `saved`.
    unsafe { *m.context().saved = m };
}

/// The start of functions that are bytecode: see [`InterpretedFunction::start`](super::code::InterpretedFunction).
#[cfg(baseline)]
pub(super) fn start() -> *const u8 {
    tail::start as *const u8
}

/// The start of native-call shims, which have no locals to zero.
#[cfg(baseline)]
pub(super) fn start_native() -> *const u8 {
    tail::handler::<plain::Native> as *const u8
}

/// Dispatch by tail calls.
#[cfg(tail_dispatch)]
mod tail {
    use super::*;
    #[cfg(baseline)]
    use crate::interp::code::InterpretedFunction;
    use crate::interp::exec::numeric::{self as scalar, form};
    use crate::interp::exec::plain;
    use crate::interp::exec::{control, ops};
    use crate::interp::machine::Context;
    use crate::interp::op::word;
    use crate::interp::print::{Field, Half};
    use crate::sys;
    use crate::vm::activation::Link;
    use crate::vm::interrupt::Interrupts;
    use std::mem::transmute;

    /// The machine as arguments: six integers and two floats, which all calling conventions here pass in registers.
    #[cfg(target_arch = "x86_64")]
    type Tail = unsafe extern "sysv64" fn(*const u64, *mut u64, *mut u8, *const u8, *mut Context, u64, f32, f64);
    #[cfg(not(target_arch = "x86_64"))]
    type Tail = unsafe extern "C" fn(*const u64, *mut u64, *mut u8, *const u8, *mut Context, u64, f32, f64);

    /// Declares a function of type `Tail`. On x86-64 the convention is named because there are two: that of C on
    /// Windows passes only four arguments in registers.
    macro_rules! tail_fn {
        (
            $(#[$meta:meta])* $vis:vis fn $name:ident $(<$handler:ident: $bound:ident>)?(
                $ip:ident, $fp:ident, $memory:ident, $handlers:ident, $ctx:ident, $acc:ident, $acc32:ident, $acc64:ident
            ) $body:block
        ) => {
            tail_fn! { @"sysv64" target_arch = "x86_64", $(#[$meta])* $vis fn $name [$($handler: $bound)?]
                ($ip $fp $memory $handlers $ctx $acc $acc32 $acc64) $body }
            tail_fn! { @"C" not(target_arch = "x86_64"), $(#[$meta])* $vis fn $name [$($handler: $bound)?]
                ($ip $fp $memory $handlers $ctx $acc $acc32 $acc64) $body }
        };
        (
            @$abi:literal $target:meta, $(#[$meta:meta])* $vis:vis fn $name:ident [$($handler:ident: $bound:ident)?](
                $ip:ident $fp:ident $memory:ident $handlers:ident $ctx:ident $acc:ident $acc32:ident $acc64:ident
            ) $body:block
        ) => {
            #[cfg($target)]
            $(#[$meta])*
            $vis unsafe extern $abi fn $name$(<$handler: $bound>)?(
                $ip: *const u64,
                $fp: *mut u64,
                $memory: *mut u8,
                $handlers: *const u8,
                $ctx: *mut Context,
                $acc: u64,
                $acc32: f32,
                $acc64: f64,
            ) $body
        };
    }

    static HANDLERS: OpTable<Tail> = dispatch_table!(handler);

    pub fn run(mut m: Machine) {
        m.handlers = HANDLERS.entries().as_ptr().cast();
        next(m);
    }

    /// Addresses of the handlers, by opcode, and of the probe.
    #[cfg(test)]
    pub fn addresses() -> Vec<usize> {
        let probe: Tail = handler::<Probe>;
        HANDLERS.entries().iter().chain([&probe]).map(|handler| *handler as usize).collect()
    }

    /// Puts the native stack pointer into slot `a`.
    struct Probe;

    impl Handler for Probe {
        const FIELDS: &'static [Field] = &[Field::Def(Half::A)];

        fn name() -> String {
            "probe".into()
        }

        #[inline(always)]
        fn run(m: &mut Machine) -> Flow {
            m.put(m.a(), sys::stack_pointer() as u64);
            m.skip(1)
        }
    }

    /// Whether handlers leave the native stack as they find it, which the compiler usually ensures but never promises.
    /// The test below checks the machine code of all handlers of its own build; this runs one handler of each shape,
    /// because a user's build may be compiled differently.
    pub fn keeps_stack() -> bool {
        type Add<F, const KEPT: bool> = scalar::BinaryHandler<ops::I32Add, F, KEPT>;
        static HANDLERS: [Tail; 8] = [
            handler::<plain::Exit>,
            handler::<Probe>,
            handler::<plain::Copy>,
            handler::<Add<form::SS, false>>,
            handler::<Add<form::AS, true>>,
            handler::<scalar::BinaryHandler<ops::F64Mul, form::SS, false>>,
            handler::<control::BranchHandler<ops::I32Eq, form::SS>>,
            handler::<plain::Br>,
        ];
        let mut words = vec![word(1, 0, 0, 0)];
        for _ in 0..16 {
            words.extend([word(2, 2, 3, 0), word(3, 4, 2, 3), word(4, 0, 0, 3), word(5, 5, 4, 4)]);
            // A branch that is taken, one that is not, and one without a condition, each to the next instruction.
            words.extend([word(6, 2, 3, 0), 1, word(6, 4, 2, 0), 1, word(7, 0, 1, 0)]);
        }
        words.extend([word(1, 1, 0, 0), word(0, 0, 0, 0)]);
        let mut slots = [0u64, 0, 0, 7, 0, 0];
        let (ip, fp, handlers) = (words.as_ptr(), slots.as_mut_ptr(), (&raw const HANDLERS).cast());
        // Branches look for requests.
        let interrupts = Interrupts::new();
        let link = Link::none();
        let (vmctx, interrupt) = (std::ptr::null_mut(), interrupts.vm());
        let (store, saved) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut context = Context::new(link, vmctx, interrupt, store, saved);
        let (memory, ctx) = (std::ptr::null_mut(), &raw mut context);
        next(Machine { ip, fp, memory, handlers, ctx, acc: 0, acc32: 0.0, acc64: 0.0 });
        slots[0] == slots[1] && slots[0] != 0 && slots[4] == 14
    }

    /// Jumps to the handler of the next instruction.
    #[inline(always)]
    pub fn next(m: Machine) {
        // SAFETY: `run` set `handlers` to the table, bytecode has only opcodes of it, and the machine is valid.
        unsafe {
            let handler = *m.handlers.cast::<Tail>().add(m.op() as usize);
            handler(m.ip, m.fp, m.memory, m.handlers, m.ctx, m.acc, m.acc32, m.acc64)
        }
    }

    /// No instruction, but a barrier that LLVM cannot merge: else it would merge the two dispatches of a conditional
    /// branch into one, with a conditional move on which the next instruction depends (1.3 times the time on a sieve).
    #[inline(always)]
    fn keep_apart() {
        // SAFETY: there is no instruction in it.
        unsafe { std::arch::asm!("", options(nomem, nostack, preserves_flags)) };
    }

    tail_fn! {
        /// A handler; its arguments are a valid machine.
        pub fn handler<H: Handler>(ip, fp, memory, handlers, ctx, acc, acc32, acc64) {
            let mut m = Machine { ip, fp, memory, handlers, ctx, acc, acc32, acc64 };
            match H::run(&mut m) {
                Flow::Next => next(m),
                // SAFETY: the machine is valid, and `slow` expects a path in the accumulator, which is not live at a label.
                Flow::Jump if m.is_interrupted() => unsafe {
                    let path: SlowPath = control::poll;
                    slow(m.ip, m.fp, m.memory, m.handlers, m.ctx, path as usize as u64, m.acc32, m.acc64)
                },
                Flow::Jump => {
                    keep_apart();
                    next(m)
                }
                // This path and the next don't need the accumulator, so their extra argument takes its place.
                // SAFETY: the machine is valid, and `slow` expects a path in the accumulator.
                Flow::Slow(path) => unsafe {
                    slow(m.ip, m.fp, m.memory, m.handlers, m.ctx, path as usize as u64, m.acc32, m.acc64)
                },
                // SAFETY: the machine is valid, and `trapped` expects a trap in the accumulator.
                Flow::Trap(trap) => unsafe {
                    trapped(m.ip, m.fp, m.memory, m.handlers, m.ctx, trap as u64, m.acc32, m.acc64)
                },
                // SAFETY: the machine is valid; `faulted` expects the address in place of the memory's base and the size in place
                // of the handlers, both of which it knows otherwise. The instruction may need the accumulators again.
                Flow::OutOfBounds { address, size } => unsafe {
                    let address = std::ptr::without_provenance_mut(address as usize);
                    let size = std::ptr::without_provenance(size as usize);
                    faulted(m.ip, m.fp, address, size, m.ctx, m.acc, m.acc32, m.acc64)
                },
                // SAFETY: only words of baseline code make handlers return this, with addresses of native code that has
                // the signature `Tail`.
                #[cfg(baseline)]
                Flow::Native(code) => unsafe {
                    let code = transmute::<*const u8, Tail>(code);
                    code(m.ip, m.fp, m.memory, m.handlers, m.ctx, m.acc, m.acc32, m.acc64)
                },
                Flow::Exit => (),
            }
        }
    }

    tail_fn! {
        /// Starts the function that the accumulator points to, in the frame at `fp`.
        #[cfg(baseline)]
        pub fn start(ip, fp, memory, handlers, ctx, acc, acc32, acc64) {
            // SAFETY: callers jump here with a function in the accumulator, which lives as long as its module, and a
            // frame of it at `fp`.
            unsafe { (*(acc as *const InterpretedFunction)).zero_locals(fp) };
            next(Machine { ip, fp, memory, handlers, ctx, acc, acc32, acc64 });
        }
    }

    tail_fn! {
        #[cold]
        #[inline(never)]
        fn slow(ip, fp, memory, handlers, ctx, path, acc32, acc64) {
            // SAFETY: `handler` passes a `SlowPath` in the accumulator.
            let path = unsafe { transmute::<usize, SlowPath>(path as usize) };
            if let Some(m) = slow_path(Machine { ip, fp, memory, handlers, ctx, acc: 0, acc32, acc64 }, path) {
                next(m);
            }
        }
    }

    tail_fn! {
        #[cold]
        #[inline(never)]
        fn trapped(ip, fp, memory, handlers, ctx, code, acc32, acc64) {
            let code = Trap::from_code(code as u8).unwrap_or(Trap::Unreachable);
            trap(Machine { ip, fp, memory, handlers, ctx, acc: 0, acc32, acc64 }, code);
        }
    }

    tail_fn! {
        #[cold]
        #[inline(never)]
        fn faulted(ip, fp, address, size, ctx, acc, acc32, acc64) {
            let (memory, handlers) = (std::ptr::null_mut(), HANDLERS.entries().as_ptr().cast());
            let mut m = Machine { ip, fp, memory, handlers, ctx, acc, acc32, acc64 };
            let (address, size) = (address.addr() as u64, size.addr() as u64);
            if m.has_grown(address, size) {
                next(m)
            } else {
                out_of_bounds(m, address, size)
            }
        }
    }
}

/// Dispatch by a loop.
mod looped {
    use super::*;

    /// Runs one instruction; false ends the activation.
    type Looped = fn(&mut Machine) -> bool;

    static HANDLERS: OpTable<Looped> = dispatch_table!(handler);

    pub fn run(mut m: Machine) {
        loop {
            // SAFETY: bytecode has only opcodes of the table.
            let handler = unsafe { *HANDLERS.entries().get_unchecked(m.op() as usize) };
            if !handler(&mut m) {
                return;
            }
        }
    }

    #[cold]
    fn slowly(m: &mut Machine, path: SlowPath) -> bool {
        match slow_path(*m, path) {
            Some(after) => {
                *m = after;
                true
            }
            None => false,
        }
    }

    fn handler<H: Handler>(m: &mut Machine) -> bool {
        match H::run(m) {
            Flow::Jump if m.is_interrupted() => return slowly(m, control::poll),
            Flow::Next | Flow::Jump => return true,
            Flow::Slow(path) => return slowly(m, path),
            Flow::Trap(code) => trap(*m, code),
            Flow::OutOfBounds { address, size } if m.has_grown(address, size) => return true,
            Flow::OutOfBounds { address, size } => out_of_bounds(*m, address, size),
            #[cfg(baseline)]
            Flow::Native(_) => unreachable!("baseline code is made for the other dispatch"),
            Flow::Exit => (),
        }
        false
    }
}

#[cfg(all(test, tail_dispatch, target_os = "linux"))]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::process::Command;

    #[test]
    fn the_native_stack_is_kept_here() {
        assert!(tail::keeps_stack());
        assert_eq!(available(Dispatch::TailCall), Dispatch::TailCall);
    }

    /// The load bias: the difference between this program's addresses in memory and those in its file.
    fn bias() -> usize {
        let path = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let first = maps.lines().find(|line| line.ends_with(path.to_str().unwrap())).unwrap();
        usize::from_str_radix(first.split('-').next().unwrap(), 16).unwrap()
    }

    /// Checks every handler in this program's machine code: it ends in jumps, calls no handler, and only `exit`, which
    /// ends an activation, returns.
    #[test]
    fn handlers_end_in_jumps() {
        let bias = bias();
        let mut handlers: BTreeMap<usize, String> = BTreeMap::new();
        for (handler, name) in tail::addresses().into_iter().zip(crate::interp::print::names().chain(["probe".into()]))
        {
            // Equal handlers may be one function.
            handlers.entry(handler - bias).or_insert(name);
        }
        let (first, last) = (*handlers.keys().next().unwrap(), *handlers.keys().next_back().unwrap());
        let range = [format!("--start-address={first}"), format!("--stop-address={}", last + 4096)];
        let exe = std::env::current_exe().unwrap();
        // By its full name first: where this runs under emulation, the other one is for the machine's own processor.
        let names = [format!("{}-linux-gnu-objdump", std::env::consts::ARCH), "objdump".into()];
        let run = |name| Command::new(name).args(["-d", "--no-show-raw-insn"]).args(&range).arg(&exe).output();
        let output = names.iter().find_map(|name| run(name).ok()).expect("objdump is where the linker is");
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout);
        let (mut seen, mut jumps, mut current) = (0, 0, None::<&String>);
        for line in text.lines() {
            if let Some((address, symbol)) = line.split_once(" <").filter(|_| line.ends_with(">:")) {
                assert!(current.is_none() || jumps > 0, "{current:?} does not jump on");
                current = handlers.get(&usize::from_str_radix(address, 16).unwrap());
                assert!(current.is_some() || !symbol.contains("dispatch4tail7handler"), "{symbol} is in no table");
                (seen, jumps) = (seen + usize::from(current.is_some()), 0);
                continue;
            }
            let (Some(name), Some((_, instruction))) = (current, line.split_once(":\t")) else { continue };
            let (mnemonic, operands) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
            let operands = operands.trim();
            match mnemonic {
                "jmp" | "br" | "b" => jumps += 1,
                "ret" | "retq" => {
                    assert_eq!(name, "exit", "returns");
                    jumps += 1;
                }
                "call" | "bl" => {
                    // A call through a pointer at a fixed address is one of a library's function.
                    let fixed = !operands.starts_with('*') || operands.contains("(%rip)");
                    assert!(fixed && !operands.contains("dispatch4tail"), "{name} calls {operands}");
                }
                "blr" => panic!("{name} calls {operands}"),
                _ => {}
            }
        }
        assert!(current.is_none() || jumps > 0, "{current:?} does not jump on");
        assert_eq!(seen, handlers.len());
    }
}
