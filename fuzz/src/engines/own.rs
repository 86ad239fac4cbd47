//! The runtime under test, in each of its configurations.

use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use wasmrun::{
    AnyRef, AsContext, BoundsChecks, Caller, Config, Dispatch, Engine, Error, ErrorKind, Extern, ExternRef, ExternType,
    Func, FuncType, Global, HeapType, I31, Memory, Module, Store, Strategy, Table, Tag, Tiering, Trap, UpdateDeadline,
    ValType,
};

use super::{Export, Failure, Instance, Interface, Kind};
use crate::host::{Answer, Host, Reentry};
use crate::module::types_of_functions;
use crate::value::{DEPTH, ELEMENTS, Outcome, Type, Value, hash, hash_all};

/// The runtime in one configuration.
pub struct Configuration {
    name: &'static str,
    engine: Engine,
}

/// Fuel that no module uses up.
const MUCH: u64 = 1 << 60;

/// Every configuration of the runtime; every second one collects whenever it can.
pub fn configurations() -> Vec<Configuration> {
    configurations_with(false)
}

/// The same, consuming fuel.
pub fn fuelled_configurations() -> Vec<Configuration> {
    configurations_with(true)
}

fn configurations_with(fuel: bool) -> Vec<Configuration> {
    let mut all = Vec::new();
    let mut add = |name, set: &dyn Fn(&mut Config)| {
        let mut config = Config::new();
        config.max_wasm_stack(512 << 10).consume_fuel(fuel);
        set(&mut config);
        let engine = Engine::new(&config).expect("the host can run every configuration");
        all.push(Configuration { name, engine });
    };
    add("interpreter, tail calls", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    });
    add("interpreter, loop", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::Loop).collect_always(true);
    });
    if !Engine::has_jit() {
        return all;
    }
    add("best, inline checks", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline);
    });
    add("best, guard pages", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard).collect_always(true);
    });
    add("quick, inline checks", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline).quick_code(true).collect_always(true);
    });
    add("quick, guard pages", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard).quick_code(true);
    });
    add("best, no signals", &|c| {
        c.strategy(Strategy::Jit).signals_based_traps(false);
    });
    add("tiered at once, no signals", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::AtOnce).signals_based_traps(false);
    });
    add("baseline, tiered at loops, no signals", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::BaselineAtLoops).signals_based_traps(false).collect_always(true);
    });
    add("tiered", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::Measured);
    });
    add("tiered at once", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::AtOnce);
    });
    add("tiered at loops", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::AtLoops).collect_always(true);
    });
    add("tiered at loops, loop, guard pages", &|c| {
        c.strategy(Strategy::Tiered)
            .tiering(Tiering::AtLoops)
            .dispatch(Dispatch::Loop)
            .bounds_checks(BoundsChecks::Guard);
    });
    add("baseline", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::Baseline).collect_always(true);
    });
    add("baseline, loop", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::Baseline).dispatch(Dispatch::Loop);
    });
    add("baseline, tiered at loops", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::BaselineAtLoops);
    });
    all
}

impl Configuration {
    /// The engine of this configuration.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a module imports and exports.
    ///
    /// # Errors
    /// If the module is refused.
    pub fn interface(&self, wasm: &[u8]) -> Result<Interface, Error> {
        let module = Module::new(&self.engine, wasm)?;
        let types_of_functions = types_of_functions(wasm).expect("it is valid");
        let type_of = |name: &str| types_of_functions.get(name.strip_prefix('f')?.parse::<usize>().ok()?).copied();
        let export = |export: wasmrun::ExportType<'_>| Export {
            name: export.name().to_string(),
            ty: type_of(export.name()),
            kind: match export.ty() {
                // There are no arguments for a parameter that can't be null.
                ExternType::Func(ty) if !ty.params().iter().all(is_defaultable) => Kind::Uncalled,
                ExternType::Func(ty) => Kind::Func(types(ty.params()), types(ty.results())),
                ExternType::Table(_) => Kind::Table,
                ExternType::Memory(_) => Kind::Memory,
                ExternType::Global(_) => Kind::Global,
                _ => Kind::Uncalled,
            },
        };
        let mut functions = types_of_functions.iter();
        let import = |import: wasmrun::ImportType<'_>| match import.ty() {
            ExternType::Func(_) => functions.next().copied(),
            _ => None,
        };
        Ok(Interface {
            imports: module.imports().map(import).collect(),
            exports: module.exports().map(export).collect(),
        })
    }

    fn run(&self, wasm: &[u8], linked: &[Option<String>], manner: Manner) -> Result<Box<dyn Instance + '_>, Failure> {
        let module = Module::new(&self.engine, wasm).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut store = Store::new(&self.engine, Data::default());
        match manner {
            Manner::Plain => {}
            Manner::Fuelled(_) => store.set_fuel(MUCH).expect("the configuration consumes fuel"),
            Manner::Interrupted { .. } => interrupt(&mut store),
        }
        let start = |error: Error| Failure::Start(outcome(&error));
        let imports: Result<Vec<Extern>, Error> =
            module.imports().enumerate().map(|(i, item)| import(&mut store, &item.ty(), i)).collect();
        let mut imports = imports.map_err(start)?;
        let first = wasmrun::Instance::new(&mut store, &module, &imports).map_err(start)?;
        let mut instances = vec![first];
        for (import, name) in imports.iter_mut().zip(linked) {
            if let Some(name) = name {
                *import = first.get_func(&mut store, name).expect("it is exported").into();
            }
        }
        if !linked.is_empty() {
            instances.push(wasmrun::Instance::new(&mut store, &module, &imports).map_err(start)?);
        }
        let called = *instances.last().expect("there is one");
        let funcs: Vec<_> = (0..).map_while(|i| called.get_func(&mut store, &format!("f{i}"))).collect();
        let may_call = |func: &Func| func.ty(&store).params().iter().all(is_defaultable);
        store.data_mut().funcs = funcs.into_iter().filter(may_call).collect();
        Ok(Box::new(Running { store, instances, manner }))
    }
}

/// How calls are made.
#[derive(Clone, Copy)]
enum Manner {
    Plain,
    /// With so many units of fuel each.
    Fuelled(u64),
    /// Interrupted again and again; asynchronously, so that the code is suspended each time, if `suspends`.
    Interrupted {
        suspends: bool,
    },
}

/// Has code of the store interrupted at each tick. It collects then and gives way, which must change nothing.
fn interrupt(store: &mut Store<Data>) {
    store.epoch_deadline_callback(|mut store| {
        store.gc();
        Ok(UpdateDeadline::Yield(1))
    });
    store.set_epoch_deadline(1);
}

/// A configuration whose code is interrupted, at places that depend on the time.
pub struct Interrupted<'a> {
    name: String,
    configuration: &'a Configuration,
    suspends: bool,
}

impl<'a> Interrupted<'a> {
    /// In calls that are asynchronous if `suspends`. The engine's epochs must [tick].
    pub fn new(configuration: &'a Configuration, suspends: bool) -> Self {
        let manner = if suspends { "suspended" } else { "interrupted" };
        Interrupted { name: format!("{}, {manner}", configuration.name), configuration, suspends }
    }
}

/// Increments the epochs of engines for ever, as often as code can reasonably be interrupted.
pub fn tick(engines: &'static [Configuration]) {
    static TICKING: OnceLock<()> = OnceLock::new();
    TICKING.get_or_init(|| {
        thread::spawn(|| {
            loop {
                engines.iter().for_each(|configuration| configuration.engine.increment_epoch());
                thread::sleep(Duration::from_micros(20));
            }
        });
    });
}

/// Polls a future until it is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// A configuration that consumes fuel, with so many units for each call.
pub struct Fuelled<'a> {
    name: String,
    configuration: &'a Configuration,
    units: u64,
}

impl<'a> Fuelled<'a> {
    /// With more than a call uses.
    pub fn with_much(configuration: &'a Configuration) -> Self {
        Fuelled { name: format!("{}, fuel", configuration.name), configuration, units: MUCH }
    }

    /// With less: what was left after each call with much tells how much each used; the number chooses a call, and a part of
    /// what that used.
    pub fn with_little(configuration: &'a Configuration, left: &[u64], number: u64) -> Self {
        let used = left.get(number as usize % left.len().max(1)).map_or(0, |left| MUCH - left.min(&MUCH));
        let name = format!("{}, little fuel", configuration.name);
        Fuelled { name, configuration, units: number / 64 % (used + 1) }
    }
}

struct Running {
    store: Store<Data>,
    /// The last one is that whose exports are called.
    instances: Vec<wasmrun::Instance>,
    manner: Manner,
}

/// What host functions can get at.
#[derive(Default)]
struct Data {
    host: Host,
    /// The module's functions, for the host to call.
    funcs: Vec<Func>,
}

impl Running {
    fn instance(&self) -> wasmrun::Instance {
        *self.instances.last().expect("there is one")
    }
}

impl super::Engine for Configuration {
    fn name(&self) -> &str {
        self.name
    }

    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure> {
        self.run(wasm, linked, Manner::Plain)
    }
}

impl super::Engine for Fuelled<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure> {
        self.configuration.run(wasm, linked, Manner::Fuelled(self.units))
    }
}

impl super::Engine for Interrupted<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure> {
        self.configuration.run(wasm, linked, Manner::Interrupted { suspends: self.suspends })
    }
}

impl Instance for Running {
    fn call(&mut self, function: &str, args: &[Value], results: &[Type]) -> Outcome {
        let func = self.instance().get_func(&mut self.store, function).expect("it is exported");
        let ty = func.ty(&self.store);
        let args: Vec<wasmrun::Value> = args.iter().zip(ty.params()).map(|(value, ty)| native(*value, ty)).collect();
        let mut values = vec![wasmrun::Value::I32(0); results.len()];
        let result = match self.manner {
            Manner::Interrupted { suspends: true } => block_on(func.call_async(&mut self.store, &args, &mut values)),
            _ => func.call(&mut self.store, &args, &mut values),
        };
        match result {
            Ok(()) => Outcome::Values(values.iter().map(|v| value(&self.store, v)).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn set_fuel(&mut self, fuel: u32) {
        if let Manner::Fuelled(units) = self.manner {
            self.store.set_fuel(units).expect("the configuration consumes fuel");
        }
        for instance in &self.instances {
            if let Some(global) = instance.get_global(&mut self.store, "fuel") {
                global.set(&mut self.store, wasmrun::Value::I32(fuel as i32)).expect("it is a mutable i32");
            }
        }
    }

    fn global(&mut self, name: &str) -> Value {
        let global = self.instance().get_global(&mut self.store, name).expect("it is exported");
        value(&self.store, &global.get(&self.store))
    }

    fn memory(&mut self, name: &str) -> (u64, u64) {
        let memory = self.instance().get_memory(&mut self.store, name).expect("it is exported");
        (memory.size(&self.store), hash(memory.data(&self.store)))
    }

    fn table(&mut self, name: &str) -> Vec<Value> {
        let table = self.instance().get_table(&mut self.store, name).expect("it is exported");
        let elements = (0..table.size(&self.store)).filter_map(|i| table.get(&self.store, i));
        elements.map(|element| value(&self.store, &element.into())).collect()
    }

    fn units_left(&mut self) -> Option<u64> {
        self.store.get_fuel().ok()
    }

    fn host(&mut self) -> &mut Host {
        &mut self.store.data_mut().host
    }
}

fn is_defaultable(ty: &ValType) -> bool {
    !matches!(ty, ValType::Ref(ty) if !ty.is_nullable())
}

fn types(types: &[ValType]) -> Vec<Type> {
    let ty = |ty: &ValType| match ty {
        ValType::I32 => Type::I32,
        ValType::I64 => Type::I64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        ValType::V128 => Type::V128,
        ValType::Ref(ty) => match ty.heap_type().top() {
            HeapType::Func => Type::Func,
            HeapType::Extern => Type::Extern,
            HeapType::Exn => Type::Exn,
            _ => Type::Any,
        },
        other => panic!("an unknown type of value: {other:?}"),
    };
    types.iter().map(ty).collect()
}

fn native(value: Value, ty: &ValType) -> wasmrun::Value {
    match value {
        Value::I32(bits) => wasmrun::Value::I32(bits as i32),
        Value::I64(bits) => wasmrun::Value::I64(bits as i64),
        Value::F32(bits) => wasmrun::Value::F32(f32::from_bits(bits)),
        Value::F64(bits) => wasmrun::Value::F64(f64::from_bits(bits)),
        Value::V128(bits) => wasmrun::Value::V128(bits),
        Value::Ref(Some(number)) if *ty == ValType::EXTERNREF => {
            wasmrun::Value::ExternRef(Some(ExternRef::new(number)))
        }
        Value::I31(number) if ValType::Ref(wasmrun::RefType::new(false, HeapType::I31)).matches(ty) => {
            wasmrun::Value::AnyRef(Some(I31::wrapping_u32(number).into()))
        }
        _ => wasmrun::Value::default_for(ty),
    }
}

fn value(store: &impl AsContext<Data = Data>, value: &wasmrun::Value) -> Value {
    value_to(store, value, DEPTH)
}

/// With the contents of objects so many references deep.
fn value_to(store: &impl AsContext<Data = Data>, value: &wasmrun::Value, depth: usize) -> Value {
    match value {
        wasmrun::Value::I32(v) => Value::I32(*v as u32),
        wasmrun::Value::I64(v) => Value::I64(*v as u64),
        wasmrun::Value::F32(v) => Value::F32(v.to_bits()),
        wasmrun::Value::F64(v) => Value::F64(v.to_bits()),
        wasmrun::Value::V128(v) => Value::V128(*v),
        wasmrun::Value::FuncRef(v) => Value::Ref(v.is_some().then_some(0)),
        wasmrun::Value::ExternRef(v) => Value::Ref(v.as_ref().map(number_of)),
        wasmrun::Value::ExnRef(v) => Value::Ref(v.is_some().then_some(0)),
        wasmrun::Value::AnyRef(None) => Value::Ref(None),
        wasmrun::Value::AnyRef(Some(any)) => of_any(store, any, depth).expect("it is of this store"),
        other => panic!("an unknown type of value: {other:?}"),
    }
}

/// Which kind of object it is and what is in it; or the number, of an `i31`.
fn of_any(store: &impl AsContext<Data = Data>, any: &AnyRef, depth: usize) -> Result<Value, Error> {
    Ok(if let Some(number) = any.as_i31(store)? {
        Value::I31(number.get_u32())
    } else if let Some(object) = any.as_struct(store)? {
        let fields: Vec<_> = if depth == 0 { Vec::new() } else { object.fields(store.as_context())?.collect() };
        Value::Struct(hash_all(fields.len(), fields.iter().map(|field| value_to(store, field, depth - 1))))
    } else if let Some(object) = any.as_array(store)? {
        let length = object.len(store)? as usize;
        let some = if depth == 0 { 0 } else { ELEMENTS };
        let elements: Vec<_> = object.elems(store.as_context())?.take(some).collect();
        Value::Array(hash_all(length, elements.iter().map(|element| value_to(store, element, depth - 1))))
    } else {
        Value::Ref(Some(0))
    })
}

/// The number of an object; a false one if it is none of those that the host gave.
fn number_of(object: &ExternRef) -> u32 {
    object.data().downcast_ref().copied().unwrap_or(u32::MAX)
}

fn outcome(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Trap { trap: Trap::StackOverflow, .. } | ErrorKind::Resource(_) => Outcome::Limit,
        ErrorKind::Trap { trap, .. } => Outcome::Trap(trap.to_string()),
        ErrorKind::Exception(_) => Outcome::Exception,
        ErrorKind::Host(_) => Outcome::Host,
        _ => Outcome::Error(error.to_string()),
    }
}

fn import(store: &mut Store<Data>, ty: &ExternType, number: usize) -> Result<Extern, Error> {
    Ok(match ty {
        ExternType::Func(ty) => func(store, ty, number).into(),
        ExternType::Global(ty) => {
            let content = Value::sample(types(std::slice::from_ref(ty.content()))[0], number as u32);
            Global::new(&mut *store, ty.clone(), native(content, ty.content()))?.into()
        }
        ExternType::Memory(ty) => Memory::new(&mut *store, *ty)?.into(),
        ExternType::Table(ty) => {
            Table::new(&mut *store, ty.clone(), wasmrun::Ref::null(ty.element().heap_type()))?.into()
        }
        ExternType::Tag(ty) => Tag::new(&mut *store, ty)?.into(),
        other => panic!("an unknown type of import: {other}"),
    })
}

fn func(store: &mut Store<Data>, ty: &FuncType, number: usize) -> Func {
    let (params, results) = (types(ty.params()), types(ty.results()));
    let (param_types, result_types) = (ty.params().to_vec(), ty.results().to_vec());
    Func::new(
        &mut *store,
        ty.clone(),
        move |mut caller: Caller<'_, Data>, args: &[wasmrun::Value], out: &mut [wasmrun::Value]| {
            if let Ok(left) = caller.get_fuel() {
                caller.data_mut().host.note_units(left);
            }
            enter(&mut caller, number)?;
            let seen = args.iter().map(|v| value(&caller, v)).collect();
            let Some(answers) = caller.data_mut().host.call(number, seen, &params, &results) else {
                return Err(Error::host("the host fails"));
            };
            for ((slot, answer), ty) in out.iter_mut().zip(answers).zip(&result_types) {
                *slot = match answer {
                    Answer::Argument(i) if param_types[i].matches(ty) => args[i].clone(),
                    Answer::Argument(_) => wasmrun::Value::default_for(ty),
                    Answer::Value(value) => native(value, ty),
                };
            }
            Ok(())
        },
    )
}

/// Has a host function call the module, if it is its turn to.
fn enter(caller: &mut Caller<'_, Data>, number: usize) -> Result<(), Error> {
    let count = caller.data().funcs.len();
    if count == 0 {
        return Ok(());
    }
    let Some(chosen) = caller.data_mut().host.enter(number) else { return Ok(()) };
    let func = caller.data().funcs[chosen % count];
    let ty = func.ty(&*caller);
    let args: Vec<wasmrun::Value> = (0..)
        .zip(ty.params())
        .map(|(n, ty)| native(Value::sample(types(std::slice::from_ref(ty))[0], n), ty))
        .collect();
    let mut values = vec![wasmrun::Value::I32(0); ty.results().len()];
    let result = func.call(&mut *caller, &args, &mut values);
    let outcome = match &result {
        Ok(()) => Outcome::Values(values.iter().map(|v| value(&*caller, v)).collect()),
        Err(error) => outcome(error),
    };
    match caller.data_mut().host.leave(number, &outcome) {
        Reentry::PassOn => result,
        Reentry::Ignore => Ok(()),
    }
}
