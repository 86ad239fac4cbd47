//! Errors that name the proposal that a module uses and that is unsupported or turned off.

use wasmparser::{BinaryReaderError, Chunk, Parser, Payload, Validator, WasmFeatures};

use super::decode::{self, Undecodable};
use super::names::Names;
use crate::config::proposals::PROPOSALS;
use crate::error::{Error, ErrorKind};

/// The error for a module that does not validate with these features: it uses a proposal that is turned off or not supported,
/// or it is just invalid.
pub(super) fn explain(features: WasmFeatures, binary: &[u8], error: &BinaryReaderError) -> Error {
    let message = error.message().to_string();
    let offset = error.offset() as usize;
    // The validator reads on past this point once the proposal is allowed.
    let all = PROPOSALS.iter().fold(features, |all, proposal| proposal.set(all, true));
    if progress(binary, all, offset) {
        for proposal in PROPOSALS.iter().filter(|proposal| !proposal.is_on(features)) {
            if progress(binary, proposal.add_to(features), offset) {
                let (switch, proposal, is_supported) = (proposal.switch, proposal.name, proposal.is_supported);
                return Error::new(match is_supported {
                    true => ErrorKind::Disabled { proposal, switch, message, offset },
                    false => ErrorKind::Unsupported { proposal, message, offset },
                });
            }
        }
    }
    let message = match missing(binary) {
        Some(bytes) => format!("{message}: the module is cut off, at least {bytes} more bytes belong to it"),
        None => message,
    };
    let function = function_at(binary, offset);
    Error::new(ErrorKind::Invalid { message, offset: Some(offset), function })
}

/// The least number of bytes that are missing at the module's end, if a section is said to be longer than what is there.
fn missing(mut binary: &[u8]) -> Option<usize> {
    let (mut parser, mut bodies) = (Parser::new(0), 0);
    loop {
        match parser.parse(binary, false).ok()? {
            Chunk::Parsed { consumed, payload } => {
                binary = &binary[consumed..];
                match payload {
                    Payload::CodeSectionStart { count, .. } => bodies = count,
                    Payload::CodeSectionEntry(_) => bodies -= 1,
                    _ => {}
                }
            }
            // After the last section, one byte more would be the next one's.
            Chunk::NeedMoreData(least) => return (bodies > 0 || !binary.is_empty()).then_some(least),
        }
    }
}

/// Whether, with these features, validation gets past the offset.
fn progress(binary: &[u8], features: WasmFeatures, offset: usize) -> bool {
    let check = || {
        let mut validator = Validator::new_with_features(features);
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(binary) {
            let payload = payload?;
            match decode::check_imports(&payload) {
                Ok(()) => {}
                Err(Undecodable::Invalid(error)) => return Err(error),
                // Too large to be validated, so the features are not what is wrong.
                Err(Undecodable::Refused(_)) => break,
            }
            match validator.payload(&payload)? {
                // The bodies before the one at `offset` are known to be valid.
                wasmparser::ValidPayload::Func(func, body) if body.range().end > offset as u64 => {
                    func.into_validator(Default::default()).validate(&body)?;
                    if body.range().contains(&(offset as u64)) {
                        break;
                    }
                }
                _ => {}
            }
        }
        Ok::<(), BinaryReaderError>(())
    };
    check().map_or_else(|error| error.offset() as usize > offset, |()| true)
}

/// The function whose body an offset lies in.
fn function_at(binary: &[u8], offset: usize) -> Option<String> {
    let (mut imported, mut defined, mut found) = (0, 0, None);
    let mut names = Names::default();
    for payload in Parser::new(0).parse_all(binary).map_while(Result::ok) {
        match payload {
            Payload::ImportSection(section) => {
                let is_func = |ty| matches!(ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_));
                imported = section.into_imports().map_while(Result::ok).filter(|i| is_func(i.ty)).count() as u32;
            }
            Payload::CodeSectionEntry(body) => {
                // An error at the very end of a body is reported one past its last byte.
                if (body.range().start..=body.range().end).contains(&(offset as u64)) && found.is_none() {
                    found = Some(imported + defined);
                }
                defined += 1;
            }
            Payload::CustomSection(section) if section.name() == "name" => {
                names = Names::of_section(section.data(), section.data_offset());
            }
            _ => {}
        }
    }
    let func = found?;
    Some(names.func(func).map_or_else(|| format!("function {func}"), |name| format!("function {name}")))
}
