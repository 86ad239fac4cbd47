//! Ahead-of-time compilation: compiles all functions of a module and writes a `.cwasm` file.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::module::Module;
use crate::cache::{Record, aot, body_hash};
use crate::error::Result;
use crate::jit;
use crate::module::ModuleFacts;

/// The result of compiling a module ahead of time: how many functions it has, and how many of them could be compiled. The
/// others will be interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompileSummary {
    pub functions: usize,
    pub compiled: usize,
}

/// Compiles all functions on all cores, and writes the module with their code to `out`. Any of the threads may call
/// `progress`, with the number of functions done so far.
///
/// # Errors
/// Those of reading and validating function bodies, and of `out`.
pub(super) fn write(module: &Module, out: &mut dyn Write, progress: &(dyn Fn(usize) + Sync)) -> Result<CompileSummary> {
    let (facts, engine) = (&module.0.facts, module.engine());
    let records = compile_all(&module.0.jit, facts, progress)?;
    let summary = CompileSummary { functions: facts.bodies.len(), compiled: records.len() };
    aot::write(facts, &engine.cache_settings(), records, out)?;
    Ok(summary)
}

/// The code of all functions that can be compiled.
fn compile_all(
    module: &jit::CompiledModule,
    facts: &ModuleFacts,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Record>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let share = || -> Result<Vec<Record>> {
        let mut records = Vec::new();
        loop {
            let defined = next.fetch_add(1, Ordering::Relaxed);
            if defined >= facts.bodies.len() {
                return Ok(records);
            }
            let body = body_hash(facts.body(defined as u32)?.as_bytes());
            if let Some((key, code, alignment, tables)) = jit::portable_function(module, defined as u32) {
                records.push(Record { key, body, alignment, code, tables });
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get()).min(facts.bodies.len().max(1));
    thread::scope(|scope| {
        // If no thread can be started, the current one does all the work.
        let start = |_| thread::Builder::new().name("wasmrun compiler".into()).spawn_scoped(scope, share).ok();
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        let mut all: Vec<Record> = share()?;
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}
