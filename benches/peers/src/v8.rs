//! V8, in a process of Node.js that is asked for one run after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::runtimes::Work;

/// Reads the module in base64, then a number of rounds per line; answers with nanoseconds and checksum.
const SCRIPT: &str = "
const lines = require('readline').createInterface({ input: process.stdin });
let run;
lines.on('line', line => {
    if (!run) {
        run = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(line, 'base64'))).exports.run;
        return;
    }
    const started = process.hrtime.bigint();
    const sum = run(Number(line));
    console.log(`${process.hrtime.bigint() - started} ${sum}`);
});";

struct V8 {
    process: Child,
    /// `None` once the process has been told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The work of calling a kernel's `run` in a process of the command `node`.
pub fn kernel(node: &str, module: &[u8]) -> Box<dyn Work> {
    let mut process = Command::new(node)
        .args(["-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{node}: {e}"));
    let mut input = process.stdin.take().expect("a pipe");
    let output = BufReader::new(process.stdout.take().expect("a pipe"));
    writeln!(input, "{}", base64(module)).expect("Node.js reads");
    Box::new(V8 { process, input: Some(input), output })
}

impl Work for V8 {
    fn run(&mut self, rounds: i32) -> (Duration, i64) {
        let input = self.input.as_mut().expect("the process runs");
        writeln!(input, "{rounds}").expect("Node.js reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("Node.js answers");
        let (nanoseconds, sum) = answer.trim().split_once(' ').expect("a time and a checksum");
        (Duration::from_nanos(nanoseconds.parse().expect("a time")), sum.parse().expect("a checksum"))
    }
}

impl Drop for V8 {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for digit in 0..4 {
            let is_padding = digit > three.len();
            text.push(if is_padding { '=' } else { DIGITS[(word >> (18 - 6 * digit)) as usize & 63] as char });
        }
    }
    text
}
