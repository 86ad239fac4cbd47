//! Executable memory for baseline code, which the interpreter compiles from its bytecode.

use std::io;
use std::sync::Weak;

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};

use super::CompiledModule;
use super::code_memory::CodeMemory;
use super::registry;
use crate::interp;

/// Alignment of functions.
const ALIGN: usize = 16;

/// The baseline code of one module. Freed when dropped.
pub(crate) struct BaselineCodeMemory {
    memory: CodeMemory,
    /// The module of the functions.
    module: Weak<CompiledModule>,
}

impl BaselineCodeMemory {
    /// Nothing is reserved before the first function.
    pub fn new(module: &CompiledModule) -> Self {
        let bytes: usize = module.facts.bodies.iter().map(|body| body.len()).sum();
        BaselineCodeMemory { memory: CodeMemory::new(bytes, true), module: module.this.clone() }
    }
}

impl interp::BaselineMemory for BaselineCodeMemory {
    fn add(&mut self, codes: &[(u32, &[u8])]) -> io::Result<Vec<*const u8>> {
        let size = |code: &[u8]| code.len().next_multiple_of(ALIGN);
        let mut next = self.memory.allocate(
            codes.iter().map(|(_, code)| size(code)).sum(),
            ALIGN as u64,
            JITMemoryKind::Executable,
        )?;
        let places = codes.iter().map(|(_, code)| {
            let place = next;
            // SAFETY: `place` has room for the code, and is writable until the memory is finalized.
            unsafe { place.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
            next = next.wrapping_add(size(code));
            place.cast_const()
        });
        let places: Vec<_> = places.collect();
        self.memory.finalize(BranchProtection::None).map_err(io::Error::other)?;
        if let Some(module) = self.module.upgrade() {
            for ((defined, code), place) in codes.iter().zip(&places) {
                // SAFETY: the code lies there, readable, and nothing writes there any more.
                let code = unsafe { std::slice::from_raw_parts(*place, code.len()) };
                registry::tell_profiler(&module, *defined, " (baseline)", code);
            }
        }
        Ok(places)
    }
}
