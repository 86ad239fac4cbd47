//! `--stats`: a report on standard error of how the time of a run was spent, and what the program used.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::limits::{LimitArgs, used_as_json};
use super::output;
use crate::sys::{peak_memory, process_time};
use crate::{BudgetItem, BudgetUsed, Engine, Stats, ThreadTimes, Work};

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table
    Text,
    /// One line of JSON
    Json,
}

/// What a program has used, and the limits that it had and came to.
pub(super) struct Usage<'a> {
    pub used: BudgetUsed,
    pub reached: Vec<BudgetItem>,
    pub limits: &'a LimitArgs,
}

/// Times the phases of a run.
pub(super) struct Phases {
    begun: Instant,
    phases: Vec<Phase>,
    /// Processor time of all threads when the last phase ended.
    cpu: Duration,
}

/// A phase, the time that it took, and the processor time of all threads meanwhile.
struct Phase {
    name: &'static str,
    time: Duration,
    cpu: Duration,
}

impl Phases {
    pub fn start() -> Self {
        Phases { begun: Instant::now(), phases: Vec::new(), cpu: Duration::ZERO }
    }

    /// Ends the phase that began when the last one ended.
    pub fn end(&mut self, name: &'static str) {
        let (time, cpu) = (self.begun.elapsed().saturating_sub(self.total()), process_time());
        self.phases.push(Phase { name, time, cpu: cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu)) });
    }

    /// The processor time of all threads in all of them.
    pub fn cpu(&self) -> Duration {
        self.cpu
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.phases.iter().map(|phase| phase.time).sum()
    }

    /// Prints the report.
    pub fn report(&self, engine: &Engine, usage: &Usage<'_>, format: Format) {
        let stats = engine.stats();
        let text = match format {
            Format::Text => self.text(&stats, usage),
            Format::Json => self.json(&stats, usage),
        };
        output::tell(&text);
    }

    fn text(&self, stats: &Stats, usage: &Usage<'_>) -> String {
        let mut out = String::from("phase                time    CPU time\n");
        for Phase { name, time, cpu } in &self.phases {
            let _ = writeln!(out, "{name:<16} {:>8.1} ms {:>8.1} ms", millis(*time), millis(*cpu));
        }
        let _ = writeln!(out, "\nthreads          CPU time        time   share");
        for (name, ThreadTimes { cpu, wall }, share) in self.threads(stats) {
            let share = 100.0 * share;
            let _ = writeln!(out, "{name:<16} {:>8.1} ms {:>8.1} ms {share:>5.0} %", millis(cpu), millis(wall));
        }
        if let Some(cores) = stats.cores {
            let quota = stats.cpu_quota.map(|quota| format!(", a quota of {}", quota.as_secs_f64()));
            let _ = writeln!(out, "processors: {cores}{}", quota.unwrap_or_default());
        }
        let _ = writeln!(out, "\ncode             functions        wasm        code        time");
        for (name, work) in works(stats) {
            let (wasm, code) = (output::bytes(work.wasm_bytes), output::bytes(work.code_bytes));
            let _ = writeln!(
                out,
                "{:<16} {:>9} {wasm:>11} {code:>11} {:>8.1} ms",
                name.replace('_', " "),
                work.functions,
                millis(work.time)
            );
        }
        let _ = write!(out, "\n{}", usage.limits.used_as_text(&usage.used));
        let Stats { loops_compiled, loops_entered, refused, .. } = stats;
        let _ = writeln!(out, "\non-stack replacement: {loops_compiled} compiled, {loops_entered} entered");
        if *refused > 0 {
            let _ = writeln!(out, "refused by the compiler: {refused}");
        }
        if let Some(peak) = peak_memory() {
            let _ = writeln!(out, "peak memory: {}", output::bytes(peak));
        }
        out
    }

    fn json(&self, stats: &Stats, usage: &Usage<'_>) -> String {
        let phases: serde_json::Map<_, _> =
            self.phases.iter().map(|phase| (phase.name.to_string(), millis(phase.time).into())).collect();
        let cpu: serde_json::Map<_, _> =
            self.phases.iter().map(|phase| (phase.name.to_string(), millis(phase.cpu).into())).collect();
        let threads: serde_json::Map<_, _> = self
            .threads(stats)
            .into_iter()
            .map(|(name, ThreadTimes { cpu, wall }, share)| {
                (name.to_string(), serde_json::json!({ "cpu_ms": millis(cpu), "ms": millis(wall), "share": share }))
            })
            .collect();
        let code: serde_json::Map<_, _> = works(stats)
            .into_iter()
            .map(|(name, work)| {
                let value = serde_json::json!({
                    "functions": work.functions,
                    "wasm_bytes": work.wasm_bytes,
                    "code_bytes": work.code_bytes,
                    "ms": millis(work.time),
                });
                (name.to_string(), value)
            })
            .collect();
        let value = serde_json::json!({
            "phases_ms": phases,
            "phases_cpu_ms": cpu,
            "threads": threads,
            "processors": stats.cores,
            "cpu_quota": stats.cpu_quota.map(|quota| quota.as_secs_f64()),
            "code": code,
            "osr": { "compiled": stats.loops_compiled, "entered": stats.loops_entered },
            "refused": stats.refused,
            "used": used_as_json(&usage.used, &usage.reached),
            "peak_memory_bytes": peak_memory(),
        });
        format!("{value}\n")
    }
}

impl Phases {
    /// Kinds of threads, with the times of each and the share of a processor that they got. What is neither the compiler's
    /// nor validation's is the program's.
    fn threads(&self, stats: &Stats) -> [(&'static str, ThreadTimes, f64); 3] {
        let Stats { compilers, validation, .. } = *stats;
        let cpu = self.cpu.saturating_sub(compilers.cpu + validation.cpu);
        let program = ThreadTimes { cpu, wall: self.total() };
        [("program", program), ("compilers", compilers), ("validation", validation)]
            .map(|(name, times)| (name, times, times.share()))
    }
}

/// Kinds of code, by the names that they have in JSON.
fn works(stats: &Stats) -> [(&'static str, Work); 6] {
    [
        ("interpreted", stats.interpreted),
        ("cached_bytecode", stats.cached_bytecode),
        ("baseline", stats.baseline),
        ("quick", stats.quick),
        ("best", stats.best),
        ("cached_native", stats.cached),
    ]
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_tell_the_same() {
        let mut phases = Phases::start();
        phases.end("load");
        let mut stats = Stats { loops_entered: 7, refused: 3, cores: Some(3), ..Stats::default() };
        (stats.compilers.cpu, stats.compilers.wall) = (Duration::from_millis(5), Duration::from_millis(20));
        stats.cpu_quota = Some(Duration::from_millis(1500));
        let limits = LimitArgs { max_output: "8K".parse().ok(), ..LimitArgs::default() };
        let mut used = BudgetUsed::default();
        (used.output, used.cpu_time) = (7168, Some(Duration::from_micros(12_345)));
        let usage = Usage { used, reached: vec![BudgetItem::Output], limits: &limits };
        let json: serde_json::Value = serde_json::from_str(&phases.json(&stats, &usage)).unwrap();
        assert_eq!(json["osr"]["entered"], 7);
        assert!(json["phases_ms"]["load"].as_f64().unwrap() >= 0.0);
        assert_eq!(json["threads"]["compilers"]["share"], 0.25);
        assert_eq!((&json["processors"], &json["cpu_quota"]), (&3.into(), &1.5.into()));
        assert_eq!(json["code"]["best"]["functions"], 0);
        let text = phases.text(&stats, &usage);
        let keys: Vec<_> = json["code"].as_object().unwrap().keys().cloned().collect();
        assert!(keys.len() == 6 && keys.iter().all(|key| key.trim() == key), "{keys:?}");
        let rows: Vec<_> = text.lines().skip_while(|line| !line.starts_with("code ")).skip(1).take(6).collect();
        let names: std::collections::HashSet<_> = rows.iter().map(|row| row[..16].trim()).collect();
        assert!(names.len() == 6 && names.contains("cached bytecode"), "{text}");
        assert!(text.contains("\ncompilers             5.0 ms     20.0 ms    25 %\n"), "{text}");
        assert!(text.contains("\nprocessors: 3, a quota of 1.5\n"), "{text}");
        assert_eq!((&json["used"]["output_bytes"], &json["used"]["cpu_ms"]), (&7168.into(), &12.345.into()));
        assert_eq!(json["used"]["limits_reached"][0], "output");
        assert!(text.contains("\noutput               7.0 KiB   --max-output=8K\n"), "{text}");
        assert!(text.contains("\nCPU time             12.3 ms\n"), "{text}");
        assert!(text.contains("0 compiled, 7 entered") && text.contains("compiler: 3"), "{text}");
    }
}
