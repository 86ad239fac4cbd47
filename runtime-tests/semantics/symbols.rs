//! Functions, files and lines in backtraces, from DWARF: the same on every engine; and damaged DWARF, which is in the way of nothing.

use std::fs;
use std::ops::Range;

use wasmparser::{Parser, Payload};
use wasmrun::*;

use super::engines::for_each_engine;

const DIVIDE: &[u8] = include_bytes!("../programs/lines/divide.wasm");
const SHAPES: &[u8] = include_bytes!("../programs/lines/shapes.wasm");
const PANICS: &[u8] = include_bytes!("../programs/lines/panics.wasm");

/// A symbol of a frame: index of the frame, name, file, line, column.
type Place = (usize, Option<String>, Option<String>, Option<u32>, Option<u32>);

fn places(frames: &[Frame]) -> Vec<Place> {
    let place = |depth, symbol: &FrameSymbol| {
        let text = |text: Option<&str>| text.map(String::from);
        (depth, text(symbol.name()), text(symbol.file()), symbol.line(), symbol.column())
    };
    frames
        .iter()
        .enumerate()
        .flat_map(|(depth, frame)| frame.symbols().iter().map(move |it| place(depth, it)))
        .collect()
}

fn expected(places: &[(usize, &str, &str, u32, u32)]) -> Vec<Place> {
    let place = |(depth, name, file, line, column): &(usize, &str, &str, u32, u32)| {
        (*depth, Some(name.to_string()), Some(file.to_string()), Some(*line), Some(*column))
    };
    places.iter().map(place).collect()
}

fn divided() -> Vec<Place> {
    expected(&[
        (0, "divide", "/src/divide.c", 5, 14),
        (0, "mean", "/src/divide.c", 12, 12),
        (0, "report", "/src/divide.c", 16, 12),
        (1, "run", "/src/divide.c", 20, 12),
    ])
}

/// Calls `run` with 0, which traps.
fn run(engine: &Engine, module: &Module) -> Error {
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    instance.get_typed_func::<i32, i32>(&mut store, "run").unwrap().call(&mut store, 0).unwrap_err()
}

#[test]
fn frames_have_functions_files_and_lines() {
    let shapes = expected(&[
        (0, "shapes::Pair<int>::ratio() const", "/src/shapes.cpp", 9, 13),
        (0, "int shapes::area<int>(shapes::Pair<int> const&)", "/src/shapes.cpp", 15, 17),
        (1, "shapes::Shape::size(shapes::Pair<int>) const", "/src/shapes.cpp", 23, 12),
        (2, "run", "/src/shapes.cpp", 30, 18),
    ]);
    for_each_engine(|engine| {
        for (bytes, expected) in [(DIVIDE, &divided()), (SHAPES, &shapes)] {
            let module = Module::new(engine, bytes).unwrap();
            let error = run(engine, &module);
            assert_eq!(&places(error.backtrace()), expected);
            for frame in error.backtrace() {
                assert_eq!(module.symbolize(frame.module_offset()), frame.symbols());
            }
        }
    });
}

#[test]
fn names_are_there_as_they_are_and_as_people_read_them() {
    let engine = Engine::default();
    let module = Module::new(&engine, SHAPES).unwrap();
    let error = run(&engine, &module);
    let symbol = &error.backtrace()[0].symbols()[0];
    assert_eq!(symbol.linkage_name(), Some("_ZNK6shapes4PairIiE5ratioEv"));

    let raw = "_ZN7example4trap17h0123456789abcdefE";
    let module = Module::new(&engine, format!("(module (func ${raw} (export \"run\") unreachable))")).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let error = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap().call(&mut store, ()).unwrap_err();
    let frame = &error.backtrace()[0];
    assert_eq!((frame.func_name(), frame.name(), frame.symbols()), (Some(raw), Some("example::trap"), &[][..]));
    assert_eq!(frame.to_string(), format!("example::trap at offset {:#x}", frame.module_offset()));
    // The body begins with the number of its groups of locals.
    assert_eq!(frame.func_offset(), 1);
    let symbols = module.symbolize(frame.module_offset());
    assert_eq!((symbols[0].name(), symbols[0].linkage_name()), (Some("example::trap"), Some(raw)));
    assert_eq!(module.symbolize(0), []);
    assert_eq!(module.symbolize(usize::MAX), []);
}

#[test]
fn backtraces_are_displayed_with_places_in_columns() {
    let engine = Engine::default();
    let error = run(&engine, &Module::new(&engine, DIVIDE).unwrap());
    let text = format!("{error:?}");
    for line in ["divide at /src/divide.c:5:14", "mean   at /src/divide.c:12:12", "run    at /src/divide.c:20:12"] {
        assert!(text.contains(line), "{text}");
    }
    let mut store = Store::new(&engine, String::new());
    let host = Func::wrap(&mut store, |mut caller: Caller<'_, String>| {
        *caller.data_mut() = WasmBacktrace::capture(&caller).to_string();
    });
    let wat = r#"(module (import "" "host" (func $host)) (func $inner (call $host)) (func $longer (export "f") (call $inner)))"#;
    let module = Module::new(&engine, wat).unwrap();
    let instance = Instance::new(&mut store, &module, &[host.into()]).unwrap();
    instance.get_typed_func::<(), ()>(&mut store, "f").unwrap().call(&mut store, ()).unwrap();
    let lines: Vec<_> = store.data().lines().collect();
    assert!(lines[0].starts_with("   0: inner  at offset 0x"), "{lines:?}");
    assert!(lines[1].starts_with("   1: longer at offset 0x"), "{lines:?}");
}

/// Of a module in a large file, debug sections are read when they are needed; if they can't be any more, there are just no lines.
#[test]
fn debug_sections_in_files_are_read_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    let mut bytes = DIVIDE.to_vec();
    // A custom section of 2 MiB, as such files are not read in full.
    bytes.extend([0, 0x86, 0x80, 0x80, 0x01, 5]);
    bytes.extend(b"space");
    bytes.extend(vec![0; 2 << 20]);
    for keeps in [true, false] {
        fs::write(&path, &bytes).unwrap();
        for_each_engine(|_| {
            let mut config = Config::new();
            config.lazy_validation(true);
            let engine = Engine::new(&config).unwrap();
            let module = Module::from_file(&engine, &path).unwrap();
            let error = run(&engine, &module);
            if !keeps {
                fs::write(&path, [&bytes[..], &[0, 1, 0]].concat()).unwrap();
            }
            let expected = if keeps { divided() } else { Vec::new() };
            assert_eq!((places(error.backtrace()), error.backtrace().len()), (expected, 2));
            fs::write(&path, &bytes).unwrap();
        });
    }
}

/// The byte ranges of the contents of debug sections, and that of the code section.
fn sections(bytes: &[u8]) -> (Vec<Range<usize>>, Range<usize>) {
    let (mut debug, mut code) = (Vec::new(), 0..0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::CustomSection(section) if section.name().starts_with(".debug") => {
                let end = section.range().end as usize;
                debug.push(end - section.data().len()..end);
            }
            Payload::CodeSectionStart { unchecked_range, .. } => {
                code = unchecked_range.start as usize..unchecked_range.end as usize;
            }
            _ => {}
        }
    }
    (debug, code)
}

/// Whatever is done to debug sections, a module loads, and symbols are bounded.
#[test]
fn damaged_debug_sections_are_in_the_way_of_nothing() {
    let mut config = Config::new();
    config.strategy(Strategy::Interpreter);
    let engine = Engine::new(&config).unwrap();
    let mut found = 0;
    for (program, rounds) in [(DIVIDE, 6000), (SHAPES, 6000), (PANICS, 150)] {
        let (debug, code) = sections(program);
        assert!(debug.len() >= 5, "{debug:?}");
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        for _ in 0..rounds {
            let mut bytes = program.to_vec();
            for _ in 0..=random(3) {
                let section = debug[random(debug.len())].clone();
                let at = section.start + random(section.len());
                let len = (1 << random(4)).min(section.end - at);
                match random(6) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at..at + len].fill(0xFF),
                    2 => bytes[at..at + len].fill(0),
                    3 => bytes[at..at + len].fill_with(|| random(256) as u8),
                    // Truncated, as far as zeros are an end.
                    4 => bytes[at..section.end].fill(0),
                    _ => {
                        let from = section.start + random(section.len() - len + 1);
                        bytes.copy_within(from..from + len, at);
                    }
                }
            }
            let module = Module::new(&engine, &bytes).unwrap();
            for offset in code.clone().step_by(1 + code.len() / 200) {
                let symbols = module.symbolize(offset);
                assert!(symbols.len() <= 64);
                for symbol in &symbols {
                    let texts = [symbol.name(), symbol.linkage_name(), symbol.file()];
                    assert!(texts.into_iter().flatten().all(|text| text.len() <= 4096));
                    found += usize::from(symbol.line().is_some());
                }
            }
        }
    }
    assert!(found > 100_000, "most of the damage leaves lines: {found}");
}
