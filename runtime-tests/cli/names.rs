//! Names that modules, programs and users chose, in what is printed: they can't control the terminal, forge lines or fill
//! the screen.

use super::{Done, ENGINES, Files, exec, opening, wasmrun};

/// A name with a line end, control characters of both kinds, and changes of direction, as the text format spells it.
const FORGED: &str = r"evil\n   1: <trusted> at offset 0x0\u{1b}[31m\u{9b}2J\u{202e}\u{2066}\u{200f}\u{2028}";

/// How it is shown.
const SHOWN: &str = r"evil\n   1: <trusted> at offset 0x0\u{1b}[31m\u{9b}2J\u{202e}\u{2066}\u{200f}\u{2028}";

/// The name itself.
fn forged() -> String {
    "evil\n   1: <trusted> at offset 0x0\u{1b}[31m\u{9b}2J\u{202e}\u{2066}\u{200f}\u{2028}".into()
}

#[track_caller]
fn is_clean(done: &Done) {
    for text in [&done.stdout, &done.stderr] {
        let bad = text.chars().find(|c| {
            c.is_control() && *c != '\n'
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert!(bad.is_none(), "{bad:?} in {done:?}");
        assert!(!text.lines().any(|line| line.starts_with("   1: <trusted>")), "a forged line: {done:?}");
        // None of the names below is shown in full where it is long.
        assert!(text.lines().all(|line| line.len() < 12_000), "a line of {:?} bytes", text.lines().map(str::len).max());
    }
}

/// Runs it, and checks that the name is shown, escaped.
#[track_caller]
fn shows(wat: &str, flags: &[&str], args: &[&str], status: i32) {
    let done = exec(wat, flags, args);
    assert_eq!(done.status, Some(status), "{done:?}");
    is_clean(&done);
    assert!(done.stderr.contains(SHOWN), "{done:?}");
}

#[test]
fn in_errors_and_backtraces() {
    for engine in ENGINES {
        let trap = format!(r#"(module (func $"{FORGED}" (export "_start") unreachable))"#);
        shows(&trap, &[engine], &[], 134);
        // Of the frame; a build without the JIT has another line about that.
        let done = exec(&trap, &[engine], &[]);
        assert_eq!(done.stderr.lines().filter(|line| line.starts_with("   ")).count(), 1, "{done:?}");
        shows(
            &format!(r#"(module (func (export "{FORGED}") unreachable) (export "_start" (func 0)))"#),
            &[engine],
            &[],
            134,
        );
        shows(&format!(r#"(module (tag $"{FORGED}") (func (export "_start") (throw 0)))"#), &[engine], &[], 134);
        let import = format!(r#"(module (import "{FORGED}" "{FORGED}" (func)) (func (export "_start") (call 0)))"#);
        shows(&import, &[engine, "--unknown-imports=trap"], &[], 134);
        shows(&import, &[engine], &[], 125);
    }
    shows(&format!(r#"(module (func $"{FORGED}" (result i32)))"#), &[], &[], 126);
    shows(&format!(r#"(module (func (export "{FORGED}")))"#), &[], &[], 125);
    shows(&format!(r#"(module (func (export "{FORGED}")))"#), &["--call=f"], &[], 125);
    shows("(module)", &["--call", &forged()], &[], 125);
    shows(r#"(module (memory (export "m") 1))"#, &["--call", &forged()], &[], 125);
    // The same name twice, which the validator tells of.
    let twice = format!(r#"(module (func (export "{FORGED}")) (func (export "{FORGED}")))"#);
    is_clean(&exec(&twice, &[], &[]));
    // In text, which its parser tells of.
    is_clean(&exec(&format!(r#"(module (func (call $"{FORGED}")))"#), &[], &[]));
    is_clean(&exec(&format!("(module (func {})", forged()), &[], &[]));
}

#[test]
fn in_the_names_of_files() {
    let name = format!("{}.wat", forged().replace('/', "_"));
    let files = Files::new(&[(&name, "(module (func (export \"_start\") unreachable))"), ("m.wat", "(module)")]);
    for args in [
        &["exec", &name][..],
        &["exec", "no-such-file\u{202e}"],
        &["exec", "--preload", &format!("x={name}"), "m.wat"],
        &["exec", "--preload", &format!("{}=m.wat", forged()), "m.wat"],
        &["exec", "--dir", &name, "m.wat"],
        &["exec", "--dir", &forged(), "m.wat"],
        &["exec", "--stdin", &forged(), "m.wat"],
        &["exec", "--stdout", "no/\u{202e}\n", "m.wat"],
        &["exec", "--listen", &forged(), "m.wat"],
        &["exec", "--env", "=\u{202e}\n", "m.wat"],
        &["inspect", &name],
        &["inspect", &forged()],
        &["wast", &name],
        &["cache", "info", "--cache-dir", &forged()],
        &["cache", "info", "--json", "--cache-dir", &forged()],
        &["bench", "--runs=1", &name],
        #[cfg(jit)]
        &["compile", "m.wat", "-o", "no/\u{202e}\n"],
    ] {
        is_clean(&files.run(args));
    }
    let unreadable =
        wasmrun().args(["exec", "--cache-dir=\u{202e}\n", "--cache=read", "-v", "none\n"]).output().unwrap();
    is_clean(&Done::new(unreadable));
}

#[test]
fn in_what_is_traced_and_refused() {
    for engine in ENGINES {
        let done = exec(&opening(FORGED, 0, 2), &[engine, "--trace-wasi", "--explain-denials"], &[]);
        is_clean(&done);
        assert_eq!(done.status, Some(44));
        assert!(done.stderr.matches("evil\\n").count() >= 2, "{done:?}");
    }
    is_clean(&exec(&opening("x", 0, 2), &["--trace-wasi", "--dir", &format!(".::{}", forged())], &[]));
}

#[test]
fn in_what_inspect_prints() {
    let wat = format!(
        r#"(module $"{FORGED}"
        (import "{FORGED}" "{FORGED}" (func $i))
        (@custom "{FORGED}" "x") (@producers (language "{FORGED}" "{FORGED}"))
        (func $"{FORGED}" (export "{FORGED}")) (start $"{FORGED}"))"#
    );
    let files = Files::new(&[("m.wat", &wat)]);
    let report = files.run(&["inspect", "m.wat"]);
    assert_eq!(report.status, Some(0), "{report:?}");
    is_clean(&report);
    assert!(report.stdout.matches(SHOWN).count() >= 6, "{report:?}");
    for flag in ["--bytecode", "--clif", "--asm"] {
        is_clean(&files.run(&["inspect", flag, "1", "m.wat"]));
        is_clean(&files.run(&["inspect", flag, "0", "m.wat"]));
        is_clean(&files.run(&["inspect", flag, "evil", "m.wat"]));
    }
}

#[test]
fn long_ones_are_cut() {
    let long = "n".repeat(90_000);
    let cut = |wat: String, flags: &[&str]| {
        let done = exec(&wat, flags, &[]);
        is_clean(&done);
        // With a word before it, as "function", that counts too.
        let text = format!("{}… (900", "n".repeat(256 - "function ".len()));
        assert!(done.stderr.contains(&text), "{:?}", done.status);
    };
    cut(format!(r#"(module (func ${long} (export "_start") unreachable))"#), &[]);
    cut(format!(r#"(module (func ${long} (result i32)))"#), &[]);
    cut(format!(r#"(module (func (export "{long}")))"#), &[]);
    cut(format!(r#"(module (import "{long}" "f" (func)))"#), &[]);
    cut(format!(r#"(module (tag ${long}) (func (export "_start") (throw 0)))"#), &[]);
    let many: String = (0..500).map(|n| format!(r#"(import "m" "f{n}" (func))"#)).collect();
    let done = exec(&format!("(module {many})"), &[], &[]);
    assert!(done.stderr.contains("\n  and 400 more\n") && done.stderr.lines().count() < 110, "{done:?}");
    let many: String = (0..500).map(|n| format!(r#"(func (export "f{n}"))"#)).collect();
    let done = exec(&format!("(module {many})"), &[], &[]);
    assert!(done.stderr.contains("\n  and 480 more\n"), "{done:?}");
}

/// Arguments that clap's messages repeat may be names of files, as in `wasmrun *`.
#[test]
fn in_refused_arguments() {
    let (forged, files) = (forged(), Files::new(&[]));
    let flag = format!("--{forged}");
    for args in [
        &[flag.as_str()][..],
        &["exec", &flag],
        &["exec", "--timeout", &forged, "m.wat"],
        &["inspect", "m.wat", &forged],
        &["completions", &forged],
        &["help", &forged],
        &[&forged],
    ] {
        for color in ["--color=never", "--color=always"] {
            let mut done = files.run(&[&[color], args].concat());
            assert!([2, 127].map(Some).contains(&done.status) && done.stderr.contains(SHOWN), "{done:?}");
            for style in ["0", "1", "4", "31", "32", "33"] {
                done.stderr = done.stderr.replace(&format!("\u{1b}[{style}m"), "");
            }
            is_clean(&done);
        }
    }
}
