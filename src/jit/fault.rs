//! Explains out-of-bounds traps: finds the address and size of the access from the machine code and the registers.

use super::arch::{self, Comparison, Lengths, Registers};
use super::origin::{self, Access};
use super::registry::FunctionCode;
use crate::error::MemoryFault;
use crate::vm::store::StoreOpaque;

/// The access that faulted on a guard page.
pub(super) fn guard_fault(
    function: &FunctionCode,
    registers: &Registers,
    address: usize,
    store: &StoreOpaque,
) -> Option<MemoryFault> {
    let memory = store.memories.iter().find(|memory| memory.address_range().contains(&address))?;
    let access = origin::access(function, registers.pc);
    let size = access.map_or(1, |access| access.size);
    let code = code_from(function, registers.pc);
    // The processor reports the first byte that faulted, which is not the first byte of an access that crosses the
    // memory's end.
    let mut first = arch::memory_operand(code, registers).unwrap_or(address as u64);
    if access.is_some_and(|access| access.is_store) && arch::is_probe(code) {
        first = first.wrapping_sub(size - 1);
    }
    if (address as u64).wrapping_sub(first) >= size {
        first = address as u64;
    }
    let address = first.wrapping_sub(memory.address_range().start as u64);
    Some(MemoryFault { address, size, length: memory.length_place().1 })
}

/// The access whose inline check failed: the index is still where the check compared it.
pub(super) fn check_fault(function: &FunctionCode, registers: &Registers, store: &StoreOpaque) -> Option<MemoryFault> {
    let access = origin::access(function, registers.pc)?;
    let lengths = Lengths(store.memories.iter().map(|memory| memory.length_place()).collect());
    let code = code_from(function, function.range.start);
    let site = registers.pc - function.range.start;
    arch::failed_check(code, site, registers, &lengths, |check| explain(check, access, &lengths))
}

/// The access whose check failed; `None` if the comparison is not a check against one of these lengths.
///
/// The checks are `index >= length`, `index > length - need` where the access ends `need` bytes after the index, and
/// `end > length`.
fn explain(check: Comparison, access: Access, lengths: &Lengths) -> Option<MemoryFault> {
    let Comparison { left, mut right, or_equal } = check;
    let Access { offset, size, .. } = access;
    let mut known = lengths.0.iter().map(|(_, length)| *length);
    let at_index = |length| MemoryFault { address: left.saturating_add(offset), size, length };
    if or_equal {
        if known.clone().any(|length| length == right) {
            return Some(at_index(right));
        }
        // Cranelift may have turned `>` with a constant into `>=` with the constant plus one.
        right = right.checked_sub(1)?;
    }
    let need = offset.wrapping_add(size);
    if let Some(length) = known.clone().find(|length| length.checked_sub(need) == Some(right)) {
        return Some(at_index(length));
    }
    if let Some(length) = known.clone().find(|length| length.checked_sub(1) == Some(right)) {
        return Some(at_index(length));
    }
    let length = known.find(|length| *length == right)?;
    Some(MemoryFault { address: left.wrapping_sub(size), size, length })
}

/// The machine code of a function from `pc`.
fn code_from(function: &FunctionCode, pc: usize) -> &[u8] {
    // SAFETY: `pc` is within the function's range, which stays mapped and readable as long as the function is
    // registered.
    unsafe { std::slice::from_raw_parts(pc as *const u8, function.range.end - pc) }
}
