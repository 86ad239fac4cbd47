//! A look at a whole body before it is lowered: what its loops do.

use wasmparser::{FunctionBody, Operator as Op};

use crate::module::nesting::{ends_block, opens_block};

/// What the instructions of a loop do, those of the loops in it included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LoopFacts {
    /// Whether it loads from a memory or stores to one, inline.
    pub accesses: bool,
    /// Whether it calls other code, which may change all objects.
    pub calls: bool,
}

/// What each loop of a body does, in order.
pub(super) fn survey(body: &FunctionBody<'_>) -> wasmparser::Result<Vec<LoopFacts>> {
    let mut operators = body.get_operators_reader()?;
    let mut loops: Vec<LoopFacts> = Vec::new();
    // The loops around an operator, by their place in `loops`, and for each open block whether it is a loop.
    let (mut around, mut open) = (Vec::<usize>::new(), vec![false]);
    while !operators.eof() {
        let op = operators.read()?;
        match op {
            Op::Loop { .. } => {
                open.push(true);
                around.push(loops.len());
                loops.push(LoopFacts::default());
            }
            _ if opens_block(&op) => open.push(false),
            _ if ends_block(&op) && open.pop() == Some(true) => {
                // The instructions of a loop are in the loops around it too.
                if let (Some(inner), Some(&outer)) = (around.pop(), around.last()) {
                    loops[outer].accesses |= loops[inner].accesses;
                    loops[outer].calls |= loops[inner].calls;
                }
            }
            _ => {
                if let Some(&innermost) = around.last() {
                    loops[innermost].accesses |= is_access(&op);
                    loops[innermost].calls |= may_call(&op);
                }
            }
        }
    }
    Ok(loops)
}

/// Whether an operator loads from or stores to a memory inline.
fn is_access(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::I32Load { .. }
            | Op::I64Load { .. }
            | Op::F32Load { .. }
            | Op::F64Load { .. }
            | Op::I32Load8S { .. }
            | Op::I32Load8U { .. }
            | Op::I32Load16S { .. }
            | Op::I32Load16U { .. }
            | Op::I64Load8S { .. }
            | Op::I64Load8U { .. }
            | Op::I64Load16S { .. }
            | Op::I64Load16U { .. }
            | Op::I64Load32S { .. }
            | Op::I64Load32U { .. }
            | Op::I32Store { .. }
            | Op::I64Store { .. }
            | Op::F32Store { .. }
            | Op::F64Store { .. }
            | Op::I32Store8 { .. }
            | Op::I32Store16 { .. }
            | Op::I64Store8 { .. }
            | Op::I64Store16 { .. }
            | Op::I64Store32 { .. }
            | Op::V128Load { .. }
            | Op::V128Store { .. }
    )
}

/// Whether an operator calls other code, which may change lengths.
fn may_call(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::Call { .. }
            | Op::CallIndirect { .. }
            | Op::CallRef { .. }
            | Op::MemoryGrow { .. }
            | Op::MemoryAtomicWait32 { .. }
            | Op::MemoryAtomicWait64 { .. }
            | Op::MemoryAtomicNotify { .. }
            | Op::MemoryFill { .. }
            | Op::MemoryCopy { .. }
            | Op::MemoryInit { .. }
            | Op::DataDrop { .. }
            | Op::TableGrow { .. }
            | Op::TableFill { .. }
            | Op::TableCopy { .. }
            | Op::TableInit { .. }
            | Op::ElemDrop { .. }
            | Op::RefFunc { .. }
            | Op::Throw { .. }
            | Op::ThrowRef
            | Op::Rethrow { .. }
            | Op::StructNew { .. }
            | Op::StructNewDefault { .. }
            | Op::ArrayNew { .. }
            | Op::ArrayNewDefault { .. }
            | Op::ArrayNewFixed { .. }
            | Op::ArrayNewData { .. }
            | Op::ArrayNewElem { .. }
            | Op::ArrayFill { .. }
            | Op::ArrayCopy { .. }
            | Op::ArrayInitData { .. }
            | Op::ArrayInitElem { .. }
    )
}
