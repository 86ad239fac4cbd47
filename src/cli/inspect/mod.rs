//! `wasmrun inspect`: the contents of a module, and the bytecode, IR and native code of its functions.

mod features;
mod functions;
mod json;
mod need;
mod reach;
mod report;
mod survey;

use std::ffi::OsString;

use clap::Args;

use super::engine::BoundsChecksArg;
use super::output::{self, Failure};
use super::{input, status};
use crate::module::decode;
use crate::runtime::inspect::CodeForm;
use crate::{BoundsChecks, Config, Engine, ErrorKind, Module};
use survey::Survey;

/// Show what is in a module: imports, exports, sizes, features used, or the code made of a function
#[derive(Args)]
#[command(after_help = "\
FUNC is a function's index, its name, or the name of an export.

Examples:
  wasmrun inspect hello.wasm
  wasmrun inspect --json hello.wasm | jq -r '.exports[].name'
  wasmrun inspect --bytecode main hello.wasm   what the interpreter runs
  wasmrun inspect --asm 12 hello.wasm          what the JIT makes of function 12")]
pub(super) struct InspectArgs {
    /// The module (.wasm or .wat), `-` for standard input
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: OsString,

    /// Print all of it as one JSON object in one line; README.md describes the fields
    #[arg(long, conflicts_with_all = ["bytecode", "clif", "asm"])]
    json: bool,

    /// Print the interpreter's bytecode of a function
    #[arg(long, value_name = "FUNC", conflicts_with_all = ["clif", "asm"])]
    bytecode: Option<String>,

    /// Print the Cranelift IR that a function is lowered to
    #[arg(long, value_name = "FUNC", conflicts_with = "asm")]
    clif: Option<String>,

    /// Print the native code of a function
    #[arg(long, value_name = "FUNC")]
    asm: Option<String>,

    /// How compiled code checks memory accesses
    #[arg(long, value_enum, value_name = "HOW", default_value = "inline")]
    bounds_checks: BoundsChecksArg,
}

pub(super) fn run(args: &InspectArgs) -> Result<u8, Failure> {
    let file = input::display(&args.file);
    let bytes = input::read(&args.file)?;
    input::check_kind(&args.file, &bytes)?;
    let mut config = Config::new();
    if args.bounds_checks == BoundsChecksArg::Guard {
        config.bounds_checks(BoundsChecks::Guard);
    }
    let engine = Engine::new(&config).map_err(|error| Failure::error(error.to_string()))?;
    let module = Module::new(&engine, &bytes);

    let code = match (&args.bytecode, &args.clif, &args.asm) {
        (Some(func), ..) => Some((CodeForm::Bytecode, func)),
        (_, Some(func), _) => Some((CodeForm::Clif, func)),
        (.., Some(func)) => Some((CodeForm::Asm, func)),
        _ => None,
    };
    let text = match (code, &module) {
        (Some((form, func)), Ok(module)) => functions::print(module, form, func)?,
        // Modules of proposals to come can be looked at all the same.
        (None, Err(error)) if !matches!(error.kind(), ErrorKind::Unsupported { .. }) => {
            return Err(input::invalid(&args.file, error, || Some(bytes)));
        }
        (Some(_), Err(error)) => return Err(input::invalid(&args.file, error, || Some(bytes))),
        (None, module) => {
            let invalid = |message: String| Failure::new(status::INVALID, format!("{file}: {message}"));
            let binary = match bytes.starts_with(b"\0asm") {
                true => bytes,
                false => decode::text(&bytes).map_err(|error| invalid(error.to_string()))?,
            };
            let survey = Survey::new(&binary).map_err(|error| invalid(error.to_string()))?;
            let error = module.as_ref().err();
            if args.json {
                output::write(|out| json::write(&file, &survey, error, out))?;
                return Ok(0);
            }
            report::text(&file, &survey, error)
        }
    };
    output::print(&text)?;
    Ok(0)
}
