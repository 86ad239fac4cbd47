//! Checks, in tests, that what may be moved may be.
//!
//! Cranelift moves a load that is marked `readonly`, `notrap` and `can_move` to wherever its address is known, out of
//! loops and before checks. So its address must be that of something that lives as long as the function runs: the
//! context, or what such a load from it leads to. An address from anywhere else may be null or dangling there.

use cranelift_codegen::ir::{Function, InstructionData, Opcode, Value};

/// # Panics
/// If a load may be moved whose address is not known to be good wherever it is known.
pub(super) fn check(func: &Function) {
    for block in func.layout.blocks() {
        for inst in func.layout.block_insts(block) {
            if let InstructionData::Load { opcode: Opcode::Load, arg, flags, .. } = func.dfg.insts[inst] {
                let flags = func.dfg.mem_flags[flags];
                let may_move = flags.readonly() && flags.notrap() && flags.can_move();
                assert!(
                    !may_move || lives(func, arg),
                    "{} may be moved: {}",
                    func.dfg.display_inst(inst),
                    func.display()
                );
            }
        }
    }
}

/// Whether an address is good for as long as the function runs.
fn lives(func: &Function, mut address: Value) -> bool {
    let vmctx = func.special_param(cranelift_codegen::ir::ArgumentPurpose::VMContext);
    loop {
        address = func.dfg.resolve_aliases(address);
        if Some(address) == vmctx {
            return true;
        }
        let Some(inst) = func.dfg.value_def(address).inst() else { return false };
        let InstructionData::Load { opcode: Opcode::Load, arg, flags, .. } = func.dfg.insts[inst] else { return false };
        let flags = func.dfg.mem_flags[flags];
        if !(flags.readonly() && flags.notrap() && flags.can_move()) {
            return false;
        }
        address = arg;
    }
}
