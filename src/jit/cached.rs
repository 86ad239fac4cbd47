//! Loading compiled code from the cache, and recording it there.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::artifact::Artifact;
use super::compile::{Compiled, compile};
use super::module::CompiledModule;
use super::portable::{CodeTables, read_tables};
use super::registry::{self, FunctionCode, WasmFunction};
use super::settings::{CodeEntry, Tier};
use super::{CodeFile, EngineState};
use crate::cache::{BYTECODE, FoundCode, FunctionKey, ModuleCache, Settings, VERSION};
use crate::config::cache::CacheStats;
use crate::config::{BoundsChecks, Profile};
use crate::module::validate::ValidationState;
use crate::vm::context::VMCode;

/// A module's code in the cache.
#[derive(Default)]
pub(super) struct Cached {
    /// Opened on first use.
    cache: OnceLock<Option<ModuleCache>>,
    /// The code of loops that was loaded, by function and loop. (The code of functions is in their entries.)
    loops: Mutex<HashMap<(u32, u32), (CodePointer, Tier)>>,
}

#[derive(Clone, Copy)]
struct CodePointer(*const VMCode);

// SAFETY: a pointer to code, which any thread may run.
unsafe impl Send for CodePointer {}

impl Cached {
    fn get(&self, module: &CompiledModule) -> Option<&ModuleCache> {
        let engine = &module.engine;
        let open = || ModuleCache::open(&module.facts, &engine.config().cache, &cache_settings(engine), CodeFile::map);
        self.cache.get_or_init(open).as_ref()
    }
}

/// The cache's key for a piece of code. A loop is identified by its offset from the start of the body.
fn key(module: &CompiledModule, defined: u32, tier: Tier, entry: CodeEntry) -> FunctionKey {
    let entry = match entry {
        CodeEntry::Function => 0,
        CodeEntry::Loop { offset, wide_slots } => {
            let body = module.facts.bodies[defined as usize].start as u32;
            (offset - body + 1) << 1 | u32::from(wide_slots)
        }
    };
    FunctionKey { defined, entry, tier: tier as u32 }
}

/// Compiles a function at the best tier for a file: gives its key in the cache, code, alignment, and tables. `None` if
/// Cranelift refuses it, or if the code only works in this process.
pub(crate) fn portable_function(module: &CompiledModule, defined: u32) -> Option<(FunctionKey, Vec<u8>, u32, Vec<u8>)> {
    let Compiled { artifact, .. } = compile(module, defined, Tier::Best, CodeEntry::Function).ok()?;
    let tables = artifact.tables(module.facts.bodies[defined as usize].start as u32);
    let key = key(module, defined, Tier::Best, CodeEntry::Function);
    artifact.is_portable().then_some((key, artifact.bytes, artifact.alignment as u32, tables))
}

impl CompiledModule {
    /// Makes the module use this code instead of that in the engine's cache. No function must have been called yet.
    pub(crate) fn use_cache(&self, cache: ModuleCache) {
        let set = self.cached.cache.set(Some(cache));
        debug_assert!(set.is_ok(), "the cache is in use already");
    }

    /// Whether functions that [`CompiledModule::load`] does not find may be compiled: not those of a module that was
    /// compiled ahead of time.
    pub(crate) fn may_compile(&self) -> bool {
        !self.cached.get(self).is_some_and(ModuleCache::is_sealed)
    }

    /// Loads code of tier `least` or better from the cache and publishes it, as [`CompiledModule::publish`] does.
    /// `None` if there is none, which is found out quickly.
    ///
    /// If there is code, the function counts as valid: it was compiled from the same body in a module with the same
    /// declarations.
    pub(crate) fn load(&self, defined: u32, least: Tier, entry: CodeEntry) -> Option<*const VMCode> {
        if self.tiers.is_empty() {
            return None;
        }
        let module = self;
        let cache = self.cached.get(self).filter(|cache| !cache.is_empty())?;
        let wanted = key(module, defined, least, entry);
        // While this lock is held no other thread publishes or loads.
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loops = self.cached.loops.lock().unwrap_or_else(PoisonError::into_inner);
        match entry {
            CodeEntry::Function if self.tiers[defined as usize].load(Ordering::Relaxed) >= least as u8 => {
                return self.native(defined);
            }
            CodeEntry::Loop { .. } => {
                if let Some((code, _)) = loops.get(&(defined, wanted.entry)).filter(|(_, tier)| *tier >= least) {
                    return Some(code.0);
                }
            }
            CodeEntry::Function => {}
        }
        let started = Instant::now();
        let found = cache.find(&self.facts, wanted)?;
        let tier = Tier::from_number(found.tier)?;
        let length = match &found.code {
            FoundCode::Mapped(_, range) => range.len(),
            FoundCode::Bytes(bytes) => bytes.len(),
        };
        let body = module.facts.bodies[defined as usize].start as u32;
        let CodeTables { traps, polls, locations, handlers } = read_tables(found.tables, body, length)?;
        let function = Some(WasmFunction { module, defined });
        // For code in a file, profilers look for names in that file; only names of code in anonymous memory can be
        // given to them.
        let is_profiled = module.engine.config().profile != Profile::None;
        let code = match found.code {
            FoundCode::Mapped(file, range) if !is_profiled => {
                let range = file.address(range.start)..file.address(range.end);
                let code = range.start as *mut VMCode;
                // SAFETY: the file stays mapped as long as the cache, which lives as long as the module.
                unsafe { registry::add_function(FunctionCode { range, function, traps, polls, locations, handlers }) };
                if entry == CodeEntry::Function {
                    self.set_entry(code, defined, Some(tier));
                }
                code.cast_const()
            }
            code => {
                let bytes = match code {
                    FoundCode::Mapped(file, range) => &file.bytes()[range],
                    FoundCode::Bytes(bytes) => bytes,
                };
                let (bytes, alignment) = (bytes.to_vec(), u64::from(found.alignment));
                let artifact = Artifact { bytes, alignment, relocs: Vec::new(), traps, polls, locations, handlers };
                let compiled = Compiled { artifact, function, defined, entry, tier };
                self.publish_in(&mut space, vec![compiled]).ok()?[0]
            }
        };
        let work = &module.engine.core.stats.cached;
        work.add(module.facts.bodies[defined as usize].len(), length, started.elapsed());
        match entry {
            CodeEntry::Function if tier < Tier::Best => self.improve(defined),
            CodeEntry::Function => {}
            CodeEntry::Loop { .. } => drop(loops.insert((defined, wanted.entry), (CodePointer(code), tier))),
        }
        Some(code)
    }

    /// Calls `read` with the bytecode of a function that earlier runs recorded, if there is some. The function counts
    /// as valid then, as for [`CompiledModule::load`].
    pub(crate) fn load_bytecode(&self, defined: u32, read: &mut dyn FnMut(&[u8])) {
        // The cache only has bytecode that counts.
        if !self.interp.counts() {
            return;
        }
        let cache = self.cached.get(self).filter(|cache| !cache.is_empty());
        let found = cache.and_then(|cache| cache.find(&self.facts, FunctionKey { defined, entry: 0, tier: BYTECODE }));
        if let Some(found) = found.filter(|found| found.tier == BYTECODE) {
            read(found.tables);
        }
    }

    /// Records compiled code for later runs, if it works in other processes.
    pub(crate) fn record(&self, code: &Compiled) {
        let Compiled { artifact, function, defined, entry, tier } = code;
        if function.is_none() || !artifact.is_portable() {
            return;
        }
        if let Some(cache) = self.cached.get(self) {
            let key = key(self, *defined, *tier, *entry);
            let tables = artifact.tables(self.facts.bodies[*defined as usize].start as u32);
            cache.record(&self.facts, key, artifact.alignment as u32, &artifact.bytes, tables);
        }
    }

    /// How long functions ran without native code in earlier runs, in units of the interpreter's counters.
    pub(crate) fn known_heat(&self) -> HashMap<u32, u32> {
        self.cached.get(self).map(|cache| cache.heat().clone()).unwrap_or_default()
    }

    /// Whether [`CompiledModule::record_heat`] keeps anything.
    pub(crate) fn keeps_heat(&self) -> bool {
        self.cached.cache.get().and_then(Option::as_ref).is_some_and(ModuleCache::is_recording)
    }

    /// Keeps for later runs how long functions ran without native code, in all runs so far.
    pub(crate) fn record_heat(&self, heat: HashMap<u32, u32>) {
        if let Some(Some(cache)) = self.cached.cache.get() {
            cache.record_heat(heat);
        }
    }

    /// What the cache has done for the module so far.
    pub(crate) fn cache_stats(&self) -> CacheStats {
        self.cached.cache.get().and_then(Option::as_ref).map(ModuleCache::stats).unwrap_or_default()
    }

    /// Writes to the cache: the recorded code, the bytecode if it is worth it, and the mark of a valid module if the
    /// whole module was found to be valid.
    pub(crate) fn flush_cache(&self) {
        if let Some(Some(cache)) = self.cached.cache.get() {
            if cache.is_recording() && self.interp.counts() && cache.is_worth_writing(self.interp.unrecorded_bytes()) {
                for (defined, bytes) in self.interp.to_record() {
                    cache.record(&self.facts, FunctionKey { defined, entry: 0, tier: BYTECODE }, 1, &[], bytes);
                }
            }
            if matches!(self.facts.validation_state(), ValidationState::Valid) {
                cache.mark_valid();
            }
            cache.flush();
        }
    }
}

impl Drop for CompiledModule {
    fn drop(&mut self) {
        self.flush_cache();
    }
}

/// The settings of an engine that compiled code depends on.
pub(crate) fn cache_settings(engine: &EngineState) -> Settings {
    let isa = engine.isa(Tier::Best);
    let checks = match engine.config().bounds_checks {
        BoundsChecks::Inline => "inline",
        BoundsChecks::Guard => "guard",
    };
    let checks = format!("{checks}{}", if engine.config().signals_based_traps { "" } else { " without signals" });
    // Most flags of the processor are switches; a few have values.
    let flags = isa.isa_flags();
    let features = flags.iter().filter_map(|flag| match flag.as_bool() {
        Some(on) => on.then(|| flag.name.to_string()),
        None => Some(flag.to_string()),
    });
    Settings {
        version: VERSION.into(),
        target: isa.triple().to_string(),
        features: features.collect(),
        checks,
        fuel: engine.config().consume_fuel,
        proposals: Settings::proposals_on(engine.config().features),
        compiler: format!("{} {}", cranelift_codegen::VERSION, isa.flags()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Engine, Module};

    const MODULE: &str = r#"(module
        (type $ty (func (param i32) (result i32)))
        (table funcref (elem $f))
        (memory 1)
        (tag $e (param i32))
        (func $f (type $ty)
            (loop $again
                (i32.store (i32.const 8) (call_indirect (type $ty) (local.get 0) (i32.const 0)))
                (block $caught (result i32)
                    (try_table (catch $e $caught) (throw $e (local.get 0)))
                    (i32.const 0))
                (br_if $again))
            (i32.load (i32.const 8))))"#;

    /// The code of the function and of its loop, both quick and best, in an engine that has compiled the modules
    /// `before`.
    fn code(before: &[&str]) -> Vec<Vec<u8>> {
        let engine = Engine::new(&Config::new()).unwrap();
        let _others: Vec<Module> = before.iter().map(|text| Module::new(&engine, text).unwrap()).collect();
        let module = Module::new(&engine, MODULE).unwrap();
        let body = module.0.facts.body(0).unwrap();
        let mut operators = body.get_operators_reader().unwrap().into_iter_with_offsets().map(Result::unwrap);
        let is_loop =
            |(operator, _): &(wasmparser::Operator<'_>, u64)| matches!(operator, wasmparser::Operator::Loop { .. });
        let (_, offset) = operators.find(is_loop).unwrap();
        let entries = [CodeEntry::Function, CodeEntry::Loop { offset: offset as u32, wide_slots: false }];
        let all = entries.iter().flat_map(|entry| [Tier::Quick, Tier::Best].map(|tier| (*entry, tier)));
        let code = all.map(|(entry, tier)| {
            let artifact = compile(&module.0.jit, 0, tier, entry).unwrap().artifact;
            assert!(artifact.is_portable());
            [artifact.bytes.clone(), artifact.tables(module.0.facts.bodies[0].start as u32)].concat()
        });
        code.collect()
    }

    #[test]
    fn code_holds_nothing_of_its_engine() {
        let alone = code(&[]);
        assert!(alone.iter().all(|code| !code.is_empty()) && alone[0] != alone[2]);
        assert_eq!(
            alone,
            code(&["(module (func (param f64 i64)) (func (result v128) (v128.const i64x2 0 0)))", MODULE])
        );
    }
}
