//! Casts, and tests of the types of references (specification 3.0, "Reference Instructions").
//!
//! A final type costs one comparison with the word in the object's header that tells its type; any other one a load more, of the
//! supertype that the object's type has at the wanted type's depth. What is known of a reference leaves out the checks for null,
//! for `i31` and for objects of the host, or the whole test.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, MemFlagsData, Value, types};
use wasmparser::Operator as Op;

use super::known::Part;
use super::{Lower, Region};
use crate::error::Trap;
use crate::module::cast::CastTarget;
use crate::module::layout::{
    ALWAYS, ARRAY, DESCRIPTOR, DESCRIPTOR_DEPTH, DESCRIPTOR_KIND, EXTERN_BITS, I31_BIT, STRUCT, TAG_BITS, display,
};
use crate::module::types::{HeapType, RefType};

/// What a cast asks of a reference.
struct Test {
    target: CastTarget,
    ty: RefType,
}

impl Lower<'_, '_> {
    pub(super) fn cast(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::RefEq => {
                let (x, y) = self.pop2();
                let equal = self.ins().icmp(IntCC::Equal, x, y);
                self.push_bool(equal);
            }
            Op::RefTestNonNull { hty } => self.ref_test(&self.asked(hty, false)),
            Op::RefTestNullable { hty } => self.ref_test(&self.asked(hty, true)),
            Op::RefCastNonNull { hty } => self.ref_cast(&self.asked(hty, false)),
            Op::RefCastNullable { hty } => self.ref_cast(&self.asked(hty, true)),
            Op::BrOnCast { relative_depth, to_ref_type: ty, .. } => {
                self.branch_on_cast(relative_depth, &self.asked(ty.heap_type(), ty.is_nullable()), true);
            }
            Op::BrOnCastFail { relative_depth, to_ref_type: ty, .. } => {
                self.branch_on_cast(relative_depth, &self.asked(ty.heap_type(), ty.is_nullable()), false);
            }
            _ => return false,
        }
        true
    }

    fn asked(&self, ty: wasmparser::HeapType, nullable: bool) -> Test {
        let heap = HeapType::from_wasmparser(ty, &self.module.sigs);
        Test { target: CastTarget::of(self.module, ty), ty: RefType::new(nullable, heap) }
    }

    /// What a test is, for a reference of which some things are known: the target is [`CastTarget::Any`] if only null may fail.
    fn open_target(&self, reference: Value, test: &Test) -> CastTarget {
        if self.known.is_of(reference, test.ty.heap_type()) { CastTarget::Any } else { test.target }
    }

    /// The result of a test, if it is known.
    fn known_result(&self, reference: Value, test: &Test) -> Option<bool> {
        let is_non_null = self.known.is_non_null(reference);
        match self.open_target(reference, test) {
            CastTarget::Any if is_non_null || test.ty.is_nullable() => Some(true),
            CastTarget::None if is_non_null || !test.ty.is_nullable() => Some(false),
            _ => None,
        }
    }

    fn ref_test(&mut self, test: &Test) {
        let reference = self.pop_reference();
        if let Some(result) = self.known_result(reference, test) {
            return self.push_i32(result.into());
        }
        let is_non_null = self.known.is_non_null(reference);
        let result = match self.open_target(reference, test) {
            CastTarget::Any => self.ins().icmp_imm_u(IntCC::NotEqual, reference, 0),
            CastTarget::None => self.ins().icmp_imm_u(IntCC::Equal, reference, 0),
            target if is_non_null && self.has_header(reference, target) => {
                self.compare_type(IntCC::Equal, reference, target, None)
            }
            _ => {
                let [yes, no, done] = std::array::from_fn(|_| self.builder.create_block());
                self.builder.append_block_param(done, types::I8);
                self.branch_on_type(reference, test, yes, no);
                for (block, result) in [(yes, 1), (no, 0)] {
                    self.builder.seal_block(block);
                    self.builder.switch_to_block(block);
                    let result = self.ins().iconst(types::I8, result);
                    self.ins().jump(done, &[BlockArg::Value(result)]);
                }
                self.builder.seal_block(done);
                self.builder.switch_to_block(done);
                self.builder.block_params(done)[0]
            }
        };
        self.push_bool(result);
    }

    /// `ref.cast`: traps unless the reference on top, which stays there, is of the type.
    fn ref_cast(&mut self, test: &Test) {
        let reference = self.pop_reference();
        self.stack.push(reference);
        match self.known_result(reference, test) {
            Some(true) => return,
            Some(false) => return self.trap(Trap::CastFailure),
            None => {}
        }
        let nullable = test.ty.is_nullable() && !self.known.is_non_null(reference);
        let target = self.open_target(reference, test);
        match target {
            CastTarget::Any => self.trapz(reference, Trap::CastFailure),
            CastTarget::None => self.trapnz(reference, Trap::CastFailure),
            _ => {
                let mark = self.known.mark();
                let done = nullable.then(|| {
                    let [check, done] = std::array::from_fn(|_| self.builder.create_block());
                    self.ins().brif(reference, check, [], done, []);
                    self.builder.seal_block(check);
                    self.builder.switch_to_block(check);
                    self.known.learn_non_null(reference);
                    done
                });
                if !self.has_header(reference, target) {
                    let is_other = self.has_no_header(reference, target);
                    self.trapnz(is_other, Trap::CastFailure);
                }
                if !matches!(target, CastTarget::I31 | CastTarget::Eq) {
                    let differs = self.compare_type(IntCC::NotEqual, reference, target, Some(Trap::CastFailure));
                    self.trapnz(differs, Trap::CastFailure);
                } else if target == CastTarget::Eq && !self.known.is_non_null(reference) {
                    self.trapz(reference, Trap::CastFailure);
                }
                if let Some(done) = done {
                    self.ins().jump(done, &[]);
                    self.builder.seal_block(done);
                    self.builder.switch_to_block(done);
                    self.known.forget(mark);
                }
            }
        }
        self.known.learn(reference, &test.ty);
    }

    /// Branches to a label if the reference on top, which stays there, is of a type, or unless it is.
    fn branch_on_cast(&mut self, depth: u32, test: &Test, if_it_is: bool) {
        let reference = self.pop_reference();
        self.stack.push(reference);
        if let Some(result) = self.known_result(reference, test) {
            if result == if_it_is {
                self.branch(depth);
            }
            return;
        }
        // What is emitted for the branch alone must not be used after it.
        self.canonical_top(self.label_arity(depth));
        let [yes, no] = std::array::from_fn(|_| self.builder.create_block());
        self.branch_on_type(reference, test, yes, no);
        self.builder.seal_block(yes);
        self.builder.seal_block(no);
        let (taken, next) = if if_it_is { (yes, no) } else { (no, yes) };
        self.builder.switch_to_block(taken);
        self.branch(depth);
        self.builder.switch_to_block(next);
        self.reachable = true;
        if !if_it_is {
            self.known.learn(reference, &test.ty);
        } else if test.ty.is_nullable() {
            self.known.learn_non_null(reference);
        }
    }

    /// Ends the block with a branch to `yes` if a reference is of a type, otherwise to `no`.
    fn branch_on_type(&mut self, reference: Value, test: &Test, yes: Block, no: Block) {
        let (mark, start) = (self.known.mark(), self.builder.current_block());
        let target = self.open_target(reference, test);
        let if_null = if test.ty.is_nullable() { yes } else { no };
        if !self.known.is_non_null(reference) {
            if matches!(target, CastTarget::Any | CastTarget::None) {
                let if_not = if target == CastTarget::Any { yes } else { no };
                self.ins().brif(reference, if_not, [], if_null, []);
                return;
            }
            let next = self.builder.create_block();
            self.ins().brif(reference, next, [], if_null, []);
            self.builder.seal_block(next);
            self.builder.switch_to_block(next);
            self.known.learn_non_null(reference);
        }
        if !self.has_header(reference, target) {
            let is_other = self.has_no_header(reference, target);
            if matches!(target, CastTarget::I31 | CastTarget::Eq) {
                self.ins().brif(is_other, no, [], yes, []);
                self.known.forget(mark);
                return;
            }
            let next = self.builder.create_block();
            self.ins().brif(is_other, no, [], next, []);
            self.builder.seal_block(next);
            self.builder.switch_to_block(next);
        }
        let matches = self.compare_type(IntCC::Equal, reference, target, None);
        if self.builder.current_block() != start {
            // Some ways to `no` have not come here.
            self.known.forget(mark);
        }
        self.ins().brif(matches, yes, [], no, []);
    }

    /// Whether all that is to be asked is in what the reference, which is not null, leads to.
    fn has_header(&self, reference: Value, target: CastTarget) -> bool {
        match target {
            CastTarget::Func { .. } => true,
            CastTarget::I31 | CastTarget::Eq => false,
            _ => self.known.is_object(reference),
        }
    }

    /// Whether the low bits of a reference tell that it is not of a type, as an integer that is not zero then. Null has the bits of
    /// an object.
    fn has_no_header(&mut self, reference: Value, target: CastTarget) -> Value {
        match target {
            CastTarget::I31 => {
                let bit = self.ins().band_imm_u(reference, i64::from(I31_BIT));
                self.ins().icmp_imm_u(IntCC::Equal, bit, 0)
            }
            CastTarget::Eq => {
                let bits = self.ins().band_imm_u(reference, i64::from(TAG_BITS));
                self.ins().icmp_imm_u(IntCC::Equal, bits, i64::from(EXTERN_BITS))
            }
            _ => self.ins().band_imm_u(reference, i64::from(TAG_BITS)),
        }
    }

    /// Whether the object or function that a reference leads to is of a type, as CLIF's bool; for [`IntCC::NotEqual`] whether it is
    /// not. The reference may be null only if there is a trap for that.
    fn compare_type(&mut self, how: IntCC, reference: Value, target: CastTarget, null: Option<Trap>) -> Value {
        match target {
            CastTarget::Func { type_index, .. } => {
                // Not free to move: it must stay after the check that the reference is not null, or is itself that check.
                let mut flags = MemFlagsData::trusted().with_readonly();
                if let Some(trap) = null {
                    flags = self.checked(reference, flags, trap);
                }
                self.compare_func_type(how, reference, type_index, flags)
            }
            CastTarget::Struct | CastTarget::Array => {
                let descriptor = self.descriptor_of(reference, null);
                let kind = self.load_of_descriptor(descriptor, DESCRIPTOR_KIND);
                let wanted = if target == CastTarget::Struct { STRUCT } else { ARRAY };
                self.ins().icmp_imm_u(how, kind, i64::from(wanted))
            }
            CastTarget::Object { type_index, depth, is_final } => {
                let descriptor = self.descriptor_of(reference, null);
                let wanted = self.descriptor(type_index);
                let own = if is_final { descriptor } else { self.supertype_at(descriptor, depth) };
                self.ins().icmp(how, own, wanted)
            }
            CastTarget::Any | CastTarget::None | CastTarget::I31 | CastTarget::Eq => {
                unreachable!("the reference itself tells whether it is one of these")
            }
        }
    }

    /// The descriptor in an object's header.
    fn descriptor_of(&mut self, reference: Value, null: Option<Trap>) -> Value {
        self.unchanging(Part { reference, offset: DESCRIPTOR, variant: 0 }, |lower| {
            let mut flags = lower.flags(Region::ObjectHeader);
            if let Some(trap) = null {
                flags = lower.checked(reference, flags, trap);
            }
            let address = lower.object_address(reference);
            lower.ins().load(types::I32, flags.with_readonly(), address, DESCRIPTOR as i32)
        })
    }

    /// A word of a descriptor. Not free to move: only where the object is known to be one does it have a descriptor.
    fn load_of_descriptor(&mut self, descriptor: Value, offset: u32) -> Value {
        let descriptor = self.ins().uextend(types::I64, descriptor);
        let address = self.object_address(descriptor);
        let flags = self.flags(Region::ObjectHeader).with_readonly();
        self.ins().load(types::I32, flags, address, offset as i32)
    }

    /// The supertype of depth `depth` that a descriptor has, or something that is no type of that depth.
    fn supertype_at(&mut self, descriptor: Value, depth: u32) -> Value {
        if depth < ALWAYS {
            return self.load_of_descriptor(descriptor, display(depth));
        }
        let deepest = self.load_of_descriptor(descriptor, DESCRIPTOR_DEPTH);
        let is_there = self.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, deepest, i64::from(depth));
        // In place of a word that the descriptor lacks, one that each has, for another depth.
        let [there, otherwise] = [depth, 0].map(|depth| self.index(display(depth)));
        let offset = self.ins().select(is_there, there, otherwise);
        let place = self.ins().iadd(descriptor, offset);
        self.load_of_descriptor(place, 0)
    }
}
