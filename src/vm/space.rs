//! Address space for linear memories and value stacks, with a pool of idle space per engine: to map and unmap takes longer
//! than everything else that a small instance needs. Pages are emptied before they go into the pool.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(miri)]
use miri as region;
use region::Protection;

use crate::sys::discard;

/// Most idle spaces in an engine's pool. At 4 GiB each they are a small part of a process's address space.
const MAX_IDLE: usize = 32;

/// Mapped address space, of which the first `accessible` bytes can be read and written and the rest can't be accessed.
struct AddressSpace {
    allocation: region::Allocation,
    accessible: usize,
}

// SAFETY: it owns its pages, and any thread of the process may access or unmap them.
unsafe impl Send for AddressSpace {}

impl AddressSpace {
    /// Maps address space; the accessible part is zeroed, and takes no memory until it is touched.
    fn map(len: usize, accessible: usize) -> Option<Self> {
        let all = if accessible == len { Protection::READ_WRITE } else { Protection::NONE };
        let allocation = region::alloc(len, all).ok()?;
        let mut space = AddressSpace { allocation, accessible: if accessible == len { len } else { 0 } };
        space.set_accessible(accessible)?;
        Some(space)
    }

    fn base(&self) -> *mut u8 {
        self.allocation.as_ptr::<u8>().cast_mut()
    }

    /// Makes exactly the first `bytes` accessible; `None` if the space is smaller or the system refuses.
    fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        let (from, to, protection) = match bytes >= self.accessible {
            true => (self.accessible, bytes, Protection::READ_WRITE),
            false => (bytes, self.accessible, Protection::NONE),
        };
        if to > self.allocation.len() {
            return None;
        }
        if from < to {
            // SAFETY: the range is in this allocation. Only a space from the pool is made less accessible, and nothing
            // refers to its bytes.
            unsafe { region::protect(self.base().add(from), to - from, protection).ok()? };
            self.accessible = bytes;
        }
        Some(())
    }

    /// Zeroes the accessible part by giving its pages back to the system; `None` if the system refuses.
    fn clear(&mut self) -> Option<()> {
        // SAFETY: the range is in this allocation, which is private and anonymous, and nothing refers to its bytes.
        unsafe { discard(self.base().cast(), self.accessible) }
    }
}

/// The idle address space of an engine.
#[derive(Default)]
pub(crate) struct SpacePool(Mutex<Vec<AddressSpace>>);

impl SpacePool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AddressSpace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a space of length `len` out of the pool, preferably one of which the first `accessible` bytes are accessible.
    fn take(&self, len: usize, accessible: usize) -> Option<AddressSpace> {
        let mut idle = self.idle();
        let fits = |space: &AddressSpace| space.allocation.len() == len;
        let at = idle.iter().position(|space| fits(space) && space.accessible == accessible);
        let at = at.or_else(|| idle.iter().position(fits))?;
        Some(idle.swap_remove(at))
    }

    /// Puts a space into the pool, if there is room and it can be emptied; unmaps it otherwise.
    fn give_back(&self, mut space: AddressSpace) {
        if self.idle().len() < MAX_IDLE && space.clear().is_some() {
            self.idle().push(space);
        }
    }
}

/// Reserved address space; goes back into the engine's pool when it is dropped. The default has no bytes.
#[derive(Default)]
pub(crate) struct Reservation {
    space: Option<AddressSpace>,
    /// The pool that the space goes back to.
    spaces: Option<Arc<SpacePool>>,
    /// Whether something else is mapped into it, so that it must not go back.
    is_remapped: bool,
}

impl Reservation {
    /// Reserves `len` bytes, of which the first `accessible` are accessible and zero; both are rounded up to whole pages.
    /// `None` if the system refuses.
    pub fn new(spaces: &Arc<SpacePool>, len: usize, accessible: usize) -> Option<Self> {
        let page = region::page::size();
        let (whole, accessible) = (len.checked_next_multiple_of(page)?, accessible.next_multiple_of(page));
        let mapped = match spaces.take(whole, accessible) {
            Some(mut space) => space.set_accessible(accessible).map(|()| space),
            None => AddressSpace::map(whole, accessible),
        };
        // If address space is short, unmap the idle spaces and try again.
        let space = mapped.or_else(|| {
            let idle = std::mem::take(&mut *spaces.idle());
            if idle.is_empty() {
                return None;
            }
            drop(idle);
            AddressSpace::map(whole, accessible)
        })?;
        Some(Reservation { space: Some(space), spaces: Some(spaces.clone()), is_remapped: false })
    }

    /// Address space for the same engine.
    pub fn another(&self, len: usize, accessible: usize) -> Option<Self> {
        Reservation::new(self.spaces.as_ref()?, len, accessible)
    }

    /// Address of the first byte; null if there are none.
    pub fn base(&self) -> *mut u8 {
        self.space.as_ref().map_or(std::ptr::null_mut(), AddressSpace::base)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.space.as_ref().map_or(0, |space| space.allocation.len())
    }

    /// Number of accessible bytes.
    pub fn accessible(&self) -> usize {
        self.space.as_ref().map_or(0, |space| space.accessible)
    }

    /// Makes the first `bytes` accessible; those that are so newly are zero. `None` if the reservation is smaller or the
    /// system refuses.
    pub fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        self.space.as_mut()?.set_accessible(bytes)
    }

    /// Keeps the space out of the pool, because something else is mapped into it: it is unmapped when dropped.
    pub fn exclude_from_reuse(&mut self) {
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

    fn reserve(spaces: &Arc<SpacePool>) -> Reservation {
        Reservation::new(spaces, LEN, 0).unwrap()
    }

    #[test]
    fn few_are_kept() {
        let spaces = Arc::default();
        drop(Vec::from_iter((0..MAX_IDLE + 5).map(|_| reserve(&spaces))));
        assert_eq!(spaces.idle().len(), MAX_IDLE);
    }

    #[test]
    fn none_makes_more_accessible_than_it_has() {
        let spaces = Arc::default();
        // The system maps them side by side, so most of them are followed by another one.
        let mut all = Vec::from_iter((0..8).map(|_| reserve(&spaces)));
        for reservation in &mut all {
            assert!(reservation.set_accessible(LEN + region::page::size()).is_none());
            assert_eq!(reservation.accessible(), 0);
        }
    }

    /// Runs in a child process, whose address space is limited to little more than it has already.
    #[test]
    fn what_is_kept_goes_where_address_space_is_short() {
        const CHILD: &str = "WASMRUN_TEST_IDLE_SPACE";
        /// Exit status if the test runs in an emulator, which can't start a program for its processor; such limits do not
        /// hold there either.
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

/// Replaces the crate `region` under Miri, which has no page protection: at most 4 MiB for each space, all accessible.
#[cfg(miri)]
mod miri {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Bytes that a larger space really has.
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
            // SAFETY: `alloc` allocated it with this layout.
            unsafe { dealloc(self.base, self.layout()) };
        }
    }

    pub fn alloc(len: usize, _: Protection) -> Result<Allocation, ()> {
        let mut allocation = Allocation { base: std::ptr::null_mut(), len };
        // SAFETY: every reservation has a guard, so the layout's size is not zero.
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
