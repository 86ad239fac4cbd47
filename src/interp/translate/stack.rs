//! The operand stack at translation time.
//!
//! `local.get` and constants put out nothing: the operand stands for the local or the number until an instruction takes
//! it from there. Before a local is overwritten, operands that stand for it are copied to their own slots; they are
//! linked through the stack, so that this takes no search. At the start of a block none may be left (a branch of it
//! may overwrite the local, another may not); constants may stay, unless loops are entered by native code.

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
    /// The topmost operand that stands for it, or `NONE`.
    head: u32,
    /// Whether it has been set wherever control may come from.
    set: bool,
    /// Whether it is read where it may not have been set: it must be zeroed at the function's start.
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

/// An operand. It has a slot of its own even while it is not there.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub slot: u32,
    pub wide: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In its slot.
    Temp,
    /// In a local; the next operand below that is in the same one, or `NONE`.
    Local { index: u32, below: u32 },
    /// A number, as a slot would hold it. Never a vector.
    Const(u64),
}

impl Local {
    pub fn slots(&self) -> u32 {
        1 + u32::from(self.wide)
    }
}

impl<'m> Translator<'m> {
    fn push(&mut self, kind: Kind, wide: bool) -> u32 {
        let slot = self.height;
        self.stack.push(Operand { slot, wide, kind });
        self.height += 1 + u32::from(wide);
        self.max_height = self.max_height.max(self.height);
        slot
    }

    /// Pushes an operand that the next instruction writes to its slot, which is returned.
    pub fn push_temp(&mut self, bank: Bank) -> u32 {
        self.push(Kind::Temp, bank == Bank::Vector)
    }

    /// Pushes results of these types.
    pub fn push_temps(&mut self, types: &[ValType]) {
        for ty in types {
            self.push(Kind::Temp, *ty == ValType::V128);
        }
    }

    pub fn push_const(&mut self, bits: u64) {
        self.push(Kind::Const(bits), false);
    }

    pub fn local_get(&mut self, index: u32) {
        let place = self.stack.len() as u32;
        let local = &mut self.locals[index as usize];
        let kind = Kind::Local { index, below: local.head };
        local.head = place;
        local.zeroed |= !local.set;
        let wide = local.wide;
        self.push(kind, wide);
    }

    /// Pops an operand. Its slot stays free until the next push.
    pub fn pop(&mut self) -> Operand {
        let Some(operand) = self.stack.pop() else { unreachable!("validated code pops what it pushed") };
        if let Kind::Local { index, below } = operand.kind {
            self.locals[index as usize].head = below;
        }
        self.height = operand.slot;
        self.settled = self.settled.min(self.stack.len());
        operand
    }

    /// Forgets the operands above the lowest `len`, where nothing is put out any more.
    pub fn truncate(&mut self, len: usize) {
        while self.stack.len() > len {
            self.pop();
        }
    }

    /// The slot in which a popped operand is; constants are put into their own.
    pub fn slot_of(&mut self, operand: Operand) -> u32 {
        match operand.kind {
            Kind::Temp => operand.slot,
            Kind::Local { index, .. } => self.locals[index as usize].slot,
            Kind::Const(bits) => {
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

    /// Puts an operand, which may be lazy, into a slot.
    pub fn put_operand(&mut self, to: u32, operand: Operand) {
        match operand.kind {
            Kind::Temp => self.put_copy(to, operand.slot, operand.wide),
            Kind::Local { index, .. } => self.put_copy(to, self.locals[index as usize].slot, operand.wide),
            Kind::Const(bits) => self.put_const(to, bits),
        }
    }

    /// Brings the top `count` operands into their own slots.
    pub fn settle_top(&mut self, count: usize) {
        let from = self.stack.len() - count;
        self.settle(from, true);
    }

    /// Brings all operands that stand for locals into their own slots; where native code may take a loop's frame over,
    /// constants too.
    pub fn settle_locals(&mut self) {
        self.settle(self.settled, self.counting);
        self.settled = self.stack.len();
    }

    fn settle(&mut self, from: usize, consts: bool) {
        // The topmost operand of a local is the head of its list, so this order takes each from the front.
        for place in (from..self.stack.len()).rev() {
            if let Kind::Local { index, below } = self.stack[place].kind {
                self.locals[index as usize].head = below;
            }
        }
        let mut place = from;
        while place < self.stack.len() {
            let operand = self.stack[place];
            match operand.kind {
                Kind::Local { index, .. } => {
                    let slot = self.locals[index as usize].slot;
                    let next = self.stack.get(place + 1).copied();
                    self.stack[place].kind = Kind::Temp;
                    match next {
                        Some(Operand { kind: Kind::Local { index: second, .. }, wide: false, .. })
                            if !operand.wide && self.near(operand.slot + 1) =>
                        {
                            let second = self.locals[second as usize].slot;
                            let (b, c) = (self.read(slot, 0), self.read(second, 1));
                            self.effect(Plain::Copy2.op(), operand.slot as u16, b, c, &[]);
                            self.written(operand.slot, true);
                            place += 1;
                            self.stack[place].kind = Kind::Temp;
                        }
                        _ => self.put_copy(operand.slot, slot, operand.wide),
                    }
                }
                Kind::Const(bits) if consts => {
                    self.stack[place].kind = Kind::Temp;
                    self.put_const(operand.slot, bits);
                }
                _ => {}
            }
            place += 1;
        }
    }

    /// Brings operands that stand for a local into their own slots, because it is about to be overwritten.
    fn preserve(&mut self, index: u32) {
        let Local { slot, wide, head, .. } = self.locals[index as usize];
        let mut place = head;
        while place != NONE {
            let operand = &mut self.stack[place as usize];
            let Kind::Local { below, .. } = operand.kind else { unreachable!("only operands in locals are linked") };
            operand.kind = Kind::Temp;
            let to = operand.slot;
            self.put_copy(to, slot, wide);
            place = below;
        }
        self.locals[index as usize].head = NONE;
    }

    /// Forgets which locals were set since their number was `count`, where a block ends to which not all of its
    /// instructions lead. (Inside, all that follows one that sets a local comes through it.)
    pub fn unset(&mut self, count: usize) {
        for index in self.set.drain(count..) {
            self.locals[index as usize].set = false;
        }
    }

    pub fn local_set(&mut self, index: u32, tee: bool) {
        let operand = self.pop();
        if !std::mem::replace(&mut self.locals[index as usize].set, true) {
            self.set.push(index);
        }
        self.preserve(index);
        let Local { slot, .. } = self.locals[index as usize];
        match operand.kind {
            Kind::Local { index: from, .. } if from == index => {}
            Kind::Temp if self.retarget(operand.slot, slot) => {}
            _ => self.put_operand(slot, operand),
        }
        if tee {
            match operand.kind {
                Kind::Const(bits) => self.push_const(bits),
                _ => self.local_get(index),
            }
        }
    }
}
