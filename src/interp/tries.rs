//! The `try_table`s of a function, found by an instruction inside them.

use super::translate::NONE;

/// The instructions in a `try_table`, words `from..to`, and the word of its `try`, `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub from: u32,
    pub to: u32,
    pub at: u32,
}

/// The `try_table`s of a function, which are nested or disjoint. A throw finds the innermost one around it by binary search, and
/// follows the links outwards from there, so a `try_table` that is not around it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Inner ones before outer ones.
    all: Box<[Try]>,
    /// For each of `all`, the index of the one directly around it, or `NONE`.
    outer: Box<[u32]>,
    /// Sorted pairs (word, index in `all`): from that word up to the next pair's, this is the innermost one, or none if `NONE`.
    innermost: Box<[(u32, u32)]>,
}

impl Tries {
    /// `all` are those of a function, inner ones before outer ones.
    pub fn new(all: Vec<Try>) -> Self {
        let mut outer = vec![NONE; all.len()];
        let mut innermost = Vec::with_capacity(2 * all.len());
        // In the order of their first words, outer ones first.
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

    /// Inner ones before outer ones.
    pub fn all(&self) -> &[Try] {
        &self.all
    }

    /// The ones around the instruction at a word, innermost first.
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

    /// Compares with a search of all, for each nesting that 14 bits can describe: a bit opens one at its word, or closes one.
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
