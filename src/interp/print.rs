//! Bytecode as text, for `inspect --bytecode` and tests; and where each instruction has its operands.

use std::fmt::Write;

use super::code::InterpretedModule;
use super::exec::{dispatch_table, handlers_of_list_into_table};
use super::machine::Handler;
use super::op::{OPS, OpTable};
use super::translate;
use crate::error::Result;
use crate::printable::Printable;

/// One of the 16-bit fields of an instruction's first word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    A,
    B,
    C,
}

/// Where an operand of an instruction is, and what it means. Variants with a number are in that word of the
/// instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// Slot of the result.
    Def(Half),
    Slot(Half),
    /// Signed number.
    ImmA,
    ImmB,
    ImmC,
    ImmBC,
    /// Unsigned number.
    LowBC,
    /// Signed number in the high half.
    Imm(usize),
    /// Unsigned number: the whole word, its low half, its high half.
    Word(usize),
    Low(usize),
    High(usize),
    /// Offset of a memory access.
    OffsetC,
    OffsetBC,
    Offset(usize),
    /// Place of an object in the context: in `b` and `c`, in the low half, in the high half.
    PlaceBC,
    Place(usize),
    /// The global at byte offset eight times `c` of the context.
    GlobalC,
    FuncBC,
    FuncLow(usize),
    JumpBC,
    Jump(usize),
    /// The targets of `br_table`.
    Table,
    /// The catch clauses of `try`, two words each. The first holds the jump to the label and the slot of the first
    /// operand there; the second holds the tag, or all ones for any, and where the reference is put: 0 for nowhere,
    /// 1 after the payload, 2 before it.
    Clauses,
}

use Half::*;

static NAMES: OpTable<fn() -> String> = dispatch_table!(name_of);

fn name_of<H: Handler>() -> String {
    H::name()
}

/// The names of all instructions, by opcode.
#[cfg(all(test, tail_dispatch))]
pub(super) fn names() -> impl Iterator<Item = String> {
    NAMES.entries().iter().map(|name| name())
}

fn fields_of<H: Handler>() -> &'static [Field] {
    H::FIELDS
}

static FIELDS: OpTable<fn() -> &'static [Field]> = dispatch_table!(fields_of);

/// The operands of the instruction of an opcode.
pub(super) fn fields(op: u16) -> &'static [Field] {
    FIELDS.entries()[usize::from(op)]()
}

/// The number of words of an instruction, from its first word.
pub(super) fn length(first: u64) -> usize {
    fields(first as u16).iter().map(|field| field.words(first)).max().unwrap_or(1)
}

impl Field {
    /// The least number of words that an instruction with this field has.
    fn words(self, first: u64) -> usize {
        match self {
            Field::Imm(n)
            | Field::Word(n)
            | Field::Low(n)
            | Field::High(n)
            | Field::Offset(n)
            | Field::Place(n)
            | Field::FuncLow(n)
            | Field::Jump(n) => n + 1,
            Field::Table => 2 + (first >> 32) as usize,
            Field::Clauses => 1 + 2 * (first as u32 >> 16) as usize,
            _ => 1,
        }
    }

    fn print(self, out: &mut String, words: &[u64], at: usize) -> std::fmt::Result {
        let first = words[at];
        let half = |half: Half| (first >> (16 * (half as u32 + 1))) as u16;
        let bc = (first >> 32) as u32;
        let low = |n: usize| words[at + n] as u32;
        let high = |n: usize| (words[at + n] >> 32) as u32;
        let target = |n: usize, offset: u32| (at + n) as i64 + i64::from(offset as i32);
        let place = |place: u32| if place & 1 == 0 { format!("ctx+{place}") } else { format!("[ctx+{}]", place - 1) };
        match self {
            Field::Def(h) | Field::Slot(h) => write!(out, "s{}", half(h)),
            Field::ImmA => write!(out, "{}", half(A) as i16),
            Field::ImmB => write!(out, "{}", half(B) as i16),
            Field::ImmC => write!(out, "{}", half(C) as i16),
            Field::ImmBC => write!(out, "{}", bc as i32),
            Field::LowBC => write!(out, "{bc}"),
            Field::Imm(n) => write!(out, "{}", high(n) as i32),
            Field::Word(n) => write!(out, "{:#x}", words[at + n]),
            Field::Low(n) => write!(out, "{}", low(n)),
            Field::High(n) => write!(out, "{}", high(n)),
            Field::OffsetC => write!(out, "+{}", half(C)),
            Field::OffsetBC => write!(out, "+{bc}"),
            Field::Offset(n) => write!(out, "+{}", low(n)),
            Field::PlaceBC => out.write_str(&place(bc)),
            Field::Place(n) => out.write_str(&place(low(n))),
            Field::GlobalC => write!(out, "ctx+{}", 8 * u32::from(half(C))),
            Field::FuncBC => write!(out, "func {bc}"),
            Field::FuncLow(n) => write!(out, "func {}", low(n)),
            Field::JumpBC => write!(out, "-> {}", target(0, bc)),
            Field::Jump(n) => write!(out, "-> {}", target(n, low(n))),
            Field::Table => {
                out.write_str("->")?;
                (1..=bc as usize + 1).try_for_each(|n| write!(out, " {}", target(n, low(n))))
            }
            Field::Clauses => (1..=usize::from(half(A))).try_for_each(|i| {
                let n = 2 * i - 1;
                match low(n + 1) {
                    u32::MAX => out.write_str("catch_all")?,
                    tag => write!(out, "catch {tag}")?,
                }
                let reference = ["", " ref", " ref first"][high(n + 1) as usize % 3];
                write!(out, "{reference} s{} -> {}; ", high(n), target(n, low(n)))
            }),
        }
    }
}

/// The bytecode of a defined function: a line for the frame, then one for each instruction, which starts with the
/// number of its first word.
pub(crate) fn print_bytecode(module: &InterpretedModule, defined: u32) -> Result<String> {
    let (code, module) = (translate::function(&module.facts, defined, module.extras(), false)?, &module.facts);
    let mut out = String::new();
    let name = Printable::name(module.func_name(module.imported_funcs() + defined).unwrap_or(""));
    let ty = module.defined_type(defined);
    let _ = writeln!(out, "function {} {name} {ty}", module.imported_funcs() + defined);
    let _ = writeln!(out, "frame: {} slots, header at s{}, zeroed {:?}", code.frame, code.header, code.zeroed);
    let mut at = 0;
    while at < code.words.len() {
        let op = code.words[at] as u16;
        debug_assert!(usize::from(op) < OPS);
        let _ = write!(out, "{at:5}  {}", NAMES.entries()[usize::from(op)]());
        let mut separator = " ";
        for field in fields(op) {
            out.push_str(separator);
            let _ = field.print(&mut out, &code.words, at);
            separator = ", ";
        }
        out.push('\n');
        at += length(code.words[at]);
    }
    Ok(out)
}
