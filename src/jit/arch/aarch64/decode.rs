//! Decodes a trapping instruction, and finds the check that failed before a trap.

use super::super::{Comparison, Condition, Lengths};
use super::Registers;

fn sign_extend(value: u32, bits: u32) -> i64 {
    i64::from((value << (32 - bits)) as i32 >> (32 - bits))
}

/// The address of the memory operand of the load or store that `code` starts with.
pub(in crate::jit) fn memory_operand(code: &[u8], registers: &Registers) -> Option<u64> {
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

/// Whether a faulting instruction loads a byte. If the access is a store, it is the load that tries the store's last byte.
pub(in crate::jit) fn is_probe(code: &[u8]) -> bool {
    let word = code.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    matches!(word >> 24, 0x38 | 0x39) && word >> 22 & 3 == 1
}

/// Finds the check that failed before the trap at offset `site` of a function: a comparison whose jump leads there and holds for
/// the registers. `explain` gives `None` for one that is no check of the access.
pub(in crate::jit) fn failed_check<R>(
    function: &[u8],
    site: usize,
    registers: &Registers,
    _: &Lengths,
    explain: impl Fn(Comparison) -> Option<R>,
) -> Option<R> {
    let word = |at: usize| function.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    // Jumps over a long distance go to a veneer, an unconditional jump.
    let reaches = |target: usize| {
        target == site
            || word(target).is_some_and(|word| {
                word >> 26 == 5 && target as i64 + 4 * sign_extend(word & 0x3FF_FFFF, 26) == site as i64
            })
    };
    (4..site).step_by(4).find_map(|at| {
        let jump = word(at)?;
        // `b.cond`, or `cbz`: `x <= 0` of an unsigned number is compiled as `x == 0`.
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
    // A `cmp` is a subtraction whose result goes to the zero register.
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

/// Bytes of the instructions that set up a frame.
pub(in crate::jit) const FRAME_SETUP: usize = 8;

/// Whether a function begins with `stp x29, x30, [sp, #-16]!; mov x29, sp`.
pub(in crate::jit) fn begins_with_frame(function: &[u8]) -> bool {
    function.starts_with(&[0xFD, 0x7B, 0xBF, 0xA9, 0xFD, 0x03, 0x00, 0x91])
}

/// Calls `found` with the end and the target of each conditional jump, as offsets; a jump to an unconditional one leads to
/// the target of that, as Cranelift does where a conditional one does not reach. Constants are not told from instructions,
/// so it may find jumps in them too, but it misses none.
pub(in crate::jit) fn conditional_jumps(function: &[u8], mut found: impl FnMut(u32, u32)) {
    let word = |at: u32| {
        let bytes = function.get(at as usize..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    // The signed number in `bits` bits from bit `low` on, in units of instructions.
    let distance = |word: u32, low: u32, bits: u32| ((word << (32 - low - bits)) as i32 >> (32 - bits)) * 4;
    for at in (0..function.len() as u32).step_by(4) {
        let Some(jump) = word(at) else { return };
        // `b.cond`, `cbz` and `cbnz` of either width.
        if jump & 0xFF00_0010 != 0x5400_0000 && jump & 0x7E00_0000 != 0x3400_0000 {
            continue;
        }
        let target = at.wrapping_add_signed(distance(jump, 5, 19));
        found(at + 4, target);
        if let Some(further) = word(target).filter(|further| further >> 26 == 5) {
            found(at + 4, target.wrapping_add_signed(distance(further, 0, 26)));
        }
    }
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

    #[test]
    fn jumps_are_found() {
        let mut found = Vec::new();
        // b.ne +8; cbnz x1, -4; b +16, to which cbz w0, -4 leads.
        let words: [u32; 5] = [0x5400_0041, 0xB5FF_FFE1, 0x1400_0004, 0x34FF_FFE0, 0xD503_201F];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        conditional_jumps(&code, |end, target| found.push((end, target)));
        assert_eq!(found, [(4, 8), (4, 24), (8, 0), (16, 8), (16, 24)]);
    }
}
