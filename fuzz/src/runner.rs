//! Runs seeds in a child process, so that a crash or a hang is a finding like any other.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A seed that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of a seed.
pub fn bytes(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
    let length = 256 << (random.next() % 6);
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

/// The program behind a target.
pub fn main(test: fn(&[u8])) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--file", path] => {
            test(&std::fs::read(path).expect("the file can be read"));
            ExitCode::SUCCESS
        }
        ["--child", range] => {
            for seed in parse(range).expect("the parent gives a range") {
                println!("{seed}");
                std::io::stdout().flush().expect("the parent reads");
                test(&bytes(seed));
            }
            ExitCode::SUCCESS
        }
        ["--seeds", range] => match parse(range) {
            Some(range) => supervise(range),
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: --seeds FROM..TO | --file FILE");
    ExitCode::from(2)
}

fn parse(range: &str) -> Option<Range<u64>> {
    let (from, to) = range.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Runs the range in children, a new one after each that fails.
fn supervise(mut range: Range<u64>) -> ExitCode {
    let mut failed = Vec::new();
    while !range.is_empty() {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--child", &format!("{}..{}", range.start, range.end)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let (sender, seeds) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line.parse::<u64>().ok());
            }
        });
        let mut current = range.start;
        let hung = loop {
            match seeds.recv_timeout(PATIENCE) {
                Ok(seed) => current = seed.unwrap_or(current),
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    break true;
                }
            }
        };
        let status = child.wait().expect("the child was started");
        if status.success() {
            break;
        }
        eprintln!("seed {current}: {}", if hung { "hangs".to_string() } else { status.to_string() });
        failed.push(current);
        range.start = current + 1;
    }
    match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        _ => {
            eprintln!("failed: {failed:?}");
            ExitCode::FAILURE
        }
    }
}
