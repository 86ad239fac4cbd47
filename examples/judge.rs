//! A judge of other people's programs: runs a WASI program on an input, with limits of all kinds, and says whether its
//! output is the expected one.
//!
//!     cargo run --release --example judge -- PROGRAM.wasm INPUT EXPECTED
//!
//! The program sees its input and nothing else: no files, no variables, a clock and randomness that are the same in each run.
//! The exit status is 0 only for the right answer.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use std::{env, fmt, fs, io};

use wasmrun::{Budget, BudgetItem, BudgetUsed, Engine, Linker, Module, Store, WasiEnv, wasi};

/// What a program may use. Wall time is for programs that wait: one that computes has used up its CPU time before.
fn budget() -> Budget {
    Budget::new()
        .cpu_time(Duration::from_secs(2))
        .wall_time(Duration::from_secs(10))
        .memory(64 << 20)
        .stack(512 << 10)
        .output(1 << 20)
        .open_files(3)
}

/// The longest program that is read: to compile a longer one takes time and memory that no budget bounds.
const MAX_PROGRAM: u64 = 16 << 20;

/// How a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    WrongAnswer,
    TimeLimit,
    MemoryLimit,
    OutputLimit,
    RuntimeError(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ok => f.write_str("OK"),
            Verdict::WrongAnswer => f.write_str("wrong answer"),
            Verdict::TimeLimit => f.write_str("time limit"),
            Verdict::MemoryLimit => f.write_str("memory limit"),
            Verdict::OutputLimit => f.write_str("output limit"),
            Verdict::RuntimeError(what) => write!(f, "runtime error: {what}"),
        }
    }
}

/// Judges many programs on many inputs: what is compiled of one is shared by all its runs.
struct Judge {
    engine: Engine,
    linker: Linker<WasiEnv>,
}

impl Judge {
    fn new() -> wasmrun::Result<Self> {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker, |env: &mut WasiEnv| env)?;
        Ok(Judge { engine, linker })
    }

    /// Runs a program on one input.
    fn run(&self, module: &Module, input: Vec<u8>, expected: &[u8], budget: &Budget) -> (Verdict, BudgetUsed) {
        let env = WasiEnv::new()
            .with_args(vec!["program".into()])
            .with_stdin(io::Cursor::new(input))
            .with_virtual_clock(SystemTime::UNIX_EPOCH)
            .with_seed(0);
        let mut store = Store::new(&self.engine, env);
        let result = store.set_budget(budget).and_then(|()| self.start(&mut store, module));
        let reached = store.budget_reached();
        let verdict = match result {
            // It has ended by itself, but maybe for want of something.
            Ok(status) => match &reached[..] {
                _ if reached.contains(&BudgetItem::Output) => Verdict::OutputLimit,
                _ if status != 0 && reached.contains(&BudgetItem::Memory) => Verdict::MemoryLimit,
                _ if status != 0 => Verdict::RuntimeError(format!("exit status {status}")),
                _ if is_same(&store.data().get_stdout(), expected) => Verdict::Ok,
                _ => Verdict::WrongAnswer,
            },
            Err(error) => match error.budget_item() {
                Some(BudgetItem::CpuTime | BudgetItem::WallTime) => Verdict::TimeLimit,
                Some(BudgetItem::Memory) => Verdict::MemoryLimit,
                // A program that has run out of memory may trap by itself.
                None if reached.contains(&BudgetItem::Memory) => Verdict::MemoryLimit,
                _ => Verdict::RuntimeError(error.to_string()),
            },
        };
        (verdict, store.budget_used())
    }

    /// The exit status of the program.
    fn start(&self, store: &mut Store<WasiEnv>, module: &Module) -> wasmrun::Result<i32> {
        let instance = self.linker.instantiate(&mut *store, module)?;
        match instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call(store, ()) {
            Ok(()) => Ok(0),
            Err(error) => error.exit_code().ok_or(error),
        }
    }
}

/// Whether two texts are the same but for blanks at the ends of lines and empty lines at the end.
fn is_same(output: &[u8], expected: &[u8]) -> bool {
    let lines = |text: &[u8]| {
        let text = text.trim_ascii_end().split(|byte| *byte == b'\n');
        text.map(|line| line.trim_ascii_end().to_vec()).collect::<Vec<_>>()
    };
    lines(output) == lines(expected)
}

fn read_program(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MAX_PROGRAM {
        return Err(io::Error::other("the program is too long"));
    }
    fs::read(path)
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [program, input, expected] = &args[..] else {
        return Err("usage: judge PROGRAM.wasm INPUT EXPECTED".into());
    };
    let judge = Judge::new()?;
    let module = Module::new(&judge.engine, read_program(program.as_ref())?)?;
    let (verdict, used) = judge.run(&module, fs::read(input)?, &fs::read(expected)?, &budget());
    println!("{verdict}");
    println!("time {:?}, of the processor {:?}", used.wall_time, used.cpu_time.unwrap_or_default());
    println!("memory {} bytes, output {} bytes", used.memory, used.output);
    Ok(if verdict == Verdict::Ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(program: impl AsRef<[u8]>, input: &str, expected: &str, budget: Budget) -> Verdict {
        let judge = Judge::new().unwrap();
        let module = Module::new(&judge.engine, program).unwrap();
        judge.run(&module, input.into(), expected.as_bytes(), &budget).0
    }

    /// A program of these instructions.
    fn program(body: &str) -> String {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (data (i32.const 0) "\10\00\00\00\00\10\00\00")
                (func $start (export "_start") {body}))"#
        )
    }

    #[test]
    fn programs_of_the_tests_are_judged() {
        let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/");
        let hello = fs::read(format!("{programs}hello.wasm")).unwrap();
        assert_eq!(judged(&hello, "", "Hello from WebAssembly!", budget()), Verdict::Ok);
        assert_eq!(judged(&hello, "", "Hello, world", budget()), Verdict::WrongAnswer);
        assert_eq!(judged(&hello, "", "Hello", budget().output(5)), Verdict::OutputLimit);
        assert_eq!(judged(&hello, "", "Hello", budget().memory(1 << 16)), Verdict::MemoryLimit);
        let words = fs::read(format!("{programs}words.wasm")).unwrap();
        assert_ne!(judged(&words, "one two one", "", budget()), Verdict::Ok);
    }

    #[test]
    fn programs_that_misbehave_are_told_apart() {
        let cases = [
            ("(loop (br 0))", Verdict::TimeLimit),
            ("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable", Verdict::MemoryLimit),
            ("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))", Verdict::Ok),
            (
                "(loop (br_if 0 (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))",
                Verdict::OutputLimit,
            ),
            ("(call $exit (i32.const 3))", Verdict::RuntimeError("exit status 3".into())),
            ("(call $exit (i32.const 0))", Verdict::Ok),
            ("unreachable", Verdict::RuntimeError("unreachable".into())),
            ("(call $start)", Verdict::RuntimeError("call stack exhausted (limited by Budget::stack)".into())),
        ];
        for (body, expected) in cases {
            let budget = budget().cpu_time(Duration::from_millis(300));
            assert_eq!(judged(program(body), "", "", budget), expected, "{body}");
        }
    }

    #[test]
    fn blanks_at_the_ends_do_not_matter() {
        assert!(is_same(b"1 2 \n3\n\n", b"1 2\n3"));
        assert!(!is_same(b"1  2\n3", b"1 2\n3") && !is_same(b"1\n\n2", b"1\n2"));
    }
}
