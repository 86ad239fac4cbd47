//! Tables.

use super::{NONE, Translator};
use crate::interp::machine::encode_place;
use crate::interp::op::Plain;
use crate::interp::value::Bank;

impl Translator<'_> {
    pub(super) fn table_place(&self, table: u32) -> u32 {
        encode_place(self.module.offsets.table(table))
    }

    pub fn table_get(&mut self, table: u32) {
        let index = self.pop_slot();
        let b = self.read(index, 0);
        let place = self.table_place(table);
        let slot = self.push_temp(Bank::Int);
        self.define(Plain::TableGet.op(), slot, Bank::Int, b, 0, &[place.into()]);
    }

    pub fn table_set(&mut self, table: u32) {
        let (value, index) = (self.pop(), self.pop());
        let (a, b) = (self.slot_of(index), self.slot_of(value));
        let (a, b) = (self.read(a, 0), self.read(b, 1));
        let place = self.table_place(table);
        self.effect(Plain::TableSet.op(), a, b, 0, &[place.into()]);
    }

    pub fn table_size(&mut self, table: u32) {
        let place = self.table_place(table);
        let slot = self.push_temp(Bank::Int);
        self.define_bc(Plain::TableSize.op(), slot, Bank::Int, place);
    }

    pub fn table_grow(&mut self, table: u32) {
        let (delta, init) = (self.pop(), self.pop());
        let (b, c) = (self.slot_of(init), self.slot_of(delta));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        let slot = self.push_temp(Bank::Int);
        let is_64 = self.module.tables[table as usize].is_64();
        self.define(Plain::TableGrow.op(), slot, Bank::Int, b, c, &[u64::from(table) | u64::from(is_64) << 32]);
        self.acc = [NONE; 3];
    }

    pub fn table_fill(&mut self, table: u32) {
        self.bulk(Plain::TableFill, table, 0);
    }

    pub fn table_copy(&mut self, to: u32, from: u32) {
        self.bulk(Plain::TableCopy, to, from);
    }

    pub fn table_init(&mut self, table: u32, segment: u32) {
        self.bulk(Plain::TableInit, table, segment);
    }

    pub fn elem_drop(&mut self, segment: u32) {
        self.drop_segment(Plain::ElemDrop, segment);
    }
}
