//! The supported WebAssembly proposals, and errors that name the unsupported proposal that a module uses.

use wasmparser::{BinaryReaderError, Parser, Payload, Validator, WasmFeatures};

use super::names::Names;
use crate::error::{Error, ErrorKind};

/// WebAssembly 2.0 with tail calls, extended constant expressions, multiple memories, relaxed SIMD, exceptions and wide arithmetic.
pub(crate) const SUPPORTED: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::WIDE_ARITHMETIC);

/// Unsupported proposals, named as in the proposals repository.
const UNSUPPORTED: &[(&str, WasmFeatures)] = &[
    ("threads", WasmFeatures::THREADS),
    ("legacy-exceptions", WasmFeatures::LEGACY_EXCEPTIONS),
    ("memory64", WasmFeatures::MEMORY64),
    ("function-references", WasmFeatures::FUNCTION_REFERENCES),
    ("gc", WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES)),
    ("custom-page-sizes", WasmFeatures::CUSTOM_PAGE_SIZES),
    ("stack-switching", WasmFeatures::STACK_SWITCHING),
    ("shared-everything-threads", WasmFeatures::SHARED_EVERYTHING_THREADS.union(WasmFeatures::THREADS)),
    ("component-model", WasmFeatures::COMPONENT_MODEL),
];

/// The error for a module that does not validate: it uses an unsupported proposal, or it is just invalid.
pub(super) fn explain(binary: &[u8], error: &BinaryReaderError) -> Error {
    let message = error.message().to_string();
    let offset = error.offset() as usize;
    // The validator reads on past this point once the proposal is allowed.
    let all = UNSUPPORTED.iter().fold(SUPPORTED, |all, (_, features)| all.union(*features));
    if progress(binary, all, offset) {
        for (proposal, features) in UNSUPPORTED {
            if progress(binary, SUPPORTED.union(*features), offset) {
                return Error::new(ErrorKind::Unsupported { proposal, message, offset });
            }
        }
    }
    let function = function_at(binary, offset);
    Error::new(ErrorKind::Invalid { message, offset: Some(offset), function })
}

/// Whether, with these features, validation gets past the offset.
fn progress(binary: &[u8], features: WasmFeatures, offset: usize) -> bool {
    let check = || {
        let mut validator = Validator::new_with_features(features);
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(binary) {
            match validator.payload(&payload?)? {
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
