//! Blocks, branches, calls.
//!
//! A label's operands are in the slots of its block's lowest heights, so a branch copies what it carries down to them.
//! Sources are operands' own slots (at or above their destinations, so that ascending order is safe), locals or constants.

use wasmparser::{BlockType, BrTable};

use super::Translator;
use super::emit::{NONE, Site};
use super::stack::{Kind, Operand};
use crate::interp::op::{Binary, Compare, Form, Plain};
use crate::interp::value::Bank;
use crate::module::decode::Parsed;
use crate::module::types::{FuncType, ValType};

/// Copies that a branch makes one by one; more are brought into their slots first and moved at once, so that the size
/// of the bytecode stays linear in the number of branches.
const COPIES: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Construct {
    Function,
    Block,
    Loop,
    If,
    Else,
    /// With the word of its `try`.
    Try(u32),
}

/// Parameters and results of a block.
enum Type<'m> {
    Empty,
    Result(ValType),
    Func(&'m FuncType),
}

impl Type<'_> {
    fn params(&self) -> &[ValType] {
        match self {
            Type::Func(ty) => ty.params(),
            _ => &[],
        }
    }

    fn results(&self) -> &[ValType] {
        match self {
            Type::Empty => &[],
            Type::Result(ty) => std::slice::from_ref(ty),
            Type::Func(ty) => ty.results(),
        }
    }
}

/// A block that is open.
pub(super) struct Block<'m> {
    pub construct: Construct,
    ty: Type<'m>,
    /// Operands below its parameters, and the slot behind them.
    operands: usize,
    /// Locals that were known to be set.
    set: usize,
    pub height: u32,
    /// Where a loop starts.
    start: u32,
    /// Jumps to its end.
    waiting: u32,
    /// The jump of an `if` whose condition does not hold.
    otherwise: Site,
    /// The stub by which the `br_table` of that stamp branches here.
    stub: (u32, u32),
}

impl<'m> Block<'m> {
    /// The outermost block, of a function whose operand stack starts at a slot.
    pub fn function(ty: &'m FuncType, height: u32) -> Self {
        Self::new(Construct::Function, Type::Func(ty), 0, 0, height)
    }

    fn new(construct: Construct, ty: Type<'m>, operands: usize, set: usize, height: u32) -> Self {
        Block { construct, ty, operands, set, height, start: 0, waiting: NONE, otherwise: NONE, stub: (0, 0) }
    }

    /// Types of what a branch to its label carries.
    fn carried(&self) -> &[ValType] {
        if self.construct == Construct::Loop { self.ty.params() } else { self.ty.results() }
    }
}

pub(super) fn slots(types: &[ValType]) -> u32 {
    types.iter().map(|ty| ty.slots() as u32).sum()
}

/// What a conditional branch depends on. The operands were read before, but may be used after copies to operands' slots.
enum Condition {
    Known(bool),
    /// Whether a slot, or else the accumulator, is not zero.
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

impl Condition {
    fn negated(self) -> Self {
        match self {
            Condition::Known(value) => Condition::Known(!value),
            Condition::Nonzero { slot, holds } => Condition::Nonzero { slot, holds: !holds },
            Condition::Compare { op, form, b, c, word } => Condition::Compare { op: op.negated(), form, b, c, word },
        }
    }
}

impl<'m> Translator<'m> {
    pub fn unreachable(&mut self) {
        self.effect(Plain::Unreachable.op(), 0, 0, 0, &[]);
        self.leave();
    }

    /// Nothing reaches what follows.
    pub(super) fn leave(&mut self) {
        self.reachable = false;
        self.skipped = 0;
        self.fork();
    }

    /// Control arrives here by more than one way.
    fn merge(&mut self) {
        self.clobber();
    }

    pub(super) fn open(&mut self, construct: Construct, ty: BlockType) {
        let ty = match ty {
            BlockType::Empty => Type::Empty,
            BlockType::Type(ty) => Type::Result(ValType::from_wasmparser(ty)),
            BlockType::FuncType(index) => Type::Func(&self.module.types[index as usize]),
        };
        let operands = self.stack.len() - ty.params().len();
        let height = self.height - slots(ty.params());
        self.blocks.push(Block::new(construct, ty, operands, self.set.len(), height));
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
            Condition::Known(false) => NONE,
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
        // Where the condition is known to hold, nothing jumps here.
        self.reachable = otherwise != NONE;
        self.skipped = 0;
        if let Some(Block { ty: Type::Func(ty), .. }) = self.blocks.last() {
            self.push_temps(ty.params());
        }
        self.settled = self.stack.len();
    }

    /// Ends the waiting of a single jump.
    fn bind(&mut self, site: Site) {
        if site != NONE {
            let here = self.here();
            self.jump(site, Ok(here));
            self.merge();
        }
    }

    /// Brings the current block's results, which are on top, into their slots.
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
            Construct::Try(at) => self.end_try(at),
            Construct::Loop if self.counting => {
                let start = self.current().start;
                self.weigh_loop(start);
            }
            _ => {}
        }
        let block = self.current();
        let merges = block.waiting != NONE || block.otherwise != NONE;
        if self.reachable && merges {
            self.carry_to_end();
        }
        let Some(block) = self.blocks.pop() else { unreachable!("the function's block is open to its end") };
        if self.reachable && !merges {
            // Nothing else arrives, so what the block leaves may stay lazy.
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
    fn condition(&mut self) -> Condition {
        let operand = self.pop();
        if let Kind::Const(bits) = operand.kind {
            return Condition::Known(bits as u32 != 0);
        }
        if let Some(first) = self.last_for(operand) {
            if let Some((op, form)) = Compare::from_op(first as u16) {
                let condition = self.take_compare(op, form);
                // Whether the accumulator is not zero may be known from what made it.
                let Condition::Nonzero { slot: None, holds } = condition else { return condition };
                return self.take_and(true, holds).unwrap_or(condition);
            }
            if let Some(condition) = self.take_and(false, true) {
                return condition;
            }
        }
        let slot = self.slot_of(operand);
        let acc = self.take_acc(operand, slot, Bank::Int);
        let slot = if acc { None } else { Some(self.read(slot, 3).into()) };
        Condition::Nonzero { slot, holds: true }
    }

    /// The fields `b` and `c` of the last instruction and its extension word, if its form has one; it is taken back.
    fn take(&mut self, form: Form) -> (u16, u16, u64) {
        let at = self.last.map_or(0, |last| last.at as usize);
        let (first, word) = (self.words[at], if form == Form::SK { self.words[at + 1] } else { 0 });
        self.unput();
        ((first >> 32) as u16, (first >> 48) as u16, word)
    }

    /// Makes a condition of the last instruction, a comparison.
    fn take_compare(&mut self, op: Compare, form: Form) -> Condition {
        let (b, c, word) = self.take(form);
        let zero = form == Form::SI && c == 0 || form == Form::AI && b == 0 && c == 0;
        match op {
            Compare::I32Eq | Compare::I32Ne if zero => {
                Condition::Nonzero { slot: (form == Form::SI).then_some(b.into()), holds: op == Compare::I32Ne }
            }
            _ => Condition::Compare { op, form, b, c, word },
        }
    }

    /// Makes a condition of the last instruction if it is an `i32.and`, whose result is (`kept`) only in the accumulator.
    fn take_and(&mut self, kept: bool, holds: bool) -> Option<Condition> {
        let first = self.words[self.last?.at as usize];
        let (form, writes) = Binary::I32And.form(first as u16)?;
        if writes == kept {
            return None;
        }
        let (b, c, word) = self.take(form);
        let op = if holds { Compare::I32Common } else { Compare::I32Apart };
        Some(Condition::Compare { op, form, b, c, word })
    }

    /// The slot and the number of the last instruction, if it adds one to the other in place, and the sum is what the
    /// accumulator holds.
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

    /// Puts out a branch on a comparison of the accumulator with what the last instruction steps.
    fn step(&mut self, condition: &Condition) -> Option<Site> {
        let (op, imm, other, value) = match *condition {
            Condition::Nonzero { slot: None, holds: true } => (Compare::I32Ne, true, 0, 0),
            Condition::Nonzero { slot: None, holds: false } => (Compare::I32Eq, true, 0, 0),
            Condition::Compare { op, form: Form::AI, b, c, .. } => (op, true, 0, u32::from(b) | u32::from(c) << 16),
            Condition::Compare { op, form: Form::AS, c, .. } => (op, false, c, 0),
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

    /// Puts out a branch that is taken where a condition holds, and returns where it says how far.
    fn branch(&mut self, condition: Condition) -> Site {
        // The branch may carry an operand, or leave it where the other arm of an `if` finds it: its slot must hold it
        // even if the next instruction takes it from the accumulator.
        self.acc_from = [NONE; 3];
        if let Some(site) = self.step(&condition) {
            return site;
        }
        let at = self.here();
        match condition {
            Condition::Known(_) => {
                self.effect_bc(Plain::Br, 0, 0);
                2 * at + 1
            }
            Condition::Nonzero { slot, holds } => {
                let op = match (slot, holds) {
                    (Some(_), true) => Plain::BrNonzero,
                    (None, true) => Plain::BrNonzeroAcc,
                    (Some(_), false) => Plain::BrZero,
                    (None, false) => Plain::BrZeroAcc,
                };
                self.effect_bc(op, slot.unwrap_or(0) as u16, 0);
                2 * at + 1
            }
            Condition::Compare { op, form, b, c, word } => {
                let imm = match form {
                    Form::SI => c as i16 as i32 as u32,
                    Form::AI => u32::from(b) | u32::from(c) << 16,
                    _ => 0,
                };
                let extension = u64::from(imm) << 32;
                // A constant that comparisons need a word for may fit a branch's immediate.
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

    /// Makes a jump go to a block's label.
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

    /// Whether what a branch carries is where it must be.
    fn in_place(&self, block: usize) -> bool {
        let block = &self.blocks[block];
        let count = block.carried().len();
        let top = &self.stack[self.stack.len() - count..];
        top.iter().all(|operand| operand.kind == Kind::Temp) && top.first().is_none_or(|o| o.slot == block.height)
    }

    /// Before a branch that carries much: brings the operands into their slots, for good.
    fn settle_many(&mut self, block: usize) {
        let count = self.blocks[block].carried().len();
        if count > COPIES {
            self.settle_top(count);
        }
    }

    /// Copies what a branch carries. The operand stack stays as it was.
    fn carry(&mut self, block: usize) {
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

    /// Puts out a branch that leaves nothing of the stack's state changed.
    fn put_branch(&mut self, block: usize) {
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
        let block = self.target(depth);
        match condition {
            Condition::Known(true) => return self.br(depth),
            Condition::Known(false) => return,
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
            self.forget();
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
            let (stamp, mut stub) = self.blocks[block].stub;
            if stamp != self.tables {
                stub = self.here();
                self.blocks[block].stub = (self.tables, stub);
                self.put_branch(block);
            }
            self.jump(site, Ok(stub));
        }
        self.leave();
        Ok(())
    }

    /// Puts out the end of the function, with its results on top of the stack, which stays as it was.
    fn put_return(&mut self) {
        let header = self.header as u16;
        let count = self.blocks[0].carried().len();
        let from = self.stack.len() - count;
        match self.stack[from..] {
            [] => {}
            [Operand { kind: Kind::Const(bits), .. }] if i32::try_from(bits as i64).is_ok() => {
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

    /// Copies results over the parameters, some of which they may be.
    fn put_results(&mut self, from: usize) {
        for place in from..self.stack.len() {
            let operand = self.stack[place];
            if let Kind::Local { index, .. } = operand.kind
                && self.locals[index as usize].slot < self.results
            {
                self.put_operand(operand.slot, operand);
            }
        }
        let mut to = 0;
        for place in from..self.stack.len() {
            let mut operand = self.stack[place];
            if let Kind::Local { index, .. } = operand.kind
                && self.locals[index as usize].slot < self.results
            {
                operand.kind = Kind::Temp;
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
