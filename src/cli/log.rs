//! `WASMRUN_LOG`: a log of the engine's work on standard error.

use std::env;
use std::io;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::Failure;

/// The environment variable that selects what is logged: a level (`debug`) or targets with levels (`wasmrun::tier=debug`).
const VARIABLE: &str = "WASMRUN_LOG";

/// Starts logging if it is asked for.
pub(super) fn start() -> Result<(), Failure> {
    let Some(wanted) = env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
    let refused = |why: String| Failure::usage(format!("{VARIABLE}={}: {why}", wanted.to_string_lossy()));
    let text = wanted.to_str().ok_or_else(|| refused("not UTF-8".into()))?;
    let targets: Targets = text.parse().map_err(|error| refused(format!("{error}")))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(targets).with(layer).try_init().map_err(|error| refused(error.to_string()))
}
