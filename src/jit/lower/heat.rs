//! Counting in quick code, so that the hottest functions are the first to get their best code.
//!
//! At its start and at each loop's head a function adds to its number in [`VMContext::heat`] the instructions that will
//! certainly run, those up to the next fork. The unit is that of the interpreter's counters.

use cranelift_codegen::ir::immediates::Imm64;
use cranelift_codegen::ir::{Inst, InstBuilder, InstructionData, MemFlagsData, Opcode, types};
use wasmparser::Operator as Op;

use super::Lower;
use crate::vm::context::VMContext;

/// WebAssembly instructions for each instruction of bytecode: many only name an operand.
const INSTRUCTIONS_PER_UNIT: u32 = 2;

/// The state of counting while a function is lowered.
pub(super) struct Heat {
    /// Byte offset of the function's number in the array.
    offset: i32,
    /// The additions since which there was no fork: the instruction of the constant that is added, and the number of
    /// WebAssembly instructions before it.
    straight: Vec<(Inst, u32)>,
    /// WebAssembly instructions so far.
    instructions: u32,
}

impl Heat {
    /// For a function.
    pub fn new(defined: u32) -> Self {
        let offset = i32::try_from(4 * u64::from(defined)).expect("a module has fewer than 2^28 functions");
        Heat { offset, straight: Vec::new(), instructions: 0 }
    }
}

impl Lower<'_, '_> {
    /// Emits an addition that counts the instructions from here to the next fork.
    pub(super) fn count(&mut self) {
        let Some(offset) = self.heat.as_ref().map(|heat| heat.offset) else { return };
        let numbers = self.load_constant(self.vmctx, VMContext::HEAT);
        let before = self.ins().load(types::I32, MemFlagsData::trusted(), numbers, offset);
        let weight = self.ins().iconst(types::I32, 1);
        let after = self.ins().iadd(before, weight);
        self.ins().store(MemFlagsData::trusted(), after, numbers, offset);
        let weight = self.builder.func.dfg.value_def(weight).unwrap_inst();
        if let Some(heat) = &mut self.heat {
            heat.straight.push((weight, heat.instructions));
        }
    }

    /// Notes an instruction that is about to be lowered.
    pub(super) fn weigh(&mut self, op: &Op<'_>) {
        let Some(heat) = &mut self.heat else { return };
        heat.instructions += 1;
        match op {
            Op::If { .. } | Op::Else | Op::Br { .. } | Op::BrIf { .. } | Op::BrTable { .. } => self.fork(),
            Op::BrOnCast { .. } | Op::BrOnCastFail { .. } => self.fork(),
            Op::BrOnNull { .. } | Op::BrOnNonNull { .. } => self.fork(),
            Op::Return | Op::ReturnCall { .. } | Op::ReturnCallIndirect { .. } | Op::ReturnCallRef { .. } => {
                self.fork()
            }
            Op::Unreachable | Op::Throw { .. } | Op::ThrowRef | Op::Rethrow { .. } => self.fork(),
            Op::Catch { .. } | Op::CatchAll => self.fork(),
            _ => {}
        }
    }

    /// Ends counting for the additions so far: control may leave here, so what follows does not certainly run.
    pub(super) fn fork(&mut self) {
        let Some(heat) = &mut self.heat else { return };
        for (weight, before) in heat.straight.drain(..) {
            let units = ((heat.instructions - before) / INSTRUCTIONS_PER_UNIT).max(1);
            let imm = Imm64::new(units.into());
            self.builder.func.dfg.insts[weight] = InstructionData::UnaryImm { opcode: Opcode::Iconst, imm };
        }
    }
}
