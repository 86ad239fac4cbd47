//! Runs seeds in child processes, so that a crash or a hang is a finding like any other.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::panic;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::reduce;

/// Processor time after which a seed is a hang. Modules end by themselves: what takes longer is the runtime's fault.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time after which a seed is a hang although it uses no processor time.
const DEADLOCK: Duration = Duration::from_secs(600);

/// Seeds that a child runs before it is replaced.
const BLOCK: u64 = 10_000;

/// Findings of one kind that are reduced; the others are kept as they are.
const REDUCED: usize = 3;

/// What is fuzzed.
pub struct Target {
    pub name: &'static str,
    /// The input of a seed; `None` if its bytes make none.
    pub generate: fn(&[u8]) -> Option<Vec<u8>>,
    pub test: fn(&[u8], &Options) -> Verdict,
    pub input: Input,
}

/// What inputs are, and so how they are made smaller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Module,
    /// Lines of text, of which all but the first can be left out.
    Lines,
    Bytes,
}

/// How inputs are run.
#[derive(Clone, Default)]
pub struct Options {
    /// Modules make their NaNs canonical, so that which one an instruction gives does not matter.
    pub canonical_nans: bool,
    /// Without the oracle that may crash.
    pub no_wasmi: bool,
    /// What happens is told as it does.
    pub verbose: bool,
}

impl Options {
    /// The command line that gives them.
    pub fn arguments(&self) -> impl Iterator<Item = &'static str> {
        let flags = [(self.canonical_nans, "--canonical-nans"), (self.no_wasmi, "--no-wasmi")];
        flags.into_iter().filter_map(|(set, flag)| set.then_some(flag))
    }
}

/// What was found out about an input.
pub enum Verdict {
    /// All that was compared is equal.
    Agreement,
    /// No oracle could tell, but the runtime agrees with itself.
    Unjudged,
    /// An oracle with known faults is alone against all others.
    OracleAlone(String),
    Finding {
        kind: String,
        text: String,
    },
}

impl Verdict {
    pub fn finding(kind: &str, text: String) -> Self {
        Verdict::Finding { kind: kind.to_string(), text }
    }
}

/// The bytes of a seed.
pub fn bytes(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
    let length = 256 << (random.next() % 7);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A generator of pseudo-random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Runs one input for libFuzzer.
///
/// # Panics
/// If there is a finding.
pub fn once(target: &Target, data: &[u8]) {
    let Some(input) = (target.generate)(data) else { return };
    if let Verdict::Finding { kind, text } = (target.test)(&input, &Options::default()) {
        panic!("{kind}: {text}");
    }
}

const USAGE: &str = "\
usage: --seeds FROM..TO [--seconds N] [--jobs N] [--out DIR]   run seeds, for so long, in so many processes
       --file FILE                                             run an input
       --reduce FILE                                           make a failing module smaller
       --input SEED                                            write the input of a seed to standard output
       --canonical-nans, with any of these                     modules make their NaNs canonical
       --no-wasmi, with any of these                           leave wasmi out";

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    options: Options,
    seeds: Option<Range<u64>>,
    seconds: Option<u64>,
    jobs: Option<u64>,
    out: Option<PathBuf>,
    file: Option<PathBuf>,
    reduce: Option<PathBuf>,
    input: Option<u64>,
    child: Option<Range<u64>>,
}

fn arguments() -> Option<Arguments> {
    let mut all = Arguments::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--canonical-nans" => all.options.canonical_nans = true,
            "--no-wasmi" => all.options.no_wasmi = true,
            "--seeds" => all.seeds = Some(range(&args.next()?)?),
            "--child" => all.child = Some(range(&args.next()?)?),
            "--seconds" => all.seconds = Some(args.next()?.parse().ok()?),
            "--jobs" => all.jobs = Some(args.next()?.parse().ok()?),
            "--input" => all.input = Some(args.next()?.parse().ok()?),
            "--out" => all.out = Some(args.next()?.into()),
            "--file" => all.file = Some(args.next()?.into()),
            "--reduce" => all.reduce = Some(args.next()?.into()),
            _ => return None,
        }
    }
    Some(all)
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// The program behind a target.
pub fn main(target: &Target) -> ExitCode {
    let Some(args) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).expect("the file can be read");
        let is_text = target.input == Input::Module && !bytes.starts_with(b"\0asm");
        if is_text { wat::parse_bytes(&bytes).expect("a module").into_owned() } else { bytes }
    };
    if let Some(seeds) = args.child {
        child(target, &args.options, seeds)
    } else if let Some(path) = &args.file {
        file(target, &Options { verbose: true, ..args.options }, &read(path))
    } else if let Some(path) = &args.reduce {
        let program = reduce::Program { options: args.options.clone(), input: target.input };
        match program.signature(&read(path)) {
            Some(signature) => {
                eprintln!("{signature}");
                let small = program.reduce(read(path), &signature, Duration::from_secs(600));
                print!("{}", show(target, &small));
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("the module does not fail");
                ExitCode::FAILURE
            }
        }
    } else if let Some(seed) = args.input {
        let input = (target.generate)(&bytes(seed)).unwrap_or_default();
        std::io::stdout().write_all(&input).expect("the output can be written");
        ExitCode::SUCCESS
    } else if let Some(seeds) = args.seeds.clone() {
        Run::new(target, &args).run(seeds, args.jobs.unwrap_or(1))
    } else {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    }
}

/// A module as text, if it can be printed.
fn show(target: &Target, input: &[u8]) -> String {
    match target.input {
        Input::Module => wasmprinter::print_bytes(input).unwrap_or_else(|error| format!("{error}: {input:02x?}\n")),
        Input::Lines => String::from_utf8_lossy(input).into_owned(),
        Input::Bytes => format!("{input:02x?}\n"),
    }
}

/// Panics of all threads: what the compiler's do is not seen otherwise, as the interpreter steps in.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
        report(info);
    }));
}

/// Runs one input; a panic anywhere is a finding.
fn judge(target: &Target, options: &Options, input: &[u8]) -> Verdict {
    let verdict = panic::catch_unwind(|| (target.test)(input, options));
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    match (verdict, panics.first()) {
        (Ok(verdict), None) => verdict,
        // wasmi has panics of its own.
        (_, Some(message)) if !options.no_wasmi && target.input != Input::Lines => {
            match judge(target, &Options { no_wasmi: true, ..options.clone() }, input) {
                finding @ Verdict::Finding { .. } => finding,
                _ => Verdict::OracleAlone(format!("it panics: {message}")),
            }
        }
        (_, Some(message)) => {
            // The place without what is particular to the input.
            let kind = message.lines().next().unwrap_or_default().to_string();
            Verdict::Finding { kind, text: panics.join("\n") }
        }
        (Err(_), None) => Verdict::finding("panic", "without a message".into()),
    }
}

fn file(target: &Target, options: &Options, input: &[u8]) -> ExitCode {
    note_panics();
    match judge(target, options, input) {
        Verdict::Agreement => println!("agreement"),
        Verdict::Unjudged => println!("no oracle can tell"),
        Verdict::OracleAlone(text) => println!("an oracle is alone: {text}"),
        Verdict::Finding { kind, text } => {
            println!("finding: {kind}\n{text}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Tells the parent which seed it runs, and of each a line with what came out of it.
fn child(target: &Target, options: &Options, seeds: Range<u64>) -> ExitCode {
    note_panics();
    let mut out = std::io::stdout().lock();
    let mut line = String::new();
    for seed in seeds {
        writeln!(out, "{line}{seed}").and_then(|()| out.flush()).expect("the parent reads");
        let verdict = (target.generate)(&bytes(seed)).map(|input| judge(target, options, &input));
        line = match verdict {
            None => "none\n".into(),
            Some(Verdict::Agreement) => "agreement\n".into(),
            Some(Verdict::Unjudged) => "unjudged\n".into(),
            Some(Verdict::OracleAlone(text)) => format!("alone {}\n", text.escape_debug()),
            Some(Verdict::Finding { kind, text }) => {
                format!("finding {}\t{}\n", kind.escape_debug(), text.escape_debug())
            }
        };
    }
    write!(out, "{line}").and_then(|()| out.flush()).expect("the parent reads");
    ExitCode::SUCCESS
}

/// Ends a child when this is dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor time of a process, where the system tells it.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Whether a process that began something at `since`, having used `before`, takes too long for it.
pub fn is_hung(process: u32, since: Instant, before: Option<Duration>, patience: Duration) -> bool {
    match (processor_time(process), before) {
        (Some(now), Some(before)) => now.saturating_sub(before) > patience || since.elapsed() > DEADLOCK,
        _ => since.elapsed() > 2 * patience,
    }
}

/// Counts of verdicts.
#[derive(Default)]
struct Counts {
    executions: u64,
    /// The seed that ended last.
    last: u64,
    /// Seeds whose bytes make no input.
    none: u64,
    unjudged: u64,
    alone: u64,
    findings: HashMap<String, Vec<u64>>,
}

/// A run of seeds.
struct Run<'a> {
    target: &'a Target,
    args: &'a Arguments,
    start: Instant,
    counts: Mutex<Counts>,
    next: AtomicU64,
}

impl<'a> Run<'a> {
    fn new(target: &'a Target, args: &'a Arguments) -> Self {
        Run { target, args, start: Instant::now(), counts: Mutex::default(), next: AtomicU64::new(0) }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time_is_up(&self) -> bool {
        self.args.seconds.is_some_and(|seconds| self.start.elapsed().as_secs() >= seconds)
    }

    fn run(&self, seeds: Range<u64>, jobs: u64) -> ExitCode {
        self.next.store(seeds.start, Ordering::Relaxed);
        let mut told = Instant::now();
        // Small blocks at the end keep all processes busy.
        let block = BLOCK.min((seeds.end - seeds.start).div_ceil(jobs).max(1));
        std::thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..jobs {
                workers.push(scope.spawn(|| {
                    while !self.time_is_up() {
                        let from = self.next.fetch_add(block, Ordering::Relaxed);
                        if from >= seeds.end {
                            break;
                        }
                        self.supervise(from..(from + block).min(seeds.end));
                    }
                }));
            }
            while workers.iter().any(|worker| !worker.is_finished()) {
                std::thread::sleep(Duration::from_millis(100));
                if told.elapsed() > Duration::from_secs(600) {
                    told = Instant::now();
                    eprintln!("{}", self.summary(seeds.start));
                }
            }
        });
        println!("{}", self.summary(seeds.start));
        if self.counts().findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn summary(&self, first: u64) -> String {
        let counts = self.counts();
        let seconds = self.start.elapsed().as_secs_f64();
        let findings: Vec<String> = counts.findings.iter().map(|(kind, seeds)| format!("{kind}: {seeds:?}")).collect();
        format!(
            "{}: seeds {} to {}, {} executions in {seconds:.0} s ({:.0} a second), {} without a verdict of an oracle, {} where \
             wasmi is alone, {} findings {}",
            self.target.name,
            first,
            counts.last,
            counts.executions,
            counts.executions as f64 / seconds,
            counts.unjudged,
            counts.alone,
            counts.findings.values().map(Vec::len).sum::<usize>(),
            findings.join("; "),
        )
    }

    /// Runs the range in children, a new one after each that dies.
    fn supervise(&self, mut range: Range<u64>) {
        while !range.is_empty() && !self.time_is_up() {
            let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
            command.args(["--child", &format!("{}..{}", range.start, range.end)]);
            command.args(self.args.options.arguments());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = Killed(command.spawn().expect("this program can be started again"));
            let (sender, lines) = mpsc::channel();
            let output = BufReader::new(child.0.stdout.take().expect("it is piped"));
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
            let process = child.0.id();
            let mut current = None;
            let mut since = Instant::now();
            let mut before = processor_time(process);
            let hung = loop {
                if self.time_is_up() {
                    return;
                }
                match lines.recv_timeout(Duration::from_secs(1)) {
                    Ok(line) => match line.parse::<u64>() {
                        Ok(seed) => {
                            (current, since, before) = (Some(seed), Instant::now(), None);
                        }
                        Err(_) => self.note(current.take().unwrap_or(range.start), &line),
                    },
                    Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        // What the seed used within the first second is let off.
                        before = before.or_else(|| processor_time(process));
                        if is_hung(process, since, before, PATIENCE) {
                            let _ = child.0.kill();
                            break true;
                        }
                    }
                }
            };
            let status = child.0.wait().expect("the child was started");
            if status.success() {
                return;
            }
            let seed = current.unwrap_or(range.start);
            let what = if hung { "hang".to_string() } else { status.to_string() };
            // wasmi has crashes of its own.
            let is_ours = hung || self.target.input == Input::Lines || self.fails_without_wasmi(seed);
            self.note(seed, &if is_ours { format!("finding {what}\t") } else { format!("alone {what}") });
            range.start = seed + 1;
        }
    }

    fn fails_without_wasmi(&self, seed: u64) -> bool {
        let options = Options { no_wasmi: true, ..self.args.options.clone() };
        let program = reduce::Program { options, input: self.target.input };
        let input = (self.target.generate)(&bytes(seed)).expect("it was made before");
        program.signature(&input).is_some()
    }

    /// A child's line about a seed.
    fn note(&self, seed: u64, line: &str) {
        let mut counts = self.counts();
        counts.executions += 1;
        counts.last = counts.last.max(seed);
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest)) {
            ("agreement", _) => {}
            ("none", _) => {
                counts.none += 1;
                counts.executions -= 1;
            }
            ("unjudged", _) => counts.unjudged += 1,
            ("alone", _) => counts.alone += 1,
            (_, finding) => {
                let (kind, text) = finding.split_once('\t').unwrap_or((finding, ""));
                let seeds = counts.findings.entry(kind.to_string()).or_default();
                seeds.push(seed);
                let is_reduced =
                    self.target.input == Input::Module && self.args.out.is_some() && seeds.len() <= REDUCED;
                drop(counts);
                self.keep(seed, kind, text, is_reduced);
            }
        }
    }

    /// Tells of a finding, and writes it down where that was asked for.
    fn keep(&self, seed: u64, kind: &str, text: &str, is_reduced: bool) {
        let text = text.replace("\\n", "\n").replace("\\\"", "\"");
        eprintln!("seed {seed}: {kind}\n{text}");
        let Some(out) = &self.args.out else { return };
        let Some(input) = (self.target.generate)(&bytes(seed)) else { return };
        let path = out.join(format!("{}-{seed}", self.target.name));
        let comment = format!(";; {} seed {seed}: {kind}\n;; {}\n", self.target.name, text.replace('\n', "\n;; "));
        let write = |ending: &str, contents: &[u8]| {
            std::fs::create_dir_all(out)?;
            match self.target.input {
                Input::Module => std::fs::write(
                    path.with_extension(format!("{ending}wat")),
                    comment.clone() + &show(self.target, contents),
                ),
                Input::Lines | Input::Bytes => {
                    std::fs::write(path.with_extension("txt"), &comment)?;
                    std::fs::write(path.with_extension(format!("{ending}input")), contents)
                }
            }
        };
        write("", &input).expect("findings can be written");
        if is_reduced {
            let program = reduce::Program { options: self.args.options.clone(), input: self.target.input };
            // What does not happen again (threads) can't be reduced.
            let Some(signature) = program.signature(&input) else { return };
            let small = program.reduce(input, &signature, Duration::from_secs(120));
            write("small.", &small).expect("findings can be written");
        }
    }
}
