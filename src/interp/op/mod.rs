//! The bytecode's instructions. Opcodes, dispatch tables and printing derive from the one [`list`], and so does the translation
//! of instructions that are one of WebAssembly's; these have wasmparser's names.
//!
//! An instruction is one 64-bit word, lowest bits first: `op: u16, a: u16, b: u16, c: u16`, followed by extension words
//! where its form needs them. Unless said otherwise `a` is the slot of the result. A *form* says where the operands are:
//!
//! | form | operands |
//! |---|---|
//! | `ss` | two slots, `b` and `c` |
//! | `as`, `sa` | one operand from the accumulator (see [`Machine`](super::machine::Machine)), one from slot `c`, `b` |
//! | `si`, `ai` | the second operand is the sign-extended `c`, or `b` and `c` together |
//! | `sk`, `ks` | one operand is the extension word |
//!
//! An instruction printed with `!` leaves its result only in the accumulator, from where the next instruction takes it.
//!
//! Jump offsets count words from the word they are in, and all other references are indices and offsets of the module. So
//! bytecode can lie anywhere.

mod compare;
#[cfg(baseline)]
mod decode;
mod list;

use std::mem::offset_of;

use super::value::{Bank, SlotValue};
use crate::numeric::simd::V128;

#[cfg(baseline)]
pub(in crate::interp) use decode::Inst;
pub(in crate::interp) use list::for_each_op;

/// Numbers of forms. Each of these forms has two opcodes: one whose result is written to a slot and the accumulator, and, as many
/// opcodes further as there are forms, one whose result is only left in the accumulator.
const BINARY_FORMS: usize = 7;
const UNARY_FORMS: usize = 2;
const LOAD_FORMS: usize = 7;

/// The forms in the order of the opcodes. Comparisons have the first six.
const FORMS: [Form; BINARY_FORMS] = [Form::SS, Form::AS, Form::SA, Form::SI, Form::AI, Form::SK, Form::KS];

/// The forms of loads in the order of the opcodes. `LoadForm::Any` comes after them and has one opcode only.
const LOADS: [LoadForm; LOAD_FORMS] = [
    LoadForm::Slot,
    LoadForm::Acc,
    LoadForm::Const,
    LoadForm::Plus,
    LoadForm::Index,
    LoadForm::Deref,
    LoadForm::AccDeref,
];

/// For an opcode that writes a slot: the one that leaves the same result only in the accumulator, if there is one.
pub(in crate::interp) fn kept(op: u16) -> Option<u16> {
    let within = |base: u16, count: usize| op.checked_sub(base).filter(|i| usize::from(*i) < count).map(usize::from);
    let variant = |index: usize, forms: usize, row: usize| (index % row < forms).then_some(op + forms as u16);
    if let Some(i) = within(Binary::BASE, Binary::COUNT * 2 * BINARY_FORMS) {
        variant(i, BINARY_FORMS, 2 * BINARY_FORMS)
    } else if let Some(i) = within(Unary::BASE, Unary::COUNT * 2 * UNARY_FORMS) {
        variant(i, UNARY_FORMS, 2 * UNARY_FORMS)
    } else if let Some(i) = within(Load::BASE, Load::COUNT * (2 * LOAD_FORMS + 1)) {
        variant(i, LOAD_FORMS, 2 * LOAD_FORMS + 1)
    } else {
        None
    }
}

/// An entry for every opcode, in the order of the opcodes. Classes with forms have a row for each instruction.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in crate::interp) struct OpTable<T> {
    pub plain: [T; Plain::COUNT],
    pub compare: [[T; 6]; Compare::COUNT],
    pub branch: [[T; 6]; Compare::COUNT],
    pub step: [[T; 2]; Compare::I64Eq as usize],
    pub binary: [[T; 2 * BINARY_FORMS]; Binary::COUNT],
    pub unary: [[T; 2 * UNARY_FORMS]; Unary::COUNT],
    pub load: [[T; 2 * LOAD_FORMS + 1]; Load::COUNT],
    pub store: [[T; 7]; Store::COUNT],
    pub atomic_load: [T; AtomicLoad::COUNT],
    pub atomic_store: [T; AtomicStore::COUNT],
    pub atomic_rmw: [T; AtomicRmw::COUNT],
    pub atomic_cmpxchg: [T; AtomicCmpxchg::COUNT],
    pub load_lane: [T; LoadLane::COUNT],
    pub store_lane: [T; StoreLane::COUNT],
    pub splat: [T; Splat::COUNT],
    pub extract: [T; Extract::COUNT],
    pub replace: [T; Replace::COUNT],
    pub vector_binary: [T; VectorBinary::COUNT],
    pub vector_unary: [T; VectorUnary::COUNT],
    pub vector_ternary: [T; VectorTernary::COUNT],
    pub vector_swizzle: [T; VectorSwizzle::COUNT],
    pub vector_fused: [T; VectorFused::COUNT],
    pub vector_shift: [T; VectorShift::COUNT],
    pub vector_test: [T; VectorTest::COUNT],
}

/// Number of opcodes.
pub(in crate::interp) const OPS: usize = size_of::<OpTable<u8>>();
const _: () = assert!(OPS <= u16::MAX as usize);

impl<T> OpTable<T> {
    /// The entries by opcode.
    pub const fn entries(&self) -> &[T; OPS] {
        // SAFETY: `repr(C)` of arrays of one type is an array of as many, and a `OpTable<u8>` is `OPS` bytes.
        unsafe { &*(&raw const *self).cast() }
    }
}

/// Where the two operands of an instruction are; see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::interp) enum Form {
    SS,
    AS,
    SA,
    SI,
    AI,
    SK,
    KS,
}

/// Where the address of a load comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::interp) enum LoadForm {
    /// Slot `b` plus offset `c`.
    Slot,
    /// The accumulator plus offset `b, c`.
    Acc,
    /// The constant `b, c`.
    Const,
    /// The wrapping sum of slot `b` and the sign-extended `c`.
    Plus,
    /// The wrapping sum of slot `b` and slot `c` shifted left by the high half of the extension word, plus the offset in the
    /// low half.
    Index,
    /// The `i32` in memory at slot `b` plus offset `c`, plus the offset in the extension word.
    Deref,
    /// The `i32` in memory at the accumulator plus offset `b, c`, plus the offset in the extension word.
    AccDeref,
    /// Slot `b` plus the offset in the low half of the extension word; the high half is the place of any memory.
    Any = 2 * LOAD_FORMS as u16,
}

/// Where the address and the value of a store come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::interp) enum StoreForm {
    /// Slot `a` plus offset `c`; slot `b`.
    Slots,
    /// The accumulator plus offset `b, c`; slot `a`.
    AddrAcc,
    /// Slot `a` plus offset `b, c`; the accumulator.
    ValueAcc,
    /// Slot `a` plus offset `c`; the sign-extended `b`.
    Imm,
    /// The accumulator plus offset `b, c`; the sign-extended `a`.
    AccImm,
    /// The constant `b, c`; slot `a`.
    Const,
    /// Slot `a` plus the offset in the first extension word; the second is the place of any memory; slot `b`. All have 64 bits.
    Any,
}

macro_rules! class {
    ($(#[$doc:meta])* $class:ident $field:ident: $($name:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(clippy::enum_variant_names, reason = "the names are those of WebAssembly's instructions")]
        pub(in crate::interp) enum $class {
            $($name,)*
        }

        impl $class {
            pub const COUNT: usize = [$($class::$name),*].len();
            #[allow(dead_code, reason = "not all are found by their number")]
            const ALL: [$class; Self::COUNT] = [$($class::$name),*];
            const BASE: u16 = offset_of!(OpTable<u8>, $field) as u16;
        }
    };
}

macro_rules! define {
    (
        plain { $($(#[$plain_doc:meta])* $plain:ident: $plain_fields:tt,)* }
        compare { $($compare:ident($($c:tt)*) $compare_body:tt)* }
        tested { $($negated:ident($($n:tt)*) $negated_body:tt)* }
        binary { $($binary:ident($ba:ident, $bb:ident: $bt:ident) $comm:ident $binary_body:tt)* }
        unary { $($unary:ident($($u:tt)*) -> $unary_out:ident $unary_body:tt)* }
        load { $($load:ident($($l:tt)*) -> $load_out:ident $load_body:tt)* }
        store { $($store:ident($sx:ident: $store_in:ident) -> $store_mem:ident $store_body:tt)* }
        atomic_load { $($al:ident $al_unit:ident;)* }
        atomic_store { $($as:ident $as_unit:ident;)* }
        atomic_rmw { $($ar:ident $ar_fn:ident $ar_unit:ident;)* }
        atomic_cmpxchg { $($ac:ident $ac_unit:ident;)* }
        load_lane { $($load_lane:ident($($ll:tt)*) $ll_body:tt)* }
        store_lane { $($store_lane:ident($($sl:tt)*) -> $sl_mem:ident $sl_body:tt)* }
        splat { $($splat:ident $splat_fn:ident $splat_ty:ident;)* }
        extract { $($extract:ident $extract_fn:ident $extract_ty:ident;)* }
        replace { $($replace:ident $replace_fn:ident $replace_ty:ident;)* }
        vector_binary { $($vb:ident $vb_fn:ident;)* }
        vector_unary { $($vu:ident $vu_fn:ident;)* }
        vector_ternary { $($vt:ident $vt_fn:ident;)* }
        vector_swizzle { $($vz:ident $vz_fn:ident;)* }
        vector_fused { $($vf:ident $vf_fn:ident;)* }
        vector_shift { $($vs:ident $vs_fn:ident;)* }
        vector_test { $($vx:ident $vx_fn:ident;)* }
    ) => {
        class! {
            /// Instructions with handlers of their own.
            Plain plain: $($plain)*
        }
        class! { Compare compare: $($compare)* $($negated)* }
        class! { Binary binary: $($binary)* }
        class! { Unary unary: $($unary)* }
        class! { Load load: $($load)* }
        class! { Store store: $($store)* }
        class! { AtomicLoad atomic_load: $($al)* }
        class! { AtomicStore atomic_store: $($as)* }
        class! { AtomicRmw atomic_rmw: $($ar)* }
        class! { AtomicCmpxchg atomic_cmpxchg: $($ac)* }
        class! { LoadLane load_lane: $($load_lane)* }
        class! { StoreLane store_lane: $($store_lane)* }
        class! { Splat splat: $($splat)* }
        class! { Extract extract: $($extract)* }
        class! { Replace replace: $($replace)* }
        class! { VectorBinary vector_binary: $($vb)* }
        class! { VectorUnary vector_unary: $($vu)* }
        class! { VectorTernary vector_ternary: $($vt)* }
        class! { VectorSwizzle vector_swizzle: $($vz)* }
        class! { VectorFused vector_fused: $($vf)* }
        class! { VectorShift vector_shift: $($vs)* }
        class! { VectorTest vector_test: $($vx)* }

        impl Binary {
            /// Bank of operands and result, and whether the operands may be swapped.
            pub fn facts(self) -> (Bank, bool) {
                const FACTS: [(Bank, bool); Binary::COUNT] = [$((<$bt as SlotValue>::BANK, $comm)),*];
                FACTS[self as usize]
            }
        }

        impl Unary {
            /// Banks of the operand and the result.
            pub fn banks(self) -> (Bank, Bank) {
                const BANKS: [(Bank, Bank); Unary::COUNT] = [$((unary_bank!($($u)*), <$unary_out as SlotValue>::BANK)),*];
                BANKS[self as usize]
            }
        }

        impl Load {
            /// Bank of the result.
            pub fn bank(self) -> Bank {
                const BANKS: [Bank; Load::COUNT] = [$(<$load_out as SlotValue>::BANK),*];
                BANKS[self as usize]
            }
        }

        impl Store {
            /// Bank of the value.
            pub fn bank(self) -> Bank {
                const BANKS: [Bank; Store::COUNT] = [$(<$store_in as SlotValue>::BANK),*];
                BANKS[self as usize]
            }
        }

        impl Extract {
            /// Bank of the result.
            pub fn bank(self) -> Bank {
                const BANKS: [Bank; Extract::COUNT] = [$(<$extract_ty as SlotValue>::BANK),*];
                BANKS[self as usize]
            }
        }
    };
}

macro_rules! unary_bank {
    ($a:ident: $ty:ident) => {
        <$ty as SlotValue>::BANK
    };
}

for_each_op!(define);

impl Plain {
    pub const fn op(self) -> u16 {
        Self::BASE + self as u16
    }
}

impl Compare {
    pub const fn op(self, form: Form) -> u16 {
        Self::BASE + self as u16 * 6 + form as u16
    }

    /// The opcode of the branch taken where the comparison holds.
    pub const fn branch_op(self, form: Form) -> u16 {
        offset_of!(OpTable<u8>, branch) as u16 + self as u16 * 6 + form as u16
    }

    /// The opcode that adds a number to a slot and branches where the comparison of the sum with an immediate (`true`) or
    /// a slot holds; for comparisons of `i32`.
    pub fn step_op(self, imm: bool) -> Option<u16> {
        self.is_32().then_some(offset_of!(OpTable<u8>, step) as u16 + self as u16 * 2 + u16::from(imm))
    }

    /// The comparison and form of an opcode that is one.
    pub fn from_op(op: u16) -> Option<(Compare, Form)> {
        let index = op.checked_sub(Self::BASE)?;
        Some((*Self::ALL.get(index as usize / 6)?, FORMS[index as usize % 6]))
    }
}

impl Binary {
    /// Whether the operands are `i32`.
    pub fn is_32(self) -> bool {
        (self as u16) < Binary::I64Add as u16
    }
}

macro_rules! formed {
    ($($class:ident[$form:ident] $forms:expr;)*) => {
        $(impl $class {
            pub const fn op(self, form: $form) -> u16 {
                Self::BASE + self as u16 * ($forms) + form as u16
            }
        })*
    };
}

formed! {
    Binary[Form] 2 * BINARY_FORMS as u16;
    Load[LoadForm] 2 * LOAD_FORMS as u16 + 1;
    Store[StoreForm] 7;
}

impl Unary {
    /// The opcode, with the operand in slot `b` or in the accumulator.
    pub const fn op(self, acc: bool) -> u16 {
        Self::BASE + self as u16 * 2 * UNARY_FORMS as u16 + acc as u16
    }
}

impl Load {
    /// The form of an opcode of this load that writes a slot.
    pub fn form(self, op: u16) -> Option<LoadForm> {
        let index = op.checked_sub(self.op(LoadForm::Slot))?;
        LOADS.get(usize::from(index)).copied()
    }
}

impl Binary {
    /// The form of an opcode of this instruction, and whether it writes a slot.
    pub fn form(self, op: u16) -> Option<(Form, bool)> {
        let index = usize::from(op.checked_sub(self.op(Form::SS))?);
        (index < 2 * BINARY_FORMS).then_some((FORMS[index % BINARY_FORMS], index < BINARY_FORMS))
    }
}

macro_rules! simple {
    ($($class:ident)*) => {
        $(impl $class {
            pub const fn op(self) -> u16 {
                Self::BASE + self as u16
            }
        })*
    };
}

simple! {
    AtomicLoad AtomicStore AtomicRmw AtomicCmpxchg LoadLane StoreLane Splat Extract Replace VectorBinary VectorUnary VectorTernary
    VectorSwizzle VectorFused VectorShift VectorTest
}

/// The word of an instruction.
#[inline(always)]
pub(in crate::interp) const fn word(op: u16, a: u16, b: u16, c: u16) -> u64 {
    op as u64 | (a as u64) << 16 | (b as u64) << 32 | (c as u64) << 48
}

/// The word of an instruction whose `b` and `c` are one number.
#[inline(always)]
pub(in crate::interp) const fn word_bc(op: u16, a: u16, bc: u32) -> u64 {
    op as u64 | (a as u64) << 16 | (bc as u64) << 32
}
