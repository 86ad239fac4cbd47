//! Fuel: a charge at the start of each segment, see [`module::fuel`](crate::module::fuel).
//!
//! What is left is in the store, where everyone finds it at every call and after every trap: each charge writes it there. Code
//! also keeps it in a variable, so that one charge need not wait for the write of the one before. The variable is read anew
//! wherever other code may have run.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};
use cranelift_frontend::Variable;
use wasmparser::FunctionBody;

use super::{Lower, Region};
use crate::module::fuel::Segments;
use crate::vm::context::{VMContext, VMStore};

/// The state of charging while a function is lowered.
pub(super) struct Fuel {
    segments: Segments,
    /// What is left, as long as no other code runs.
    left: Variable,
}

impl Lower<'_, '_> {
    /// At the start of a function that consumes fuel.
    pub(super) fn start_charging(&mut self, body: &FunctionBody<'_>) {
        let left = self.builder.declare_var(types::I64);
        self.fuel = Some(Fuel { segments: Segments::of(body, self.module.layouts()), left });
        self.reload_fuel();
    }

    /// After other code has run, which may have consumed fuel.
    pub(super) fn reload_fuel(&mut self) {
        let Some(left) = self.fuel.as_ref().map(|fuel| fuel.left) else { return };
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::Fuel);
        let value = self.ins().load(types::I64, flags, store, VMStore::FUEL);
        self.builder.def_var(left, value);
    }

    /// If fuel is consumed and a segment begins with the current instruction, emits the charge for it: subtracts the price
    /// from the store's fuel or, if there is less, calls the runtime, which traps or pays.
    pub(super) fn charge(&mut self) {
        let offset = self.offset;
        let Some(fuel) = &mut self.fuel else { return };
        let (variable, Some(price)) = (fuel.left, fuel.segments.starting_at(offset)) else { return };
        let price = i64::from(price);
        let before = self.builder.use_var(variable);
        let is_short = self.ins().icmp_imm_u(IntCC::UnsignedLessThan, before, price);
        let [exhausted, enough, paid] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.set_cold_block(exhausted);
        self.ins().brif(is_short, exhausted, [], enough, []);
        self.builder.seal_block(exhausted);
        self.builder.seal_block(enough);
        self.builder.switch_to_block(exhausted);
        let units = self.ins().iconst(types::I64, price);
        self.fuel_exhausted(units);
        self.ins().jump(paid, []);
        self.builder.switch_to_block(enough);
        let left = self.ins().iadd_imm_s(before, -price);
        self.builder.def_var(variable, left);
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::Fuel);
        self.ins().store(flags, left, store, VMStore::FUEL);
        self.ins().jump(paid, []);
        self.builder.seal_block(paid);
        self.builder.switch_to_block(paid);
    }
}
