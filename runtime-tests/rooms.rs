//! The rooms of the crate: which may use which. Read from the sources, so that no import goes the wrong way unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All rooms (folders and files of `src`), from the lowest to the highest. A room may use those before it.
const ROOMS: [&str; 17] = [
    "printable", // names for people
    "error",     // errors and traps
    "sys",       // the platform
    "config",    // settings
    "stats",     // counters
    "numeric",   // arithmetic
    "symbols",   // names, files and lines of code
    "module",    // facts of modules
    "vm",        // objects of stores
    "interp",    // the interpreter
    "cache",     // compiled code on disk
    "jit",       // compiled code
    "tier",      // which function runs what
    "runtime",   // the embedding API
    "wasi",      // host functions of WASI
    "executor",  // the short path
    "cli",       // the command-line tool
];

/// A source file's modules from the crate's root, such as `["vm", "store"]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, files),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
}

/// The text without comments, and without the tests at its end: tests use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let text = text.split("tests {\n    use super::*;").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` declaration, its groups taken apart.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    let tree = format!("{tree},");
    for (at, char) in tree.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[start..at].trim();
                start = at + 1;
                match part.split_once('{') {
                    Some((outer, inner)) => {
                        expand(&format!("{prefix}{}", outer.trim()), inner.trim_end().trim_end_matches('}'), paths);
                    }
                    None if !part.is_empty() => paths.push(format!("{prefix}{part}")),
                    None => {}
                }
            }
            _ => {}
        }
    }
}

/// Everything that looks like a path from the crate's root or relative to the file's module.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for declaration in code.split("use ").skip(1) {
        if let Some((tree, _)) = declaration.split_once(';')
            && !tree.contains(['(', '='])
        {
            expand("", tree, &mut paths);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_path = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
            let end = code[at..].find(|char| !is_path(char)).map_or(code.len(), |end| at + end);
            paths.push(code[at..end].to_string());
        }
    }
    paths
}

/// What `lib.rs` gives other names at the crate's root, with the room each is from.
fn exports(lib: &str) -> BTreeMap<String, String> {
    let mut found = Vec::new();
    for declaration in lib.split("pub use ").skip(1) {
        expand("", declaration.split_once(';').unwrap().0, &mut found);
    }
    let last = |path: &String| path.rsplit("::").next().unwrap().to_string();
    found.iter().map(|path| (last(path), path.split("::").next().unwrap().to_string())).collect()
}

/// The room that a path used in a module leads to, if it is one of ours.
fn room_of(path: &str, module: &[String], exports: &BTreeMap<String, String>) -> Option<String> {
    let mut parts: Vec<String> = path.split("::").map(|part| part.trim().to_string()).collect();
    let mut from = match parts[0].as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => return None,
    };
    parts.remove(0);
    while parts.first().is_some_and(|part| part == "super") {
        from.pop()?;
        parts.remove(0);
    }
    from.extend(parts);
    let room = from.first()?;
    Some(exports.get(room).unwrap_or(room).clone())
}

/// What uses a room that it may not use: "file: path".
fn violations(files: &[(PathBuf, String)], exports: &BTreeMap<String, String>) -> BTreeSet<String> {
    let rank = |room: &str| ROOMS.iter().position(|other| *other == room);
    let mut wrong = BTreeSet::new();
    for (file, text) in files {
        let module = module_path(file);
        let own = rank(&module[0]).unwrap_or_else(|| panic!("{} is in no room", file.display()));
        for path in paths(&code(text)) {
            let room = room_of(&path, &module, exports);
            if room.is_some_and(|room| rank(&room).is_some_and(|used| used > own)) {
                wrong.insert(format!("{}: {path}", file.display()));
            }
        }
    }
    wrong
}

fn all() -> (Vec<(PathBuf, String)>, BTreeMap<String, String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let is_test = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy();
        name.ends_with("tests") || file.iter().any(|part| part == "golden")
    };
    let is_root = |file: &PathBuf| ["lib.rs", "main.rs"].iter().any(|name| *file == root.join(name));
    files.retain(|file| !is_test(file) && !is_root(file));
    let read = |file: PathBuf| (file.strip_prefix(&root).unwrap().to_path_buf(), fs::read_to_string(&file).unwrap());
    (files.into_iter().map(read).collect(), exports(&fs::read_to_string(root.join("lib.rs")).unwrap()))
}

#[test]
fn lower_rooms_do_not_know_higher_ones() {
    let (files, exports) = all();
    let wrong = violations(&files, &exports);
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn every_room_is_there_and_says_what_may_be_in_it() {
    let (files, _) = all();
    let rooms: BTreeSet<String> = files.iter().map(|(file, _)| module_path(file)[0].clone()).collect();
    assert_eq!(rooms, BTreeSet::from(ROOMS.map(String::from)));
    for (file, text) in files.iter().filter(|(file, _)| file.iter().count() == 2 && file.ends_with("mod.rs")) {
        let says =
            text.split_once("\n\n").is_some_and(|(doc, _)| doc.starts_with("//!") && doc.contains("What may not"))
                || text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("What may not"));
        assert!(says, "{} does not say what may be in the room and what not", file.display());
    }
}

/// Documents name files by their path in `src` or `runtime-tests`.
#[test]
fn documents_name_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["SECURITY.md", "README.md", "runtime-tests/MUTANTS.md", "benches/PERF-NOTES.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for name in text.split('`').filter(|name| name.ends_with(".rs") && !name.contains([' ', '*'])) {
            let places = ["", "src", "runtime-tests"].map(|folder| root.join(folder).join(name));
            assert!(places.iter().any(|place| place.exists()), "{document} names `{name}`, which is not there");
        }
    }
}

/// The test finds each form of import, in the middle of a group too.
#[test]
fn imports_of_all_forms_are_found() {
    let exports = BTreeMap::from([("Engine".to_string(), "runtime".to_string())]);
    let found = |text: &str| {
        violations(&[(PathBuf::from("vm/store.rs"), text.to_string())], &exports).into_iter().collect::<Vec<_>>()
    };
    for wrong in [
        "use crate::jit::Tier;",
        "use crate::{error::Error, jit::Tier};",
        "use crate::{\n    error::Error,\n    runtime::{engine::Engine, store},\n};",
        "use super::super::tier;",
        "use crate::Engine;",
        "fn f() { crate::interp::call(); }",
        "fn f(_: super::super::jit::Tier) {}",
        "pub(crate) use crate::wasi as other;",
    ] {
        assert_eq!(found(wrong).len().min(1), 1, "{wrong}");
    }
    for right in [
        "use crate::error::Error;\nuse super::context::VMContext;",
        "// crate::jit::Tier",
        "use std::{fmt, io};",
        "#[cfg(test)]\nmod tests {\n    use crate::Engine;\n}",
    ] {
        assert_eq!(found(right), [""; 0], "{right}");
    }
}
