//! A check, in tests, of the loads that are marked as free to move.
//!
//! Cranelift moves a load that is marked `readonly`, `notrap` and `can_move` to any place where its address is computed
//! already: out of loops, before checks. So the address must be valid for as long as the function runs: the context's, or
//! one that was loaded from there by such loads. Any other address may be null or dangling before a check.

use cranelift_codegen::ir::{Function, InstructionData, Opcode, Value};

/// # Panics
/// If a load is free to move whose address is not valid for as long as the function runs.
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

/// Whether an address is valid for as long as the function runs.
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
