//! The flags for a program's standard streams, its sockets, and the recording of its calls.

use std::fs::{File, Metadata};
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;

use clap::Args;

use super::output::{Failure, note};
use crate::WasiEnv;
use crate::printable::Printable;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Input and output")]
pub(super) struct StreamArgs {
    /// Read standard input from FILE; `null` is an empty one
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub stdin: Option<String>,

    /// Write standard output to FILE, which is emptied first
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub stdout: Option<String>,

    /// Write standard error to FILE, which may be the same
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub stderr: Option<String>,

    /// Let the program accept TCP connections on ADDR, such as 127.0.0.1:8080, or a port alone, on 127.0.0.1; port 0 is a free one, which is told
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// Write a line to standard error for each WASI call, with its arguments, error and results, as strace does
    #[arg(long, help_heading = "Reports")]
    pub trace_wasi: bool,

    /// If the program fails, tell which paths it was refused and the flag that would allow each
    #[arg(long, help_heading = "Reports")]
    pub explain_denials: bool,
}

impl StreamArgs {
    /// Adds streams, sockets and recording to an environment that already has its directories.
    pub fn apply(&self, mut env: WasiEnv) -> Result<WasiEnv, Failure> {
        match self.stdin.as_deref() {
            None => {}
            Some("null") => env = env.with_stdin(std::io::empty()),
            Some(path) => {
                let file = opened("--stdin", path, File::open(path))?;
                for (flag, output) in [("--stdout", &self.stdout), ("--stderr", &self.stderr)] {
                    if output.as_deref().is_some_and(|output| is_same(&file, output)) {
                        let path = Printable::line(path);
                        return Err(Failure::usage(format!(
                            "--stdin and {flag} are the same file, {path}: it would be emptied before it is read"
                        )));
                    }
                }
                env = env.with_stdin_file(file);
            }
        }
        let stdout = self.stdout.as_deref().map(|path| opened("--stdout", path, File::create(path))).transpose()?;
        if let Some(path) = self.stderr.as_deref() {
            // If both streams go to one file, they share one position: otherwise each would overwrite the other's output.
            let shared = stdout.as_ref().filter(|_| self.stdout.as_deref() == Some(path));
            let file = shared.map_or_else(|| File::create(path), File::try_clone);
            env = env.with_stderr_file(opened("--stderr", path, file)?);
        }
        if let Some(file) = stdout {
            env = env.with_stdout_file(file);
        }
        for address in &self.listen {
            let failed = |error: io::Error| Failure::error(format!("--listen {}: {error}", Printable::line(address)));
            // A port without an address listens on the loopback interface only.
            let candidates = match address.trim_start_matches(':').parse::<u16>() {
                Ok(port) => ("127.0.0.1", port).to_socket_addrs(),
                Err(_) => address.to_socket_addrs(),
            };
            let listener = TcpListener::bind(&candidates.map_err(failed)?.collect::<Vec<_>>()[..]).map_err(failed)?;
            if let Ok(bound) = listener.local_addr()
                && address.rsplit(':').next() == Some("0")
            {
                note(&format!("listening on {bound}"));
            }
            env = env.with_listener(listener);
        }
        if self.trace_wasi {
            env = env.with_trace(std::io::stderr());
        }
        if self.explain_denials {
            env = env.with_denials_recorded();
        }
        Ok(env)
    }
}

fn opened(flag: &str, path: &str, file: io::Result<File>) -> Result<File, Failure> {
    let is_dir = |file: &File| file.metadata().is_ok_and(|metadata| metadata.is_dir());
    let file = file.and_then(|file| if is_dir(&file) { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) });
    file.map_err(|error| Failure::error(format!("{flag} {}: {error}", Printable::line(path))))
}

/// Whether `path` is the file that is open.
fn is_same(file: &File, path: &str) -> bool {
    let id = |metadata: Metadata| metadata.is_file().then(|| (metadata.dev(), metadata.ino()));
    let open = file.metadata().ok().and_then(id);
    open.is_some() && open == std::fs::metadata(path).ok().and_then(id)
}
