//! wasmrun beside wasmtime and wasmi, in one run: kernels, host calls, asynchronous calls, instantiation, WASI's `fd_write`,
//! requests (store, instance, run and drop of a command).
//!
//! usage: wasmrun-peers [--long] [--fuel] [--runs N] [--only RUNTIME,...] [--v8 NODE] [FILTER]
//!
//! Each cell is the best of N runs (default 5), the runtimes taking turns; the ratio is to wasmtime's default. A dash is a
//! runtime that refuses the module. `--v8` adds V8 to the kernels: NODE is the command of Node.js. `--long` runs each kernel for more than two seconds of compiled code (interpreters are given the quick number of rounds then,
//! and their time is scaled). `--fuel` compares runtimes that consume fuel with the same without. FILTER picks rows by part of their name.

#[path = "../../kernels/list.rs"]
mod list;
mod requests;
mod runtimes;
mod v8;

use list::{KERNELS, Kernel, NEWER_KERNELS, load};
use runtimes::{Runtime, Work};
use std::path::Path;

struct Options {
    long: bool,
    fuel: bool,
    runs: usize,
    only: Option<Vec<String>>,
    v8: Option<String>,
    filter: String,
}

fn options() -> Options {
    let mut options = Options { long: false, fuel: false, runs: 5, only: None, v8: None, filter: String::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--long" => options.long = true,
            "--fuel" => options.fuel = true,
            "--runs" => options.runs = args.next().and_then(|n| n.parse().ok()).expect("--runs needs a number"),
            "--only" => {
                options.only = Some(args.next().expect("--only needs names").split(',').map(String::from).collect());
            }
            "--v8" => options.v8 = Some(args.next().expect("--v8 needs a command")),
            _ => options.filter = arg,
        }
    }
    options
}

/// One line of a table: the times of all runtimes for one piece of work.
struct Row {
    name: String,
    /// Seconds per runtime; not a number for one that refuses the module.
    times: Vec<f64>,
}

/// Times a piece of work on all runtimes in turn. `rounds` is what each is given; the time is scaled to `scale` rounds.
fn row(name: &str, runtimes: &[Box<dyn Runtime>], options: &Options, quick: i32, full: i32, make: &Make) -> Row {
    let works =
        runtimes.iter().map(|runtime| (runtime.name(), runtime.is_interpreter(), Some(make(&**runtime)))).collect();
    time_in_turn(name, works, options, quick, full)
}

/// A runtime's name, whether it interprets, and the work unless it refuses the module.
type Contender<'a> = (&'a str, bool, Option<Box<dyn Work>>);

fn time_in_turn(name: &str, works: Vec<Contender<'_>>, options: &Options, quick: i32, full: i32) -> Row {
    let mut times = vec![f64::NAN; works.len()];
    let mut running: Vec<_> = works
        .into_iter()
        .zip(&mut times)
        .filter_map(|((runtime, interpreter, work), best)| {
            Some((runtime, if interpreter { quick } else { full }, work?, best))
        })
        .collect();
    // The first run compiles, and shows whether all compute the same.
    let mut expected = None;
    for (runtime, _, work, _) in &mut running {
        let sum = work.run(quick).1;
        assert_eq!(sum, *expected.get_or_insert(sum), "{runtime} computes {name} differently");
    }
    for _ in 0..options.runs {
        for (_, rounds, work, best) in &mut running {
            let seconds = work.run(*rounds).0.as_secs_f64();
            **best = best.min(seconds * f64::from(full) / f64::from(*rounds));
        }
    }
    Row { name: name.into(), times }
}

type Make<'a> = dyn Fn(&dyn Runtime) -> Box<dyn Work> + 'a;

fn print_table(title: &str, unit: (&str, f64), runtimes: &[Box<dyn Runtime>], rows: &[Row]) {
    print_columns(title, unit, &runtimes.iter().map(|r| r.name()).collect::<Vec<_>>(), rows);
}

fn print_columns(title: &str, unit: (&str, f64), names: &[&str], rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let base = names.iter().position(|name| *name == "wasmtime").unwrap_or(0);
    println!("\n| {title} ({}) | {} |", unit.0, names.join(" | "));
    println!("|---{}|", "|---:".repeat(names.len()));
    for row in rows {
        print!("| {} ", row.name);
        for time in &row.times {
            if time.is_nan() {
                print!("| - ");
            } else {
                print!("| {:.3} ({:.2}) ", time * unit.1, time / row.times[base]);
            }
        }
        println!("|");
    }
    print!("| geometric mean ");
    for i in 0..names.len() {
        let ratios: Vec<f64> = rows.iter().map(|row| row.times[i] / row.times[base]).filter(|r| !r.is_nan()).collect();
        let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
        print!("| {:.3} ", (logs / ratios.len() as f64).exp());
    }
    println!("|");
}

/// Times kernels on all runtimes, and on V8 if that is wanted.
fn print_kernels(title: &str, kernels: &[Kernel], runtimes: &[Box<dyn Runtime>], options: &Options) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    let mut names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name()).collect();
    names.extend(options.v8.as_ref().map(|_| "V8"));
    let mut rows = vec![];
    for kernel in kernels.iter().filter(|kernel| kernel.name.contains(&options.filter)) {
        let module = wat::parse_bytes(&load(&folder, kernel)).expect("the module is right").into_owned();
        let mut works: Vec<Contender<'_>> = runtimes
            .iter()
            .map(|r| (r.name(), r.is_interpreter(), r.accepts(&module).then(|| r.kernel(&module))))
            .collect();
        works.extend(options.v8.iter().map(|node| ("V8", false, Some(v8::kernel(node, &module)))));
        let full = if options.long { kernel.long } else { kernel.quick };
        rows.push(time_in_turn(kernel.name, works, options, kernel.quick, full));
        eprint!(".");
    }
    eprintln!();
    print_columns(title, ("ms", 1e3), &names, &rows);
}

/// A program that writes so many bytes as often as it is told, and tells how many went.
fn writes(bytes: u32) -> Vec<u8> {
    let text = format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 32)
            (func (export "run") (param i32) (result i64) (local i64)
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const {bytes}))
                (loop $again
                    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                    (local.set 1 (i64.add (local.get 1) (i64.load32_u (i32.const 8))))
                    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 1)))"#
    );
    wat::parse_str(text).expect("the module is right")
}

fn main() {
    let options = options();
    let mut runtimes = if options.fuel { runtimes::fuelled() } else { runtimes::all() };
    if let Some(only) = &options.only {
        runtimes.retain(|runtime| only.iter().any(|name| name == runtime.name()));
    }
    let wanted = |name: &str| name.contains(&options.filter);

    print_kernels("kernel", &KERNELS, &runtimes, &options);
    print_kernels("kernel of newer proposals", &NEWER_KERNELS, &runtimes, &options);

    let nothing = wat::parse_str(
        r#"(module (import "host" "nothing" (func $nothing))
            (func (export "run") (param i32) (result i64)
                (loop $again (call $nothing)
                    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (i64.const 0)))"#,
    )
    .expect("the module is right");
    let four = wat::parse_str(
        r#"(module (import "host" "four" (func $four (param i32 i64 i32 i64) (result i64)))
            (func (export "run") (param i32) (result i64) (local i64)
                (loop $again
                    (local.set 1 (call $four (local.get 0) (local.get 1) (i32.const 5) (local.get 1)))
                    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 1)))"#,
    )
    .expect("the module is right");
    let calls = wat::parse_str(
        r#"(module (import "host" "add" (func $add (param i32 i64) (result i64)))
            (func (export "run") (param i32) (result i64) (local i64)
                (loop $again (local.set 1 (call $add (local.get 0) (local.get 1)))
                    (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 1))
            (func (export "same") (param i32) (result i64) (i64.extend_i32_s (local.get 0))))"#,
    )
    .expect("the module is right");
    let module = wat::parse_str(
        r#"(module (memory (export "memory") 1) (table 100 funcref) (global (mut i32) (i32.const 1))
            (elem (i32.const 0) $f $f $f $f $f) (data (i32.const 1024) "some data of this module")
            (func $f (export "f") (param i32) (result i32) (i32.load (local.get 0))))"#,
    )
    .expect("the module is right");
    let mut rows = vec![];
    // Times of one thousand, so that nanoseconds and microseconds are those of one.
    let thousand = |row: Row| Row { times: row.times.iter().map(|t| t / 1000.0).collect(), ..row };
    let to_host = [
        ("guest to host", &calls),
        ("guest to host, no arguments", &nothing),
        ("guest to host, four arguments", &four),
    ];
    for (name, module) in to_host.into_iter().filter(|(name, _)| wanted(name)) {
        let measured =
            row(name, &runtimes, &options, 100_000, 100_000, &|runtime: &dyn Runtime| runtime.guest_to_host(module));
        rows.push(Row { times: measured.times.iter().map(|t| t / 100.0).collect(), ..measured });
    }
    if wanted("host to guest") {
        let make: &Make = &|runtime| runtime.host_to_guest(&calls);
        let measured = row("host to guest", &runtimes, &options, 100_000, 100_000, make);
        rows.push(Row { times: measured.times.iter().map(|t| t / 100.0).collect(), ..measured });
    }
    print_table("calls", ("ns each", 1e6), &runtimes, &rows);
    let mut rows = vec![];
    if wanted("instantiation") {
        let make: &Make = &|runtime| runtime.instantiation(&module);
        rows.push(thousand(row("store and instance", &runtimes, &options, 1000, 1000, make)));
    }
    print_table("instantiation", ("us each", 1e6), &runtimes, &rows);

    runtimes.retain(|runtime| runtime.has_async());
    let mut rows = vec![];
    let asynchronous: [(&str, &Make); 2] = [
        ("host to guest, asynchronous", &|runtime| runtime.host_to_guest_async(&calls)),
        ("guest to host and suspended", &|runtime| runtime.suspension(&nothing)),
    ];
    for (name, make) in asynchronous.into_iter().filter(|(name, _)| wanted(name)) {
        let measured = row(name, &runtimes, &options, 10_000, 10_000, make);
        rows.push(Row { times: measured.times.iter().map(|t| t / 10.0).collect(), ..measured });
    }
    print_table("asynchronous calls", ("ns each", 1e6), &runtimes, &rows);

    runtimes.retain(|runtime| runtime.has_wasi());
    let mut rows = vec![];
    for (name, bytes) in [("fd_write, 16 bytes", 16), ("fd_write, 1 MiB", 1 << 20)] {
        if wanted(name) {
            let make: &Make = &|runtime| runtime.fd_write(&writes(bytes));
            rows.push(thousand(row(name, &runtimes, &options, 1000, 1000, make)));
        }
    }
    print_table("WASI", ("us each", 1e6), &runtimes, &rows);
    print_requests(&options);
}

/// Commands of which each request runs one: what `fd_write` alone takes, and programs of C and Rust.
fn commands() -> [(&'static str, Vec<u8>); 3] {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime-tests/programs");
    let program = |name: &str| std::fs::read(programs.join(name)).expect("the program is there");
    let smallest = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#,
    );
    [
        ("smallest", smallest.expect("the module is right")),
        ("hello.wasm", program("hello.wasm")),
        ("words.wasm", program("words.wasm")),
    ]
}

/// Times requests, the servers taking turns; the ratio is to wasmtime with its pooling allocator.
fn print_requests(options: &Options) {
    const REQUESTS: u32 = 2000;
    let wanted = |name: &str| format!("request {name}").contains(&options.filter);
    let mut names: Option<Vec<String>> = None;
    for (name, module) in commands().into_iter().filter(|(name, _)| wanted(name)) {
        let mut servers = requests::servers(&module);
        if let Some(only) = &options.only {
            servers.retain(|server| only.iter().any(|name| server.name().starts_with(name)));
        }
        // What is hot gets compiled.
        servers.iter_mut().for_each(|server| _ = requests::time(&mut **server, 500));
        let outputs: Vec<_> = servers.iter_mut().map(|server| server.handle()).collect();
        assert!(outputs.iter().all(|output| *output == outputs[0]), "they write the same");
        let mut times = vec![f64::INFINITY; servers.len()];
        for _ in 0..options.runs {
            for (server, best) in servers.iter_mut().zip(&mut times) {
                *best = best.min(requests::time(&mut **server, REQUESTS).as_secs_f64() / f64::from(REQUESTS));
            }
        }
        if names.is_none() {
            let all: Vec<_> = servers.iter().map(|server| server.name().to_owned()).collect();
            println!("\n| request (us each) | {} |\n|---{}|", all.join(" | "), "|---:".repeat(all.len()));
            names = Some(all);
        }
        print!("| {name} ");
        for time in &times {
            print!("| {:.2} ({:.2}) ", time * 1e6, time / times[0]);
        }
        println!("|");
    }
}
