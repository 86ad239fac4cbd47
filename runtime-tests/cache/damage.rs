//! Files that are not as they were written.

use super::{check, check_in, config, files};
use std::fs;
use wasmrun::{Cache, Engine};

/// A cache with one file, which is to be changed.
fn filled() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    assert!(check(&config(Cache::in_dir(dir.path()))).recorded > 0);
    let [file] = &files(dir.path())[..] else { panic!("one run writes one file") };
    let bytes = fs::read(file).unwrap();
    (dir, file.clone(), bytes)
}

#[test]
fn no_changed_byte_matters() {
    let (dir, file, bytes) = filled();
    // Read-only, so that nothing is repaired.
    let engine = Engine::new(&config(Cache::in_dir(dir.path()).read_only())).unwrap();
    let whole = check_in(&engine);
    assert!(whole.loaded > 0 && whole.rejected == 0);
    let mut noticed = 0;
    for at in 0..bytes.len() {
        // The padding between tables and code is of no interest to anybody.
        if bytes[at..].iter().take(64).all(|byte| *byte == 0) && at % 61 != 0 {
            continue;
        }
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&file, changed).unwrap();
        noticed += usize::from(check_in(&engine) != whole);
    }
    // Far more than half of the file is checked; what is not is padding.
    assert!(noticed > 1000, "{noticed} of {}", bytes.len());
}

#[test]
fn no_length_matters() {
    let (dir, file, bytes) = filled();
    let engine = Engine::new(&config(Cache::in_dir(dir.path()).read_only())).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&file, &bytes[..length]).unwrap();
        assert_eq!(check_in(&engine).loaded, 0, "{length} of {} bytes", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    fs::write(&file, longer).unwrap();
    assert_eq!(check_in(&engine).loaded, 0);
}

#[test]
fn damage_is_repaired() {
    let (dir, file, bytes) = filled();
    let config = config(Cache::in_dir(dir.path()));
    let all = check(&config).loaded;
    // The last byte is in the code of the last function.
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&file, changed).unwrap();
    let stats = check(&config);
    assert_eq!((stats.loaded, stats.rejected, stats.recorded), (all - 1, 1, 1));
    assert_eq!(check(&config).loaded, all);
    // A file that is not one at all goes, too.
    let [file] = &files(dir.path())[..] else { panic!("the damaged file is merged") };
    fs::write(file, b"nonsense").unwrap();
    assert_eq!(check(&config).recorded, all);
    assert_eq!((check(&config).loaded, files(dir.path()).len()), (all, 1));
}

#[test]
fn files_of_other_modules_and_versions_are_foreign() {
    let (dir, file, bytes) = filled();
    let config = config(Cache::in_dir(dir.path()).read_only());
    // A version's number is a part of the key, as is all else; both are at the start.
    for at in [12, 16, 40] {
        let mut foreign = bytes.clone();
        foreign[at] ^= 0x10;
        fs::write(&file, foreign).unwrap();
        assert_eq!(check(&config).loaded, 0);
    }
    fs::write(&file, &bytes).unwrap();
    assert!(check(&config).loaded > 0);
}
