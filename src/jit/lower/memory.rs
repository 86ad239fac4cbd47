//! Memory (specification, section 4.6.6): loads and stores, checked by [`bounds`](crate::jit::bounds); the runtime does
//! bulk operations.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::{MemArg, MemArgTarget, Operator as Op};

use super::{Lower, Region};
use crate::jit::bounds::AccessKind;
use crate::module::fuel::of_bytes;

/// Copies and fills of a constant length up to this are done inline.
const INLINE_BYTES: u64 = 64;

impl<'b> Lower<'_, 'b> {
    pub(super) fn memory(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::I32Load { memarg } => self.load_value(memarg, types::I32),
            Op::I64Load { memarg } => self.load_value(memarg, types::I64),
            Op::F32Load { memarg } => self.load_value(memarg, types::F32),
            Op::F64Load { memarg } => self.load_value(memarg, types::F64),
            Op::V128Load { memarg } => self.load_value(memarg, types::I8X16),
            Op::I32Load8S { memarg } => self.load(memarg, 1, |i, f, p, o| i.sload8(types::I32, f, p, o)),
            Op::I32Load8U { memarg } => self.load(memarg, 1, |i, f, p, o| i.uload8(types::I32, f, p, o)),
            Op::I32Load16S { memarg } => self.load(memarg, 2, |i, f, p, o| i.sload16(types::I32, f, p, o)),
            Op::I32Load16U { memarg } => self.load(memarg, 2, |i, f, p, o| i.uload16(types::I32, f, p, o)),
            Op::I64Load8S { memarg } => self.load(memarg, 1, |i, f, p, o| i.sload8(types::I64, f, p, o)),
            Op::I64Load8U { memarg } => self.load(memarg, 1, |i, f, p, o| i.uload8(types::I64, f, p, o)),
            Op::I64Load16S { memarg } => self.load(memarg, 2, |i, f, p, o| i.sload16(types::I64, f, p, o)),
            Op::I64Load16U { memarg } => self.load(memarg, 2, |i, f, p, o| i.uload16(types::I64, f, p, o)),
            Op::I64Load32S { memarg } => self.load(memarg, 4, |i, f, p, o| i.sload32(f, p, o)),
            Op::I64Load32U { memarg } => self.load(memarg, 4, |i, f, p, o| i.uload32(f, p, o)),
            Op::I32Store { memarg } | Op::F32Store { memarg } => self.store_value(memarg, 4),
            Op::I64Store { memarg } | Op::F64Store { memarg } => self.store_value(memarg, 8),
            Op::V128Store { memarg } => self.store_value(memarg, 16),
            Op::I32Store8 { memarg } | Op::I64Store8 { memarg } => {
                let value = self.pop();
                self.store(memarg, 1, |i, f, p, o| {
                    i.istore8(f, value, p, o);
                });
            }
            Op::I32Store16 { memarg } | Op::I64Store16 { memarg } => {
                let value = self.pop();
                self.store(memarg, 2, |i, f, p, o| {
                    i.istore16(f, value, p, o);
                });
            }
            Op::I64Store32 { memarg } => {
                let value = self.pop();
                self.store(memarg, 4, |i, f, p, o| {
                    i.istore32(f, value, p, o);
                });
            }
            Op::MemorySize { mem } => {
                let length = self.exact_memory_length(mem);
                let ty = self.module.memories[mem as usize];
                let pages = self.ins().ushr_imm_u(length, i64::from(ty.page_size_log2()));
                self.push_size(pages, ty.is_64());
            }
            Op::MemoryGrow { mem } => {
                let delta = self.widened_pop();
                let memory = self.index(mem);
                let old = self.memory_grow(memory, delta);
                self.push_size(old, self.module.memories[mem as usize].is_64());
            }
            Op::MemoryFill { mem } => self.fill(mem),
            Op::MemoryCopy { dst_mem, src_mem } => self.copy(dst_mem, src_mem),
            Op::MemoryInit { data_index, mem } => {
                let (len, src) = (self.pop(), self.pop());
                let dst = self.widened_pop();
                let (memory, segment) = (self.index(mem), self.index(data_index));
                self.memory_init(memory, segment, dst, src, len);
            }
            Op::DataDrop { data_index } => {
                let segment = self.index(data_index);
                self.data_drop(segment);
            }
            _ => return false,
        }
        true
    }

    /// Pops an index and pushes the value that `make` loads from there.
    pub(super) fn load(
        &mut self,
        memarg: MemArg,
        size: u64,
        make: impl FnOnce(FuncInstBuilder<'_, 'b>, MemFlagsData, Value, i32) -> Value,
    ) {
        let memory = memory_of(memarg);
        let index = self.pop();
        let address = self.address(memory, index, memarg.offset, size, AccessKind::Load);
        let flags = self.memory_flags(memory, address.checked);
        let value = make(self.builder.ins(), flags, address.base, address.offset);
        self.push(value);
    }

    pub(super) fn load_value(&mut self, memarg: MemArg, ty: Type) {
        self.load(memarg, u64::from(ty.bytes()), |i, f, p, o| i.load(ty, f, p, o));
    }

    /// Pops an index and has `make` store there.
    pub(super) fn store(
        &mut self,
        memarg: MemArg,
        size: u64,
        make: impl FnOnce(FuncInstBuilder<'_, 'b>, MemFlagsData, Value, i32),
    ) {
        let memory = memory_of(memarg);
        let index = self.pop();
        let address = self.address(memory, index, memarg.offset, size, AccessKind::Store);
        let flags = self.memory_flags(memory, address.checked);
        make(self.builder.ins(), flags, address.base, address.offset);
    }

    fn store_value(&mut self, memarg: MemArg, size: u64) {
        let value = self.pop();
        self.store(memarg, size, |i, f, p, o| {
            i.store(f, value, p, o);
        });
    }

    /// Flags of an access to a memory, which traps unless all of it was `checked`.
    pub(in crate::jit) fn memory_flags(&mut self, memory: u32, checked: bool) -> MemFlagsData {
        let flags = if checked { MemFlagsData::new().with_notrap() } else { MemFlagsData::new() };
        flags.with_alias_region(Some(self.region(Region::Memory(memory))))
    }

    fn fill(&mut self, memory: u32) {
        let (dst, value, len) = self.pop3();
        if let Some(len) = self.small_constant(len) {
            let address = self.address(memory, dst, 0, len, AccessKind::Whole);
            let flags = self.memory_flags(memory, true);
            let byte = self.ins().ireduce(types::I8, value);
            let mut bytes = None;
            for (offset, ty) in pieces(len) {
                let piece = match ty {
                    types::I8 => byte,
                    _ => {
                        let bytes = match bytes {
                            Some(bytes) => bytes,
                            None => *bytes.insert(self.ins().splat(types::I8X16, byte)),
                        };
                        self.low_lane(bytes, ty)
                    }
                };
                self.ins().store(flags, piece, address.base, address.offset + offset);
            }
            return;
        }
        let dst = self.widened(dst);
        let len = self.widened(len);
        let memory = self.index(memory);
        self.memory_fill(memory, dst, value, len);
    }

    fn copy(&mut self, dst_memory: u32, src_memory: u32) {
        let (dst, src, len) = self.pop3();
        if let Some(len) = self.small_constant(len) {
            let from = self.address(src_memory, src, 0, len, AccessKind::Whole);
            let to = self.address(dst_memory, dst, 0, len, AccessKind::Whole);
            let (src_flags, dst_flags) = (self.memory_flags(src_memory, true), self.memory_flags(dst_memory, true));
            // All is read before anything is written: the ranges may overlap.
            let values: Vec<_> = pieces(len)
                .map(|(offset, ty)| {
                    let value = self.builder.ins().load(ty, src_flags, from.base, from.offset + offset);
                    (offset, value)
                })
                .collect();
            for (offset, value) in values {
                self.ins().store(dst_flags, value, to.base, to.offset + offset);
            }
            return;
        }
        let dst = self.widened(dst);
        let src = self.widened(src);
        let len = self.widened(len);
        let (dst_memory, src_memory) = (self.index(dst_memory), self.index(src_memory));
        self.memory_copy(dst_memory, src_memory, dst, src, len);
    }

    /// The value of a constant length that is small enough to be done inline. Zero is not: its bounds must be checked too. Nor
    /// is one that costs fuel, which the runtime takes.
    fn small_constant(&self, len: Value) -> Option<u64> {
        let is_free = |len| self.fuel.is_none() || of_bytes(len) == 0;
        self.constant(len).filter(|len| (1..=INLINE_BYTES).contains(len) && is_free(*len))
    }

    /// The lowest bytes of a vector as an integer of type `ty`, or all of it.
    fn low_lane(&mut self, bytes: Value, ty: Type) -> Value {
        if ty == types::I8X16 {
            return bytes;
        }
        let lanes = self.as_vector(bytes, ty.by(128 / ty.bits()).expect("a vector of 128 bits"));
        self.ins().extractlane(lanes, 0)
    }
}

/// The memory that an access goes to.
pub(super) fn memory_of(memarg: MemArg) -> u32 {
    match memarg.target {
        MemArgTarget::Memory(memory) => memory,
        MemArgTarget::Array(_) => unreachable!("the modules of this version have no arrays"),
    }
}

/// Cuts `len` bytes into accesses, the widest first.
fn pieces(len: u64) -> impl Iterator<Item = (i32, Type)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let ty = match len - offset {
            0 => return None,
            1 => types::I8,
            2..4 => types::I16,
            4..8 => types::I32,
            8..16 => types::I64,
            _ => types::I8X16,
        };
        let piece = (offset as i32, ty);
        offset += u64::from(ty.bytes());
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_length() {
        let of = |len| pieces(len).map(|(offset, ty)| (offset, ty.bytes())).collect::<Vec<_>>();
        assert_eq!(of(1), [(0, 1)]);
        assert_eq!(of(31), [(0, 16), (16, 8), (24, 4), (28, 2), (30, 1)]);
        assert_eq!(of(64), [(0, 16), (16, 16), (32, 16), (48, 16)]);
    }
}
