//! Translated functions as bytes, for the cache.
//!
//! Bytecode holds no addresses, so it works in any process. It does hold the byte offsets of loops in the module, so
//! the function must be at the same place. What is read back runs unchecked: the cache must give back the bytes that it
//! got.

use super::code::InterpretedFunction;
use super::translate::Translation;
use super::tries::Try;
use crate::module::ModuleFacts;

/// The numbers at the beginning, before the `try_table`s and the words.
const NUMBERS: usize = 7;

/// A translated function as bytes.
pub(super) fn to_bytes(code: &InterpretedFunction, module: &ModuleFacts) -> Vec<u8> {
    let (zeroed, tries, words) = (code.zeroed(), code.tries(), code.words());
    let start = module.bodies[code.defined() as usize].start as u32;
    let (frame, wide_slots, count) = (code.frame_slots() as u32, u32::from(code.wide_slots), tries.len() as u32);
    let numbers: [u32; NUMBERS] = [start, code.header, zeroed.start, zeroed.end, frame, wide_slots, count];
    let mut bytes = Vec::with_capacity(4 * NUMBERS + 16 * tries.len() + 8 * words.len());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(tries.iter().flat_map(|t| [t.from, t.to, t.at, t.delegates.into()]).flat_map(u32::to_le_bytes));
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// Reads what [`to_bytes`] wrote for the same function; `None` if the body is at another place in the module now, or
/// the bytes are malformed.
pub(super) fn from_bytes(module: &ModuleFacts, defined: u32, bytes: &[u8]) -> Option<Translation> {
    let (numbers, rest) = bytes.split_at_checked(4 * NUMBERS)?;
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| numbers[4 * at + byte]));
    let [start, header, zeroed_from, zeroed_to, frame, wide_slots, count]: [u32; NUMBERS] = std::array::from_fn(number);
    let (tries, words) = rest.split_at_checked((count as usize).checked_mul(16)?)?;
    let (tries, _) = tries.as_chunks::<4>();
    let tries = tries.as_chunks().0.iter().map(|numbers| {
        let [from, to, at, delegates] = numbers.map(u32::from_le_bytes);
        Try { from, to, at, delegates: delegates != 0 }
    });
    let (words, []) = words.as_chunks() else { return None };
    let same = start as usize == module.bodies[defined as usize].start && !words.is_empty();
    same.then(|| Translation {
        words: words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
        header,
        zeroed: zeroed_from..zeroed_to,
        frame,
        wide_slots: wide_slots != 0,
        tries: tries.collect(),
        positions: Vec::new(),
    })
}
