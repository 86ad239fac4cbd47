//! The flags for what a program may see and use of the host, and the WASI environment that they stand for.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::limits::LimitArgs;
use super::output::Failure;
use crate::WasiEnv;
use crate::printable::Printable;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sandbox")]
pub(super) struct SandboxArgs {
    /// Let the program see the host's directory HOST and all in it, under the name GUEST (or HOST); with `:ro` it can
    /// change nothing there
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    pub dirs: Vec<String>,

    /// Set an environment variable for the program; without a value, the one it has here
    #[arg(long = "env", value_name = "K[=V]")]
    pub env: Vec<String>,

    /// Give the program all environment variables there are here; --env changes single ones
    #[arg(long)]
    pub inherit_env: bool,

    /// The program's own name, its first argument [default: the name of FILE without folders]
    #[arg(long, value_name = "A")]
    pub argv0: Option<String>,

    /// Make randomness repeatable: the same N, the same numbers (which are no secret then)
    #[arg(long, value_name = "N", value_parser = number)]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub limits: LimitArgs,
}

/// A `--dir`: the host's directory, its name for the program, and whether it is for reading only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirFlag<'a> {
    pub host: &'a str,
    pub guest: &'a str,
    pub read_only: bool,
}

impl<'a> DirFlag<'a> {
    fn parse(text: &'a str) -> Self {
        let (names, read_only) = match text.strip_suffix(":ro") {
            Some(names) => (names, true),
            None => (text, false),
        };
        let (host, guest) = names.split_once("::").unwrap_or((names, names));
        DirFlag { host, guest, read_only }
    }

    /// What to write for `HOST:GUEST`, as other tools have it, if that is what was meant.
    fn two_colons(self) -> Option<String> {
        let (host, guest) = self.host.split_once(':')?;
        let is_meant = self.host == self.guest && !guest.starts_with(':') && Path::new(host).is_dir();
        let end = if self.read_only { ":ro" } else { "" };
        let names = format!("{host}::{guest}{end}");
        is_meant.then(|| format!("two colons stand between the names: --dir {}", Printable::line(&names)))
    }
}

/// A number without a unit.
pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number, up to {}", u64::MAX))
}

/// A number of bytes, with one of the usual units.
pub(super) fn byte_count(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(letter, _)| text.ends_with([*letter, letter.to_ascii_lowercase()]));
    let (digits, shift) = unit.map_or((text, 0), |(_, shift)| (&text[..text.len() - 1], *shift));
    let number: u64 = digits.parse().map_err(|_| "expected a number of bytes, such as 4096, 64K or 10M".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than 64 bits".to_string())
}

/// An amount of time: numbers with units, which add up.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] =
        [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];
    let malformed = || "expected a time with its unit, such as 5s, 500ms or 1m30s".to_string();
    let too_long = || "that is more than 584 years".to_string();
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, after) =
            rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(malformed());
        }
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(*scale)).ok_or_else(too_long)?;
        // Rounded down to a nanosecond.
        let fraction = fraction.bytes().rev().fold(0.0, |value, digit| (value + f64::from(digit - b'0')) / 10.0);
        let part = whole.checked_add((fraction * *scale as f64) as u64);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
        rest = after;
    }
    if total == 0 { Err(malformed()) } else { Ok(Duration::from_nanos(total)) }
}

impl SandboxArgs {
    /// The directories, in the order in which the program gets them.
    pub fn dirs(&self) -> impl Iterator<Item = DirFlag<'_>> {
        self.dirs.iter().map(|dir| DirFlag::parse(dir))
    }

    /// The WASI environment of a program in `file`, with the standard streams of this process.
    pub fn wasi_env(&self, file: &OsStr, args: &[String]) -> Result<WasiEnv, Failure> {
        let argv0 = match &self.argv0 {
            Some(name) => name.clone(),
            None => Path::new(file).file_name().unwrap_or(file).to_string_lossy().into_owned(),
        };
        let args = std::iter::once(argv0).chain(args.iter().cloned()).collect();
        let mut env = WasiEnv::new().with_args(args).with_inherited_stdio().with_exit_on_closed_pipe();
        if self.inherit_env {
            for (name, value) in std::env::vars_os() {
                // WASI can only pass on UTF-8.
                if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                    env = env.with_env(name.into(), value.into());
                }
            }
        }
        for variable in &self.env {
            match variable.split_once('=') {
                Some(("", _)) => return Err(Failure::usage(format!("--env {variable}: the name is missing"))),
                Some((name, value)) => env = env.with_env(name.into(), value.into()),
                None => match std::env::var(variable) {
                    Ok(value) => env = env.with_env(variable.clone(), value),
                    Err(std::env::VarError::NotPresent) => {}
                    Err(error) => return Err(Failure::error(format!("--env {variable}: {error}"))),
                },
            }
        }
        for (dir, text) in self.dirs().zip(&self.dirs) {
            let given = match dir.read_only {
                true => env.with_read_only_preopen(dir.host, dir.guest),
                false => env.with_preopen(dir.host, dir.guest),
            };
            env = given.map_err(|error| {
                Failure::error(format!("--dir {}: {error}", Printable::line(text))).with_hint(dir.two_colons())
            })?;
        }
        if let Some(seed) = self.seed {
            env = env.with_seed(seed);
        }
        Ok(env)
    }

    /// The same flags again, for a process that is started with them.
    pub fn to_args(&self) -> Vec<String> {
        let dirs = self.dirs.iter().map(|dir| format!("--dir={dir}"));
        let env = self.env.iter().map(|variable| format!("--env={variable}"));
        let mut args: Vec<_> = dirs.chain(env).collect();
        args.extend(self.inherit_env.then(|| "--inherit-env".into()));
        args.extend(self.argv0.iter().map(|name| format!("--argv0={name}")));
        args.extend(self.seed.map(|seed| format!("--seed={seed}")));
        args.extend(self.limits.to_args());
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_two_names_and_may_be_read_only() {
        let flag = |host, guest, read_only| DirFlag { host, guest, read_only };
        assert_eq!(DirFlag::parse("a"), flag("a", "a", false));
        assert_eq!(DirFlag::parse("a:ro"), flag("a", "a", true));
        assert_eq!(DirFlag::parse("a::/b:ro"), flag("a", "/b", true));
        assert_eq!(DirFlag::parse("a:b::/c"), flag("a:b", "/c", false));
    }

    #[test]
    fn byte_counts_have_units() {
        assert_eq!(byte_count("4096"), Ok(4096));
        assert_eq!(byte_count("64k"), Ok(65536));
        assert_eq!(byte_count("2G"), Ok(2 << 30));
        for bad in ["", "K", "-1", "1X", "99999999999T"] {
            assert!(byte_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units_and_add_up() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1.5s", 1500),
            ("0s1ms", 1),
            ("0.25m", 15_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "0s", "5 s", "-5s", "5x", "1.s", ".5s", "1.2.3s", "5s3", "1e3s", "+1s", "\u{665}s"] {
            assert!(time(bad).unwrap_err().contains("such as 5s"), "{bad}");
        }
        for long in ["99999999999999999999s", "5124096h", "584y0s", "5000000h5000000h"] {
            assert!(time(long).is_err(), "{long}");
        }
    }
}
