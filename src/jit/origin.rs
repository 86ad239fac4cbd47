//! From a trapping machine instruction to facts about the WebAssembly instruction that it was compiled from, beyond its location:
//! the constants of a memory access, and the `unreachable` that a branch leads to.

use wasmparser::{BinaryReader, FunctionBody, Operator};

use super::registry::FunctionCode;
use crate::module::nesting::{ends_block, opens_block};

/// The constant part of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it is a store that is not atomic, before which the last byte may be read.
    pub is_store: bool,
}

/// The memory access at a machine instruction, if it was compiled from one.
pub(super) fn access(function: &FunctionCode, pc: usize) -> Option<Access> {
    let wasm = function.function?;
    let location = function.location_at(pc)? as usize;
    // SAFETY: a module lives longer than its code, and the code was found by its address.
    let module = unsafe { &*wasm.module };
    let body = module.facts.body(wasm.defined).ok()?;
    let within = location.checked_sub(body.range().start as usize)?;
    read(body.as_bytes().get(within..)?).or_else(|| bulk(body, location))
}

/// The bulk operation at `location`, if the instruction before it is the constant size: others are not compiled inline.
fn bulk(body: FunctionBody<'_>, location: usize) -> Option<Access> {
    let mut size = None;
    for operator in body.get_operators_reader().ok()?.into_iter_with_offsets() {
        match operator.ok()? {
            (Operator::I32Const { value }, _) => size = Some(u64::from(value as u32)),
            (Operator::I64Const { value }, _) => size = Some(value as u64),
            (Operator::MemoryFill { .. } | Operator::MemoryCopy { .. }, at) if at == location as u64 => {
                return Some(Access { offset: 0, size: size?, is_store: true });
            }
            _ => size = None,
        }
    }
    None
}

/// Reads the load or store that `bytes` start with (specification, sections 5.4.6 and 5.4.8).
fn read(bytes: &[u8]) -> Option<Access> {
    let mut reader = BinaryReader::new(bytes, 0);
    let (size, is_store) = match reader.read_u8().ok()? {
        0x2C | 0x2D | 0x30 | 0x31 => (1, false),
        0x2E | 0x2F | 0x32 | 0x33 => (2, false),
        0x28 | 0x2A | 0x34 | 0x35 => (4, false),
        0x29 | 0x2B => (8, false),
        0x3A | 0x3C => (1, true),
        0x3B | 0x3D => (2, true),
        0x36 | 0x38 | 0x3E => (4, true),
        0x37 | 0x39 => (8, true),
        0xFD => match reader.read_var_u32().ok()? {
            0 => (16, false),
            1..=6 | 10 | 87 | 93 => (8, false),
            7 | 84 => (1, false),
            8 | 85 => (2, false),
            9 | 86 | 92 => (4, false),
            11 => (16, true),
            88 => (1, true),
            89 => (2, true),
            90 => (4, true),
            91 => (8, true),
            _ => return None,
        },
        0xFE => match reader.read_var_u32().ok()? {
            0 | 1 => (4, false),
            2 => (8, false),
            // Groups of seven for loads, stores and each way to modify, in one order of types.
            op @ 0x10..=0x4E => ([4, 8, 1, 2, 1, 2, 4][(op - 0x10) as usize % 7], false),
            _ => return None,
        },
        _ => return None,
    };
    // Bit 6 of the alignment says that the index of a memory follows.
    if reader.read_var_u32().ok()? & 0x40 != 0 {
        reader.read_var_u32().ok()?;
    }
    Some(Access { offset: reader.read_var_u64().ok()?, size, is_store })
}

/// The byte offset of the `unreachable` that a machine instruction was compiled from.
///
/// Cranelift turns a branch to a trap into a conditional trap, which has the location of the branch.
pub(super) fn unreachable(function: &FunctionCode, pc: usize) -> Option<usize> {
    let wasm = function.function?;
    let location = function.location_at(pc)?;
    // SAFETY: a module lives longer than its code, and the code was found by its address.
    let module = unsafe { &*wasm.module };
    after_branch(module.facts.body(wasm.defined).ok()?, u64::from(location)).map(|at| at as usize)
}

/// An operator and its byte offset.
type At<'a> = (Operator<'a>, u64);

/// The `unreachable` that code starts with, if it does; `end`s do nothing.
fn first(code: &[At<'_>]) -> Option<u64> {
    let (operator, at) = code.iter().find(|(operator, _)| !matches!(operator, Operator::End))?;
    matches!(operator, Operator::Unreachable).then_some(*at)
}

/// The `unreachable` that runs next if the branch at `location` is not taken, or else if it is taken.
fn after_branch(body: FunctionBody<'_>, location: u64) -> Option<u64> {
    let mut operators = body.get_operators_reader().ok()?.into_iter_with_offsets().map_while(|operator| operator.ok());
    let (branch, _) = operators.find(|(_, at)| *at == location)?;
    let rest: Vec<At<'_>> = operators.collect();
    let mut depth = match branch {
        Operator::If { .. } => 0,
        Operator::BrIf { relative_depth }
        | Operator::BrOnNull { relative_depth }
        | Operator::BrOnNonNull { relative_depth } => relative_depth,
        _ => return None,
    };
    let is_target = |(operator, _): &At<'_>| {
        if opens_block(operator) {
            depth += 1;
        } else if depth == 0 {
            let is_else = matches!(operator, Operator::Else) && matches!(branch, Operator::If { .. });
            return is_else || ends_block(operator);
        } else if ends_block(operator) {
            depth -= 1;
        }
        false
    };
    let target = rest.iter().position(is_target);
    first(&rest).or_else(|| first(&rest[target? + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_read() {
        let access = |offset, size, is_store| Some(Access { offset, size, is_store });
        let cases: [(&[u8], _); 12] = [
            (&[0x28, 2, 16], access(16, 4, false)),
            (&[0x37, 3, 0x80, 1], access(128, 8, true)),
            (&[0x2D, 0x40, 1, 5], access(5, 1, false)),
            (&[0xFD, 0, 4, 32], access(32, 16, false)),
            (&[0xFD, 91, 3, 0, 1], access(0, 8, true)),
            (&[0xFD, 93, 3, 0], access(0, 8, false)),
            (&[0xFE, 2, 3, 8], access(8, 8, false)),
            (&[0xFE, 0x1C, 1, 4], access(4, 2, false)),
            (&[0xFE, 0x4E, 0x42, 1, 4], access(4, 4, false)),
            (&[0xFE, 3, 0, 4], None),
            (&[0x41, 2, 16], None),
            (&[0x28], None),
        ];
        for (bytes, want) in cases {
            assert_eq!(read(bytes), want, "{bytes:x?}");
        }
    }

    #[test]
    fn branches_lead_to_unreachable() {
        let cases = [
            ("(if (local.get 0) (then unreachable))", true),
            ("(if (local.get 0) (then nop) (else unreachable))", true),
            ("(if (local.get 0) (then nop)) unreachable", true),
            ("(block (block (br_if 1 (local.get 0)) (if (i32.const 1) (then nop) (else nop))) nop) unreachable", true),
            ("(block (block (br_if 1 (local.get 0))) unreachable)", true),
            ("(block (br_if 0 (local.get 0)) nop) nop unreachable", false),
            ("(block (br_on_null 0 (local.get 1)) drop) unreachable", true),
            ("(block (result (ref func)) (br_on_non_null 0 (local.get 1)) unreachable) drop", true),
            ("(if (local.get 0) (then nop) (else nop)) nop unreachable", false),
        ];
        for (code, found) in cases {
            let module = wat::parse_str(format!("(module (func (param i32 funcref) {code}))")).unwrap();
            let body = wasmparser::Parser::new(0).parse_all(&module).find_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CodeSectionEntry(body) => Some(body),
                _ => None,
            });
            let body = body.unwrap();
            let operators = body.get_operators_reader().unwrap().into_iter_with_offsets();
            let operators: Vec<_> = operators.map(Result::unwrap).collect();
            let branch = operators.iter().find(|(op, _)| {
                let at = [Operator::BrOnNull { relative_depth: 0 }, Operator::BrOnNonNull { relative_depth: 0 }];
                matches!(op, Operator::If { .. } | Operator::BrIf { .. }) || at.contains(op)
            });
            let want = operators.iter().find(|(op, _)| matches!(op, Operator::Unreachable)).map(|(_, at)| *at);
            assert_eq!(after_branch(body, branch.unwrap().1), want.filter(|_| found), "{code}");
        }
    }
}
