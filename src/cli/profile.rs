//! `exec --profile=flame`: a flame graph of where the program's time went, and a table of its hottest functions.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::input;
use super::output::{self, Failure, note, warning};
use crate::printable::Printable;
use crate::{GuestProfile, GuestProfiler, Store};

const INTERVAL: Duration = Duration::from_millis(1);

/// Most functions in the table.
const HOTTEST: usize = 10;

/// The profile of the program that runs.
struct Profiling {
    profiler: GuestProfiler,
    program: String,
    graph: PathBuf,
    file: File,
    /// Whether the file was not there before.
    is_new: bool,
}

static PROFILING: Mutex<Option<Profiling>> = Mutex::new(None);

/// Begins to sample the program, whose module is in `program`. The flame graph will be in `graph`, or have a name made from the
/// program's.
pub(super) fn start(store: &mut Store<()>, program: &OsStr, graph: Option<&OsStr>) -> Result<(), Failure> {
    if cfg!(not(feature = "profile")) {
        return Err(Failure::error("--profile=flame: this build of wasmrun makes no flame graphs (feature `profile`)"));
    }
    let graph = graph.map_or_else(|| default_graph(program), PathBuf::from);
    let shown = Printable::line(&graph.to_string_lossy()).to_string();
    let refused = |error: io::Error| Failure::error(format!("--profile=flame: cannot write {shown}: {error}"));
    // An earlier graph stays there until there is another.
    let (file, is_new) = match OpenOptions::new().write(true).create_new(true).open(&graph) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            (OpenOptions::new().write(true).open(&graph).map_err(refused)?, false)
        }
        file => (file.map_err(refused)?, true),
    };
    let profiler = GuestProfiler::new(store, INTERVAL).map_err(|error| Failure::error(error.to_string()))?;
    let profiling = Profiling { profiler, program: input::display(program), graph, file, is_new };
    *PROFILING.lock().unwrap_or_else(PoisonError::into_inner) = Some(profiling);
    Ok(())
}

fn default_graph(program: &OsStr) -> PathBuf {
    let stem = Path::new(program).file_stem().filter(|stem| *stem != "-").unwrap_or(OsStr::new("wasmrun"));
    let mut name = stem.to_os_string();
    name.push(".flame.svg");
    name.into()
}

/// Ends the sampling, if there is one, and reports what was found. It is called when the program has ended, or is about to end
/// with the process; `has_run` says whether there was a program.
pub(super) fn finish(has_run: bool) {
    let Some(profiling) = PROFILING.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let Profiling { profiler, program, graph, file, is_new } = profiling;
    let profile = profiler.finish();
    if profile.time().is_zero() {
        if is_new {
            let _ = fs::remove_file(&graph);
        }
        if has_run {
            note("profile: nothing was sampled: the program took less than a millisecond of processor time");
        }
        return;
    }
    let shown = Printable::line(&graph.to_string_lossy()).to_string();
    match write(&profile, &program, file) {
        Ok(()) => output::tell(&table(&profile, &shown)),
        Err(error) => {
            warning(&format!("profile: cannot write {shown}: {error}"));
            output::tell(&table(&profile, "none"));
        }
    }
}

#[cfg(feature = "profile")]
fn write(profile: &GuestProfile, program: &str, file: File) -> io::Result<()> {
    // What is no regular file may not be cut, and need not.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    let mut out = io::BufWriter::new(file);
    profile.write_flame_graph(program, &mut out)?;
    io::Write::flush(&mut out)
}

#[cfg(not(feature = "profile"))]
fn write(_: &GuestProfile, _: &str, _: File) -> io::Result<()> {
    Err(io::Error::from(ErrorKind::Unsupported))
}

fn table(profile: &GuestProfile, graph: &str) -> String {
    let all = profile.time().as_secs_f64();
    let mut text =
        format!("profile: {} samples, {all:.3} s of processor time; flame graph: {graph}\n", profile.samples());
    text.push_str("          self              total   function\n");
    for function in profile.functions().iter().take(HOTTEST) {
        for time in [function.self_time(), function.total_time()] {
            let time = time.as_secs_f64();
            // Writing to a string cannot fail.
            let _ = write!(text, "{:>5.1} %{:>9.1} ms  ", 100.0 * time / all, 1000.0 * time);
        }
        let _ = writeln!(text, " {}", Printable::name(function.name()));
    }
    if profile.functions().len() > HOTTEST {
        let _ = writeln!(text, "and {} more", profile.functions().len() - HOTTEST);
    }
    text
}
