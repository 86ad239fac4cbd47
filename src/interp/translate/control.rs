//! Blocks, branches, returns and `select`.
//!
//! The operands that a branch carries must be at the label in the slots where its block begins, so a branch copies them down to
//! these. It copies from locals, constants or the operands' own slots, which are at or above their destinations, so ascending
//! order is safe.

use wasmparser::{BlockType, BrTable};

use super::Translator;
use super::emit::{NONE, Site};
use super::stack::{Operand, OperandKind};
use crate::interp::op::{Binary, Compare, Form, Plain};
use crate::interp::value::Bank;
use crate::module::decode::Parsed;
use crate::module::types::{FuncType, ValType};

/// The most operands that a branch copies one by one. If it carries more, these are first put into their own slots and then moved
/// at once, so that the size of the bytecode stays linear in the number of branches.
const COPIES: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Construct {
    Function,
    Block,
    Loop,
    If,
    Else,
    /// A `try_table`, with the word of its `try`.
    Try(u32),
    /// The body of a legacy `try`.
    LegacyTry,
    /// A `catch` of a legacy `try`, whose body's index in `tries` is `entry`; its clauses in `caught` begin at `first`. The lowest
    /// operand is a reference to the exception, for `rethrow`.
    Catch {
        entry: u32,
        first: u32,
    },
}

/// Parameters and results of a block.
enum BlockSignature<'m> {
    Empty,
    Result(ValType),
    Func(&'m FuncType),
}

impl BlockSignature<'_> {
    fn params(&self) -> &[ValType] {
        match self {
            BlockSignature::Func(ty) => ty.params(),
            _ => &[],
        }
    }

    fn results(&self) -> &[ValType] {
        match self {
            BlockSignature::Empty => &[],
            BlockSignature::Result(ty) => std::slice::from_ref(ty),
            BlockSignature::Func(ty) => ty.results(),
        }
    }
}

/// A block whose `end` has not come yet.
pub(super) struct Block<'m> {
    pub construct: Construct,
    /// Number of guards around what is in it.
    pub guards: usize,
    ty: BlockSignature<'m>,
    /// Number of operands below its parameters.
    pub operands: usize,
    /// Number of locals that were known to be set before it.
    pub set: usize,
    /// The slot of its first parameter.
    pub height: u32,
    /// The first word of a loop.
    start: u32,
    /// The jumps that wait for its end, as a list through their offsets.
    waiting: u32,
    /// The jump of an `if` to its `else`.
    otherwise: Site,
    /// Number of a `br_table` with entries for this block, and the word of the branch that these lead to.
    table_branch: (u32, u32),
}

impl<'m> Block<'m> {
    /// The outermost block, of a function whose operand stack starts at a slot.
    pub fn function(ty: &'m FuncType, height: u32) -> Self {
        Self::new(Construct::Function, BlockSignature::Func(ty), 0, 0, height)
    }

    fn new(construct: Construct, ty: BlockSignature<'m>, operands: usize, set: usize, height: u32) -> Self {
        Block {
            construct,
            guards: 0,
            ty,
            operands,
            set,
            height,
            start: 0,
            waiting: NONE,
            otherwise: NONE,
            table_branch: (0, 0),
        }
    }

    /// Types of the operands that a branch to its label carries.
    fn carried(&self) -> &[ValType] {
        if self.construct == Construct::Loop { self.ty.params() } else { self.ty.results() }
    }
}

pub(super) fn slots(types: &[ValType]) -> u32 {
    types.iter().map(|ty| ty.slots() as u32).sum()
}

/// The condition of a branch, as fields of the branch instruction: its operands have been read, and copies to operands' slots may
/// be emitted before the branch.
pub(super) enum BranchCondition {
    Known(bool),
    /// Whether a slot, or the accumulator if there is none, is not zero; or, unless it `holds`, is zero.
    Nonzero {
        slot: Option<u32>,
        holds: bool,
    },
    /// A comparison with its fields; `word` is the constant of form `SK`.
    Compare {
        op: Compare,
        form: Form,
        b: u16,
        c: u16,
        word: u64,
    },
}

impl BranchCondition {
    pub(super) fn negated(self) -> Self {
        match self {
            BranchCondition::Known(value) => BranchCondition::Known(!value),
            BranchCondition::Nonzero { slot, holds } => BranchCondition::Nonzero { slot, holds: !holds },
            BranchCondition::Compare { op, form, b, c, word } => {
                BranchCondition::Compare { op: op.negated(), form, b, c, word }
            }
        }
    }
}

impl<'m> Translator<'m> {
    pub fn unreachable(&mut self) {
        self.effect(Plain::Unreachable.op(), 0, 0, 0, &[]);
        self.leave();
    }

    /// After an instruction that never goes on to the next: what follows is unreachable.
    pub(super) fn leave(&mut self) {
        self.reachable = false;
        self.skipped = 0;
        self.fork();
    }

    /// At a place where control arrives on more than one way.
    pub(super) fn merge(&mut self) {
        self.clobber();
    }

    pub(super) fn open(&mut self, construct: Construct, ty: BlockType) {
        let ty = match ty {
            BlockType::Empty => BlockSignature::Empty,
            BlockType::Type(ty) => BlockSignature::Result(ValType::from_wasmparser(ty, &self.module.sigs)),
            BlockType::FuncType(index) => BlockSignature::Func(self.module.types[index as usize].unwrap_func()),
        };
        let operands = self.stack.len() - ty.params().len();
        let height = self.height - slots(ty.params());
        let block = Block::new(construct, ty, operands, self.set.len(), height);
        self.blocks.push(Block { guards: self.guards.len(), ..block });
    }

    pub fn block(&mut self, ty: BlockType) {
        self.settle_locals();
        self.open(Construct::Block, ty);
    }

    pub fn loop_(&mut self, ty: BlockType) {
        self.settle_locals();
        self.open(Construct::Loop, ty);
        let params = self.current().ty.params().len();
        self.settle_top(params);
        self.merge();
        self.current().start = self.here();
        if self.counting {
            let offset = u64::from(self.offset);
            self.count(Plain::CountLoop, &[offset]);
        }
    }

    pub fn if_(&mut self, ty: BlockType) {
        let condition = self.condition().negated();
        self.fork();
        self.settle_locals();
        self.open(Construct::If, ty);
        let params = self.current().ty.params().len();
        self.settle_top(params);
        self.current().otherwise = match condition {
            BranchCondition::Known(false) => NONE,
            condition => self.branch(condition),
        };
    }

    pub(super) fn current(&mut self) -> &mut Block<'m> {
        let Some(block) = self.blocks.last_mut() else { unreachable!("the function's block is open to its end") };
        block
    }

    pub fn else_(&mut self) {
        if self.reachable {
            self.carry_to_end();
            let site = self.br_site();
            self.wait(self.blocks.len() - 1, site);
        }
        let block = self.current();
        block.construct = Construct::Else;
        let (otherwise, operands, height, set) = (block.otherwise, block.operands, block.height, block.set);
        block.otherwise = NONE;
        self.unset(set);
        self.truncate(operands);
        self.height = height;
        self.bind(otherwise);
        // If the condition is known to hold, nothing jumps here.
        self.reachable = otherwise != NONE;
        self.skipped = 0;
        if let Some(Block { ty: BlockSignature::Func(ty), .. }) = self.blocks.last() {
            self.push_temps(ty.params());
        }
        self.settled = self.stack.len();
    }

    /// Makes a jump, if there is one, lead here.
    fn bind(&mut self, site: Site) {
        if site != NONE {
            let here = self.here();
            self.jump(site, Ok(here));
            self.merge();
        }
    }

    /// Puts the current block's results, which are on top, into their slots.
    fn carry_to_end(&mut self) {
        let count = self.current().ty.results().len();
        self.settle_top(count);
    }

    pub fn end(&mut self) {
        if self.blocks.len() == 1 {
            if self.reachable {
                self.put_return();
            }
            return self.leave();
        }
        let construct = self.current().construct;
        match construct {
            Construct::Try(at) => {
                self.close_guard(at);
            }
            Construct::LegacyTry | Construct::Catch { .. } => self.end_legacy_try(),
            Construct::Loop if self.counting => {
                let start = self.current().start;
                self.weigh_loop(start);
            }
            _ => {}
        }
        let block = self.current();
        let merges = block.waiting != NONE || block.otherwise != NONE;
        let is_catch = matches!(construct, Construct::Catch { .. });
        if self.reachable && merges && !is_catch {
            self.carry_to_end();
        }
        let Some(block) = self.blocks.pop() else { unreachable!("the function's block is open to its end") };
        if self.reachable && !merges && !is_catch {
            // No branch arrives, so operands may go on standing for locals and constants.
            return;
        }
        self.unset(block.set);
        self.bind(block.otherwise);
        if self.label(block.waiting) {
            self.merge();
        }
        self.truncate(block.operands);
        self.height = block.height;
        self.push_temps(block.ty.results());
        self.reachable |= merges;
        if self.reachable {
            self.settled = self.settled.max(block.operands);
        }
        self.skipped = 0;
    }

    /// The block a branch goes to.
    pub(super) fn target(&self, depth: u32) -> usize {
        self.blocks.len() - 1 - depth as usize
    }

    /// Takes the top operand as a condition.
    pub(super) fn condition(&mut self) -> BranchCondition {
        let operand = self.pop();
        if let OperandKind::Const(bits) = operand.kind {
            return BranchCondition::Known(bits as u32 != 0);
        }
        if let Some(first) = self.last_for(operand) {
            if let Some((op, form)) = Compare::from_op(first as u16) {
                let condition = self.take_compare(op, form);
                // If the accumulator is compared with zero and comes from an `i32.and`, one branch does both.
                let BranchCondition::Nonzero { slot: None, holds } = condition else { return condition };
                return self.take_and(true, holds).unwrap_or(condition);
            }
            if let Some(condition) = self.take_and(false, true) {
                return condition;
            }
        }
        let slot = self.slot_of(operand);
        let acc = self.take_acc(operand, slot, Bank::Int);
        let slot = if acc { None } else { Some(self.read(slot, 3).into()) };
        BranchCondition::Nonzero { slot, holds: true }
    }

    /// Takes the last instruction back. Returns its fields `b` and `c`, and its extension word if its form has one.
    fn take(&mut self, form: Form) -> (u16, u16, u64) {
        let at = self.last.map_or(0, |last| last.at as usize);
        let (first, word) = (self.words[at], if form == Form::SK { self.words[at + 1] } else { 0 });
        self.unput();
        ((first >> 32) as u16, (first >> 48) as u16, word)
    }

    /// Takes back the last instruction, a comparison, and returns it as a condition.
    fn take_compare(&mut self, op: Compare, form: Form) -> BranchCondition {
        let (b, c, word) = self.take(form);
        let zero = form == Form::SI && c == 0 || form == Form::AI && b == 0 && c == 0;
        match op {
            Compare::I32Eq | Compare::I32Ne if zero => {
                BranchCondition::Nonzero { slot: (form == Form::SI).then_some(b.into()), holds: op == Compare::I32Ne }
            }
            _ => BranchCondition::Compare { op, form, b, c, word },
        }
    }

    /// Takes back the last instruction if it is an `i32.and`, and returns it as a condition. `kept`: its result must be only in the
    /// accumulator, otherwise in a slot.
    fn take_and(&mut self, kept: bool, holds: bool) -> Option<BranchCondition> {
        let first = self.words[self.last?.at as usize];
        let (form, writes) = Binary::I32And.form(first as u16)?;
        if writes == kept {
            return None;
        }
        let (b, c, word) = self.take(form);
        let op = if holds { Compare::I32Common } else { Compare::I32Apart };
        Some(BranchCondition::Compare { op, form, b, c, word })
    }

    /// Takes back the last instruction if it adds a number to a slot in place. Returns slot and number.
    fn take_step(&mut self) -> Option<(u16, u16)> {
        let last = self.last?;
        let first = self.words[last.at as usize];
        let (slot, from, number) = ((first >> 16) as u16, (first >> 32) as u16, (first >> 48) as u16);
        if Binary::I32Add.form(first as u16) != Some((Form::SI, true)) || slot != from || self.scratch.is_some() {
            return None;
        }
        self.unput();
        Some((slot, number))
    }

    /// Emits a branch that is one with the addition before it, if the condition compares the sum, in the accumulator.
    fn step(&mut self, condition: &BranchCondition) -> Option<Site> {
        let (op, imm, other, value) = match *condition {
            BranchCondition::Nonzero { slot: None, holds: true } => (Compare::I32Ne, true, 0, 0),
            BranchCondition::Nonzero { slot: None, holds: false } => (Compare::I32Eq, true, 0, 0),
            BranchCondition::Compare { op, form: Form::AI, b, c, .. } => {
                (op, true, 0, u32::from(b) | u32::from(c) << 16)
            }
            BranchCondition::Compare { op, form: Form::AS, c, .. } => (op, false, c, 0),
            _ => return None,
        };
        let op = op.step_op(imm)?;
        let (slot, number) = self.take_step()?;
        let at = self.here();
        self.effect(op, slot, other, number, &[u64::from(value) << 32]);
        self.written(slot.into(), false);
        self.acc[Bank::Int as usize] = slot.into();
        Some(2 * (at + 1))
    }

    /// Emits a branch that is taken if a condition holds. Returns the site of its jump offset.
    fn branch(&mut self, condition: BranchCondition) -> Site {
        // The branch may carry an operand, or leave it where the other arm of an `if` finds it: its slot must hold it
        // even if the next instruction takes it from the accumulator.
        self.acc_from = [NONE; 3];
        if let Some(site) = self.step(&condition) {
            return site;
        }
        let at = self.here();
        match condition {
            BranchCondition::Known(_) => {
                self.effect_bc(Plain::Br, 0, 0);
                2 * at + 1
            }
            BranchCondition::Nonzero { slot, holds } => {
                let op = match (slot, holds) {
                    (Some(_), true) => Plain::BrNonzero,
                    (None, true) => Plain::BrNonzeroAcc,
                    (Some(_), false) => Plain::BrZero,
                    (None, false) => Plain::BrZeroAcc,
                };
                self.effect_bc(op, slot.unwrap_or(0) as u16, 0);
                2 * at + 1
            }
            BranchCondition::Compare { op, form, b, c, word } => {
                let imm = match form {
                    Form::SI => c as i16 as i32 as u32,
                    Form::AI => u32::from(b) | u32::from(c) << 16,
                    _ => 0,
                };
                let extension = u64::from(imm) << 32;
                // A constant that is an extension word of a comparison may fit the immediate of a branch.
                let small = match op.bank() {
                    Bank::Int if op.is_32() => Some(word as u32),
                    Bank::Int => i32::try_from(word as i64).ok().map(|imm| imm as u32),
                    _ => None,
                };
                match (form, small) {
                    (Form::SK, Some(imm)) => {
                        self.effect(op.branch_op(Form::SI), b, 0, 0, &[u64::from(imm) << 32]);
                    }
                    (Form::SK, None) => self.effect(op.branch_op(form), b, 0, 0, &[0, word]),
                    _ => self.effect(op.branch_op(form), b, c, 0, &[extension]),
                }
                2 * (at + 1)
            }
        }
    }

    fn br_site(&mut self) -> Site {
        let at = self.here();
        self.effect_bc(Plain::Br, 0, 0);
        2 * at + 1
    }

    /// Makes a jump lead to a block's label.
    pub(super) fn wait(&mut self, block: usize, site: Site) {
        if self.blocks[block].construct == Construct::Loop {
            let start = self.blocks[block].start;
            self.jump(site, Ok(start));
        } else {
            let mut waiting = self.blocks[block].waiting;
            self.jump(site, Err(&mut waiting));
            self.blocks[block].waiting = waiting;
        }
    }

    /// Whether the operands that a branch carries are already in the label's slots.
    fn in_place(&self, block: usize) -> bool {
        let block = &self.blocks[block];
        let count = block.carried().len();
        let top = &self.stack[self.stack.len() - count..];
        top.iter().all(|operand| operand.kind == OperandKind::Temp)
            && top.first().is_none_or(|o| o.slot == block.height)
    }

    /// Before a branch that carries many operands: puts these into their own slots, for good.
    pub(super) fn settle_many(&mut self, block: usize) {
        let count = self.blocks[block].carried().len();
        if count > COPIES {
            self.settle_top(count);
        }
    }

    /// Copies the operands that a branch carries to the label's slots. The operand stack stays as it was.
    pub(super) fn carry(&mut self, block: usize) {
        let count = self.blocks[block].carried().len();
        let mut to = self.blocks[block].height;
        let from = self.stack.len() - count;
        if count > COPIES {
            self.put_span(to, self.stack[from].slot, slots(self.blocks[block].carried()));
            return;
        }
        for place in from..self.stack.len() {
            let operand = self.stack[place];
            self.put_operand(to, operand);
            to += 1 + u32::from(operand.wide);
        }
    }

    /// Emits an unconditional branch. The operand stack stays as it was.
    pub(super) fn put_branch(&mut self, block: usize) {
        if self.blocks[block].construct == Construct::Function {
            self.put_return();
        } else {
            self.carry(block);
            let site = self.br_site();
            self.wait(block, site);
        }
    }

    pub fn br(&mut self, depth: u32) {
        let block = self.target(depth);
        self.settle_many(block);
        self.put_branch(block);
        self.leave();
    }

    pub fn br_if(&mut self, depth: u32) {
        let condition = self.condition();
        self.br_on(depth, condition);
    }

    /// Branches if the reference on top is null, which is not carried; it stays for what follows.
    pub fn br_on_null(&mut self, depth: u32) {
        let operand = self.pop();
        let condition = self.nullness(operand, Compare::I64Eq);
        self.br_on(depth, condition);
        if self.reachable {
            self.push_again(operand);
        }
    }

    /// Branches if the reference on top is not null, and carries it; it is dropped for what follows.
    pub fn br_on_non_null(&mut self, depth: u32) {
        let operand = self.pop();
        let condition = self.nullness(operand, Compare::I64Ne);
        self.push_again(operand);
        self.br_on(depth, condition);
        self.pop();
    }

    /// Whether a popped reference compares with null as `op` says. The reference stays in its slot.
    fn nullness(&mut self, operand: Operand, op: Compare) -> BranchCondition {
        if let OperandKind::Const(bits) = operand.kind {
            return BranchCondition::Known((bits == 0) == (op == Compare::I64Eq));
        }
        let slot = self.slot_of(operand);
        match self.in_acc(slot, Bank::Int) {
            true => BranchCondition::Compare { op, form: Form::AI, b: 0, c: 0, word: 0 },
            false => BranchCondition::Compare { op, form: Form::SI, b: self.read(slot, 3), c: 0, word: 0 },
        }
    }

    /// Branches if a condition holds.
    pub(super) fn br_on(&mut self, depth: u32, condition: BranchCondition) {
        let block = self.target(depth);
        match condition {
            BranchCondition::Known(true) => return self.br(depth),
            BranchCondition::Known(false) => return,
            _ => {}
        }
        if self.blocks[block].construct != Construct::Loop {
            self.fork();
        }
        self.settle_many(block);
        if self.blocks[block].construct != Construct::Function && self.in_place(block) {
            let site = self.branch(condition);
            self.wait(block, site);
        } else {
            let over = self.branch(condition.negated());
            self.put_branch(block);
            let here = self.here();
            self.jump(over, Ok(here));
            // The branch over it may have done what was requested of the running code.
            self.clobber();
        }
    }

    pub fn br_table(&mut self, targets: &BrTable<'_>) -> Parsed<()> {
        let index = self.pop();
        let index = self.slot_of(index);
        // All labels carry the same number of operands.
        let block = self.target(targets.default());
        let count = self.blocks[block].carried().len();
        self.settle_top(count);
        let a = self.read(index, 0);
        self.tables += 1;
        let first = self.here();
        self.effect_bc(Plain::BrTable, a, targets.len());
        self.words.resize(self.words.len() + targets.len() as usize + 1, 0);
        let depths = targets.targets().chain(std::iter::once(Ok(targets.default())));
        for (entry, depth) in depths.enumerate() {
            let block = self.target(depth?);
            let site = 2 * (first + 1 + entry as u32);
            if self.blocks[block].construct != Construct::Function && self.in_place(block) {
                self.wait(block, site);
                continue;
            }
            let (table, mut branch) = self.blocks[block].table_branch;
            if table != self.tables {
                branch = self.here();
                self.blocks[block].table_branch = (self.tables, branch);
                self.put_branch(block);
            }
            self.jump(site, Ok(branch));
        }
        self.leave();
        Ok(())
    }

    /// Emits a return with the results on top of the operand stack, which stays as it was.
    fn put_return(&mut self) {
        let header = self.header as u16;
        let count = self.blocks[0].carried().len();
        let from = self.stack.len() - count;
        match self.stack[from..] {
            [] => {}
            [Operand { kind: OperandKind::Const(bits), .. }] if i32::try_from(bits as i64).is_ok() => {
                return self.effect_bc(Plain::ReturnImm, header, bits as u32);
            }
            [operand @ Operand { wide: false, .. }] => {
                let slot = self.slot_of(operand);
                let b = self.read(slot, 0);
                return self.effect(Plain::ReturnCopy.op(), header, b, 0, &[]);
            }
            [operand] => self.put_operand(0, operand),
            _ if count > COPIES => {
                self.settle_top(count);
                self.put_span(0, self.stack[from].slot, self.results);
            }
            _ => self.put_results(from),
        }
        self.effect(Plain::Return.op(), header, 0, 0, &[]);
    }

    /// Copies results over the parameters. Results that stand for a parameter are copied to their own slots first.
    fn put_results(&mut self, from: usize) {
        for place in from..self.stack.len() {
            let operand = self.stack[place];
            if let OperandKind::Local { index, .. } = operand.kind
                && self.locals[index as usize].slot < self.results
            {
                self.put_operand(operand.slot, operand);
            }
        }
        let mut to = 0;
        for place in from..self.stack.len() {
            let mut operand = self.stack[place];
            if let OperandKind::Local { index, .. } = operand.kind
                && self.locals[index as usize].slot < self.results
            {
                operand.kind = OperandKind::Temp;
            }
            self.put_operand(to, operand);
            to += 1 + u32::from(operand.wide);
        }
    }

    pub fn select(&mut self) {
        let condition = self.pop();
        let slot = self.slot_of(condition);
        let (rhs, lhs) = (self.pop(), self.pop());
        let acc = !lhs.wide && self.take_acc(condition, slot, Bank::Int);
        let cond = if acc { 0 } else { self.read(slot, 2) };
        let (b, c) = (self.slot_of(lhs), self.slot_of(rhs));
        let (b, c) = (self.read(b, 0), self.read(c, 1));
        if lhs.wide {
            let to = self.push_temp(Bank::Vector);
            self.define(Plain::SelectWide.op(), to, Bank::Vector, b, c, &[cond.into()]);
            return;
        }
        let to = self.push_temp(Bank::Int);
        match acc {
            true => self.define(Plain::SelectAcc.op(), to, Bank::Int, b, c, &[]),
            false => self.define(Plain::Select.op(), to, Bank::Int, b, c, &[cond.into()]),
        }
    }
}
