//! The directory: whose it is, who may write to it, and how much there may be in it.

use super::{check, config, files};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use wasmrun::{Cache, Engine, Instance, Module, Store};

/// What the cache had to say. Tests that look share it.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn noted(dir: &Path, what: &str) -> bool {
    let path = dir.to_string_lossy();
    NOTES.lock().unwrap().iter().any(|note| note.contains(&*path) && note.contains(what))
}

fn listening(dir: &Path) -> Cache {
    Cache::in_dir(dir).notes(|note| NOTES.lock().unwrap().push(note.into()))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn it_is_made_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    check(&config(Cache::in_dir(&cache)));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = &files(&cache)[0];
    assert_eq!((mode(&cache), mode(file.parent().unwrap()), mode(file)), (0o700, 0o700, 0o600));
}

#[test]
fn one_that_others_can_write_to_is_not_used() {
    for mode in [0o777, 0o720, 0o702] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(listening(dir.path()));
        check(&config);
        set_mode(dir.path(), mode);
        let stats = check(&config);
        assert_eq!((stats.loaded, stats.recorded), (0, 0), "{mode:o}");
        assert!(noted(dir.path(), "other users"));
        set_mode(dir.path(), 0o755);
        assert!(check(&config).loaded > 0);
        // The same goes for what is in it.
        let file = files(dir.path()).remove(0);
        let folder = file.parent().unwrap();
        set_mode(folder, mode);
        assert_eq!(check(&config).loaded, 0);
        set_mode(folder, 0o700);
        assert!(check(&config).loaded > 0);
        set_mode(&file, 0o622);
        assert_eq!(check(&config).loaded, 0);
    }
}

#[test]
fn one_of_another_user_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(Cache::in_dir(dir.path()).read_only());
    check(&super::config(Cache::in_dir(dir.path())));
    let file = files(dir.path()).remove(0);
    for place in [dir.path(), file.parent().unwrap(), &file] {
        std::os::unix::fs::chown(place, Some(1), None).unwrap();
        assert_eq!(check(&config).loaded, 0, "{place:?}");
        std::os::unix::fs::chown(place, Some(0), None).unwrap();
        assert!(check(&config).loaded > 0);
    }
}

/// What other processes are writing, and what is none of ours, stays.
#[test]
fn other_files_of_a_module_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    check(&config(Cache::in_dir(dir.path())));
    let file = files(dir.path()).remove(0);
    let others = ["tmp-0123456789abcdef", "notes.txt"].map(|name| file.with_file_name(name));
    others.iter().for_each(|other| fs::write(other, "not ours").unwrap());
    fs::remove_file(&file).unwrap();
    let stats = check(&config(listening(dir.path())));
    assert!(stats.recorded > 0 && !noted(dir.path(), "notes.txt"), "{stats:?}");
    assert!(others.iter().all(|other| fs::read(other).unwrap() == b"not ours"));
}

#[test]
fn where_none_can_be_made_all_works_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("cache"), file.clone(), Path::new("/proc/self/cache").to_path_buf()] {
        let stats = check(&config(listening(&path)));
        assert_eq!((stats.loaded, stats.recorded), (0, 0));
        assert!(noted(&path, "is not used"), "{path:?}");
    }
}

#[test]
fn read_only_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let read_only = config(Cache::in_dir(&cache).read_only());
    assert_eq!(check(&read_only).recorded, 0);
    assert!(!cache.exists());
    // Nor is anything kept where there is a directory.
    fs::create_dir(&cache).unwrap();
    assert_eq!(check(&read_only).recorded, 0);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
    check(&config(Cache::in_dir(&cache)));
    let [file] = &files(&cache)[..] else { panic!("one run writes one file") };
    let old = SystemTime::now() - Duration::from_secs(100_000);
    fs::File::open(file).unwrap().set_modified(old).unwrap();
    let before = fs::metadata(file).unwrap().modified().unwrap();
    assert!(check(&read_only).loaded > 0);
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), before);
    assert_eq!(files(&cache), [file.clone()].as_slice());
    // A run that may write notes that it was used.
    check(&config(Cache::in_dir(&cache)));
    assert!(fs::metadata(file).unwrap().modified().unwrap() > before);
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let config = config(Cache::in_dir(&cache).read_only());
    check(&super::config(Cache::in_dir(&cache)));
    assert!(check(&config).loaded > 0);
    let file = files(&cache).remove(0);
    let folder = file.parent().unwrap().to_path_buf();
    // The file, then the folder.
    for linked in [file, folder] {
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&linked, &elsewhere).unwrap();
        symlink(&elsewhere, &linked).unwrap();
        assert_eq!(check(&config).loaded, 0, "{linked:?}");
        fs::remove_file(&linked).unwrap();
        fs::rename(&elsewhere, &linked).unwrap();
    }
    assert!(check(&config).loaded > 0);
}

#[test]
fn what_is_in_the_way_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("README"), "mine").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("folder/file"), "mine").unwrap();
    check(&config(Cache::in_dir(dir.path()).max_bytes(1)));
    assert!(dir.path().join("README").exists() && dir.path().join("folder/file").exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the module is over the bound itself");
}

#[test]
fn the_longest_unused_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, max: u64| {
        let engine = Engine::new(&config(Cache::in_dir(dir.path()).max_bytes(max))).unwrap();
        let text = format!("(module (func (export \"{name}\") (result i32) (i32.const 1)))");
        let module = Module::new(&engine, text).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let func = instance.get_typed_func::<(), i32>(&mut store, name).unwrap();
        assert_eq!(func.call(&mut store, ()).unwrap(), 1);
        module.cache_stats()
    };
    let names = ["one", "two", "three", "four"];
    let mut size = 0;
    for (age, name) in names.iter().enumerate() {
        let before = files(dir.path());
        run(name, u64::MAX);
        let new = files(dir.path()).into_iter().find(|file| !before.contains(file)).unwrap();
        size = fs::metadata(&new).unwrap().len();
        // Older than an hour, so that use is noted; the first is the oldest.
        let used = SystemTime::now() - Duration::from_secs(10_000 * (10 - age as u64));
        fs::File::open(new).unwrap().set_modified(used).unwrap();
    }
    assert_eq!(run("one", u64::MAX).loaded, 1);
    // A new one; there is room for three in all.
    assert_eq!(run("five", 3 * size + size / 2).recorded, 1);
    assert_eq!(files(dir.path()).len(), 3);
    for (name, loaded) in [("one", 1), ("four", 1), ("five", 1), ("two", 0), ("three", 0)] {
        assert_eq!(run(name, u64::MAX).loaded, loaded, "{name}");
    }
}
