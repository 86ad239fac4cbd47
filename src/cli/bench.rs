//! `wasmrun bench`: times whole runs of the tool on one program, with the default tiers, the interpreter and the JIT alone.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Failure};
use super::sandbox::SandboxArgs;
use super::{input, process, status};
use crate::Engine;
use crate::printable::Printable;

/// Time a program on the default tiers, the interpreter and the JIT, and check that all give the same output
#[derive(Args)]
#[command(after_help = "\
Columns:
  start-up    from the start of the process to the program's first instruction,
              and from its last to the end of the process; without the cache
  first run   all of a run without the cache, compilation included
  later runs  all of a run that finds in the cache what those before have
              compiled: the median, and from the fastest to the slowest
  peak        such a run without start-up: what long runs come to

Start-up, first run and peak are the fastest of their runs. The engines take
turns. The program's standard input is empty, its output is compared and not
shown.

Examples:
  wasmrun bench hello.wasm
  wasmrun bench --runs 10 --dir . sort.wasm words.txt")]
pub(super) struct BenchArgs {
    /// The module; all that follows belongs to the program
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["FILE", "ARGS"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file_and_args: Vec<OsString>,

    /// Run this exported function instead of the program, as exec --call does
    #[arg(long, value_name = "EXPORT")]
    call: Option<String>,

    /// Runs of each kind on each engine; fewer if they take long
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Run native code from a file of `wasmrun compile`, whose name ends in .cwasm: it runs outside of any sandbox
    #[arg(long)]
    allow_precompiled: bool,

    /// Print all times, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    sandbox: SandboxArgs,
}

/// No more runs of a kind are begun after this much time.
const ENOUGH: Duration = Duration::from_secs(30);

/// Columns of the longest bar.
const BAR: f64 = 20.0;

/// An engine, with the times of its runs.
struct Measured {
    name: &'static str,
    flag: Option<&'static str>,
    first: Vec<Run>,
    later: Vec<Run>,
    /// Of the last run.
    output: Option<Output>,
}

/// The times of one run.
#[derive(Clone, Copy, Debug)]
struct Run {
    whole: Duration,
    /// The part between the program's first instruction and its last.
    program: Duration,
}

impl Run {
    fn startup(&self) -> Duration {
        self.whole.saturating_sub(self.program)
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<u8, Failure> {
    let file = &args.file_and_args[0];
    if file == "-" {
        return Err(Failure::usage("bench runs the module many times, so it cannot come from standard input"));
    }
    let module = input::module(&Engine::default(), file, args.allow_precompiled)?;
    drop(module);
    let engine = |name, flag| Measured { name, flag, first: Vec::new(), later: Vec::new(), output: None };
    let mut engines = vec![engine("interpreter", Some("--interp"))];
    if Engine::has_jit() {
        engines.insert(0, engine("tiers", None));
        engines.push(engine("JIT", Some("--jit")));
    }
    let bench = Bench { args, cache: CacheFolder::new()? };
    bench.rounds(&mut engines, "first run", |bench, engine| {
        let run = bench.run(engine, false)?;
        engine.first.push(run);
        Ok(())
    })?;
    let output = same_output(&engines)?.clone();
    for engine in &mut engines {
        // What the later runs find in the cache.
        bench.run(engine, true)?;
    }
    bench.rounds(&mut engines, "later run", |bench, engine| {
        let run = bench.run(engine, true)?;
        engine.later.push(run);
        Ok(())
    })?;
    match args.json {
        true => output::print(&(output::json(&as_json(&engines, &output)) + "\n"))?,
        false => output::print(&table(args, &engines, &output))?,
    }
    Ok(0)
}

/// A folder for the cache of the later runs.
struct CacheFolder(PathBuf);

impl CacheFolder {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("wasmrun-bench-{:016x}", rand::random::<u64>()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| Failure::error(format!("cannot make a folder for the cache: {error}")))?;
        process::remove_at_interrupt(Some(&folder));
        Ok(CacheFolder(folder))
    }
}

impl Drop for CacheFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        process::remove_at_interrupt(None);
    }
}

struct Bench<'a> {
    args: &'a BenchArgs,
    cache: CacheFolder,
}

impl Bench<'_> {
    /// Does something with each engine in turn, as often as there are to be runs.
    fn rounds(
        &self,
        engines: &mut [Measured],
        what: &str,
        each: impl Fn(&Self, &mut Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        for round in 1..=self.args.runs {
            for engine in &mut *engines {
                progress(&format!("{}: {what} {round} of {}", engine.name, self.args.runs));
                let result = each(self, engine);
                progress("");
                result?;
            }
            if start.elapsed() > ENOUGH {
                break;
            }
        }
        Ok(())
    }

    /// Runs the program once, and checks that its output is that of the engine's run before.
    fn run(&self, engine: &mut Measured, is_cached: bool) -> Result<Run, Failure> {
        let name = engine.name;
        let exe = std::env::current_exe();
        let exe = exe.map_err(|error| Failure::error(format!("cannot find wasmrun itself: {error}")))?;
        let mut command = Command::new(&exe);
        let allowed = self.args.allow_precompiled.then_some("--allow-precompiled");
        command.args(["exec", "--stats=json"]).args(allowed).args(engine.flag).args(self.args.sandbox.to_args());
        if let Some(func) = &self.args.call {
            command.arg("--call").arg(func);
        }
        match is_cached {
            true => command.arg("--cache-dir").arg(&self.cache.0),
            false => command.arg("--cache=off"),
        };
        command.arg("--").args(&self.args.file_and_args);
        let start = Instant::now();
        let result = command.stdin(Stdio::null()).output();
        let whole = start.elapsed();
        let result = result.map_err(|error| Failure::error(format!("cannot start wasmrun: {error}")))?;
        match result.status.code() {
            None => return Err(Failure::error(format!("{name}: ended by a signal: {}", result.status))),
            Some(code) if [status::ERROR, status::INVALID, status::TRAP].map(i32::from).contains(&code) => {
                let stderr = String::from_utf8_lossy(&result.stderr);
                let lines: Vec<_> = stderr.lines().filter(|line| report(line).is_none()).collect();
                return Err(Failure::new(code as u8, format!("{name}: the program failed\n{}", lines.join("\n"))));
            }
            Some(_) => {}
        }
        let stderr = String::from_utf8_lossy(&result.stderr);
        let program = stderr.lines().rev().find_map(run_phase);
        let program = program.ok_or_else(|| Failure::error(format!("{name}: the run does not tell its times")))?;
        if let Some(before) = &engine.output
            && let Some(what) = difference(before, &result)
        {
            return Err(Failure::new(status::FAILED, format!("{name}: two runs differ: {what}")));
        }
        engine.output = Some(result);
        Ok(Run { whole, program })
    }
}

/// The report of `--stats=json`, if the line is that.
fn report(line: &str) -> Option<Value> {
    let stats: Value = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    (stats["phases_ms"].is_object() && stats["code"].is_object()).then_some(stats)
}

/// How long the program itself ran, if the line is a report and the program was started.
fn run_phase(line: &str) -> Option<Duration> {
    let millis = report(line)?["phases_ms"]["run"].as_f64()?;
    Duration::try_from_secs_f64(millis / 1000.0).ok()
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

/// The output of all engines, each of which has run.
fn same_output(engines: &[Measured]) -> Result<&Output, Failure> {
    let mut outputs = engines.iter().filter_map(|engine| Some((engine.name, engine.output.as_ref()?)));
    let (first, output) = outputs.next().expect("there is at least one engine");
    for (name, other) in outputs {
        if let Some(what) = difference(output, other) {
            return Err(Failure::new(status::FAILED, format!("{first} and {name} differ: {what}")));
        }
    }
    Ok(output)
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

/// The least, the median and the most of some times, of which there is one at least.
fn spread(times: impl Iterator<Item = Duration>) -> [Duration; 3] {
    let mut times: Vec<_> = times.collect();
    times.sort();
    [times[0], times[times.len() / 2], times[times.len() - 1]]
}

impl Measured {
    fn startup(&self) -> Duration {
        spread(self.first.iter().map(Run::startup))[0]
    }

    fn first(&self) -> Duration {
        spread(self.first.iter().map(|run| run.whole))[0]
    }

    fn later(&self) -> [Duration; 3] {
        spread(self.later.iter().map(|run| run.whole))
    }

    fn peak(&self) -> Duration {
        spread(self.later.iter().map(|run| run.program))[0]
    }
}

fn table(args: &BenchArgs, engines: &[Measured], output: &Output) -> String {
    let shown = |arg: &OsString| Printable::line(&arg.to_string_lossy()).to_string();
    let program: Vec<_> = args.file_and_args.iter().map(shown).collect();
    let mut text = format!("{}\n\n", program.join(" "));
    text.push_str("               start-up  first run  later runs: median (from, to)           peak\n");
    let peaks = engines.iter().map(|engine| engine.peak().as_secs_f64());
    let fastest = peaks.clone().fold(f64::INFINITY, f64::min);
    let slowest = peaks.fold(0.0, f64::max);
    for engine in engines {
        let [least, median, most] = engine.later().map(seconds);
        let peak = engine.peak();
        text.push_str(&format!(
            "  {:<11} {:>9}  {:>9}  {median:>9} ({}, {})  {:>9} {:>6.2}x {}\n",
            engine.name,
            seconds(engine.startup()),
            seconds(engine.first()),
            least.trim(),
            most.trim(),
            seconds(peak),
            peak.as_secs_f64() / fastest,
            bar(peak.as_secs_f64() / slowest),
        ));
    }
    let runs = engines.iter().map(|engine| engine.first.len().min(engine.later.len())).min().unwrap_or_default();
    let times = if runs == 1 { "run" } else { "runs" };
    let (bytes, code) = (output.stdout.len(), output.status.code().unwrap_or_default());
    text.push_str(&format!(
        "\n  {runs} {times} of each kind, same output each time ({bytes} bytes), exit status {code}\n"
    ));
    text
}

/// A time, with three digits at least.
fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        time if time < 0.0995 => format!("{:.2} ms", time * 1000.0),
        time if time < 9.995 => format!("{time:.3} s"),
        time => format!("{time:.1} s"),
    }
}

fn as_json(engines: &[Measured], output: &Output) -> Value {
    let millis = |time: Duration| time.as_micros() as f64 / 1000.0;
    let runs = |runs: &[Run]| -> Vec<_> {
        runs.iter().map(|run| json!({ "whole_ms": millis(run.whole), "program_ms": millis(run.program) })).collect()
    };
    let engines: Vec<_> = engines
        .iter()
        .map(|engine| {
            json!({
                "engine": engine.name,
                "startup_ms": millis(engine.startup()),
                "first_run_ms": millis(engine.first()),
                "later_run_median_ms": millis(engine.later()[1]),
                "peak_ms": millis(engine.peak()),
                "first_runs": runs(&engine.first),
                "later_runs": runs(&engine.later),
            })
        })
        .collect();
    let (bytes, code) = (output.stdout.len(), output.status.code());
    json!({ "engines": engines, "output_bytes": bytes, "exit_status": code })
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
    use super::*;

    #[test]
    fn bars_have_eighths() {
        assert_eq!(bar(1.0).chars().count(), 20);
        assert_eq!(bar(0.0), "▏");
        assert_eq!(bar(0.5), "█".repeat(10));
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [123, 99_400, 99_600, 9_994_000, 61_234_000].map(|micros| seconds(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.12 ms", "99.40 ms", "0.100 s", "9.994 s", "61.2 s"]);
    }

    #[test]
    fn the_time_of_the_program_is_told_by_the_report_only() {
        assert_eq!(run_phase(r#"{"phases_ms":{"load":1.0,"run":2.5},"code":{}}"#), Some(Duration::from_micros(2500)));
        for line in ["", "{", "run 2.5", r#"{"phases_ms":{"run":2.5}}"#, r#"{"phases_ms":{"run":-1.0},"code":{}}"#] {
            assert_eq!(run_phase(line), None, "{line}");
        }
    }

    #[test]
    fn the_middle_of_the_times_is_the_median() {
        let times = [5, 1, 9].map(Duration::from_millis);
        assert_eq!(spread(times.into_iter()), [1, 5, 9].map(Duration::from_millis));
    }
}
