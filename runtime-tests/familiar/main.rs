//! Idioms of wasmtime's guide, examples and documentation, compiled and run with wasmrun in its place. The documentation has
//! the same list, with what is not supported.

extern crate wasmrun as wasmtime;

mod diagnostics;
mod errors;
mod gc;
mod guide;
mod hosts;
mod linkers;
mod modules;
mod values;

/// The documentation's page.
const PAGE: &str = include_str!("../../src/coming_from_wasmtime.md");

/// The names of the tests in a file.
fn tests(source: &'static str) -> impl Iterator<Item = &'static str> {
    let marked = source.split("#[test]\n").skip(1);
    marked.map(|text| text.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).expect("a function follows").0)
}

/// The cells of the page's tables, by row.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| idiom"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
}

#[test]
fn the_documentation_lists_these_idioms() {
    let all = [
        include_str!("errors.rs"),
        include_str!("gc.rs"),
        include_str!("guide.rs"),
        include_str!("hosts.rs"),
        include_str!("linkers.rs"),
        include_str!("modules.rs"),
        include_str!("values.rs"),
    ];
    let mut tested: Vec<_> = all.into_iter().flat_map(tests).collect();
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let test = |cells: Vec<&'static str>| cells[1].strip_prefix('`')?.strip_suffix('`').filter(is_name);
    let mut listed: Vec<_> = rows().filter_map(test).collect();
    tested.sort_unstable();
    listed.sort_unstable();
    assert_eq!(tested, listed);
    let (good, all) = (listed.len(), rows().count());
    let sentence = format!("Of {all} idioms, {good} compile");
    assert!(PAGE.contains(&sentence), "{sentence}");
}
