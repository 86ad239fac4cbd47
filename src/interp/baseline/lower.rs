//! From bytecode to native code, an instruction at a time.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

use super::arch::Assembler;
use super::{Alu, Cond, Float, FloatCond, FloatOp, FloatSrc, Label, Reg, Shift, Src, Unit, Width};
use crate::interp::machine::Context;
use crate::interp::op::{Binary, Compare, Form, Inst, Load, LoadForm, Plain, Store, StoreForm, Unary, word};
use crate::interp::print::{Field, fields, length};
use crate::interp::value::Bank;
use crate::module::registry::RegisteredType;
use crate::vm::context::{VMFuncRef, VMTable};

use Reg::{Acc, T0, T1};
use Width::{W32, W64};

/// Native code for a function, which does not depend on where it lies.
pub(super) struct Baseline {
    pub code: Vec<u8>,
    /// What is left to the handlers, where the code says that it is. The first instruction leads to the function's start.
    pub words: Arc<[u64]>,
    /// Words of the bytecode from which those from here on are, ascending.
    pub origins: Vec<(u32, u32)>,
    /// Words of the bytecode with instructions that count, ascending, and the words that lead to native code behind these.
    pub counted: Vec<(u32, u32)>,
    /// Words where addresses of native code belong, and offsets of that.
    pub entries: Vec<(u32, u32)>,
}

/// Words of bytecode of a function that code is made of; it may have 136 bytes a word.
const MOST: usize = 256 << 10;

/// Makes native code of a function's bytecode, which stays where it is as long as the code is run, and whose first instruction
/// the code starts with after zeroing slots. `None` if there is too much of it.
pub(super) fn lower(words: &[u64], zeroed: Range<u32>, asm: &mut Assembler) -> Option<Baseline> {
    if words.len() > MOST {
        return None;
    }
    asm.clear(words.len());
    if !zeroed.is_empty() {
        asm.zero(zeroed);
    }
    let mut lowering = Lowering {
        words,
        at: 0,
        asm,
        labels: vec![0; words.len()],
        out: Vec::new(),
        origins: Vec::new(),
        counted: Vec::new(),
        places: Vec::new(),
        entries: Vec::new(),
        ways_in: HashMap::new(),
        cold: Vec::new(),
    };
    lowering.enter_at_label(0);
    while lowering.at < words.len() {
        lowering.instruction();
    }
    lowering.finish()
}

struct Lowering<'a> {
    words: &'a [u64],
    /// Word of the instruction.
    at: usize,
    asm: &'a mut Assembler,
    /// Offsets of the labels.
    labels: Vec<u32>,
    out: Vec<u64>,
    origins: Vec<(u32, u32)>,
    counted: Vec<(u32, u32)>,
    places: Vec<(usize, u32)>,
    /// Words that hold the address of a label.
    entries: Vec<(u32, Entry)>,
    /// Words that lead to a word's native code.
    ways_in: HashMap<u32, u32>,
    /// What is put out behind all else.
    cold: Vec<Cold>,
}

/// What is left to the interpreter on some ways only.
enum Cold {
    /// Runs the instruction at a word, which fails.
    Fails(Label, u32),
    /// Has the handler run the instruction at a word, which counts; native code goes on at the second label.
    UsedUp(Label, u32, Label),
    /// Has the handler run a copy of a call.
    Calls(Label, u32),
}

/// Where a `Baseline` instruction leads.
enum Entry {
    Offset(u32),
    Word(u32),
}

impl Lowering<'_> {
    fn word(&self, n: usize) -> u64 {
        self.words[self.at + n]
    }

    fn half(&self, n: u32) -> u16 {
        (self.word(0) >> (16 * n)) as u16
    }

    fn a(&self) -> u16 {
        self.half(1)
    }

    fn b(&self) -> u16 {
        self.half(2)
    }

    fn c(&self) -> u16 {
        self.half(3)
    }

    fn bc(&self) -> u32 {
        (self.word(0) >> 32) as u32
    }

    fn low(&self, n: usize) -> u32 {
        self.word(n) as u32
    }

    fn high(&self, n: usize) -> u32 {
        (self.word(n) >> 32) as u32
    }

    /// The word that a jump by an offset in word `n` leads to.
    fn target(&self, n: usize, offset: u32) -> u32 {
        (self.at as i64 + n as i64 + i64::from(offset as i32)) as u32
    }

    fn label(&mut self) -> Label {
        self.labels.push(0);
        Label(self.labels.len() as u32 - 1)
    }

    /// Puts a label here.
    fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = self.asm.offset() as u32;
    }

    /// Where the instruction fails: it is run again by the interpreter, with nothing of it done.
    fn fails(&mut self) -> Label {
        let at = self.at as u32;
        match self.cold.last() {
            Some(Cold::Fails(label, word)) if *word == at => *label,
            _ => {
                let label = self.label();
                self.cold.push(Cold::Fails(label, at));
                label
            }
        }
    }

    /// Where arithmetic goes whose result is a NaN, unless the processor makes the NaNs that are wanted: the handler makes
    /// those.
    fn other_nan(&mut self) -> Option<Label> {
        cfg!(not(target_arch = "x86_64")).then(|| self.fails())
    }

    /// A word that leads to the native code of a word of the bytecode.
    fn enter_at_label(&mut self, target: u32) -> u32 {
        if let Some(word) = self.ways_in.get(&target) {
            return *word;
        }
        let word = self.out.len() as u32;
        self.origins.push((word, target));
        self.out.extend([word_of(Plain::Baseline), 0]);
        self.entries.push((word + 1, Entry::Word(target)));
        self.ways_in.insert(target, word);
        word
    }

    /// Copies the instruction for its handler, with a way to native code behind it and where it jumps to: the place of the copy.
    fn copy(&mut self) -> u32 {
        let words = &self.words[self.at..self.at + length(self.words[self.at])];
        let ways: Vec<_> =
            jumps(words).map(|(n, shift, offset)| (n, shift, self.enter_at_label(self.target(n, offset)))).collect();
        let first = self.out.len();
        self.origins.push((first as u32, self.at as u32));
        self.out.extend_from_slice(words);
        for (n, shift, way) in ways {
            let offset = way as i32 - (first + n) as i32;
            let word = &mut self.out[first + n];
            *word = *word & !(0xffff_ffff << shift) | u64::from(offset as u32) << shift;
        }
        self.out.extend([word_of(Plain::Baseline), 0]);
        first as u32
    }

    /// Has the handler run a copy of the instruction, and go on in native code here.
    fn run(&mut self, copy: u32) {
        let place = self.asm.leave(self.out[copy as usize] as u16);
        self.places.push((place, copy));
        self.comes_back(copy);
    }

    /// Has what follows a copy of the instruction go on in native code here.
    fn comes_back(&mut self, copy: u32) {
        let behind = copy + length(self.out[copy as usize]) as u32;
        self.entries.push((behind + 1, Entry::Offset(self.asm.offset() as u32)));
    }

    /// Leaves the instruction to its handler.
    fn leave(&mut self) {
        let copy = self.copy();
        self.run(copy);
    }

    /// Puts out native code for the instruction.
    fn instruction(&mut self) {
        self.bind(Label(self.at as u32));
        let done = match Inst::of(self.word(0) as u16) {
            Inst::Plain(op) => self.plain(op),
            Inst::Compare(op, form) => self.compare(op, form),
            Inst::Branch(op, form) => self.branch(op, form),
            Inst::Step(op, imm) => self.step(op, imm),
            Inst::Binary(op, form, kept) => self.binary(op, form, kept),
            Inst::Unary(op, acc, kept) => self.unary(op, acc, kept),
            Inst::Load(op, form, kept) => self.load(op, form, kept),
            Inst::Store(op, form) => self.store(op, form),
            Inst::Other => None,
        };
        if done.is_none() {
            self.leave();
        }
        self.at += length(self.words[self.at]);
    }

    fn plain(&mut self, op: Plain) -> Option<()> {
        let (a, b, c) = (self.a(), self.b(), self.c());
        match op {
            Plain::Copy => {
                self.asm.load(T0, b, W64);
                self.asm.store(a, T0);
            }
            Plain::Copy2 => {
                let next = a.checked_add(1)?;
                self.asm.load(T0, b, W64);
                self.asm.load(T1, c, W64);
                self.asm.store(a, T0);
                self.asm.store(next, T1);
            }
            // Else the second slot has no number.
            Plain::CopyWide if a.max(b) < u16::MAX => self.asm.copy_wide(a, b),
            Plain::Imm32 => self.asm.store_imm(a, self.bc() as i32),
            Plain::Imm32U => match i32::try_from(self.bc()) {
                Ok(value) => self.asm.store_imm(a, value),
                Err(_) => {
                    self.asm.imm(T0, self.bc().into());
                    self.asm.store(a, T0);
                }
            },
            Plain::Imm64 => {
                self.asm.imm(T0, self.word(1));
                self.asm.store(a, T0);
            }
            Plain::Br | Plain::Try => self.jump(0, self.bc()),
            Plain::BrNonzero => self.branch_on(Cond::Ne, Src::Slot(a), 0, self.bc()),
            Plain::BrNonzeroAcc => self.branch_on(Cond::Ne, Src::Reg(Acc), 0, self.bc()),
            Plain::BrZero => self.branch_on(Cond::Eq, Src::Slot(a), 0, self.bc()),
            Plain::BrZeroAcc => self.branch_on(Cond::Eq, Src::Reg(Acc), 0, self.bc()),
            Plain::BrTable => {
                let targets: Vec<_> =
                    jumps(&self.words[self.at..]).map(|(n, _, offset)| Label(self.target(n, offset))).collect();
                self.asm.jump_table(a, self.bc(), &targets);
            }
            Plain::Call => {
                let (copy, otherwise) = (self.copy(), self.label());
                self.asm.load_context(T0, offset_of!(Context, codes));
                self.asm.load_at(Acc, T0, 8 * self.bc() as i32, W64);
                self.enter(copy, otherwise);
            }
            Plain::CallIndirect => {
                let (copy, otherwise) = (self.copy(), self.label());
                self.indirect_code(otherwise);
                self.enter(copy, otherwise);
            }
            Plain::Return => self.asm.ret(a),
            Plain::ReturnCopy => {
                self.asm.load(T0, b, W64);
                self.asm.store(0, T0);
                self.asm.ret(a);
            }
            Plain::ReturnImm => {
                self.asm.store_imm(0, self.bc() as i32);
                self.asm.ret(a);
            }
            Plain::Select => {
                self.asm.cmp(W32, Src::Slot(self.low(1) as u16), Src::Imm(0));
                self.asm.select(Acc, b, c);
                self.asm.store(a, Acc);
            }
            Plain::SelectAcc => {
                self.asm.cmp(W32, Src::Reg(Acc), Src::Imm(0));
                self.asm.select(Acc, b, c);
                self.asm.store(a, Acc);
            }
            Plain::CountCall => self.count(1 - (i64::from(a) << 32)),
            Plain::CountLoop => self.count(-(i64::from(a) << 32)),
            Plain::GlobalGet | Plain::GlobalGetIndirect => {
                let global = self.global(op == Plain::GlobalGetIndirect)?;
                self.asm.load_at(Acc, T0, global, W64);
                self.asm.store(a, Acc);
            }
            Plain::GlobalSet | Plain::GlobalSetIndirect => {
                let global = self.global(op == Plain::GlobalSetIndirect)?;
                self.asm.load(T1, a, W64);
                self.asm.store_at(T0, global, T1);
            }
            Plain::GlobalGetAdd | Plain::GlobalBump => {
                let global = 8 * i32::from(c);
                self.asm.load_context(T0, offset_of!(Context, vmctx));
                self.asm.load_at(Acc, T0, global, W32);
                self.asm.alu(Alu::Add, W32, Acc, Src::Imm((b as i16).into()));
                self.asm.store(a, Acc);
                if op == Plain::GlobalBump {
                    self.asm.store_at(T0, global, Acc);
                }
            }
            Plain::GlobalSetAdd => {
                self.asm.load_context(T0, offset_of!(Context, vmctx));
                self.asm.load(T1, a, W32);
                self.asm.alu(Alu::Add, W32, T1, Src::Imm((b as i16).into()));
                self.asm.store_at(T0, 8 * i32::from(c), T1);
            }
            Plain::I32Move | Plain::I64Move => {
                let unit = if op == Plain::I32Move { Unit::U32 } else { Unit::U64 };
                let (from, to) = (self.low(1).into(), u64::from(c));
                self.asm.load(T0, b, W32);
                let from = self.bound(T0, from, unit.bytes())?;
                self.asm.load_memory(unit, T1, T0, from);
                self.asm.load(T0, a, W32);
                let to = self.bound(T0, to, unit.bytes())?;
                self.asm.store_memory(unit, T1, T0, to);
            }
            _ => return None,
        }
        Some(())
    }

    /// The offset of the global in `b` and `c` from `T0`, which is set for it.
    fn global(&mut self, indirect: bool) -> Option<i32> {
        let offset = i32::try_from(self.bc()).ok()?;
        Some(self.object(offset, indirect))
    }

    /// The offset from `T0`, which is set for it, of what lies at an offset of the instance's context, or what a pointer there
    /// leads to.
    fn object(&mut self, offset: i32, indirect: bool) -> i32 {
        self.asm.load_context(T0, offset_of!(Context, vmctx));
        if indirect {
            self.asm.load_at(T0, T0, offset, W64);
        }
        if indirect { 0 } else { offset }
    }

    /// Calls the function whose code the accumulator points to, unless that is null or its frame does not fit the stack. Then,
    /// and from jumps to `otherwise`, the handler runs the copy of the call.
    fn enter(&mut self, copy: u32, otherwise: Label) {
        self.asm.cmp(W64, Src::Reg(Acc), Src::Imm(0));
        self.asm.branch(Cond::Eq, otherwise);
        let place = self.asm.enter(self.a(), otherwise);
        self.places.push((place, copy + length(self.word(0)) as u32));
        self.comes_back(copy);
        self.cold.push(Cold::Calls(otherwise, copy));
    }

    /// Has the accumulator point to the code behind an indirect call of the instance's own functions, or be null; jumps if it calls
    /// another, or none.
    fn indirect_code(&mut self, otherwise: Label) {
        // As `encode_place` has it.
        let place = self.low(1) as i32;
        let table = self.object(place & !1, place & 1 != 0);
        self.asm.load(T1, self.b(), W32);
        self.asm.load_at(Acc, T0, table + VMTable::LENGTH, W64);
        self.asm.cmp(W64, Src::Reg(T1), Src::Reg(Acc));
        self.asm.branch(Cond::GeU, otherwise);
        self.asm.load_at(T0, T0, table + VMTable::BASE, W64);
        self.asm.load_indexed(Acc, T0, T1);
        self.asm.cmp(W64, Src::Reg(Acc), Src::Imm(0));
        self.asm.branch(Cond::Eq, otherwise);
        self.asm.load_context(T0, offset_of!(Context, sigs));
        self.asm.load_at(T0, T0, RegisteredType::numbers_offset(self.high(1)), W32);
        self.asm.load_at(T1, Acc, VMFuncRef::SIG, W32);
        self.asm.cmp(W32, Src::Reg(T0), Src::Reg(T1));
        self.asm.branch(Cond::Ne, otherwise);
        self.asm.load_context(T0, offset_of!(Context, vmctx));
        self.asm.load_at(T1, Acc, VMFuncRef::OWNER, W64);
        self.asm.cmp(W64, Src::Reg(T0), Src::Reg(T1));
        self.asm.branch(Cond::Ne, otherwise);
        self.asm.load_at(T1, Acc, VMFuncRef::INDEX, W32);
        self.asm.load_context(T0, offset_of!(Context, codes));
        self.asm.load_indexed(Acc, T0, T1);
    }

    fn jump(&mut self, n: usize, offset: u32) {
        let label = Label(self.target(n, offset));
        self.asm.jump(label);
    }

    fn branch_on(&mut self, cond: Cond, operand: Src, n: usize, offset: u32) {
        let label = Label(self.target(n, offset));
        self.asm.cmp(W32, operand, Src::Imm(0));
        self.asm.branch(cond, label);
    }

    /// Counts, and has the handler do so again when the budget is used up.
    fn count(&mut self, change: i64) {
        let (used_up, on) = (self.label(), self.label());
        self.asm.load_context(T0, offset_of!(Context, counters));
        self.asm.count(T0, 8 * self.bc() as i32, change, used_up);
        self.bind(on);
        self.cold.push(Cold::UsedUp(used_up, self.at as u32, on));
    }

    /// Jumps to where the instruction fails if the access is beyond memory 0; the offset to access it with.
    fn bound(&mut self, index: Reg, offset: u64, bytes: u64) -> Option<i32> {
        let end = i32::try_from(offset + bytes).ok()?;
        let fails = self.fails();
        self.asm.bound(index, end, fails);
        Some(offset as i32)
    }

    /// Operands of an instruction with a result; constants that are no immediates are put into `T1`.
    fn operands(&mut self, form: Form) -> (Src, Src) {
        let (b, c) = (self.b(), self.c());
        match form {
            Form::SS => (Src::Slot(b), Src::Slot(c)),
            Form::AS => (Src::Reg(Acc), Src::Slot(c)),
            Form::SA => (Src::Slot(b), Src::Reg(Acc)),
            Form::SI => (Src::Slot(b), Src::Imm((c as i16).into())),
            Form::AI => (Src::Reg(Acc), Src::Imm(self.bc() as i32)),
            Form::SK => (Src::Slot(b), self.constant(self.word(1))),
            Form::KS => (self.constant(self.word(1)), Src::Slot(c)),
        }
    }

    fn constant(&mut self, value: u64) -> Src {
        match i32::try_from(value as i64) {
            Ok(value) => Src::Imm(value),
            Err(_) => {
                self.asm.imm(T1, value);
                Src::Reg(T1)
            }
        }
    }

    fn binary(&mut self, op: Binary, form: Form, kept: bool) -> Option<()> {
        use Binary::*;
        enum Kind {
            Alu(Alu),
            Shift(Shift),
        }
        let kind = match op {
            I32Add | I64Add => Kind::Alu(Alu::Add),
            I32Sub | I64Sub => Kind::Alu(Alu::Sub),
            I32Mul | I64Mul => Kind::Alu(Alu::Mul),
            I32And | I64And => Kind::Alu(Alu::And),
            I32Or | I64Or => Kind::Alu(Alu::Or),
            I32Xor | I64Xor => Kind::Alu(Alu::Xor),
            I32Shl | I64Shl => Kind::Shift(Shift::Shl),
            I32ShrS | I64ShrS => Kind::Shift(Shift::ShrS),
            I32ShrU | I64ShrU => Kind::Shift(Shift::ShrU),
            I32Rotl | I64Rotl => Kind::Shift(Shift::Rotl),
            I32Rotr | I64Rotr => Kind::Shift(Shift::Rotr),
            _ => return self.float_binary(op, form, kept),
        };
        let width = if op.is_32() { W32 } else { W64 };
        let (a, b) = self.operands(form);
        let mut to = Acc;
        match (a, b) {
            (Src::Reg(Acc), _) => {}
            (_, Src::Reg(Acc)) => {
                to = T0;
                self.put(T0, a, width);
            }
            _ => self.put(Acc, a, width),
        }
        match kind {
            Kind::Alu(op) => self.asm.alu(op, width, to, b),
            Kind::Shift(op) => self.asm.shift(op, width, to, b),
        }
        if to != Acc {
            self.asm.mov(Acc, to, W64);
        }
        if !kept {
            self.asm.store(self.a(), Acc);
        }
        Some(())
    }

    fn float_binary(&mut self, op: Binary, form: Form, kept: bool) -> Option<()> {
        use Binary::*;
        let (op, float) = match op {
            F32Add => (FloatOp::Add, Float::F32),
            F32Sub => (FloatOp::Sub, Float::F32),
            F32Mul => (FloatOp::Mul, Float::F32),
            F32Div => (FloatOp::Div, Float::F32),
            F64Add => (FloatOp::Add, Float::F64),
            F64Sub => (FloatOp::Sub, Float::F64),
            F64Mul => (FloatOp::Mul, Float::F64),
            F64Div => (FloatOp::Div, Float::F64),
            _ => return None,
        };
        let (a, b) = self.float_operands(form)?;
        let nan = self.other_nan();
        self.asm.float(op, float, a, b, nan);
        if !kept {
            self.asm.store_float(float, self.a());
        }
        Some(())
    }

    /// Puts an operand into a register.
    fn put(&mut self, to: Reg, from: Src, width: Width) {
        match from {
            Src::Reg(from) => self.asm.mov(to, from, width),
            Src::Slot(slot) => self.asm.load(to, slot, width),
            Src::Imm(value) if width == W32 => self.asm.imm(to, u64::from(value as u32)),
            Src::Imm(value) => self.asm.imm(to, value as i64 as u64),
        }
    }

    /// Operands of an instruction on floats with a result.
    fn float_operands(&self, form: Form) -> Option<(FloatSrc, FloatSrc)> {
        let (b, c) = (FloatSrc::Slot(self.b()), FloatSrc::Slot(self.c()));
        Some(match form {
            Form::SS => (b, c),
            Form::AS => (FloatSrc::Acc, c),
            Form::SA => (b, FloatSrc::Acc),
            Form::SK => (b, FloatSrc::Bits(self.word(1))),
            Form::KS => (FloatSrc::Bits(self.word(1)), c),
            Form::SI | Form::AI => return None,
        })
    }

    fn unary(&mut self, op: Unary, acc: bool, kept: bool) -> Option<()> {
        let unit = match op {
            Unary::I32Extend8S => Unit::S8(W32),
            Unary::I32Extend16S => Unit::S16(W32),
            Unary::I64Extend8S => Unit::S8(W64),
            Unary::I64Extend16S => Unit::S16(W64),
            Unary::I64Extend32S | Unary::I64ExtendI32S => Unit::S32,
            Unary::I32WrapI64 => Unit::U32,
            _ => return self.float_unary(op, acc, kept),
        };
        if !acc {
            self.asm.load(Acc, self.b(), W64);
        }
        self.asm.extend(unit, Acc);
        if !kept {
            self.asm.store(self.a(), Acc);
        }
        Some(())
    }

    fn float_unary(&mut self, op: Unary, acc: bool, kept: bool) -> Option<()> {
        use Unary::*;
        let from = if acc { FloatSrc::Acc } else { FloatSrc::Slot(self.b()) };
        let to = match op {
            F32Abs | F32Neg | F32Sqrt | F32DemoteF64 | F32ConvertI32S | F32ConvertI32U | F32ConvertI64S => Float::F32,
            F64Abs | F64Neg | F64Sqrt | F64PromoteF32 | F64ConvertI32S | F64ConvertI32U | F64ConvertI64S => Float::F64,
            _ => return None,
        };
        match op {
            F32Sqrt | F64Sqrt => {
                let nan = self.other_nan();
                self.asm.sqrt(to, from, nan);
            }
            F32DemoteF64 | F64PromoteF32 => self.asm.float_to(to, from),
            F32Abs | F32Neg | F64Abs | F64Neg => {
                let width = if matches!(to, Float::F32) { W32 } else { W64 };
                match from {
                    FloatSrc::Acc => self.asm.bits_of_float(to, T0),
                    _ => self.asm.load(T0, self.b(), width),
                }
                let sign = if width == W32 { 1 << 31 } else { 1 << 63 };
                let (alu, mask) = if matches!(op, F32Neg | F64Neg) { (Alu::Xor, sign) } else { (Alu::And, sign - 1) };
                self.asm.imm(T1, mask);
                self.asm.alu(alu, width, T0, Src::Reg(T1));
                self.asm.bits_to_float(to, T0);
            }
            _ => {
                let width = if matches!(op, F32ConvertI64S | F64ConvertI64S) { W64 } else { W32 };
                self.put(T0, if acc { Src::Reg(Acc) } else { Src::Slot(self.b()) }, width);
                if matches!(op, F32ConvertI32S | F64ConvertI32S) {
                    self.asm.extend(Unit::S32, T0);
                }
                self.asm.integer_to(to, T0);
            }
        }
        if !kept {
            self.asm.store_float(to, self.a());
        }
        Some(())
    }

    /// Compares what a comparison of floats compares; what is to be so then.
    fn float_compares(&mut self, op: Compare, (a, b): (FloatSrc, FloatSrc)) -> Option<FloatCond> {
        use Compare::*;
        let (cond, swap) = match op {
            F32Eq | F64Eq => (FloatCond::Eq, false),
            F32Ne | F64Ne => (FloatCond::Ne, false),
            F32Gt | F64Gt => (FloatCond::Gt, false),
            F32Ge | F64Ge => (FloatCond::Ge, false),
            F32Lt | F64Lt => (FloatCond::Gt, true),
            F32Le | F64Le => (FloatCond::Ge, true),
            F32NotGt | F64NotGt => (FloatCond::NotGt, false),
            F32NotGe | F64NotGe => (FloatCond::NotGe, false),
            F32NotLt | F64NotLt => (FloatCond::NotGt, true),
            F32NotLe | F64NotLe => (FloatCond::NotGe, true),
            _ => return None,
        };
        let float = if op.bank() == Bank::F32 { Float::F32 } else { Float::F64 };
        let (a, b) = if swap { (b, a) } else { (a, b) };
        self.asm.float_cmp(float, a, b);
        Some(cond)
    }

    /// Compares what a comparison compares; what is to be so then.
    fn compares(&mut self, op: Compare, (a, b): (Src, Src)) -> Option<Cond> {
        use Compare::*;
        let cond = match op {
            I32Eq | I64Eq => Cond::Eq,
            I32Ne | I64Ne => Cond::Ne,
            I32LtS | I64LtS => Cond::LtS,
            I32LtU | I64LtU => Cond::LtU,
            I32GtS | I64GtS => Cond::GtS,
            I32GtU | I64GtU => Cond::GtU,
            I32LeS | I64LeS => Cond::LeS,
            I32LeU | I64LeU => Cond::LeU,
            I32GeS | I64GeS => Cond::GeS,
            I32GeU | I64GeU => Cond::GeU,
            I32Common | I32Apart => {
                let a = match a {
                    Src::Reg(a) => a,
                    a => {
                        self.put(T0, a, W32);
                        T0
                    }
                };
                self.asm.test(a, b);
                return Some(if op == I32Common { Cond::Ne } else { Cond::Eq });
            }
            _ => return None,
        };
        self.asm.cmp(if op.is_32() { W32 } else { W64 }, a, b);
        Some(cond)
    }

    fn compare(&mut self, op: Compare, form: Form) -> Option<()> {
        if op.bank() == Bank::Int {
            let operands = self.operands(form);
            let cond = self.compares(op, operands)?;
            self.asm.set(cond, Acc);
        } else {
            let operands = self.float_operands(form)?;
            let cond = self.float_compares(op, operands)?;
            self.asm.float_set(cond, Acc);
        }
        self.asm.store(self.a(), Acc);
        Some(())
    }

    fn branch(&mut self, op: Compare, form: Form) -> Option<()> {
        let (a, b) = (self.a(), self.b());
        let label = Label(self.target(1, self.low(1)));
        if op.bank() != Bank::Int {
            let operands = match form {
                Form::SS => (FloatSrc::Slot(a), FloatSrc::Slot(b)),
                Form::AS => (FloatSrc::Acc, FloatSrc::Slot(b)),
                Form::SA => (FloatSrc::Slot(a), FloatSrc::Acc),
                Form::SK => (FloatSrc::Slot(a), FloatSrc::Bits(self.word(2))),
                Form::SI | Form::AI | Form::KS => return None,
            };
            let cond = self.float_compares(op, operands)?;
            self.asm.float_branch(cond, label);
            return Some(());
        }
        let operands = match form {
            Form::SS => (Src::Slot(a), Src::Slot(b)),
            Form::AS => (Src::Reg(Acc), Src::Slot(b)),
            Form::SA => (Src::Slot(a), Src::Reg(Acc)),
            Form::SI => (Src::Slot(a), Src::Imm(self.high(1) as i32)),
            Form::AI => (Src::Reg(Acc), Src::Imm(self.high(1) as i32)),
            Form::SK => (Src::Slot(a), self.constant(self.word(2))),
            Form::KS => return None,
        };
        let cond = self.compares(op, operands)?;
        self.asm.branch(cond, label);
        Some(())
    }

    fn step(&mut self, op: Compare, imm: bool) -> Option<()> {
        let (a, b) = (self.a(), self.b());
        self.asm.load(Acc, a, W32);
        self.asm.alu(Alu::Add, W32, Acc, Src::Imm((self.c() as i16).into()));
        self.asm.store(a, Acc);
        let with = if imm { Src::Imm(self.high(1) as i32) } else { Src::Slot(b) };
        let cond = self.compares(op, (Src::Reg(Acc), with))?;
        let label = Label(self.target(1, self.low(1)));
        self.asm.branch(cond, label);
        Some(())
    }

    fn load(&mut self, op: Load, form: LoadForm, kept: bool) -> Option<()> {
        use Load::*;
        let (unit, float) = match op {
            I32Load8U | I64Load8U => (Unit::U8, None),
            I32Load16U | I64Load16U => (Unit::U16, None),
            I32Load | I64Load32U => (Unit::U32, None),
            I64Load => (Unit::U64, None),
            I32Load8S => (Unit::S8(W32), None),
            I64Load8S => (Unit::S8(W64), None),
            I32Load16S => (Unit::S16(W32), None),
            I64Load16S => (Unit::S16(W64), None),
            I64Load32S => (Unit::S32, None),
            F32Load => (Unit::U32, Some(Float::F32)),
            F64Load => (Unit::U64, Some(Float::F64)),
            _ => return None,
        };
        let (b, c) = (self.b(), self.c());
        let (index, offset) = match form {
            LoadForm::Slot => {
                self.asm.load(T0, b, W32);
                (T0, u64::from(c))
            }
            LoadForm::Acc => (Acc, self.bc().into()),
            LoadForm::Const => {
                self.asm.imm(T0, self.bc().into());
                (T0, 0)
            }
            LoadForm::Plus => {
                self.asm.load(T0, b, W32);
                self.asm.alu(Alu::Add, W32, T0, Src::Imm((c as i16).into()));
                (T0, 0)
            }
            LoadForm::Index => {
                self.asm.load(T0, c, W32);
                self.asm.shift(Shift::Shl, W32, T0, Src::Imm((self.high(1) & 31) as i32));
                self.asm.alu(Alu::Add, W32, T0, Src::Slot(b));
                (T0, self.low(1).into())
            }
            LoadForm::Deref => {
                self.asm.load(T0, b, W32);
                let offset = self.bound(T0, c.into(), 4)?;
                self.asm.load_memory(Unit::U32, T0, T0, offset);
                (T0, self.low(1).into())
            }
            LoadForm::AccDeref => {
                let offset = self.bound(Acc, self.bc().into(), 4)?;
                self.asm.load_memory(Unit::U32, T0, Acc, offset);
                (T0, self.low(1).into())
            }
            LoadForm::Far => return None,
        };
        let offset = self.bound(index, offset, unit.bytes())?;
        match float {
            None => {
                self.asm.load_memory(unit, Acc, index, offset);
                if !kept {
                    self.asm.store(self.a(), Acc);
                }
            }
            Some(float) => {
                self.asm.load_memory(unit, T0, index, offset);
                self.asm.bits_to_float(float, T0);
                if !kept {
                    self.asm.store(self.a(), T0);
                }
            }
        }
        Some(())
    }

    fn store(&mut self, op: Store, form: StoreForm) -> Option<()> {
        use Store::*;
        let (unit, float) = match op {
            I32Store8 | I64Store8 => (Unit::U8, None),
            I32Store16 | I64Store16 => (Unit::U16, None),
            I32Store | I64Store32 => (Unit::U32, None),
            I64Store => (Unit::U64, None),
            F32Store => (Unit::U32, Some(Float::F32)),
            F64Store => (Unit::U64, Some(Float::F64)),
            V128Store => return None,
        };
        let (a, b) = (self.a(), self.b());
        let (address, value, offset) = match form {
            StoreForm::Slots => (Src::Slot(a), Src::Slot(b), u64::from(self.c())),
            StoreForm::AddrAcc => (Src::Reg(Acc), Src::Slot(a), self.bc().into()),
            StoreForm::ValueAcc => (Src::Slot(a), Src::Reg(Acc), self.bc().into()),
            StoreForm::Imm if float.is_none() => (Src::Slot(a), Src::Imm((b as i16).into()), self.c().into()),
            StoreForm::AccImm if float.is_none() => (Src::Reg(Acc), Src::Imm((a as i16).into()), self.bc().into()),
            StoreForm::Const => {
                self.asm.imm(T0, self.bc().into());
                (Src::Reg(T0), Src::Slot(a), 0)
            }
            _ => return None,
        };
        let index = match address {
            Src::Reg(index) => index,
            from => {
                self.put(T0, from, W32);
                T0
            }
        };
        let offset = self.bound(index, offset, unit.bytes())?;
        let from = match (value, float) {
            (Src::Reg(_), Some(float)) => {
                self.asm.bits_of_float(float, T1);
                T1
            }
            (Src::Reg(from), None) => from,
            (from, _) => {
                self.put(T1, from, W64);
                T1
            }
        };
        self.asm.store_memory(unit, from, index, offset);
        Some(())
    }

    fn finish(mut self) -> Option<Baseline> {
        let interpret = self.label();
        for cold in std::mem::take(&mut self.cold) {
            match cold {
                Cold::Fails(label, word) => {
                    self.bind(label);
                    self.asm.leave_at(word, interpret);
                }
                Cold::Calls(label, copy) => {
                    self.bind(label);
                    let place = self.asm.leave(self.out[copy as usize] as u16);
                    self.places.push((place, copy));
                }
                Cold::UsedUp(label, word, on) => {
                    self.at = word as usize;
                    self.bind(label);
                    self.leave();
                    self.asm.jump(on);
                    self.counted.push((word, self.out.len() as u32 - 2));
                }
            }
        }
        self.bind(interpret);
        self.asm.interpret(self.words.as_ptr());
        let labels = &self.labels;
        if !self.asm.bind(|label| labels[label.0 as usize] as usize) {
            return None;
        }
        let words: Arc<[u64]> = self.out.into();
        let mut code = self.asm.code().to_vec();
        for (place, word) in self.places {
            Assembler::patch(&mut code, place, &raw const words[word as usize] as u64);
        }
        let entries = self.entries.into_iter().map(|(word, entry)| match entry {
            Entry::Offset(offset) => (word, offset),
            Entry::Word(at) => (word, labels[at as usize]),
        });
        let entries = entries.collect();
        Some(Baseline { code, words, origins: self.origins, counted: self.counted, entries })
    }
}

/// The jumps of an instruction: the words they are in, where in these, and the offsets.
fn jumps(words: &[u64]) -> impl Iterator<Item = (usize, u32, u32)> {
    fields(words[0] as u16).iter().flat_map(move |field| {
        let (range, shift) = match *field {
            Field::JumpBC => (0..1, 32),
            Field::Jump(n) => (n..n + 1, 0),
            Field::Table => (1..2 + (words[0] >> 32) as usize, 0),
            _ => (0..0, 0),
        };
        range.map(move |n| (n, shift, (words[n] >> shift) as u32))
    })
}

fn word_of(op: Plain) -> u64 {
    word(op.op(), 0, 0, 0)
}
