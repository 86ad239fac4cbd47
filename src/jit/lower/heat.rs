//! Counting in quick code, so that what is hot of it gets its best code first.
//!
//! A function and each of its loops add to the function's number of [`VMContext::heat`] what they run at least: the
//! instructions up to the first that may lead elsewhere, in the units of the interpreter's counters.

use cranelift_codegen::ir::immediates::Imm64;
use cranelift_codegen::ir::{Inst, InstBuilder, InstructionData, MemFlagsData, Opcode, types};
use wasmparser::Operator as Op;

use super::Lower;
use crate::vm::context::VMContext;

/// WebAssembly's instructions for each of the interpreter's: many only name an operand.
const INSTRUCTIONS_PER_UNIT: u32 = 2;

/// How code counts.
pub(super) struct Heat {
    /// Where the function's number lies, from the first.
    offset: i32,
    /// The constants that are added where all instructions since then follow each other, and the number of those before.
    straight: Vec<(Inst, u32)>,
    /// Instructions so far.
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
    /// Counts from here to the next fork.
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

    /// Takes note of an instruction that is about to be lowered.
    pub(super) fn weigh(&mut self, op: &Op<'_>) {
        let Some(heat) = &mut self.heat else { return };
        heat.instructions += 1;
        match op {
            Op::If { .. } | Op::Else | Op::Br { .. } | Op::BrIf { .. } | Op::BrTable { .. } => self.fork(),
            Op::Return | Op::ReturnCall { .. } | Op::ReturnCallIndirect { .. } => self.fork(),
            Op::Unreachable | Op::Throw { .. } | Op::ThrowRef => self.fork(),
            _ => {}
        }
    }

    /// What follows may be passed by.
    pub(super) fn fork(&mut self) {
        let Some(heat) = &mut self.heat else { return };
        for (weight, before) in heat.straight.drain(..) {
            let units = ((heat.instructions - before) / INSTRUCTIONS_PER_UNIT).max(1);
            let imm = Imm64::new(units.into());
            self.builder.func.dfg.insts[weight] = InstructionData::UnaryImm { opcode: Opcode::Iconst, imm };
        }
    }
}
