//! Very large functions and modules: right results in bounded time and memory, on each engine.
//!
//! Each runs in a process of its own, through the binary, so that its time and memory can be told apart.

mod common;

use common::run;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;
use wasmrun::Engine;

/// Two hundred times what the slowest takes on the engine that is faster at it, and still no hang.
const LIMIT: Duration = Duration::from_secs(100);

/// Resident memory that none may exceed, in MiB.
const MEMORY: u64 = 1536;

/// A module with an export `run`, and the line that calling it prints.
struct Case {
    name: &'static str,
    wat: fn() -> String,
    prints: fn() -> String,
}

/// What 64 bits of state become in step `i` of the straight-line programs.
fn step(x: u64, i: u64) -> u64 {
    match i % 4 {
        0 => x.wrapping_add(i),
        1 => x.wrapping_mul(i | 1),
        2 => x ^ (x >> 7),
        _ => x.rotate_left((i & 63) as u32),
    }
}

fn step_wat(i: u64) -> String {
    match i % 4 {
        0 => format!("local.get 0 i64.const {i} i64.add local.set 0\n"),
        1 => format!("local.get 0 i64.const {} i64.mul local.set 0\n", i | 1),
        2 => "local.get 0 local.get 0 i64.const 7 i64.shr_u i64.xor local.set 0\n".into(),
        _ => format!("local.get 0 i64.const {} i64.rotl local.set 0\n", i & 63),
    }
}

/// 100,000 instructions without a branch.
fn straight() -> String {
    let body: String = (0..25_000).map(step_wat).collect();
    format!("(module (func (export \"run\") (result i64) (local i64)\n{body} local.get 0))")
}

fn straight_result() -> String {
    signed((0..25_000).fold(0, step))
}

/// 100,000 instructions in 20,000 basic blocks.
fn branches() -> String {
    let mut body = String::new();
    for i in 0..10_000u64 {
        let (then, other) = (step_wat(i), step_wat(i + 1));
        write!(body, "local.get 0 i64.const {} i64.and i64.eqz if\n{then} else\n{other} end\n", 1 << (i % 8)).unwrap();
    }
    format!("(module (func (export \"run\") (result i64) (local i64)\n{body} local.get 0))")
}

fn branches_result() -> String {
    signed((0..10_000).fold(0, |x, i| if x & (1 << (i % 8)) == 0 { step(x, i) } else { step(x, i + 1) }))
}

fn signed(x: u64) -> String {
    (x as i64).to_string()
}

/// A br_table of 50,000 targets, to one of 1,000 blocks, run for each index.
fn table() -> String {
    let mut wat = String::from("(module (func $pick (param i32) (result i32)\n");
    wat += &"block\n".repeat(1000);
    wat += "local.get 0 br_table";
    for i in 0..50_000u32 {
        write!(wat, " {}", i.wrapping_mul(7919) % 1000).unwrap();
    }
    wat += " 999\n";
    for i in 0..1000 {
        writeln!(wat, "end i32.const {i} return").unwrap();
    }
    // The return of the outermost block's end makes the rest unreachable.
    wat + ") (func (export \"run\") (result i64) (local $i i32) (local $sum i64)
        (loop $again
            (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
                (i64.extend_i32_u (call $pick (local.get $i)))))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50010))))
        (local.get $sum)))"
}

fn table_result() -> String {
    signed((0..50_010u32).fold(0u64, |sum, i| {
        let target = if i < 50_000 { i.wrapping_mul(7919) % 1000 } else { 999 };
        sum.wrapping_mul(31).wrapping_add(target.into())
    }))
}

/// 10,000 locals, each written and read in a loop.
fn locals() -> String {
    let mut body = String::new();
    for i in 2..10_000 {
        writeln!(body, "local.get {} local.get {} i64.const {i} i64.xor i64.add local.set {i}", i, i - 1).unwrap();
    }
    format!(
        "(module (func (export \"run\") (result i64) (local i32 i64 {})
            loop\n{body}
                local.get 9999 local.set 1
                local.get 0 i32.const 1 i32.add local.tee 0 i32.const 10 i32.lt_u br_if 0
            end local.get 1))",
        "i64 ".repeat(9998)
    )
}

fn locals_result() -> String {
    let mut values = vec![0u64; 10_000];
    for _ in 0..10 {
        for i in 2..10_000 {
            values[i] = values[i].wrapping_add(values[i - 1] ^ i as u64);
        }
        values[1] = values[9999];
    }
    signed(values[1])
}

/// 10,000 nested blocks, left by a branch from the innermost to each hundredth.
fn nesting() -> String {
    let mut wat = String::from("(module (func $leave (param i32) (result i32) (local i32)\n");
    wat += &"block\n".repeat(10_000);
    for depth in (0..10_000).step_by(100) {
        writeln!(wat, "local.get 0 i32.const {depth} i32.eq br_if {depth}").unwrap();
    }
    wat += &"local.get 1 i32.const 1 i32.add local.set 1 end\n".repeat(10_000);
    wat + "local.get 1)
        (func (export \"run\") (result i64) (local $depth i32) (local $sum i64)
            (loop $again
                (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 3))
                    (i64.extend_i32_u (call $leave (local.get $depth)))))
                (br_if $again (i32.lt_u (local.tee $depth (i32.add (local.get $depth) (i32.const 100)))
                    (i32.const 10000))))
            (local.get $sum)))"
}

fn nesting_result() -> String {
    // Leaving block `depth` skips the additions at the ends of the `depth + 1` innermost ones... but the first
    // addition stands before the innermost end.
    signed((0..10_000).step_by(100).fold(0u64, |sum, depth| sum.wrapping_mul(3).wrapping_add(9_999 - depth)))
}

/// 3,000 nested loops that each run twice at the innermost level only.
fn loops() -> String {
    let mut wat = String::from("(module (func (export \"run\") (result i64) (local $n i64)\n");
    wat += &"loop\n".repeat(3_000);
    wat += "local.get $n i64.const 1 i64.add local.set $n\n";
    for i in 0..3_000 {
        writeln!(wat, "local.get $n i64.const {} i64.lt_u br_if 0 end", i / 10).unwrap();
    }
    wat + "local.get $n))"
}

fn loops_result() -> String {
    // A loop that is entered again runs all that is inside of it again; each round of the innermost adds one.
    let mut n = 1u64;
    for i in 0..3_000 {
        n = n.max(i / 10);
    }
    signed(n)
}

/// 300,000 nested loops, each found hot before the next one begins, because all that is inside of it counts for it.
fn hot_loops() -> String {
    let mut wat = String::from("(module (func (export \"run\") (result i64)\n");
    wat += &"loop\n".repeat(300_000);
    wat += &"end\n".repeat(300_000);
    wat + "i64.const 7))"
}

fn hot_loops_result() -> String {
    signed(7)
}

/// 50,000 operands on the stack at once, then folded.
fn operands() -> String {
    let mut wat = String::from("(module (func (export \"run\") (result i64) (local i64)\n");
    for i in 0..50_000 {
        writeln!(wat, "local.get 0 i64.const {i} i64.add").unwrap();
    }
    wat += &"i64.const 3 i64.mul i64.sub\n".repeat(49_999);
    wat + "))"
}

fn operands_result() -> String {
    signed((0..49_999u64).rev().fold(49_999u64, |x, i| i.wrapping_sub(x.wrapping_mul(3))))
}

/// 50,000 values that no compiler can make anew where they are used, all needed at once.
fn loads() -> String {
    let ones = r"\01\00\00\00".repeat(50_000);
    let mut wat = format!("(module (memory 4) (data (i32.const 0) \"{ones}\") (func (export \"run\") (result i32)\n");
    for i in 0..50_000 {
        writeln!(wat, "i32.const {} i32.load", 4 * i).unwrap();
    }
    wat += &"i32.add\n".repeat(49_999);
    wat + "))"
}

/// Blocks and functions with 1,000 parameters and results.
fn wide() -> String {
    let types = "i64 ".repeat(1000);
    let gets: String = (0..1000).map(|i| format!("local.get {} ", (i * 7 + 1) % 1000)).collect();
    let firsts: String = (0..1000).map(|i| format!("i64.const {i} ")).collect();
    format!(
        "(module (type $wide (func (param {types}) (result {types})))
            (func $shuffle (type $wide) {gets})
            (func $twice (type $wide) {gets} call $shuffle block (type $wide) call $shuffle end)
            (func (export \"run\") (result i64) {firsts} call $twice {}))",
        "i64.const 5 i64.mul i64.add ".repeat(999)
    )
}

fn wide_result() -> String {
    let mut values: Vec<u64> = (0..1000).collect();
    for _ in 0..3 {
        values = (0..1000).map(|i| values[(i * 7 + 1) % 1000]).collect();
    }
    signed(values.into_iter().rev().reduce(|x, y| x.wrapping_mul(5).wrapping_add(y)).unwrap())
}

/// A module of 50,000 functions, all in one table, all called.
fn functions() -> String {
    let mut wat = String::from("(module (type $t (func (param i64) (result i64))) (table funcref (elem");
    (0..50_000).for_each(|i| write!(wat, " {i}").unwrap());
    wat += "))\n";
    for i in 0..50_000 {
        if i % 2 == 0 || i < 10 {
            writeln!(wat, "(func (type $t) (i64.mul (local.get 0) (i64.const {})))", i | 1).unwrap();
        } else {
            writeln!(wat, "(func (type $t) (call {} (i64.add (local.get 0) (i64.const {i}))))", i / 2).unwrap();
        }
    }
    wat + "(func (export \"run\") (result i64) (local $i i32) (local $x i64)
        (loop $again
            (local.set $x (call_indirect (type $t) (i64.add (local.get $x) (i64.const 1)) (local.get $i)))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 11))) (i32.const 50000))))
        (local.get $x)))"
}

fn functions_result() -> String {
    fn call(i: u64, x: u64) -> u64 {
        if i.is_multiple_of(2) || i < 10 { x.wrapping_mul(i | 1) } else { call(i / 2, x.wrapping_add(i)) }
    }
    signed((0..50_000).step_by(11).fold(0, |x: u64, i| call(i, x.wrapping_add(1))))
}

/// 20,000 globals and a megabyte of data segments.
fn module_items() -> String {
    let mut wat = String::from("(module (memory 32)\n");
    for i in 0..20_000 {
        writeln!(wat, "(global $g{i} (mut i64) (i64.const {i}))").unwrap();
    }
    for i in 0..2_000 {
        writeln!(wat, "(data (i32.const {}) \"{}\")", i * 1000, "x".repeat(500)).unwrap();
    }
    wat += "(func (export \"run\") (result i64) (local i64)\n";
    for i in (0..20_000).step_by(3) {
        writeln!(wat, "global.get $g{i} local.get 0 i64.add local.tee 0 global.set $g{}", (i * 17) % 20_000).unwrap();
    }
    wat + "local.get 0 i64.const 1000000 i64.mul i32.const 1999400 i64.load8_u i64.add))"
}

fn module_items_result() -> String {
    let mut globals: Vec<u64> = (0..20_000).collect();
    let mut x = 0u64;
    for i in (0..20_000).step_by(3) {
        x = x.wrapping_add(globals[i]);
        globals[(i * 17) % 20_000] = x;
    }
    signed(x.wrapping_mul(1_000_000) + u64::from(b'x'))
}

const CASES: [Case; 12] = [
    Case { name: "100,000 instructions", wat: straight, prints: straight_result },
    Case { name: "20,000 basic blocks", wat: branches, prints: branches_result },
    Case { name: "br_table of 50,000 targets", wat: table, prints: table_result },
    Case { name: "10,000 locals", wat: locals, prints: locals_result },
    Case { name: "10,000 nested blocks", wat: nesting, prints: nesting_result },
    Case { name: "3,000 nested loops", wat: loops, prints: loops_result },
    Case { name: "300,000 hot loops", wat: hot_loops, prints: hot_loops_result },
    Case { name: "50,000 operands", wat: operands, prints: operands_result },
    Case { name: "50,000 loaded operands", wat: loads, prints: || "50000".into() },
    Case { name: "1,000 parameters and results", wat: wide, prints: wide_result },
    Case { name: "50,000 functions", wat: functions, prints: functions_result },
    Case { name: "20,000 globals", wat: module_items, prints: module_items_result },
];

fn check(case: &Case, engine: &[&str]) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let file = folder.path().join("large.wasm");
    fs::write(&file, wat::parse_str((case.wat)())?)?;
    let mut command = common::command(env!("CARGO_BIN_EXE_wasmrun"));
    command.args(["exec", "--cache=off"]).args(engine).args(["--call", "run"]).arg(&file);
    let outcome = run(&mut command, b"", if common::emulated() { LIMIT * 10 } else { LIMIT })?;
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    if !outcome.status.success() || stdout.trim_end() != (case.prints)() {
        return Err(format!("{}: {stdout:?}, not {:?}; {}", outcome.status, (case.prints)(), outcome.stderr).into());
    }
    if outcome.peak_memory > MEMORY << 20 {
        return Err(format!("it took {} MiB", outcome.peak_memory >> 20).into());
    }
    println!("{} {engine:?}: {:.2?}, {} MiB", case.name, outcome.time, outcome.peak_memory >> 20);
    Ok(())
}

fn main() -> ExitCode {
    let engines: &[(&str, &[&str])] = if Engine::has_jit() {
        &[
            ("interp", &["--interp"]),
            ("jit", &["--jit"]),
            ("jit-guard", &["--jit", "--bounds-checks=guard"]),
            ("tiered", &[]),
        ]
    } else {
        &[("interp", &["--interp"])]
    };
    let mut trials = Vec::new();
    for case in &CASES {
        for (engine, flags) in engines {
            trials.push(Trial::test(format!("{} [{engine}]", case.name), move || check(case, flags)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
