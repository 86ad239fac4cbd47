//! A survey as text, for people.

use std::fmt::Write;

use super::features;
use super::need::Need;
use super::survey::Survey;
use crate::Error;
use crate::cli::output::bytes;
use crate::printable::Printable;

/// Columns of the longest bar.
const BAR: u64 = 24;

/// What follows an item that has a name.
fn named(name: Option<&&str>) -> String {
    name.map_or(String::new(), |name| format!(", named {}", Printable::name(name)))
}

/// The report; `error` says why this version does not run the module.
pub(super) fn text(file: &str, survey: &Survey<'_>, error: Option<&Error>) -> String {
    // Writing to a string cannot fail.
    let mut out = String::new();
    let _ = write(&mut out, file, survey, error);
    out
}

fn write(out: &mut String, file: &str, survey: &Survey<'_>, error: Option<&Error>) -> std::fmt::Result {
    let verdict = error.map_or("valid".into(), |error| format!("not supported: {error}"));
    writeln!(out, "{file}: WebAssembly module, {}, {verdict}", bytes(survey.size))?;
    let code: u64 = survey.bodies.iter().sum();
    writeln!(
        out,
        "\nfunctions    {} defined ({} of code), {} imported",
        survey.bodies.len(),
        bytes(code),
        survey.imported_funcs
    )?;
    for (at, (index, size)) in survey.largest(3).into_iter().enumerate() {
        let label = if at == 0 { "  largest" } else { "" };
        writeln!(out, "{label:<13}{} ({})", survey.func_name(index), bytes(size))?;
    }
    for (index, memory) in survey.memories.iter().enumerate() {
        let page = 1u64 << memory.page_size_log2.unwrap_or(16).min(63);
        let size = bytes(memory.initial.saturating_mul(page));
        let maximum = match memory.maximum {
            Some(maximum) => format!("grows to at most {}", bytes(maximum.saturating_mul(page))),
            None => "grows without a limit of its own".into(),
        };
        let kind = if memory.memory64 { ", 64-bit" } else { "" };
        let from = if index < survey.imported_memories { ", imported" } else { "" };
        let name = named(survey.memory_names.get(&(index as u32)));
        writeln!(
            out,
            "{:<13}{} page{} ({size}), {maximum}{kind}{from}{name}",
            format!("memory {index}"),
            memory.initial,
            if memory.initial == 1 { "" } else { "s" }
        )?;
    }
    for (index, table) in survey.tables.iter().enumerate() {
        let maximum = table.maximum.map_or(String::new(), |maximum| format!(", at most {maximum}"));
        let from = if index < survey.imported_tables { ", imported" } else { "" };
        let ty = wasmparser::ValType::Ref(table.element_type);
        let name = named(survey.table_names.get(&(index as u32)));
        writeln!(out, "{:<13}{} of {ty}{maximum}{from}{name}", format!("table {index}"), table.initial)?;
    }
    writeln!(out, "globals      {}, {} of them imported", survey.globals, survey.imported_globals)?;
    writeln!(out, "data         {} in {} segments", bytes(survey.data_bytes), survey.data_segments)?;
    writeln!(out, "elements     {} in {} segments", survey.elements, survey.element_segments)?;
    if let Some(start) = survey.start {
        writeln!(out, "start        {}", survey.func_name(start))?;
    }

    writeln!(out, "\nimports ({})", survey.imports.len())?;
    for (module, items) in survey.imports_by_module() {
        writeln!(out, "  {}", Printable::name(module))?;
        for (name, ty) in items {
            writeln!(out, "    {:<28} {ty}", Printable::name(name))?;
        }
    }
    writeln!(out, "\nexports ({})", survey.exports.len())?;
    for (name, ty) in &survey.exports {
        writeln!(out, "  {:<30} {ty}", Printable::name(name))?;
    }

    writeln!(out, "\nfeatures beyond WebAssembly 1.0")?;
    if survey.features.uses.is_empty() {
        writeln!(out, "  none")?;
    }
    let reach = survey.reach();
    for (proposal, uses) in &survey.features.uses {
        let some: Vec<_> = uses.by.iter().take(3).map(|by| features::describe(by)).collect();
        let more = if uses.by.len() > some.len() {
            format!(" and {} more", uses.by.len() - some.len())
        } else {
            String::new()
        };
        writeln!(out, "  {proposal:<38} {}{more}", some.join(", "))?;
        let need = Need::new(survey, &reach, proposal, uses);
        if need.funcs > 0 {
            let s = if need.funcs == 1 { "" } else { "s" };
            writeln!(out, "  {:<38} in {} function{s}, {} of them reachable", "", need.funcs, need.reachable_funcs)?;
        }
        if let Some(reason) = need.dispensable {
            writeln!(out, "  {:<38} could do without: {reason}", "")?;
        }
    }

    writeln!(out, "\nsections")?;
    let largest = survey.sections.iter().map(|(_, size, _)| *size).max().unwrap_or(0).max(1);
    for (name, size, items) in &survey.sections {
        let items = items.map_or(String::new(), |items| format!("{items} items"));
        let bar = "█".repeat((size * BAR).div_ceil(largest) as usize);
        let line = format!("  {:<24} {:>10}  {items:>13}  {bar}", Printable::name(name), bytes(*size));
        writeln!(out, "{}", line.trim_end())?;
    }
    if !survey.producers.is_empty() {
        writeln!(out, "\nproducers")?;
    }
    for (field, values) in &survey.producers {
        let values: Vec<_> = values.iter().map(|value| Printable::name(value).to_string()).collect();
        writeln!(out, "  {:<13} {}", Printable::name(field), values.join(", "))?;
    }
    Ok(())
}
