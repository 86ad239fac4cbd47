//! Modules compiled ahead of time.

use super::{MIXED, check_module, config};
use std::fs;
use std::path::Path;
use wasmrun::{BoundsChecks, Cache, Engine, ErrorKind, Instance, Module, Precompiled, Store, Strategy};

fn engine() -> Engine {
    Engine::new(&config(Cache::off())).unwrap()
}

/// A file compiled from [`MIXED`].
fn compiled(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("mixed.cwasm");
    fs::write(&file, Module::new(&engine(), MIXED).unwrap().serialize().unwrap()).unwrap();
    file
}

fn open(engine: &Engine, file: &Path) -> Result<Module, String> {
    // SAFETY: made by `compiled`, and in these tests changed before it is opened; no changed code passes the checksum.
    unsafe { Module::deserialize_file(engine, file) }.map_err(|error| {
        assert!(matches!(error.kind(), ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. }), "{error}");
        error.to_string()
    })
}

#[test]
fn all_is_native_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    let module = open(&engine(), &file).unwrap();
    check_module(&module);
    let stats = module.cache_stats();
    assert!(stats.loaded >= 7 && stats.recorded == 0, "{stats:?}");
    // It can be compiled again, and is still a module.
    let again = module.serialize().unwrap();
    assert!(again == fs::read(&file).unwrap(), "compiling twice gives something else");
    check_module(&Module::new(&engine(), again).unwrap());
    for strategy in [Strategy::Interpreter, Strategy::Tiered] {
        let mut config = config(Cache::off());
        config.strategy(strategy);
        check_module(&open(&Engine::new(&config).unwrap(), &file).unwrap());
    }
}

#[test]
fn other_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    let mut config = config(Cache::off());
    config.bounds_checks(BoundsChecks::Guard);
    let message = open(&Engine::new(&config).unwrap(), &file).unwrap_err();
    assert!(message.contains("--bounds-checks inline") && message.contains("guard"), "{message}");
}

/// Code of an engine with a proposal on is refused where it is off; the other way round it is taken. That holds for files
/// and bytes alike.
#[test]
fn code_of_more_proposals_is_refused() {
    let all = engine();
    let mut config = config(Cache::off());
    let fewer = Engine::new(config.wasm_tail_call(false)).unwrap();
    let text = "(module (func (export \"f\") (result i32) (i32.const 7)))";
    let [of_all, of_fewer] = [&all, &fewer].map(|engine| engine.precompile_module(text.as_bytes()).unwrap());
    // SAFETY: the bytes were made above.
    let load = |engine: &Engine, bytes: &[u8]| unsafe { Module::deserialize(engine, bytes) };
    for (engine, bytes) in [(&all, &of_all), (&all, &of_fewer), (&fewer, &of_fewer)] {
        let module = load(engine, bytes).unwrap();
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "f").unwrap().call(&mut store, ()).unwrap(), 7);
        assert_eq!(module.cache_stats().loaded, 1);
    }
    let error = load(&fewer, &of_all).unwrap_err();
    assert!(
        error.to_string().contains("the tail-call proposal") && error.to_string().contains("Config::wasm_tail_call")
    );
    let dir = tempfile::tempdir().unwrap();
    assert!(open(&fewer, &compiled(dir.path())).unwrap_err().contains("the tail-call proposal"));
    assert!(load(&all, &of_all[..of_all.len() - 1]).is_err() && load(&all, b"").is_err());
    let plain = wat::parse_str(text).unwrap();
    assert!(load(&all, &plain).unwrap_err().to_string().contains("no compiled code"));
    for (bytes, found) in [(&of_all, true), (&plain, false)] {
        let path = dir.path().join("any");
        fs::write(&path, bytes).unwrap();
        let expected = found.then_some(Precompiled::Module);
        assert_eq!(Engine::detect_precompiled(bytes), expected);
        assert_eq!(Engine::detect_precompiled_file(&path).unwrap(), expected);
    }
    assert!(Engine::detect_precompiled_file(dir.path().join("none")).is_err());
}

/// Replaces text in the file by as much other text.
fn replace(file: &Path, from: &str, to: &str) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(from.len()).rposition(|window| window == from.as_bytes()).expect("it is there");
    assert_eq!(from.len(), to.len());
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn other_versions_targets_and_processors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let other = version.replace(|c: char| c.is_ascii_digit(), "9");
    let arch = std::env::consts::ARCH;
    let feature = if arch == "x86_64" { ("has_ssse3", "has_other") } else { ("has_lse", "has_xyz") };
    let cases = [
        (format!("{version}+"), format!("{other}+"), "compiled for wasmrun"),
        (format!("{arch}-"), format!("{}-", "z".repeat(arch.len())), "the target"),
        (feature.0.into(), feature.1.into(), "a processor with has_"),
    ];
    for (from, to, message) in cases {
        let file = compiled(dir.path());
        let bytes = fs::read(&file).unwrap();
        if !bytes.windows(from.len()).any(|window| window == from.as_bytes()) {
            // This processor lacks the feature.
            continue;
        }
        replace(&file, &from, &to);
        let refused = open(&engine(), &file).unwrap_err();
        assert!(refused.contains(message) && refused.contains("compile it again"), "{refused}");
    }
}

#[test]
fn whatever_is_done_to_a_file_it_runs_right_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    let bytes = fs::read(&file).unwrap();
    let engine = engine();
    for length in (0..bytes.len()).step_by(97) {
        fs::write(&file, &bytes[..length]).unwrap();
        open(&engine, &file).unwrap_err();
    }
    let module = wat::parse_str(MIXED).unwrap().len();
    let (mut refused, mut ran) = (0, 0);
    // The module itself is another one when it is changed; what was appended must not matter.
    for at in (module..bytes.len()).step_by(3) {
        if bytes[at..].iter().take(64).all(|byte| *byte == 0) {
            continue;
        }
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&file, changed).unwrap();
        match open(&engine, &file) {
            Ok(module) => {
                check_module(&module);
                ran += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100 && ran > 100, "{refused} refused, {ran} ran");
}

#[test]
fn a_changed_module_does_not_get_the_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    // `i32.const 100` in $throw becomes `i32.const 101`, as far as LEB128 is concerned.
    let at = bytes.windows(3).position(|window| window == [0x41, 0xE4, 0]).unwrap();
    bytes[at + 1] = 0xE5;
    fs::write(&file, bytes).unwrap();
    let module = open(&engine(), &file).unwrap();
    let mut store = wasmrun::Store::new(module.engine(), ());
    let instance = wasmrun::Instance::new(&mut store, &module, &[]).unwrap();
    let catch = instance.get_typed_func::<i32, i32>(&mut store, "catch").unwrap();
    assert_eq!(catch.call(&mut store, 7).unwrap(), 108);
    assert_eq!(module.cache_stats().rejected, 1);
}

/// Where files can't be mapped to be run, as on file systems that are mounted so, code is copied. Code that does not
/// begin at a page can't be mapped either.
#[test]
fn code_that_cannot_be_mapped_is_copied() {
    const FOOTER: usize = 48;
    const SHIFT: usize = 64;
    let dir = tempfile::tempdir().unwrap();
    let file = compiled(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let footer = bytes.len() - FOOTER;
    let number = |bytes: &[u8], n: usize| u64::from_le_bytes(bytes[footer + 8 * n..][..8].try_into().unwrap());
    let (section, segment, end) = (number(&bytes, 0) as usize, number(&bytes, 2), number(&bytes, 3));
    for (n, value) in [(2, segment + SHIFT as u64), (3, end + SHIFT as u64)] {
        bytes[footer + 8 * n..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let size = bytes.len() + SHIFT - section - 6;
    for n in 0..5 {
        bytes[section + 1 + n] = (size >> (7 * n)) as u8 & 0x7F | if n < 4 { 0x80 } else { 0 };
    }
    bytes.splice(segment as usize..segment as usize, [0; SHIFT]);
    fs::write(&file, bytes).unwrap();
    let module = open(&engine(), &file).unwrap();
    check_module(&module);
    assert!(module.cache_stats().loaded >= 7);
}
