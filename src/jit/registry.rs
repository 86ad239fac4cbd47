//! The registry of all native code of the process: finds the function that a program counter lies in.
//!
//! The signal handler uses it, so a look-up takes no lock that the interrupted thread could hold: [`find`] goes through
//! a table of atomics to the chunk of code memory, and takes that chunk's lock only if the program counter lies in the
//! chunk. Then the thread was running compiled code, which holds no lock.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::CompiledModule;
use super::profile;
use crate::config::Profile;
use crate::error::UnresolvedFrame;
use crate::printable::Printable;

/// One compiled function or trampoline, with its tables.
pub(super) struct FunctionCode {
    pub range: Range<usize>,
    /// The Wasm function; `None` for a trampoline.
    pub function: Option<WasmFunction>,
    /// Offsets of the instructions that may trap, ascending, with the trap codes.
    pub traps: Box<[(u32, u8)]>,
    /// Offsets of the instructions that trap because of a request to the running code, ascending, with the offsets where
    /// the code goes on.
    pub polls: Box<[(u32, u32)]>,
    /// Offsets where the code of another Wasm instruction begins, ascending, with that instruction's byte offset in the
    /// module.
    pub locations: Box<[(u32, u32)]>,
    /// Calls within a `try_table`, by return address.
    pub handlers: Box<[HandlerEntry]>,
}

/// The handler for exceptions that leave a call within a `try_table`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandlerEntry {
    /// Offset of the call's return address.
    pub after: u32,
    /// Offset of the code that takes the exception.
    pub entry: u32,
    /// How far the stack pointer is below the frame pointer there.
    pub frame: u32,
}

/// The Wasm function that a piece of code was compiled from.
#[derive(Clone, Copy)]
pub(super) struct WasmFunction {
    pub module: *const CompiledModule,
    pub defined: u32,
}

// SAFETY: `module` is only read, may be read by any thread, and lives longer than its code.
unsafe impl Send for WasmFunction {}
// SAFETY: as for `Send`.
unsafe impl Sync for WasmFunction {}

/// In place of a location: the code belongs to no Wasm instruction.
pub(super) const NO_LOCATION: u32 = u32::MAX;

/// In place of a location: the call stands for a tail call, after which its function only returns, so backtraces must
/// leave the function out. Modules are smaller than this.
pub(super) const NO_FRAME: u32 = u32::MAX - 1;

impl FunctionCode {
    /// The trap code of the instruction at `pc`, if it is one that may trap.
    pub fn trap_at(&self, pc: usize) -> Option<u8> {
        let offset = u32::try_from(pc - self.range.start).ok()?;
        let index = self.traps.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(self.traps[index].1)
    }

    /// Where the code goes on that trapped at `pc` because of a request.
    pub fn after_poll(&self, pc: usize) -> Option<usize> {
        let offset = u32::try_from(pc - self.range.start).ok()?;
        let index = self.polls.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        Some(self.range.start + self.polls[index].1 as usize)
    }

    /// The byte offset in the module of the Wasm instruction that `pc` belongs to.
    pub fn location_at(&self, pc: usize) -> Option<u32> {
        let offset = u32::try_from(pc - self.range.start).ok()?;
        let index = self.locations.partition_point(|(at, _)| *at <= offset).checked_sub(1)?;
        Some(self.locations[index].1).filter(|location| *location != NO_LOCATION)
    }

    /// The handler for exceptions out of the call that returns to `pc`.
    pub fn handler_at(&self, pc: usize) -> Option<HandlerEntry> {
        let offset = u32::try_from(pc - self.range.start).ok()?;
        let index = self.handlers.binary_search_by_key(&offset, |handler| handler.after).ok()?;
        Some(self.handlers[index])
    }

    /// The backtrace frame for `pc`; `None` for trampolines, and for frames that backtraces must leave out.
    ///
    /// # Safety
    /// The code's module must be alive.
    pub unsafe fn frame(&self, pc: usize) -> Option<UnresolvedFrame> {
        let WasmFunction { module, defined } = self.function?;
        if self.location_at(pc) == Some(NO_FRAME) {
            return None;
        }
        // SAFETY: the module is alive by the caller's promise.
        let facts = unsafe { (*module).facts.clone() };
        let start = facts.bodies[defined as usize].start;
        let position = self.location_at(pc).map_or(start, |location| location as usize);
        Some(UnresolvedFrame { source: facts, defined, position })
    }
}

/// The functions in one chunk of code memory.
#[derive(Default)]
pub(super) struct Chunk {
    /// Sorted by address. Boxed, so that references that `find` returns stay valid when others are added.
    #[expect(clippy::vec_box, reason = "references outlive the lock")]
    functions: Mutex<Vec<Box<FunctionCode>>>,
    /// Set if a page that is not executable will never become so: because it could not be made executable after it was
    /// written to, or because the chunk is mapped from a file.
    pub broken: AtomicBool,
}

/// Chunks start and end at multiples of this.
pub(super) const GRANULE: usize = 1 << 16;

/// Bits of the addresses of a process, on both architectures.
const ADDRESS_BITS: u32 = 48;
const LEAF_BITS: u32 = 16;
const ROOTS: usize = 1 << (ADDRESS_BITS - LEAF_BITS - GRANULE.trailing_zeros());
const LEAVES: usize = 1 << LEAF_BITS;

type Leaf = [AtomicPtr<Chunk>; LEAVES];

/// A two-level table from granules of the address space to chunks. Leaves cover 4 GiB, and are kept for ever: code
/// memory comes from few places.
static TABLE: [AtomicPtr<Leaf>; ROOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; ROOTS];

fn split(address: usize) -> (usize, usize) {
    let granule = address / GRANULE;
    (granule >> LEAF_BITS, granule & (LEAVES - 1))
}

/// The chunk an address lies in.
fn chunk(address: usize) -> Option<*const Chunk> {
    let (root, leaf) = split(address);
    // SAFETY: leaves are null or live for ever.
    let leaves = unsafe { TABLE.get(root)?.load(Ordering::Acquire).as_ref()? };
    let chunk = leaves[leaf].load(Ordering::Acquire);
    (!chunk.is_null()).then_some(chunk.cast_const())
}

/// Whether the chunk of `address` is there and can become executable.
pub(super) fn is_code(address: usize) -> bool {
    // SAFETY: chunks are removed from the table before they are dropped, and this one stays as long as the calling
    // thread runs its code.
    chunk(address).is_some_and(|chunk| unsafe { !(*chunk).broken.load(Ordering::Acquire) })
}

fn leaf(root: usize) -> Option<&'static Leaf> {
    let slot = TABLE.get(root)?;
    let mut leaves = slot.load(Ordering::Acquire);
    if leaves.is_null() {
        // SAFETY: all zero bits are null pointers. The pages are not touched before they are used.
        let fresh = Box::into_raw(unsafe { Box::<Leaf>::new_zeroed().assume_init() });
        leaves = match slot.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(other) => {
                // SAFETY: the pointer came from a box, and no other thread has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                other
            }
        };
    }
    // SAFETY: leaves live for ever.
    Some(unsafe { &*leaves })
}

fn set(range: Range<usize>, chunk: *mut Chunk) -> Option<()> {
    range.step_by(GRANULE).try_for_each(|address| {
        let (root, index) = split(address);
        leaf(root)?[index].store(chunk, Ordering::Release);
        Some(())
    })
}

/// Registers `chunk` for the addresses of `range`, which must be whole granules. `None` if the table does not reach so
/// far.
///
/// # Safety
/// The chunk must live until [`remove_chunk`].
pub(super) unsafe fn add_chunk(range: Range<usize>, chunk: *const Chunk) -> Option<()> {
    set(range, chunk.cast_mut())
}

/// Undoes [`add_chunk`].
pub(super) fn remove_chunk(range: Range<usize>) {
    set(range, ptr::null_mut());
}

/// Registers a function in the chunk that it lies in. Functions must not overlap.
///
/// # Safety
/// The code must be in place, and its module alive.
pub(super) unsafe fn add_function(code: FunctionCode) {
    if let Some(WasmFunction { module, defined }) = code.function {
        // SAFETY: the module is alive by the caller's promise; the code is mapped, and not changed any more.
        unsafe {
            let bytes = std::slice::from_raw_parts(code.range.start as *const u8, code.range.len());
            tell_profiler(&*module, defined, "", bytes);
        }
    }
    if let Some(chunk) = chunk(code.range.start) {
        // SAFETY: the code being added keeps its chunk alive.
        let mut functions = unsafe { &*chunk }.functions.lock().unwrap_or_else(PoisonError::into_inner);
        // Usually at the end; functions in files come in the order in which they are called.
        let index = functions.partition_point(|function| function.range.start < code.range.start);
        debug_assert!(functions.get(index).is_none_or(|next| code.range.end <= next.range.start));
        functions.insert(index, Box::new(code));
    }
}

/// Tells the profiler the name of a Wasm function's code, if the engine has one configured.
pub(super) fn tell_profiler(module: &CompiledModule, defined: u32, tier: &str, code: &[u8]) {
    let profile = module.engine.config().profile;
    if profile != Profile::None {
        let index = module.facts.imported_funcs() + defined;
        let name = Printable::name(module.facts.func_name(index).unwrap_or_default());
        let name = format!("wasm function {index} {name}{tier}");
        profile::add(profile, name.trim_end(), code);
    }
}

/// The function that `pc` lies in.
///
/// # Safety
/// Code that is found must stay alive as long as the result is used, and the calling thread must not be in the middle
/// of [`add_function`] when `pc` lies in code.
pub(super) unsafe fn find<'a>(pc: usize) -> Option<&'a FunctionCode> {
    // SAFETY: the code at `pc` keeps its chunk alive.
    let functions = unsafe { &*chunk(pc)? }.functions.lock().unwrap_or_else(PoisonError::into_inner);
    let index = functions.partition_point(|function| function.range.start <= pc).checked_sub(1)?;
    let function: *const FunctionCode = &*functions[index];
    // SAFETY: the box lives as long as the code.
    Some(unsafe { &*function }).filter(|function| function.range.contains(&pc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(range: Range<usize>) -> FunctionCode {
        let (traps, locations) = (Box::new([(4, 1)]), Box::new([(2, 100), (6, NO_LOCATION)]));
        let handlers = Box::new([HandlerEntry { after: 9, entry: 12, frame: 32 }]);
        FunctionCode { range, function: None, traps, polls: Box::new([(4, 3)]), locations, handlers }
    }

    #[test]
    fn finds_functions_by_address_until_the_chunk_goes() {
        // Addresses at which nothing is mapped: the table does not need them to be.
        let base = 0x1234 << 32;
        let range = base - GRANULE..base + GRANULE;
        let chunk = Box::new(Chunk::default());
        // SAFETY: the chunk lives until it is removed below.
        unsafe {
            add_chunk(range.clone(), &*chunk).unwrap();
            add_function(code(base - 16..base));
            add_function(code(base + 8..base + 24));
            assert_eq!(find(base - 1).unwrap().range.start, base - 16);
            assert!(find(base).is_none() && find(base - 17).is_none() && find(base + 24).is_none());
            let found = find(base + 12).unwrap();
            assert_eq!((found.trap_at(base + 12), found.trap_at(base + 13)), (Some(1), None));
            assert_eq!((found.after_poll(base + 12), found.after_poll(base + 13)), (Some(base + 11), None));
            assert_eq!(found.location_at(base + 8), None);
            assert_eq!(found.handler_at(base + 17).map(|handler| handler.entry), Some(12));
            assert!(found.handler_at(base + 16).is_none());
            assert_eq!((found.location_at(base + 12), found.location_at(base + 14)), (Some(100), None));
            remove_chunk(range);
            assert!(find(base + 12).is_none());
        }
    }
}
