//! The driver: from bytecode to native code, an instruction at a time. What each instruction becomes is in the file of its
//! category; an instruction that none of them has code for is left to its handler.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

use super::Label;
use super::Reg::T0;
use super::Width::W64;
use super::arch::Assembler;
use crate::interp::machine::Context;
use crate::interp::op::{Inst, Plain, word};
use crate::interp::print::{Field, fields, length};

/// Native code for a function, which does not depend on where it lies.
pub(super) struct BaselineCode {
    pub code: Vec<u8>,
    /// Bytecode for the handlers: copies of the instructions that the code leaves to them, each followed by a `Baseline`
    /// instruction that leads back into the code. The first instruction leads to the function's start.
    pub words: Arc<[u64]>,
    /// Sorted pairs (word of `words`, word of the function's bytecode), one for each copied run.
    pub origins: Vec<(u32, u32)>,
    /// Sorted pairs (word of the function's bytecode, word of `words`), one for each instruction that counts: the second
    /// leads into the code after that instruction.
    pub counted: Vec<(u32, u32)>,
    /// Pairs (word of `words`, offset in `code`): the word must be set to the address of that code.
    pub entries: Vec<(u32, u32)>,
}

/// The longest bytecode of a function, in words, that is compiled: it may become 136 bytes of code a word.
const MOST: usize = 256 << 10;

/// Compiles a function's bytecode. The code zeroes the slots `zeroed` and goes on with the first instruction; it refers to
/// `words` by address, so these must not move while it can be run. `None` if the function is too large.
pub(super) fn lower(words: &[u64], zeroed: Range<u32>, asm: &mut Assembler) -> Option<BaselineCode> {
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
        handled: Vec::new(),
        origins: Vec::new(),
        counted: Vec::new(),
        patches: Vec::new(),
        targets: Vec::new(),
        entries: HashMap::new(),
        cold: Vec::new(),
    };
    lowering.entry(0);
    while lowering.at < words.len() {
        lowering.instruction();
    }
    lowering.finish()
}

/// The function being compiled.
pub(super) struct Lowering<'a> {
    words: &'a [u64],
    /// Word of the current instruction.
    pub at: usize,
    pub asm: &'a mut Assembler,
    /// Offsets of the labels in the code.
    labels: Vec<u32>,
    /// What becomes [`BaselineCode::words`].
    handled: Vec<u64>,
    origins: Vec<(u32, u32)>,
    counted: Vec<(u32, u32)>,
    /// Pairs (offset in the code, word of `handled`): the address of that word must be written there.
    pub patches: Vec<(usize, u32)>,
    /// Words of `handled` that hold the address of code, the second words of `Baseline` instructions.
    targets: Vec<(u32, BaselineTarget)>,
    /// By word of the bytecode, the word of `handled` that leads to its code.
    entries: HashMap<u32, u32>,
    /// Code that is rarely run, emitted after all else.
    pub cold: Vec<Cold>,
}

/// A way from native code to the interpreter that is rarely taken. It starts at the label.
pub(super) enum Cold {
    /// Interprets the instruction at a word of the bytecode, which fails.
    Fails(Label, u32),
    /// Has the handler run the instruction at a word of the bytecode, which counts; code goes on at the second label.
    UsedUp(Label, u32, Label),
    /// Has the handler run a copy of a call, at a word of `handled`.
    Calls(Label, u32),
    /// Has the handler run the instruction at a word of the bytecode, for which too little fuel is left; if it goes on, code
    /// does at the second label.
    Exhausted(Label, u32, Label),
}

/// Where a `Baseline` instruction leads.
enum BaselineTarget {
    /// To an offset in the code.
    Offset(u32),
    /// To the code of a word of the bytecode.
    Word(u32),
}

impl Lowering<'_> {
    pub(super) fn word(&self, n: usize) -> u64 {
        self.words[self.at + n]
    }

    fn half(&self, n: u32) -> u16 {
        (self.word(0) >> (16 * n)) as u16
    }

    pub(super) fn a(&self) -> u16 {
        self.half(1)
    }

    pub(super) fn b(&self) -> u16 {
        self.half(2)
    }

    pub(super) fn c(&self) -> u16 {
        self.half(3)
    }

    pub(super) fn bc(&self) -> u32 {
        (self.word(0) >> 32) as u32
    }

    pub(super) fn low(&self, n: usize) -> u32 {
        self.word(n) as u32
    }

    pub(super) fn high(&self, n: usize) -> u32 {
        (self.word(n) >> 32) as u32
    }

    /// The word that a jump leads to, from its offset, which is in word `n` of the instruction.
    pub(super) fn target(&self, n: usize, offset: u32) -> u32 {
        (self.at as i64 + n as i64 + i64::from(offset as i32)) as u32
    }

    /// The labels that the instruction jumps to.
    pub(super) fn targets(&self) -> Vec<Label> {
        jumps(&self.words[self.at..]).map(|(n, _, offset)| Label(self.target(n, offset))).collect()
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(0);
        Label(self.labels.len() as u32 - 1)
    }

    /// Puts a label at the code emitted next.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = self.asm.offset() as u32;
    }

    /// The label to jump to if the instruction fails, before it has done anything: the interpreter runs it again.
    pub(super) fn fails(&mut self) -> Label {
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

    /// The word of `handled` that leads to the code of word `target` of the bytecode.
    fn entry(&mut self, target: u32) -> u32 {
        if let Some(word) = self.entries.get(&target) {
            return *word;
        }
        let word = self.handled.len() as u32;
        self.origins.push((word, target));
        self.handled.extend([word_of(Plain::Baseline), 0]);
        self.targets.push((word + 1, BaselineTarget::Word(target)));
        self.entries.insert(target, word);
        word
    }

    /// Copies the instruction to `handled`, so that its handler can run it: its jumps lead to entries of the code, and a
    /// `Baseline` instruction follows it. Returns the copy's first word.
    pub(super) fn copy(&mut self) -> u32 {
        let words = &self.words[self.at..self.at + length(self.words[self.at])];
        let jumps: Vec<_> =
            jumps(words).map(|(n, shift, offset)| (n, shift, self.entry(self.target(n, offset)))).collect();
        let first = self.handled.len();
        self.origins.push((first as u32, self.at as u32));
        self.handled.extend_from_slice(words);
        for (n, shift, entry) in jumps {
            let offset = entry as i32 - (first + n) as i32;
            let word = &mut self.handled[first + n];
            *word = *word & !(0xffff_ffff << shift) | u64::from(offset as u32) << shift;
        }
        self.handled.extend([word_of(Plain::Baseline), 0]);
        first as u32
    }

    /// Has the handler run a copy of the instruction, and come back here.
    fn run(&mut self, copy: u32) {
        let place = self.asm.leave(self.handled[copy as usize] as u16);
        self.patches.push((place, copy));
        self.comes_back(copy);
    }

    /// Has the handler of a copied instruction come back to the code emitted next. Returns the `Baseline` instruction that
    /// leads here.
    pub(super) fn comes_back(&mut self, copy: u32) -> u32 {
        let after = copy + length(self.handled[copy as usize]) as u32;
        self.targets.push((after + 1, BaselineTarget::Offset(self.asm.offset() as u32)));
        after
    }

    /// Leaves the instruction to its handler.
    fn leave(&mut self) {
        let copy = self.copy();
        self.run(copy);
    }

    /// Emits the code of the current instruction.
    fn instruction(&mut self) {
        self.bind(Label(self.at as u32));
        let emitted = match Inst::of(self.word(0) as u16) {
            Inst::Plain(op) => (self.variable(op))
                .or_else(|| self.control(op))
                .or_else(|| self.constant(op))
                .or_else(|| self.call(op))
                .or_else(|| self.heat(op))
                .or_else(|| self.fuel(op))
                .or_else(|| self.memory(op))
                .or_else(|| self.exception(op)),
            Inst::Compare(op, form) => self.compare(op, form),
            Inst::Branch(op, form) => self.branch(op, form),
            Inst::Step(op, imm) => self.step(op, imm),
            Inst::Binary(op, form, kept) => self.binary(op, form, kept),
            Inst::Unary(op, acc, kept) => self.unary(op, acc, kept),
            Inst::Load(op, form, kept) => self.load(op, form, kept),
            Inst::Store(op, form) => self.store(op, form),
            Inst::Other => None,
        };
        if emitted.is_none() {
            self.leave();
        }
        self.at += length(self.words[self.at]);
    }

    /// Makes an object of the instance's context addressable: sets `T0`, and returns the object's offset from it. At `offset`
    /// of the context lies the object or, if `indirect`, a pointer to it.
    pub(super) fn object(&mut self, offset: i32, indirect: bool) -> i32 {
        self.asm.load_context(T0, offset_of!(Context, vmctx));
        if indirect {
            self.asm.load_at(T0, T0, offset, W64);
        }
        if indirect { 0 } else { offset }
    }

    fn finish(mut self) -> Option<BaselineCode> {
        let interpret = self.label();
        for cold in std::mem::take(&mut self.cold) {
            match cold {
                Cold::Fails(label, word) => {
                    self.bind(label);
                    self.asm.leave_at(word, interpret);
                }
                Cold::Calls(label, copy) => {
                    self.bind(label);
                    let place = self.asm.leave(self.handled[copy as usize] as u16);
                    self.patches.push((place, copy));
                }
                Cold::UsedUp(label, word, on) => {
                    self.at = word as usize;
                    self.bind(label);
                    self.leave();
                    self.asm.jump(on);
                    self.counted.push((word, self.handled.len() as u32 - 2));
                }
                Cold::Exhausted(label, word, on) => {
                    self.at = word as usize;
                    self.bind(label);
                    self.leave();
                    self.asm.jump(on);
                }
            }
        }
        self.bind(interpret);
        self.asm.interpret(self.words.as_ptr());
        let labels = &self.labels;
        if !self.asm.bind(|label| labels[label.0 as usize] as usize) {
            return None;
        }
        let words: Arc<[u64]> = self.handled.into();
        let mut code = self.asm.code().to_vec();
        for (place, word) in self.patches {
            Assembler::patch(&mut code, place, &raw const words[word as usize] as u64);
        }
        let entries = self.targets.into_iter().map(|(word, target)| match target {
            BaselineTarget::Offset(offset) => (word, offset),
            BaselineTarget::Word(at) => (word, labels[at as usize]),
        });
        let entries = entries.collect();
        Some(BaselineCode { code, words, origins: self.origins, counted: self.counted, entries })
    }
}

/// The jumps of the instruction that `words` start with: the word that each is in, its first bit there, and its offset.
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
