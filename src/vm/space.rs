//! Address space for memories and stacks. What is given back is kept for the next one of its size, emptied: to map and
//! unmap anew takes longer than all the rest of a small instance.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(miri)]
use miri as region;
use region::Protection;

use crate::sys::discard;

/// Spaces that an engine keeps at most: with 4 GiB each, a small part of what a process can have.
const IDLE: usize = 32;

/// Address space, accessible up to a point.
struct Space {
    allocation: region::Allocation,
    accessible: usize,
}

// SAFETY: it owns its pages, which are of the process and not of a thread.
unsafe impl Send for Space {}

impl Space {
    /// New address space; what is accessible is zeroed, and costs nothing until it is touched.
    fn map(len: usize, accessible: usize) -> Option<Self> {
        let all = if accessible == len { Protection::READ_WRITE } else { Protection::NONE };
        let allocation = region::alloc(len, all).ok()?;
        let mut space = Space { allocation, accessible: if accessible == len { len } else { 0 } };
        space.set_accessible(accessible)?;
        Some(space)
    }

    fn base(&self) -> *mut u8 {
        self.allocation.as_ptr::<u8>().cast_mut()
    }

    fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        let (from, to, protection) = match bytes >= self.accessible {
            true => (self.accessible, bytes, Protection::READ_WRITE),
            false => (bytes, self.accessible, Protection::NONE),
        };
        if to > self.allocation.len() {
            return None;
        }
        if from < to {
            // SAFETY: the range is in our own allocation; what is made inaccessible is not in use.
            unsafe { region::protect(self.base().add(from), to - from, protection).ok()? };
            self.accessible = bytes;
        }
        Some(())
    }

    /// Makes what is accessible zero again, and gives its pages back to the system.
    fn clear(&mut self) -> Option<()> {
        // SAFETY: the range is in our own allocation, of which nothing is in use, and is private and anonymous.
        unsafe { discard(self.base().cast(), self.accessible) }
    }
}

/// The spaces an engine keeps.
#[derive(Default)]
pub(crate) struct Spaces(Mutex<Vec<Space>>);

impl Spaces {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Space>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of this length, preferably with as much accessible.
    fn take(&self, len: usize, accessible: usize) -> Option<Space> {
        let mut idle = self.idle();
        let fits = |space: &Space| space.allocation.len() == len;
        let at = idle.iter().position(|space| fits(space) && space.accessible == accessible);
        let at = at.or_else(|| idle.iter().position(fits))?;
        Some(idle.swap_remove(at))
    }

    /// Keeps one, if there is room and it can be emptied.
    fn give_back(&self, mut space: Space) {
        if self.idle().len() < IDLE && space.clear().is_some() {
            self.idle().push(space);
        }
    }
}

/// Address space of our own, given back when dropped. The default is none at all.
#[derive(Default)]
pub(crate) struct Reservation {
    space: Option<Space>,
    /// Where it goes then.
    spaces: Option<Arc<Spaces>>,
    /// Whether something else is mapped into it, so that others can't use it.
    is_remapped: bool,
}

impl Reservation {
    /// Address space of `len` bytes, of which the first `accessible` can be used and are zero.
    pub fn new(spaces: &Arc<Spaces>, len: usize, accessible: usize) -> Option<Self> {
        let page = region::page::size();
        let (whole, accessible) = (len.checked_next_multiple_of(page)?, accessible.next_multiple_of(page));
        let mapped = match spaces.take(whole, accessible) {
            Some(mut space) => space.set_accessible(accessible).map(|()| space),
            None => Space::map(whole, accessible),
        };
        // Where address space is short, what is idle goes first.
        let space = mapped.or_else(|| {
            let idle = std::mem::take(&mut *spaces.idle());
            if idle.is_empty() {
                return None;
            }
            drop(idle);
            Space::map(whole, accessible)
        })?;
        Some(Reservation { space: Some(space), spaces: Some(spaces.clone()), is_remapped: false })
    }

    /// Address space for the same engine.
    pub fn another(&self, len: usize, accessible: usize) -> Option<Self> {
        Reservation::new(self.spaces.as_ref()?, len, accessible)
    }

    pub fn base(&self) -> *mut u8 {
        self.space.as_ref().map_or(std::ptr::null_mut(), Space::base)
    }

    pub fn len(&self) -> usize {
        self.space.as_ref().map_or(0, |space| space.allocation.len())
    }

    /// Bytes of it that can be used.
    pub fn accessible(&self) -> usize {
        self.space.as_ref().map_or(0, |space| space.accessible)
    }

    /// Makes more of it accessible, up to `bytes`; these are zero.
    pub fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        self.space.as_mut()?.set_accessible(bytes)
    }

    /// Something else is mapped into it: it is unmapped in the end, not given to others.
    pub fn keep_from_others(&mut self) {
        self.is_remapped = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let (Some(space), Some(spaces), false) = (self.space.take(), self.spaces.take(), self.is_remapped) {
            spaces.give_back(space);
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, setrlimit};

    const LEN: usize = 1 << 16;

    fn reserve(spaces: &Arc<Spaces>) -> Reservation {
        Reservation::new(spaces, LEN, 0).unwrap()
    }

    #[test]
    fn few_are_kept() {
        let spaces = Arc::default();
        drop(Vec::from_iter((0..IDLE + 5).map(|_| reserve(&spaces))));
        assert_eq!(spaces.idle().len(), IDLE);
    }

    #[test]
    fn none_makes_more_accessible_than_it_has() {
        let spaces = Arc::default();
        // The system puts them side by side, so that what lies behind most of them is another one.
        let mut all = Vec::from_iter((0..8).map(|_| reserve(&spaces)));
        for reservation in &mut all {
            assert!(reservation.set_accessible(LEN + region::page::size()).is_none());
            assert_eq!(reservation.accessible(), 0);
        }
    }

    /// In a process of its own, which has no more address space than it has already.
    #[test]
    fn what_is_kept_goes_where_address_space_is_short() {
        const CHILD: &str = "WASMRUN_TEST_IDLE_SPACE";
        /// An emulator can't start another program for its processor; nor do such limits hold there.
        const NOT_STARTED: i32 = 127;
        if std::env::var_os(CHILD).is_none() {
            let name = "vm::space::tests::what_is_kept_goes_where_address_space_is_short";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "").output().unwrap();
            if output.status.code() == Some(NOT_STARTED) {
                return;
            }
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let spaces = Arc::default();
        drop(Reservation::new(&spaces, 1 << 30, 0).unwrap());
        assert_eq!(spaces.idle().len(), 1);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let most = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * region::page::size() as u64 + (16 << 20);
        setrlimit(Resource::As, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
        let other = Reservation::new(&spaces, 1 << 29, 0);
        assert!(other.is_some() && spaces.idle().is_empty());
    }
}

/// What stands in for the system where Miri runs the code, which knows no protection of pages: little memory, all accessible.
#[cfg(miri)]
mod miri {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Bytes that are there of a larger allocation.
    const MOST: usize = 4 << 20;

    #[derive(PartialEq, Eq)]
    pub struct Protection;

    impl Protection {
        pub const NONE: Protection = Protection;
        pub const READ_WRITE: Protection = Protection;
    }

    pub struct Allocation {
        base: *mut u8,
        len: usize,
    }

    impl Allocation {
        pub fn as_ptr<T>(&self) -> *const T {
            self.base.cast()
        }

        pub fn len(&self) -> usize {
            self.len
        }

        fn layout(&self) -> Layout {
            Layout::from_size_align(self.len.min(MOST), page::size()).expect("a page divides it")
        }
    }

    impl Drop for Allocation {
        fn drop(&mut self) {
            // SAFETY: made with this layout in `alloc`.
            unsafe { dealloc(self.base, self.layout()) };
        }
    }

    pub fn alloc(len: usize, _: Protection) -> Result<Allocation, ()> {
        let mut allocation = Allocation { base: std::ptr::null_mut(), len };
        // SAFETY: it is not empty.
        allocation.base = unsafe { alloc_zeroed(allocation.layout()) };
        Ok(allocation)
    }

    pub unsafe fn protect(_: *const u8, len: usize, _: Protection) -> Result<(), ()> {
        if len <= MOST { Ok(()) } else { Err(()) }
    }

    pub mod page {
        pub fn size() -> usize {
            4096
        }
    }
}
