//! `exec --call`: calls an exported function with arguments from text, and gives its results as text.

use super::output::Failure;
use super::value;
use crate::printable::Printable;
use crate::{ExportType, Extern, ExternType, Func, Instance, Module, Result, Store, Value};

/// A function of an instance with its arguments, read and checked.
pub(super) struct Call {
    func: Func,
    args: Vec<Value>,
    results: Vec<Value>,
}

impl Call {
    /// Looks up the export `name` and reads `args` as its types say.
    pub fn new(store: &mut Store<()>, instance: Instance, name: &str, args: &[String]) -> Result<Self, Failure> {
        let func = match instance.get_export(&mut *store, name) {
            Some(Extern::Func(func)) => func,
            other => {
                let name = Printable::name(name);
                let what = match other.map(|object| object.ty(&*store)) {
                    Some(ty) => format!("the export `{name}` is no function but {ty}"),
                    None => format!("there is no export `{name}`"),
                };
                return Err(Failure::error(format!("{what}; {}", callable(instance.module(&*store)))));
            }
        };
        let ty = func.ty(&*store);
        let args = value::parse_all(args, ty.params()).map_err(|why| {
            Failure::usage(format!("{why}\n`{}` is {}", Printable::name(name), ExternType::Func(ty.clone())))
        })?;
        let results = ty.results().iter().map(Value::default_for).collect();
        Ok(Call { func, args, results })
    }

    /// Calls it.
    pub fn run(mut self, store: &mut Store<()>) -> Result<Vec<Value>> {
        self.func.call(store, &self.args, &mut self.results)?;
        Ok(self.results)
    }
}

/// Imports or exports that a message lists.
pub(super) const MAX_LISTED: usize = 100;

/// The functions of a module that `--call` takes, as the end of a message.
pub(super) fn callable(module: &Module) -> String {
    let funcs: Vec<_> = module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_))).collect();
    if funcs.is_empty() {
        return "it exports no functions".into();
    }
    let line = |export: &ExportType<'_>| format!("\n  {} {}", Printable::name(export.name()), export.ty());
    let mut text = String::from("it exports these functions:");
    text.extend(funcs.iter().take(MAX_LISTED).map(line));
    if funcs.len() > MAX_LISTED {
        text.push_str(&format!("\n  and {} more", funcs.len() - MAX_LISTED));
    }
    text
}
