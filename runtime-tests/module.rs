//! What `Module::new` says of modules: errors with places and names, types of imports and exports.

use wasmrun::{Engine, ErrorKind, Module};

fn error(bytes: impl AsRef<[u8]>) -> wasmrun::Error {
    Module::new(&Engine::default(), bytes).expect_err("the module must be refused")
}

/// A binary module: the header and the given sections (id, contents).
fn binary(sections: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, contents) in sections {
        bytes.push(*id);
        let mut len = contents.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(contents);
    }
    bytes
}

#[test]
fn invalid_bodies_are_named_by_the_name_section() {
    let named = r#"(module $m (func $first) (func $second (result i32)))"#;
    let message = error(named).to_string();
    assert!(message.contains("in function second, at offset 0x"), "{message}");
}

#[test]
fn invalid_bodies_without_names_have_their_index_with_imports_counted() {
    let text = r#"(module (import "a" "b" (func)) (func) (func (result i32)))"#;
    let message = error(text).to_string();
    assert!(message.contains("in function 2, at offset 0x"), "{message}");
}

#[test]
fn offsets_point_into_the_binary() {
    // A function section that promises a body, and no code section.
    let bytes = binary(&[(1, &[1, 0x60, 0, 0]), (3, &[1, 0])]);
    let error = error(&bytes);
    let ErrorKind::Invalid { offset: Some(offset), .. } = error.kind() else { panic!("{error:?}") };
    assert!(*offset <= bytes.len() && *offset >= 8, "{offset}");
}

#[test]
fn unsupported_proposals_are_named() {
    for (text, proposal) in [
        ("(module (type $f (func)) (type (cont $f)))", "stack-switching"),
        ("(module (import \"m\" \"m\" (table shared 1 (ref null (shared func)))))", "shared-everything-threads"),
    ] {
        let error = error(text);
        let ErrorKind::Unsupported { proposal: named, .. } = error.kind() else { panic!("{text}: {error}") };
        assert_eq!(*named, proposal, "{text}: {error}");
    }
}

/// A group of imports that names its module once, in each of its two forms, and in the text format.
#[test]
fn imports_may_share_the_name_of_their_module() {
    let types = (1, &[1, 0x60, 0, 0][..]);
    let one = [1, 1, b'm', 0, 0x7f, 2, 1, b'a', 0, 0, 1, b'b', 3, 0x7f, 0];
    let two = [1, 1, b'm', 0, 0x7e, 0, 0, 2, 1, b'a', 1, b'b'];
    let text = "(module (type (func)) (import \"m\" (item \"a\" (func (type 0))) (item \"b\" (global i32))))";
    let names = |bytes: &[u8]| {
        let module = Module::new(&Engine::default(), bytes).unwrap();
        module
            .imports()
            .map(|import| format!("{} {} {}", import.module(), import.name(), import.ty()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&binary(&[types, (2, &one)])), ["m a (func)", "m b (global i32)"]);
    assert_eq!(names(&binary(&[types, (2, &two)])), ["m a (func)", "m b (func)"]);
    assert_eq!(names(text.as_bytes()), ["m a (func)", "m b (global i32)"]);
    let off = Engine::new(wasmrun::Config::new().wasm_compact_imports(false)).unwrap();
    let error = Module::new(&off, binary(&[types, (2, &one)])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disabled { switch: "wasm_compact_imports", .. }), "{error:?}");
}

/// Written out for each import, the name would take ten gigabytes. Also with the proposal turned off, when what is wrong is looked
/// for.
#[test]
fn a_long_name_shared_by_many_imports_is_refused() {
    let mut section = vec![1];
    section.extend([0xa0, 0x8d, 6]);
    section.extend([b'm'; 100_000]);
    section.extend([0, 0x7e, 0, 0]);
    section.extend([0xa0, 0x8d, 6]);
    section.extend([0; 100_000]);
    let bytes = binary(&[(1, &[1, 0x60, 0, 0]), (2, &section)]);
    for is_on in [true, false] {
        let engine = Engine::new(wasmrun::Config::new().wasm_compact_imports(is_on)).unwrap();
        let error = Module::new(&engine, &bytes).unwrap_err();
        assert_eq!(matches!(error.kind(), ErrorKind::Resource(_)), is_on, "{error:?}");
    }
}

#[test]
fn what_is_no_module_is_said_to_be_none() {
    assert!(error(b"").to_string().contains("empty"));
    assert!(error(b"\0as").to_string().contains("first four bytes"));
    assert!(error(b"\x7fELF\x02\x01").to_string().contains("neither a binary module"));
    assert!(error("hello").to_string().contains("neither a binary module"));
    assert!(error(b"\0asm\x0d\0\x01\0").to_string().contains("component"));
    assert!(error(b"\0asm\x02\0\0\0").to_string().contains("version"));
}

#[test]
fn text_errors_have_line_and_column() {
    let message = error("(module\n  (func (i32.cons 1)))").to_string();
    assert!(message.contains("line 2, column 10"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn every_truncation_is_an_error() {
    let text = r#"(module (import "a" "b" (func (param i32))) (memory 1) (table 2 funcref) (elem (i32.const 0) 1)
        (func (export "f") (result i32) i32.const 1) (data (i32.const 0) "abc"))"#;
    let whole = wat::parse_str(text).unwrap();
    let engine = Engine::default();
    Module::new(&engine, &whole).unwrap();
    let sections: Vec<usize> = wasmparser::Parser::new(0)
        .parse_all(&whole)
        .filter_map(|payload| payload.ok()?.as_section().map(|(_, range)| range.end as usize))
        .collect();
    for length in 0..whole.len() {
        // A cut between sections can leave a valid module, such as one without its data.
        if !sections.contains(&length) && length != 8 {
            let message = Module::new(&engine, &whole[..length]).unwrap_err().to_string();
            assert!(length < 8 || message.contains("the module is cut off"), "{length} of {}: {message}", whole.len());
        }
    }
}

#[test]
fn imports_and_exports_have_names_and_types() {
    let module = Module::new(
        &Engine::default(),
        r#"(module $name
            (import "env" "log" (func (param i32 i64) (result f32)))
            (import "env" "memory" (memory 1 2))
            (table (export "t") 3 externref)
            (global (export "g") (mut v128) (v128.const i64x2 1 2))
            (export "log" (func 0)))"#,
    )
    .unwrap();
    assert_eq!(module.name(), Some("name"));
    let imports: Vec<_> = module.imports().map(|i| format!("{} {} {}", i.module(), i.name(), i.ty())).collect();
    assert_eq!(imports, ["env log (func (param i32 i64) (result f32))", "env memory (memory 1 2)"]);
    let exports: Vec<_> = module.exports().map(|e| format!("{} {}", e.name(), e.ty())).collect();
    let wanted = ["t (table 3 externref)", "g (global (mut v128))", "log (func (param i32 i64) (result f32))"];
    assert_eq!(exports, wanted);
    assert_eq!(module.export_func_index("log"), Some(0));
    assert_eq!(module.export_func_index("t"), None);
}

#[test]
fn large_modules_are_validated_in_parallel_and_report_the_first_error() {
    // Two bad bodies among many: whichever thread finds one first, the earlier one is reported.
    let filler = "(func (result i32) (i32.add (i32.const 1) (i32.const 2)))".repeat(60_000);
    let bad = "(func $bad1 (result i32))";
    let text = format!("(module {bad} {filler} {filler} (func $bad2 (result i64) (i32.const 0)))");
    let message = error(text).to_string();
    assert!(message.contains("bad1"), "{message}");
}

#[test]
fn an_invalid_function_is_found_wherever_it_is() {
    const FUNCS: usize = 20;
    for invalid in 0..FUNCS {
        let funcs: String = (0..FUNCS)
            .map(|at| format!("(func (result i32) ({}.const 1))", if at == invalid { "i64" } else { "i32" }))
            .collect();
        let error = Module::new(&Engine::default(), format!("(module {funcs})")).unwrap_err();
        let ErrorKind::Invalid { function, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(function.as_deref(), Some(&*format!("function {invalid}")), "{error}");
    }
}

/// Custom sections are found by name, wherever they are: also in a file of which only a part was read.
#[test]
fn custom_sections_by_name() {
    let custom = |name: &str, contents: &[u8]| [&[name.len() as u8][..], name.as_bytes(), contents].concat();
    let bytes = binary(&[
        (0, &custom("a", b"first")),
        (1, &[1, 0x60, 0, 0]),
        (0, &custom("b", b"other")),
        (3, &[1, 0]),
        (0, &custom("a", b"")),
        (10, &[1, 2, 0, 0x0b]),
        (0, &custom("a", b"last")),
    ]);
    let check = |module: &Module| {
        assert_eq!(module.custom_sections("a").unwrap(), [&b"first"[..], b"", b"last"]);
        assert_eq!(module.custom_sections("b").unwrap(), [&b"other"[..]]);
        assert!(module.custom_sections("").unwrap().is_empty() && module.custom_sections("aa").unwrap().is_empty());
    };
    check(&Module::new(&Engine::default(), &bytes).unwrap());

    let mut large = bytes.clone();
    let room = custom("room", &vec![0; 2 << 20]);
    large.push(0);
    large.extend((0..4).map(|n| (room.len() >> (7 * n)) as u8 & 0x7f | if n < 3 { 0x80 } else { 0 }));
    large.extend(&room);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.wasm");
    std::fs::write(&path, &large).unwrap();
    let engine = Engine::new(wasmrun::Config::new().lazy_validation(true).lazy_validation_from(0)).unwrap();
    let module = Module::from_file(&engine, &path).unwrap();
    check(&module);
    assert_eq!(module.custom_sections("room").unwrap()[0].len(), 2 << 20);
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(module.custom_sections("a").unwrap_err().kind(), ErrorKind::Resource(_)));
}

#[test]
fn validation_is_never_lazy_and_takes_binaries_alone() {
    let engine = Engine::new(wasmrun::Config::new().lazy_validation(true).lazy_validation_from(0)).unwrap();
    let good = binary(&[(1, &[1, 0x60, 0, 0]), (3, &[1, 0]), (10, &[1, 2, 0, 0x0b])]);
    let bad = binary(&[(1, &[1, 0x60, 0, 0]), (3, &[1, 0]), (10, &[1, 3, 0, 0x1a, 0x0b])]);
    assert!(Module::validate(&engine, &good).is_ok());
    assert!(Module::new(&engine, &bad).is_ok() && Module::validate(&engine, &bad).is_err());
    assert!(Module::validate(&engine, b"(module)").is_err() && Module::from_binary(&engine, b"(module)").is_err());
    assert!(Module::from_binary(&engine, &good).is_ok());
}

#[test]
fn what_is_imported_is_not_required() {
    let text =
        r#"(module (import "" "" (memory 9)) (import "" "" (table 9 funcref)) (memory 1) (memory 3) (memory 2))"#;
    let needed = Module::new(&Engine::default(), text).unwrap().resources_required();
    assert_eq!((needed.num_memories, needed.max_initial_memory_size), (3, Some(3)));
    assert_eq!((needed.num_tables, needed.max_initial_table_size), (0, None));
}

/// With each proposal turned off, a module that uses it is refused by its name, and one that does not is taken.
#[test]
fn proposals_that_are_off_are_named() {
    type Switch = fn(&mut wasmrun::Config, bool) -> &mut wasmrun::Config;
    let cases: [(Switch, &str, &str, &str); 15] = [
        (
            |config, on| {
                config.wasm_gc(on).wasm_function_references(on).wasm_reference_types(on);
                config.wasm_exceptions(on).wasm_bulk_memory(on)
            },
            "bulk-memory-operations",
            "wasm_bulk_memory",
            "(memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0)))",
        ),
        (
            |config, on| config.wasm_gc(on).wasm_function_references(on).wasm_reference_types(on).wasm_exceptions(on),
            "reference-types",
            "wasm_reference_types",
            "(func (param externref))",
        ),
        (wasmrun::Config::wasm_multi_value, "multi-value", "wasm_multi_value", "(type (func (result i32 i32)))"),
        (|config, on| config.wasm_simd(on).wasm_relaxed_simd(on), "simd", "wasm_simd", "(func (param v128))"),
        (
            wasmrun::Config::wasm_relaxed_simd,
            "relaxed-simd",
            "wasm_relaxed_simd",
            "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
        ),
        (wasmrun::Config::wasm_tail_call, "tail-call", "wasm_tail_call", "(func $f (return_call $f))"),
        (
            wasmrun::Config::wasm_extended_const,
            "extended-const",
            "wasm_extended_const",
            "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        ),
        (wasmrun::Config::wasm_multi_memory, "multi-memory", "wasm_multi_memory", "(memory 1) (memory 1)"),
        (
            wasmrun::Config::wasm_wide_arithmetic,
            "wide-arithmetic",
            "wasm_wide_arithmetic",
            "(func (param i64) (i64.mul_wide_u (local.get 0) (local.get 0)) drop drop)",
        ),
        (wasmrun::Config::wasm_exceptions, "exception-handling", "wasm_exceptions", "(tag)"),
        (
            wasmrun::Config::wasm_legacy_exceptions,
            "legacy-exceptions",
            "wasm_legacy_exceptions",
            "(func try catch_all end)",
        ),
        (wasmrun::Config::wasm_gc, "gc", "wasm_gc", "(type (struct))"),
        (
            |config, on| config.wasm_gc(on).wasm_function_references(on),
            "function-references",
            "wasm_function_references",
            "(type $f (func)) (func (param (ref $f)))",
        ),
        (wasmrun::Config::wasm_memory64, "memory64", "wasm_memory64", "(memory i64 1)"),
        (
            wasmrun::Config::wasm_custom_page_sizes,
            "custom-page-sizes",
            "wasm_custom_page_sizes",
            "(memory 1 1 (pagesize 1))",
        ),
    ];
    for (switch, proposal, name, fields) in cases {
        for lazy in [false, true] {
            let mut config = wasmrun::Config::new();
            config.lazy_validation(lazy).lazy_validation_from(0);
            let on = Engine::new(&config).unwrap();
            let off = Engine::new(switch(&mut config, false)).unwrap();
            let text = format!("(module {fields})");
            Module::new(&on, &text).unwrap();
            Module::new(&off, "(module (memory 1) (func (export \"f\") (result i32) (i32.const 1)))").unwrap();
            let refused = Module::new(&off, &text).and_then(|module| {
                let mut store = wasmrun::Store::new(&off, ());
                let instance = wasmrun::Instance::new(&mut store, &module, &[])?;
                let _ = instance;
                Module::validate(&off, &wat::parse_str(&text).unwrap())
            });
            let error = refused.expect_err(proposal);
            let ErrorKind::Disabled { proposal: said, switch: by, .. } = error.kind() else {
                panic!("{proposal}: {error:?}")
            };
            assert_eq!((*said, *by), (proposal, name));
            assert!(error.to_string().contains(&format!("the {proposal} proposal is turned off by `Config::{name}`")));
        }
    }
}

#[test]
fn proposals_that_contradict_each_other_are_refused() {
    let refused = |config: &mut wasmrun::Config, mentions: &[&str]| {
        let error = Engine::new(config).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error:?}");
        assert!(mentions.iter().all(|text| error.to_string().contains(text)), "{error}");
    };
    refused(wasmrun::Config::new().wasm_simd(false), &["Config::wasm_simd", "Config::wasm_relaxed_simd"]);
    refused(wasmrun::Config::new().wasm_bulk_memory(false), &["wasm_bulk_memory", "wasm_reference_types"]);
    refused(wasmrun::Config::new().wasm_reference_types(false), &["wasm_reference_types", "wasm_exceptions"]);
    refused(
        wasmrun::Config::new().wasm_stack_switching(true),
        &["stack-switching", "not supported", "Config::wasm_stack_switching"],
    );
    refused(wasmrun::Config::new().wasm_function_references(false), &["function-references", "Config::wasm_gc"]);
    assert!(Engine::new(wasmrun::Config::new().wasm_stack_switching(true).wasm_stack_switching(false)).is_ok());
    assert!(Engine::new(wasmrun::Config::new().wasm_gc(false).wasm_function_references(false)).is_ok());
}
