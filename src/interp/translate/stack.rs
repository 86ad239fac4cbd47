//! The operand stack at translation time.
//!
//! `local.get` and constants emit nothing: the operand stands for the local or the number until an instruction takes it from
//! there. Before a local is overwritten, operands that stand for it are copied to their own slots; they are linked
//! through the stack, so that they are found without a search. At the start of a block no operand may stand for a local,
//! because only some ways through the block may overwrite it. Constants may stay, unless native code can take over the
//! frame at loops.

use super::Translator;
use super::emit::NONE;
use crate::interp::layout::FrameLayout;
use crate::interp::op::Plain;
use crate::interp::value::Bank;
use crate::module::types::ValType;

/// A local of the function.
pub(super) struct Local {
    pub slot: u32,
    pub wide: bool,
    /// The index of the topmost operand that stands for it, or `NONE`.
    head: u32,
    /// Whether it has been set on every way here.
    pub set: bool,
    /// Whether it is read somewhere before it has certainly been set, and must be zeroed at the function's start.
    pub zeroed: bool,
}

impl Local {
    /// A parameter at the next slot.
    pub fn param(next: &mut u32, ty: &ValType) -> Self {
        Local { set: true, ..Self::new(next, ty) }
    }

    /// A local at the next free slot.
    pub fn new(next: &mut u32, ty: &ValType) -> Self {
        let slot = FrameLayout::place(next, ty);
        Local { slot, wide: *ty == ValType::V128, head: NONE, set: false, zeroed: false }
    }
}

/// An operand. It has a slot of its own even while it stands for a local or a constant.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub slot: u32,
    pub wide: bool,
    pub kind: OperandKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OperandKind {
    /// In its slot.
    Temp,
    /// Stands for a local. `below` is the index of the next lower operand that stands for the same one, or `NONE`.
    Local { index: u32, below: u32 },
    /// Stands for a constant, as a slot would hold it. Never a vector.
    Const(u64),
}

impl Local {
    pub fn slots(&self) -> u32 {
        1 + u32::from(self.wide)
    }
}

impl<'m> Translator<'m> {
    fn push(&mut self, kind: OperandKind, wide: bool) -> u32 {
        let slot = self.height;
        self.stack.push(Operand { slot, wide, kind });
        self.height += 1 + u32::from(wide);
        self.max_height = self.max_height.max(self.height);
        slot
    }

    /// Pushes an operand that the next instruction writes to its slot, which is returned.
    pub fn push_temp(&mut self, bank: Bank) -> u32 {
        self.push(OperandKind::Temp, bank == Bank::Vector)
    }

    /// Pushes results of these types.
    pub fn push_temps(&mut self, types: &[ValType]) {
        for ty in types {
            self.push(OperandKind::Temp, *ty == ValType::V128);
        }
    }

    pub fn push_const(&mut self, bits: u64) {
        self.push(OperandKind::Const(bits), false);
    }

    /// Pushes an operand that stands for a local.
    pub fn push_local(&mut self, index: u32) {
        let place = self.stack.len() as u32;
        let local = &mut self.locals[index as usize];
        let kind = OperandKind::Local { index, below: local.head };
        local.head = place;
        let wide = local.wide;
        self.push(kind, wide);
    }

    /// Pops an operand. Its slot stays free until the next push.
    pub fn pop(&mut self) -> Operand {
        let Some(operand) = self.stack.pop() else { unreachable!("validated code pops what it pushed") };
        if let OperandKind::Local { index, below } = operand.kind {
            self.locals[index as usize].head = below;
        }
        self.height = operand.slot;
        self.settled = self.settled.min(self.stack.len());
        operand
    }

    /// Pushes an operand that has just been popped. What defined it must go on writing its slot: instructions have read it there.
    pub fn push_again(&mut self, operand: Operand) {
        self.acc_from = [NONE; 3];
        match operand.kind {
            OperandKind::Local { index, .. } => self.push_local(index),
            kind => {
                self.push(kind, operand.wide);
            }
        }
    }

    /// Pops all operands but the lowest `len`.
    pub fn truncate(&mut self, len: usize) {
        while self.stack.len() > len {
            self.pop();
        }
    }

    /// The slot that holds a popped operand. A constant is put into the operand's own.
    pub fn slot_of(&mut self, operand: Operand) -> u32 {
        match operand.kind {
            OperandKind::Temp => operand.slot,
            OperandKind::Local { index, .. } => self.locals[index as usize].slot,
            OperandKind::Const(bits) => {
                self.put_const(operand.slot, bits);
                operand.slot
            }
        }
    }

    /// Pops an operand and gives its slot.
    pub fn pop_slot(&mut self) -> u32 {
        let operand = self.pop();
        self.slot_of(operand)
    }

    /// Emits a copy of an operand to a slot.
    pub fn put_operand(&mut self, to: u32, operand: Operand) {
        match operand.kind {
            OperandKind::Temp => self.put_copy(to, operand.slot, operand.wide),
            OperandKind::Local { index, .. } => self.put_copy(to, self.locals[index as usize].slot, operand.wide),
            OperandKind::Const(bits) => self.put_const(to, bits),
        }
    }

    /// Puts the top `count` operands into their own slots.
    pub fn settle_top(&mut self, count: usize) {
        let from = self.stack.len() - count;
        self.settle(from, true);
    }

    /// Puts all operands that stand for locals into their own slots, and constants too if native code can take over frames at
    /// loops.
    pub fn settle_locals(&mut self) {
        self.settle(self.settled, self.counting);
        self.settled = self.stack.len();
    }

    fn settle(&mut self, from: usize, consts: bool) {
        // The head of a local's list is its topmost operand, so from the top down each is taken from the front of its list.
        for place in (from..self.stack.len()).rev() {
            if let OperandKind::Local { index, below } = self.stack[place].kind {
                self.locals[index as usize].head = below;
            }
        }
        let mut place = from;
        while place < self.stack.len() {
            let operand = self.stack[place];
            match operand.kind {
                OperandKind::Local { index, .. } => {
                    let slot = self.locals[index as usize].slot;
                    let next = self.stack.get(place + 1).copied();
                    self.stack[place].kind = OperandKind::Temp;
                    match next {
                        Some(Operand { kind: OperandKind::Local { index: second, .. }, wide: false, .. })
                            if !operand.wide && self.near(operand.slot + 1) =>
                        {
                            let second = self.locals[second as usize].slot;
                            let (b, c) = (self.read(slot, 0), self.read(second, 1));
                            self.effect(Plain::Copy2.op(), operand.slot as u16, b, c, &[]);
                            self.written(operand.slot, true);
                            place += 1;
                            self.stack[place].kind = OperandKind::Temp;
                        }
                        _ => self.put_copy(operand.slot, slot, operand.wide),
                    }
                }
                OperandKind::Const(bits) if consts => {
                    self.stack[place].kind = OperandKind::Temp;
                    self.put_const(operand.slot, bits);
                }
                _ => {}
            }
            place += 1;
        }
    }

    /// Puts the operands that stand for a local into their own slots, because the local is about to be overwritten.
    pub(super) fn preserve(&mut self, index: u32) {
        let Local { slot, wide, head, .. } = self.locals[index as usize];
        let mut place = head;
        while place != NONE {
            let operand = &mut self.stack[place as usize];
            let OperandKind::Local { below, .. } = operand.kind else {
                unreachable!("only operands in locals are linked")
            };
            operand.kind = OperandKind::Temp;
            let to = operand.slot;
            self.put_copy(to, slot, wide);
            place = below;
        }
        self.locals[index as usize].head = NONE;
    }
}
