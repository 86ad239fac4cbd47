//! What is known of references at the current instruction, so that a check that was made, or that a type makes needless, is not
//! made again, and what cannot change is not read again.
//!
//! As with the proofs of [`bounds`](crate::jit::bounds), what is known holds on all paths to the instruction: it was learned
//! from code that each of them has run. Where paths meet, what was learned on one of them is forgotten.

use std::collections::HashMap;

use cranelift_codegen::ir::Value;

use crate::module::types::{HeapType, RefType};

/// What never changes in the object of a reference: a word of its header, or an immutable field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub reference: Value,
    /// Offset in the object.
    pub offset: u32,
    /// Tells apart values that are made of the same bytes: signed and unsigned ones, references to functions of different types.
    pub variant: u32,
}

/// Facts about values of the function being lowered.
#[derive(Default)]
pub(super) struct Known {
    /// Types that references are of, besides the types that validation gives them.
    types: HashMap<Value, RefType>,
    parts: HashMap<Part, Value>,
    /// What was added, and what was there before.
    log: Vec<Change>,
}

enum Change {
    Type(Value, Option<RefType>),
    Part(Part),
}

impl Known {
    /// A mark for [`Known::forget`].
    pub fn mark(&self) -> usize {
        self.log.len()
    }

    /// Forgets what was learned since the mark.
    pub fn forget(&mut self, mark: usize) {
        for change in self.log.drain(mark..).rev() {
            match change {
                Change::Type(value, Some(before)) => _ = self.types.insert(value, before),
                Change::Type(value, None) => _ = self.types.remove(&value),
                Change::Part(part) => _ = self.parts.remove(&part),
            }
        }
    }

    /// Whether a reference is known to be of a type.
    pub fn is_of(&self, reference: Value, ty: &HeapType) -> bool {
        self.types.get(&reference).is_some_and(|known| known.heap_type().matches(ty))
    }

    pub fn is_non_null(&self, reference: Value) -> bool {
        self.types.get(&reference).is_some_and(|known| !known.is_nullable())
    }

    /// Whether a reference is null or that of a structure or an array, and no `i31` or object of the host.
    pub fn is_object(&self, reference: Value) -> bool {
        let is_object = |ty: &HeapType| ty.matches(&HeapType::Struct) || ty.matches(&HeapType::Array);
        self.types.get(&reference).is_some_and(|known| is_object(known.heap_type()))
    }

    /// Learns that a reference is of a type. It stays of those that it was known to be of.
    pub fn learn(&mut self, reference: Value, ty: &RefType) {
        let before = self.types.get(&reference);
        let merged = match before {
            None => ty.clone(),
            Some(before) => {
                // It may be of types of two hierarchies, having been converted to or from `extern`.
                let is_narrower =
                    ty.heap_type().matches(before.heap_type()) || before.heap_type() == &before.heap_type().top();
                let heap = if is_narrower { ty } else { before }.heap_type().clone();
                let merged = RefType::new(before.is_nullable() && ty.is_nullable(), heap);
                if merged == *before {
                    return;
                }
                merged
            }
        };
        let before = self.types.insert(reference, merged);
        self.log.push(Change::Type(reference, before));
    }

    /// Learns that a reference is not null.
    pub fn learn_non_null(&mut self, reference: Value) {
        let heap = self.types.get(&reference).map_or(HeapType::Any, |known| known.heap_type().clone());
        self.learn(reference, &RefType::new(false, heap));
    }

    /// The value of a part of an object, if it was read or written before.
    pub fn part(&self, part: Part) -> Option<Value> {
        self.parts.get(&part).copied()
    }

    pub fn learn_part(&mut self, part: Part, value: Value) {
        if self.parts.insert(part, value).is_none() {
            self.log.push(Change::Part(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_on_one_path_is_forgotten_where_paths_meet() {
        let [x, y] = [1, 2].map(Value::from_u32);
        let mut known = Known::default();
        known.learn(x, &RefType::new(true, HeapType::Struct));
        let mark = known.mark();
        known.learn_non_null(x);
        known.learn(y, &RefType::new(false, HeapType::I31));
        let part = Part { reference: x, offset: 8, variant: 0 };
        known.learn_part(part, y);
        assert!(known.is_non_null(x) && known.is_object(x) && known.part(part) == Some(y));
        assert!(known.is_of(y, &HeapType::Eq) && !known.is_object(y) && !known.is_of(y, &HeapType::Struct));
        known.forget(mark);
        assert!(!known.is_non_null(x) && known.is_object(x) && known.part(part).is_none());
        assert!(!known.is_of(y, &HeapType::Eq) && !known.is_non_null(y));
    }

    #[test]
    fn a_wider_type_takes_nothing_away() {
        let x = Value::from_u32(1);
        let mut known = Known::default();
        known.learn(x, &RefType::new(true, HeapType::Array));
        // As after `extern.convert_any` and `any.convert_extern`.
        for wider in [HeapType::Eq, HeapType::Extern, HeapType::Any] {
            known.learn(x, &RefType::new(false, wider));
            assert!(known.is_of(x, &HeapType::Array) && known.is_non_null(x));
        }
        let y = Value::from_u32(2);
        known.learn(y, &RefType::new(false, HeapType::Extern));
        assert!(!known.is_object(y));
        known.learn(y, &RefType::new(true, HeapType::Struct));
        assert!(known.is_object(y) && known.is_non_null(y));
    }
}
