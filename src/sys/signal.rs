//! The signals that faulting instructions cause: the process's handler for them, the handlers that were there before, and the
//! stack that a thread handles them on.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::system::signal::min_stack;
use crate::error::{Error, Result};

/// A signal handler as the system calls it.
pub(crate) type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The signals that faulting instructions cause.
const SIGNALS: [c_int; 4] = [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS];

/// The handlers that were there before ours was installed.
struct Previous {
    actions: [libc::sigaction; SIGNALS.len()],
    /// The handlers before an earlier installation of ours, if somebody has replaced it since.
    older: *const Previous,
}

/// The handlers before the last installation of ours. Read by the signal handler; never freed.
static PREVIOUS: AtomicPtr<Previous> = AtomicPtr::new(ptr::null_mut());

/// Makes `handler` the process's for these signals, also if somebody has replaced it meanwhile. It must be the same one in
/// every call, and call [`forward`] for signals that are not its own.
pub(crate) fn install(handler: Handler) {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let ours = handler as *const () as usize;
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
    // Stored before the first signal can come.
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

/// Unblocks the signals in this thread: a fault whose signal is blocked ends the process.
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

thread_local! {
    /// How many older handlers are running now, each called by the next younger one.
    static FORWARDED: Cell<u32> = const { Cell::new(0) };
}

/// Does what would have happened without our handler.
///
/// # Safety
/// Only for the handler, with its own arguments.
pub(crate) unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the previous action is called the way it asks to be.
    unsafe {
        let index = SIGNALS.iter().position(|known| *known == signal);
        let depth = FORWARDED.get();
        let mut previous = PREVIOUS.load(Ordering::Acquire).cast_const();
        // A handler that replaced ours may call ours as the one that was there before. Then the next older one is meant.
        for _ in 0..depth {
            previous = previous.as_ref().map_or(ptr::null(), |previous| previous.older);
        }
        let action = index.and_then(|index| previous.as_ref().map(|previous| previous.actions[index]));
        match action {
            Some(action) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
                FORWARDED.set(depth + 1);
                if action.sa_flags & libc::SA_SIGINFO != 0 {
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
pub(crate) fn is_prepared() -> bool {
    IS_PREPARED.get()
}

/// Makes `handler` the process's, and sees to it that this thread takes the signals and has a stack to handle them on.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if there is no memory for the stack, or the thread is ending.
#[cold]
pub(crate) fn prepare(handler: Handler) -> Result<()> {
    install(handler);
    unblock();
    let ended = |_| Error::resource("no stack for signals: the thread is ending");
    SIGNAL_STACK.try_with(SignalStack::prepare).map_err(ended)??;
    IS_PREPARED.set(true);
    Ok(())
}

/// The stack that this thread handles signals on: the guest's own may be exhausted.
struct SignalStack {
    /// Our stack, if the thread had none or too small a one.
    own: Cell<Option<region::Allocation>>,
}

impl SignalStack {
    /// Bytes that our handler needs, besides those that the system saves registers in.
    const NEEDED: usize = 32 << 10;

    fn prepare(&self) -> Result<()> {
        // SAFETY: plain calls about the current thread; the stack stays mapped until it is no longer in use.
        unsafe {
            let needed = Self::NEEDED + min_stack();
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
