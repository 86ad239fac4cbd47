//! The `try_table`s and bodies of legacy `try`s of a function, found by an instruction inside them.

use super::translate::NONE;

/// The instructions in a `try_table`, or in the body of a legacy `try`: words `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub from: u32,
    pub to: u32,
    /// The word of its `try`, which has the clauses. If it `delegates`, the index of the one at which the search goes on, or `NONE`
    /// if that is the caller.
    pub at: u32,
    /// Whether its exceptions pass by those between it and another one (`delegate`).
    pub delegates: bool,
}

/// The `try_table`s of a function, which are nested or disjoint. A throw finds the innermost one around it by binary search, and
/// follows the links outwards from there, so a `try_table` that is not around it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Inner ones before outer ones.
    all: Box<[Try]>,
    /// For each of `all`, the index of the one that a search goes on at: directly around it, unless it delegates. Or `NONE`.
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
            let around = || open.last().map_or(NONE, |at| *at as u32);
            outer[at] = if all[at].delegates { all[at].at } else { around() };
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

    fn entry(from: u32, to: u32) -> Try {
        Try { from, to, at: from, delegates: false }
    }

    /// The search goes on where an inner one delegates to, past the one between.
    #[test]
    fn a_search_follows_delegates() {
        let delegating = |at| Try { from: 2, to: 4, at, delegates: true };
        let (between, outer) = (entry(1, 5), entry(0, 6));
        for (at, rest) in [(2, vec![outer]), (NONE, vec![])] {
            let tries = Tries::new(vec![delegating(at), between, outer]);
            let expected: Vec<Try> = [delegating(at)].into_iter().chain(rest).collect();
            assert_eq!(tries.around(3).collect::<Vec<_>>(), expected);
            assert_eq!(tries.around(4).collect::<Vec<_>>(), [between, outer]);
        }
    }

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
                    all.push(entry(from, word));
                    // Two end at one word.
                    if word % 3 == 0
                        && let Some(from) = open.pop_if(|from| *from < word)
                    {
                        all.push(entry(from, word));
                    }
                }
            }
            while let Some(from) = open.pop() {
                all.push(entry(from, 15));
            }
            let tries = Tries::new(all.clone());
            for word in 0..16 {
                let expected: Vec<Try> = all.iter().copied().filter(|t| (t.from..t.to).contains(&word)).collect();
                assert_eq!(tries.around(word).collect::<Vec<_>>(), expected, "word {word} of {all:?}");
            }
        }
    }
}
