//! Translated functions, and where a module keeps them.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::machine::SLACK;
use super::translate::{self, Translation};
use crate::error::Result;
use crate::module::ModuleInner;

/// A translated function.
#[derive(Debug)]
pub(super) struct Code {
    /// First instruction, in `words`.
    pub entry: *const u64,
    /// Bytes of a frame, slack included.
    pub frame_bytes: usize,
    /// Slot of the frame's header.
    pub header: u32,
    /// The slots that are zeroed on entry, in steps of four: what follows is not read before it is written.
    zeroed_from: u32,
    zeroed_to: u32,
    /// Slots of the parameters.
    pub params: u32,
    defined: u32,
    words: Box<[u64]>,
    tries: Box<[Try]>,
}

/// The instructions in a `try_table`, as words from the first to before the last, and the word of its `try`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    pub from: u32,
    pub to: u32,
    pub at: u32,
}

impl Code {
    fn new(module: &ModuleInner, defined: u32) -> Result<Self> {
        let Translation { words, header, zeroed, frame, tries, .. } = translate::function(module, defined, false)?;
        let words = words.into_boxed_slice();
        Ok(Code {
            entry: words.as_ptr(),
            frame_bytes: 8 * (frame as usize + SLACK as usize),
            header,
            zeroed_from: zeroed.start,
            zeroed_to: zeroed.end,
            params: module.defined_type(defined).param_slots() as u32,
            defined,
            words,
            tries: tries.into(),
        })
    }

    /// Zeroes the locals that may be read before they are set.
    ///
    /// # Safety
    /// `base` must be a frame of the function that fits the stack.
    #[inline(always)]
    pub unsafe fn zero_locals(&self, base: *mut u64) {
        let mut at = base.wrapping_add(self.zeroed_from as usize);
        let end = base.wrapping_add(self.zeroed_to as usize);
        while at < end {
            // SAFETY: within the frame, or the slack behind it.
            unsafe { at.cast::<[u64; 4]>().write([0; 4]) };
            at = at.wrapping_add(4);
        }
    }
}

/// The interpreter's part of a module: functions are translated when first called.
pub(crate) struct ModuleCode {
    codes: Box<[AtomicPtr<Code>]>,
    /// The translated functions by the address where their words end, for backtraces.
    ends: Mutex<BTreeMap<usize, u32>>,
}

impl ModuleCode {
    /// For a module of so many defined functions.
    pub fn new(defined_funcs: usize) -> Self {
        let codes = (0..defined_funcs).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        ModuleCode { codes, ends: Mutex::default() }
    }

    pub(super) fn codes(&self) -> *const AtomicPtr<Code> {
        self.codes.as_ptr()
    }

    /// The code of a function of `module`, whose part this is.
    pub(super) fn get(&self, module: &ModuleInner, defined: u32) -> Result<*const Code> {
        let place = &self.codes[defined as usize];
        let present = place.load(Ordering::Acquire);
        if !present.is_null() {
            return Ok(present);
        }
        let code = Box::new(Code::new(module, defined)?);
        let end = code.words.as_ptr_range().end as usize;
        // Held while publishing, so that whoever runs the code finds its range.
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let code = Box::into_raw(code);
        match place.compare_exchange(ptr::null_mut(), code, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                ends.insert(end, defined);
                Ok(code)
            }
            Err(others) => {
                // SAFETY: made above and given to nobody.
                drop(unsafe { Box::from_raw(code) });
                Ok(others)
            }
        }
    }

    /// The function an instruction belongs to, and the instruction's word.
    pub(super) fn find(&self, ip: *const u64) -> Option<(&Code, u32)> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, defined) = ends.range(ip as usize + 1..).next()?;
        // SAFETY: published code lives as long as the module.
        let code = unsafe { &*self.codes[*defined as usize].load(Ordering::Acquire) };
        let word = (ip as usize).checked_sub(code.entry as usize)? / 8;
        Some((code, word as u32))
    }
}

impl Code {
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The clauses of the `try_table`s that an instruction is in, as bytecode, innermost first.
    pub fn clauses(&self, word: u32) -> impl Iterator<Item = &[u64; 2]> {
        let tries = self.tries.iter().filter(move |t| (t.from..t.to).contains(&word));
        tries.flat_map(|t| {
            let count = (self.words[t.at as usize] >> 16) as u16;
            self.words[t.at as usize + 1..].as_chunks().0[..count.into()].iter()
        })
    }

    /// Index among the module's defined functions.
    pub fn defined(&self) -> u32 {
        self.defined
    }
}

impl Drop for ModuleCode {
    fn drop(&mut self) {
        for place in &mut self.codes {
            let code = *place.get_mut();
            if !code.is_null() {
                // SAFETY: published from a box, and nothing runs it any more.
                drop(unsafe { Box::from_raw(code) });
            }
        }
    }
}
