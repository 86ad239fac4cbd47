//! Makes a failing input smaller while it fails in the same way.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasm_shrink::WasmShrink;
use wasmparser::{Validator, WasmFeatures};

use crate::module::Parts;
use crate::runner::{Input, Killed, Options, is_hung};

/// Processor time that a smaller module may take. Operators that bound its time may have been left out.
const PATIENCE: Duration = Duration::from_secs(3);

/// This program, run on one module at a time, as it may crash.
pub struct Program {
    pub options: Options,
    pub input: Input,
}

impl Program {
    /// How the input fails; `None` if it does not.
    pub fn signature(&self, wasm: &[u8]) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(wasm).expect("it can be written");
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("--file").arg(file.path());
        command.args(self.options.arguments());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Killed(command.spawn().expect("this program can be started again"));
        let mut output = child.0.stdout.take().expect("it is piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            text
        });
        let since = Instant::now();
        let status = loop {
            if let Some(status) = child.0.try_wait().expect("the child was started") {
                break status;
            }
            if is_hung(child.0.id(), since, Some(Duration::ZERO), PATIENCE) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = reader.join().expect("it only reads");
        match status.code() {
            Some(0) => None,
            Some(1) => text.lines().next().map(str::to_string),
            _ => Some(status.to_string()),
        }
    }

    /// An input that fails in the same way, as small as can be had in the time.
    pub fn reduce(&self, wasm: Vec<u8>, signature: &str, time: Duration) -> Vec<u8> {
        let end = Instant::now() + time;
        if self.input != Input::Module {
            return without_lines(wasm, &|input| {
                Instant::now() < end && self.signature(input).as_deref() == Some(signature)
            });
        }
        let fails = |wasm: &[u8]| {
            let valid = || Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).is_ok();
            Instant::now() < end && valid() && self.signature(wasm).as_deref() == Some(signature)
        };
        let mut small = wasm;
        loop {
            let before = small.len();
            small = without_functions(small, &fails);
            small = without_operators(small, &fails);
            small = shrunk(small, &fails);
            if small.len() == before || Instant::now() >= end {
                return small;
            }
        }
    }
}

/// Leaves out lines after the first, in runs that become shorter.
fn without_lines(input: Vec<u8>, fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let mut size = lines.len() / 2;
    while size > 0 {
        let mut start = 1;
        while start < lines.len() {
            let end = (start + size).min(lines.len());
            let fewer = [&lines[..start], &lines[end..]].concat();
            if fails(&fewer.concat()) {
                lines = fewer;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
    lines.concat()
}

/// Empties functions, as many at a time as can be.
fn without_functions(wasm: Vec<u8>, fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let Some(parts) = Parts::new(&wasm) else { return wasm };
    let mut best = parts;
    let count = best.bodies.len();
    let mut size = count;
    while size > 0 {
        for start in (0..count).step_by(size) {
            let bodies = best.bodies.clone();
            for body in &mut best.bodies[start..(start + size).min(count)] {
                body.stub();
            }
            let changed = best.bodies.iter().zip(&bodies).any(|(new, old)| new.ops.len() != old.ops.len());
            if !changed || !fails(&best.encode()) {
                best.bodies = bodies;
            }
        }
        size /= 2;
    }
    best.encode()
}

/// Leaves out operators, in runs that become shorter.
fn without_operators(wasm: Vec<u8>, fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let Some(mut best) = Parts::new(&wasm) else { return wasm };
    for i in 0..best.bodies.len() {
        let mut size = best.bodies[i].ops.len();
        while size > 0 {
            let mut start = 0;
            while start + size < best.bodies[i].ops.len() {
                let ops = best.bodies[i].ops.clone();
                best.bodies[i].ops.drain(start..start + size);
                if !fails(&best.encode()) {
                    best.bodies[i].ops = ops;
                    start += size.div_ceil(2);
                }
            }
            // Only short runs are worth each length: those of some instructions that leave the stack as it was.
            size = if size > 12 { size * 2 / 3 } else { size - 1 };
        }
    }
    best.encode()
}

/// Leaves out whatever else is not needed.
fn shrunk(wasm: Vec<u8>, fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let shrink = WasmShrink::default().attempts(200);
    match shrink.run(wasm.clone(), &mut |wasm: &[u8]| Ok(fails(wasm))) {
        Ok(info) => info.output,
        Err(_) => wasm,
    }
}
