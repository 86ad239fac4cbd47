//! Marks for files that are known to be valid modules as a whole, so that they need no validation in the background.
//!
//! A mark has no other effect. Whether or not there is one, a function is validated before its first call, or its code
//! was compiled from the same body; so it does no harm if a file was changed and its times were not.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::directory::CacheDirectory;
use crate::module::ModuleFacts;
use crate::module::source::ModuleSource;

/// Prefix of the names of marks, which are empty files.
const MARK: &str = "valid-";

/// The most marks of a module: one for each of so many copies of its file.
const MAX_MARKS: usize = 4;

/// The name of the mark for a file in its present state: a hash of its device, inode, size and times.
pub(super) struct Identity(String);

impl Identity {
    /// The identity of the file that a module reads its bodies from; `None` if the module is in memory.
    pub fn of(module: &ModuleFacts) -> Option<Self> {
        match &module.source {
            ModuleSource::File(source) => source.file().metadata().ok().map(|metadata| Self::of_file(&metadata)),
            ModuleSource::Memory(_) => None,
        }
    }

    fn of_file(metadata: &Metadata) -> Self {
        let mut hasher = blake3::Hasher::new();
        for number in [metadata.dev(), metadata.ino(), metadata.size()] {
            hasher.update(&number.to_le_bytes());
        }
        for time in [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()] {
            hasher.update(&time.to_le_bytes());
        }
        Identity(format!("{MARK}{}", &hasher.finalize().to_hex()[..32]))
    }

    pub fn is_marked(&self, folder: &CacheDirectory) -> bool {
        folder.file(&self.0).is_ok()
    }

    /// Marks the file, and removes old marks if there are many.
    pub fn mark(&self, folder: &CacheDirectory) -> io::Result<()> {
        folder.write(&self.0, |_| Ok(()))?;
        let marks = folder.files().into_iter().filter(|file| file.name.starts_with(MARK));
        for file in marks.skip(MAX_MARKS) {
            folder.remove(&file.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Identity, MARK, MAX_MARKS};
    use crate::cache::directory::CacheDirectory;
    use crate::cache::key::ModuleKey;
    use crate::module::validate::ValidationState;
    use crate::{Cache, Config, Engine, Instance, Module, Store, Strategy};

    /// Runs the module in `file`, and returns whether the file had a mark before. With `validate`, it is then found to
    /// be valid, and marked.
    fn is_marked(cache: &Path, file: &Path, validate: bool) -> bool {
        let mut config = Config::new();
        config.strategy(Strategy::Jit).lazy_validation(true).lazy_validation_from(0).cache(Cache::in_dir(cache));
        let engine = Engine::new(&config).unwrap();
        let module = Module::from_file(&engine, file).unwrap();
        let folder = CacheDirectory::open(cache, true).unwrap();
        let folder =
            folder.subdirectory(&ModuleKey::of(&engine.cache_settings(), &module.0.facts).to_string(), true).unwrap();
        let marked = Identity::of(&module.0.facts).unwrap().is_marked(&folder);
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
        assert_eq!(f.call(&mut store, ()).unwrap(), 5);
        assert!(!marked || matches!(module.0.facts.validation_state(), ValidationState::Valid));
        if validate {
            module.0.facts.assume_background_valid();
        }
        module.flush_cache();
        // On a slow machine the background may have validated all of it by now.
        let is_marked = Identity::of(&module.0.facts).unwrap().is_marked(&folder);
        let is_pending = matches!(module.0.facts.validation_state(), ValidationState::Pending);
        assert!(if is_pending { !is_marked } else { is_marked || !validate });
        marked
    }

    #[test]
    fn a_module_has_few_marks() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CacheDirectory::open(dir.path(), true).unwrap();
        let marks: Vec<_> = (0..3 * MAX_MARKS).map(|n| Identity(format!("{MARK}{n}"))).collect();
        for mark in &marks {
            mark.mark(&folder).unwrap();
            assert!(mark.is_marked(&folder));
            assert!(folder.files().len() <= MAX_MARKS);
        }
    }

    #[test]
    fn a_cache_that_is_only_read_gets_no_marks() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, file) = (dir.path().join("cache"), dir.path().join("m.wasm"));
        let text = format!("(module (func (export \"f\")) (data \"{}\"))", "x".repeat(2 << 20));
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        let mut config = Config::new();
        config.strategy(Strategy::Jit).lazy_validation(true).lazy_validation_from(0);
        config.cache(Cache::in_dir(&cache).read_only());
        let engine = Engine::new(&config).unwrap();
        let module = Module::from_file(&engine, &file).unwrap();
        let root = CacheDirectory::open(&cache, true).unwrap();
        let folder =
            root.subdirectory(&ModuleKey::of(&engine.cache_settings(), &module.0.facts).to_string(), true).unwrap();
        // Opens the cache.
        assert!(module.0.jit.may_compile());
        module.0.facts.assume_background_valid();
        module.flush_cache();
        assert!(folder.files().is_empty());
    }

    #[test]
    fn a_file_is_validated_once_and_again_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, file) = (dir.path().join("cache"), dir.path().join("m.wasm"));
        // Large files are read in parts, and begin unvalidated.
        let data = "x".repeat(2 << 20);
        let text = format!(
            r#"(module (memory 40) (data (i32.const 0) "{data}") (func (export "f") (result i32) (i32.const 5)))"#
        );
        let binary = wat::parse_str(text).unwrap();
        std::fs::write(&file, &binary).unwrap();
        assert!(!is_marked(&cache, &file, false));
        is_marked(&cache, &file, true);
        assert!(is_marked(&cache, &file, true));
        // The same bytes in another file: that they are the same is not known.
        std::fs::write(dir.path().join("copy"), &binary).unwrap();
        std::fs::rename(dir.path().join("copy"), &file).unwrap();
        assert!(!is_marked(&cache, &file, false));
    }
}
