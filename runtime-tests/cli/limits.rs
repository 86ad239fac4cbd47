//! The flags that limit what a program may use: what it sees, what is told, and what `--stats` says was used.

use super::{ENGINES, WRITE_FOREVER, exec, exit_with};

/// Loops for ever.
const SPIN: &str = r#"(module (memory (export "memory") 2) (func $spin (export "_start") (loop (br 0))))"#;

/// Grows its memory as far as it can, and ends with its size in pages.
const GROW: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1 100)
    (func (export "_start")
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (call $exit (memory.size))))"#;

/// Calls itself for ever.
const RECURSE: &str = r#"(module (memory (export "memory") 1) (func $down (export "_start") (call $down) (call $leaf))
    (func $leaf))"#;

/// Throws and keeps exceptions for ever.
const THROW: &str = r#"(module (memory (export "memory") 1) (tag $t (param exnref))
    (func (export "_start") (local $list exnref)
        (loop $again
            (block $caught (result exnref exnref)
                (try_table (catch_ref $t $caught) (throw $t (local.get $list)))
                (unreachable))
            (local.set $list) (drop)
            (br $again))))"#;

#[test]
fn cpu_time_ends_the_program_with_124() {
    for engine in ENGINES {
        let done = exec(SPIN, &[engine, "--max-cpu=50ms"], &[]);
        done.check(124, "");
        let first = "wasmrun: error: m.wat: trap: CPU time used up (limited by --max-cpu=50ms)\n   0: spin";
        assert!(done.stderr.contains(first), "{done:?}");
        assert!(!done.stderr.contains("hint"), "{done:?}");
    }
    exec(&exit_with(3), &["--max-cpu=1h"], &[]).check(3, "");
    exec(&exit_with(3), &["--max-cpu=2"], &[]).fails(2, &["--max-cpu", "500ms"]);
}

#[test]
fn memory_is_limited() {
    for engine in ENGINES {
        let done = exec(GROW, &[engine, "--max-memory=640K"], &[]);
        done.check(10, "");
        assert!(done.stderr.ends_with("wasmrun: hint: the program was held back by --max-memory=640K\n"), "{done:?}");
        exec(GROW, &[engine], &[]).check(100, "");
        // A program that does not fail has dealt with it.
        let copes = GROW.replace("(memory.size))", "(i32.const 0))");
        assert!(!exec(&copes, &[engine, "--max-memory=640K"], &[]).stderr.contains("hint"));
        let done = exec(THROW, &[engine, "--max-memory=1M"], &[]);
        done.fails(125, &["of 1048576 bytes of memory", "(limited by --max-memory=1M)"]);
        assert!(!done.stderr.contains("hint") && !done.stderr.contains("Budget"), "{done:?}");
        let done = exec(SPIN, &[engine, "--max-memory=64K"], &[]);
        done.fails(125, &["a memory of 131072 bytes", "(limited by --max-memory=64K)"]);
    }
}

#[test]
fn stack_is_limited() {
    for engine in ENGINES {
        let done = exec(RECURSE, &[engine, "--max-stack=100K"], &[]);
        done.fails(134, &["m.wat: trap: call stack exhausted (limited by --max-stack=100K)"]);
        let done = exec(RECURSE, &[engine], &[]);
        done.fails(134, &["m.wat: trap: call stack exhausted\n"]);
    }
    exec(RECURSE, &["--max-stack=65M"], &[]).fails(2, &["--max-stack", "64M at most"]);
}

#[test]
fn output_ends_at_the_byte() {
    for engine in ENGINES {
        let done = exec(WRITE_FOREVER, &[engine, "--max-output=100001"], &[]);
        assert_eq!((done.status, done.stdout.len()), (Some(19), 100_001));
        assert!(done.stderr.ends_with("wasmrun: hint: the program was held back by --max-output=100001\n"), "{done:?}");
        // Standard output is output, wherever it goes; the limit on files is for those that the program opens.
        let done = exec(WRITE_FOREVER, &[engine, "--max-output=5", "--max-files-written=1", "--stdout=out"], &[]);
        assert!(done.stderr.ends_with("wasmrun: hint: the program was held back by --max-output=5\n"), "{done:?}");
    }
}

#[test]
fn a_limit_is_explained_as_a_denial_is() {
    let done = exec(WRITE_FOREVER, &["--explain-denials", "--max-output=7"], &[]);
    done.check(19, "\0\0\0\0\0\0\u{1}");
    assert!(done.stderr.ends_with("refused:\n    --max-output=7 would have to be higher\n"), "{done:?}");
}

#[test]
fn stats_tell_what_was_used() {
    let flags = ["--stats", "--max-output=100001", "--max-memory=1M", "--max-cpu=1h"];
    let text = exec(WRITE_FOREVER, &flags, &[]).stderr;
    for line in [
        "output              97.7 KiB   --max-output=100001\n",
        "memory             128.0 KiB   --max-memory=1M\n",
        "  linear           128.0 KiB\n",
        "files written            0 B\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let cpu = text.lines().find(|line| line.starts_with("CPU time ")).unwrap();
    assert!(cpu.ends_with(" ms   --max-cpu=1h"), "{cpu}");
    let json = exec(WRITE_FOREVER, &["--stats=json", "--max-output=100001"], &[]).stderr;
    let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let used = &json["used"];
    assert_eq!((&used["output_bytes"], &used["memory_bytes"]), (&100_001.into(), &131_072.into()), "{used}");
    assert_eq!(used["limits_reached"], serde_json::json!(["output"]));
    assert!(used["cpu_ms"].as_f64().unwrap() > 0.0, "{used}");
}
