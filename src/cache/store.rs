//! The code of one module in the cache: finding it, adding to it, writing it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::directory::{self, CacheDirectory};
use super::heat;
use super::key::{ModuleKey, Settings, body_hash};
use super::marks::Identity;
use super::segment::{self, BYTECODE, FunctionKey, MapCode, MappedCode, Record, Segment, SegmentCode};
use crate::config::cache::{Cache, CacheStats};
use crate::module::ModuleFacts;

/// New code of so many bytes is written before the module is dropped, so that it is not lost if the process is killed.
const FLUSH_BYTES: usize = 16 << 20;

/// Files of up to twice this size are always merged: that costs less than opening them one by one.
const SMALL: u64 = 64 << 10;

/// The code of one module in the cache, and its new code.
pub(crate) struct ModuleCache {
    key: ModuleKey,
    settings: Cache,
    map: MapCode,
    /// The most recently used first.
    segments: Vec<Segment>,
    /// The file that the module is read from, unless it is marked as valid.
    unmarked: Option<Identity>,
    /// How long functions ran without native code in earlier runs.
    heat: HashMap<u32, u32>,
    /// New code that is not written yet.
    pending: Mutex<Pending>,
    loaded: AtomicU64,
    recorded: AtomicU64,
    rejected: AtomicU64,
}

/// Code that waits to be written, with its size.
#[derive(Default)]
struct Pending {
    records: Vec<Record>,
    bytes: usize,
    /// How long functions ran without native code, this run included, if that has changed.
    heat: Option<HashMap<u32, u32>>,
}

/// A piece of code from the cache, verified.
pub(crate) struct FoundRecord<'a> {
    pub code: FoundCode<'a>,
    pub alignment: u32,
    pub tables: &'a [u8],
    pub tier: u32,
}

/// Where the code found in the cache is.
pub(crate) enum FoundCode<'a> {
    /// Ready to run, in this byte range of the mapping.
    Mapped(&'a dyn MappedCode, std::ops::Range<usize>),
    /// To be copied into code memory.
    Bytes(&'a [u8]),
}

impl ModuleCache {
    /// Opens the cache for a module that is compiled with the settings `compiled`; `map` maps code of its files. `None`
    /// if the cache is off or cannot be used.
    pub fn open(module: &ModuleFacts, settings: &Cache, compiled: &Settings, map: MapCode) -> Option<Self> {
        let path = settings.dir.as_ref()?;
        let key = ModuleKey::of(compiled, module);
        let mut this = Self::new(key, settings.clone(), Vec::new(), map);
        this.unmarked = Identity::of(module);
        let root = match CacheDirectory::open(path, !settings.read_only) {
            Ok(root) => root,
            Err(error) => {
                if !settings.read_only || error.kind() != io::ErrorKind::NotFound {
                    this.note(&format!("{} is not used: {error}", path.display()));
                }
                return None;
            }
        };
        match root.subdirectory(&key.to_string(), false) {
            Ok(folder) => {
                this.segments = this.open_segments(&folder);
                this.heat = heat::read(&folder, module.bodies.len());
                if this.unmarked.take_if(|file| file.is_marked(&folder)).is_some() {
                    module.assume_background_valid();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                this.note(&format!("{} is not used: {error}", path.join(key.to_string()).display()));
                return None;
            }
        }
        Some(this)
    }

    /// The code of a module that was compiled ahead of time, from its own file. Nothing is added to it.
    pub(super) fn sealed(key: ModuleKey, segment: Segment, map: MapCode) -> Self {
        Self::new(key, Cache::off(), vec![segment], map)
    }

    fn new(key: ModuleKey, settings: Cache, segments: Vec<Segment>, map: MapCode) -> Self {
        ModuleCache {
            key,
            settings,
            map,
            segments,
            unmarked: None,
            heat: HashMap::new(),
            pending: Mutex::default(),
            loaded: AtomicU64::default(),
            recorded: AtomicU64::default(),
            rejected: AtomicU64::default(),
        }
    }

    fn open_segments(&self, folder: &CacheDirectory) -> Vec<Segment> {
        let mut segments = Vec::new();
        for listed in folder.files().into_iter().filter(directory::Listed::is_segment) {
            let opened = folder.file(&listed.name).map_err(segment::Refused::Io).and_then(|file| {
                let segment =
                    Segment::open(listed.name.clone(), &file, 0..file.metadata()?.len(), &self.key, self.map)?;
                if !self.settings.read_only {
                    folder.mark_used(&file, &listed.name);
                }
                Ok(segment)
            });
            match opened {
                Ok(segment) => segments.push(segment),
                Err(refused) => self.note(&format!("{}/{} {refused}", self.key, listed.name)),
            }
        }
        segments
    }

    fn note(&self, text: &str) {
        if let Some(listener) = self.settings.notes {
            listener(&format!("cache: {text}"));
        }
    }

    /// Whether the cache had no code of the module when it was opened.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether there is native code to write, or the bytecode of functions with `bytes` bytes of bodies is worth
    /// writing by itself.
    pub fn is_worth_writing(&self, bytes: usize) -> bool {
        bytes >= self.settings.min_bytecode || !self.lock_pending().records.is_empty()
    }

    /// Whether the module was compiled ahead of time: nothing more is to be compiled.
    pub fn is_sealed(&self) -> bool {
        self.settings.dir.is_none()
    }

    /// Finds the best code of a function and entry that is of `wanted.tier` at least, and verifies that it is undamaged
    /// and was compiled from the function's body.
    pub fn find(&self, module: &ModuleFacts, wanted: FunctionKey) -> Option<FoundRecord<'_>> {
        let at = |segment| Some((segment, Segment::find(segment, wanted)?));
        let mut candidates: Vec<(&Segment, usize)> = self.segments.iter().filter_map(at).collect();
        if candidates.is_empty() {
            return None;
        }
        candidates.sort_by_key(|(segment, index)| std::cmp::Reverse(segment.key(*index).tier));
        // The body need not have been validated: cached code with the same key and body hash was compiled from a valid
        // one.
        let body = body_hash(&module.source.read(module.bodies[wanted.defined as usize].clone()).ok()?);
        for (segment, index) in candidates {
            if segment.body(index) != body {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let Some(entry) = segment.verified(index, &self.key) else {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                self.note(&format!("function {} in {}/{} is damaged", wanted.defined, self.key, segment.name));
                continue;
            };
            let code = match segment.code() {
                SegmentCode::Run(file) => FoundCode::Mapped(&**file, entry.code),
                SegmentCode::Copy(bytes) => FoundCode::Bytes(&bytes[entry.code]),
                SegmentCode::None => FoundCode::Bytes(&[]),
            };
            let tier = segment.key(index).tier;
            self.loaded.fetch_add(u64::from(tier > BYTECODE), Ordering::Relaxed);
            return Some(FoundRecord { code, alignment: entry.alignment, tables: entry.tables, tier });
        }
        None
    }

    /// Whether code of this run is kept for later runs.
    pub fn is_recording(&self) -> bool {
        self.settings.keeps()
    }

    /// Keeps code for later runs.
    pub fn record(&self, module: &ModuleFacts, key: FunctionKey, alignment: u32, code: &[u8], tables: Vec<u8>) {
        if !self.is_recording() {
            return;
        }
        // Not read from the file, which may have changed: these are the bytes that were validated and compiled.
        let Ok(body) = module.body(key.defined) else { return };
        let body = body_hash(body.as_bytes());
        self.recorded.fetch_add(u64::from(key.tier > BYTECODE), Ordering::Relaxed);
        let record = Record { key, body, alignment, code: code.to_vec(), tables };
        let mut pending = self.lock_pending();
        pending.bytes += record.bytes();
        pending.records.push(record);
        let enough = pending.bytes >= FLUSH_BYTES;
        drop(pending);
        if enough {
            self.flush();
        }
    }

    /// How long functions ran without native code in earlier runs.
    pub fn heat(&self) -> &HashMap<u32, u32> {
        &self.heat
    }

    /// Keeps for later runs how long functions ran without native code, this run included, if there is much new in it.
    pub fn record_heat(&self, heat: HashMap<u32, u32>) {
        if self.is_recording() && heat::is_worth_writing(&self.heat, &heat) {
            self.lock_pending().heat = Some(heat);
        }
    }

    fn lock_pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the code that was recorded since the last time.
    pub fn flush(&self) {
        let Some(path) = self.settings.dir.as_ref().filter(|_| !self.settings.read_only) else { return };
        let Pending { records, heat, .. } = std::mem::take(&mut *self.lock_pending());
        let folder = || CacheDirectory::open(path, true)?.subdirectory(&self.key.to_string(), true);
        let heat = heat.map_or(Ok(()), |heat| heat::write(&folder()?, &heat));
        let records = if records.is_empty() { Ok(()) } else { self.write(path, records) };
        if let Err(error) = heat.and(records) {
            self.note(&format!("{} cannot be written to: {error}", path.display()));
        }
    }

    fn write(&self, path: &Path, mut records: Vec<Record>) -> io::Result<()> {
        let root = CacheDirectory::open(path, true)?;
        let folder = root.subdirectory(&self.key.to_string(), true)?;
        let mut files = folder.files();
        files.retain(directory::Listed::is_segment);
        files.sort_by_key(|file| file.bytes);
        // Segments that other processes have written since this was opened.
        let mut others: HashMap<&str, Segment> = HashMap::new();
        let mut removed: Vec<&str> = Vec::new();
        for file in files.iter().filter(|file| self.segments.iter().all(|known| known.name != file.name)) {
            let open = folder.file(&file.name);
            match open.map(|open| Segment::open(file.name.clone(), &open, 0..file.bytes, &self.key, self.map)) {
                Ok(Ok(segment)) => drop(others.insert(&file.name, segment)),
                // Of no use to any process, because the folder's name is the key that its files must have.
                Ok(Err(_)) => removed.push(&file.name),
                Err(_) => {}
            }
        }
        records.retain(|record| !others.values().any(|segment| segment.has(record)));
        // Small files are merged into the new one: each that is at most twice as large as what has been gathered so
        // far. So a file is written again only when it grows by half: there are few files, and adding little costs
        // little.
        let mut bytes: u64 = records.iter().map(|record| record.bytes() as u64).sum();
        let mut best: HashMap<(u32, u32), Record> = HashMap::new();
        records.into_iter().for_each(|record| keep(&mut best, record));
        for file in &files {
            let known = self.segments.iter().find(|known| known.name == file.name);
            let Some(segment) = known.or_else(|| others.get(file.name.as_str())) else { continue };
            if file.bytes <= 2 * bytes.max(SMALL) || segment.damaged.load(Ordering::Relaxed) {
                segment.records(&self.key).for_each(|record| keep(&mut best, record));
                removed.push(&file.name);
                bytes += file.bytes;
            }
        }
        let mut records: Vec<Record> = best.into_values().collect();
        if !records.is_empty() {
            folder.write(&directory::new_name(), |file| {
                let mut out = BufWriter::with_capacity(1 << 16, file);
                segment::write(&mut out, &self.key, &mut records)?;
                io::Write::flush(&mut out)
            })?;
        }
        for name in &removed {
            folder.remove(name);
        }
        directory::evict(&root, self.settings.max_bytes);
        Ok(())
    }

    /// Marks the module's file as valid as a whole, for later runs.
    pub fn mark_valid(&self) {
        let (Some(file), Some(path)) = (&self.unmarked, &self.settings.dir) else { return };
        if !self.settings.read_only {
            let folder =
                CacheDirectory::open(path, true).and_then(|root| root.subdirectory(&self.key.to_string(), true));
            if let Err(error) = folder.and_then(|folder| file.mark(&folder)) {
                self.note(&format!("{} cannot be written to: {error}", path.display()));
            }
        }
    }

    /// What the cache has done for the module so far.
    pub fn stats(&self) -> CacheStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats { loaded: get(&self.loaded), recorded: get(&self.recorded), rejected: get(&self.rejected) }
    }
}

/// Adds a record, unless there is a newer one of the same function and entry that is as good or of another body. Newer
/// records must come first.
fn keep(best: &mut HashMap<(u32, u32), Record>, record: Record) {
    match best.entry((record.key.defined, record.key.entry)) {
        Slot::Vacant(slot) => drop(slot.insert(record)),
        Slot::Occupied(mut slot) => {
            if slot.get().key.tier < record.key.tier && slot.get().body == record.body {
                slot.insert(record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;
    use crate::{Config, Engine, Module, Strategy};

    fn record(tier: u32, body: [u8; 32]) -> Record {
        let key = FunctionKey { defined: 0, entry: 0, tier };
        Record { key, body, alignment: 16, code: vec![0; 16], tables: Vec::new() }
    }

    /// A [`MapCode`] that refuses, as where files can't be run: code is copied.
    fn unmapped(_: &File, _: u64, _: usize) -> io::Result<Box<dyn MappedCode>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(engine: &Engine, module: &ModuleFacts) -> ModuleCache {
        ModuleCache::open(module, &engine.core().config.cache, &engine.cache_settings(), unmapped).unwrap()
    }

    fn segment(key: &ModuleKey, mut records: Vec<Record>) -> Segment {
        let mut bytes = Vec::new();
        segment::write(&mut bytes, key, &mut records).unwrap();
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        Segment::open(String::new(), &file, 0..bytes.len() as u64, key, unmapped).unwrap()
    }

    /// If several segments have a function, the best code of the same body is used.
    #[test]
    fn the_best_code_of_the_body_is_found() {
        let module = Module::new(&Engine::default(), "(module (func))").unwrap();
        let (settings, module) = (module.engine().cache_settings(), module.0.facts.clone());
        let key = ModuleKey::of(&settings, &module);
        let body = body_hash(module.body(0).unwrap().as_bytes());
        let segments = vec![
            segment(&key, vec![record(1, body)]),
            segment(&key, vec![record(3, [0; 32])]),
            segment(&key, vec![record(2, body)]),
        ];
        let cache = ModuleCache::new(key, Cache::off(), segments, unmapped);
        let find = |tier| cache.find(&module, FunctionKey { defined: 0, entry: 0, tier }).map(|found| found.tier);
        assert_eq!((find(1), find(2), find(3)), (Some(2), Some(2), None));
        assert_eq!((cache.stats().loaded, cache.stats().rejected), (2, 3));
    }

    /// When segments are merged, a newer record stays, unless an older one has better code of the same body.
    #[test]
    fn newer_records_stay_unless_older_ones_are_better() {
        let kept = |records: [Record; 2]| {
            let mut best = HashMap::new();
            records.into_iter().for_each(|record| keep(&mut best, record));
            best.into_values().map(|record| (record.key.tier, record.body[0])).collect::<Vec<_>>()
        };
        assert_eq!(kept([record(1, [1; 32]), record(3, [1; 32])]), [(3, 1)]);
        assert_eq!(kept([record(3, [1; 32]), record(1, [1; 32])]), [(3, 1)]);
        assert_eq!(kept([record(1, [1; 32]), record(3, [2; 32])]), [(1, 1)]);
    }

    /// Records that a run finds damaged are gone after it, also in large files, which are not merged otherwise.
    #[test]
    fn damaged_files_are_written_again_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Jit).cache(Cache::in_dir(folder.path()));
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap().0.facts.clone();
        let body = body_hash(module.body(0).unwrap().as_bytes());
        let large = |defined, size| {
            let key = FunctionKey { defined, entry: 0, tier: 3 };
            Record { key, code: vec![1; size], ..record(3, body) }
        };
        let new = || open(&engine, &module);
        new().write(folder.path(), vec![large(0, 1 << 20), large(1, 16)]).unwrap();
        let files = || {
            let folder = CacheDirectory::open(folder.path(), false).unwrap();
            folder.subdirectory(&ModuleKey::of(&engine.cache_settings(), &module).to_string(), false).unwrap().files()
        };
        let first = files().remove(0);
        let path = folder.path().join(ModuleKey::of(&engine.cache_settings(), &module).to_string()).join(&first.name);
        // A small segment is added; the large one stays as it is.
        new().write(folder.path(), vec![large(2, 16)]).unwrap();
        assert_eq!(files().len(), 2);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let cache = new();
        assert!(cache.find(&module, FunctionKey { defined: 0, entry: 0, tier: 3 }).is_some());
        let damaged = cache.segments.iter().find(|segment| segment.name == first.name).unwrap();
        assert_eq!(damaged.records(&cache.key).count(), 1);
        cache.write(folder.path(), vec![large(3, 16)]).unwrap();
        assert!(files().iter().all(|file| file.name != first.name));
        let cache = new();
        let has = |defined| cache.segments.iter().any(|segment| segment.find(large(defined, 0).key).is_some());
        assert!(has(0) && !has(1) && has(2) && has(3));
    }

    /// Code that another process has written meanwhile is not written again.
    #[test]
    fn what_others_have_written_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Jit).cache(Cache::in_dir(folder.path()));
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, "(module (func))").unwrap().0.facts.clone();
        let (one, other) = (open(&engine, &module), open(&engine, &module));
        // Large, so that the files are not merged.
        let record = || Record { code: vec![0; 1 << 20], ..record(3, [1; 32]) };
        one.write(folder.path(), vec![record()]).unwrap();
        other.write(folder.path(), vec![record()]).unwrap();
        let path = folder.path().join(ModuleKey::of(&engine.cache_settings(), &module).to_string());
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 1);
        assert_eq!(open(&engine, &module).segments.len(), 1);
    }
}
