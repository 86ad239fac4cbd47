//! Counts the words of standard input, most frequent first: hash maps, strings and sorting of Rust's library.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};

fn main() {
    let mut words: HashMap<String, usize> = HashMap::new();
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        for word in line.expect("UTF-8").split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
            *words.entry(word.to_lowercase()).or_default() += 1;
            *lengths.entry(word.chars().count()).or_default() += 1;
        }
    }
    let mut words: Vec<_> = words.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for (word, count) in words.iter().take(std::env::args().nth(1).map_or(usize::MAX, |n| n.parse().unwrap())) {
        writeln!(out, "{count:>4} {word}").unwrap();
    }
    writeln!(out, "{lengths:?}").unwrap();
}
