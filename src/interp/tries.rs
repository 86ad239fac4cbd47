//! The `try_table`s of a function, by the instructions that they are around.

use super::translate::NONE;

/// The instructions in a `try_table`, as words from the first to before the last, and the word of its `try`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub from: u32,
    pub to: u32,
    pub at: u32,
}

/// All of a function, which contain each other or lie beside each other. A throw finds the innermost one around it by a
/// search of halves, and from there the others outwards, so that those which are not around it cost nothing.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Inner ones before outer ones.
    all: Box<[Try]>,
    /// For each of them, the one that it is directly in, or `NONE`.
    outer: Box<[u32]>,
    /// Words from each of which on, to the next, the innermost is this one, or `NONE`.
    innermost: Box<[(u32, u32)]>,
}

impl Tries {
    /// From all of a function, inner ones before outer ones.
    pub fn new(all: Vec<Try>) -> Self {
        let mut outer = vec![NONE; all.len()];
        let mut innermost = Vec::with_capacity(2 * all.len());
        // As they begin, outer ones first.
        let mut order: Vec<usize> = (0..all.len()).rev().collect();
        order.sort_by_key(|at| all[*at].from);
        let mut open: Vec<usize> = Vec::new();
        let end = |open: &mut Vec<usize>, innermost: &mut Vec<_>, before: u32| {
            while let Some(done) = open.pop_if(|at| all[*at].to <= before) {
                innermost.push((all[done].to, open.last().map_or(NONE, |at| *at as u32)));
            }
        };
        for at in order {
            end(&mut open, &mut innermost, all[at].from);
            outer[at] = open.last().map_or(NONE, |at| *at as u32);
            open.push(at);
            innermost.push((all[at].from, at as u32));
        }
        end(&mut open, &mut innermost, u32::MAX);
        Tries { all: all.into(), outer: outer.into(), innermost: innermost.into() }
    }

    /// All of them, inner ones before outer ones.
    pub fn all(&self) -> &[Try] {
        &self.all
    }

    /// Those around the instruction at a word, innermost first.
    pub fn around(&self, word: u32) -> impl Iterator<Item = Try> {
        let after = self.innermost.partition_point(|(from, _)| *from <= word);
        let mut next = after.checked_sub(1).map_or(NONE, |at| self.innermost[at].1);
        std::iter::from_fn(move || {
            let at = self.all.get(next as usize)?;
            next = self.outer[next as usize];
            Some(*at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any nest, from bits that say whether the next word opens one or closes one, against a search of all.
    #[test]
    fn those_around_a_word_are_found_from_inside_out() {
        for bits in 0u32..1 << 14 {
            let (mut all, mut open) = (Vec::new(), Vec::new());
            for word in 0..14 {
                if bits >> word & 1 == 1 {
                    open.push(word);
                    // Two begin at one word.
                    if word % 5 == 0 {
                        open.push(word);
                    }
                } else if let Some(from) = open.pop() {
                    all.push(Try { from, to: word, at: from });
                    // Two end at one word.
                    if word % 3 == 0
                        && let Some(from) = open.pop_if(|from| *from < word)
                    {
                        all.push(Try { from, to: word, at: from });
                    }
                }
            }
            while let Some(from) = open.pop() {
                all.push(Try { from, to: 15, at: from });
            }
            let tries = Tries::new(all.clone());
            for word in 0..16 {
                let expected: Vec<Try> = all.iter().copied().filter(|t| (t.from..t.to).contains(&word)).collect();
                assert_eq!(tries.around(word).collect::<Vec<_>>(), expected, "word {word} of {all:?}");
            }
        }
    }
}
