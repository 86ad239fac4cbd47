//! Signals: from a processor exception in compiled code to the landing.
//!
//! Compiled code traps by executing an instruction that faults. The process's signal handler looks the instruction up; if it
//! is one that may trap, the thread goes on in `arch::landing`. All other faults go to the handler that was there before.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::abi::trap_of;
use super::arch::{self, Registers};
use super::enter::{Trapped, current, land};
use super::registry;
use super::unwind::{CodePosition, Stack};
use crate::error::{Error, Result, Trap};
use crate::vm::store::StoreOpaque;

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
        let place = CodePosition { pc: registers.pc, fp: registers.fp() };
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
    /// Whether the thread takes the signals, and has a stack to handle them on. Nothing to drop, so that it may be asked on
    /// each entry.
    static IS_PREPARED: Cell<bool> = const { Cell::new(false) };
    static SIGNAL_STACK: SignalStack = const { SignalStack { own: Cell::new(None) } };
}

/// Whether this thread takes signals, and has a stack to handle them on.
#[inline]
pub(super) fn is_prepared() -> bool {
    IS_PREPARED.get()
}

/// Sees to it that this thread takes signals, and has a stack to handle them on.
#[cold]
pub(super) fn prepare() -> Result<()> {
    install();
    unblock();
    let ended = |_| Error::resource("no stack for signals: the thread is ending");
    SIGNAL_STACK.try_with(SignalStack::prepare).map_err(ended)??;
    IS_PREPARED.set(true);
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
        IS_PREPARED.set(false);
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
