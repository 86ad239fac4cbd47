//! `wasmrun cache`: what is in the cache, and emptying it.

use clap::{Args, Subcommand};

use super::{NOWHERE, Place};
use crate::cache::directory::{self, Contents};
use crate::cli::output::{self, Failure};
use crate::config::cache::DEFAULT_MAX_BYTES;
use crate::printable::Printable;

/// Look at the cache of compiled code, or empty it
#[derive(Args)]
#[command(after_help = "\
Functions that were compiled are kept, so that the next run of the same program
has native code from the start. What is not used for long is removed when there
is too much (see --cache-size of exec). It is always safe to delete.

Examples:
  wasmrun cache info
  wasmrun cache info --json
  wasmrun cache clear")]
pub(in crate::cli) struct CacheCommandArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Print where the cache is and how much is in it
    Info {
        #[command(flatten)]
        place: Place,

        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove all compiled code; programs that are running are not disturbed
    Clear {
        #[command(flatten)]
        place: Place,
    },
}

pub(in crate::cli) fn run(args: &CacheCommandArgs) -> Result<u8, Failure> {
    let (CacheCommand::Info { place, .. } | CacheCommand::Clear { place }) = &args.command;
    let path = place.path().ok_or_else(|| Failure::error(format!("there is no cache: {NOWHERE}")))?;
    let failed =
        |error: std::io::Error| Failure::error(format!("{}: {error}", Printable::line(&path.to_string_lossy())));
    match args.command {
        CacheCommand::Info { json, .. } => {
            let contents = directory::contents(&path).map_err(failed)?;
            output::print(&info(&path.to_string_lossy(), contents.as_ref(), json))?;
        }
        CacheCommand::Clear { .. } => {
            let removed = directory::clear(&path).map_err(failed)?;
            output::print(&cleared(&path.to_string_lossy(), &removed))?;
        }
    }
    Ok(0)
}

/// What was removed, for people.
fn cleared(path: &str, removed: &Contents) -> String {
    let (path, bytes) = (Printable::line(path), output::bytes(removed.bytes));
    match removed {
        Contents { modules: 0, files: 0, .. } => format!("nothing to remove in {path}\n"),
        Contents { files: 1, .. } => format!("removed 1 file ({bytes}) from {path}\n"),
        Contents { files, .. } => format!("removed {files} files ({bytes}) from {path}\n"),
    }
}

fn info(path: &str, contents: Option<&Contents>, json: bool) -> String {
    let Contents { modules, files, bytes } = contents.cloned().unwrap_or_default();
    if json {
        let value = serde_json::json!({
            "directory": path,
            "exists": contents.is_some(),
            "modules": modules,
            "files": files,
            "bytes": bytes,
            "max_bytes": DEFAULT_MAX_BYTES,
        });
        return output::json(&value) + "\n";
    }
    let missing = if contents.is_none() { " (not there yet)" } else { "" };
    format!(
        "directory  {}{missing}\nmodules    {modules}\nfiles      {files}\nsize       {} of at most {}\n",
        Printable::line(path),
        output::bytes(bytes),
        output::bytes(DEFAULT_MAX_BYTES)
    )
}
