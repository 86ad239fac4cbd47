//! The words of a command line, before clap sees them: where `exec` is left out, and what is no subcommand.
//!
//! The first word decides. If it is the name of a subcommand, it is that, also where a file is called so; `./exec` is the
//! file. Otherwise the line is that of `exec`, its flags first: `wasmrun --jit app.wasm`. Only the tool's own flags, such as
//! `--help`, and `--color` may stand before a subcommand.

use std::ffi::{OsStr, OsString};
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, ValueEnum};

use super::output::{ColorArg, Failure};
use super::{similar, status};

/// The subcommand of a command line that names none.
const EXEC: &str = "exec";

/// Flags of other runtimes, and the one for the same here.
const FOREIGN: [(&str, &str); 12] = [
    ("invoke", "call"),
    ("entrypoint", "call"),
    ("function", "call"),
    ("func", "call"),
    ("mapdir", "dir"),
    ("map-dir", "dir"),
    ("volume", "dir"),
    ("forward-host-env", "inherit-env"),
    ("stack-size", "max-stack"),
    ("wasm-timeout", "timeout"),
    ("time-limit", "timeout"),
    ("gas-limit", "fuel"),
];

/// The subcommand that clap adds by itself.
const HELP: &str = "help";

/// The words with the subcommand that they mean; the first is the name of the tool.
///
/// # Errors
/// Where the first word is neither a subcommand nor a file, what was meant maybe.
pub(super) fn with_subcommand(mut words: Vec<OsString>, command: &Command) -> Result<Vec<OsString>, Failure> {
    let at = first_word(&words);
    let Some(word) = words.get(at) else { return Ok(words) };
    let is_file = !is_flag(word);
    if is_file {
        if word == HELP || command.find_subcommand(word).is_some() {
            return Ok(words);
        }
        check_exists(word, command)?;
    } else if is_own_flag(word, command) {
        return Ok(words);
    }
    words.insert(at, EXEC.into());
    Ok(words)
}

/// Where the first word is that is not about colours.
fn first_word(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        match word.to_str() {
            Some("--color") => at += 2,
            Some(word) if word.starts_with("--color=") => at += 1,
            _ => break,
        }
    }
    at
}

fn is_flag(word: &OsStr) -> bool {
    word != "-" && word.as_encoded_bytes().starts_with(b"-")
}

/// Whether a flag is the tool's own, or nearer to one of those than to any of `exec`.
fn is_own_flag(flag: &OsStr, command: &Command) -> bool {
    let flag = flag.to_string_lossy();
    let Some(name) = flag.strip_prefix("--") else { return matches!(&*flag, "-h" | "-V") };
    let names = |command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(Arg::get_long).map(String::from).collect()
    };
    let own: Vec<String> = names(command).into_iter().chain(["help".into(), "version".into()]).collect();
    let of_exec = command.find_subcommand(EXEC).map(names).unwrap_or_default();
    let name = name.split('=').next().unwrap_or_default();
    if of_exec.iter().any(|other| other == name) {
        return false;
    }
    let nearest = similar::nearest(name, of_exec.iter().chain(&own).map(String::as_str));
    nearest.first().is_some_and(|nearest| own.iter().any(|own| own == nearest))
}

/// Refuses a word that may be a mistyped subcommand: one that is no file, and not spelt as the path of one.
fn check_exists(word: &OsStr, command: &Command) -> Result<(), Failure> {
    let text = word.to_string_lossy();
    let is_path = text == "-" || text.contains(['/', '.']);
    let is_missing = || std::fs::metadata(word).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if is_path || text.is_empty() || !is_missing() {
        return Ok(());
    }
    let names = command.get_subcommands().flat_map(|sub| std::iter::once(sub.get_name()).chain(sub.get_all_aliases()));
    let names = names.chain([HELP]);
    let shown = super::input::display(word);
    let nobody = format!("{shown}: no such file, and no subcommand of that name");
    Err(match similar::did_you_mean(&text, names) {
        Some(question) => Failure::usage(nobody).with_hint(question),
        None => Failure::new(status::NOT_FOUND, nobody)
            .with_hint(super::input::similar_file(word))
            .with_hint("`wasmrun --help` lists the subcommands".to_string()),
    })
}

/// Has clap's refusal of a flag suggest the one that was meant. Clap measures by another distance, and finds nothing for
/// `--jti`; and its tip that a flag could be a value is not for the names of files.
pub(super) fn suggest_flag(refusal: &mut clap::Error, words: &[OsString], command: &Command) {
    if refusal.kind() != ErrorKind::UnknownArgument {
        return;
    }
    refusal.remove(ContextKind::Suggested);
    let Some(ContextValue::String(unknown)) = refusal.get(ContextKind::InvalidArg) else { return };
    let Some(unknown) = unknown.strip_prefix("--") else { return };
    let unknown = unknown.split('=').next().unwrap_or_default();
    let inner = words.iter().skip(1).fold(command, |at, word| at.find_subcommand(word).unwrap_or(at));
    let flags = inner.get_arguments().chain(command.get_arguments()).filter_map(Arg::get_long).chain([HELP]);
    let foreign = FOREIGN.iter().find(|(name, _)| *name == unknown).map(|(_, own)| *own);
    let own = foreign.filter(|own| inner.get_arguments().any(|arg| arg.get_long() == Some(own)));
    if let Some(flag) = own.or_else(|| similar::nearest(unknown, flags).first().copied()) {
        refusal.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{flag}")));
    }
}

/// What to say of a failure if one of wasmrun's own flags is among the arguments of the program, as in `wasmrun app.wasm --dir .`:
/// all that follows the file belongs to the program.
pub(super) fn flag_behind_file(args: &[String]) -> Option<String> {
    let command = super::command();
    let exec = command.find_subcommand(EXEC)?;
    let own: Vec<_> = exec.get_arguments().filter_map(Arg::get_long).collect();
    let names = args.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.strip_prefix("--")?.split('=').next());
    let name = { names }.find(|name| own.contains(name))?;
    Some(format!("--{name} is an argument of the program here; wasmrun's own flags stand before the file"))
}

/// The `--color` among words that clap refuses as a whole or answers with help, so that these have the colours that were
/// asked for. Clap does not tell of the flags in such a line.
pub(super) fn color(words: &[OsString]) -> Option<ColorArg> {
    let words: Vec<_> =
        words.iter().skip(1).take_while(|word| *word != "--").map(|word| word.to_string_lossy()).collect();
    let next = words.iter().skip(1).map(Some).chain([None]);
    let values = words.iter().zip(next).filter_map(|(word, next)| match word.strip_prefix("--color") {
        Some("") => next.map(|value| &**value),
        Some(value) => value.strip_prefix('='),
        None => None,
    });
    values.last().and_then(|value| ColorArg::from_str(value, false).ok())
}

/// The whole command line, as completions show it: that of `exec` also without its name.
pub(super) fn with_flags_of_exec(command: Command) -> Command {
    let flags: Vec<Arg> = command.find_subcommand(EXEC).into_iter().flat_map(Command::get_arguments).cloned().collect();
    command.args(flags).subcommand_negates_reqs(true).args_conflicts_with_subcommands(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(line: &str) -> Result<String, Failure> {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        let words = with_subcommand(words, &crate::cli::command())?;
        Ok(words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn exec_may_be_left_out() {
        for (line, subcommand) in [
            ("wasmrun a.wasm --dir . x", "wasmrun exec a.wasm --dir . x"),
            ("wasmrun --jit --dir . a.wasm", "wasmrun exec --jit --dir . a.wasm"),
            ("wasmrun -v a.wasm", "wasmrun exec -v a.wasm"),
            ("wasmrun - x", "wasmrun exec - x"),
            ("wasmrun -- exec", "wasmrun exec -- exec"),
            ("wasmrun ./exec", "wasmrun exec ./exec"),
            ("wasmrun --color never a.wasm", "wasmrun --color never exec a.wasm"),
            (
                "wasmrun --color=never --color=always --jit a.wasm",
                "wasmrun --color=never --color=always exec --jit a.wasm",
            ),
            // Clap tells of the flag that is meant.
            ("wasmrun --jti a.wasm", "wasmrun exec --jti a.wasm"),
        ] {
            assert_eq!(meant(line).unwrap(), subcommand);
        }
        for line in [
            "wasmrun",
            "wasmrun exec a.wasm",
            "wasmrun run a.wasm",
            "wasmrun inspect a.wasm",
            "wasmrun help exec",
            "wasmrun --help",
            "wasmrun -h",
            "wasmrun -V",
            "wasmrun --version",
            "wasmrun --verison",
            "wasmrun --hepl",
            "wasmrun --color=always",
            "wasmrun --color always exec a.wasm",
        ] {
            assert_eq!(meant(line).unwrap(), line);
        }
        for line in ["wasmrun exce a.wasm", "wasmrun inspct", "wasmrun nothing-like-it"] {
            assert!(meant(line).is_err(), "{line}");
        }
    }

    #[test]
    fn colours_are_found_in_any_line() {
        let color = |line: &str| color(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(color("wasmrun --color=always exec --no-such"), Some(ColorArg::Always));
        assert_eq!(color("wasmrun exec --color never --no-such"), Some(ColorArg::Never));
        assert_eq!(color("wasmrun --color=always -h --color=never"), Some(ColorArg::Never));
        for line in
            ["wasmrun -- --color=never", "wasmrun --color=sometimes", "wasmrun --color", "wasmrun --colors=never"]
        {
            assert_eq!(color(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_completed_is_consistent() {
        with_flags_of_exec(crate::cli::command()).debug_assert();
    }
}
