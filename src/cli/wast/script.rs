//! Test scripts in an owned form, which can be run many times, unlike the syntax tree of the `wast` crate.

use std::sync::Arc;

use ::wast::core::{AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore};
use ::wast::lexer::Lexer;
use ::wast::parser::{self, ParseBuffer};
use ::wast::token::{F32, F64, Id, Span};
use ::wast::{QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat};

use super::Failure;

/// A test script.
///
/// ```
/// use wasmrun::Config;
/// use wasmrun::cli::wast::Script;
/// let script = Script::parse("add.wast", r#"
///     (module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
///     (assert_return (invoke "add" (i32.const 1) (i32.const 2)) (i32.const 3))
///     (assert_return (invoke "add" (i32.const 1) (i32.const 2)) (i32.const 4))
/// "#)?;
/// let failure = script.run(&Config::new()).unwrap_err();
/// assert_eq!(failure.line, 4);
/// # Ok::<(), wasmrun::cli::wast::Failure>(())
/// ```
#[derive(Debug)]
pub struct Script {
    pub(super) name: String,
    text: String,
    pub(super) directives: Vec<Directive>,
}

#[derive(Debug)]
pub(super) struct Directive {
    /// Byte offset in the text.
    offset: usize,
    pub keyword: &'static str,
    pub kind: Kind,
}

/// A module in binary, or why its text can't be turned into that.
pub(super) type Source = Result<Vec<u8>, String>;

#[derive(Debug)]
pub(super) enum Kind {
    Module {
        name: Option<String>,
        module: Source,
    },
    Definition {
        name: Option<String>,
        module: Source,
    },
    Instance {
        name: Option<String>,
        module: Option<String>,
    },
    Register {
        name: String,
        instance: Option<String>,
    },
    Action(Action),
    AssertReturn {
        action: Action,
        results: Vec<Pattern>,
    },
    AssertTrap {
        action: Action,
        message: String,
    },
    AssertExhaustion {
        action: Action,
        message: String,
    },
    AssertException {
        action: Action,
    },
    AssertUnlinkable {
        module: Source,
    },
    /// `assert_invalid`, `assert_malformed` and their like for custom sections.
    AssertRefused {
        module: Source,
        message: String,
    },
    /// Runs directives on a thread of its own, in a store of its own. Of the module that it shares with this one, it has the shared
    /// memories that are exported.
    Thread {
        name: String,
        shared: Option<String>,
        directives: Arc<[Directive]>,
    },
    /// Waits for the end of a thread.
    Wait {
        thread: String,
    },
    /// Something of a proposal that is not supported.
    Unsupported,
}

/// The action that an assertion is about.
#[derive(Debug)]
pub(super) enum Action {
    Invoke {
        instance: Option<String>,
        name: String,
        args: Vec<Arg>,
    },
    Get {
        instance: Option<String>,
        name: String,
    },
    Instantiate(Source),
    /// An action with an argument that is not supported.
    Unsupported(String),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Arg {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(u128),
    NullFunc,
    NullExtern,
    NullExn,
    NullAny,
    Extern(u32),
    /// The host object with this number, as an `anyref`.
    Host(u32),
}

/// The pattern that a result must match.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    I32(i32),
    I64(i64),
    F32(Float<u32>),
    F64(Float<u64>),
    /// Integer lanes, all of them at once.
    V128(u128),
    F32x4([Float<u32>; 4]),
    F64x2([Float<u64>; 2]),
    NullFunc,
    NullExtern,
    NullExn,
    NullAny,
    /// Null of any type.
    Null,
    /// Not null; with this number if there is one.
    Extern(Option<u32>),
    /// A function, whichever.
    Func,
    /// Any `anyref` that is not null, and those of a kind.
    Any,
    Eq,
    I31,
    Struct,
    Array,
    /// The host object with this number, as an `anyref`.
    Host(u32),
    Either(Vec<Pattern>),
    /// A kind of reference that is not supported.
    Unsupported(String),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Float<T> {
    Bits(T),
    CanonicalNan,
    ArithmeticNan,
}

impl Script {
    /// Reads a script; `name` is for messages.
    ///
    /// # Errors
    /// Where the script is not well formed. A module in it that is not is an error only when the script is run.
    pub fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let mut script = Script { name: name.into(), text: text.into(), directives: Vec::new() };
        let syntax = |error: ::wast::Error| script.failure(error.span().offset(), "syntax", error.message());
        let mut lexer = Lexer::new(text);
        lexer.allow_confusing_unicode(true);
        let buffer = ParseBuffer::new_with_lexer(lexer).map_err(syntax)?;
        let parsed = parser::parse::<Wast<'_>>(&buffer).map_err(syntax)?;
        script.directives = parsed.directives.into_iter().map(directive).collect();
        Ok(script)
    }

    pub(super) fn failure_at(&self, directive: &Directive, message: String) -> Failure {
        self.failure(directive.offset, directive.keyword, message)
    }

    fn failure(&self, offset: usize, directive: &'static str, message: String) -> Failure {
        let (line, column) = Span::from_offset(offset).linecol_in(&self.text);
        let source = self.text.lines().nth(line).unwrap_or_default().trim().into();
        Failure { script: self.name.clone(), line: line + 1, column: column + 1, source, directive, message }
    }
}

fn directive(directive: WastDirective<'_>) -> Directive {
    let offset = directive.span().offset();
    let (keyword, kind) = match directive {
        WastDirective::Module(module) => {
            ("module", Kind::Module { name: module.name().map(name), module: encode(module) })
        }
        WastDirective::ModuleDefinition(module) => {
            ("module definition", Kind::Definition { name: module.name().map(name), module: encode(module) })
        }
        WastDirective::ModuleInstance { instance, module, .. } => {
            ("module instance", Kind::Instance { name: instance.map(name), module: module.map(name) })
        }
        WastDirective::Register { name: as_name, module, .. } => {
            ("register", Kind::Register { name: as_name.into(), instance: module.map(name) })
        }
        WastDirective::Invoke(call) => ("invoke", Kind::Action(invoke(call))),
        WastDirective::AssertReturn { exec, results, .. } => {
            let results = results.into_iter().map(result).collect();
            ("assert_return", Kind::AssertReturn { action: action(exec), results })
        }
        WastDirective::AssertTrap { exec, message, .. } => {
            ("assert_trap", Kind::AssertTrap { action: action(exec), message: message.into() })
        }
        WastDirective::AssertExhaustion { call, message, .. } => {
            ("assert_exhaustion", Kind::AssertExhaustion { action: invoke(call), message: message.into() })
        }
        WastDirective::AssertUnlinkable { module, .. } => {
            ("assert_unlinkable", Kind::AssertUnlinkable { module: encode(QuoteWat::Wat(module)) })
        }
        WastDirective::AssertInvalid { module, message, .. } => ("assert_invalid", refused(module, message)),
        WastDirective::AssertInvalidCustom { module, message, .. } => {
            ("assert_invalid_custom", refused(module, message))
        }
        WastDirective::AssertMalformed { module, message, .. } => ("assert_malformed", refused(module, message)),
        WastDirective::AssertMalformedCustom { module, message, .. } => {
            ("assert_malformed_custom", refused(module, message))
        }
        WastDirective::AssertException { exec, .. } => {
            ("assert_exception", Kind::AssertException { action: action(exec) })
        }
        WastDirective::AssertSuspension { .. } => ("assert_suspension", Kind::Unsupported),
        WastDirective::Thread(thread) => {
            let directives = thread.directives.into_iter().map(self::directive).collect();
            ("thread", Kind::Thread { name: name(thread.name), shared: thread.shared_module.map(name), directives })
        }
        WastDirective::Wait { thread, .. } => ("wait", Kind::Wait { thread: name(thread) }),
    };
    Directive { offset, keyword, kind }
}

fn name(id: Id<'_>) -> String {
    id.name().into()
}

fn encode(mut module: QuoteWat<'_>) -> Source {
    match &module {
        QuoteWat::Wat(Wat::Component(_)) | QuoteWat::QuoteComponent(..) => Err("components are not supported".into()),
        _ => module.encode().map_err(|error| error.message()),
    }
}

fn refused(module: QuoteWat<'_>, message: &str) -> Kind {
    Kind::AssertRefused { module: encode(module), message: message.into() }
}

fn action(exec: WastExecute<'_>) -> Action {
    match exec {
        WastExecute::Invoke(call) => invoke(call),
        WastExecute::Wat(module) => Action::Instantiate(encode(QuoteWat::Wat(module))),
        WastExecute::Get { module, global, .. } => Action::Get { instance: module.map(name), name: global.into() },
    }
}

fn invoke(call: WastInvoke<'_>) -> Action {
    match call.args.into_iter().map(arg).collect() {
        Ok(args) => Action::Invoke { instance: call.module.map(name), name: call.name.into(), args },
        Err(what) => Action::Unsupported(what),
    }
}

fn arg(arg: WastArg<'_>) -> Result<Arg, String> {
    let WastArg::Core(arg) = arg else { return Err("a component's value".into()) };
    Ok(match arg {
        WastArgCore::I32(v) => Arg::I32(v),
        WastArgCore::I64(v) => Arg::I64(v),
        WastArgCore::F32(v) => Arg::F32(v.bits),
        WastArgCore::F64(v) => Arg::F64(v.bits),
        WastArgCore::V128(v) => Arg::V128(u128::from_le_bytes(v.to_le_bytes())),
        WastArgCore::RefExtern(number) => Arg::Extern(number),
        WastArgCore::RefHost(number) => Arg::Host(number),
        WastArgCore::RefNull(heap) => match hierarchy(heap)? {
            Hierarchy::Func => Arg::NullFunc,
            Hierarchy::Extern => Arg::NullExtern,
            Hierarchy::Exn => Arg::NullExn,
            Hierarchy::Any => Arg::NullAny,
        },
    })
}

/// The types that a reference in a script may be of: those of each have a null of their own.
enum Hierarchy {
    Func,
    Extern,
    Exn,
    Any,
}

/// The hierarchy of a type; or its text, if it is of none that is known.
fn hierarchy(heap: HeapType<'_>) -> Result<Hierarchy, String> {
    use AbstractHeapType::*;
    Ok(match heap {
        HeapType::Abstract { shared: false, ty: Func | NoFunc } => Hierarchy::Func,
        HeapType::Abstract { shared: false, ty: Extern | NoExtern } => Hierarchy::Extern,
        HeapType::Abstract { shared: false, ty: Exn | NoExn } => Hierarchy::Exn,
        HeapType::Abstract { shared: false, ty: Any | Eq | I31 | Struct | Array | None } => Hierarchy::Any,
        other => return Err(format!("{other:?}")),
    })
}

fn result(result: WastRet<'_>) -> Pattern {
    match result {
        WastRet::Core(result) => pattern(result),
        other => Pattern::Unsupported(format!("{other:?}")),
    }
}

fn pattern(result: WastRetCore<'_>) -> Pattern {
    match result {
        WastRetCore::I32(v) => Pattern::I32(v),
        WastRetCore::I64(v) => Pattern::I64(v),
        WastRetCore::F32(v) => Pattern::F32(f32_pattern(v)),
        WastRetCore::F64(v) => Pattern::F64(f64_pattern(v)),
        WastRetCore::V128(V128Pattern::F32x4(lanes)) => Pattern::F32x4(lanes.map(f32_pattern)),
        WastRetCore::V128(V128Pattern::F64x2(lanes)) => Pattern::F64x2(lanes.map(f64_pattern)),
        WastRetCore::V128(V128Pattern::I8x16(lanes)) => integer_lanes(lanes.map(i8::to_le_bytes)),
        WastRetCore::V128(V128Pattern::I16x8(lanes)) => integer_lanes(lanes.map(i16::to_le_bytes)),
        WastRetCore::V128(V128Pattern::I32x4(lanes)) => integer_lanes(lanes.map(i32::to_le_bytes)),
        WastRetCore::V128(V128Pattern::I64x2(lanes)) => integer_lanes(lanes.map(i64::to_le_bytes)),
        WastRetCore::RefNull(None) => Pattern::Null,
        WastRetCore::RefNull(Some(heap)) => match hierarchy(heap) {
            Ok(Hierarchy::Func) => Pattern::NullFunc,
            Ok(Hierarchy::Extern) => Pattern::NullExtern,
            Ok(Hierarchy::Exn) => Pattern::NullExn,
            Ok(Hierarchy::Any) => Pattern::NullAny,
            Err(other) => Pattern::Unsupported(other),
        },
        WastRetCore::RefExtern(number) => Pattern::Extern(number),
        WastRetCore::RefFunc(_) => Pattern::Func,
        WastRetCore::RefAny => Pattern::Any,
        WastRetCore::RefEq => Pattern::Eq,
        WastRetCore::RefI31 => Pattern::I31,
        WastRetCore::RefStruct => Pattern::Struct,
        WastRetCore::RefArray => Pattern::Array,
        WastRetCore::RefHost(number) => Pattern::Host(number),
        WastRetCore::Either(cases) => Pattern::Either(cases.into_iter().map(pattern).collect()),
        other => Pattern::Unsupported(format!("{other:?}")),
    }
}

fn integer_lanes<const N: usize, const M: usize>(lanes: [[u8; N]; M]) -> Pattern {
    let bytes = lanes.as_flattened().iter().rev();
    Pattern::V128(bytes.fold(0, |vector, byte| vector << 8 | u128::from(*byte)))
}

fn f32_pattern(pattern: NanPattern<F32>) -> Float<u32> {
    match pattern {
        NanPattern::CanonicalNan => Float::CanonicalNan,
        NanPattern::ArithmeticNan => Float::ArithmeticNan,
        NanPattern::Value(v) => Float::Bits(v.bits),
    }
}

fn f64_pattern(pattern: NanPattern<F64>) -> Float<u64> {
    match pattern {
        NanPattern::CanonicalNan => Float::CanonicalNan,
        NanPattern::ArithmeticNan => Float::ArithmeticNan,
        NanPattern::Value(v) => Float::Bits(v.bits),
    }
}
