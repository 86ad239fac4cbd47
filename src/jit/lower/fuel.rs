//! Fuel: a charge at the start of each segment, see [`module::fuel`](crate::module::fuel).

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};

use super::{Lower, Region};
use crate::vm::context::{VMContext, VMStore};

impl Lower<'_, '_> {
    /// If fuel is consumed and a segment begins with the current instruction, emits the charge for it: subtracts the price
    /// from the store's fuel or, if there is less, calls the runtime, which traps or pays.
    pub(super) fn charge(&mut self) {
        let offset = self.offset;
        let Some(price) = self.segments.as_mut().and_then(|segments| segments.starting_at(offset)) else { return };
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::Fuel);
        let fuel = self.ins().load(types::I64, flags, store, VMStore::FUEL);
        let is_short = self.ins().icmp_imm_u(IntCC::UnsignedLessThan, fuel, i64::from(price));
        let (exhausted, enough, paid) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(exhausted);
        self.ins().brif(is_short, exhausted, [], enough, []);
        self.builder.seal_block(exhausted);
        self.builder.seal_block(enough);
        self.builder.switch_to_block(exhausted);
        let price_value = self.ins().iconst(types::I64, i64::from(price));
        self.fuel_exhausted(price_value);
        self.ins().jump(paid, []);
        self.builder.switch_to_block(enough);
        let left = self.ins().iadd_imm_s(fuel, -i64::from(price));
        self.ins().store(flags, left, store, VMStore::FUEL);
        self.ins().jump(paid, []);
        self.builder.seal_block(paid);
        self.builder.switch_to_block(paid);
    }
}
