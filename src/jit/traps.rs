//! Traps: from a processor exception in compiled code to an [`Error`].
//!
//! [`enter`] runs compiled code and notes in an [`Activation`] how to get out again. Compiled code traps by executing
//! an instruction that faults. The process's signal handler looks the instruction up; if it is one that may trap, the
//! thread goes on in `arch::landing`, which returns from the innermost [`enter`] with what the handler saved. No Rust
//! frame is ever left that way: between `enter` and the instruction there is compiled code only. All other faults go
//! to the handler that was there before.
//!
//! A throw that leaves its function is no trap: compiled code calls `arch::raise`, which finds who catches it and goes
//! on there, or lands. So do errors of host functions.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::abi::{TRAP_RAISED, trap_of};
use super::arch::{self, Comparison, Lengths, Registers, Target};
use super::lower::osr::hidden_argument;
use super::module::ModuleCode;
use super::origin::{self, Access};
use super::registry::{self, FunctionCode};
use super::trampoline::Kind;
use crate::error::{Error, ErrorKind, MAX_BACKTRACE, MemoryFault, Result, Trap, UnresolvedFrame};
use crate::sys;
use crate::vm::context::{VMCode, VMContext, VMFuncRef};
use crate::vm::func::call_host;
use crate::vm::store::StoreOpaque;
use crate::vm::{activation, exception};

/// One entry from Rust into compiled code. Lives on the stack of [`enter`], of which calls between engines may be many, one
/// in the other: what only traps need is kept elsewhere.
#[repr(C)]
pub(super) struct Activation {
    /// Stack and frame pointers of `arch::enter`.
    pub sp: usize,
    pub fp: usize,
    store: *mut StoreOpaque,
}

/// What the signal handler leaves for the landing.
struct Trapped {
    registers: Registers,
    code: u8,
    /// The address that faulted, for a memory access.
    address: Option<usize>,
    stack: Stack,
}

/// What entering compiled code needs of a thread. Nothing to drop, so that looking at it costs nothing.
struct Thread {
    /// Whether there is a stack to handle signals on.
    has_signal_stack: Cell<bool>,
    /// Written by the signal handler before it redirects to the landing, and read there before other code runs.
    trapped: UnsafeCell<MaybeUninit<Trapped>>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            has_signal_stack: Cell::new(false),
            trapped: UnsafeCell::new(MaybeUninit::uninit()),
        }
    };
}

/// Calls a function of a module. `slots` hold the arguments and take the results.
///
/// # Errors
/// Whatever ends the call: a trap, or what a host function returned. Panics of host functions are in the store.
///
/// # Safety
/// `func` must be a live reference to a function of a module that runs compiled, of the current thread's store, the
/// store's stack limit must be set, `caller` null or a live context of the store (not null if `func` is a host
/// function), and `slots` have room for arguments and results.
pub(crate) unsafe fn call(func: *mut VMFuncRef, caller: *mut VMContext, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*func).index == VMFuncRef::HOST {
            return call_host(func, caller, slots);
        }
        let vmctx = (*func).owner.cast::<VMContext>();
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, (*func).sig)?;
        enter(store, glue, (*func).callee, caller, (*func).code, slots)
    }
}

/// Calls a compiled function of an instance, of the type number `sig`. `slots` hold the arguments and take the results.
///
/// # Errors
/// As for [`call`].
///
/// # Safety
/// `vmctx` must be a live context of the current thread's store, whose stack limit must be set and whose `value_top` be
/// above all slots in use; `code` code of a function of its module, `sig` that function's, and `slots` have room for
/// arguments and results.
#[inline]
pub(crate) unsafe fn call_native(vmctx: *mut VMContext, code: *const VMCode, sig: u32, slots: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise; the glue is for functions of the type.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, sig)?;
        enter(store, glue, vmctx.cast(), vmctx, code, slots)
    }
}

/// [`call_native`] with the glue given.
///
/// # Errors
/// As for [`call`].
///
/// # Safety
/// As for [`call_native`], with the glue of the function's type.
#[inline]
pub(super) unsafe fn call_by_trampoline(
    vmctx: *mut VMContext,
    glue: *const VMCode,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { enter((*vmctx).store.cast(), glue, vmctx.cast(), vmctx, code, slots) }
}

/// Enters code that was compiled for a loop, with the frame of the interpreted function that is at this loop. The function
/// runs to its end; its results are then in the frame's first slots, and nothing else of the frame is of use.
///
/// # Errors
/// As for [`call`]. The backtrace has the function itself already, and so has an exception passed its handlers.
///
/// # Safety
/// As for [`call_native`]; `frame` must be as [`FrameLayout`](crate::interp::FrameLayout) says, with all operands in their
/// slots.
#[inline]
pub(super) unsafe fn call_loop(vmctx: *mut VMContext, code: *const VMCode, frame: *mut u64) -> Result<()> {
    // SAFETY: the caller's promise. Such code is a function (vmctx, anything, frame), which is what `enter` calls: what
    // glue would get as code to call is the frame here.
    unsafe { enter((*vmctx).store.cast(), code, vmctx.cast(), ptr::null_mut(), frame.cast(), ptr::null_mut()) }
}

/// Enters a function that was compiled for loops too, at loop `number` of those, with the frame of the interpreted
/// function that is at this loop. The function runs to its end; its results are then in the frame's first slots.
///
/// # Errors
/// As for [`call_loop`].
///
/// # Safety
/// As for [`call_loop`], with `code` compiled for more loops than `number`, and `sig` the function's type.
#[inline]
pub(super) unsafe fn call_native_at_loop(
    vmctx: *mut VMContext,
    code: *const VMCode,
    sig: u32,
    frame: *mut u64,
    number: u16,
) -> Result<()> {
    // SAFETY: the caller's promise. Parameters and results are in the frame where they are for a call; what the glue passes
    // on as the caller's context is the hidden argument that says which loop.
    unsafe {
        let store = (*vmctx).store.cast::<StoreOpaque>();
        let glue = ModuleCode::of(vmctx).engine.trampoline(Kind::Enter, sig)?;
        let hidden = hidden_argument(frame, number) as usize;
        enter(store, glue, vmctx.cast(), ptr::without_provenance_mut(hidden), code, frame)
    }
}

/// Runs `glue(callee, caller, code, slots)` in an activation of its own.
///
/// # Safety
/// As for `arch::enter`; the store is that of the code, of the current thread, with its stack limit set.
#[inline]
unsafe fn enter(
    store: *mut StoreOpaque,
    glue: *const VMCode,
    callee: *mut u8,
    caller: *mut VMContext,
    code: *const VMCode,
    slots: *mut u64,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if sys::stack_pointer() < (*store).vm.stack_limit {
            return Err(Trap::StackOverflow.into());
        }
        // As a pointer: what is done in `with` itself is a call or two more (2 ns).
        let thread = THREAD.with(ptr::from_ref);
        if !(*thread).has_signal_stack.get() {
            let engine = &(*store).engine;
            if engine.config.signals_based_traps {
                prepare_signals()?;
            }
        }
        let mut activation = Activation { sp: 0, fp: 0, store };
        let outer = std::mem::replace(&mut (*store).activation, (&raw mut activation).cast());
        activation::set_current((&raw mut activation).cast());
        let status = arch::enter(&raw mut activation, glue, callee, caller, code, slots);
        (*store).activation = outer;
        activation::set_current(outer);
        if status == 0 { Ok(()) } else { Err(activation.error((*thread).trapped.get().read().assume_init())) }
    }
}

/// The innermost activation of the store whose code this thread runs; null if there is none.
fn current() -> *mut Activation {
    activation::current().cast()
}

impl Activation {
    /// What the trap was, with the functions that were left.
    ///
    /// # Safety
    /// The activation must just have landed.
    #[cold]
    unsafe fn error(&self, trapped: Trapped) -> Error {
        // SAFETY: the signal handler has written it; the store is that of the code that ran.
        let store = unsafe { &mut *self.store };
        let Trapped { registers, code, address, stack } = &trapped;
        // SAFETY: code of live modules.
        let function = unsafe { registry::find(registers.pc) };
        let mut is_thrown_on = false;
        let mut error = match trap_of(*code) {
            None if store.vm.thrown.is_null() => exception::take_error(store),
            None => {
                let is_on_its_way = store.vm.thrown == store.vm.on_its_way;
                let pcs = std::mem::take(&mut store.way.pcs);
                let mut error = exception::take_error(store);
                if is_on_its_way {
                    // The function that throws it on is among these.
                    is_thrown_on = !pcs.is_empty();
                    error.push_frames(frames(&pcs));
                }
                error
            }
            Some(Trap::MemoryOutOfBounds) => {
                let fault = function.and_then(|function| match address {
                    Some(address) => guard_fault(function, registers, *address, store),
                    None => check_fault(function, registers, store),
                });
                Error::new(ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault })
            }
            Some(trap) => trap.into(),
        };
        if error.exit_code().is_some() {
            // It would not keep frames.
            return error;
        }
        let mut frames: Vec<UnresolvedFrame> = frames(&stack.pcs[is_thrown_on.into()..stack.len]).collect();
        if error.trap() == Some(Trap::Unreachable)
            && let (Some(innermost), Some(function)) = (frames.first_mut(), function)
            && let Some(offset) = origin::unreachable(function, registers.pc)
        {
            innermost.position = offset;
        }
        error.push_frames(frames);
        error
    }
}

/// A place in running code: an instruction, or where a call returns to, with the frame pointer there.
#[derive(Clone, Copy)]
struct Place {
    pc: usize,
    fp: usize,
}

impl Place {
    /// Where the function that is here returns to.
    ///
    /// # Safety
    /// The frame must be one of compiled code, and still be there.
    unsafe fn caller(self) -> Place {
        // SAFETY: the frame pointer leads to the caller's, the return address lies above it.
        unsafe { Place { pc: *(self.fp as *const usize).add(1), fp: *(self.fp as *const usize) } }
    }
}

/// Addresses in the code that was left: the trapping instruction, then the calls, innermost first.
struct Stack {
    pcs: [usize; Stack::ROOM],
    len: usize,
}

impl Stack {
    /// One piece of glue may be on either end.
    const ROOM: usize = MAX_BACKTRACE + 2;

    /// Follows the frame pointers up to `end`. For the signal handler: after landing, the stack below is used by
    /// others.
    ///
    /// # Safety
    /// The frames must be there, of compiled code, in a chain that leads to `end`.
    unsafe fn walk(mut place: Place, end: usize) -> Self {
        let mut stack = Stack { pcs: [0; Stack::ROOM], len: 0 };
        let mut pc = place.pc;
        loop {
            stack.pcs[stack.len] = pc;
            stack.len += 1;
            if place.fp == end || stack.len == Stack::ROOM {
                return stack;
            }
            // SAFETY: the caller's promise.
            place = unsafe { place.caller() };
            // Return addresses are behind the call, which may be the last instruction of its function.
            pc = place.pc - 1;
        }
    }
}

/// The Wasm functions among addresses in code of live modules.
fn frames(pcs: &[usize]) -> impl Iterator<Item = UnresolvedFrame> {
    // SAFETY: as said.
    pcs.iter().filter_map(|pc| unsafe { registry::find(*pc)?.frame(*pc) })
}

/// Where an exception thrown at `place` is handled before `end`. If it is, what it leaves is added to `left`, as far as there
/// is room, and last where it comes to the handler. From there it is thrown on if the handler does not catch it, so that
/// the function is there already.
///
/// # Safety
/// As for [`Stack::walk`].
unsafe fn find_handler(mut place: Place, end: usize, left: &mut Vec<usize>) -> Option<Target> {
    let before = left.len();
    let mut note = |pc| {
        if left.len() < left.capacity() {
            left.push(pc);
        }
    };
    if before == 0 {
        note(place.pc);
    }
    while place.fp != end {
        // SAFETY: the caller's promise; code that is being run is alive.
        let found = unsafe {
            place = place.caller();
            note(place.pc - 1);
            registry::find(place.pc - 1).and_then(|function| Some((function, function.handler_at(place.pc)?)))
        };
        if let Some((function, handler)) = found {
            let pc = function.range.start + handler.entry as usize;
            return Some(Target { pc, sp: place.fp - handler.frame as usize, fp: place.fp, payload: 0 });
        }
    }
    left.truncate(before);
    None
}

/// What was accessed when the access itself faulted.
fn guard_fault(
    function: &FunctionCode,
    registers: &Registers,
    address: usize,
    store: &StoreOpaque,
) -> Option<MemoryFault> {
    let memory = store.memories.iter().find(|memory| memory.address_range().contains(&address))?;
    let access = origin::access(function, registers.pc);
    let size = access.map_or(1, |access| access.size);
    let code = code_from(function, registers.pc);
    // The processor reports the first byte that faulted, which for an access across the end is not its first.
    let mut first = arch::memory_operand(code, registers).unwrap_or(address as u64);
    if access.is_some_and(|access| access.is_store) && arch::is_probe(code) {
        first = first.wrapping_sub(size - 1);
    }
    if (address as u64).wrapping_sub(first) >= size {
        first = address as u64;
    }
    let address = first.wrapping_sub(memory.address_range().start as u64);
    Some(MemoryFault { address, size, length: memory.length_place().1 })
}

/// What was to be accessed when an inline check failed: the index is still where the check compared it.
fn check_fault(function: &FunctionCode, registers: &Registers, store: &StoreOpaque) -> Option<MemoryFault> {
    let access = origin::access(function, registers.pc)?;
    let lengths = Lengths(store.memories.iter().map(|memory| memory.length_place()).collect());
    let code = code_from(function, function.range.start);
    let site = registers.pc - function.range.start;
    arch::failed_check(code, site, registers, &lengths, |check| explain(check, access, &lengths))
}

/// What was to be accessed when a check failed; `None` if it was no check of a memory with one of these lengths.
///
/// The checks are `index >= length`, `index > length - need` where the access ends `need` bytes behind the index, and
/// `end > length`.
fn explain(check: Comparison, access: Access, lengths: &Lengths) -> Option<MemoryFault> {
    let Comparison { left, mut right, or_equal } = check;
    let Access { offset, size, .. } = access;
    let mut known = lengths.0.iter().map(|(_, length)| *length);
    let at_index = |length| MemoryFault { address: left.wrapping_add(offset), size, length };
    if or_equal {
        if known.clone().any(|length| length == right) {
            return Some(at_index(right));
        }
        // Constants may have been changed by one.
        right = right.checked_sub(1)?;
    }
    let need = offset.wrapping_add(size);
    if let Some(length) = known.clone().find(|length| length.checked_sub(need) == Some(right)) {
        return Some(at_index(length));
    }
    if let Some(length) = known.clone().find(|length| length.checked_sub(1) == Some(right)) {
        return Some(at_index(length));
    }
    let length = known.find(|length| *length == right)?;
    Some(MemoryFault { address: left.wrapping_sub(size), size, length })
}

/// The machine code of a function from `pc`.
fn code_from(function: &FunctionCode, pc: usize) -> &[u8] {
    // SAFETY: functions found by their address are mapped readable as long as they are found.
    unsafe { std::slice::from_raw_parts(pc as *const u8, function.range.end - pc) }
}

/// The signals that trapping instructions cause.
const SIGNALS: [c_int; 4] = [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS];

/// The handlers that were there before ours.
struct Previous {
    actions: [libc::sigaction; SIGNALS.len()],
    /// What was there when ours was installed before that, if somebody replaced it since.
    older: *const Previous,
}

/// What was there when ours was installed last. Read by the signal handler; lives for ever.
static PREVIOUS: AtomicPtr<Previous> = AtomicPtr::new(ptr::null_mut());

/// Sees to it that our signal handler is the process's, also if somebody has replaced it meanwhile.
pub(super) fn install() {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let ours = on_signal as *const () as usize;
    let current = || {
        SIGNALS.map(|signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: asks for the action only; zeros are a valid action if that should fail.
            unsafe {
                libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
                action.assume_init()
            }
        })
    };
    if current().iter().all(|action| action.sa_sigaction == ours) {
        return;
    }
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut actions = current();
    let older = PREVIOUS.load(Ordering::Acquire).cast_const();
    for (index, action) in actions.iter_mut().enumerate() {
        // SAFETY: these live for ever.
        if let (true, Some(older)) = (action.sa_sigaction == ours, unsafe { older.as_ref() }) {
            *action = older.actions[index];
        }
    }
    // Known before the first signal can come.
    PREVIOUS.store(Box::into_raw(Box::new(Previous { actions, older })), Ordering::Release);
    for signal in SIGNALS {
        // SAFETY: the handler has the type that SA_SIGINFO asks for.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = ours;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Has this thread take the signals that traps cause: blocked ones would end the process.
fn unblock() {
    // SAFETY: plain calls about the current thread.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&mut set);
        SIGNALS.iter().for_each(|signal| {
            libc::sigaddset(&mut set, *signal);
        });
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
    }
}

/// The signal handler.
///
/// It runs in the middle of anything: no allocation, and no lock unless the thread was running compiled code.
unsafe extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system calls handlers with these; the rest as stated at each function.
    unsafe {
        if !handle(signal, info, context) {
            forward(signal, info, context);
        }
    }
}

/// Handles a trap of compiled code; false for anything else.
unsafe fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> bool {
    // SAFETY: an activation that is current is alive; its store is that of the code the thread runs.
    unsafe {
        let activation = current();
        // Signals that were sent, not caused, have codes of zero and below.
        if (*info).si_code <= 0 {
            return false;
        }
        let registers = Registers::read(context);
        let address = (*info).si_addr() as usize;
        let is_access = signal == libc::SIGSEGV || signal == libc::SIGBUS;
        if is_access && address.wrapping_sub(registers.pc) < 16 && registry::is_code(registers.pc) {
            // Fetching the instruction failed: its page is being written to, see `code_memory`. Try again.
            libc::sched_yield();
            return true;
        }
        // Baseline code may run without an activation, and does nothing that faults.
        if activation.is_null() {
            return false;
        }
        let code = match registry::find(registers.pc).and_then(|function| function.trap_at(registers.pc)) {
            Some(code) if is_access && !may_fault_at(address, code, &*(*activation).store) => return false,
            Some(code) => code,
            None => return false,
        };
        let place = Place { pc: registers.pc, fp: registers.fp() };
        let trapped = Trapped {
            registers,
            code,
            address: is_access.then_some(address),
            stack: Stack::walk(place, (*activation).fp),
        };
        arch::redirect(context, land(activation, trapped));
        true
    }
}

/// Leaves the compiled code of an activation: where the thread is to go on.
///
/// # Safety
/// The activation must be the innermost of this thread.
unsafe fn land(activation: *const Activation, trapped: Trapped) -> Target {
    THREAD.with(|thread| {
        // SAFETY: read only after the landing; the activation is alive by the caller's promise.
        unsafe {
            (*thread.trapped.get()).write(trapped);
            Target { pc: arch::landing as *const () as usize, sp: (*activation).sp, fp: (*activation).fp, payload: 0 }
        }
    })
}

/// What [`arch::raise`] goes by: writes to `target` where the exception in the store is handled, or else where the
/// activation ends. `frame` is the frame pointer of `raise`.
///
/// # Safety
/// Only for `raise`.
pub(super) unsafe extern "C" fn find_target(frame: usize, target: *mut Target) {
    // SAFETY: compiled code runs in an activation, which is alive and whose store is that of the code. The frames down
    // to it are of compiled code.
    unsafe {
        let activation = current();
        let Activation { fp, store, .. } = *activation;
        // Where `raise` was called: the return address is behind the call, which may be the last instruction.
        let call = Place { pc: arch::raise as *const () as usize, fp: frame }.caller();
        let place = Place { pc: call.pc - 1, ..call };
        let thrown = &raw mut (*store).vm.thrown;
        let handler = if (*thrown).is_null() { None } else { find_handler(place, fp, &mut (*store).way.pcs) };
        target.write(match handler {
            Some(handler) => {
                (*store).vm.on_its_way = *thrown;
                Target { payload: thrown.replace(ptr::null_mut()) as usize, ..handler }
            }
            None => {
                let code = TRAP_RAISED.as_raw().get();
                let stack = Stack::walk(place, fp);
                land(activation, Trapped { registers: Registers::default(), code, address: None, stack })
            }
        });
    }
}

/// What goes into [`VMStore::raise`](crate::vm::context::VMStore::raise).
pub(super) fn raise_code() -> *const VMCode {
    arch::raise as *const VMCode
}

/// Whether an access that traps with `code` may fault at `address`: in a memory of the store, or by following a null
/// pointer.
fn may_fault_at(address: usize, code: u8, store: &StoreOpaque) -> bool {
    match trap_of(code) {
        Some(Trap::MemoryOutOfBounds) => store.memories.iter().any(|memory| memory.address_range().contains(&address)),
        _ => address < 4096,
    }
}

thread_local! {
    /// How many handlers that were there before are running, each called by the one after it.
    static FORWARDED: Cell<u32> = const { Cell::new(0) };
}

/// Does what would have happened without our handler.
unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the previous action is called the way it asks to be.
    unsafe {
        let index = SIGNALS.iter().position(|known| *known == signal);
        let depth = FORWARDED.get();
        let mut previous = PREVIOUS.load(Ordering::Acquire).cast_const();
        // Who replaced our handler may call it in turn, as what was there before: that means an older one.
        for _ in 0..depth {
            previous = previous.as_ref().map_or(ptr::null(), |previous| previous.older);
        }
        let action = index.and_then(|index| previous.as_ref().map(|previous| previous.actions[index]));
        match action {
            Some(action) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
                FORWARDED.set(depth + 1);
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                    std::mem::transmute::<usize, Handler>(action.sa_sigaction)(signal, info, context);
                } else {
                    std::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(action.sa_sigaction)(signal);
                }
                FORWARDED.set(depth);
            }
            Some(action) if action.sa_sigaction == libc::SIG_IGN && (*info).si_code <= 0 => {}
            _ => {
                // The instruction faults again on return, and ends the process; what was sent is sent again.
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &action, ptr::null_mut());
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        }
    }
}

thread_local! {
    static SIGNAL_STACK: SignalStack = const { SignalStack { own: Cell::new(None) } };
}

/// Sees to it that this thread takes signals, and has a stack to handle them on.
#[cold]
fn prepare_signals() -> Result<()> {
    install();
    unblock();
    let ended = |_| Error::resource("no stack for signals: the thread is ending");
    SIGNAL_STACK.try_with(SignalStack::prepare).map_err(ended)??;
    THREAD.with(|thread| thread.has_signal_stack.set(true));
    Ok(())
}

/// The stack that this thread handles signals on: the guest's own may be exhausted.
struct SignalStack {
    /// Ours, where there was none or too small a one.
    own: Cell<Option<region::Allocation>>,
}

impl SignalStack {
    /// Bytes our handler needs, on top of what the system saves.
    const NEEDED: usize = 32 << 10;

    fn prepare(&self) -> Result<()> {
        // SAFETY: plain calls about the current thread; the stack stays mapped until it is no longer in use.
        unsafe {
            let saved = libc::getauxval(libc::AT_MINSIGSTKSZ) as usize;
            let needed = Self::NEEDED + saved.max(libc::MINSIGSTKSZ);
            let mut current = MaybeUninit::<libc::stack_t>::zeroed().assume_init();
            libc::sigaltstack(ptr::null(), &mut current);
            if current.ss_flags & libc::SS_DISABLE != 0 || current.ss_size < needed {
                let refused = |error| Error::resource(format!("no stack for signals: {error}"));
                let page = region::page::size();
                let stack = region::alloc(needed + page, region::Protection::READ_WRITE).map_err(refused)?;
                region::protect(stack.as_ptr::<u8>(), page, region::Protection::NONE).map_err(refused)?;
                let ours = libc::stack_t {
                    ss_sp: stack.as_ptr::<u8>().cast_mut().add(page).cast(),
                    ss_flags: 0,
                    ss_size: stack.len() - page,
                };
                if libc::sigaltstack(&ours, ptr::null_mut()) != 0 {
                    return Err(Error::resource(format!("no stack for signals: {}", std::io::Error::last_os_error())));
                }
                self.own.set(Some(stack));
            }
        }
        Ok(())
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.has_signal_stack.set(false));
        let Some(stack) = self.own.take() else { return };
        // SAFETY: plain calls about the current thread. The stack is only unmapped when it is not in use.
        unsafe {
            let mut current = MaybeUninit::<libc::stack_t>::zeroed().assume_init();
            libc::sigaltstack(ptr::null(), &mut current);
            if stack.as_range().contains(&(current.ss_sp as usize)) {
                let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
                libc::sigaltstack(&none, ptr::null_mut());
            }
        }
        drop(stack);
    }
}
