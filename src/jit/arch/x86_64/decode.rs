//! Decodes a trapping instruction, and finds the check that failed before a trap.

use std::ops::Range;

use super::super::{Comparison, Condition, Lengths};
use super::Registers;

/// The operands of a ModRM byte.
struct ModRm {
    register: u64,
    /// Value of the register operand or address of the memory operand.
    operand: u64,
    is_memory: bool,
    length: usize,
}

/// Decodes ModRM, SIB and displacement. `extension` holds the R, X and B bits as a REX prefix does; an 8-bit displacement is
/// multiplied by `scale`, which is 1 except for EVEX.
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
        // Relative to the end of the instruction: a constant of the code, not a memory access.
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
pub(in crate::jit) fn memory_operand(code: &[u8], registers: &Registers) -> Option<u64> {
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

/// Whether a faulting instruction only tries the last byte of a store. There are none: stores do not tear.
pub(in crate::jit) fn is_probe(_: &[u8]) -> bool {
    false
}

/// Finds the check that failed before the trap at offset `site` of a function: a comparison whose jump leads there and holds for
/// the registers. `explain` gives `None` for one that is no check of the access.
pub(in crate::jit) fn failed_check<R>(
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
            // `x <= 0` of an unsigned number is compiled as `x == 0`.
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

/// The operands of the instruction at exactly `range` of a function, if that is a `cmp`, or a `test` that compares with zero. An
/// operand in memory must be a memory's length, or a constant after the function's code.
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

/// Bytes of the instructions that set up a frame.
pub(in crate::jit) const FRAME_SETUP: usize = 4;

/// Whether a function begins with `push rbp; mov rbp, rsp`.
pub(in crate::jit) fn begins_with_frame(function: &[u8]) -> bool {
    function.starts_with(&[0x55, 0x48, 0x89, 0xE5])
}

/// Calls `found` with the end and the target of each conditional jump, as offsets. Instructions are not decoded, so it may
/// find jumps in constants too, but it misses none.
pub(in crate::jit) fn conditional_jumps(function: &[u8], mut found: impl FnMut(u32, u32)) {
    for (at, bytes) in function.windows(6).enumerate() {
        if let [0x0F, 0x80..=0x8F, distance @ ..] = bytes
            && let Ok(distance) = distance.try_into()
        {
            let end = at as u32 + 6;
            found(end, end.wrapping_add_signed(i32::from_le_bytes(distance)));
        }
    }
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

    #[test]
    fn jumps_are_found() {
        let mut found = Vec::new();
        // A jump forward, half a jump, and one backward.
        let code = [0x90, 0x0F, 0x85, 3, 0, 0, 0, 0x0F, 0x90, 0x0F, 0x82, 0xF9, 0xFF, 0xFF, 0xFF, 0x0F];
        conditional_jumps(&code, |end, target| found.push((end, target)));
        assert_eq!(found, [(7, 10), (15, 8)]);
    }
}
