//! Putting compiled code into code memory.

use cranelift_codegen::ir::{self, Function};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Module as _, ModuleError, ModuleReloc, default_libcall_names};

use super::artifact::Artifact;
use super::code_memory::CodeMemory;
use super::registry::{self, FunctionCode, WasmFunction};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::vm::context::VMCode;

/// Compiled code that can be run: a Cranelift module over code memory of its own.
pub(super) struct CodeSpace(JITModule);

impl CodeSpace {
    /// Room for about `expected` bytes.
    pub fn new(isa: &OwnedTargetIsa, expected: usize, config: &Config) -> Self {
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        // A thread that runs code on a page that is being written to is made to wait by the signal handler: without
        // signals, each page must be written only once.
        builder.memory_provider(Box::new(CodeMemory::new(expected, !config.signals_based_traps)));
        // Functions that replace a missing machine instruction.
        builder.symbol("fmaf", fmaf as *const u8);
        builder.symbol("fma", fma as *const u8);
        CodeSpace(JITModule::new(builder))
    }

    /// Puts code into code memory, where it can be run, and registers it.
    pub fn define(&mut self, artifact: Artifact, function: Option<WasmFunction>) -> Result<*mut VMCode> {
        self.define_all(vec![(artifact, function)]).map(|codes| codes[0])
    }

    /// Like [`define`](Self::define), for several at once: the protection of memory is changed only once. Either all
    /// are defined, or none.
    pub fn define_all(&mut self, batch: Vec<(Artifact, Option<WasmFunction>)>) -> Result<Vec<*mut VMCode>> {
        // A batch of at least a page starts on a new page, so that threads that run earlier code need not wait.
        let page = region::page::size();
        let mut fresh_page = batch.iter().map(|(artifact, _)| artifact.bytes.len()).sum::<usize>() >= page;
        let put = |(artifact, _): &(Artifact, _)| {
            let least = if std::mem::take(&mut fresh_page) { page as u64 } else { 1 };
            self.put(artifact, artifact.alignment.max(least))
        };
        let ids: Result<Vec<FuncId>> = batch.iter().map(put).collect();
        // Even if there was no room for all: pages that were written to must become executable again.
        self.0.finalize_definitions().map_err(no_room)?;
        let place = |((artifact, function), id): ((Artifact, _), FuncId)| {
            let start = self.0.get_finalized_function(id) as usize;
            let range = start..start + artifact.bytes.len();
            let Artifact { traps, polls, locations, handlers, .. } = artifact;
            // SAFETY: the code was just put there; its module lives longer than its code.
            unsafe { registry::add_function(FunctionCode { range, function, traps, polls, locations, handlers }) };
            start as *mut VMCode
        };
        Ok(batch.into_iter().zip(ids?).map(place).collect())
    }

    /// Copies code into code memory; it is executable after the next `finalize_definitions`.
    fn put(&mut self, artifact: &Artifact, alignment: u64) -> Result<FuncId> {
        let signature = ir::Signature::new(self.0.isa().default_call_conv());
        let id = self.0.declare_anonymous_function(&signature).map_err(no_room)?;
        let scratch = Function::new();
        let relocs = artifact.relocs.iter().map(|reloc| ModuleReloc::from_mach_reloc(reloc, &scratch, id));
        let relocs: Vec<ModuleReloc> = relocs.collect();
        self.0.define_function_bytes(id, alignment, &artifact.bytes, &relocs).map_err(no_room)?;
        Ok(id)
    }
}

fn no_room(error: ModuleError) -> Error {
    Error::resource(format!("no room for compiled code: {error}"))
}

extern "C" fn fmaf(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

extern "C" fn fma(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}
