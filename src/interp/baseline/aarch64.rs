//! The assembler for AArch64: emits the operations that `lower` compiles bytecode to.
//!
//! The interpreter's registers are the argument registers of the C convention, in which handlers get them: `x0` ip,
//! `x1` fp, `x2` memory, `x3` handlers, `x4` ctx, `x5` acc, `v0` acc32, `v1` acc64. `x9` to `x13`, `v2` and `v3` are
//! free; of these `x11` to `x13` are temporaries within one operation.

use std::mem::offset_of;
use std::ops::Range;

use dynasmrt::{DynasmApi, SimpleAssembler, dynasm};

use super::{Alu, Cond, FloatCond, FloatOp, FloatSrc, FloatType, Label, Reg, Shift, Src, StoredInt, Width};
use crate::interp::code::InterpretedFunction;
use crate::interp::machine::Context;
use crate::interp::op::Plain;
use crate::vm::context::VMInterrupt;

/// Emits machine code.
pub(super) struct Assembler {
    ops: SimpleAssembler,
    /// Offsets of jumps, with their labels.
    jumps: Vec<(usize, Label)>,
    /// For each entry of a jump table: its offset, the table's offset, its label.
    entries: Vec<(usize, usize, Label)>,
    /// Whether the code may be longer than conditional jumps reach.
    long: bool,
}

const LENGTH: u32 = offset_of!(Context, length) as u32;
const INTERRUPT: u32 = offset_of!(Context, interrupt) as u32;
const FRAME_BYTES: u32 = offset_of!(InterpretedFunction, frame_bytes) as u32;
const HEADER: u32 = offset_of!(InterpretedFunction, header) as u32;
const ENTRY: u32 = offset_of!(InterpretedFunction, entry) as u32;
const START: u32 = offset_of!(InterpretedFunction, start) as u32;

/// The most words of bytecode whose code conditional jumps can surely cross. They reach 1 MiB, and no word has more
/// than 136 bytes of code.
const SHORT: usize = 6 << 10;

/// The largest offset that every load and store of 4 or 8 bytes can have.
const NEAR: u32 = 4 * 4095;

macro_rules! asm {
    ($this:ident $($t:tt)*) => {
        dynasm!($this.ops ; .arch aarch64 $($t)*)
    };
}

/// A condition's number in machine code.
fn code(cond: Cond) -> u32 {
    match cond {
        Cond::Eq => 0,
        Cond::Ne => 1,
        Cond::GeU => 2,
        Cond::LtU => 3,
        Cond::GtU => 8,
        Cond::LeU => 9,
        Cond::GeS => 10,
        Cond::LtS => 11,
        Cond::GtS => 12,
        Cond::LeS => 13,
    }
}

/// The number of a condition of floats. After `fcmp` with a NaN, of the signed conditions those that mean "less" hold.
fn float_code(cond: FloatCond) -> u32 {
    match cond {
        FloatCond::Eq => 0,
        FloatCond::Ne => 1,
        FloatCond::Ge => 10,
        FloatCond::NotGe => 11,
        FloatCond::Gt => 12,
        FloatCond::NotGt => 13,
    }
}

/// The condition of negative results.
const MINUS: u32 = 4;

fn number(reg: Reg) -> u8 {
    match reg {
        Reg::Acc => 5,
        Reg::T0 => 9,
        Reg::T1 => 10,
    }
}

fn at(slot: u16) -> u32 {
    8 * u32::from(slot)
}

impl Assembler {
    pub fn new() -> Self {
        Assembler { ops: SimpleAssembler::new(), jumps: Vec::new(), entries: Vec::new(), long: false }
    }

    /// The code so far.
    pub fn code(&mut self) -> &mut [u8] {
        &mut self.ops.ops
    }

    /// Starts new code, for bytecode of so many words.
    pub fn clear(&mut self, words: usize) {
        self.ops.ops.clear();
        self.long = words > SHORT;
    }

    /// Bytes so far.
    pub fn offset(&self) -> usize {
        self.ops.offset().0
    }

    /// Sets all jumps and table entries to the offsets of their labels. False if one does not reach.
    #[must_use]
    pub fn bind(&mut self, offset: impl Fn(Label) -> usize) -> bool {
        let mut reach = true;
        for (place, label) in self.jumps.drain(..) {
            let distance = (offset(label) as i64 - place as i64) / 4;
            let bytes = &mut self.ops.ops[place..place + 4];
            let mut word = [0; 4];
            word.copy_from_slice(bytes);
            let word = u32::from_le_bytes(word);
            // A conditional jump has 19 bits of distance, any other 26.
            let (bits, shift) = if word >> 24 == 0x54 { (19, 5) } else { (26, 0) };
            reach &= (-(1 << (bits - 1))..1 << (bits - 1)).contains(&distance);
            let field = (distance as u32 & ((1 << bits) - 1)) << shift;
            bytes.copy_from_slice(&(word | field).to_le_bytes());
        }
        for (place, table, label) in self.entries.drain(..) {
            let distance = offset(label) as i64 - table as i64;
            self.ops.ops[place..place + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
        reach
    }

    /// Patches an address in, at an offset that [`Assembler::leave`] or [`Assembler::enter`] returned.
    pub fn patch(code: &mut [u8], at: usize, address: u64) {
        for (n, bytes) in code[at..at + 16].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let half = (address >> (16 * n)) as u16;
            *bytes = (u32::from_le_bytes(*bytes) | u32::from(half) << 5).to_le_bytes();
        }
    }

    /// Loads an address into the ip's register. Returns where it must be patched in.
    fn address(&mut self) -> usize {
        let place = self.offset();
        asm!(self
            ; movz x0, 0
            ; movk x0, 0, lsl 16
            ; movk x0, 0, lsl 32
            ; movk x0, 0, lsl 48
        );
        place
    }

    fn imm_to(&mut self, r: u8, value: u64) {
        let half = |n: u32| (value >> (16 * n)) as u16;
        if (value as i64) < 0 && value >> 32 == 0xffff_ffff {
            asm!(self ; movn X(r), u32::from(!half(0)));
            if half(1) != 0xffff {
                asm!(self ; movk X(r), u32::from(half(1)), lsl 16);
            }
            return;
        }
        asm!(self ; movz X(r), u32::from(half(0)));
        if half(1) != 0 {
            asm!(self ; movk X(r), u32::from(half(1)), lsl 16);
        }
        if half(2) != 0 {
            asm!(self ; movk X(r), u32::from(half(2)), lsl 32);
        }
        if half(3) != 0 {
            asm!(self ; movk X(r), u32::from(half(3)), lsl 48);
        }
    }

    /// `to = from + offset`.
    fn add_to(&mut self, to: u8, from: u8, offset: u32) {
        if offset < 4096 {
            asm!(self ; add XSP(to), XSP(from), offset);
        } else if to != from {
            self.imm_to(to, offset.into());
            asm!(self ; add X(to), X(to), X(from));
        } else {
            self.imm_to(12, offset.into());
            asm!(self ; add X(to), X(from), x12);
        }
    }

    /// A slot as base register and offset.
    fn slot(&mut self, slot: u16) -> (u8, u32) {
        let offset = at(slot);
        if offset <= NEAR {
            return (1, offset);
        }
        asm!(self ; add x13, x1, offset >> 12, lsl 12);
        (13, offset & 0xfff)
    }

    /// Jumps to the handler of `op`. Returns where the address of its instruction must be patched in.
    pub fn leave(&mut self, op: u16) -> usize {
        let place = self.address();
        self.imm_to(9, op.into());
        asm!(self ; ldr x9, [x3, x9, lsl 3] ; br x9);
        place
    }

    /// Goes on in the interpreter at word `word` of the bytecode, by a jump to the code that [`Assembler::interpret`]
    /// emits.
    pub fn leave_at(&mut self, word: u32, interpret: Label) {
        self.imm_to(0, word.into());
        self.jump(interpret);
    }

    /// Goes on in the interpreter at the word of the bytecode `words` whose number is in the ip's register.
    pub fn interpret(&mut self, words: *const u64) {
        self.imm_to(9, words as u64);
        asm!(self
            ; add x0, x9, x0, lsl 3
            ; ldrh w9, [x0]
            ; ldr x9, [x3, x9, lsl 3]
            ; br x9
        );
    }

    fn load_to(&mut self, r: u8, slot: u16, width: Width) {
        let (base, offset) = self.slot(slot);
        match width {
            Width::W32 => asm!(self ; ldr W(r), [XSP(base), offset]),
            Width::W64 => asm!(self ; ldr X(r), [XSP(base), offset]),
        }
    }

    pub fn load(&mut self, to: Reg, slot: u16, width: Width) {
        self.load_to(number(to), slot, width);
    }

    fn store_from(&mut self, slot: u16, r: u8) {
        let (base, offset) = self.slot(slot);
        asm!(self ; str X(r), [XSP(base), offset]);
    }

    pub fn store(&mut self, slot: u16, from: Reg) {
        self.store_from(slot, number(from));
    }

    /// Stores a sign-extended immediate to a slot.
    pub fn store_imm(&mut self, slot: u16, value: i32) {
        self.imm_to(12, value as i64 as u64);
        self.store_from(slot, 12);
    }

    /// Copies two slots.
    pub fn copy_wide(&mut self, to: u16, from: u16) {
        self.load_to(11, from, Width::W64);
        self.load_to(12, from + 1, Width::W64);
        self.store_from(to, 11);
        self.store_from(to + 1, 12);
    }

    pub fn imm(&mut self, to: Reg, value: u64) {
        self.imm_to(number(to), value);
    }

    pub fn mov(&mut self, to: Reg, from: Reg, width: Width) {
        let (to, from) = (number(to), number(from));
        match width {
            Width::W32 => asm!(self ; mov W(to), W(from)),
            Width::W64 => asm!(self ; mov X(to), X(from)),
        }
    }

    /// The number of the register that holds an operand. One that is in none is loaded into `x12`.
    fn operand(&mut self, operand: Src, width: Width) -> u8 {
        match operand {
            Src::Reg(reg) => return number(reg),
            Src::Slot(slot) => self.load_to(12, slot, width),
            Src::Imm(value) => self.imm_to(12, value as i64 as u64),
        }
        12
    }

    /// `to = to op by`; in 32 bits the upper half becomes zero.
    pub fn alu(&mut self, op: Alu, width: Width, to: Reg, by: Src) {
        let r = number(to);
        let near = |value: i32| (value.unsigned_abs() < 4096).then_some((value.unsigned_abs(), value < 0));
        if let (Alu::Add | Alu::Sub, Src::Imm(value)) = (op, by)
            && let Some((value, negative)) = near(value)
        {
            let add = matches!(op, Alu::Add) != negative;
            return match (width, add) {
                (Width::W32, true) => asm!(self ; add WSP(r), WSP(r), value),
                (Width::W64, true) => asm!(self ; add XSP(r), XSP(r), value),
                (Width::W32, false) => asm!(self ; sub WSP(r), WSP(r), value),
                (Width::W64, false) => asm!(self ; sub XSP(r), XSP(r), value),
            };
        }
        let by = self.operand(by, width);
        macro_rules! each {
            ($name:ident) => {
                match width {
                    Width::W32 => asm!(self ; $name W(r), W(r), W(by)),
                    Width::W64 => asm!(self ; $name X(r), X(r), X(by)),
                }
            };
        }
        match op {
            Alu::Add => each!(add),
            Alu::Sub => each!(sub),
            Alu::And => each!(and),
            Alu::Or => each!(orr),
            Alu::Xor => each!(eor),
            Alu::Mul => each!(mul),
        }
    }

    /// `to = to op by`; the amount is taken modulo the width, and is not in `to`.
    pub fn shift(&mut self, op: Shift, width: Width, to: Reg, by: Src) {
        let r = number(to);
        if let (Src::Imm(value), Width::W32) = (by, width) {
            let by = value as u32 & 31;
            return match op {
                Shift::Shl => asm!(self ; lsl W(r), W(r), by),
                Shift::ShrS => asm!(self ; asr W(r), W(r), by),
                Shift::ShrU => asm!(self ; lsr W(r), W(r), by),
                Shift::Rotl => asm!(self ; ror W(r), W(r), (32 - by) & 31),
                Shift::Rotr => asm!(self ; ror W(r), W(r), by),
            };
        }
        if let Src::Imm(value) = by {
            let by = value as u32 & 63;
            return match op {
                Shift::Shl => asm!(self ; lsl X(r), X(r), by),
                Shift::ShrS => asm!(self ; asr X(r), X(r), by),
                Shift::ShrU => asm!(self ; lsr X(r), X(r), by),
                Shift::Rotl => asm!(self ; ror X(r), X(r), (64 - by) & 63),
                Shift::Rotr => asm!(self ; ror X(r), X(r), by),
            };
        }
        let mut by = self.operand(by, Width::W32);
        if let Shift::Rotl = op {
            asm!(self ; neg w12, W(by));
            by = 12;
        }
        macro_rules! each {
            ($name:ident) => {
                match width {
                    Width::W32 => asm!(self ; $name W(r), W(r), W(by)),
                    Width::W64 => asm!(self ; $name X(r), X(r), X(by)),
                }
            };
        }
        match op {
            Shift::Shl => each!(lslv),
            Shift::ShrS => each!(asrv),
            Shift::ShrU => each!(lsrv),
            Shift::Rotl | Shift::Rotr => each!(rorv),
        }
    }

    /// Extends a register as a load of `unit` would.
    pub fn extend(&mut self, unit: StoredInt, reg: Reg) {
        let r = number(reg);
        match unit {
            StoredInt::U8 => asm!(self ; uxtb W(r), W(r)),
            StoredInt::U16 => asm!(self ; uxth W(r), W(r)),
            StoredInt::U32 => asm!(self ; mov W(r), W(r)),
            StoredInt::S8(Width::W32) => asm!(self ; sxtb W(r), W(r)),
            StoredInt::S8(Width::W64) => asm!(self ; sxtb X(r), W(r)),
            StoredInt::S16(Width::W32) => asm!(self ; sxth W(r), W(r)),
            StoredInt::S16(Width::W64) => asm!(self ; sxth X(r), W(r)),
            StoredInt::S32 => asm!(self ; sxtw X(r), W(r)),
            StoredInt::U64 => {}
        }
    }

    /// Compares two integers. Conditions of later operations are about the last comparison.
    pub fn cmp(&mut self, width: Width, a: Src, b: Src) {
        let r = match a {
            Src::Reg(a) => number(a),
            Src::Slot(slot) => {
                self.load_to(11, slot, width);
                11
            }
            Src::Imm(value) => {
                self.imm_to(11, value as i64 as u64);
                11
            }
        };
        if let Src::Imm(value @ 0..4096) = b {
            return match width {
                Width::W32 => asm!(self ; cmp WSP(r), value as u32),
                Width::W64 => asm!(self ; cmp XSP(r), value as u32),
            };
        }
        let b = self.operand(b, width);
        match width {
            Width::W32 => asm!(self ; cmp W(r), W(b)),
            Width::W64 => asm!(self ; cmp X(r), X(b)),
        }
    }

    /// Compares the bitwise and of a register and an operand with zero, in 32 bits.
    pub fn test(&mut self, a: Reg, b: Src) {
        let b = self.operand(b, Width::W32);
        asm!(self ; tst W(number(a)), W(b));
    }

    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.offset(), label));
        asm!(self ; .u32 0x1400_0000);
    }

    /// Jumps if the last comparison gave `cond`.
    pub fn branch(&mut self, cond: Cond, label: Label) {
        self.branch_if(code(cond), label);
    }

    fn branch_if(&mut self, condition: u32, label: Label) {
        if self.long {
            // Past the jump.
            asm!(self ; .u32 0x5400_0000 | 2 << 5 | condition ^ 1);
            return self.jump(label);
        }
        self.jumps.push((self.offset(), label));
        asm!(self ; .u32 0x5400_0000 | condition);
    }

    /// `to` is 1 if the last comparison gave `cond`, otherwise 0.
    pub fn set(&mut self, cond: Cond, to: Reg) {
        self.set_if(code(cond), to);
    }

    fn set_if(&mut self, condition: u32, to: Reg) {
        // cset
        asm!(self ; .u32 0x1a9f_07e0 | (condition ^ 1) << 12 | u32::from(number(to)));
    }

    /// `to` is slot `yes` if the last comparison was of unequal numbers, otherwise slot `no`.
    pub fn select(&mut self, to: Reg, yes: u16, no: u16) {
        let r = number(to);
        self.load_to(11, yes, Width::W64);
        self.load_to(12, no, Width::W64);
        asm!(self ; csel X(r), x11, x12, ne);
    }

    /// Jumps through a table, which is emitted after the jump: to the label whose number is in slot `index`, or label
    /// `last` if that is greater.
    pub fn jump_table(&mut self, index: u16, last: u32, labels: &[Label]) {
        self.load_to(9, index, Width::W32);
        self.imm_to(10, last.into());
        asm!(self
            ; cmp w9, w10
            ; csel w9, w9, w10, ls
            // The address after the branch.
            ; adr x11, 16
            ; ldrsw x9, [x11, x9, lsl 2]
            ; add x9, x9, x11
            ; br x9
        );
        let table = self.offset();
        for label in labels {
            self.entries.push((self.offset(), table, *label));
            asm!(self ; .u32 0);
        }
    }

    /// Loads a field of the activation's [`Context`].
    pub fn load_context(&mut self, to: Reg, offset: usize) {
        asm!(self ; ldr X(number(to)), [x4, offset as u32]);
    }

    pub fn load_at(&mut self, to: Reg, base: Reg, offset: i32, width: Width) {
        let (to, base) = (number(to), number(base));
        if (0..=NEAR as i32).contains(&offset) && offset % 8 == 0 {
            return match width {
                Width::W32 => asm!(self ; ldr W(to), [XSP(base), offset as u32]),
                Width::W64 => asm!(self ; ldr X(to), [XSP(base), offset as u32]),
            };
        }
        self.imm_to(12, offset as i64 as u64);
        match width {
            Width::W32 => asm!(self ; ldr W(to), [XSP(base), x12]),
            Width::W64 => asm!(self ; ldr X(to), [XSP(base), x12]),
        }
    }

    /// Word `index` of an array.
    pub fn load_indexed(&mut self, to: Reg, base: Reg, index: Reg) {
        asm!(self ; ldr X(number(to)), [XSP(number(base)), X(number(index)), lsl 3]);
    }

    pub fn store_at(&mut self, base: Reg, offset: i32, from: Reg) {
        let (base, from) = (number(base), number(from));
        if (0..=NEAR as i32).contains(&offset) && offset % 8 == 0 {
            return asm!(self ; str X(from), [XSP(base), offset as u32]);
        }
        self.imm_to(12, offset as i64 as u64);
        asm!(self ; str X(from), [XSP(base), x12]);
    }

    /// Jumps if `index + end` is greater than the length of memory 0.
    pub fn bound(&mut self, index: Reg, end: i32, beyond: Label) {
        self.add_to(11, number(index), end as u32);
        asm!(self
            ; ldr x12, [x4, LENGTH]
            ; cmp x11, x12
        );
        self.branch(Cond::GtU, beyond);
    }

    /// The register with `index + offset`.
    fn index(&mut self, index: Reg, offset: i32) -> u8 {
        if offset == 0 {
            return number(index);
        }
        self.add_to(11, number(index), offset as u32);
        11
    }

    /// Loads from memory 0, at an index that has been checked.
    pub fn load_memory(&mut self, unit: StoredInt, to: Reg, index: Reg, offset: i32) {
        let r = number(to);
        let i = self.index(index, offset);
        match unit {
            StoredInt::U8 => asm!(self ; ldrb W(r), [x2, X(i)]),
            StoredInt::U16 => asm!(self ; ldrh W(r), [x2, X(i)]),
            StoredInt::U32 => asm!(self ; ldr W(r), [x2, X(i)]),
            StoredInt::U64 => asm!(self ; ldr X(r), [x2, X(i)]),
            StoredInt::S8(Width::W32) => asm!(self ; ldrsb W(r), [x2, X(i)]),
            StoredInt::S8(Width::W64) => asm!(self ; ldrsb X(r), [x2, X(i)]),
            StoredInt::S16(Width::W32) => asm!(self ; ldrsh W(r), [x2, X(i)]),
            StoredInt::S16(Width::W64) => asm!(self ; ldrsh X(r), [x2, X(i)]),
            StoredInt::S32 => asm!(self ; ldrsw X(r), [x2, X(i)]),
        }
    }

    /// Stores the bytes of `unit` to memory 0, at an index that has been checked.
    pub fn store_memory(&mut self, unit: StoredInt, from: Reg, index: Reg, offset: i32) {
        let r = number(from);
        let i = self.index(index, offset);
        match unit {
            StoredInt::U8 | StoredInt::S8(_) => asm!(self ; strb W(r), [x2, X(i)]),
            StoredInt::U16 | StoredInt::S16(_) => asm!(self ; strh W(r), [x2, X(i)]),
            StoredInt::U32 | StoredInt::S32 => asm!(self ; str W(r), [x2, X(i)]),
            StoredInt::U64 => asm!(self ; str X(r), [x2, X(i)]),
        }
    }

    /// Adds `change` to the counter at `offset` from `counters`, and jumps if the sum is negative.
    pub fn count(&mut self, counters: Reg, offset: i32, change: i64, used_up: Label) {
        self.add_to(13, number(counters), offset as u32);
        self.imm_to(12, change as u64);
        asm!(self
            ; ldr x11, [x13]
            ; adds x11, x11, x12
            ; str x11, [x13]
        );
        self.branch_if(MINUS, used_up);
    }

    /// Subtracts `price` from the number that `fuel` points to; jumps if the number is less, with nothing done.
    pub fn charge(&mut self, fuel: Reg, price: i32, exhausted: Label) {
        let r = number(fuel);
        self.imm_to(12, price as u64);
        asm!(self ; ldr x11, [XSP(r)] ; subs x11, x11, x12);
        self.branch(Cond::LtU, exhausted);
        asm!(self ; str x11, [XSP(r)]);
    }

    /// Calls the function whose [`InterpretedFunction`] the accumulator points to, with its frame at slot `base`; jumps
    /// to `otherwise` if the frame does not fit the stack. Returns where the address of the bytecode to return to must
    /// be patched in.
    pub fn enter(&mut self, base: u16, otherwise: Label) -> usize {
        self.add_to(10, 1, at(base));
        asm!(self
            ; ldr x11, [x4, INTERRUPT]
            ; ldr x11, [x11, VMInterrupt::VALUE_END as u32]
            ; ldr x12, [x5, FRAME_BYTES]
            ; add x12, x10, x12
            ; cmp x11, x12
        );
        self.branch(Cond::LtU, otherwise);
        let place = self.address();
        asm!(self
            ; ldr w9, [x5, HEADER]
            ; add x9, x10, x9, lsl 3
            ; stp x0, x1, [x9]
            ; mov x1, x10
            ; ldr x0, [x5, ENTRY]
            ; ldr x9, [x5, START]
            ; br x9
        );
        place
    }

    /// Zeroes slots, four at a time: up to three after the range too.
    pub fn zero(&mut self, slots: Range<u32>) {
        self.add_to(11, 1, 8 * slots.start);
        if slots.len() <= 32 {
            for _ in slots.step_by(4) {
                asm!(self ; stp xzr, xzr, [x11], 16 ; stp xzr, xzr, [x11], 16);
            }
            return;
        }
        self.add_to(12, 1, 8 * slots.end);
        asm!(self
            ; stp xzr, xzr, [x11], 16
            ; stp xzr, xzr, [x11], 16
            ; cmp x11, x12
            // To the first of these.
            ; .u32 0x5400_0000 | ((-3i32 as u32) & 0x7_ffff) << 5 | code(Cond::LtU)
        );
    }

    /// Returns from the frame whose header is in slot `header`.
    pub fn ret(&mut self, header: u16) {
        self.add_to(5, 1, at(header));
        asm!(self
            ; ldp x0, x1, [x5]
            ; ldrh w9, [x0]
            ; movz w10, u32::from(Plain::Baseline.op())
            ; cmp w9, w10
            // Past the next two.
            ; .u32 0x5400_0000 | 3 << 5 | code(Cond::Ne)
            ; ldr x9, [x0, 8]
            ; br x9
            ; ldr x9, [x3, x9, lsl 3]
            ; br x9
        );
    }

    /// Moves a float's bits from an integer register to its accumulator.
    pub fn bits_to_float(&mut self, float: FloatType, from: Reg) {
        let (v, r) = (float.accumulator(), number(from));
        match float {
            FloatType::F32 => asm!(self ; fmov S(v), W(r)),
            FloatType::F64 => asm!(self ; fmov D(v), X(r)),
        }
    }

    /// Moves a float's bits from its accumulator to an integer register.
    pub fn bits_of_float(&mut self, float: FloatType, to: Reg) {
        let (v, r) = (float.accumulator(), number(to));
        match float {
            FloatType::F32 => asm!(self ; fmov W(r), S(v)),
            FloatType::F64 => asm!(self ; fmov X(r), D(v)),
        }
    }

    /// Stores a float accumulator to a slot.
    pub fn store_float(&mut self, float: FloatType, slot: u16) {
        match float {
            FloatType::F32 => asm!(self ; fmov w12, s0),
            FloatType::F64 => asm!(self ; fmov x12, d1),
        }
        self.store_from(slot, 12);
    }

    /// The register that holds a float operand. One that is in none is loaded into `temp`.
    fn float_operand(&mut self, float: FloatType, from: FloatSrc, temp: u8) -> u8 {
        match from {
            FloatSrc::Acc => return float.accumulator(),
            FloatSrc::Slot(slot) => {
                let (base, offset) = self.slot(slot);
                match float {
                    FloatType::F32 => asm!(self ; ldr S(temp), [XSP(base), offset]),
                    FloatType::F64 => asm!(self ; ldr D(temp), [XSP(base), offset]),
                }
            }
            FloatSrc::Bits(bits) => {
                self.imm_to(12, bits);
                match float {
                    FloatType::F32 => asm!(self ; fmov S(temp), w12),
                    FloatType::F64 => asm!(self ; fmov D(temp), x12),
                }
            }
        }
        temp
    }

    /// `acc = a op b`; if that is a NaN, jumps to `nan` instead, with nothing changed.
    pub fn float(&mut self, op: FloatOp, float: FloatType, a: FloatSrc, b: FloatSrc, nan: Option<Label>) {
        let (a, b) = (self.float_operand(float, a, 2), self.float_operand(float, b, 3));
        macro_rules! each {
            ($name:ident) => {
                match float {
                    FloatType::F32 => asm!(self ; $name s4, S(a), S(b)),
                    FloatType::F64 => asm!(self ; $name d4, D(a), D(b)),
                }
            };
        }
        match op {
            FloatOp::Add => each!(fadd),
            FloatOp::Sub => each!(fsub),
            FloatOp::Mul => each!(fmul),
            FloatOp::Div => each!(fdiv),
        }
        self.keep_number(float, nan);
    }

    /// `acc` is the square root of a float; if that is a NaN, jumps to `nan` instead, with nothing changed.
    pub fn sqrt(&mut self, float: FloatType, from: FloatSrc, nan: Option<Label>) {
        let from = self.float_operand(float, from, 2);
        match float {
            FloatType::F32 => asm!(self ; fsqrt s4, S(from)),
            FloatType::F64 => asm!(self ; fsqrt d4, D(from)),
        }
        self.keep_number(float, nan);
    }

    /// Moves a result from register 4 to the accumulator, unless it is a NaN.
    fn keep_number(&mut self, float: FloatType, nan: Option<Label>) {
        const UNORDERED: u32 = 6;
        if let Some(nan) = nan {
            match float {
                FloatType::F32 => asm!(self ; fcmp s4, s4),
                FloatType::F64 => asm!(self ; fcmp d4, d4),
            }
            self.branch_if(UNORDERED, nan);
        }
        match float {
            FloatType::F32 => asm!(self ; fmov S(float.accumulator()), s4),
            FloatType::F64 => asm!(self ; fmov D(float.accumulator()), d4),
        }
    }

    /// Converts a float of the other type to `to`, into the accumulator.
    pub fn float_to(&mut self, to: FloatType, from: FloatSrc) {
        match to {
            FloatType::F64 => {
                let from = self.float_operand(FloatType::F32, from, 2);
                asm!(self ; fcvt d1, S(from));
            }
            FloatType::F32 => {
                let from = self.float_operand(FloatType::F64, from, 2);
                asm!(self ; fcvt s0, D(from));
            }
        }
    }

    /// Converts the signed 64-bit integer in a register to `to`, into the accumulator.
    pub fn integer_to(&mut self, to: FloatType, from: Reg) {
        let r = number(from);
        match to {
            FloatType::F32 => asm!(self ; scvtf s0, X(r)),
            FloatType::F64 => asm!(self ; scvtf d1, X(r)),
        }
    }

    pub fn float_cmp(&mut self, float: FloatType, a: FloatSrc, b: FloatSrc) {
        let (a, b) = (self.float_operand(float, a, 2), self.float_operand(float, b, 3));
        match float {
            FloatType::F32 => asm!(self ; fcmp S(a), S(b)),
            FloatType::F64 => asm!(self ; fcmp D(a), D(b)),
        }
    }

    /// Jumps if the last comparison of floats gave `cond`.
    pub fn float_branch(&mut self, cond: FloatCond, label: Label) {
        self.branch_if(float_code(cond), label);
    }

    /// `to` is 1 if the last comparison of floats gave `cond`, otherwise 0.
    pub fn float_set(&mut self, cond: FloatCond, to: Reg) {
        self.set_if(float_code(cond), to);
    }
}
