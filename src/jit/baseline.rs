//! A place for baseline code, which the interpreter makes from its bytecode.

use std::io;

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};

use super::code_memory::CodeMemory;
use super::registry;
use crate::module::ModuleInner;

/// What the starts of functions are multiples of.
const ALIGN: usize = 16;

/// The baseline code of one module. Freed when dropped.
pub(crate) struct BaselineMemory(CodeMemory);

impl BaselineMemory {
    /// Nothing is reserved before the first function.
    pub fn new(module: &ModuleInner) -> Self {
        let bytes: usize = module.bodies.iter().map(|body| body.len()).sum();
        BaselineMemory(CodeMemory::new(bytes, true))
    }

    /// Puts code of functions where it can be run. It must not depend on where that is.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn add<'a>(
        &mut self,
        module: &ModuleInner,
        codes: impl Iterator<Item = (u32, &'a [u8])> + Clone,
    ) -> io::Result<Vec<*const u8>> {
        let size = |code: &[u8]| code.len().next_multiple_of(ALIGN);
        let mut next = self.0.allocate(
            codes.clone().map(|(_, code)| size(code)).sum(),
            ALIGN as u64,
            JITMemoryKind::Executable,
        )?;
        let places = codes.clone().map(|(_, code)| {
            let place = next;
            // SAFETY: so many bytes were allocated there, and are writable until they are finalized.
            unsafe { place.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
            next = next.wrapping_add(size(code));
            place.cast_const()
        });
        let places: Vec<_> = places.collect();
        self.0.finalize(BranchProtection::None).map_err(io::Error::other)?;
        for ((defined, code), place) in codes.zip(&places) {
            // SAFETY: as above, and nothing writes there any more.
            let code = unsafe { std::slice::from_raw_parts(*place, code.len()) };
            registry::tell_profiler(module, defined, " (baseline)", code);
        }
        Ok(places)
    }
}
