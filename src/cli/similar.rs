//! "Did you mean": the names that come nearest to one that does not exist.

use crate::printable::Printable;

/// Names that are suggested at once.
const MAX_SUGGESTED: usize = 3;

/// Products of two lengths, in bytes, that all comparisons for one suggestion may come to: about 0.1 s. A module may have a
/// million names, as long as it likes.
const MAX_WORK: usize = 40_000_000;

/// The names nearest to `wanted`, the best first: as few edits away as those that are equally near, and no more than one
/// for every three characters.
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let folded = wanted.to_lowercase();
    let mut limit = (wanted.chars().count() / 3).max(1);
    let mut work = 0;
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        // A character has four bytes at most, and an edit changes the length by one character.
        if name.is_empty() || name.len().abs_diff(wanted.len()) > 4 * limit {
            continue;
        }
        work += name.len().max(1) * wanted.len().max(1);
        if work > MAX_WORK {
            break;
        }
        // Capitals count less than any other difference.
        let distance = strsim::osa_distance(&folded, &name.to_lowercase());
        if distance < limit || (distance == limit && found.len() < MAX_SUGGESTED) {
            if distance < limit {
                found.clear();
            }
            limit = distance;
            found.push(name);
        }
    }
    found
}

/// A question for the nearest names; `None` if none is near.
pub(super) fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let quoted: Vec<_> =
        nearest(wanted, names).into_iter().map(|name| format!("`{}`", Printable::name(name))).collect();
    let (last, others) = quoted.split_last()?;
    Some(if others.is_empty() {
        format!("did you mean {last}?")
    } else {
        format!("did you mean {} or {last}?", others.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_suggested() {
        assert_eq!(did_you_mean("fbi", ["main", "fib", "f"]).as_deref(), Some("did you mean `fib`?"));
        assert_eq!(did_you_mean("exce", ["inspect", "exec"]).as_deref(), Some("did you mean `exec`?"));
        assert_eq!(did_you_mean("Main", ["main", "Maine"]).as_deref(), Some("did you mean `main`?"));
        assert_eq!(did_you_mean("a", ["b", "c", "d", "e"]).as_deref(), Some("did you mean `b`, `c` or `d`?"));
        assert_eq!(did_you_mean("grösse", ["groesse", "größe"]).as_deref(), Some("did you mean `groesse` or `größe`?"));
        assert_eq!(did_you_mean("add", ["multiply", "", "ad\u{202e}x"]), None);
        assert_eq!(did_you_mean("", [""]), None);
    }

    /// Work that grows with the square of a length or of the number of names would take hours.
    #[test]
    fn a_million_names_take_no_time() {
        let names: Vec<_> = (0..1_000_000).map(|n| format!("{n:064}")).collect();
        assert!(nearest(&"x".repeat(64), names.iter().map(String::as_str)).is_empty());
        let long = ["y".repeat(1 << 20)];
        assert!(nearest(&"x".repeat(1 << 20), long.iter().map(String::as_str)).is_empty());
    }
}
