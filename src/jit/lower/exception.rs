//! Exceptions: with `exnref`, and the legacy form.
//!
//! Each `try_table` has one block that receives what is thrown inside it, its dispatch: calls lead there as `try_call`s, `throw`
//! and `throw_ref` by a jump. The dispatch is emitted at the `end`. It compares the exception's tag with those of the
//! clauses; if none catches it, it goes on to the dispatch of the `try_table` around this one, or to the callers.
//!
//! The body of a legacy `try` has a dispatch too. Each `catch` begins with the comparison of its tag, and the next one, or the `end`,
//! goes on with what did not match.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, InstBuilder, MemFlagsData, StackSlotData,
    StackSlotKind, Value, types,
};
use wasmparser::{BlockType, Catch, Operator as Op, TryTable};

use super::Lower;
use super::call::Callee;
use super::control::FrameKind;
use crate::error::Trap;
use crate::jit::abi;
use crate::module::layout::{DESCRIPTOR, PAYLOAD};
use crate::module::types::{RefType, ValType};
use crate::vm::context::{VMContext, VMStore, VMTag};

/// A `try_table` whose `end` has not come yet.
pub(super) struct ExceptionHandler {
    dispatch: Block,
    catches: Vec<Catch>,
    /// Whether an instruction leads to the dispatch.
    used: bool,
}

/// The exceptions that no `catch` of a legacy `try` so far has caught: the block that receives them, and the exception and its tag there.
#[derive(Clone, Copy)]
pub(super) struct Unmatched {
    block: Block,
    exception: Value,
    thrown: Value,
}

impl<'m> Lower<'m, '_> {
    pub(super) fn exception(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::TryTable { ref try_table } => self.try_table(try_table),
            Op::Throw { tag_index } => self.throw(tag_index),
            Op::ThrowRef => {
                let exception = self.pop();
                if !self.handlers.is_empty() {
                    self.trapz(exception, Trap::NullExceptionReference);
                }
                self.throw_again(exception);
            }
            Op::Try { blockty } => self.legacy_try(blockty),
            Op::Catch { tag_index } => self.catch(Some(tag_index)),
            Op::CatchAll => self.catch(None),
            Op::Delegate { relative_depth } => self.delegate(relative_depth),
            Op::Rethrow { relative_depth } => {
                let height = self.frames[self.frames.len() - 1 - relative_depth as usize].height;
                self.throw_again(self.stack[height]);
            }
            _ => return false,
        }
        true
    }

    fn try_table(&mut self, try_table: &TryTable) {
        let (params, results) = self.block_types(try_table.ty);
        let saved = self.save_operands(params.len());
        let target = self.builder.create_block();
        self.open_handler(try_table.catches.clone());
        self.push_frame(FrameKind::TryTable, target, params, results, saved);
    }

    /// Throws an exception, which is not null if there is a handler around.
    fn throw_again(&mut self, exception: Value) {
        if !self.handlers.is_empty() {
            let (store, none) = (self.load_constant(self.vmctx, VMContext::STORE), self.ins().iconst(types::I64, 0));
            self.ins().store(MemFlagsData::trusted(), none, store, VMStore::IN_FLIGHT);
        }
        self.raise(exception, Self::throw_ref);
    }

    fn legacy_try(&mut self, ty: BlockType) {
        let (params, results) = self.block_types(ty);
        let saved = self.save_operands(params.len());
        let target = self.builder.create_block();
        self.open_handler(Vec::new());
        self.push_frame(FrameKind::Try, target, params, results, saved);
    }

    /// Ends the body or a `catch` of a legacy `try`. Returns what has not been caught, if there is anything.
    fn close_arm(&mut self) -> Option<Unmatched> {
        let reachable = self.reachable;
        let frame = self.frames.last_mut().expect("validation matched the try");
        frame.branched |= reachable;
        let (target, results, proofs) = (frame.target, frame.results.len(), frame.proofs);
        let kind = std::mem::replace(&mut frame.kind, FrameKind::Block);
        if reachable {
            self.jump_with_top(results, target);
        }
        self.forget(proofs);
        self.reachable = false;
        if let FrameKind::Catch(unmatched) = kind {
            return unmatched;
        }
        let handler = self.close_handler();
        let handlers = self.handlers.len();
        if let Some(frame) = self.frames.last_mut() {
            frame.handlers = handlers;
        }
        let dispatch = handler?.dispatch;
        Some(self.begin_dispatch(dispatch))
    }

    /// Begins a dispatch, to which all jumps have been emitted.
    fn begin_dispatch(&mut self, block: Block) -> Unmatched {
        self.builder.seal_block(block);
        self.builder.switch_to_block(block);
        let exception = self.builder.block_params(block)[0];
        self.reload_fuel();
        // Not free to move: only here is the exception known to exist, and with it the heap. `throw_ref` jumps here after its
        // null check, and the loads must not move before that.
        let object = self.object_address(exception);
        let thrown = self.ins().load(types::I32, MemFlagsData::trusted(), object, DESCRIPTOR as i32);
        Unmatched { block, exception, thrown }
    }

    /// Goes on if a thrown tag is the wanted one; otherwise in the block that is returned. Tags are told by their descriptors;
    /// one without exceptions has none yet.
    fn match_tag(&mut self, thrown: Value, tag: u32) -> Block {
        let wanted = self.load_constant(self.vmctx, self.module.offsets.tag(tag));
        let wanted = self.ins().load(types::I32, MemFlagsData::trusted(), wanted, VMTag::DESCRIPTOR);
        let (matching, next) = (self.builder.create_block(), self.builder.create_block());
        let matches = self.ins().icmp(IntCC::Equal, thrown, wanted);
        self.ins().brif(matches, matching, [], next, []);
        self.builder.seal_block(matching);
        self.builder.seal_block(next);
        self.builder.switch_to_block(matching);
        next
    }

    /// Pushes the payload of an exception with this tag.
    fn push_payload(&mut self, exception: Value, tag: u32) {
        let object = self.object_address(exception);
        let payload = self.ins().iadd_imm_s(object, i64::from(PAYLOAD));
        let types = self.payload_types(tag);
        let mut values = abi::load_slots(&mut self.builder, types, payload);
        let mut slot = 0;
        for (ty, value) in types.iter().zip(&mut values) {
            if ty.as_ref().is_some_and(RefType::is_of_functions) {
                let (tag, slot) = (self.index(tag), self.index(slot));
                *value = self.exception_func(tag, exception, slot);
            }
            slot += ty.slots() as u32;
        }
        self.stack.extend(values);
        self.learn_top(types);
    }

    /// Begins a `catch`, or a `catch_all` if there is no tag.
    pub(super) fn catch(&mut self, tag: Option<u32>) {
        let unmatched = self.close_arm();
        let frame = self.frames.last_mut().expect("validation matched the try");
        frame.kind = FrameKind::Catch(None);
        let (height, saved) = (frame.height, frame.saved);
        self.stack.truncate(height);
        let Some(Unmatched { block, exception, thrown }) = unmatched else { return };
        self.go_on_in(block);
        let next = tag.map(|tag| self.match_tag(thrown, tag));
        if saved.is_some() {
            self.read_operands(height);
        }
        self.stack.push(exception);
        if let Some(tag) = tag {
            self.push_payload(exception, tag);
        }
        if let (Some(frame), Some(block)) = (self.frames.last_mut(), next) {
            frame.kind = FrameKind::Catch(Some(Unmatched { block, exception, thrown }));
        }
        self.reachable = true;
    }

    /// Continues in a block, which may be the current one.
    fn go_on_in(&mut self, block: Block) {
        if self.builder.current_block() != Some(block) {
            self.builder.switch_to_block(block);
        }
    }

    /// At the `end` of a legacy `try`: what was not caught goes on to the handler around it.
    pub(super) fn end_legacy_try(&mut self) {
        if let Some(Unmatched { block, exception, .. }) = self.close_arm() {
            self.go_on_in(block);
            self.raise(exception, Self::resume_throw);
        }
    }

    /// Ends a legacy `try` without `catch`es: its exceptions go on to the handler around what is in another block.
    pub(super) fn delegate(&mut self, depth: u32) {
        let unmatched = self.close_arm();
        if let Some(Unmatched { block, exception, .. }) = unmatched {
            self.go_on_in(block);
            // The label is counted from outside.
            let handlers = self.frames[self.frames.len() - 2 - depth as usize].handlers;
            self.raise_to(handlers, exception, Self::resume_throw);
        }
        self.end();
    }

    fn open_handler(&mut self, catches: Vec<Catch>) {
        let dispatch = self.builder.create_block();
        self.builder.append_block_param(dispatch, types::I64);
        self.handlers.push(ExceptionHandler { dispatch, catches, used: false });
    }

    /// The innermost dispatch of the outermost `handlers`, which counts as used from now on.
    fn dispatch(&mut self, handlers: usize) -> Option<Block> {
        let handler = self.handlers.get_mut(handlers.checked_sub(1)?)?;
        handler.used = true;
        Some(handler.dispatch)
    }

    /// Closes the innermost handler, and returns it if its dispatch is used.
    pub(super) fn close_handler(&mut self) -> Option<ExceptionHandler> {
        self.handlers.pop().filter(|handler| handler.used)
    }

    /// Emits the dispatch, with the frames outside the `try_table` on top.
    pub(super) fn emit_dispatch(&mut self, handler: ExceptionHandler) {
        let Unmatched { exception, thrown, .. } = self.begin_dispatch(handler.dispatch);
        self.reachable = true;
        for catch in handler.catches {
            let (tag, label, with_reference) = match catch {
                Catch::One { tag, label } => (Some(tag), label, false),
                Catch::OneRef { tag, label } => (Some(tag), label, true),
                Catch::All { label } => (None, label, false),
                Catch::AllRef { label } => (None, label, true),
            };
            let next = tag.map(|tag| {
                let next = self.match_tag(thrown, tag);
                self.push_payload(exception, tag);
                next
            });
            if with_reference {
                self.push(exception);
            }
            let height = self.stack.len();
            self.branch(label);
            self.stack.truncate(height - self.label_arity(label));
            let Some(next) = next else {
                return;
            };
            self.builder.switch_to_block(next);
            self.reachable = true;
        }
        self.raise(exception, Self::resume_throw);
    }

    fn payload_types(&self, tag: u32) -> &'m [ValType] {
        self.module.tag_type(tag).params()
    }

    fn throw(&mut self, tag: u32) {
        let types = self.payload_types(tag);
        self.canonical_top(types.len());
        let values = self.stack.split_off(self.stack.len() - types.len());
        let bytes = 8 * types.iter().map(|ty| ty.slots() as u32).sum::<u32>();
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        let payload = self.ins().stack_addr(types::I64, slot, 0);
        abi::store_slots(&mut self.builder, types, &values, payload);
        let tag = self.index(tag);
        let exception = self.exception_new(tag, payload);
        let is_none = self.ins().icmp_imm_u(IntCC::Equal, exception, 0);
        self.check_status(is_none);
        self.raise(exception, Self::throw_ref);
    }

    /// Jumps to the innermost dispatch with the exception; without one, hands it to `leave` and leaves the function.
    fn raise(&mut self, exception: Value, leave: fn(&mut Self, Value) -> Value) {
        self.raise_to(self.handlers.len(), exception, leave);
    }

    /// The same, to the innermost of the outermost `handlers`.
    fn raise_to(&mut self, handlers: usize, exception: Value, leave: fn(&mut Self, Value) -> Value) {
        match self.dispatch(handlers) {
            Some(dispatch) => {
                self.ins().jump(dispatch, &[BlockArg::Value(exception)]);
            }
            None => {
                leave(self, exception);
                self.raise_stored();
            }
        }
        self.reachable = false;
    }

    /// Emits a call inside a `try_table`, and goes on in a new block. `false`, with nothing emitted, outside of one.
    pub(super) fn try_call(&mut self, callee: &Callee, args: &[Value]) -> bool {
        let Some(dispatch) = self.dispatch(self.handlers.len()) else {
            return false;
        };
        let next = self.builder.create_block();
        for ty in callee.results {
            self.builder.append_block_param(next, abi::value_type(ty));
        }
        let results = (0..callee.results.len() as u32).map(BlockArg::TryCallRet);
        let pool = &mut self.builder.func.dfg.value_lists;
        let returned = BlockCall::new(next, results, pool);
        let thrown = BlockCall::new(dispatch, [BlockArg::TryCallExn(0)], pool);
        let table = ExceptionTableData::new(callee.signature, returned, [ExceptionTableItem::Default(thrown)]);
        let table = self.builder.func.dfg.exception_tables.push(table);
        self.ins().try_call_indirect(callee.code, args, table);
        self.builder.seal_block(next);
        self.builder.switch_to_block(next);
        self.stack.extend_from_slice(self.builder.block_params(next));
        self.learn_top(callee.results);
        self.reload_fuel();
        true
    }
}
