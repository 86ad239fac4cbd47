//! What the test programs of this folder share: running the binary, and a hash to compare large outputs by.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The folder of big programs that `WASMRUN_PROGRAMS` names, if it does.
///
/// # Panics
/// If it lacks one of `files`: better than tests that fail one by one.
pub fn programs(files: &[&str]) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("WASMRUN_PROGRAMS")?);
    for file in files {
        let path = folder.join(file);
        assert!(path.is_file(), "WASMRUN_PROGRAMS names a folder without {file}: there is no {}", path.display());
    }
    Some(folder)
}

/// How a process ended and what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// The most memory that was resident at once, in bytes.
    pub peak_memory: u64,
    pub time: Duration,
}

/// The runner that cargo was told of, if the build is for another processor than this machine's.
fn runner() -> Option<String> {
    // The name of the target begins with the processor's, which may go on: `riscv64gc`.
    let arch = match std::env::consts::ARCH {
        "x86" => "I686".to_owned(),
        arch => arch.to_uppercase(),
    };
    let is_runner = |name: &str| name.starts_with(&format!("CARGO_TARGET_{arch}")) && name.ends_with("_RUNNER");
    let mut vars =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    vars.find(|(name, _)| is_runner(name)).map(|(_, runner)| runner)
}

/// Whether the processor is emulated: slower by an order of magnitude, and a program can't start others of its kind.
pub fn emulated() -> bool {
    runner().is_some()
}

/// A command that runs a program of this build, by cargo's runner if there is one.
///
/// It keeps no compiled code where the user's is.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = bare_command(program.as_ref());
    command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}

fn bare_command(program: &OsStr) -> Command {
    match runner() {
        None => Command::new(program),
        Some(runner) => {
            let mut words = runner.split_whitespace();
            let mut command = Command::new(words.next().expect("the runner is a command"));
            command.args(words).arg(program);
            command
        }
    }
}

/// Runs a command with `stdin` as its input; an error if it does not end in time (it is killed then).
pub fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Outcome, String> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{command:?} does not start: {e}"))?;
    // Threads for all three pipes, so that neither side waits for a full one. A program need not read its input.
    let (mut input, data) = (child.stdin.take().unwrap(), stdin.to_vec());
    thread::spawn(move || drop(input.write_all(&data)));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let (status, peak_memory) =
        wait(&mut child, limit).ok_or_else(|| format!("{command:?} did not end within {limit:?}"))?;
    Ok(Outcome {
        status,
        peak_memory,
        time: started.elapsed(),
        stdout: stdout.join().unwrap(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
    })
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
    })
}

/// Waits for the end of the child, and gives its peak memory too; kills it and gives `None` when the time is over.
fn wait(child: &mut Child, limit: Duration) -> Option<(ExitStatus, u64)> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: waits for a process of ours that nothing else waits for; both results have room for what is written.
        let waited = unsafe { libc::wait4(child.id() as i32, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        if waited != 0 {
            assert!(waited > 0, "the child can be waited for");
            // SAFETY: written by wait4, and plain integers even if not.
            let usage = unsafe { usage.assume_init() };
            return Some((ExitStatus::from_raw(status), usage.ru_maxrss as u64 * 1024));
        }
        if started.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).expect("the child can be killed");
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// FNV-1a, to name a large output by a number.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
