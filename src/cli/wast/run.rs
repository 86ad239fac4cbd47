//! Running a script, directive by directive, in one store; and those of its threads in one each.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::expect;
use super::script::{Action, Arg, Directive, Kind, Script, Source};
use super::{Failure, spectest};
use crate::cli::value;
use crate::{
    AnyRef, Config, Engine, Error, ErrorKind, Extern, ExternRef, Instance, Linker, Module, SharedMemory, Store, Value,
};

impl Script {
    /// Runs the script on an engine of these settings; the number of directives it has.
    ///
    /// # Errors
    /// The first directive that does not hold.
    pub fn run(&self, config: &Config) -> Result<usize, Failure> {
        let start = |error: Error| match self.directives.first() {
            Some(first) => self.failure_at(first, format!("no engine to run it on: {error}")),
            None => Failure {
                script: self.name.clone(),
                line: 1,
                column: 1,
                source: String::new(),
                directive: "script",
                message: error.to_string(),
            },
        };
        let mut runner = Engine::new(config).and_then(Runner::new).map_err(start)?;
        for directive in &self.directives {
            runner.directive(directive).map_err(|message| self.failure_at(directive, message))?;
        }
        Ok(self.directives.len())
    }
}

/// The instances and modules that a script has made so far.
struct Runner {
    engine: Engine,
    store: Store<()>,
    linker: Linker<()>,
    /// The instance that actions without a name are about.
    current: Option<Instance>,
    instances: HashMap<String, Instance>,
    latest_definition: Option<Module>,
    definitions: HashMap<String, Module>,
    /// What a module exports that another thread has instantiated: the shared memories, by the module's name.
    shared: Option<(String, Vec<(String, SharedMemory)>)>,
    threads: HashMap<String, JoinHandle<Result<(), String>>>,
}

/// How an action ended: with values, or an error of the library.
type Outcome = crate::Result<Vec<Value>>;

impl Runner {
    fn new(engine: Engine) -> crate::Result<Self> {
        let mut store = Store::new(&engine, ());
        let mut linker = Linker::new(&engine);
        // Scripts register one name several times.
        linker.allow_shadowing(true);
        spectest::define(&mut linker, &mut store)?;
        Ok(Runner {
            engine,
            store,
            linker,
            current: None,
            instances: HashMap::new(),
            latest_definition: None,
            definitions: HashMap::new(),
            shared: None,
            threads: HashMap::new(),
        })
    }

    fn directive(&mut self, directive: &Directive) -> Result<(), String> {
        match &directive.kind {
            Kind::Module { name, module } => {
                let module = self.module(module)?;
                self.instantiate(name, &module)
            }
            Kind::Definition { name, module } => {
                let module = self.module(module)?;
                if let Some(name) = name {
                    self.definitions.insert(name.clone(), module.clone());
                }
                self.latest_definition = Some(module);
                Ok(())
            }
            Kind::Instance { name, module } => {
                let module = match module {
                    Some(module) => self.definitions.get(module),
                    None => self.latest_definition.as_ref(),
                };
                let module = module.cloned().ok_or("no such module definition")?;
                self.instantiate(name, &module)
            }
            Kind::Register { name, instance: Some(module) } if self.has_from_other_thread(module) => {
                for (export, memory) in self.shared.iter().flat_map(|(_, memories)| memories) {
                    let result = self.linker.define(&self.store, name, export, memory.clone());
                    result.map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Kind::Register { name, instance } => {
                let instance = self.instance(instance)?;
                let result = self.linker.instance(&mut self.store, name, instance);
                result.map(drop).map_err(|error| error.to_string())
            }
            Kind::Action(action) => self.act(action)?.map(drop).map_err(|error| format!("{error:?}")),
            Kind::AssertReturn { action, results: expected } => {
                let actual =
                    self.act(action)?.map_err(|error| format!("expected {}, got {error:?}", expect::join(expected)))?;
                let same = actual.len() == expected.len()
                    && expected.iter().zip(&actual).all(|(e, a)| e.matches(&mut self.store, a));
                if same {
                    Ok(())
                } else {
                    Err(format!("expected {}, got {}", expect::join(expected), value::print_all(&actual)))
                }
            }
            Kind::AssertTrap { action, message } | Kind::AssertExhaustion { action, message } => {
                expect_trap(self.act(action)?, message)
            }
            Kind::AssertException { action } => match self.act(action)? {
                Ok(values) => Err(format!("expected an exception, got {}", value::print_all(&values))),
                Err(error) if matches!(error.kind(), ErrorKind::Exception(_)) => Ok(()),
                Err(error) => Err(format!("expected an exception, got {error:?}")),
            },
            Kind::AssertUnlinkable { module } => {
                let module = self.module(module)?;
                match self.linker.instantiate(&mut self.store, &module) {
                    Ok(_) => Err("expected a link error, but it was instantiated".into()),
                    Err(error) if matches!(error.kind(), ErrorKind::Link(_)) => Ok(()),
                    Err(error) => Err(format!("expected a link error, got {error:?}")),
                }
            }
            Kind::AssertRefused { module: Err(_), .. } => Ok(()),
            Kind::AssertRefused { module: Ok(bytes), message } => match Module::new(&self.engine, bytes) {
                Ok(_) => Err(format!("expected `{message}`, but the module was accepted")),
                Err(error) => match error.kind() {
                    ErrorKind::Invalid { .. } | ErrorKind::Unsupported { .. } => Ok(()),
                    _ => Err(format!("expected `{message}`, got {error:?}")),
                },
            },
            Kind::Thread { name, shared, directives } => self.start(name, shared.as_ref(), directives),
            Kind::Wait { thread } => {
                let thread = self.threads.remove(thread).ok_or_else(|| format!("there is no thread ${thread}"))?;
                thread.join().unwrap_or_else(|_| Err("the thread panicked".into()))
            }
            Kind::Unsupported => Err("this directive is of a proposal that is not supported".into()),
        }
    }

    /// Whether it is another thread that has this instance.
    fn has_from_other_thread(&self, instance: &str) -> bool {
        !self.instances.contains_key(instance) && self.shared.as_ref().is_some_and(|(shared, _)| shared == instance)
    }

    /// Starts a thread that runs directives.
    fn start(&mut self, name: &str, shared: Option<&String>, directives: &Arc<[Directive]>) -> Result<(), String> {
        let mut runner = Runner::new(self.engine.clone()).map_err(|error| error.to_string())?;
        if let Some(module) = shared {
            let instance = self.instance(&Some(module.clone()))?;
            let exports = instance.exports(&mut self.store);
            let memories =
                exports.filter_map(|export| Some((export.name().to_string(), export.into_shared_memory()?))).collect();
            runner.shared = Some((module.clone(), memories));
        }
        let (directives, own) = (directives.clone(), name.to_string());
        let run = move || {
            let mut run = |directive| runner.directive(directive);
            directives.iter().try_for_each(|directive| {
                run(directive).map_err(|message| format!("in thread ${own}, {}: {message}", directive.keyword))
            })
        };
        let thread = thread::Builder::new().spawn(run).map_err(|error| format!("there is no thread: {error}"))?;
        match self.threads.insert(name.into(), thread) {
            None => Ok(()),
            Some(_) => Err(format!("there is a thread ${name} that was not waited for")),
        }
    }

    fn module(&self, source: &Source) -> Result<Module, String> {
        let bytes = source.as_ref().map_err(|error| format!("the module's text: {error}"))?;
        Module::new(&self.engine, bytes).map_err(|error| format!("the module: {error}"))
    }

    fn instantiate(&mut self, name: &Option<String>, module: &Module) -> Result<(), String> {
        let instance = self.linker.instantiate(&mut self.store, module).map_err(|error| format!("{error:?}"))?;
        if let Some(name) = name {
            self.instances.insert(name.clone(), instance);
        }
        self.current = Some(instance);
        Ok(())
    }

    fn instance(&self, name: &Option<String>) -> Result<Instance, String> {
        match name {
            Some(name) => self.instances.get(name).copied().ok_or_else(|| format!("there is no instance ${name}")),
            None => self.current.ok_or_else(|| "there is no module before this".into()),
        }
    }

    fn export(&mut self, instance: &Option<String>, name: &str) -> Result<Extern, String> {
        let instance = self.instance(instance)?;
        instance.get_export(&mut self.store, name).ok_or_else(|| format!("there is no export {name:?}"))
    }

    /// Performs an action: calls a function, reads a global or instantiates a module.
    fn act(&mut self, action: &Action) -> Result<Outcome, String> {
        match action {
            Action::Invoke { instance, name, args } => {
                let Extern::Func(func) = self.export(instance, name)? else {
                    return Err(format!("the export {name:?} is no function"));
                };
                let args = args.iter().map(|arg| arg.value(&mut self.store));
                let args = args.collect::<crate::Result<Vec<_>>>().map_err(|error| error.to_string())?;
                let ty = func.ty(&self.store);
                let mut results: Vec<_> = ty.results().iter().map(Value::default_for).collect();
                Ok(func.call(&mut self.store, &args, &mut results).map(|()| results))
            }
            Action::Get { instance, name } => match self.export(instance, name)? {
                Extern::Global(global) => Ok(Ok(vec![global.get(&self.store)])),
                _ => Err(format!("the export {name:?} is no global")),
            },
            Action::Instantiate(module) => {
                let module = self.module(module)?;
                Ok(self.linker.instantiate(&mut self.store, &module).map(|_| vec![]))
            }
            Action::Unsupported(what) => Err(format!("{what} is of a proposal that is not supported")),
        }
    }
}

/// Checks for a trap whose message begins with the one expected, as the specification's interpreter does.
fn expect_trap(outcome: Outcome, expected: &str) -> Result<(), String> {
    match outcome {
        Ok(values) => Err(format!("expected the trap `{expected}`, got {}", value::print_all(&values))),
        Err(error) => match error.trap() {
            Some(trap) if trap.message().starts_with(without_operand(expected)) => Ok(()),
            _ => Err(format!("expected the trap `{expected}`, got {error:?}")),
        },
    }
}

/// `uninitialized element 2` names the element too, which a message here does not.
fn without_operand(message: &str) -> &str {
    message.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end()
}

impl Arg {
    fn value(&self, store: &mut Store<()>) -> crate::Result<Value> {
        Ok(match *self {
            Arg::I32(v) => Value::I32(v),
            Arg::I64(v) => Value::I64(v),
            Arg::F32(bits) => Value::F32(f32::from_bits(bits)),
            Arg::F64(bits) => Value::F64(f64::from_bits(bits)),
            Arg::V128(v) => Value::V128(v),
            Arg::NullFunc => Value::FuncRef(None),
            Arg::NullExn => Value::ExnRef(None),
            Arg::NullExtern => Value::ExternRef(None),
            Arg::NullAny => Value::AnyRef(None),
            Arg::Extern(number) => Value::ExternRef(Some(ExternRef::new(number))),
            Arg::Host(number) => AnyRef::convert_extern(store, ExternRef::new(number))?.into(),
        })
    }
}
