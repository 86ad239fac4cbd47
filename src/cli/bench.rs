//! `wasmrun bench`: times whole runs of the tool on one program, with the interpreter and with the JIT.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::output::{self, Failure};
use super::sandbox::SandboxArgs;
use super::{input, status};
use crate::Engine;
use crate::printable::Printable;

/// Time a program on interpreter and JIT, and check that both give the same output
#[derive(Args)]
#[command(after_help = "\
The times are those of whole runs of `wasmrun exec`, start-up and compilation
included; the fastest counts. The program's standard input is empty, its output
is compared and not shown.

Examples:
  wasmrun bench hello.wasm
  wasmrun bench --runs 10 --dir . sort.wasm words.txt")]
pub(super) struct BenchArgs {
    /// The module; all that follows belongs to the program
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["FILE", "ARGS"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file_and_args: Vec<OsString>,

    /// Runs of each engine; fewer if they take long
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Run native code from a file of `wasmrun compile`, whose name ends in .cwasm: it runs outside of any sandbox
    #[arg(long)]
    allow_precompiled: bool,

    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// An engine that has had this much time is not run again.
const ENOUGH: Duration = Duration::from_secs(20);

/// Columns of the longest bar.
const BAR: f64 = 32.0;

/// The times and the output of the runs on one engine.
struct Measured {
    name: &'static str,
    times: Vec<Duration>,
    output: Output,
}

pub(super) fn run(args: &BenchArgs) -> Result<u8, Failure> {
    let file = &args.file_and_args[0];
    if file == "-" {
        return Err(Failure::usage("bench runs the module many times, so it cannot come from standard input"));
    }
    let module = input::module(&Engine::default(), file, args.allow_precompiled)?;
    drop(module);
    let mut measured = vec![measure(args, "interpreter", "--interp")?];
    if Engine::has_jit() {
        measured.push(measure(args, "JIT", "--jit")?);
    }
    let [first, others @ ..] = &measured[..] else { unreachable!("the interpreter is always there") };
    for other in others {
        if let Some(what) = difference(&first.output, &other.output) {
            return Err(Failure::new(status::FAILED, format!("{} and {} differ: {what}", first.name, other.name)));
        }
    }
    output::print(&table(args, &measured))?;
    Ok(0)
}

fn measure(args: &BenchArgs, name: &'static str, flag: &str) -> Result<Measured, Failure> {
    let exe =
        std::env::current_exe().map_err(|error| Failure::error(format!("cannot find wasmrun itself: {error}")))?;
    let mut times = Vec::new();
    let mut output: Option<Output> = None;
    let mut total = Duration::ZERO;
    while times.len() < args.runs as usize && total < ENOUGH {
        progress(&format!("{name}: run {} of {}", times.len() + 1, args.runs));
        let mut command = Command::new(&exe);
        command
            .args(["exec", "--cache=off", flag])
            .args(args.allow_precompiled.then_some("--allow-precompiled"))
            .args(args.sandbox.to_args())
            .arg("--")
            .args(&args.file_and_args);
        let start = Instant::now();
        let result = command.stdin(Stdio::null()).output();
        let time = start.elapsed();
        progress("");
        let result = result.map_err(|error| Failure::error(format!("cannot start wasmrun: {error}")))?;
        match (result.status.code(), &output) {
            (None, _) => return Err(Failure::error(format!("{name}: ended by a signal: {}", result.status))),
            (Some(code), _) if [status::ERROR, status::INVALID, status::TRAP].map(i32::from).contains(&code) => {
                let stderr = String::from_utf8_lossy(&result.stderr);
                let message = format!("{name}: the program failed\n{stderr}");
                return Err(Failure::new(code as u8, message));
            }
            (_, Some(before)) => {
                if let Some(what) = difference(before, &result) {
                    return Err(Failure::new(status::FAILED, format!("{name}: two runs differ: {what}")));
                }
            }
            (_, None) => {}
        }
        output = Some(result);
        total += time;
        times.push(time);
    }
    times.sort();
    Ok(Measured { name, times, output: output.expect("there is at least one run") })
}

/// Shows progress on a terminal, in a line that the next call overwrites.
fn progress(text: &str) {
    use std::io::Write;
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}

/// How two runs differ to an observer, if they do.
fn difference(a: &Output, b: &Output) -> Option<String> {
    if a.status != b.status {
        return Some(format!("{}, then {}", a.status, b.status));
    }
    if a.stdout == b.stdout {
        return None;
    }
    let at = a.stdout.iter().zip(&b.stdout).take_while(|(a, b)| a == b).count();
    Some(format!("standard output, from byte {at} on (of {} and {})", a.stdout.len(), b.stdout.len()))
}

fn table(args: &BenchArgs, measured: &[Measured]) -> String {
    let best = |m: &Measured| m.times[0].as_secs_f64();
    let fastest = measured.iter().map(best).fold(f64::INFINITY, f64::min);
    let slowest = measured.iter().map(best).fold(0.0, f64::max);
    let shown = |arg: &OsString| Printable::line(&arg.to_string_lossy()).to_string();
    let program: Vec<_> = args.file_and_args.iter().map(shown).collect();
    let output = &measured[0].output;
    let mut text = format!("{}\n\n", program.join(" "));
    text.push_str("  engine          fastest     median\n");
    for m in measured {
        let (time, median) = (best(m), m.times[m.times.len() / 2].as_secs_f64());
        let ratio = time / fastest;
        text.push_str(&format!(
            "  {:<12} {:>9.3} s {:>8.3} s  {:<width$} {ratio:.2}x\n",
            m.name,
            time,
            median,
            bar(time / slowest),
            width = BAR as usize
        ));
    }
    let runs = measured.iter().map(|m| m.times.len().to_string()).collect::<Vec<_>>().join(" and ");
    let bytes = output.stdout.len();
    let code = output.status.code().unwrap_or_default();
    text.push_str(&format!("\n  {runs} runs, same output each time ({bytes} bytes), exit status {code}\n"));
    text
}

/// A bar for a share of the whole, with eighths of a column.
fn bar(share: f64) -> String {
    let eighths = (share * BAR * 8.0).round().max(1.0) as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend([None, Some('▏'), Some('▎'), Some('▍'), Some('▌'), Some('▋'), Some('▊'), Some('▉')][eighths % 8]);
    bar
}

#[cfg(test)]
mod tests {
    #[test]
    fn bars_have_eighths() {
        assert_eq!(super::bar(1.0).chars().count(), 32);
        assert_eq!(super::bar(0.0), "▏");
        assert_eq!(super::bar(0.5), "█".repeat(16));
    }
}
