//! Finding a function by index or name, and printing its bytecode, IR or native code.

use crate::Module;
use crate::cli::output::Failure;
use crate::cli::similar;
use crate::printable::Printable;
use crate::runtime::inspect::CodeForm;

/// The code of the function called `name`.
pub(super) fn print(module: &Module, form: CodeForm, name: &str) -> Result<String, Failure> {
    let index = find(module, name)?;
    let Some(defined) = index.checked_sub(module.function_counts().1) else {
        let import = module.imports().filter(|import| matches!(import.ty(), crate::ExternType::Func(_)));
        let import = import
            .map(|import| format!("{}.{}", Printable::name(import.module()), Printable::name(import.name())))
            .nth(index as usize);
        return Err(Failure::error(format!(
            "function {index} has no code: it is imported, {}",
            import.unwrap_or_default()
        )));
    };
    module.print_function(defined, form).map_err(|error| Failure::error(error.to_string()))
}

/// The index of a function given by index, by name, or by the name of an export.
fn find(module: &Module, name: &str) -> Result<u32, Failure> {
    let (count, _) = module.function_counts();
    if let Ok(index) = name.parse::<u32>() {
        return match index < count {
            true => Ok(index),
            false => Err(Failure::error(format!("there is no function {index}, the module has {count}"))),
        };
    }
    if let Some(index) = module.export_func_index(name) {
        return Ok(index);
    }
    let plain = name.strip_prefix('$').unwrap_or(name);
    let named = |index: &u32| module.function_name(*index).is_some_and(|name| name == plain);
    let found: Vec<u32> = (0..count).filter(named).collect();
    match found[..] {
        [index] => Ok(index),
        [] => Err(Failure::error(format!(
            "there is no function named `{}`{}",
            Printable::name(plain),
            similar(module, plain)
        ))),
        _ => Err(Failure::error(format!(
            "several functions are named `{}`, give one by index:{}",
            Printable::name(plain),
            list(module, &found)
        ))),
    }
}

/// Functions that a message lists.
const MAX_LISTED: usize = 10;

/// A list of functions whose names contain the wanted name or come near it, as the end of a message; without any, of the
/// first functions.
fn similar(module: &Module, name: &str) -> String {
    let all = 0..module.function_counts().0;
    let named = |index: &u32| module.function_name(*index);
    let contains = |index: &u32| !name.is_empty() && named(index).is_some_and(|n| n.contains(name));
    let mut found: Vec<u32> = all.clone().filter(contains).take(MAX_LISTED).collect();
    if found.is_empty() {
        let near = similar::nearest(name, all.clone().filter_map(|index| module.function_name(index)));
        found = all.clone().filter(|index| named(index).is_some_and(|n| near.contains(&n))).take(MAX_LISTED).collect();
    }
    if !found.is_empty() {
        return format!("; these come near:{}", list(module, &found));
    }
    let first: Vec<u32> = all.clone().filter(|index| named(index).is_some()).take(MAX_LISTED).collect();
    match all.len() {
        0 => "; the module has no functions".into(),
        count if first.is_empty() => format!("; its {count} functions have no names, only numbers from 0 on"),
        count => format!("; the first of {count} that have names:{}", list(module, &first)),
    }
}

fn list(module: &Module, indices: &[u32]) -> String {
    let line =
        |index: &u32| format!("\n  {index} {}", Printable::name(module.function_name(*index).unwrap_or_default()));
    indices.iter().take(2 * MAX_LISTED).map(line).collect::<Vec<_>>().concat()
}
