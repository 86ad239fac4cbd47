//! Values that were computed on all paths to the current instruction, so that they are not computed again.
//!
//! Cranelift would merge them as well, but takes several times as long for each instruction that it removes. As with what
//! is [`known`](super::known) of references, where paths meet, what was computed on one of them is forgotten: each value
//! here was defined in a block that dominates the current one.

use std::collections::HashMap;

use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::Lower;
use crate::vm::context::VMContext;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::jit) enum Computation {
    /// An integer constant.
    Constant(Type, i64),
    /// A value of 32 bits, extended with zeros.
    Widened(Value),
    /// The base of a memory.
    Base(u32),
    /// The base of a memory plus an index.
    Address(u32, Value),
    /// The length of a memory, which changes with calls.
    Length(u32),
    /// The address of what tells running code to stop.
    Interrupt,
}

/// What code has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jit) enum Change {
    /// The bytes of memories.
    Memory,
    /// All that a call may change.
    Everything,
}

/// What a part of a memory holds, because it was loaded from there or stored there.
#[derive(Clone, Copy)]
struct Held {
    memory: u32,
    index: Value,
    offset: u64,
    ty: Type,
    value: Value,
}

/// How many parts of memories are remembered.
const MOST_HELD: usize = 16;

/// What was computed.
#[derive(Default)]
pub(super) struct Computed {
    values: HashMap<Computation, Value>,
    /// What was computed at the function's entry, and is never forgotten.
    at_entry: HashMap<Computation, Value>,
    /// The keys of `values`, in the order in which these were added.
    log: Vec<Computation>,
    /// The lengths among `values`.
    lengths: Vec<Computation>,
    held: Vec<Held>,
}

impl Computed {
    /// A mark for [`Computed::forget`].
    pub fn mark(&self) -> usize {
        self.log.len()
    }

    /// Forgets what was computed since the mark.
    pub fn forget(&mut self, mark: usize) {
        for computation in self.log.drain(mark..) {
            self.values.remove(&computation);
        }
        self.held.clear();
    }

    /// Keeps what was computed so far, which was at the function's entry.
    pub fn keep(&mut self) {
        self.at_entry = std::mem::take(&mut self.values);
        self.log.clear();
    }

    fn get(&self, computation: Computation) -> Option<Value> {
        self.values.get(&computation).or_else(|| self.at_entry.get(&computation)).copied()
    }

    /// Forgets everything but what was kept. Marks stay what they are.
    pub fn clear(&mut self) {
        // The log stays: a value that is added again may be forgotten sooner than it must. The table is replaced because
        // to empty a large one takes as long as its capacity, and a hostile function does it often.
        self.values = HashMap::new();
        self.lengths.clear();
        self.held.clear();
    }

    fn add(&mut self, computation: Computation, value: Value) {
        self.values.insert(computation, value);
        self.log.push(computation);
        if let Computation::Length(_) = computation {
            self.lengths.push(computation);
        }
    }

    fn change(&mut self, change: Change) {
        self.held.clear();
        if change == Change::Everything {
            self.lengths.drain(..).for_each(|length| _ = self.values.remove(&length));
        }
    }

    fn held(&self, memory: u32, index: Value, offset: u64, ty: Type) -> Option<Value> {
        let is_it = |held: &&Held| (held.memory, held.index, held.offset, held.ty) == (memory, index, offset, ty);
        self.held.iter().find(is_it).map(|held| held.value)
    }

    fn hold(&mut self, held: Held) {
        if self.held.len() == MOST_HELD {
            self.held.remove(0);
        }
        self.held.push(held);
    }

    /// Forgets what a store of `size` bytes may change: all but what lies beside it from the same index, in the same
    /// memory. Two offsets from one index never wrap to the same byte, as sums of indices and offsets don't wrap.
    fn store(&mut self, memory: u32, index: Value, offset: u64, size: u64) {
        self.held.retain(|held| {
            let ends_before =
                |start: u64, size: u64, other: u64| start.checked_add(size).is_some_and(|end| end <= other);
            (held.memory, held.index) == (memory, index)
                && (ends_before(held.offset, held.ty.bytes().into(), offset) || ends_before(offset, size, held.offset))
        });
    }
}

impl Lower<'_, '_> {
    /// The value of a computation: what is there already, or what `make` emits. May only be used where what is emitted
    /// runs on all paths to the instructions that follow.
    pub(in crate::jit) fn once(&mut self, computation: Computation, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if let Some(value) = self.computed.get(computation) {
            return value;
        }
        let value = make(self);
        self.computed.add(computation, value);
        value
    }

    /// Forgets what has changed.
    pub(in crate::jit) fn changed(&mut self, change: Change) {
        self.computed.change(change);
    }

    /// What a memory holds, if that is known.
    pub(super) fn held(&self, memory: u32, index: Value, offset: u64, ty: Type) -> Option<Value> {
        self.computed.held(memory, index, offset, ty)
    }

    /// Remembers what was loaded from a memory, or has just been stored there.
    pub(super) fn hold(&mut self, memory: u32, index: Value, offset: u64, value: Value) {
        // Other threads may change a shared memory.
        if !self.module.memories[memory as usize].is_shared() {
            let ty = self.builder.func.dfg.value_type(value);
            self.computed.hold(Held { memory, index, offset, ty, value });
        }
    }

    /// Forgets what a store changes.
    pub(super) fn stored(&mut self, memory: u32, index: Value, offset: u64, size: u64) {
        self.computed.store(memory, index, offset, size);
    }

    /// The address of what tells running code to stop.
    pub(super) fn interrupt(&mut self) -> Value {
        self.once(Computation::Interrupt, |lower| lower.load_constant(lower.vmctx, VMContext::INTERRUPT))
    }

    /// Pushes an `i32` constant, of which the low 32 bits of `x` are taken.
    pub(super) fn push_i32(&mut self, x: i64) {
        self.push_constant(types::I32, x & 0xffff_ffff);
    }

    /// Pushes an integer constant.
    pub(super) fn push_constant(&mut self, ty: Type, x: i64) {
        let value = self.once(Computation::Constant(ty, x), |lower| lower.ins().iconst(ty, x));
        self.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_computed_on_one_path_is_forgotten_where_paths_meet() {
        let [x, y, z] = [1, 2, 3].map(Value::from_u32);
        let mut computed = Computed::default();
        computed.add(Computation::Base(0), x);
        let mark = computed.mark();
        computed.add(Computation::Address(0, y), z);
        computed.forget(mark);
        assert_eq!(computed.values, HashMap::from([(Computation::Base(0), x)]));
        computed.forget(0);
        assert!(computed.values.is_empty() && computed.mark() == 0);
    }

    #[test]
    fn marks_outlive_that_all_is_forgotten() {
        let [x, y] = [1, 2].map(Value::from_u32);
        let mut computed = Computed::default();
        computed.add(Computation::Base(0), x);
        let mark = computed.mark();
        computed.clear();
        assert!(computed.values.is_empty());
        computed.add(Computation::Widened(x), y);
        computed.forget(mark);
        assert!(computed.values.is_empty());
    }

    #[test]
    fn what_is_kept_is_not_forgotten() {
        let [x, y] = [1, 2].map(Value::from_u32);
        let mut computed = Computed::default();
        computed.add(Computation::Base(0), x);
        computed.keep();
        computed.add(Computation::Widened(x), y);
        computed.forget(0);
        computed.clear();
        computed.change(Change::Everything);
        assert_eq!([Computation::Base(0), Computation::Widened(x)].map(|of| computed.get(of)), [Some(x), None]);
    }

    #[test]
    fn lengths_are_forgotten_when_they_may_change() {
        let [x, y] = [1, 2].map(Value::from_u32);
        let mut computed = Computed::default();
        computed.add(Computation::Base(0), x);
        computed.add(Computation::Length(0), y);
        computed.change(Change::Memory);
        assert_eq!(computed.values.get(&Computation::Length(0)), Some(&y));
        computed.change(Change::Everything);
        assert_eq!(computed.values, HashMap::from([(Computation::Base(0), x)]));
    }

    #[test]
    fn a_store_leaves_what_lies_beside_it() {
        let [index, other, value] = [1, 2, 3].map(Value::from_u32);
        let held = |offset| Held { memory: 0, index, offset, ty: types::I32, value };
        let after = |memory, index, offset, size| {
            let mut computed = Computed::default();
            for offset in [4, 8, u64::MAX - 1] {
                computed.hold(held(offset));
            }
            computed.store(memory, index, offset, size);
            [4, 8].map(|offset| computed.held(0, index, offset, types::I32).is_some())
        };
        assert_eq!(after(0, index, 0, 4), [true, true]);
        assert_eq!(after(0, index, 0, 5), [false, true]);
        assert_eq!(after(0, index, 7, 1), [false, true]);
        assert_eq!(after(0, index, 11, 1), [true, false]);
        assert_eq!(after(0, index, 12, u64::MAX), [true, true]);
        assert_eq!(after(0, other, 100, 1), [false, false]);
        assert_eq!(after(1, index, 100, 1), [false, false]);
    }

    #[test]
    fn what_is_held_is_of_its_type_and_bounded() {
        let [index, value] = [1, 2].map(Value::from_u32);
        let mut computed = Computed::default();
        for offset in 0..=MOST_HELD as u64 {
            computed.hold(Held { memory: 0, index, offset, ty: types::I32, value });
        }
        assert_eq!(computed.held(0, index, 1, types::I32), Some(value));
        assert_eq!(computed.held(0, index, 1, types::F32), None);
        assert_eq!(computed.held(0, index, 0, types::I32), None);
        computed.change(Change::Memory);
        assert!(computed.held.is_empty());
    }
}
