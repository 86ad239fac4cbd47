//! Address space for linear memories and value stacks, with a pool of idle space per engine: to map and unmap takes longer
//! than everything else that a small instance needs. What a memory had is zeroed before its space goes into the pool; value
//! stacks go back as they are, because the interpreter reads no slot that it has not written.
//!
//! A system limits the mappings of a process (Linux to 65,530 by default), and a space takes two: the accessible part, and the
//! rest. So only so many memories may have a space of their own; others are packed, see [`slab`](super::slab).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(miri)]
pub(super) use miri as region;
use region::Protection;

use super::slab::Slabs;
use crate::error::{Error, Result};
use crate::sys::{discard, max_mappings, shortage};

/// Most idle spaces of memories in an engine's pool.
const MAX_IDLE: usize = 64;

/// Most bytes of address space that the idle spaces of memories take.
const MAX_IDLE_BYTES: usize = if size_of::<usize>() == 8 { 512 << 30 } else { 64 << 20 };

/// Most idle value stacks in an engine's pool, and bytes of memory that these may take.
const MAX_IDLE_STACKS: usize = 64;
const MAX_IDLE_STACK_BYTES: usize = 64 << 20;

/// Memories of up to so many accessible bytes are zeroed by writing to them. That is faster than to give the pages back to the
/// system and to fault them in again one by one; idle memories of that size stay resident.
pub(super) const WRITTEN_TO_CLEAR: usize = 64 << 10;

/// From so many spaces in use on, the process is short of mappings: an eighth of Linux's default limit, twice.
const CROWD: usize = 8192;

/// From so many value stacks in use on, stores give theirs back whenever they run no code.
const STACK_CROWD: usize = 64;

/// The spaces in use in the process, because it is the process that the system limits.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Whether so many spaces are in use that mappings are short.
pub(super) fn is_crowded() -> bool {
    IN_USE.load(Ordering::Relaxed) >= CROWD
}

/// Whether the system may allow `count` more spaces: an estimate, which saves many attempts in vain.
pub(super) fn has_mappings_for(count: usize) -> bool {
    /// So few are tried anyway.
    const FEW: usize = 1024;
    let needed = IN_USE.load(Ordering::Relaxed).saturating_add(count).saturating_mul(2);
    count <= FEW || max_mappings().is_none_or(|most| needed < most)
}

/// The error for `what` when the system has refused `wanted` bytes of memory or address space for it.
#[cold]
pub(super) fn refused(what: &str, wanted: usize) -> Error {
    Error::resource(format!("the system refuses {what}: {}", shortage(wanted)))
}

/// Mapped address space: `lead` bytes that can't be accessed, `accessible` bytes that can be read and written, and the rest, which
/// can't be accessed either.
struct AddressSpace {
    allocation: region::Allocation,
    lead: usize,
    accessible: usize,
    /// The image that is mapped into it, by [`Image::id`](crate::sys::Image::id).
    image: Option<u64>,
}

// SAFETY: it owns its pages, and any thread of the process may access or unmap them.
unsafe impl Send for AddressSpace {}

impl AddressSpace {
    /// Maps address space; the accessible part is zeroed, and takes no memory until it is touched.
    fn map(lead: usize, len: usize, accessible: usize) -> Option<Self> {
        let is_whole = lead == 0 && accessible == len;
        let all = if is_whole { Protection::READ_WRITE } else { Protection::NONE };
        let allocation = region::alloc(lead.checked_add(len)?, all).ok()?;
        let mut space = AddressSpace { allocation, lead, accessible: if is_whole { len } else { 0 }, image: None };
        space.set_accessible(accessible)?;
        Some(space)
    }

    /// The first byte behind the lead.
    fn base(&self) -> *mut u8 {
        self.allocation.as_ptr::<u8>().cast_mut().wrapping_add(self.lead)
    }

    /// Bytes behind the lead.
    fn len(&self) -> usize {
        self.allocation.len() - self.lead
    }

    /// Makes exactly the first `bytes` accessible; `None` if the space is smaller or the system refuses.
    fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        let (from, to, protection) = match bytes >= self.accessible {
            true => (self.accessible, bytes, Protection::READ_WRITE),
            false => (bytes, self.accessible, Protection::NONE),
        };
        if to > self.len() {
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

    /// Makes the accessible part what it was at first: the image that is mapped into it, and zeros elsewhere. `None` if the
    /// system refuses.
    fn clear(&mut self) -> Option<()> {
        if self.image.is_none() && self.accessible <= WRITTEN_TO_CLEAR {
            // SAFETY: the accessible part of this allocation, and nothing refers to its bytes.
            unsafe { self.base().write_bytes(0, self.accessible) };
            return Some(());
        }
        // SAFETY: the range is in this allocation, which is private, and nothing refers to its bytes.
        unsafe { discard(self.base().cast(), self.accessible) }
    }
}

/// What a space is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceUse {
    /// A linear memory. If the space has the image with this number, it is mapped and unchanged.
    Memory {
        image: Option<u64>,
    },
    ValueStack,
    /// The heap of objects of a store.
    Objects,
}

/// The idle address space of an engine, and its packed memories.
#[derive(Default)]
pub(crate) struct SpacePool {
    idle: Mutex<Idle>,
    slabs: Mutex<Slabs>,
    stacks_in_use: AtomicUsize,
}

#[derive(Default)]
struct Idle {
    /// Those of memories; the oldest first.
    memories: Vec<AddressSpace>,
    /// Their lengths together.
    memory_bytes: usize,
    stacks: Vec<AddressSpace>,
    /// The accessible bytes of `stacks` together.
    stack_bytes: usize,
}

impl Idle {
    /// Takes a space with this lead and of length `len` for a memory or a heap, preferably one with `image`, and of which the
    /// first `accessible` bytes are accessible. One with another image is never taken.
    fn take_memory(&mut self, lead: usize, len: usize, accessible: usize, image: Option<u64>) -> Option<AddressSpace> {
        let is_of_size = |space: &AddressSpace| space.len() == len && space.lead == lead;
        let find = |fits: &dyn Fn(&AddressSpace) -> bool| self.memories.iter().rposition(|s| is_of_size(s) && fits(s));
        let find = |image| {
            find(&|space| space.image == image && space.accessible == accessible)
                .or_else(|| find(&|space| space.image == image))
        };
        let at = find(image).or_else(|| find(None))?;
        let space = self.memories.remove(at);
        self.memory_bytes -= space.allocation.len();
        Some(space)
    }

    /// Takes a value stack of length `len`.
    fn take_stack(&mut self, len: usize) -> Option<AddressSpace> {
        let at = self.stacks.iter().rposition(|space| space.len() == len)?;
        let space = self.stacks.remove(at);
        self.stack_bytes -= space.accessible;
        Some(space)
    }

    fn has_room_for_memory(&self, len: usize) -> bool {
        self.memories.len() < MAX_IDLE && self.memory_bytes.saturating_add(len) <= MAX_IDLE_BYTES
    }

    /// Keeps the space of a memory, which must have been cleared. Returns what is to be unmapped, as there is no room for it:
    /// the oldest that can't serve the same memories, or else the space itself.
    fn keep_memory(&mut self, space: AddressSpace) -> Vec<AddressSpace> {
        let mut evicted = Vec::new();
        // What modules that are gone have used must not fill the pool for ever.
        while !self.has_room_for_memory(space.allocation.len())
            && let Some(oldest) = self.memories.first()
            && (oldest.allocation.len(), oldest.image) != (space.allocation.len(), space.image)
        {
            self.memory_bytes -= oldest.allocation.len();
            evicted.push(self.memories.remove(0));
        }
        if self.has_room_for_memory(space.allocation.len()) {
            self.memory_bytes += space.allocation.len();
            self.memories.push(space);
        } else {
            evicted.push(space);
        }
        evicted
    }

    /// Keeps a value stack, or gives it back if there is no room for it.
    fn keep_stack(&mut self, space: AddressSpace) -> Vec<AddressSpace> {
        let bytes = self.stack_bytes.saturating_add(space.accessible);
        if self.stacks.len() >= MAX_IDLE_STACKS || bytes > MAX_IDLE_STACK_BYTES {
            return vec![space];
        }
        self.stack_bytes = bytes;
        self.stacks.push(space);
        Vec::new()
    }
}

impl SpacePool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The packed memories.
    pub(super) fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a space into the pool, if there is room and it can be cleared; unmaps it otherwise.
    fn give_back(&self, mut space: AddressSpace, used_as: SpaceUse) {
        // Unmapped when the lock is free again.
        let _rest = match used_as {
            SpaceUse::ValueStack => self.idle().keep_stack(space),
            SpaceUse::Memory { .. } | SpaceUse::Objects => match space.clear() {
                Some(()) => self.idle().keep_memory(space),
                None => vec![space],
            },
        };
    }

    /// Unmaps all idle space; false if there was none.
    pub(super) fn unmap_idle(&self) -> bool {
        let idle = std::mem::take(&mut *self.idle());
        let had_slabs = self.slabs().unmap_idle();
        had_slabs || !idle.memories.is_empty() || !idle.stacks.is_empty()
    }

    /// Whether so many value stacks are in use that a store should give its own back while it runs no code.
    pub(super) fn is_short_of_stacks(&self) -> bool {
        self.stacks_in_use.load(Ordering::Relaxed) >= STACK_CROWD
    }
}

/// Reserved address space; goes back into the engine's pool when it is dropped. The default has no bytes.
#[derive(Default)]
pub(crate) struct Reservation(Option<Reserved>);

struct Reserved {
    space: AddressSpace,
    used_as: SpaceUse,
    /// The pool that the space goes back to.
    spaces: Arc<SpacePool>,
    /// Whether nobody knows what is mapped into the space, so that it must not go back.
    is_spoilt: bool,
}

impl Reservation {
    /// Reserves `len` bytes, of which the first `accessible` are accessible; both are rounded up to whole pages. Those of a
    /// memory are zero, apart from the image if it has that already ([`Reservation::has_image`]). `None` if the system refuses.
    pub fn new(spaces: &Arc<SpacePool>, len: usize, accessible: usize, used_as: SpaceUse) -> Option<Self> {
        Self::with_lead(spaces, 0, len, accessible, used_as)
    }

    /// As [`Reservation::new`], with `lead` bytes before the first one that can never be accessed: whole pages.
    pub fn with_lead(
        spaces: &Arc<SpacePool>,
        lead: usize,
        len: usize,
        accessible: usize,
        used_as: SpaceUse,
    ) -> Option<Self> {
        let page = region::page::size();
        let (whole, accessible) = (len.checked_next_multiple_of(page)?, accessible.next_multiple_of(page));
        let idle = match used_as {
            SpaceUse::Memory { image } => spaces.idle().take_memory(lead, whole, accessible, image),
            SpaceUse::Objects => spaces.idle().take_memory(lead, whole, accessible, None),
            SpaceUse::ValueStack => spaces.idle().take_stack(whole),
        };
        let mapped = match idle {
            Some(mut space) => space.set_accessible(accessible).map(|()| space),
            None => AddressSpace::map(lead, whole, accessible),
        };
        // If address space is short, unmap what is idle and try again.
        let space =
            mapped.or_else(|| spaces.unmap_idle().then(|| AddressSpace::map(lead, whole, accessible)).flatten())?;
        IN_USE.fetch_add(1, Ordering::Relaxed);
        if used_as == SpaceUse::ValueStack {
            spaces.stacks_in_use.fetch_add(1, Ordering::Relaxed);
        }
        Some(Reservation(Some(Reserved { space, used_as, spaces: spaces.clone(), is_spoilt: false })))
    }

    /// Address of the first byte; null if there are none.
    pub fn base(&self) -> *mut u8 {
        self.0.as_ref().map_or(std::ptr::null_mut(), |reserved| reserved.space.base())
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |reserved| reserved.space.len())
    }

    /// Number of accessible bytes.
    pub fn accessible(&self) -> usize {
        self.0.as_ref().map_or(0, |reserved| reserved.space.accessible)
    }

    /// Makes the first `bytes` accessible; those that are so newly are zero. `None` if the reservation is smaller or the
    /// system refuses.
    pub fn set_accessible(&mut self, bytes: usize) -> Option<()> {
        // Whole pages: the bytes may end within one that others before them made accessible.
        let whole = bytes.checked_next_multiple_of(region::page::size())?;
        self.0.as_mut()?.space.set_accessible(whole)
    }

    /// Whether the image is mapped into the space already, and has not been written to.
    pub fn has_image(&self, image: u64) -> bool {
        self.0.as_ref().is_some_and(|reserved| reserved.space.image == Some(image))
    }

    /// Whether no image is mapped into the space, so that what was never written to is zero.
    pub fn is_anonymous(&self) -> bool {
        self.0.as_ref().is_some_and(|reserved| reserved.space.image.is_none() && !reserved.is_spoilt)
    }

    /// Has `map` map an image with the number `image` into the space, at the base that it is given.
    ///
    /// # Errors
    /// That of `map`. The space does not go back into the pool then.
    pub fn map_image(&mut self, image: u64, map: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
        let base = self.base();
        if let Some(reserved) = &mut self.0 {
            reserved.is_spoilt = true;
            map(base)?;
            (reserved.space.image, reserved.is_spoilt) = (Some(image), false);
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(Reserved { space, used_as, spaces, is_spoilt }) = self.0.take() {
            IN_USE.fetch_sub(1, Ordering::Relaxed);
            if used_as == SpaceUse::ValueStack {
                spaces.stacks_in_use.fetch_sub(1, Ordering::Relaxed);
            }
            if !is_spoilt {
                spaces.give_back(space, used_as);
            }
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, setrlimit};

    const LEN: usize = 1 << 16;

    const MEMORY: SpaceUse = SpaceUse::Memory { image: None };

    fn reserve(spaces: &Arc<SpacePool>) -> Reservation {
        Reservation::new(spaces, LEN, 0, MEMORY).unwrap()
    }

    #[test]
    fn few_are_kept() {
        let spaces = Arc::default();
        drop(Vec::from_iter((0..MAX_IDLE + 5).map(|_| reserve(&spaces))));
        assert_eq!(spaces.idle().memories.len(), MAX_IDLE);
        // Few bytes, however large each is.
        let large = MAX_IDLE_BYTES / 4;
        drop(Vec::from_iter((0..6).map(|_| Reservation::new(&spaces, large, 0, MEMORY).unwrap())));
        assert_eq!(spaces.idle().memory_bytes, MAX_IDLE_BYTES);
        let lens = |idle: &Idle| idle.memories.iter().map(AddressSpace::len).sum::<usize>();
        assert_eq!(lens(&spaces.idle()), MAX_IDLE_BYTES, "those that were not used for longest have gone");
        drop(reserve(&spaces));
        assert!(spaces.idle().memory_bytes <= MAX_IDLE_BYTES);
        let stacks = |bytes, count| {
            let one = || Reservation::new(&spaces, bytes, bytes, SpaceUse::ValueStack).unwrap();
            drop(Vec::from_iter((0..count).map(|_| one())));
        };
        stacks(LEN, MAX_IDLE_STACKS + 5);
        assert_eq!(spaces.idle().stacks.len(), MAX_IDLE_STACKS);
        assert!(spaces.unmap_idle() && !spaces.unmap_idle());
        stacks(MAX_IDLE_STACK_BYTES / 2, 3);
        let idle = spaces.idle();
        assert_eq!((idle.stacks.len(), idle.stack_bytes), (2, MAX_IDLE_STACK_BYTES));
    }

    /// A memory may be read before it is written to, by another guest; a value stack is not.
    #[test]
    fn what_a_memory_had_is_gone() {
        let spaces = Arc::default();
        for bytes in [WRITTEN_TO_CLEAR, 2 * WRITTEN_TO_CLEAR] {
            let reserve = || Reservation::new(&spaces, 1 << 20, bytes, MEMORY).unwrap();
            let first = reserve();
            // SAFETY: the accessible bytes, which nobody else uses.
            let contents = |space: &Reservation| unsafe { std::slice::from_raw_parts_mut(space.base(), bytes) };
            contents(&first).fill(1);
            let base = first.base();
            drop(first);
            let second = reserve();
            assert!(second.base() == base && contents(&second).iter().all(|byte| *byte == 0));
            drop(Reservation::new(&spaces, 1 << 20, 1 << 20, SpaceUse::ValueStack).unwrap());
            let third = reserve();
            assert!(contents(&third).iter().all(|byte| *byte == 0), "no value stack becomes a memory");
        }
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
        drop(Reservation::new(&spaces, 1 << 30, 0, MEMORY).unwrap());
        assert_eq!(spaces.idle().memories.len(), 1);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let most = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * region::page::size() as u64 + (16 << 20);
        setrlimit(Resource::As, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
        let other = Reservation::new(&spaces, 1 << 29, 0, MEMORY);
        assert!(other.is_some() && spaces.idle().memories.is_empty());
        let error = refused("it", 1 << 30).to_string();
        assert!(error.contains("RLIMIT_AS") && error.contains(&most.to_string()), "{error}");
    }
}

/// Replaces the crate `region` under Miri, which has no page protection: at most 4 MiB for each space, all accessible.
#[cfg(miri)]
pub(super) mod miri {
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
