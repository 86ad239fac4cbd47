//! `exec --call`: calls an exported function with arguments from text, and gives its results as text.

use super::output::Failure;
use super::{similar, value};
use crate::printable::Printable;
use crate::{ExportType, Extern, ExternType, Func, Instance, Module, Result, Store, Value};

/// A function of an instance with its arguments, read and checked.
pub(super) struct Call {
    func: Func,
    args: Vec<Value>,
    results: Vec<Value>,
}

impl Call {
    /// Looks up the export `wanted` and reads `args` as its types say.
    pub fn new(store: &mut Store<()>, instance: Instance, wanted: &str, args: &[String]) -> Result<Self, Failure> {
        let func = match instance.get_export(&mut *store, wanted) {
            Some(Extern::Func(func)) => func,
            other => {
                let name = Printable::name(wanted);
                let what = match other.map(|object| object.ty(&*store)) {
                    Some(ty) => format!("the export `{name}` is no function but {ty}"),
                    None => format!("there is no export `{name}`"),
                };
                let module = instance.module(&*store);
                let question = similar::did_you_mean(wanted, functions(module).map(|export| export.name()));
                return Err(match question {
                    Some(question) => Failure::error(what).with_hint(question),
                    None => Failure::error(format!("{what}; {}", callable(module))),
                });
            }
        };
        let ty = func.ty(&*store);
        let args = value::parse_all(args, ty.params()).map_err(|why| {
            Failure::usage(format!("{why}\n`{}` is {}", Printable::name(wanted), ExternType::Func(ty.clone())))
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

/// Exports that a message lists.
const MAX_LISTED: usize = 20;

fn functions(module: &Module) -> impl Iterator<Item = ExportType<'_>> {
    module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)))
}

/// Whether an export is a function with parameters.
pub(super) fn has_params(module: &Module, name: &str) -> bool {
    let export = module.exports().find(|export| export.name() == name);
    export.is_some_and(|export| matches!(export.ty(), ExternType::Func(ty) if !ty.params().is_empty()))
}

/// The first function that `--call` takes whose name means nothing else to a shell, and arguments for it, each after a space.
pub(super) fn first_callable(module: &Module) -> Option<(&str, String)> {
    let is_plain = |name: &&str| {
        (1..=40).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    let export = functions(module).find(|export| is_plain(&export.name()))?;
    let ExternType::Func(ty) = export.ty() else { return None };
    let example = |ty| match value::print(&Value::default_for(ty)) {
        vector if vector.contains(' ') => format!(" '{vector}'"),
        plain => format!(" {plain}"),
    };
    Some((export.name(), ty.params().iter().map(example).collect()))
}

/// The functions of a module that `--call` takes, as the end of a message.
pub(super) fn callable(module: &Module) -> String {
    let mut funcs = functions(module);
    let line = |export: ExportType<'_>| format!("\n  {} {}", Printable::name(export.name()), export.ty());
    let listed: String = funcs.by_ref().take(MAX_LISTED).map(line).collect();
    match (listed.is_empty(), funcs.count()) {
        (true, _) => "it exports no functions".into(),
        (_, 0) => format!("it exports these functions:{listed}"),
        (_, others) => format!("it exports these functions:{listed}\n  and {others} more"),
    }
}
