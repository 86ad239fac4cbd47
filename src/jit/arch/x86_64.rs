//! x86-64, System V. `CallConv::Tail` passes arguments like System V does: integers in rdi, rsi, rdx, rcx, r8, r9,
//! floats and vectors in xmm0 to xmm7, the rest on the stack.

use std::arch::naked_asm;
use std::ffi::c_void;
use std::mem::offset_of;
use std::ops::Range;

use super::super::Tier;
use super::super::resolver;
use super::super::traps::{self, Activation};
use super::{Comparison, Condition, Lengths, Target};
use crate::vm::context::{VMCode, VMContext, VMFuncRef};

/// Calls `trampoline(callee, caller, code, slots)`, a function of the convention of compiled code, so that [`landing`] can
/// end it; 0 if it returns, 1 if it lands.
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
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi + {sp}], rsp",
        "mov [rdi + {fp}], rbp",
        "mov rax, rsi",
        "mov rdi, rdx",
        "mov rsi, rcx",
        "mov rdx, r8",
        "mov rcx, r9",
        "call rax",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
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
    naked_asm!("mov eax, 1", "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret",)
}

/// A resolver: all argument registers survive the call of `$resolve` with the two hidden arguments, `$before` puts
/// these into place, `$after` corrects the first one.
macro_rules! resolver {
    ($(#[$doc:meta])* $name:ident, $resolve:path, [$($before:literal)*], [$($after:literal)*] $(, $operand:ident)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in super::super) unsafe extern "C" fn $name() {
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "sub rsp, 176",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "movaps [rsp + 48], xmm0",
                "movaps [rsp + 64], xmm1",
                "movaps [rsp + 80], xmm2",
                "movaps [rsp + 96], xmm3",
                "movaps [rsp + 112], xmm4",
                "movaps [rsp + 128], xmm5",
                "movaps [rsp + 144], xmm6",
                "movaps [rsp + 160], xmm7",
                $($before,)*
                "call {resolve}",
                "mov r11, rax",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8, [rsp + 32]",
                "mov r9, [rsp + 40]",
                "movaps xmm0, [rsp + 48]",
                "movaps xmm1, [rsp + 64]",
                "movaps xmm2, [rsp + 80]",
                "movaps xmm3, [rsp + 96]",
                "movaps xmm4, [rsp + 112]",
                "movaps xmm5, [rsp + 128]",
                "movaps xmm6, [rsp + 144]",
                "movaps xmm7, [rsp + 160]",
                $($after,)*
                "mov rsp, rbp",
                "pop rbp",
                "jmp r11",
                resolve = sym $resolve,
                $($operand = const VMFuncRef::CALLEE,)?
            )
        }
    };
}

resolver! {
    /// Entry of a function that is not compiled yet.
    resolve_entry, resolver::resolve, [], []
}

resolver! {
    /// [`resolve_entry`] for functions that get the address of an area for results first.
    resolve_entry_area, resolver::resolve, ["mov rdi, rsi" "mov rsi, rdx"], []
}

resolver! {
    /// Code of a `VMFuncRef` that has not been called yet.
    resolve_ref, resolver::resolve_ref, [], ["mov rdi, [rdi + {callee}]"], callee
}

resolver! {
    /// [`resolve_ref`] for functions that get the address of an area for results first.
    resolve_ref_area, resolver::resolve_ref, ["mov rdi, rsi" "mov rsi, rdx"], ["mov rsi, [rsi + {callee}]"], callee
}

/// The code of references to functions that are not compiled as well as they can be: goes on where the function's entry
/// leads, as a call through the entry would. If that is the best code, the next call goes there directly.
macro_rules! through_entry {
    ($(#[$doc:meta])* $name:ident, $reference:literal, $index:literal, $index32:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only to be called by compiled code, in place of a function.
        #[unsafe(naked)]
        pub(in super::super) unsafe extern "C" fn $name() {
            naked_asm!(
                concat!("mov r11, [", $reference, " + {owner}]"),
                concat!("mov ", $index32, ", [", $reference, " + {index}]"),
                "mov r10, [r11 + {tiers}]",
                "mov rax, [r11 + {entries}]",
                // The tier is read first, as it is written after the entry.
                concat!("cmp byte ptr [r10 + ", $index, "], {best}"),
                concat!("mov rax, [rax + 8 * ", $index, "]"),
                "jne 2f",
                concat!("mov [", $reference, " + {code}], rax"),
                concat!("mov [", $reference, " + {callee}], r11"),
                "2:",
                concat!("mov ", $reference, ", r11"),
                "jmp rax",
                owner = const VMFuncRef::OWNER,
                index = const VMFuncRef::INDEX,
                code = const VMFuncRef::CODE,
                callee = const VMFuncRef::CALLEE,
                tiers = const VMContext::TIERS,
                entries = const VMContext::ENTRIES,
                best = const Tier::Best as u8,
            )
        }
    };
}

through_entry! {
    /// For functions of most types.
    through_entry, "rdi", "rsi", "esi"
}

through_entry! {
    /// For functions that get the address of an area for results first.
    through_entry_area, "rsi", "rdx", "edx"
}

/// A function of any type that raises what is in the store: goes on where [`find_target`](super::super::traps::find_target)
/// says, with the payload in the register of the first exception payload.
///
/// # Safety
/// Only to be called by compiled code, with an exception or an error in the store of the innermost activation.
#[unsafe(naked)]
pub(in super::super) unsafe extern "C" fn raise() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, {size}",
        "mov rdi, rbp",
        "mov rsi, rsp",
        "call {find_target}",
        "mov rcx, [rsp + {pc}]",
        "mov rax, [rsp + {payload}]",
        "mov rbp, [rsp + {fp}]",
        "mov rsp, [rsp + {sp}]",
        "jmp rcx",
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
    /// In the order of their numbers in machine code: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    general: [u64; 16],
    pub pc: usize,
}

impl Registers {
    /// # Safety
    /// `context` must be what a signal handler got.
    pub unsafe fn read(context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let saved = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let order = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        let general = order.map(|register| saved[register as usize] as u64);
        Registers { general, pc: saved[libc::REG_RIP as usize] as usize }
    }

    pub fn fp(&self) -> usize {
        self.general[5] as usize
    }
}

/// Makes the interrupted thread go on elsewhere.
///
/// # Safety
/// `context` must be what a signal handler got, and the thread in a state where that makes sense.
pub(in super::super) unsafe fn redirect(context: *mut c_void, target: Target) {
    // SAFETY: the caller's promise.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    saved[libc::REG_RIP as usize] = target.pc as i64;
    saved[libc::REG_RSP as usize] = target.sp as i64;
    saved[libc::REG_RBP as usize] = target.fp as i64;
    saved[libc::REG_RAX as usize] = target.payload as i64;
}

/// The operands of a ModRM byte.
struct ModRm {
    register: u64,
    /// Value of the register operand or address of the memory operand.
    operand: u64,
    is_memory: bool,
    length: usize,
}

/// Decodes ModRM, SIB and displacement. `extension` holds the R, X and B bits as in a REX prefix; `scale` is what an
/// 8-bit displacement is multiplied with (1, but for EVEX).
fn mod_rm(code: &[u8], extension: u8, scale: i64, registers: &Registers) -> Option<ModRm> {
    let general = |low: u8, bit: u8| registers.general[usize::from(low | (extension >> bit & 1) << 3)];
    let byte = *code.first()?;
    let (mode, register, rm) = (byte >> 6, general(byte >> 3 & 7, 2), byte & 7);
    if mode == 3 {
        return Some(ModRm { register, operand: general(rm, 0), is_memory: false, length: 1 });
    }
    let mut length = 1;
    let mut no_base = mode == 0 && rm == 5;
    let mut address = 0;
    if rm == 4 {
        let sib = *code.get(1)?;
        length = 2;
        let has_index = (sib >> 3 & 7) | (extension >> 1 & 1) << 3 != 4;
        if has_index {
            address = general(sib >> 3 & 7, 1) << (sib >> 6);
        }
        no_base = mode == 0 && sib & 7 == 5;
        if !no_base {
            address = address.wrapping_add(general(sib & 7, 0));
        }
    } else if no_base {
        // Relative to the end of the instruction: a constant, nothing of a memory's.
        return None;
    } else {
        address = general(rm, 0);
    }
    let displacement = match mode {
        1 => {
            length += 1;
            i64::from(*code.get(length - 1)? as i8) * scale
        }
        2 => displacement(code, &mut length)?,
        _ if no_base => displacement(code, &mut length)?,
        _ => 0,
    };
    let operand = address.wrapping_add_signed(displacement);
    Some(ModRm { register, operand, is_memory: true, length })
}

fn displacement(code: &[u8], length: &mut usize) -> Option<i64> {
    let bytes = code.get(*length..*length + 4)?.first_chunk()?;
    *length += 4;
    Some(i64::from(i32::from_le_bytes(*bytes)))
}

/// The address of the memory operand of the instruction that `code` starts with; `None` if it has no such operand or
/// one whose address does not depend on registers alone.
pub(in super::super) fn memory_operand(code: &[u8], registers: &Registers) -> Option<u64> {
    let mut at = code.iter().position(|byte| !matches!(byte, 0x66 | 0xF0 | 0xF2 | 0xF3))?;
    let (mut extension, mut scale) = (0, 1);
    match *code.get(at)? {
        // Three-byte VEX: inverted R, X, B before the map; then one byte, opcode, ModRM.
        0xC4 => {
            extension = !*code.get(at + 1)? >> 5;
            at += 4;
        }
        // Two-byte VEX: inverted R.
        0xC5 => {
            extension = (!*code.get(at + 1)? >> 7) << 2;
            at += 3;
        }
        // EVEX: displacements are in units of the operand's size, which for full vectors is their length.
        0x62 => {
            extension = !*code.get(at + 1)? >> 5;
            scale = 16 << (*code.get(at + 3)? >> 5 & 3);
            at += 5;
        }
        byte => {
            if byte & 0xF0 == 0x40 {
                extension = byte;
                at += 1;
            }
            at += match code.get(at..at + 2)? {
                [0x0F, 0x38 | 0x3A] => 3,
                [0x0F, _] => 2,
                _ => 1,
            };
        }
    }
    let decoded = mod_rm(code.get(at..)?, extension, scale, registers)?;
    decoded.is_memory.then_some(decoded.operand)
}

/// Whether a faulting instruction was there only to try the last byte of a store: never, stores do not tear.
pub(in super::super) fn is_probe(_: &[u8]) -> bool {
    false
}

/// Finds the comparison whose jump leads to the trap at offset `site` of a function; `explain` says whether it is one
/// that makes sense.
pub(in super::super) fn failed_check<R>(
    function: &[u8],
    site: usize,
    registers: &Registers,
    lengths: &Lengths,
    explain: impl Fn(Comparison) -> Option<R>,
) -> Option<R> {
    // The trap follows the function's code, so jumps to it go forward: 0F 8x and a distance.
    (2..site.min(function.len()).saturating_sub(5)).find_map(|at| {
        let jump = function[at..].first_chunk::<6>()?;
        let [0x0F, condition @ 0x80..=0x8F, distance @ ..] = jump else { return None };
        if i64::from(i32::from_le_bytes(*distance)) != site as i64 - (at as i64 + 6) {
            return None;
        }
        let condition = match condition & 15 {
            2 => Condition::Below,
            3 => Condition::AboveOrEqual,
            // No unsigned number is less than zero, so compilers compare for equality with it.
            4 => Condition::BelowOrEqual,
            6 => Condition::BelowOrEqual,
            7 => Condition::Above,
            _ => return None,
        };
        // The comparison ends where the jump starts; instructions can't be read backwards, so try all lengths.
        (2..=12.min(at)).rev().find_map(|length| {
            let (left, right) = comparison(function, at - length..at, registers, lengths)?;
            explain(condition.between(left, right))
        })
    })
}

/// The operands of the `cmp` that `range` of a function exactly is, or of the `test` that compares with zero; one in
/// memory must be a length, or a constant behind the function's code.
fn comparison(function: &[u8], range: Range<usize>, registers: &Registers, lengths: &Lengths) -> Option<(u64, u64)> {
    let (extension, rest) = match &function[range.clone()] {
        [rex @ 0x40..=0x4F, rest @ ..] => (*rex, rest),
        rest => (0, rest),
    };
    let (opcode, rest) = rest.split_first()?;
    let wide = extension & 8 != 0;
    let narrow = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
    let immediate = match opcode {
        // The short form for rax.
        0x3D if rest.len() == 4 => {
            let value = i64::from(i32::from_le_bytes(*rest.first_chunk()?)) as u64;
            return Some((narrow(registers.general[0]), narrow(value)));
        }
        0x3B if rest.len() == 5 && rest[0] & 0xC7 == 5 => {
            let constant = range.end.checked_add_signed(displacement(rest, &mut 1)? as isize)?;
            let constant = u64::from_le_bytes(*function.get(constant..)?.first_chunk()?);
            let register = registers.general[usize::from(rest[0] >> 3 & 7 | (extension >> 2 & 1) << 3)];
            return Some((narrow(register), narrow(constant)));
        }
        0x39 | 0x3B | 0x85 => 0,
        0x81 => 4,
        0x83 => 1,
        _ => return None,
    };
    let operands = mod_rm(rest, extension, 1, registers)?;
    if rest.len() != operands.length + immediate || (immediate > 0 && rest[0] >> 3 & 7 != 7) {
        return None;
    }
    let operand = if operands.is_memory { lengths.at(operands.operand)? } else { operands.operand };
    let tail = &rest[operands.length..];
    let (left, right) = match (opcode, tail) {
        (0x39, _) => (operand, operands.register),
        (0x3B, _) => (operands.register, operand),
        (0x85, _) if operands.is_memory || operand != operands.register => return None,
        (0x85, _) => (operand, 0),
        (_, [byte]) => (operand, i64::from(*byte as i8) as u64),
        (_, bytes) => (operand, i64::from(i32::from_le_bytes(*bytes.first_chunk()?)) as u64),
    };
    Some((narrow(left), narrow(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        Registers { general: std::array::from_fn(|i| 0x100 * (i as u64 + 1)), pc: 0 }
    }

    #[test]
    fn memory_operands_are_decoded() {
        let cases: [(&[u8], Option<u64>); 12] = [
            // mov eax, [rdi]; mov [rdi + rsi + 8], eax; mov rax, [r12]; mov al, [rsp + 0x80]
            (&[0x8B, 0x07], Some(0x800)),
            (&[0x89, 0x44, 0x37, 0x08], Some(0xF08)),
            (&[0x49, 0x8B, 0x04, 0x24], Some(0xD00)),
            (&[0x8A, 0x84, 0x24, 0x80, 0, 0, 0], Some(0x580)),
            // movzx eax, byte [rcx + r9 * 4 - 1]
            (&[0x42, 0x0F, 0xB6, 0x44, 0x89, 0xFF], Some(0x2A00 - 0x1)),
            // movups xmm1, [rbp]; pinsrd xmm0, [rax], 1
            (&[0x0F, 0x10, 0x4D, 0x00], Some(0x600)),
            (&[0x66, 0x0F, 0x3A, 0x22, 0x00, 0x01], Some(0x100)),
            // vmovups xmm9, [rdi]; vmovups xmm0, [r9 + rbx]
            (&[0xC5, 0x78, 0x10, 0x0F], Some(0x800)),
            (&[0xC4, 0xC1, 0x78, 0x10, 0x04, 0x19], Some(0xA00 + 0x400)),
            // vmovups xmm16, [rdi + 2 * 16]
            (&[0x62, 0xE1, 0x7C, 0x08, 0x10, 0x47, 0x02], Some(0x820)),
            // mov eax, ebx; mov eax, [rip + 1]
            (&[0x89, 0xD8], None),
            (&[0x8B, 0x05, 1, 0, 0, 0], None),
        ];
        for (code, address) in cases {
            assert_eq!(memory_operand(code, &registers()), address, "{code:x?}");
        }
    }

    #[test]
    fn failed_checks_are_decoded() {
        let lengths = Lengths(vec![(0x1108, 0x55)]);
        let check = |compare: &[u8], condition: u8| {
            let mut code = vec![0x90; 20];
            code.extend(compare);
            code.extend([0x0F, 0x80 | condition, 0, 0, 0, 0]);
            let end = code.len();
            code.extend([0x90; 30]);
            let site = code.len();
            code.extend([0x0F, 0x0B, 0x77, 0, 0, 0, 0, 0, 0, 0]);
            code[end - 4..end].copy_from_slice(&(site as i32 - end as i32).to_le_bytes());
            failed_check(&code, site, &registers(), &lengths, |c| Some((c.left, c.right, c.or_equal)))
        };
        // cmp rsi, rdi; jae — cmp rdi, rsi; jbe — cmp rsi, rdi; ja — cmp rdi, rsi; jb
        assert_eq!(check(&[0x48, 0x39, 0xFE], 3), Some((0x700, 0x800, true)));
        assert_eq!(check(&[0x48, 0x39, 0xF7], 6), Some((0x700, 0x800, true)));
        assert_eq!(check(&[0x48, 0x3B, 0xF7], 7), Some((0x700, 0x800, false)));
        assert_eq!(check(&[0x48, 0x3B, 0xFE], 2), Some((0x700, 0x800, false)));
        // cmp rsi, [r15 + 8]; jae, which is no length — cmp rsi, [r15 + 0x108]; jae, which is one
        assert_eq!(check(&[0x49, 0x3B, 0x77, 0x08], 3), None);
        assert_eq!(check(&[0x49, 0x3B, 0xB7, 0x08, 1, 0, 0], 3), Some((0x700, 0x55, true)));
        // cmp r9, 0x7ff; ja — cmp esi, -4; ja — cmp rax, 0xff; jbe
        assert_eq!(check(&[0x49, 0x81, 0xF9, 0xFF, 7, 0, 0], 7), Some((0xA00, 0x7FF, false)));
        assert_eq!(check(&[0x83, 0xFE, 0xFC], 7), Some((0x700, 0xFFFF_FFFC, false)));
        assert_eq!(check(&[0x48, 0x3D, 0xFF, 0, 0, 0], 6), Some((0xFF, 0x100, true)));
        // cmp rdi, [rip + 38], which is what follows the trap; jbe
        assert_eq!(check(&[0x48, 0x3B, 0x3D, 38, 0, 0, 0], 6), Some((0x77, 0x800, true)));
        // test rdi, rdi; jz — test rdi, rsi; jz — add rsi, rdi; jae
        assert_eq!(check(&[0x48, 0x85, 0xFF], 4), Some((0, 0x800, true)));
        assert_eq!(check(&[0x48, 0x85, 0xF7], 4), None);
        assert_eq!(check(&[0x48, 0x01, 0xFE], 3), None);
    }
}
