//! The state of running bytecode: the registers that handlers pass on ([`Machine`]), and the rest, behind a pointer
//! ([`Context`]).
//!
//! # Frames
//! Frames lie on the store's value stack. Each begins at the slots where its caller's operand stack holds the
//! arguments, and is laid out as [`FrameLayout`](super::layout::FrameLayout) says. The header holds the return address
//! and the caller's frame pointer. In a cross-instance frame (the callee of a call from another instance) the return
//! address is that of a `return_cross_instance` instruction, and the header also holds the caller's context and the
//! real return address. Every local and every height of the operand stack has a slot of its own. At a label all live
//! values are in their slots (except constants on the operand stack, which may have been folded into the instructions
//! after the label) and no accumulator is live, so frames look the same there for all engines that keep to this layout.

use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::code::{InterpretedFunction, InterpretedModule};
use super::counter::Counter;
use super::value::SlotValue;
use crate::error::Error;
use crate::error::Trap;
use crate::module::offsets::Location;
use crate::module::registry::RegisteredType;
use crate::vm::activation::Link;
use crate::vm::context::{VMContext, VMInterrupt, VMMemory, VMStore};
use crate::vm::instance::resolve;
use crate::vm::interrupt::is_requested;

pub(super) use super::layout::HEADER;

/// Slots after every frame that may be written: locals are zeroed four at a time, and copies of slots that may hold a
/// vector move two.
pub(super) const SLACK: u32 = 8;

/// The registers of the interpreter.
///
/// Results are written to their slot and, unless they are vectors, left in the accumulator of their bank, from where
/// the next instruction may take them without the latency of a store and a load.
///
/// Invariant: a machine exists only while bytecode of a validated function runs. `ip` is at the start of an
/// instruction; `fp` at a frame of the function, which has all slots that its instructions name; `memory` is the base
/// of memory 0, if there is one; `ctx` is live and nobody else uses it. Only the dispatch uses `handlers`.
#[derive(Clone, Copy)]
pub(super) struct Machine {
    pub ip: *const u64,
    pub fp: *mut u64,
    pub memory: *mut u8,
    /// The table of handlers of the dispatch by tail calls. It is in a register because that makes each dispatch one
    /// instruction shorter; memory 0's length got no register, so bounds checks compare with it in memory.
    #[cfg_attr(not(tail_dispatch), allow(dead_code, reason = "the loop does without"))]
    pub handlers: *const u8,
    pub ctx: *mut Context,
    pub acc: u64,
    pub acc32: f32,
    pub acc64: f64,
}

/// The state of an activation of the interpreter besides its registers.
#[repr(C)]
pub(super) struct Context {
    /// The activation's place among those of its store.
    pub link: Link,
    /// Where the activation last called code that may run other code of the store.
    pub left: Left,
    /// The functions of the running instance, by defined index; null for functions that were not called yet.
    pub codes: *const AtomicPtr<InterpretedFunction>,
    /// What to look at to notice a request, the end of the value stack included.
    pub interrupt: *const VMInterrupt,
    /// Length of memory 0; if that is shared, it may have grown since.
    pub length: u64,
    /// Length of the memory that an access has failed in, if the access did not look at `length`.
    pub other_length: Option<u64>,
    /// The types of the running instance's module, by type index.
    pub sigs: *const RegisteredType,
    /// The counters of the running instance's functions, by defined index; dangling if nothing is counted.
    pub counters: *const Counter,
    /// Memory 0 of the running instance, or an empty memory if it has none.
    pub memory: *const VMMemory,
    /// The running instance.
    pub vmctx: *mut VMContext,
    /// Its store.
    pub store: *mut VMStore,
    /// The fuel of its store.
    pub fuel: *mut u64,
    /// Where slow paths find the saved registers.
    pub saved: *mut Machine,
    /// Header of the cross-instance frame that is returning.
    pub cross_instance_header: *mut u64,
    /// Whether the saved `ip` is the last word of a call, not the start of an instruction: the callee failed after it
    /// had replaced its own frame.
    pub after_call: bool,
    /// Why the activation stopped, if not by returning.
    pub error: Option<Error>,
}

/// Where an activation of the interpreter is left for other code, for backtraces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    /// In the instruction at `ip`, of the function with the frame at `fp`.
    Instruction { ip: *const u64, fp: *mut u64 },
    /// In the caller of the frame with this header, which the other code has taken over.
    Caller(*mut u64),
}

/// An empty memory, in place of memory 0 where there is none.
struct NoMemory(VMMemory);
// SAFETY: never written, and its pointer is null.
unsafe impl Sync for NoMemory {}
static NO_MEMORY: NoMemory = NoMemory(VMMemory::new(ptr::null_mut(), 0));

impl Context {
    /// A context that must be [switched](Self::switch) to `vmctx` before code runs.
    pub fn new(
        link: Link,
        vmctx: *mut VMContext,
        interrupt: *const VMInterrupt,
        store: *mut VMStore,
        saved: *mut Machine,
    ) -> Self {
        Context {
            link,
            left: Left::Instruction { ip: ptr::null(), fp: ptr::null_mut() },
            codes: ptr::null(),
            interrupt,
            length: 0,
            other_length: None,
            sigs: ptr::null(),
            counters: ptr::null(),
            memory: ptr::null(),
            vmctx,
            store,
            fuel: store.wrapping_byte_add(offset_of!(VMStore, fuel)).cast(),
            saved,
            cross_instance_header: ptr::null_mut(),
            after_call: false,
            error: None,
        }
    }

    /// Makes `vmctx` the running instance. The caller must then reload memory 0's registers.
    ///
    /// # Safety
    /// `vmctx` must be a live context.
    pub unsafe fn switch(&mut self, vmctx: *mut VMContext) {
        // SAFETY: the context is live by the caller's promise; module and memories live as long as their instance.
        unsafe {
            let module = InterpretedModule::of(vmctx);
            self.vmctx = vmctx;
            self.codes = module.codes();
            self.sigs = module.facts.sigs.as_ptr();
            self.counters = module.counters().as_ptr();
            self.memory = match module.facts.memories.is_empty() {
                true => &raw const NO_MEMORY.0,
                false => resolve(vmctx, module.facts.offsets.memory(0)),
            };
        }
    }
}

/// What comes after a handler. Most handlers return a constant, so that the compiler removes the value.
pub(super) enum Flow {
    /// The instruction at `ip`.
    Next,
    /// The instruction at `ip`, after a taken branch. This is a variant of its own so that a conditional branch has two
    /// dispatches, which the processor predicts separately.
    Jump,
    /// A path that is too long or too rare for the registers, with `ip` at its instruction.
    Slow(SlowPath),
    /// A trap of the instruction at `ip`.
    Trap(Trap),
    /// An access of the instruction at `ip` that is out of bounds: of `Context::other_length` if there is one, or else of memory 0's
    /// length in the context. The instruction has done nothing yet, and the accumulators are as before it.
    OutOfBounds { address: u64, size: u64 },
    /// Native code at this address, which continues with the machine's registers.
    #[cfg(baseline)]
    Native(*const u8),
    /// Back to the activation's caller.
    Exit,
}

/// Code off the fast path. It works on the saved registers, and may clobber the accumulators.
pub(super) type SlowPath = fn(&mut Machine) -> Step;

/// What comes after a slow path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The instruction at `ip`, with memory 0 reloaded.
    Next,
    /// The activation ends with the context's error; `ip` is at the instruction that failed.
    Stop,
}

/// The handler of one instruction of the bytecode.
pub(super) trait Handler {
    /// Name of the instruction with its form.
    fn name() -> String;

    /// The fields of its operands, for printing.
    const FIELDS: &'static [super::print::Field];

    /// Runs it.
    fn run(m: &mut Machine) -> Flow;
}

impl Machine {
    #[inline(always)]
    fn field(&self, index: usize) -> u16 {
        // SAFETY: `ip` is at the start of an instruction by the type's invariant. On little-endian machines the fields
        // of a word lie in this order in memory, and reading one is less work than shifting it out of the word.
        unsafe {
            if cfg!(target_endian = "little") {
                self.ip.cast::<u16>().add(index).read()
            } else {
                (*self.ip >> (16 * index)) as u16
            }
        }
    }

    #[inline(always)]
    pub fn op(&self) -> u16 {
        self.field(0)
    }

    #[inline(always)]
    pub fn a(&self) -> u16 {
        self.field(1)
    }

    #[inline(always)]
    pub fn b(&self) -> u16 {
        self.field(2)
    }

    #[inline(always)]
    pub fn c(&self) -> u16 {
        self.field(3)
    }

    /// Fields `b` and `c` as one 32-bit number.
    #[inline(always)]
    pub fn bc(&self) -> u32 {
        self.high(0)
    }

    /// Word `index` of the instruction.
    #[inline(always)]
    pub fn word(&self, index: usize) -> u64 {
        // SAFETY: `ip` is at an instruction that has this word, by the type's invariant.
        unsafe { *self.ip.add(index) }
    }

    /// Low half of word `index`.
    #[inline(always)]
    pub fn low(&self, index: usize) -> u32 {
        self.word(index) as u32
    }

    /// High half of word `index`.
    #[inline(always)]
    pub fn high(&self, index: usize) -> u32 {
        (self.word(index) >> 32) as u32
    }

    /// The address of a slot of the frame.
    #[inline(always)]
    pub fn slot(&self, slot: u16) -> *mut u64 {
        self.fp.wrapping_add(slot.into())
    }

    /// The value in a slot.
    #[inline(always)]
    pub fn get<T: SlotValue>(&self, slot: u16) -> T {
        // SAFETY: `fp` is at a frame that has the slot, by the type's invariant.
        unsafe { T::read(self.slot(slot)) }
    }

    /// Writes a value to a slot, and leaves the accumulators alone.
    #[inline(always)]
    pub fn put<T: SlotValue>(&mut self, slot: u16, value: T) {
        // SAFETY: `fp` is at a frame that has the slot, by the type's invariant.
        unsafe { value.write(self.slot(slot)) };
    }

    /// Writes a result to slot `a` and its accumulator, and moves `ip` on by `words`.
    #[inline(always)]
    pub fn finish<T: SlotValue>(&mut self, value: T, words: usize) -> Flow {
        self.put(self.a(), value);
        self.keep(value, words)
    }

    /// Leaves a result in its accumulator only, and moves `ip` on by `words`.
    #[inline(always)]
    pub fn keep<T: SlotValue>(&mut self, value: T, words: usize) -> Flow {
        value.to_acc(self);
        self.skip(words)
    }

    /// Moves `ip` on by `words`.
    #[inline(always)]
    pub fn skip(&mut self, words: usize) -> Flow {
        self.ip = self.ip.wrapping_add(words);
        Flow::Next
    }

    /// Jumps by `offset` words from word `word` of the instruction.
    #[inline(always)]
    pub fn jump(&mut self, word: usize, offset: u32) -> Flow {
        self.ip = self.ip.wrapping_add(word).wrapping_offset(offset as i32 as isize);
        Flow::Jump
    }

    #[inline(always)]
    pub fn context(&mut self) -> &mut Context {
        // SAFETY: `ctx` is live and nobody else uses it, by the type's invariant.
        unsafe { &mut *self.ctx }
    }

    /// The running instance.
    #[inline(always)]
    pub fn vmctx(&self) -> *mut VMContext {
        // SAFETY: `ctx` is live by the type's invariant.
        unsafe { (*self.ctx).vmctx }
    }

    /// The fuel of the store.
    #[inline(always)]
    pub fn fuel(&self) -> *mut u64 {
        // SAFETY: `ctx` is live by the type's invariant.
        unsafe { (*self.ctx).fuel }
    }

    /// The store of the running instance.
    #[inline(always)]
    pub fn store(&self) -> *mut VMStore {
        // SAFETY: `ctx` is live by the type's invariant.
        unsafe { (*self.ctx).store }
    }

    /// Length of memory 0.
    #[inline(always)]
    pub fn length(&self) -> u64 {
        // SAFETY: `ctx` is live by the type's invariant.
        unsafe { (*self.ctx).length }
    }

    /// Reads memory 0's base and length anew.
    #[inline(always)]
    pub fn reload_memory(&mut self) {
        // SAFETY: `ctx` is live by the type's invariant, and points to a memory of the running instance or to an empty
        // one.
        let memory = unsafe { &*(*self.ctx).memory };
        self.memory = memory.base;
        self.context().length = memory.length() as u64;
    }

    /// Reads memory 0's length anew after an access of `size` bytes at `address` was out of bounds. Whether another thread has let the
    /// memory grow so far that the instruction is to be run again.
    #[cold]
    pub fn has_grown(&mut self, address: u64, size: u64) -> bool {
        if self.context().other_length.is_some() {
            return false;
        }
        let old = self.length();
        self.reload_memory();
        self.length() != old && address.checked_add(size).is_some_and(|end| end <= self.length())
    }

    /// The object at an encoded place of the context: see [`encode_place`].
    #[inline(always)]
    pub fn at_place<T>(&self, place: u32) -> *mut T {
        let at = self.vmctx().wrapping_byte_add((place & !1) as usize);
        // SAFETY: the translator took the place from the module's offsets, so a pointer to the object lies there.
        if place & 1 == 0 { at.cast() } else { unsafe { *at.cast::<*mut T>() } }
    }

    /// What calls of a defined function enter, or null if it was not called yet.
    #[inline(always)]
    pub fn code(&self, defined: u32) -> *const InterpretedFunction {
        // SAFETY: the translator takes indices from a validated module.
        unsafe { (*(*self.ctx).codes.add(defined as usize)).load(Ordering::Acquire) }
    }

    /// The counter that the counting instruction at `ip` names.
    #[inline(always)]
    pub fn counter(&self) -> &Counter {
        // SAFETY: the translator emits counting instructions only if the module has counters, one for each function.
        unsafe { &*(*self.ctx).counters.add(self.bc() as usize) }
    }

    /// Enters a function whose arguments are at `base`, with the return address `ret`. Does nothing and returns false
    /// if the frame does not fit the stack, or there is a request to the running code.
    #[inline(always)]
    pub fn enter(&mut self, code: *const InterpretedFunction, base: *mut u64, ret: *const u64) -> bool {
        // SAFETY: callers pass a function of the running instance and a `base` on the value stack; the frame is only
        // written after the check that it fits.
        unsafe {
            let code = &*code;
            // The sum does not overflow: the guard behind the value stack is larger than any frame.
            if (*(*self.ctx).interrupt).value_end.load(Ordering::Relaxed) < base as usize + code.frame_bytes {
                return false;
            }
            let header = base.add(code.header as usize);
            *header = ret as u64;
            *header.add(1) = self.fp as u64;
            code.zero_locals(base);
            self.fp = base;
            self.ip = code.entry;
        }
        true
    }

    /// Whether a frame of so many bytes fits the stack at the running frame's start.
    pub fn room(&mut self, bytes: usize) -> bool {
        // SAFETY: the store of a running instance is live.
        let end = unsafe { (*(*self.vmctx()).store).value_end };
        // The end may be below the frame: the budget may have been lowered.
        end as usize >= self.fp as usize + bytes
    }

    /// Whether there is a request to the running code.
    #[inline(always)]
    pub fn is_interrupted(&self) -> bool {
        // SAFETY: `ctx` is live by the type's invariant, and so is the store of the running instance.
        unsafe { is_requested((*self.ctx).interrupt) }
    }

    /// Stops with an error.
    pub fn stop(&mut self, error: impl Into<Error>) -> Step {
        self.context().error = Some(error.into());
        Step::Stop
    }
}

/// A [`Location`] in 32 bits: the byte offset, which is a multiple of 8, with bit 0 set if a pointer to the object lies
/// there.
pub(super) fn encode_place(location: Location) -> u32 {
    match location {
        Location::Inline(offset) => offset as u32,
        Location::Pointer(offset) => offset as u32 | 1,
    }
}
