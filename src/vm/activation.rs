//! Activations: each is one entry from Rust into code of an engine, up to its return. Their types belong to the engines.
//!
//! Those of a store form a list, by which [`capture`] finds the functions that are running. The activation of native code that
//! the current thread is in has a pointer of its own, which signal handlers read.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::ptr;

use super::store::StoreOpaque;
use crate::error::{MAX_BACKTRACE, UnresolvedFrame};

/// The first field of an activation: its place in the list of its store.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Link {
    /// The activation around this one, in the same store; null if there is none.
    outer: *const Link,
    /// [`VMStore::exit_fp`](super::context::VMStore::exit_fp) when this activation began.
    pub exit_fp: usize,
    frames: FramesOf,
}

/// Visits the frames of a suspended activation, innermost first; native code left it at this `exit_fp`. False if it is not known
/// where the activation was left.
pub(crate) type FramesOf = unsafe fn(*const Link, exit_fp: usize, &mut FrameVisitor<'_>) -> bool;

/// Gets the address of the code that each frame is in, which is that of one frame only as long as the store lives, and the frame
/// itself if it asks for it: that takes long. There is none for code that belongs to no function. Says whether to go on.
pub(crate) type FrameVisitor<'a> = dyn FnMut(usize, &dyn Fn() -> Option<UnresolvedFrame>) -> ControlFlow<()> + 'a;

impl Link {
    /// For an activation that is about to begin in a store.
    ///
    /// # Safety
    /// The store must be live; until another activation begins, `frames` must be able to cope with the activation that this
    /// becomes the first field of.
    #[inline]
    pub unsafe fn new(store: *const StoreOpaque, frames: FramesOf) -> Self {
        // SAFETY: the store is live by the caller's promise.
        unsafe { Link { outer: (*store).vm.innermost, exit_fp: (*store).vm.exit_fp, frames } }
    }

    /// For an activation of no store, which no code of a store runs in.
    #[cfg(tail_dispatch)]
    pub fn none() -> Self {
        Link { outer: ptr::null(), exit_fp: 0, frames: |_, _, _| false }
    }

    /// Makes the activation the store's innermost.
    ///
    /// # Safety
    /// `this` must be the first field of an activation of the store, which stays where it is until [`end`](Self::end).
    #[inline]
    pub unsafe fn begin(this: *const Link, store: *mut StoreOpaque) {
        // SAFETY: the store is live by the caller's promise.
        unsafe { (*store).vm.innermost = this };
    }

    /// Ends the activation, which is the store's innermost.
    ///
    /// # Safety
    /// As for [`begin`](Self::begin), after it.
    #[inline]
    pub unsafe fn end(&self, store: *mut StoreOpaque) {
        // SAFETY: the store is live by the caller's promise.
        unsafe {
            (*store).vm.innermost = self.outer;
            (*store).vm.exit_fp = self.exit_fp;
        }
    }
}

/// The functions that are running in a store, innermost first, at most [`MAX_BACKTRACE`]. `None` if the innermost ones are not
/// known here: in a runtime function that native code called. Those of an activation further out that was left in such a
/// function, which a callback interrupted, are left out: the code that the callback runs can't wait until they are known.
///
/// # Safety
/// The store must be live, its code running on this thread or suspended, and the current function be called by the code, or by
/// nothing of the store.
#[cold]
pub(crate) unsafe fn capture(store: *const StoreOpaque) -> Option<Vec<UnresolvedFrame>> {
    let mut frames = Vec::new();
    // SAFETY: the caller's promise.
    let are_known = unsafe {
        visit(store, &mut |_, frame| {
            frames.extend(frame());
            if frames.len() < MAX_BACKTRACE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    };
    are_known.then_some(frames)
}

/// Visits the functions that are running in a store, innermost first. False if the innermost ones are not known here, as for
/// [`capture`].
///
/// # Safety
/// As for [`capture`].
#[cold]
pub(crate) unsafe fn visit(store: *const StoreOpaque, visitor: &mut FrameVisitor<'_>) -> bool {
    let is_over = Cell::new(false);
    let mut visitor = |address: usize, frame: &dyn Fn() -> Option<UnresolvedFrame>| {
        let flow = visitor(address, frame);
        is_over.set(flow.is_break());
        flow
    };
    // SAFETY: the links of a live store are those of activations that have not ended, and all of these are left: the innermost
    // one by the promise of the caller, the others by the activation that follows.
    unsafe {
        let (mut link, mut exit_fp) = ((*store).vm.innermost, (*store).vm.exit_fp);
        while let Some(activation) = link.as_ref() {
            let are_known = (activation.frames)(link, exit_fp, &mut visitor);
            if !are_known && std::ptr::eq(link, (*store).vm.innermost) {
                return false;
            }
            if is_over.get() {
                break;
            }
            (link, exit_fp) = (activation.outer, activation.exit_fp);
        }
    }
    true
}

thread_local! {
    /// The innermost activation of the store whose code this thread runs; null if there is none. The type needs no drop and
    /// the initialiser is constant, so a signal handler may read it.
    static CURRENT: Cell<*mut ()> = const { Cell::new(ptr::null_mut()) };
}

/// The innermost activation of the store whose code this thread runs; null if there is none.
#[inline]
pub(crate) fn current() -> *mut () {
    CURRENT.get()
}

/// Sets the current activation.
///
/// A host function does so before it returns to code of its store. While the host function ran, code of another store may
/// have started on this thread and may still be suspended on another native stack. So the activations of one thread do not
/// end in the reverse order of their start; those of one store do.
#[inline]
pub(crate) fn set_current(activation: *mut ()) {
    CURRENT.set(activation);
}

/// [`set_current`] after code that may have gone on on another thread ([`fiber`](super::fiber)). It is not inlined: the
/// compiler keeps the address of a thread's variable as long as a function runs.
#[inline(never)]
pub(crate) fn set_current_anew(activation: *mut ()) {
    CURRENT.set(activation);
}
