//! Structured control (specification, section 4.6.8) as a graph of blocks.
//!
//! A Wasm label is a CLIF block with the label's types as parameters; for locals that differ between predecessors the
//! builder's SSA construction adds parameters. A block is sealed as soon as no more branches to it can come: at its `end`,
//! a loop's header too.

use std::ops::Deref;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, InstBuilder, InstructionData, JumpTableData, Opcode, Value, types,
};
use wasmparser::{BlockType, BrTable, Operator as Op};

use super::Lower;
use super::exception::Unmatched;
use crate::error::Trap;
use crate::jit::abi;
use crate::module::nesting::{ends_block, opens_block};
use crate::module::types::{FuncType, ValType};

/// A structured instruction whose `end` has not come yet.
pub(super) struct ControlFrame<'m> {
    pub kind: FrameKind,
    /// The block that branches to it go to: its end, or a loop's header.
    pub target: Block,
    /// Number of values that a branch to it carries.
    arity: usize,
    pub results: Types<'m>,
    /// Height of the operand stack below its parameters.
    pub height: usize,
    /// Whether some branch goes to its end.
    pub branched: bool,
    /// What was proved before it.
    pub proofs: Proofs,
    /// Number of exception handlers around what is in it.
    pub handlers: usize,
    /// Set if the function can be entered within it, see `osr`: then the operands below it are saved, and read again where
    /// control may come from such an entry. The number of operands that were saved before it.
    pub saved: Option<usize>,
}

/// Marks for what was proved of indices ([`Bounds`](crate::jit::bounds::Bounds)) and is known of references ([`Known`](super::known::Known)).
#[derive(Clone, Copy, Default)]
pub(super) struct Proofs {
    bounds: usize,
    known: usize,
}

pub(super) enum FrameKind {
    Function,
    Block,
    Loop,
    /// Its [`ExceptionHandler`](super::exception::ExceptionHandler) is on a stack of its own.
    TryTable,
    /// The body of a legacy `try`, whose handler is on that stack too.
    Try,
    /// A `catch` of one, with the exceptions that it does not catch, if there may be some. The lowest operand is the exception.
    Catch(Option<Unmatched>),
    /// The block of its `else`, the parameters that it starts with, and a reference that is not null there.
    If {
        otherwise: Block,
        params: Vec<Value>,
        non_null: Option<Value>,
    },
}

impl<'m> Lower<'m, '_> {
    pub(super) fn open_function(&mut self, ty: &'m FuncType) {
        let target = self.builder.create_block();
        self.push_frame(FrameKind::Function, target, Types::Some(&[]), Types::Some(ty.results()), None);
    }

    pub(super) fn push_frame(
        &mut self,
        kind: FrameKind,
        target: Block,
        params: Types<'m>,
        results: Types<'m>,
        saved: Option<usize>,
    ) {
        let label = if matches!(kind, FrameKind::Loop) { &params } else { &results };
        for ty in label.iter() {
            self.builder.append_block_param(target, abi::value_type(ty));
        }
        self.frames.push(ControlFrame {
            kind,
            target,
            arity: label.len(),
            results,
            height: self.stack.len() - params.len(),
            branched: false,
            proofs: Proofs { bounds: self.bounds.proofs(), known: self.known.mark() },
            handlers: self.handlers.len(),
            saved,
        });
    }

    /// At the header of a loop that the function can be entered at: forgets all proofs. They are about values that are not used
    /// from here on, as an entry brings operands and locals of its own.
    pub(super) fn forget_proofs(&mut self) {
        self.forget(Proofs::default());
        self.frames.iter_mut().for_each(|frame| frame.proofs = Proofs::default());
    }

    /// Forgets what was proved since the marks: the code that follows is reached on other paths too.
    pub(super) fn forget(&mut self, proofs: Proofs) {
        self.bounds.forget(proofs.bounds);
        self.known.forget(proofs.known);
    }

    pub(super) fn control(&mut self, op: &Op<'m>) -> bool {
        match *op {
            Op::Nop => {}
            Op::Unreachable => {
                self.trap(Trap::Unreachable);
            }
            Op::Block { blockty } => {
                let (params, results) = self.block_types(blockty);
                let saved = self.save_operands(params.len());
                let target = self.builder.create_block();
                self.push_frame(FrameKind::Block, target, params, results, saved);
            }
            Op::Loop { blockty } => self.open_loop(blockty),
            Op::If { blockty } => self.open_if(blockty),
            Op::Else => self.otherwise(),
            Op::End => self.end(),
            Op::Br { relative_depth } => self.branch(relative_depth),
            Op::BrIf { relative_depth } => {
                let condition = self.pop();
                let (target, arity) = self.label(relative_depth);
                let next = self.builder.create_block();
                self.with_top(arity, |lower, args| lower.builder.ins().brif(condition, target, args, next, []));
                self.builder.seal_block(next);
                self.builder.switch_to_block(next);
                if let Some((reference, true)) = self.null_test(condition) {
                    self.known.learn_non_null(reference);
                }
            }
            Op::BrOnNull { relative_depth } => {
                let reference = self.pop_reference();
                if self.known.is_non_null(reference) {
                    self.push(reference);
                    return true;
                }
                let (target, arity) = self.label(relative_depth);
                let next = self.builder.create_block();
                self.with_top(arity, |lower, args| lower.builder.ins().brif(reference, next, [], target, args));
                self.builder.seal_block(next);
                self.builder.switch_to_block(next);
                self.known.learn_non_null(reference);
                self.push(reference);
            }
            Op::BrOnNonNull { relative_depth } => {
                let reference = self.pop_reference();
                self.push(reference);
                if self.known.is_non_null(reference) {
                    self.branch(relative_depth);
                    return true;
                }
                let (target, arity) = self.label(relative_depth);
                let next = self.builder.create_block();
                self.with_top(arity, |lower, args| lower.builder.ins().brif(reference, target, args, next, []));
                self.builder.seal_block(next);
                self.builder.switch_to_block(next);
                self.pop();
            }
            Op::BrTable { ref targets } => self.branch_table(targets),
            Op::Return => {
                self.return_values();
                self.reachable = false;
            }
            Op::Drop => {
                self.pop();
            }
            Op::Select | Op::TypedSelect { .. } => {
                let (x, y, condition) = self.pop3();
                let (x, y) = (self.canonical(x), self.canonical(y));
                let result = self.ins().select(condition, x, y);
                if let Op::TypedSelect { ty } = *op {
                    self.learn_type(result, &ValType::from_wasmparser(ty, &self.module.sigs));
                }
                self.push(result);
            }
            _ => return false,
        }
        true
    }

    /// Skips an instruction that is never reached, but follows the nesting of blocks.
    pub(super) fn skip(&mut self, op: &Op<'_>) {
        match op {
            _ if opens_block(op) => self.skipped += 1,
            _ if self.skipped > 0 => self.skipped -= usize::from(ends_block(op)),
            Op::End => self.end(),
            Op::Else => self.otherwise(),
            Op::Catch { tag_index } => self.catch(Some(*tag_index)),
            Op::CatchAll => self.catch(None),
            Op::Delegate { relative_depth } => self.delegate(*relative_depth),
            _ => {}
        }
    }

    pub(super) fn block_types(&self, ty: BlockType) -> (Types<'m>, Types<'m>) {
        match ty {
            BlockType::Empty => (Types::Some(&[]), Types::Some(&[])),
            BlockType::Type(ty) => (Types::Some(&[]), Types::One([ValType::from_wasmparser(ty, &self.module.sigs)])),
            BlockType::FuncType(index) => {
                let ty = self.module.types[index as usize].unwrap_func();
                (Types::Some(ty.params()), Types::Some(ty.results()))
            }
        }
    }

    fn open_loop(&mut self, ty: BlockType) {
        let (params, results) = self.block_types(ty);
        let saved = self.save_operands(params.len());
        let header = self.builder.create_block();
        let loads_lengths = self.load_lengths_for_loop();
        self.push_frame(FrameKind::Loop, header, params.clone(), results, saved);
        self.with_top(params.len(), |lower, args| lower.builder.ins().jump(header, args));
        if saved.is_some() {
            self.enter_loop(header, &params, loads_lengths);
        }
        self.builder.switch_to_block(header);
        self.stack.truncate(self.stack.len() - params.len());
        // Taken before the builder adds parameters of its own.
        let own = self.builder.block_params(header).to_vec();
        if saved.is_some() {
            self.read_operands(self.stack.len());
        }
        self.stack.extend(own);
        self.learn_top(&params);
        self.poll();
    }

    fn open_if(&mut self, ty: BlockType) {
        let condition = self.pop();
        let (params, results) = self.block_types(ty);
        let saved = self.save_operands(params.len());
        let (then, otherwise) = (self.builder.create_block(), self.builder.create_block());
        let target = self.builder.create_block();
        self.ins().brif(condition, then, [], otherwise, []);
        self.builder.seal_block(then);
        self.builder.seal_block(otherwise);
        self.builder.switch_to_block(then);
        let again = self.stack[self.stack.len() - params.len()..].to_vec();
        let tested = self.null_test(condition);
        let non_null = tested.and_then(|(reference, if_null)| if_null.then_some(reference));
        self.push_frame(FrameKind::If { otherwise, params: again, non_null }, target, params, results, saved);
        if let Some((reference, false)) = tested {
            self.known.learn_non_null(reference);
        }
    }

    /// The reference that a condition compares with null, and whether it holds for null.
    fn null_test(&self, condition: Value) -> Option<(Value, bool)> {
        let dfg = &self.builder.func.dfg;
        let (mut condition, mut if_null) = (dfg.resolve_aliases(condition), true);
        // `i32.eqz` around it, maybe twice, and what makes an `i32` of each comparison.
        for _ in 0..6 {
            match dfg.insts[dfg.value_def(condition).inst()?] {
                InstructionData::Unary { opcode: Opcode::Uextend, arg } => condition = dfg.resolve_aliases(arg),
                InstructionData::IntCompare { cond: IntCC::Equal, args: [x, y], .. } if self.constant(y) == Some(0) => {
                    let x = dfg.resolve_aliases(x);
                    if dfg.value_type(x) == types::I64 {
                        return Some((x, if_null));
                    }
                    (condition, if_null) = (x, !if_null);
                }
                _ => return None,
            }
        }
        None
    }

    /// Ends the first arm of an `if` and begins the second.
    fn otherwise(&mut self) {
        let frame = self.frames.last_mut().expect("validation matched the else");
        let (height, target, results) = (frame.height, frame.target, frame.results.len());
        let FrameKind::If { otherwise, params, non_null } = std::mem::replace(&mut frame.kind, FrameKind::Block) else {
            unreachable!("validation matched the else");
        };
        frame.branched |= self.reachable;
        let (proofs, saved) = (frame.proofs, frame.saved);
        if self.reachable {
            self.with_top(results, |lower, args| lower.builder.ins().jump(target, args));
        }
        self.forget(proofs);
        self.builder.switch_to_block(otherwise);
        self.stack.truncate(height);
        if saved.is_some() {
            self.read_operands(height);
        }
        self.stack.extend(params);
        if let Some(reference) = non_null {
            self.known.learn_non_null(reference);
        }
        self.reachable = true;
    }

    pub(super) fn end(&mut self) {
        if let Some(ControlFrame { kind: FrameKind::If { .. }, .. }) = self.frames.last() {
            // No `else`: the parameters are the results.
            self.otherwise();
        }
        if let Some(ControlFrame { kind: FrameKind::Try | FrameKind::Catch(_), .. }) = self.frames.last() {
            self.end_legacy_try();
        }
        let mut frame = self.frames.pop().expect("validation matched the end");
        let results = frame.results.len();
        if let FrameKind::TryTable = frame.kind
            && let Some(handler) = self.close_handler()
        {
            if self.reachable {
                self.with_top(results, |lower, args| lower.builder.ins().jump(frame.target, args));
                frame.branched = true;
            }
            self.stack.truncate(frame.height);
            self.forget(frame.proofs);
            self.emit_dispatch(handler);
        }
        if let FrameKind::Loop = frame.kind {
            self.forget_saved(frame.saved);
            // Only running through its body leads here, so what the body proved still holds.
            self.builder.seal_block(frame.target);
            if !self.reachable {
                self.stack.truncate(frame.height);
            }
            return;
        }
        if frame.branched {
            if self.reachable {
                self.with_top(results, |lower, args| lower.builder.ins().jump(frame.target, args));
            }
            self.builder.seal_block(frame.target);
            self.builder.switch_to_block(frame.target);
            self.stack.truncate(frame.height);
            // Taken before the builder adds parameters of its own.
            let own = self.builder.block_params(frame.target).to_vec();
            if frame.saved.is_some() {
                self.read_operands(frame.height);
            }
            self.stack.extend(own);
            self.forget(frame.proofs);
            self.learn_top(&frame.results);
            self.reachable = true;
        } else if !self.reachable {
            self.stack.truncate(frame.height);
            self.forget(frame.proofs);
        }
        self.forget_saved(frame.saved);
        if let (FrameKind::Function, true) = (frame.kind, self.reachable) {
            self.emit_return(&frame.results);
            self.reachable = false;
        }
    }

    /// The block of a label, and the number of values that a branch to it carries.
    fn label(&mut self, depth: u32) -> (Block, usize) {
        let index = self.frames.len() - 1 - depth as usize;
        let frame = &mut self.frames[index];
        frame.branched = true;
        (frame.target, frame.arity)
    }

    pub(super) fn label_arity(&self, depth: u32) -> usize {
        self.frames[self.frames.len() - 1 - depth as usize].arity
    }

    pub(super) fn branch(&mut self, depth: u32) {
        if depth as usize + 1 == self.frames.len() {
            self.return_values();
        } else {
            let (target, arity) = self.label(depth);
            self.with_top(arity, |lower, args| lower.builder.ins().jump(target, args));
        }
        self.reachable = false;
    }

    fn return_values(&mut self) {
        let results = self.frames[0].results.clone();
        self.emit_return(&results);
    }

    /// Returns the topmost values. Code that has taken over an interpreter's frame writes them to that frame.
    pub(super) fn emit_return(&mut self, types: &[ValType]) {
        self.canonical_top(types.len());
        let values = &self.stack[self.stack.len() - types.len()..];
        match self.result_frame() {
            None => self.builder.ins().return_(values),
            Some(frame) => {
                abi::store_slots(&mut self.builder, types, values, frame);
                self.builder.ins().return_(&[])
            }
        };
    }

    /// Jumps through a table. A label that carries values or occurs more than once gets a block of its own that jumps on to
    /// it. So its arguments, and those that SSA construction adds for locals, exist once and not once for each of maybe
    /// 50,000 entries.
    fn branch_table(&mut self, targets: &BrTable<'_>) {
        let index = self.pop();
        // Validation has read the table already.
        let depths: Vec<u32> = targets.targets().filter_map(|depth| depth.ok()).chain([targets.default()]).collect();
        let mut uses = std::collections::HashMap::<u32, usize>::new();
        depths.iter().for_each(|depth| *uses.entry(*depth).or_default() += 1);
        let mut stops = Vec::new();
        let mut calls = std::collections::HashMap::<u32, BlockCall>::new();
        let mut entries: Vec<BlockCall> = Vec::with_capacity(depths.len());
        for depth in depths {
            let call = *calls.entry(depth).or_insert_with(|| {
                let (target, arity) = self.label(depth);
                let mut block = target;
                if arity > 0 || uses[&depth] > 1 {
                    block = self.builder.create_block();
                    stops.push((block, target, arity));
                }
                self.builder.func.dfg.block_call(block, [])
            });
            entries.push(call);
        }
        let default = entries.pop().expect("the default is there");
        // All labels carry the same values, so these become canonical here for all of them.
        let (_, arity) = self.label(targets.default());
        self.canonical_top(arity);
        let table = self.builder.create_jump_table(JumpTableData::new(default, &entries));
        self.ins().br_table(index, table);
        for (block, target, arity) in stops {
            self.builder.seal_block(block);
            self.builder.switch_to_block(block);
            self.with_top(arity, |lower, args| lower.builder.ins().jump(target, args));
        }
        self.reachable = false;
    }

    /// Jumps to a block with the topmost `count` values as arguments.
    pub(super) fn jump_with_top(&mut self, count: usize, target: Block) {
        self.with_top(count, |lower, args| lower.builder.ins().jump(target, args));
    }

    /// Has `emit` use the topmost `count` values as arguments of a block; they stay on the stack.
    fn with_top<R>(&mut self, count: usize, emit: impl FnOnce(&mut Self, &[BlockArg]) -> R) -> R {
        self.canonical_top(count);
        let mut args = std::mem::take(&mut self.scratch);
        args.clear();
        args.extend(self.stack[self.stack.len() - count..].iter().map(|value| BlockArg::Value(*value)));
        let result = emit(self, &args);
        self.scratch = args;
        result
    }

    /// Pushes an `i32` constant, of which the low 32 bits of `x` are taken.
    pub(super) fn push_i32(&mut self, x: i64) {
        let value = self.ins().iconst(types::I32, x & 0xffff_ffff);
        self.push(value);
    }
}

/// The types of a block's parameters or results.
#[derive(Clone)]
pub(super) enum Types<'m> {
    One([ValType; 1]),
    Some(&'m [ValType]),
}

impl Deref for Types<'_> {
    type Target = [ValType];

    fn deref(&self) -> &[ValType] {
        match self {
            Types::One(one) => one,
            Types::Some(types) => types,
        }
    }
}
