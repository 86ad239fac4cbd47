//! The assembler for x86-64: emits the operations that `lower` compiles bytecode to.
//!
//! The interpreter's registers are the argument registers of the C convention, in which handlers get them: `rdi` ip,
//! `rsi` fp, `rdx` memory,
//! `rcx` handlers, `r8` ctx, `r9` acc, `xmm0` acc32, `xmm1` acc64. `rax`, `r10`, `r11`, `xmm2` and `xmm3` are free.

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
    /// Offsets of the displacements of jumps, with the jumps' labels.
    jumps: Vec<(usize, Label)>,
    /// For each entry of a jump table: its offset, the table's offset, its label.
    entries: Vec<(usize, usize, Label)>,
}

const LENGTH: i32 = offset_of!(Context, length) as i32;
const INTERRUPT: i32 = offset_of!(Context, interrupt) as i32;
const FRAME_BYTES: i32 = offset_of!(InterpretedFunction, frame_bytes) as i32;
const HEADER: i32 = offset_of!(InterpretedFunction, header) as i32;
const ENTRY: i32 = offset_of!(InterpretedFunction, entry) as i32;
const START: i32 = offset_of!(InterpretedFunction, start) as i32;

macro_rules! asm {
    ($this:ident $($t:tt)*) => {
        dynasm!($this.ops ; .arch x64 $($t)*)
    };
}

/// An instruction with a slot as operand, which comes between the two bracketed parts. The first slots have a shorter
/// encoding.
macro_rules! asm_slot {
    ($this:ident $slot:ident, [$($before:tt)*] [$($after:tt)*]) => {
        match i8::try_from(at($slot)) {
            Ok(near) => dynasm!($this.ops ; .arch x64 ; $($before)* [BYTE rsi + near] $($after)*),
            Err(_) => dynasm!($this.ops ; .arch x64 ; $($before)* [DWORD rsi + at($slot)] $($after)*),
        }
    };
}

/// A condition's number in machine code.
fn code(cond: Cond) -> u8 {
    match cond {
        Cond::LtU => 2,
        Cond::GeU => 3,
        Cond::Eq => 4,
        Cond::Ne => 5,
        Cond::LeU => 6,
        Cond::GtU => 7,
        Cond::LtS => 12,
        Cond::GeS => 13,
        Cond::LeS => 14,
        Cond::GtS => 15,
    }
}

fn number(reg: Reg) -> u8 {
    match reg {
        Reg::Acc => 9,
        Reg::T0 => 0,
        Reg::T1 => 10,
    }
}

fn at(slot: u16) -> i32 {
    8 * i32::from(slot)
}

impl Assembler {
    pub fn new() -> Self {
        Assembler { ops: SimpleAssembler::new(), jumps: Vec::new(), entries: Vec::new() }
    }

    /// The code so far.
    pub fn code(&mut self) -> &mut [u8] {
        &mut self.ops.ops
    }

    /// Starts new code, for bytecode of so many words.
    pub fn clear(&mut self, _: usize) {
        self.ops.ops.clear();
    }

    /// Bytes so far.
    pub fn offset(&self) -> usize {
        self.ops.offset().0
    }

    /// Sets all jumps and table entries to the offsets of their labels. False if one does not reach.
    #[must_use]
    pub fn bind(&mut self, offset: impl Fn(Label) -> usize) -> bool {
        let mut reach = true;
        let jumps = self.jumps.drain(..).map(|(place, label)| (place, place + 4, label));
        for (place, base, label) in jumps.chain(self.entries.drain(..)) {
            let distance = i32::try_from(offset(label) as i64 - base as i64);
            reach &= distance.is_ok();
            self.ops.ops[place..place + 4].copy_from_slice(&distance.unwrap_or(0).to_le_bytes());
        }
        reach
    }

    /// Jumps through a table, which is emitted after the jump: to the label whose number is in slot `index`, or label
    /// `last` if that is greater.
    pub fn jump_table(&mut self, index: u16, last: u32, labels: &[Label]) {
        asm_slot!(self index, [mov eax,] []);
        asm!(self
            ; mov r10d, DWORD last as i32
            ; cmp eax, r10d
            ; cmova eax, r10d
            // The address after the jump.
            ; lea r11, [rip + 9]
            ; movsxd rax, DWORD [r11 + 4 * rax]
            ; add rax, r11
            ; jmp rax
        );
        let table = self.offset();
        for label in labels {
            self.entries.push((self.offset(), table, *label));
            asm!(self ; .u32 0);
        }
    }

    /// Notes that the displacement of a jump to `label` has just been emitted.
    fn leads_to(&mut self, label: Label) {
        self.jumps.push((self.offset() - 4, label));
    }

    /// Patches an address in, at an offset that [`Assembler::leave`] or [`Assembler::enter`] returned.
    pub fn patch(code: &mut [u8], at: usize, address: u64) {
        code[at..at + 8].copy_from_slice(&address.to_le_bytes());
    }

    /// Jumps to the handler of `op`. Returns where the address of its instruction must be patched in.
    pub fn leave(&mut self, op: u16) -> usize {
        let handler = 8 * i32::from(op);
        asm!(self ; mov rdi, QWORD 0);
        let place = self.offset() - 8;
        asm!(self ; jmp QWORD [rcx + handler]);
        place
    }

    /// Goes on in the interpreter at word `word` of the bytecode, by a jump to the code that [`Assembler::interpret`]
    /// emits.
    pub fn leave_at(&mut self, word: u32, interpret: Label) {
        asm!(self ; mov edi, word as i32);
        self.jump(interpret);
    }

    /// Goes on in the interpreter at the word of the bytecode `words` whose number is in the ip's register.
    pub fn interpret(&mut self, words: *const u64) {
        asm!(self
            ; mov rax, QWORD words as i64
            ; lea rdi, [rax + 8 * rdi]
            ; movzx eax, WORD [rdi]
            ; jmp QWORD [rcx + 8 * rax]
        );
    }

    pub fn load(&mut self, to: Reg, slot: u16, width: Width) {
        let r = number(to);
        match width {
            Width::W32 => asm_slot!(self slot, [mov Rd(r),] []),
            Width::W64 => asm_slot!(self slot, [mov Rq(r),] []),
        }
    }

    pub fn store(&mut self, slot: u16, from: Reg) {
        asm_slot!(self slot, [mov] [, Rq(number(from))]);
    }

    /// Stores a sign-extended immediate to a slot.
    pub fn store_imm(&mut self, slot: u16, value: i32) {
        asm_slot!(self slot, [mov QWORD] [, DWORD value]);
    }

    /// Copies two slots.
    pub fn copy_wide(&mut self, to: u16, from: u16) {
        asm!(self ; movups xmm2, [rsi + at(from)] ; movups [rsi + at(to)], xmm2);
    }

    pub fn imm(&mut self, to: Reg, value: u64) {
        let r = number(to);
        match (u32::try_from(value), i32::try_from(value as i64)) {
            (Ok(value), _) => asm!(self ; mov Rd(r), DWORD value as i32),
            (_, Ok(value)) => asm!(self ; mov Rq(r), DWORD value),
            _ => asm!(self ; mov Rq(r), QWORD value as i64),
        }
    }

    pub fn mov(&mut self, to: Reg, from: Reg, width: Width) {
        let (to, from) = (number(to), number(from));
        match width {
            Width::W32 => asm!(self ; mov Rd(to), Rd(from)),
            Width::W64 => asm!(self ; mov Rq(to), Rq(from)),
        }
    }

    /// `to = to op by`; in 32 bits the upper half becomes zero.
    pub fn alu(&mut self, op: Alu, width: Width, to: Reg, by: Src) {
        let r = number(to);
        macro_rules! each {
            ($name:ident) => {
                match (width, by) {
                    (Width::W32, Src::Reg(by)) => asm!(self ; $name Rd(r), Rd(number(by))),
                    (Width::W64, Src::Reg(by)) => asm!(self ; $name Rq(r), Rq(number(by))),
                    (Width::W32, Src::Slot(slot)) => asm_slot!(self slot, [$name Rd(r),] []),
                    (Width::W64, Src::Slot(slot)) => asm_slot!(self slot, [$name Rq(r),] []),
                    (Width::W32, Src::Imm(value)) => asm!(self ; $name Rd(r), DWORD value),
                    (Width::W64, Src::Imm(value)) => asm!(self ; $name Rq(r), DWORD value),
                }
            };
        }
        match op {
            Alu::Add => each!(add),
            Alu::Sub => each!(sub),
            Alu::And => each!(and),
            Alu::Or => each!(or),
            Alu::Xor => each!(xor),
            Alu::Mul => match (width, by) {
                (Width::W32, Src::Reg(by)) => asm!(self ; imul Rd(r), Rd(number(by))),
                (Width::W64, Src::Reg(by)) => asm!(self ; imul Rq(r), Rq(number(by))),
                (Width::W32, Src::Slot(slot)) => asm_slot!(self slot, [imul Rd(r),] []),
                (Width::W64, Src::Slot(slot)) => asm_slot!(self slot, [imul Rq(r),] []),
                (Width::W32, Src::Imm(value)) => asm!(self ; imul Rd(r), Rd(r), DWORD value),
                (Width::W64, Src::Imm(value)) => asm!(self ; imul Rq(r), Rq(r), DWORD value),
            },
        }
    }

    /// `to = to op by`; the amount is taken modulo the width, and is not in `to`.
    pub fn shift(&mut self, op: Shift, width: Width, to: Reg, by: Src) {
        let r = number(to);
        macro_rules! each {
            ($name:ident) => {
                match (width, by) {
                    (Width::W32, Src::Imm(value)) => asm!(self ; $name Rd(r), BYTE value as i8 & 31),
                    (Width::W64, Src::Imm(value)) => asm!(self ; $name Rq(r), BYTE value as i8 & 63),
                    (width, by) => {
                        asm!(self ; mov r11, rcx);
                        match by {
                            Src::Reg(by) => asm!(self ; mov ecx, Rd(number(by))),
                            Src::Slot(slot) => asm_slot!(self slot, [mov ecx,] []),
                            Src::Imm(_) => {}
                        }
                        match width {
                            Width::W32 => asm!(self ; $name Rd(r), cl),
                            Width::W64 => asm!(self ; $name Rq(r), cl),
                        }
                        asm!(self ; mov rcx, r11);
                    }
                }
            };
        }
        match op {
            Shift::Shl => each!(shl),
            Shift::ShrS => each!(sar),
            Shift::ShrU => each!(shr),
            Shift::Rotl => each!(rol),
            Shift::Rotr => each!(ror),
        }
    }

    /// Extends a register as a load of `unit` would.
    pub fn extend(&mut self, unit: StoredInt, reg: Reg) {
        let r = number(reg);
        match unit {
            StoredInt::U8 => asm!(self ; movzx Rd(r), Rb(r)),
            StoredInt::U16 => asm!(self ; movzx Rd(r), Rw(r)),
            StoredInt::U32 => asm!(self ; mov Rd(r), Rd(r)),
            StoredInt::S8(Width::W32) => asm!(self ; movsx Rd(r), Rb(r)),
            StoredInt::S8(Width::W64) => asm!(self ; movsx Rq(r), Rb(r)),
            StoredInt::S16(Width::W32) => asm!(self ; movsx Rd(r), Rw(r)),
            StoredInt::S16(Width::W64) => asm!(self ; movsx Rq(r), Rw(r)),
            StoredInt::S32 => asm!(self ; movsxd Rq(r), Rd(r)),
            StoredInt::U64 => {}
        }
    }

    /// Compares two integers. Conditions of later operations are about the last comparison.
    pub fn cmp(&mut self, width: Width, a: Src, b: Src) {
        let a = match (a, b) {
            (Src::Slot(slot), Src::Imm(value)) => {
                return match width {
                    Width::W32 => asm_slot!(self slot, [cmp DWORD] [, DWORD value]),
                    Width::W64 => asm_slot!(self slot, [cmp QWORD] [, DWORD value]),
                };
            }
            (Src::Slot(slot), Src::Reg(b)) => {
                return match width {
                    Width::W32 => asm_slot!(self slot, [cmp] [, Rd(number(b))]),
                    Width::W64 => asm_slot!(self slot, [cmp] [, Rq(number(b))]),
                };
            }
            (Src::Slot(slot), Src::Slot(_)) => {
                self.load(Reg::T0, slot, width);
                Reg::T0
            }
            (Src::Reg(a), _) => a,
            (Src::Imm(value), _) => {
                self.imm(Reg::T0, value as i64 as u64);
                Reg::T0
            }
        };
        let r = number(a);
        match (width, b) {
            (Width::W32, Src::Reg(b)) => asm!(self ; cmp Rd(r), Rd(number(b))),
            (Width::W64, Src::Reg(b)) => asm!(self ; cmp Rq(r), Rq(number(b))),
            (Width::W32, Src::Slot(slot)) => asm_slot!(self slot, [cmp Rd(r),] []),
            (Width::W64, Src::Slot(slot)) => asm_slot!(self slot, [cmp Rq(r),] []),
            (Width::W32, Src::Imm(0)) => asm!(self ; test Rd(r), Rd(r)),
            (Width::W64, Src::Imm(0)) => asm!(self ; test Rq(r), Rq(r)),
            (Width::W32, Src::Imm(value)) => asm!(self ; cmp Rd(r), DWORD value),
            (Width::W64, Src::Imm(value)) => asm!(self ; cmp Rq(r), DWORD value),
        }
    }

    /// Compares the bitwise and of a register and an operand with zero, in 32 bits.
    pub fn test(&mut self, a: Reg, b: Src) {
        let r = number(a);
        match b {
            Src::Reg(b) => asm!(self ; test Rd(r), Rd(number(b))),
            Src::Slot(slot) => asm_slot!(self slot, [test] [, Rd(r)]),
            Src::Imm(value) => asm!(self ; test Rd(r), DWORD value),
        }
    }

    pub fn jump(&mut self, label: Label) {
        asm!(self ; .u8 0xe9 ; .u32 0);
        self.leads_to(label);
    }

    /// Jumps if the last comparison gave `cond`.
    pub fn branch(&mut self, cond: Cond, label: Label) {
        self.branch_if(code(cond), label);
    }

    fn branch_if(&mut self, condition: u8, label: Label) {
        asm!(self ; .u8 0x0f ; .u8 0x80 | condition ; .u32 0);
        self.leads_to(label);
    }

    /// `to` is 1 if the last comparison gave `cond`, otherwise 0.
    pub fn set(&mut self, cond: Cond, to: Reg) {
        // setcc al
        asm!(self ; .u8 0x0f ; .u8 0x90 | code(cond) ; .u8 0xc0);
        asm!(self ; movzx Rd(number(to)), al);
    }

    /// `to` is slot `yes` if the last comparison was of unequal numbers, otherwise slot `no`.
    pub fn select(&mut self, to: Reg, yes: u16, no: u16) {
        let r = number(to);
        asm!(self ; mov Rq(r), [rsi + at(yes)] ; cmove Rq(r), [rsi + at(no)]);
    }

    /// Loads a field of the activation's [`Context`].
    pub fn load_context(&mut self, to: Reg, offset: usize) {
        asm!(self ; mov Rq(number(to)), [r8 + offset as i32]);
    }

    pub fn load_at(&mut self, to: Reg, base: Reg, offset: i32, width: Width) {
        let (to, base) = (number(to), number(base));
        match width {
            Width::W32 => asm!(self ; mov Rd(to), [Rq(base) + offset]),
            Width::W64 => asm!(self ; mov Rq(to), [Rq(base) + offset]),
        }
    }

    /// Word `index` of an array.
    pub fn load_indexed(&mut self, to: Reg, base: Reg, index: Reg) {
        asm!(self ; mov Rq(number(to)), [Rq(number(base)) + 8 * Rq(number(index))]);
    }

    pub fn store_at(&mut self, base: Reg, offset: i32, from: Reg) {
        asm!(self ; mov [Rq(number(base)) + offset], Rq(number(from)));
    }

    /// Jumps if `index + end` is greater than the length of memory 0.
    pub fn bound(&mut self, index: Reg, end: i32, beyond: Label) {
        asm!(self
            ; lea r11, [Rq(number(index)) + end]
            ; cmp r11, [r8 + LENGTH]
        );
        self.branch(Cond::GtU, beyond);
    }

    /// Loads from memory 0, at an index that has been checked.
    pub fn load_memory(&mut self, unit: StoredInt, to: Reg, index: Reg, offset: i32) {
        let (r, i) = (number(to), number(index));
        match unit {
            StoredInt::U8 => asm!(self ; movzx Rd(r), BYTE [rdx + Rq(i) + offset]),
            StoredInt::U16 => asm!(self ; movzx Rd(r), WORD [rdx + Rq(i) + offset]),
            StoredInt::U32 => asm!(self ; mov Rd(r), [rdx + Rq(i) + offset]),
            StoredInt::U64 => asm!(self ; mov Rq(r), [rdx + Rq(i) + offset]),
            StoredInt::S8(Width::W32) => asm!(self ; movsx Rd(r), BYTE [rdx + Rq(i) + offset]),
            StoredInt::S8(Width::W64) => asm!(self ; movsx Rq(r), BYTE [rdx + Rq(i) + offset]),
            StoredInt::S16(Width::W32) => asm!(self ; movsx Rd(r), WORD [rdx + Rq(i) + offset]),
            StoredInt::S16(Width::W64) => asm!(self ; movsx Rq(r), WORD [rdx + Rq(i) + offset]),
            StoredInt::S32 => asm!(self ; movsxd Rq(r), DWORD [rdx + Rq(i) + offset]),
        }
    }

    /// Stores the bytes of `unit` to memory 0, at an index that has been checked.
    pub fn store_memory(&mut self, unit: StoredInt, from: Reg, index: Reg, offset: i32) {
        let (r, i) = (number(from), number(index));
        match unit {
            StoredInt::U8 | StoredInt::S8(_) => asm!(self ; mov [rdx + Rq(i) + offset], Rb(r)),
            StoredInt::U16 | StoredInt::S16(_) => asm!(self ; mov [rdx + Rq(i) + offset], Rw(r)),
            StoredInt::U32 | StoredInt::S32 => asm!(self ; mov [rdx + Rq(i) + offset], Rd(r)),
            StoredInt::U64 => asm!(self ; mov [rdx + Rq(i) + offset], Rq(r)),
        }
    }

    /// Adds `change` to the counter at `offset` from `counters`, and jumps if the sum is negative.
    pub fn count(&mut self, counters: Reg, offset: i32, change: i64, used_up: Label) {
        asm!(self
            ; mov r10, QWORD change
            ; add [Rq(number(counters)) + offset], r10
        );
        self.branch_if(8, used_up);
    }

    /// Subtracts `price` from the number that `fuel` points to; jumps if the number is less, with nothing done.
    pub fn charge(&mut self, fuel: Reg, price: i32, exhausted: Label) {
        let r = number(fuel);
        asm!(self ; mov r11, [Rq(r)] ; sub r11, DWORD price);
        self.branch(Cond::LtU, exhausted);
        asm!(self ; mov [Rq(r)], r11);
    }

    /// Calls the function whose [`InterpretedFunction`] the accumulator points to, with its frame at slot `base`; jumps
    /// to `otherwise` if the frame does not fit the stack. Returns where the address of the bytecode to return to must
    /// be patched in.
    pub fn enter(&mut self, base: u16, otherwise: Label) -> usize {
        asm!(self
            ; lea r10, [rsi + at(base)]
            ; mov r11, [r8 + INTERRUPT]
            ; mov rax, [r9 + FRAME_BYTES]
            ; add rax, r10
            ; cmp [r11 + VMInterrupt::VALUE_END], rax
        );
        self.branch(Cond::LtU, otherwise);
        asm!(self ; mov rdi, QWORD 0);
        let place = self.offset() - 8;
        asm!(self
            ; mov eax, [r9 + HEADER]
            ; mov [r10 + 8 * rax], rdi
            ; mov [r10 + 8 * rax + 8], rsi
            ; mov rsi, r10
            ; mov rdi, [r9 + ENTRY]
            ; jmp QWORD [r9 + START]
        );
        place
    }

    /// Zeroes slots, four at a time: up to three after the range too.
    pub fn zero(&mut self, slots: Range<u32>) {
        asm!(self ; xorps xmm2, xmm2);
        let (from, end) = (8 * slots.start as i32, 8 * slots.end as i32);
        if slots.len() <= 32 {
            for at in (from..end).step_by(32) {
                asm!(self ; movups [rsi + at], xmm2 ; movups [rsi + at + 16], xmm2);
            }
            return;
        }
        asm!(self ; lea r10, [rsi + from] ; lea r11, [rsi + end]);
        let again = self.offset();
        asm!(self
            ; movups [r10], xmm2
            ; movups [r10 + 16], xmm2
            ; add r10, 32
            ; cmp r10, r11
            // jb
            ; .u8 0x72
            ; .i8 again as i8 - (self.offset() + 1) as i8
        );
    }

    /// Returns from the frame whose header is in slot `header`.
    pub fn ret(&mut self, header: u16) {
        let baseline = Plain::Baseline.op() as i16;
        asm!(self
            ; mov rdi, [rsi + at(header)]
            ; lea r9, [rsi + at(header)]
            ; mov rsi, [r9 + 8]
            ; movzx eax, WORD [rdi]
            ; cmp ax, WORD baseline
            // jne past the next
            ; .u8 0x75
            ; .u8 3
            ; jmp QWORD [rdi + 8]
            ; jmp QWORD [rcx + 8 * rax]
        );
    }

    /// Moves a float's bits from an integer register to its accumulator.
    pub fn bits_to_float(&mut self, float: FloatType, from: Reg) {
        let (x, r) = (float.accumulator(), number(from));
        match float {
            FloatType::F32 => asm!(self ; movd Rx(x), Rd(r)),
            FloatType::F64 => asm!(self ; movq Rx(x), Rq(r)),
        }
    }

    /// Moves a float's bits from its accumulator to an integer register.
    pub fn bits_of_float(&mut self, float: FloatType, to: Reg) {
        let (x, r) = (float.accumulator(), number(to));
        match float {
            FloatType::F32 => asm!(self ; movd Rd(r), Rx(x)),
            FloatType::F64 => asm!(self ; movq Rq(r), Rx(x)),
        }
    }

    /// Stores a float accumulator to a slot.
    pub fn store_float(&mut self, float: FloatType, slot: u16) {
        match float {
            FloatType::F32 => asm!(self ; movd eax, xmm0 ; mov [rsi + at(slot)], rax),
            FloatType::F64 => asm_slot!(self slot, [movsd] [, xmm1]),
        }
    }

    /// The register that holds a float operand. One that is in none is loaded into `temp`.
    fn float_operand(&mut self, float: FloatType, from: FloatSrc, temp: u8) -> u8 {
        match (from, float) {
            (FloatSrc::Acc, _) => return float.accumulator(),
            (FloatSrc::Slot(slot), FloatType::F32) => asm_slot!(self slot, [movss Rx(temp),] []),
            (FloatSrc::Slot(slot), FloatType::F64) => asm_slot!(self slot, [movsd Rx(temp),] []),
            (FloatSrc::Bits(bits), FloatType::F32) => {
                self.imm(Reg::T0, bits);
                asm!(self ; movd Rx(temp), eax);
            }
            (FloatSrc::Bits(bits), FloatType::F64) => {
                self.imm(Reg::T0, bits);
                asm!(self ; movq Rx(temp), rax);
            }
        }
        temp
    }

    /// `acc = a op b`. The processor gives the right NaNs.
    pub fn float(&mut self, op: FloatOp, float: FloatType, a: FloatSrc, b: FloatSrc, _: Option<Label>) {
        let (acc, a, b) = (float.accumulator(), self.float_operand(float, a, 2), self.float_operand(float, b, 3));
        macro_rules! each {
            ($ss:ident $sd:ident) => {
                match float {
                    FloatType::F32 => asm!(self ; $ss Rx(a), Rx(b)),
                    FloatType::F64 => asm!(self ; $sd Rx(a), Rx(b)),
                }
            };
        }
        match op {
            FloatOp::Add => each!(addss addsd),
            FloatOp::Sub => each!(subss subsd),
            FloatOp::Mul => each!(mulss mulsd),
            FloatOp::Div => each!(divss divsd),
        }
        if a != acc {
            asm!(self ; movaps Rx(acc), Rx(a));
        }
    }

    /// `acc` is the square root of a float.
    pub fn sqrt(&mut self, float: FloatType, from: FloatSrc, _: Option<Label>) {
        let (acc, from) = (float.accumulator(), self.float_operand(float, from, 2));
        match float {
            FloatType::F32 => asm!(self ; sqrtss Rx(acc), Rx(from)),
            FloatType::F64 => asm!(self ; sqrtsd Rx(acc), Rx(from)),
        }
    }

    /// Converts a float of the other type to `to`, into the accumulator.
    pub fn float_to(&mut self, to: FloatType, from: FloatSrc) {
        match to {
            FloatType::F64 => {
                let from = self.float_operand(FloatType::F32, from, 2);
                asm!(self ; cvtss2sd xmm1, Rx(from));
            }
            FloatType::F32 => {
                let from = self.float_operand(FloatType::F64, from, 2);
                asm!(self ; cvtsd2ss xmm0, Rx(from));
            }
        }
    }

    /// Converts the signed 64-bit integer in a register to `to`, into the accumulator.
    pub fn integer_to(&mut self, to: FloatType, from: Reg) {
        let r = number(from);
        match to {
            FloatType::F32 => asm!(self ; cvtsi2ss xmm0, Rq(r)),
            FloatType::F64 => asm!(self ; cvtsi2sd xmm1, Rq(r)),
        }
    }

    pub fn float_cmp(&mut self, float: FloatType, a: FloatSrc, b: FloatSrc) {
        let (a, b) = (self.float_operand(float, a, 2), self.float_operand(float, b, 3));
        match float {
            FloatType::F32 => asm!(self ; ucomiss Rx(a), Rx(b)),
            FloatType::F64 => asm!(self ; ucomisd Rx(a), Rx(b)),
        }
    }

    /// Jumps if the last comparison of floats gave `cond`.
    pub fn float_branch(&mut self, cond: FloatCond, label: Label) {
        match cond {
            FloatCond::Eq => {
                // jp past the next
                asm!(self ; .u8 0x7a ; .u8 6);
                self.branch_if(4, label);
            }
            FloatCond::Ne => {
                self.branch_if(10, label);
                self.branch_if(5, label);
            }
            FloatCond::Gt => self.branch_if(7, label),
            FloatCond::Ge => self.branch_if(3, label),
            FloatCond::NotGt => self.branch_if(6, label),
            FloatCond::NotGe => self.branch_if(2, label),
        }
    }

    /// `to` is 1 if the last comparison of floats gave `cond`, otherwise 0.
    pub fn float_set(&mut self, cond: FloatCond, to: Reg) {
        match cond {
            FloatCond::Eq => asm!(self ; sete al ; setnp r11b ; and al, r11b),
            FloatCond::Ne => asm!(self ; setne al ; setp r11b ; or al, r11b),
            FloatCond::Gt => asm!(self ; seta al),
            FloatCond::Ge => asm!(self ; setae al),
            FloatCond::NotGt => asm!(self ; setbe al),
            FloatCond::NotGe => asm!(self ; setb al),
        }
        asm!(self ; movzx Rd(number(to)), al);
    }
}
