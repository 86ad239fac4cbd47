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
        bytes.push(u8::try_from(contents.len()).expect("short sections only"));
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
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (memory i64 1))", "memory64"),
        ("(module (func (param (ref null 0))) (type (func)))", "function-references"),
        ("(module (type (struct)))", "gc"),
        ("(module (memory 1 (pagesize 1)))", "custom-page-sizes"),
        ("(module (func (drop (i32.atomic.load (i32.const 0)))) (memory 1))", "threads"),
    ] {
        let error = error(text);
        let ErrorKind::Unsupported { proposal: named, .. } = error.kind() else { panic!("{text}: {error}") };
        assert_eq!(*named, proposal, "{text}: {error}");
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
            assert!(Module::new(&engine, &whole[..length]).is_err(), "{length} of {} bytes", whole.len());
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
