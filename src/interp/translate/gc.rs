//! Structures, arrays, `i31` and casts.
//!
//! A cast leaves its operand where it is. A branch on a cast is a test, whose result is an operand on top of the reference,
//! and a branch on that.

use wasmparser::{HeapType, RefType};

use super::Translator;
use super::emit::NONE;
use crate::interp::op::{Compare, Form, Plain};
use crate::interp::value::Bank;
use crate::module::cast::CastTarget;
use crate::module::layout::Storage;

/// A number in the low half of an extension word, and another in the high half.
fn halves(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The bank of the results of reading a field. Floats are read as bits.
fn bank(kind: Storage) -> Bank {
    if kind == Storage::V128 { Bank::Vector } else { Bank::Int }
}

impl Translator<'_> {
    /// Puts so many operands into their own slots and pops them. Returns the first one's slot.
    fn settled_operands(&mut self, count: usize) -> u32 {
        self.settle_top(count);
        self.truncate(self.stack.len() - count);
        self.height
    }

    /// Emits an instruction with a slow path, which has a result.
    fn define_slow(&mut self, op: Plain, b: u16, c: u16, rest: &[u64]) {
        let slot = self.push_temp(Bank::Int);
        self.define(op.op(), slot, Bank::Int, b, c, rest);
        self.acc = [NONE; 3];
    }

    /// Emits an instruction with a slow path, which has none.
    fn effect_slow(&mut self, op: Plain, (a, b, c): (u16, u16, u16), rest: &[u64]) {
        self.effect(op.op(), a, b, c, rest);
        self.clobber();
    }

    /// Where a field is in its structures, if an instruction has room for the number, and how it is stored.
    fn field(&self, ty: u32, field: u32) -> (Option<u16>, Storage) {
        let field = self.module.struct_layout(ty).fields[field as usize];
        (u16::try_from(field.offset).ok(), field.storage)
    }

    fn element(&self, ty: u32) -> Storage {
        self.module.array_storage(ty)
    }

    pub fn struct_new(&mut self, ty: u32) {
        let count = self.module.struct_layout(ty).fields.len();
        let base = self.settled_operands(count);
        self.define_slow(Plain::StructNew, 0, 0, &[halves(base, ty)]);
    }

    pub fn struct_new_default(&mut self, ty: u32) {
        self.define_slow(Plain::StructNewDefault, ty as u16, (ty >> 16) as u16, &[]);
    }

    pub fn struct_get(&mut self, ty: u32, field: u32, signed: bool) {
        let from = self.pop_slot();
        let b = self.read(from, 0);
        let (offset, kind) = self.field(ty, field);
        let op = match kind {
            Storage::I8 if signed => Plain::StructGet8S,
            Storage::I8 => Plain::StructGet8U,
            Storage::I16 if signed => Plain::StructGet16S,
            Storage::I16 => Plain::StructGet16U,
            Storage::Bits32 | Storage::Reference => Plain::StructGet32,
            Storage::Bits64 => Plain::StructGet64,
            Storage::V128 => Plain::StructGetWide,
            Storage::Function => return self.define_slow(Plain::StructGetFar, b, 0, &[halves(ty, field)]),
        };
        let slot = self.push_temp(bank(kind));
        match offset {
            Some(offset) => self.define(op.op(), slot, bank(kind), b, offset, &[]),
            None => {
                self.define(Plain::StructGetFar.op(), slot, bank(kind), b, signed.into(), &[halves(ty, field)]);
                self.acc = [NONE; 3];
            }
        }
    }

    pub fn struct_set(&mut self, ty: u32, field: u32) {
        let (value, object) = (self.pop(), self.pop());
        let (a, b) = (self.slot_of(object), self.slot_of(value));
        let (a, b) = (self.read(a, 0), self.read(b, 1));
        let (offset, kind) = self.field(ty, field);
        let op = match kind {
            Storage::I8 => Plain::StructSet8,
            Storage::I16 => Plain::StructSet16,
            Storage::Bits32 => Plain::StructSet32,
            Storage::Bits64 => Plain::StructSet64,
            Storage::V128 => Plain::StructSetWide,
            Storage::Reference => Plain::StructSetRef,
            Storage::Function => return self.effect_slow(Plain::StructSetFar, (a, b, 0), &[halves(ty, field)]),
        };
        match offset {
            Some(offset) if kind == Storage::Reference => self.effect_slow(op, (a, b, offset), &[]),
            Some(offset) => self.effect(op.op(), a, b, offset, &[]),
            None => self.effect_slow(Plain::StructSetFar, (a, b, 0), &[halves(ty, field)]),
        }
    }

    pub fn array_new(&mut self, ty: u32) {
        let base = self.settled_operands(2);
        self.define_slow(Plain::ArrayNew, 0, 0, &[halves(base, ty)]);
    }

    pub fn array_new_default(&mut self, ty: u32) {
        let length = self.pop_slot();
        let b = self.read(length, 0);
        self.define_slow(Plain::ArrayNewDefault, b, 0, &[ty.into()]);
    }

    pub fn array_new_fixed(&mut self, ty: u32, length: u32) {
        let base = self.settled_operands(length as usize);
        self.define_slow(Plain::ArrayNewFixed, 0, 0, &[halves(base, ty), length.into()]);
    }

    pub fn array_new_data(&mut self, ty: u32, segment: u32) {
        let base = self.settled_operands(2);
        self.define_slow(Plain::ArrayNewData, 0, 0, &[halves(base, ty), segment.into()]);
    }

    pub fn array_new_elem(&mut self, ty: u32, segment: u32) {
        let base = self.settled_operands(2);
        self.define_slow(Plain::ArrayNewElem, 0, 0, &[halves(base, ty), segment.into()]);
    }

    pub fn array_get(&mut self, ty: u32, signed: bool) {
        let (index, array) = (self.pop(), self.pop());
        let (b, c) = (self.slot_of(array), self.slot_of(index));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        let kind = self.element(ty);
        let op = match kind {
            Storage::I8 if signed => Plain::ArrayGet8S,
            Storage::I8 => Plain::ArrayGet8U,
            Storage::I16 if signed => Plain::ArrayGet16S,
            Storage::I16 => Plain::ArrayGet16U,
            Storage::Bits32 | Storage::Reference => Plain::ArrayGet32,
            Storage::Bits64 => Plain::ArrayGet64,
            Storage::V128 => Plain::ArrayGetWide,
            Storage::Function => return self.define_slow(Plain::ArrayGetFunc, b, c, &[ty.into()]),
        };
        let slot = self.push_temp(bank(kind));
        self.define(op.op(), slot, bank(kind), b, c, &[]);
    }

    pub fn array_set(&mut self, ty: u32) {
        let (value, index, array) = (self.pop(), self.pop(), self.pop());
        let (a, b, c) = (self.slot_of(array), self.slot_of(index), self.slot_of(value));
        let (a, b, c) = (self.read(a, 0), self.read(b, 1), self.read(c, 2));
        let op = match self.element(ty) {
            Storage::I8 => Plain::ArraySet8,
            Storage::I16 => Plain::ArraySet16,
            Storage::Bits32 => Plain::ArraySet32,
            Storage::Bits64 => Plain::ArraySet64,
            Storage::V128 => Plain::ArraySetWide,
            Storage::Reference => return self.effect_slow(Plain::ArraySetRef, (a, b, c), &[]),
            Storage::Function => return self.effect_slow(Plain::ArraySetFunc, (a, b, c), &[]),
        };
        self.effect(op.op(), a, b, c, &[]);
    }

    pub fn array_len(&mut self) {
        self.one_operand(Plain::ArrayLen);
    }

    /// `ref.i31`, `i31.get_s` or `i31.get_u`.
    pub fn i31(&mut self, op: Plain) {
        self.one_operand(op);
    }

    fn one_operand(&mut self, op: Plain) {
        let from = self.pop_slot();
        let b = self.read(from, 0);
        let slot = self.push_temp(Bank::Int);
        self.define(op.op(), slot, Bank::Int, b, 0, &[]);
    }

    pub fn array_fill(&mut self, ty: u32) {
        let base = self.settled_operands(4);
        self.effect_slow(Plain::ArrayFill, (0, 0, 0), &[halves(base, ty)]);
    }

    pub fn array_copy(&mut self, to: u32, from: u32) {
        let base = self.settled_operands(5);
        self.effect_slow(Plain::ArrayCopy, (0, 0, 0), &[halves(base, to), from.into()]);
    }

    pub fn array_init_data(&mut self, ty: u32, segment: u32) {
        let base = self.settled_operands(4);
        self.effect_slow(Plain::ArrayInitData, (0, 0, 0), &[halves(base, ty), segment.into()]);
    }

    pub fn array_init_elem(&mut self, ty: u32, segment: u32) {
        let base = self.settled_operands(4);
        self.effect_slow(Plain::ArrayInitElem, (0, 0, 0), &[halves(base, ty), segment.into()]);
    }

    /// The extension word of a test or cast to a defined type.
    fn target_word(&self, target: CastTarget) -> Option<u64> {
        match target {
            CastTarget::Object { type_index, depth, .. } => {
                Some(halves(self.module.offsets.gc_descriptor(type_index) as u32, depth))
            }
            CastTarget::Func { type_index, .. } => Some(type_index.into()),
            _ => None,
        }
    }

    /// Pushes whether the reference in a slot is of a type.
    fn test(&mut self, from: u32, ty: HeapType, nullable: bool) {
        let target = CastTarget::of(self.module, ty);
        let op = match target {
            CastTarget::Any if nullable => return self.push_const(1),
            CastTarget::None if !nullable => return self.push_const(0),
            CastTarget::Any => Compare::I64Ne.op(Form::SI),
            CastTarget::None => Compare::I64Eq.op(Form::SI),
            CastTarget::I31 => Plain::RefTestI31.op(),
            CastTarget::Eq => Plain::RefTestEq.op(),
            CastTarget::Struct => Plain::RefTestStruct.op(),
            CastTarget::Array => Plain::RefTestArray.op(),
            CastTarget::Object { is_final: true, .. } => Plain::RefTestFinal.op(),
            CastTarget::Object { .. } => Plain::RefTestObject.op(),
            CastTarget::Func { .. } => Plain::RefTestFunc.op(),
        };
        // The comparisons are with the immediate 0.
        let c = if matches!(target, CastTarget::Any | CastTarget::None) { 0 } else { nullable.into() };
        let b = self.read(from, 0);
        let slot = self.push_temp(Bank::Int);
        self.define(op, slot, Bank::Int, b, c, self.target_word(target).as_slice());
    }

    pub fn ref_test(&mut self, ty: HeapType, nullable: bool) {
        let from = self.pop_slot();
        self.test(from, ty, nullable);
    }

    /// Branches if the reference on top, which stays there, is of a type, or unless it is.
    pub fn br_on_cast(&mut self, depth: u32, ty: RefType, holds: bool) {
        let from = self.top_slot();
        self.test(from, ty.heap_type(), ty.is_nullable());
        let condition = self.condition();
        self.br_on(depth, if holds { condition } else { condition.negated() });
    }

    /// The slot that holds the operand on top, which stays there.
    fn top_slot(&mut self) -> u32 {
        let Some(operand) = self.stack.last().copied() else { unreachable!("validated code has an operand to cast") };
        self.slot_of(operand)
    }

    pub fn ref_cast(&mut self, ty: HeapType, nullable: bool) {
        let target = CastTarget::of(self.module, ty);
        let op = match target {
            CastTarget::Any if nullable => return,
            CastTarget::Any => Plain::RefCastNonNull,
            CastTarget::None if nullable => Plain::RefCastNull,
            // Nothing passes; a null reference would have to be none.
            CastTarget::None => Plain::RefCastNothing,
            CastTarget::I31 => Plain::RefCastI31,
            CastTarget::Eq => Plain::RefCastEq,
            CastTarget::Struct => Plain::RefCastStruct,
            CastTarget::Array => Plain::RefCastArray,
            CastTarget::Object { is_final: true, .. } => Plain::RefCastFinal,
            CastTarget::Object { .. } => Plain::RefCastObject,
            CastTarget::Func { .. } => Plain::RefCastFunc,
        };
        let from = self.top_slot();
        let a = self.read(from, 0);
        self.effect(op.op(), a, nullable.into(), 0, self.target_word(target).as_slice());
    }
}
