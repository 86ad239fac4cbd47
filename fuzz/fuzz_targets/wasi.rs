//! A series of WASI calls with arguments that are often wrong: every call gives an errno or ends the program, and
//! nothing outside the preopened directory is read, written, made or removed.
#![cfg_attr(fuzzing, no_main)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use wasmrun::{Config, Engine, ErrorKind, Module, Store, Strategy, Value, WasiEnv, create_wasi_linker};
use wasmrun_fuzz::runner::{Input, Options, Random, Target, Verdict};

wasmrun_fuzz::target!(Target { name: "wasi", generate, test, input: Input::Lines });

/// Names and parameters: `i` for i32, `l` for i64.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Paths, most of which lead out of the directory.
const PATHS: &[&str] = &[
    "file",
    "dir",
    "dir/inner",
    "new",
    "new2",
    "..",
    "../secret",
    "dir/../../secret",
    "/",
    "/etc/passwd",
    ".",
    "./file",
    "link",
    "link/secret",
    "out",
    "dir/up",
    "dir/up/secret",
    "loop",
    "loop/x",
    "",
    "a\0b",
    "//file",
    "dir/",
    "file/",
    "dir/./inner",
    "new/../../secret",
    "../inside/file",
    "../outside",
    "dir/../..",
];

/// Where each path lies in the guest's memory, 64 bytes apart.
const PATHS_AT: u32 = 4096;
/// Vectors of buffers, valid and not.
const VECTORS_AT: u32 = 8192;

const SECRET: &str = "nobody must read this";

/// Calls of a series.
const CALLS: u32 = 200;

/// The seed of a series, and the numbers of the calls that are made, a line each: what a call does stays the same when others
/// are left out.
fn generate(data: &[u8]) -> Option<Vec<u8>> {
    let seed = data.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    let mut text = format!("{seed}\n");
    for call in 0..CALLS {
        let _ = writeln!(text, "{call}");
    }
    Some(text.into())
}

fn test(input: &[u8], options: &Options) -> Verdict {
    let mut numbers =
        std::str::from_utf8(input).expect("lines of text").lines().map(|line| line.parse().expect("numbers"));
    let mut random = Random(numbers.next().expect("the first line is the seed"));
    let calls: Vec<u64> = numbers.collect();
    let root = tempfile::tempdir().expect("a temporary directory");
    prepare(root.path());
    let env = WasiEnv::new()
        .with_args(vec!["program".into(), "an argument".into(), String::new()])
        .with_env("NAME".into(), "value".into())
        .with_stdin(std::io::Cursor::new("some input\n"))
        .with_virtual_clock(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .with_seed(random.next())
        .with_max_file_size(1 << 20)
        .with_max_written(1 << 24)
        .with_preopen(root.path().join("inside"), "/")
        .expect("the directory is there");
    let env = Arc::new(Mutex::new(env));
    let mut config = Config::new();
    config.strategy([Strategy::Interpreter, Strategy::Jit, Strategy::Tiered][random.next() as usize % 3]);
    let engine = Engine::new(&config).expect("every strategy works here");
    let module = Module::new(&engine, program()).expect("the program is valid");
    let mut store = Store::new(&engine, ());
    let instance = create_wasi_linker(env).instantiate(&mut store, &module).expect("all functions are there");
    let memory = instance.get_memory(&mut store, "memory").expect("it is exported");
    for (path, i) in PATHS.iter().zip(0..) {
        memory.write(&mut store, (PATHS_AT + 64 * i) as usize, path.as_bytes()).expect("it fits");
    }
    for call in 0..CALLS {
        let (name, params) = FUNCTIONS[random.next() as usize % FUNCTIONS.len()];
        let mut words = Vec::new();
        vectors(&mut random, |at, word| words.push((at, word)));
        let args = arguments(name, params, &mut random);
        if !calls.contains(&u64::from(call)) {
            continue;
        }
        for (at, word) in words {
            memory.write(&mut store, at, &word.to_le_bytes()).expect("it fits");
        }
        let func = instance.get_func(&mut store, name).expect("it is exported");
        let mut results = vec![Value::I32(0); usize::from(name != "proc_exit")];
        let result = func.call(&mut store, &args, &mut results);
        if options.verbose {
            eprintln!("{name}{args:?}: {results:?} {result:?}");
        }
        if let Err(error) = result {
            let expected = matches!(error.kind(), ErrorKind::Exit(_)) || error.trap().is_some();
            assert!(expected, "{name}{args:?}: {error}");
        }
        let bytes = memory.data(&store);
        assert!(!bytes.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()), "{name}{args:?} read the secret");
    }
    check(root.path());
    Verdict::Agreement
}

/// `inside` is preopened and has ways out; what lies beside it must not change.
fn prepare(root: &Path) {
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(root.join("inside/dir"))?;
        fs::create_dir(root.join("outside"))?;
        fs::write(root.join("secret"), SECRET)?;
        fs::write(root.join("outside/secret"), SECRET)?;
        fs::write(root.join("inside/file"), "contents of a file")?;
        fs::write(root.join("inside/dir/inner"), "")?;
        #[cfg(unix)]
        for (target, link) in [("../outside", "link"), ("../secret", "out"), ("../..", "dir/up"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, root.join("inside").join(link))?;
        }
        Ok(())
    };
    make().expect("the temporary directory can be written");
}

fn check(root: &Path) {
    for (directory, expected) in
        [(root.to_path_buf(), &["inside", "outside", "secret"][..]), (root.join("outside"), &["secret"])]
    {
        let entries = fs::read_dir(&directory).expect("it is still there");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("readable").file_name().to_string_lossy().into()).collect();
        names.sort();
        assert_eq!(names, expected, "{} has changed", directory.display());
    }
    for file in ["secret", "outside/secret"] {
        assert_eq!(fs::read_to_string(root.join(file)).expect("readable"), SECRET);
        let links = std::os::unix::fs::MetadataExt::nlink(&fs::metadata(root.join(file)).expect("it is there"));
        assert_eq!(links, 1, "{file} was linked");
    }
}

/// A module that exports every function by its name.
fn program() -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (name, params) in FUNCTIONS {
        let types: String = params.chars().map(|c| if c == 'i' { " i32" } else { " i64" }).collect();
        let result = if *name == "proc_exit" { "" } else { "(result i32)" };
        let gets: String = (0..params.len()).map(|i| format!(" (local.get {i})")).collect();
        let _ =
            write!(imports, "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{types}) {result}))");
        let _ = write!(exports, "(func (export \"{name}\") (param{types}) {result} (call ${name}{gets}))");
    }
    format!("(module {imports} (memory (export \"memory\") 1 2) {exports})")
}

/// Fills the place of the vectors of buffers and subscriptions.
fn vectors(random: &mut Random, mut write: impl FnMut(usize, u32)) {
    for i in 0..64 {
        let word = match random.next() % 6 {
            0 => random.next() as u32,
            1 => 65_536 - random.next() as u32 % 16,
            2 => PATHS_AT + 64 * (random.next() as u32 % PATHS.len() as u32),
            3 => 32_768 + random.next() as u32 % 1024,
            _ => random.next() as u32 % 40,
        };
        write((VECTORS_AT + 4 * i) as usize, word);
    }
}

/// Arguments that often make sense: a path with its length, vectors with their number, low descriptors.
fn arguments(name: &str, params: &str, random: &mut Random) -> Vec<Value> {
    let path = random.next() as u32 % PATHS.len() as u32;
    let mut length = None;
    let mut args = Vec::new();
    for (i, param) in params.chars().enumerate() {
        let choice = random.next() % 16;
        let value: u64 = match (choice, length.take()) {
            (0, _) => random.next(),
            (1, _) => u64::from(65_536 - random.next() as u32 % 12),
            (2, _) => u64::from(u32::MAX - random.next() as u32 % 9),
            (_, Some(length)) => length,
            _ if i == 0 && (name.starts_with("fd_") || name.starts_with("path_") || name.starts_with("sock_")) => {
                if choice < 10 {
                    3
                } else {
                    random.next() % 9
                }
            }
            (3..8, _) if name.starts_with("path_") => {
                length = Some(PATHS[path as usize].len() as u64);
                u64::from(PATHS_AT + 64 * path)
            }
            (3..6, _) => {
                length = Some(random.next() % 5);
                u64::from(VECTORS_AT + 4 * (random.next() as u32 % 8))
            }
            (6..10, _) => random.next() % 8,
            (10..13, _) if param == 'l' => {
                [u64::MAX, 0x1fff_ffff, 1 << 40, 0, 1 << 63, 0xffff][random.next() as usize % 6]
            }
            _ => 32_768 + 8 * (random.next() % 64),
        };
        args.push(if param == 'i' { Value::I32(value as i32) } else { Value::I64(value as i64) });
    }
    args
}
