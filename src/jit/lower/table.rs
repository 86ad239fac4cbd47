//! Tables (specification, section 4.6.5): elements are accessed inline, the runtime does the rest.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use wasmparser::Operator as Op;

use super::{CONSTANT, Lower, Region};
use crate::error::Trap;
use crate::jit::bounds;
use crate::vm::context::VMTable;

impl Lower<'_, '_> {
    pub(super) fn table(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::TableGet { table } => {
                let index = self.pop();
                let element = self.element(table, index, Trap::TableOutOfBounds);
                let flags = self.flags(Region::TableElement);
                let value = self.ins().load(types::I64, flags, element, 0);
                self.learn_type(value, &self.module.tables[table as usize].element.clone().into());
                self.push(value);
            }
            Op::TableSet { table } => {
                let (index, value) = self.pop2();
                let element = self.element(table, index, Trap::TableOutOfBounds);
                let flags = self.flags(Region::TableElement);
                self.ins().store(flags, value, element, 0);
            }
            Op::TableSize { table } => {
                let length = self.table_length(table);
                self.push_size(length, self.module.tables[table as usize].is_64());
            }
            Op::TableGrow { table } => {
                let delta = self.widened_pop();
                let init = self.pop();
                let index = self.index(table);
                let old = self.table_grow(index, delta, init);
                self.push_size(old, self.module.tables[table as usize].is_64());
            }
            Op::TableFill { table } => {
                let len = self.widened_pop();
                let value = self.pop();
                let dst = self.widened_pop();
                let table = self.index(table);
                self.table_fill(table, dst, value, len);
            }
            Op::TableCopy { dst_table, src_table } => {
                let (len, src, dst) = (self.widened_pop(), self.widened_pop(), self.widened_pop());
                let (dst_table, src_table) = (self.index(dst_table), self.index(src_table));
                self.table_copy(dst_table, src_table, dst, src, len);
            }
            Op::TableInit { elem_index, table } => {
                let (len, src) = (self.pop(), self.pop());
                let dst = self.widened_pop();
                let (table, segment) = (self.index(table), self.index(elem_index));
                self.table_init(table, segment, dst, src, len);
            }
            Op::ElemDrop { elem_index } => {
                let segment = self.index(elem_index);
                self.elem_drop(segment);
            }
            _ => return false,
        }
        true
    }

    /// An index of a memory, table, segment or function as an argument for the runtime.
    pub(super) fn index(&mut self, index: u32) -> Value {
        self.ins().iconst(types::I32, i64::from(index))
    }

    /// The number of elements, if the table's type fixes it.
    fn fixed_length(&self, table: u32) -> Option<u64> {
        let ty = &self.module.tables[table as usize];
        (ty.maximum == Some(ty.minimum)).then_some(ty.minimum)
    }

    fn table_length(&mut self, table: u32) -> Value {
        if let Some(length) = self.fixed_length(table) {
            return self.ins().iconst(types::I64, length as i64);
        }
        let (header, offset) = self.locate(self.module.offsets.table(table));
        let flags = self.flags(Region::TableHeader);
        self.ins().load(types::I64, flags, header, offset + VMTable::LENGTH)
    }

    /// The address of an element; traps if there is none of that index.
    pub(super) fn element(&mut self, table: u32, index: Value, trap: Trap) -> Value {
        let ty = &self.module.tables[table as usize];
        let fixed = self.fixed_length(table);
        let wide = self.widened(index);
        // Tables never shrink: an index below the minimum size is always in bounds.
        if bounds::upper_bound(&self.builder.func.dfg, index) >= ty.minimum {
            let outside = match fixed {
                Some(length) if length <= u64::from(u32::MAX) => {
                    self.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, index, length as i64)
                }
                _ => {
                    let length = self.table_length(table);
                    self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, wide, length)
                }
            };
            self.trapnz(outside, trap);
        }
        let (header, offset) = self.locate(self.module.offsets.table(table));
        // A table that cannot grow does not move.
        let flags = if fixed.is_some() { CONSTANT } else { self.flags(Region::TableHeader) };
        let base = self.ins().load(types::I64, flags, header, offset + VMTable::BASE);
        let scaled = self.ins().ishl_imm_u(wide, 3);
        self.ins().iadd(base, scaled)
    }
}
