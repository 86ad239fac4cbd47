//! Bounds checks of memory accesses.
//!
//! An access of `size` bytes at `index + offset` is in bounds when `index + offset + size <= length`. [`MEMORY_GUARD`]
//! inaccessible bytes follow the reservation of every memory, and from its length to the end of the reservation nothing is
//! accessible either. So with `offset + size <= MEMORY_GUARD` it is enough to prove `index < length`: then
//! `index + offset + size < length + MEMORY_GUARD`, and an access that is out of bounds faults. One comparison serves
//! all offsets of an index. With [`BoundsChecks::Guard`] nothing is compared, as `index < 4 GiB` is all that is needed.
//!
//! These are not checked:
//! - an index known to be so small that the access lies below the memory's minimum size;
//! - an index that was checked on every path to the access. Memories never shrink, so an index that was in bounds stays so
//!   across calls; [`Proofs`] follows the structure of the code to know what has been proved;
//! - an index that is `d` above such a one, modulo 2^32, with `d + offset + size <= MEMORY_GUARD`. If the sum does not
//!   wrap, it is below `length + d`, and the access ends below `length + MEMORY_GUARD`. If it does, the index is below
//!   `d`, and the access ends below `MEMORY_GUARD`. Either way it is in bounds, or faults.
//!
//! All of that holds for 64-bit addresses too, modulo 2^64, except that guard pages alone never serve: with [`BoundsChecks::Guard`] they
//! are checked as inline. Where `index + offset + size` could wrap, `index < length` is proved first: lengths are below 2^63, and an
//! access that ends 2^63 bytes or more after its index is always out of bounds.
//!
//! Nothing relies on the guard if pages are smaller than 64 KiB: between the length and the next page of the host all is accessible.
//!
//! On processors other than x86-64 a store that faults may have written a part of its bytes. There
//! `index + offset + size <= length` is proved in full before a store, or with `Guard` the last byte is read first.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{DataFlowGraph, InstBuilder, InstructionData, Opcode, Value, types};
use cranelift_codegen::isa::TargetIsa;
use wasmparser::{FunctionBody, Operator as Op};

use super::lower::trap::Checked;
use super::lower::{Lower, Region};
use crate::config::{BoundsChecks, Config};
use crate::module::ModuleFacts;
use crate::module::nesting::{ends_block, opens_block};
use crate::vm::context::VMMemory;
use crate::vm::memory::{MEMORY_GUARD, PAGE};

/// The kind of access that an address is computed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessKind {
    Load,
    Store,
    /// By several accesses, none of which may happen if one of them is out of bounds.
    Whole,
}

/// The address of a checked access.
pub(super) struct Address {
    pub base: Value,
    pub offset: i32,
    /// Whether the access is known to lie in the memory: it can't fault.
    pub checked: bool,
}

/// The state of bounds checks while a function is lowered.
pub(super) struct Bounds {
    checks: BoundsChecks,
    /// Whether a store that faults may have written a part of its bytes.
    tears: bool,
    proofs: Proofs,
    /// For each loop of the body, in order, whether loading the length of memory 0 before it pays.
    loops: std::vec::IntoIter<bool>,
}

impl Bounds {
    pub fn new(config: &Config, isa: &dyn TargetIsa) -> Self {
        let tears = !matches!(isa.triple().architecture, target_lexicon::Architecture::X86_64);
        Bounds { checks: config.bounds_checks, tears, proofs: Proofs::default(), loops: Vec::new().into_iter() }
    }

    /// Finds the loops that access memory and cannot change lengths: the load of memory 0's length is moved out of them.
    pub fn prescan(&mut self, module: &ModuleFacts, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        // Of a shared memory the length may change at any time. Until this thread has synchronised with who has let it grow, an old
        // one serves; alias analysis knows that atomic instructions do that.
        let fixed = module.memories.first().is_none_or(|ty| ty.is_fixed() || ty.is_shared());
        if self.checks == BoundsChecks::Guard || fixed {
            return Ok(());
        }
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
        self.loops = loops.into_iter().map(|facts| facts.accesses && !facts.calls).collect::<Vec<_>>().into_iter();
        Ok(())
    }

    /// A mark for [`Bounds::forget`].
    pub fn proofs(&self) -> usize {
        self.proofs.log.len()
    }

    /// Forgets what was proved since the mark: the code that follows is reached on other paths too.
    pub fn forget(&mut self, mark: usize) {
        self.proofs.forget(mark);
    }
}

/// What the instructions of a loop do, those of the loops in it included.
#[derive(Clone, Copy, Default)]
struct LoopFacts {
    accesses: bool,
    calls: bool,
}

/// Which indices are known to be in bounds of which memories.
#[derive(Default)]
struct Proofs {
    /// By memory and value: what has been proved of sums of the value and a constant.
    proved: HashMap<(u32, Value), Vec<Proof>>,
    /// The keys of all proofs, in the order in which these were added.
    log: Vec<(u32, Value)>,
}

/// `index + bytes <= length`, where `index` is some value plus `added`, modulo 2^32 or 2^64.
#[derive(Clone, Copy)]
struct Proof {
    added: u64,
    bytes: u64,
}

/// What must be proved of an index.
#[derive(Clone, Copy)]
enum Need {
    /// The access, which ends so many bytes after the index, is in bounds or faults.
    Reach(u64),
    /// So many bytes from the index on are in bounds.
    Bytes(u64),
}

/// An index as a value plus a constant, modulo 2^32 or 2^64: `all` is the greatest address.
#[derive(Clone, Copy)]
struct Sum {
    value: Value,
    added: u64,
    all: u64,
}

impl Proofs {
    /// How many proofs of one value are looked at, from the latest: this bounds what a hostile function costs.
    const LATEST: usize = 32;

    fn hold(&self, memory: u32, index: Sum, need: Need) -> bool {
        let Some(proofs) = self.proved.get(&(memory, index.value)) else {
            return false;
        };
        proofs.iter().rev().take(Self::LATEST).any(|proof| {
            let above = index.added.wrapping_sub(proof.added) & index.all;
            let (bytes, most) = match need {
                Need::Reach(end) => (end, MEMORY_GUARD as u64),
                // The sum is less than the length above the proved index, so it does not wrap.
                Need::Bytes(bytes) => (bytes, proof.bytes),
            };
            above.checked_add(bytes).is_some_and(|end| end <= most)
        })
    }

    fn add(&mut self, memory: u32, index: Sum, bytes: u64) {
        let key = (memory, index.value);
        self.proved.entry(key).or_default().push(Proof { added: index.added, bytes });
        self.log.push(key);
    }

    fn forget(&mut self, mark: usize) {
        for key in self.log.drain(mark..).rev() {
            self.proved.get_mut(&key).and_then(Vec::pop);
        }
    }
}

impl Lower<'_, '_> {
    /// Checks an access of `size` bytes at `index + offset` of a memory, and gives its address.
    pub(super) fn address(&mut self, memory: u32, index: Value, offset: u64, size: u64, access: AccessKind) -> Address {
        let ty = self.module.memories[memory as usize];
        // A 64-bit offset may be so large that the end wraps; no access ends there.
        let end = offset.saturating_add(size);
        let minimum = ty.minimum_bytes();
        let index = self.builder.func.dfg.resolve_aliases(index);
        let below = upper_bound(&self.builder.func.dfg, index).checked_add(end).is_some_and(|end| end <= minimum);
        let guarded = end <= MEMORY_GUARD as u64;
        let store_tears = access == AccessKind::Store && self.bounds.tears && size > 1;
        let whole = access == AccessKind::Whole || !guarded || !self.signals() || ty.page_size() < PAGE;
        let about = Checked { memory, index, offset, size };
        let mut checked = below;
        if !below {
            let checks = if ty.is_64() { BoundsChecks::Inline } else { self.bounds.checks };
            match checks {
                BoundsChecks::Guard if !whole => {}
                BoundsChecks::Inline if !whole && !store_tears => self.prove(about, Need::Reach(end)),
                _ => {
                    self.prove(about, Need::Bytes(end));
                    checked = true;
                }
            }
        }
        let (base, offset) = self.place(memory, index, offset);
        if store_tears && !checked {
            let last = offset + (size - 1) as i32;
            let flags = self.memory_flags(memory, false);
            self.ins().load(types::I8, flags, base, last);
        }
        Address { base, offset, checked }
    }

    /// Base and offset of a byte of a memory.
    fn place(&mut self, memory: u32, index: Value, offset: u64) -> (Value, i32) {
        let base = self.memory_base(memory);
        let (index, mut offset) = match self.constant(index) {
            Some(constant) => (None, constant.wrapping_add(offset)),
            None => (Some(index), offset),
        };
        let mut address = base;
        if let Some(index) = index {
            let index = self.widened(index);
            address = self.ins().iadd(base, index);
        }
        if offset > i32::MAX as u64 - PAGE {
            address = self.ins().iadd_imm_s(address, offset as i64);
            offset = 0;
        }
        (address, offset as i32)
    }

    /// Emits a check that traps unless the index is as needed, if that is not proved yet.
    fn prove(&mut self, access: Checked, need: Need) {
        let Checked { memory, index, .. } = access;
        let ty = self.module.memories[memory as usize];
        let sum = self.sum(index, ty.is_64());
        if self.bounds.proofs.hold(memory, sum, need) {
            return;
        }
        let need = match need {
            Need::Reach(_) => 1,
            Need::Bytes(bytes) => bytes,
        };
        let minimum = ty.minimum_bytes();
        if ty.is_64() && need > minimum && need > 1 {
            if i64::try_from(need).is_err() {
                self.trap_beyond(access);
                return;
            }
            // Or `index + need` could wrap.
            self.prove(access, Need::Bytes(1));
        }
        self.bounds.proofs.add(memory, sum, need);
        // Not for a constant index: Cranelift would fold the comparison, and the trap handler could not tell the address.
        let fixed = ty.is_fixed() && need <= minimum && self.constant(index).is_none();
        let outside = if fixed {
            // `index > length - need`, all of the address's width.
            let last = minimum - need;
            if last >= sum.all {
                return;
            }
            self.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, index, last as i64)
        } else {
            let length = self.load_length(memory);
            let index = self.widened(index);
            if need == 1 {
                self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, index, length)
            } else if need <= minimum {
                // `length - need` does not wrap, as the length is never below the minimum.
                let last = self.ins().iadd_imm_s(length, -(need as i64));
                self.ins().icmp(IntCC::UnsignedGreaterThan, index, last)
            } else {
                // Neither does `index + need`: both are below 2^34, or below 2^63 if addresses have 64 bits.
                let end = self.ins().iadd_imm_s(index, need as i64);
                self.ins().icmp(IntCC::UnsignedGreaterThan, end, length)
            }
        };
        self.trap_outside(outside, access);
    }

    /// An index as 64 bits.
    pub(super) fn widened(&mut self, index: Value) -> Value {
        if self.builder.func.dfg.value_type(index) == types::I64 {
            index
        } else {
            self.ins().uextend(types::I64, index)
        }
    }

    /// The sum of an index and an offset; the greatest number if it is above that.
    pub(super) fn far_address(&mut self, index: Value, offset: u64) -> Value {
        if self.builder.func.dfg.value_type(index) == types::I32 {
            let index = self.ins().uextend(types::I64, index);
            return self.ins().iadd_imm_s(index, offset as i64);
        }
        let offset = self.ins().iconst(types::I64, offset as i64);
        let sum = self.ins().iadd(index, offset);
        let wraps = self.ins().icmp(IntCC::UnsignedLessThan, sum, index);
        let most = self.ins().iconst(types::I64, -1);
        self.ins().select(wraps, most, sum)
    }

    /// The index with the constants of up to four additions taken out of it.
    fn sum(&self, index: Value, is_64: bool) -> Sum {
        let dfg = &self.builder.func.dfg;
        let all = if is_64 { u64::MAX } else { u32::MAX.into() };
        let mut sum = Sum { value: index, added: 0, all };
        for _ in 0..4 {
            let Some(inst) = dfg.value_def(sum.value).inst() else { break };
            let InstructionData::Binary { opcode, args: [x, y] } = dfg.insts[inst] else { break };
            let (value, added) = match (opcode, constant(dfg, x), constant(dfg, y)) {
                (Opcode::Iadd, _, Some(y)) => (x, y),
                (Opcode::Iadd, Some(x), _) => (y, x),
                (Opcode::Isub, _, Some(y)) => (x, y.wrapping_neg()),
                _ => break,
            };
            sum = Sum { value: dfg.resolve_aliases(value), added: sum.added.wrapping_add(added) & all, all };
        }
        sum
    }

    fn memory_base(&mut self, memory: u32) -> Value {
        let (header, offset) = self.locate(self.module.offsets.memory(memory));
        self.load_constant(header, offset + VMMemory::BASE)
    }

    /// The length of a memory in bytes.
    pub(super) fn memory_length(&mut self, memory: u32) -> Value {
        let ty = self.module.memories[memory as usize];
        if ty.is_fixed() {
            return self.ins().iconst(types::I64, ty.minimum_bytes() as i64);
        }
        self.load_length(memory)
    }

    /// The length of a memory in bytes, which other threads may have changed until now if it is shared.
    pub(super) fn exact_memory_length(&mut self, memory: u32) -> Value {
        let ty = self.module.memories[memory as usize];
        if !ty.is_shared() || ty.is_fixed() {
            return self.memory_length(memory);
        }
        let (header, offset) = self.locate(self.module.offsets.memory(memory));
        let place = self.ins().iadd_imm_s(header, i64::from(offset + VMMemory::LENGTH));
        let flags = self.flags(Region::MemoryLength);
        self.ins().atomic_load(types::I64, flags, place)
    }

    fn load_length(&mut self, memory: u32) -> Value {
        let (header, offset) = self.locate(self.module.offsets.memory(memory));
        let flags = self.flags(Region::MemoryLength);
        self.ins().load(types::I64, flags, header, offset + VMMemory::LENGTH)
    }

    /// Loads the length of memory 0 before a loop that accesses memory and does not change it, so that the loads in the loop
    /// fold into this one. Whether it did.
    pub(super) fn load_lengths_for_loop(&mut self) -> bool {
        let worthwhile = self.bounds.loops.next() == Some(true);
        if worthwhile {
            self.memory_length(0);
        }
        worthwhile
    }

    /// The value of an integer constant.
    pub(super) fn constant(&self, value: Value) -> Option<u64> {
        constant(&self.builder.func.dfg, value)
    }
}

fn constant(dfg: &DataFlowGraph, value: Value) -> Option<u64> {
    match dfg.insts[dfg.value_def(dfg.resolve_aliases(value)).inst()?] {
        InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits() as u64),
        _ => None,
    }
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

/// Whether an operator calls other code, which Cranelift's alias analysis takes to change everything.
fn may_call(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::Call { .. }
            | Op::CallIndirect { .. }
            | Op::CallRef { .. }
            | Op::MemoryGrow { .. }
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

/// A number that `value`, taken as unsigned, never exceeds.
pub(super) fn upper_bound(dfg: &DataFlowGraph, value: Value) -> u64 {
    bound(dfg, value, 6)
}

fn bound(dfg: &DataFlowGraph, value: Value, depth: u32) -> u64 {
    let value = dfg.resolve_aliases(value);
    let all = u64::MAX >> (64 - dfg.value_type(value).bits().min(64));
    let Some(inst) = dfg.value_def(value).inst().filter(|_| depth > 0) else {
        return all;
    };
    let of = |value| bound(dfg, value, depth - 1);
    // A sum or product that may wrap has no bound.
    let unless_wrapped = |bound: Option<u64>| bound.filter(|bound| *bound <= all).unwrap_or(all);
    match dfg.insts[inst] {
        InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => imm.bits() as u64 & all,
        InstructionData::Binary { opcode, args: [x, y] } => match opcode {
            Opcode::Band => of(x).min(of(y)),
            // The result has no bit above the highest one of both.
            Opcode::Bor | Opcode::Bxor => u64::MAX.checked_shr((of(x) | of(y)).leading_zeros()).unwrap_or(0),
            Opcode::Iadd => unless_wrapped(of(x).checked_add(of(y))),
            Opcode::Imul => unless_wrapped(of(x).checked_mul(of(y))),
            Opcode::Ishl => match constant(dfg, y) {
                Some(n) if n < 32 => unless_wrapped(of(x).checked_mul(1 << n)),
                _ => all,
            },
            Opcode::Ushr => match constant(dfg, y) {
                Some(n) if n < 32 => of(x) >> n,
                _ => of(x),
            },
            Opcode::Urem => match constant(dfg, y) {
                Some(n) if n > 0 => of(x).min(n - 1),
                _ => of(x),
            },
            Opcode::Udiv => match constant(dfg, y) {
                Some(n) if n > 0 => of(x) / n,
                _ => of(x),
            },
            _ => all,
        },
        InstructionData::Unary { opcode, arg } => match opcode {
            Opcode::Uextend => of(arg),
            Opcode::Ireduce => of(arg).min(all),
            Opcode::Clz | Opcode::Ctz | Opcode::Popcnt => 64.min(all),
            _ => all,
        },
        InstructionData::Load { opcode: Opcode::Uload8, .. } => 0xff,
        InstructionData::Load { opcode: Opcode::Uload16, .. } => 0xffff,
        InstructionData::IntCompare { .. } | InstructionData::FloatCompare { .. } => 1.min(all),
        InstructionData::Ternary { opcode: Opcode::Select, args: [_, x, y] } => of(x).max(of(y)),
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(value: u32, added: u32) -> Sum {
        Sum { value: Value::from_u32(value), added: added.into(), all: u32::MAX.into() }
    }

    #[test]
    fn a_proof_serves_what_lies_above_it_within_the_guard() {
        let guard = MEMORY_GUARD as u64;
        let mut proofs = Proofs::default();
        proofs.add(0, sum(1, 8), 1);
        assert!(proofs.hold(0, sum(1, 8), Need::Reach(guard)));
        assert!(!proofs.hold(0, sum(1, 8), Need::Reach(guard + 1)));
        assert!(proofs.hold(0, sum(1, 16), Need::Reach(guard - 8)));
        assert!(!proofs.hold(0, sum(1, 16), Need::Reach(guard - 7)));
        // Below the proof, of another value, of another memory.
        assert!(!proofs.hold(0, sum(1, 7), Need::Reach(1)));
        assert!(!proofs.hold(0, sum(2, 8), Need::Reach(1)));
        assert!(!proofs.hold(1, sum(1, 8), Need::Reach(1)));
    }

    #[test]
    fn whole_accesses_need_all_of_their_bytes_proved() {
        let mut proofs = Proofs::default();
        proofs.add(0, sum(1, 0), 16);
        assert!(proofs.hold(0, sum(1, 8), Need::Bytes(8)));
        assert!(!proofs.hold(0, sum(1, 9), Need::Bytes(8)));
        assert!(!proofs.hold(0, sum(1, u32::MAX), Need::Bytes(1)));
    }

    #[test]
    fn what_was_proved_on_one_path_is_forgotten_where_paths_meet() {
        let mut proofs = Proofs::default();
        proofs.add(0, sum(1, 0), 1);
        let mark = proofs.log.len();
        proofs.add(0, sum(1, 0), 64);
        proofs.add(0, sum(2, 0), 1);
        proofs.forget(mark);
        assert!(proofs.hold(0, sum(1, 0), Need::Bytes(1)));
        assert!(!proofs.hold(0, sum(1, 0), Need::Bytes(64)));
        assert!(!proofs.hold(0, sum(2, 0), Need::Reach(1)));
    }
}
