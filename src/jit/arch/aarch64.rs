//! AArch64, AAPCS64. `CallConv::Tail` passes arguments like AAPCS64 does, but leaves out x0 and x1: integers in x2 to
//! x7, floats and vectors in v0 to v7, the address of an area for results in x8, the rest on the stack.

use std::arch::naked_asm;
use std::ffi::c_void;
use std::mem::offset_of;

use super::super::Tier;
use super::super::resolver;
use super::super::traps::{self, Activation};
use super::{Comparison, Condition, Lengths, Target};
use crate::vm::context::{VMCode, VMContext, VMFuncRef};

/// The end of [`enter`] and [`landing`].
macro_rules! leave {
    () => {
        "ldp d8, d9, [sp, #96]
         ldp d10, d11, [sp, #112]
         ldp d12, d13, [sp, #128]
         ldp d14, d15, [sp, #144]
         ldp x19, x20, [sp, #16]
         ldp x21, x22, [sp, #32]
         ldp x23, x24, [sp, #48]
         ldp x25, x26, [sp, #64]
         ldp x27, x28, [sp, #80]
         ldp x29, x30, [sp], #160
         ret"
    };
}

/// Calls `trampoline(callee, caller, code, slots)`, a function of the convention of compiled code, so that [`landing`] can
/// end it; 0 if it returns, 1 if it lands. Its arguments are in x2 to x5, where they already are.
///
/// # Safety
/// The trampoline must be one for the type of `code`, and `slots` what it needs.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn enter(
    activation: *mut Activation,
    trampoline: *const VMCode,
    callee: *mut u8,
    caller: *mut VMContext,
    code: *const VMCode,
    slots: *mut u64,
) -> u32 {
    naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "mov x29, sp",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0, {sp}]",
        "str x29, [x0, {fp}]",
        "blr x1",
        "mov w0, #0",
        leave!(),
        sp = const offset_of!(Activation, sp),
        fp = const offset_of!(Activation, fp),
    )
}

/// Where the signal handler sends a thread that trapped, with the stack pointer that [`enter`] saved.
///
/// # Safety
/// Only to be jumped to like that.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn landing() {
    naked_asm!("mov w0, #1", leave!())
}

/// A resolver: all argument registers survive the call of `$resolve` with the two hidden arguments; `$after` corrects
/// the first one.
macro_rules! resolver {
    ($(#[$doc:meta])* $name:ident, $resolve:path, [$($after:literal)*] $(, $operand:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in super::super) unsafe extern "C" fn $name() {
            naked_asm!(
                "stp x29, x30, [sp, #-208]!",
                "mov x29, sp",
                "stp x2, x3, [sp, #16]",
                "stp x4, x5, [sp, #32]",
                "stp x6, x7, [sp, #48]",
                "str x8, [sp, #64]",
                "stp q0, q1, [sp, #80]",
                "stp q2, q3, [sp, #112]",
                "stp q4, q5, [sp, #144]",
                "stp q6, q7, [sp, #176]",
                "mov x0, x2",
                "mov x1, x3",
                "bl {resolve}",
                "mov x16, x0",
                "ldp x2, x3, [sp, #16]",
                "ldp x4, x5, [sp, #32]",
                "ldp x6, x7, [sp, #48]",
                "ldr x8, [sp, #64]",
                "ldp q0, q1, [sp, #80]",
                "ldp q2, q3, [sp, #112]",
                "ldp q4, q5, [sp, #144]",
                "ldp q6, q7, [sp, #176]",
                $($after,)*
                "ldp x29, x30, [sp], #208",
                "br x16",
                resolve = sym $resolve,
                $($operand = const VMFuncRef::CALLEE,)?
            )
        }
    };
}

resolver! {
    /// Entry of a function that is not compiled yet.
    resolve_entry, resolver::resolve, []
}

resolver! {
    /// Code of a `VMFuncRef` that has not been called yet.
    resolve_ref, resolver::resolve_ref, ["ldr x2, [x2, {callee}]"], callee
}

/// The area for results has a register of its own: nothing is different.
pub(in super::super) use resolve_entry as resolve_entry_area;
/// As above.
pub(in super::super) use resolve_ref as resolve_ref_area;
/// As above.
pub(in super::super) use through_entry as through_entry_area;

/// The code of references to functions that are not compiled as well as they can be: goes on where the function's entry
/// leads, as a call through the entry would. If that is the best code, the next call goes there directly.
///
/// # Safety
/// Only to be called by compiled code, in place of a function.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn through_entry() {
    naked_asm!(
        "ldr x9, [x2, {owner}]",
        "ldr w3, [x2, {index}]",
        "ldr x10, [x9, {tiers}]",
        "add x10, x10, x3",
        // The tier is read first, as it is written after the entry.
        "ldarb w10, [x10]",
        "ldr x11, [x9, {entries}]",
        "ldr x16, [x11, x3, lsl #3]",
        "cmp w10, {best}",
        "b.ne 2f",
        "str x16, [x2, {code}]",
        "str x9, [x2, {callee}]",
        "2:",
        "mov x2, x9",
        "br x16",
        owner = const VMFuncRef::OWNER,
        index = const VMFuncRef::INDEX,
        code = const VMFuncRef::CODE,
        callee = const VMFuncRef::CALLEE,
        tiers = const VMContext::TIERS,
        entries = const VMContext::ENTRIES,
        best = const Tier::Best as u8,
    )
}

/// A function of any type that raises what is in the store: goes on where [`find_target`](super::super::traps::find_target)
/// says, with the payload in the register of the first exception payload.
///
/// # Safety
/// Only to be called by compiled code, with an exception or an error in the store of the innermost activation.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn raise() {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "sub sp, sp, {size}",
        "mov x0, x29",
        "mov x1, sp",
        "bl {find_target}",
        "ldr x1, [sp, {pc}]",
        "ldr x0, [sp, {payload}]",
        "ldr x29, [sp, {fp}]",
        "ldr x2, [sp, {sp}]",
        "mov sp, x2",
        "br x1",
        size = const size_of::<Target>(),
        find_target = sym traps::find_target,
        pc = const offset_of!(Target, pc),
        sp = const offset_of!(Target, sp),
        fp = const offset_of!(Target, fp),
        payload = const offset_of!(Target, payload),
    )
}

/// What a thread's registers were when a signal came.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Registers {
    /// x0 to x30, then the stack pointer.
    general: [[u64; 8]; 4],
    pub pc: usize,
}

impl Registers {
    /// # Safety
    /// `context` must be what a signal handler got.
    pub unsafe fn read(context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let saved = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
        let register = |number: usize| if number == 31 { saved.sp } else { saved.regs[number] };
        let general = std::array::from_fn(|high| std::array::from_fn(|low| register(8 * high + low)));
        Registers { general, pc: saved.pc as usize }
    }

    fn get(&self, number: u32) -> u64 {
        let number = (number & 31) as usize;
        self.general[number / 8][number % 8]
    }

    pub fn fp(&self) -> usize {
        self.get(29) as usize
    }
}

/// Makes the interrupted thread go on elsewhere.
///
/// # Safety
/// `context` must be what a signal handler got, and the thread in a state where that makes sense.
pub(in super::super) unsafe fn redirect(context: *mut c_void, target: Target) {
    // SAFETY: the caller's promise.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    saved.pc = target.pc as u64;
    saved.sp = target.sp as u64;
    saved.regs[29] = target.fp as u64;
    saved.regs[0] = target.payload as u64;
}

fn sign_extend(value: u32, bits: u32) -> i64 {
    i64::from((value << (32 - bits)) as i32 >> (32 - bits))
}

/// The address of the memory operand of the load or store that `code` starts with.
pub(in super::super) fn memory_operand(code: &[u8], registers: &Registers) -> Option<u64> {
    let word = u32::from_le_bytes(*code.first_chunk()?);
    let base = registers.get(word >> 5);
    let vector = word >> 26 & 1 == 1;
    // Size of the access as a power of two: 128-bit vectors are told by the operation.
    let size = if vector && word >> 23 & 1 == 1 { 4 } else { word >> 30 };
    match word >> 24 & 0x3B {
        // Register, unsigned scaled offset.
        0x39 => Some(base.wrapping_add(u64::from(word >> 10 & 0xFFF) << size)),
        0x38 if word >> 21 & 1 == 1 && word >> 10 & 3 == 2 => {
            let index = registers.get(word >> 16);
            let index = match word >> 13 & 7 {
                2 => index & 0xFFFF_FFFF,
                6 => i64::from(index as i32) as u64,
                _ => index,
            };
            let shift = if word >> 12 & 1 == 1 { size } else { 0 };
            Some(base.wrapping_add(index << shift))
        }
        // Register, unscaled offset.
        0x38 if word >> 21 & 1 == 0 && word >> 10 & 3 == 0 => {
            Some(base.wrapping_add_signed(sign_extend(word >> 12 & 0x1FF, 9)))
        }
        // Pair.
        0x29 | 0x28 => {
            let size = if vector { 2 + (word >> 30) } else { 2 + (word >> 31) };
            Some(base.wrapping_add_signed(sign_extend(word >> 15 & 0x7F, 7) << size))
        }
        // Vector structures and exclusives have no offset.
        0x08 | 0x09 => Some(base),
        _ => None,
    }
}

/// Whether a faulting instruction loads a byte: for a store that means it was there only to try the last byte.
pub(in super::super) fn is_probe(code: &[u8]) -> bool {
    let word = code.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    matches!(word >> 24, 0x38 | 0x39) && word >> 22 & 3 == 1
}

/// Finds the comparison whose jump leads to the trap at offset `site` of a function; `explain` says whether it is one
/// that makes sense.
pub(in super::super) fn failed_check<R>(
    function: &[u8],
    site: usize,
    registers: &Registers,
    _: &Lengths,
    explain: impl Fn(Comparison) -> Option<R>,
) -> Option<R> {
    let word = |at: usize| function.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    // Far jumps go by a veneer, an unconditional jump.
    let reaches = |target: usize| {
        target == site
            || word(target).is_some_and(|word| {
                word >> 26 == 5 && target as i64 + 4 * sign_extend(word & 0x3FF_FFFF, 26) == site as i64
            })
    };
    (4..site).step_by(4).find_map(|at| {
        let jump = word(at)?;
        // `b.cond`, or `cbz`: no unsigned number is less than zero, so compilers compare for equality with it.
        let is_zero_test = matches!(jump >> 24, 0x34 | 0xB4);
        if !is_zero_test && (jump >> 24 != 0x54 || jump & 0x10 != 0) {
            return None;
        }
        let target = at as i64 + 4 * sign_extend(jump >> 5 & 0x7_FFFF, 19);
        if !reaches(usize::try_from(target).ok()?) {
            return None;
        }
        if is_zero_test {
            let value = registers.get(jump);
            let value = if jump >> 31 == 1 { value } else { value & 0xFFFF_FFFF };
            return explain(Condition::BelowOrEqual.between(value, 0));
        }
        let condition = match jump & 15 {
            2 => Condition::AboveOrEqual,
            3 => Condition::Below,
            8 => Condition::Above,
            9 => Condition::BelowOrEqual,
            _ => return None,
        };
        let (left, right) = comparison(word(at - 4)?, registers)?;
        explain(condition.between(left, right))
    })
}

/// The operands of a `cmp`.
fn comparison(word: u32, registers: &Registers) -> Option<(u64, u64)> {
    // The result of the subtraction goes nowhere.
    if word & 31 != 31 {
        return None;
    }
    let wide = word >> 31 == 1;
    let narrow = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
    let register = |number: u32| if number & 31 == 31 { 0 } else { registers.get(number) };
    let left = register(word >> 5);
    let second = register(word >> 16);
    let right = match word >> 21 & 0x3FF {
        // Shifted left, extended, immediate.
        0x358 => second << (word >> 10 & 63),
        0x359 => {
            let extended = match word >> 13 & 7 {
                2 => second & 0xFFFF_FFFF,
                3 | 7 => second,
                6 => i64::from(second as i32) as u64,
                _ => return None,
            };
            extended << (word >> 10 & 7)
        }
        0x388 | 0x389 => u64::from(word >> 10 & 0xFFF),
        0x38A | 0x38B => u64::from(word >> 10 & 0xFFF) << 12,
        _ => return None,
    };
    Some((narrow(left), narrow(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        let general = std::array::from_fn(|high| std::array::from_fn(|low| 0x100 * (8 * high + low) as u64));
        Registers { general, pc: 0 }
    }

    #[test]
    fn memory_operands_are_decoded() {
        let cases: [(u32, Option<u64>); 9] = [
            (0xB9400441, Some(0x204)),         // ldr w1, [x2, #4]
            (0xF8636841, Some(0x500)),         // ldr x1, [x2, x3]
            (0xB8637841, Some(0x200 + 0xC00)), // ldr w1, [x2, x3, lsl #2]
            (0xF8634841, Some(0x500)),         // ldr x1, [x2, w3, uxtw]
            (0xF81F8041, Some(0x1F8)),         // stur x1, [x2, #-8]
            (0x3DC00441, Some(0x210)),         // ldr q1, [x2, #16]
            (0xA9410C41, Some(0x210)),         // ldp x1, x3, [x2, #16]
            (0x4D40C041, Some(0x200)),         // ld1r {v1.16b}, [x2]
            (0x8B030041, None),                // add x1, x2, x3
        ];
        for (word, address) in cases {
            assert_eq!(memory_operand(&word.to_le_bytes(), &registers()), address, "{word:x}");
        }
    }

    #[test]
    fn failed_checks_are_decoded() {
        let check = |compare: u32, condition: u32, veneer: bool| {
            // compare, jump to offset 16; there the trap, or a jump to it
            let words = [compare, 0x5400_0060 ^ condition, 0xD503_201F, 0xD503_201F];
            let tail: &[u32] = if veneer { &[0x1400_0001, 0xC11F] } else { &[0xC11F] };
            let words = [&words, tail].concat();
            let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let explain = |c: Comparison| Some((c.left, c.right, c.or_equal));
            failed_check(&code, code.len() - 4, &registers(), &Lengths(vec![]), explain)
        };
        for veneer in [false, true] {
            // cmp x7, x8; b.hs — cmp x8, x7; b.ls — cmp x7, x8; b.hi — cmp x8, w7, uxtw; b.lo
            assert_eq!(check(0xEB0800FF, 2, veneer), Some((0x700, 0x800, true)));
            assert_eq!(check(0xEB07011F, 9, veneer), Some((0x700, 0x800, true)));
            assert_eq!(check(0xEB0800FF, 8, veneer), Some((0x700, 0x800, false)));
            assert_eq!(check(0xEB27411F, 3, veneer), Some((0x700, 0x800, false)));
            // cmp x7, #0x800; b.hs — cmp x7, x8; b.eq — sub x1, x7, x8; b.hs — cbz x3
            assert_eq!(check(0xF12000FF, 2, veneer), Some((0x700, 0x800, true)));
            assert_eq!(check(0xD503_201F, 0xE000_0003, veneer), Some((0, 0x300, true)));
            assert_eq!(check(0xEB0800FF, 0, veneer), None);
            assert_eq!(check(0xCB0800E1, 2, veneer), None);
        }
    }

    #[test]
    fn probes_are_byte_loads() {
        // ldrb w1, [x2, #7]; ldrb w1, [x2, x3]; str x1, [x2]; ldr w1, [x2, #4]
        let probe = |word: u32| is_probe(&word.to_le_bytes());
        assert!(probe(0x39401C41) && probe(0x38636841));
        assert!(!probe(0xF9000041) && !probe(0xB9400441));
    }
}
