//! The runtime under test, in each of its configurations.

use wasmrun::{
    BoundsChecks, Caller, Config, Dispatch, Engine, Error, ErrorKind, Extern, ExternType, Func, FuncType, Global,
    Memory, Module, Store, Strategy, Table, Tag, Tiering, Trap, ValType,
};

use super::{Export, Failure, Instance, Kind};
use crate::host::{Answer, Host};
use crate::value::{Outcome, Type, Value, hash};

/// The runtime in one configuration.
pub struct Configuration {
    name: &'static str,
    engine: Engine,
}

/// Every configuration of the runtime.
pub fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    let mut add = |name, set: &dyn Fn(&mut Config)| {
        let mut config = Config::new();
        config.max_wasm_stack(512 << 10);
        set(&mut config);
        let engine = Engine::new(&config).expect("the host can run every configuration");
        all.push(Configuration { name, engine });
    };
    add("interpreter, tail calls", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    });
    add("interpreter, loop", &|c| {
        c.strategy(Strategy::Interpreter).dispatch(Dispatch::Loop);
    });
    if !Engine::has_jit() {
        return all;
    }
    add("best, inline checks", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline);
    });
    add("best, guard pages", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard);
    });
    add("quick, inline checks", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Inline).quick_code(true);
    });
    add("quick, guard pages", &|c| {
        c.strategy(Strategy::Jit).bounds_checks(BoundsChecks::Guard).quick_code(true);
    });
    add("tiered", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::Measured);
    });
    add("tiered at once", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::AtOnce);
    });
    add("tiered at loops", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::AtLoops);
    });
    add("tiered at loops, loop, guard pages", &|c| {
        c.strategy(Strategy::Tiered)
            .tiering(Tiering::AtLoops)
            .dispatch(Dispatch::Loop)
            .bounds_checks(BoundsChecks::Guard);
    });
    add("baseline", &|c| {
        c.strategy(Strategy::Tiered).tiering(Tiering::Baseline);
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

    /// The exports of a module, with types.
    ///
    /// # Errors
    /// If the module is refused.
    pub fn exports(&self, wasm: &[u8]) -> Result<Vec<Export>, Error> {
        let module = Module::new(&self.engine, wasm)?;
        let export = |export: wasmrun::ExportType<'_>| Export {
            name: export.name().to_string(),
            kind: match export.ty() {
                ExternType::Func(ty) => Kind::Func(types(ty.params()), types(ty.results())),
                ExternType::Table(_) => Kind::Table,
                ExternType::Memory(_) => Kind::Memory,
                ExternType::Global(_) => Kind::Global,
                _ => Kind::Tag,
            },
        };
        Ok(module.exports().map(export).collect())
    }
}

struct Running {
    store: Store<Host>,
    instance: wasmrun::Instance,
}

impl super::Engine for Configuration {
    fn name(&self) -> &str {
        self.name
    }

    fn instantiate(&self, wasm: &[u8]) -> Result<Box<dyn Instance + '_>, Failure> {
        let module = Module::new(&self.engine, wasm).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut store = Store::new(&self.engine, Host::default());
        let start = |error: Error| Failure::Start(outcome(&error));
        let imports: Result<Vec<Extern>, Error> =
            module.imports().enumerate().map(|(i, item)| import(&mut store, item.ty(), i)).collect();
        let instance = wasmrun::Instance::new(&mut store, &module, &imports.map_err(start)?).map_err(start)?;
        Ok(Box::new(Running { store, instance }))
    }
}

impl Instance for Running {
    fn call(&mut self, function: &str, args: &[Value], results: &[Type]) -> Outcome {
        let func = self.instance.get_func(&mut self.store, function).expect("it is exported");
        let ty = func.ty(&self.store);
        let args: Vec<wasmrun::Value> = args.iter().zip(ty.params()).map(|(value, ty)| native(*value, *ty)).collect();
        let mut values = vec![wasmrun::Value::I32(0); results.len()];
        match func.call(&mut self.store, &args, &mut values) {
            Ok(()) => Outcome::Values(values.iter().map(value).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn set_fuel(&mut self, fuel: u32) {
        if let Some(global) = self.instance.get_global(&mut self.store, "fuel") {
            global.set(&mut self.store, wasmrun::Value::I32(fuel as i32)).expect("it is a mutable i32");
        }
    }

    fn global(&mut self, name: &str) -> Value {
        let global = self.instance.get_global(&mut self.store, name).expect("it is exported");
        value(&global.get(&self.store))
    }

    fn memory(&mut self, name: &str) -> (u64, u64) {
        let memory = self.instance.get_memory(&mut self.store, name).expect("it is exported");
        (memory.size(&self.store), hash(memory.data(&self.store)))
    }

    fn table(&mut self, name: &str) -> Vec<bool> {
        let table = self.instance.get_table(&mut self.store, name).expect("it is exported");
        let elements = (0..table.size(&self.store)).filter_map(|i| table.get(&self.store, i));
        elements.map(|element| value(&element) == Value::Ref(true)).collect()
    }

    fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }
}

fn types(types: &[ValType]) -> Vec<Type> {
    let ty = |ty: &ValType| match ty {
        ValType::I32 => Type::I32,
        ValType::I64 => Type::I64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        ValType::V128 => Type::V128,
        ValType::FuncRef => Type::Func,
        ValType::ExternRef => Type::Extern,
        ValType::ExnRef => Type::Exn,
        other => panic!("an unknown type of value: {other:?}"),
    };
    types.iter().map(ty).collect()
}

fn native(value: Value, ty: ValType) -> wasmrun::Value {
    match value {
        Value::I32(bits) => wasmrun::Value::I32(bits as i32),
        Value::I64(bits) => wasmrun::Value::I64(bits as i64),
        Value::F32(bits) => wasmrun::Value::F32(f32::from_bits(bits)),
        Value::F64(bits) => wasmrun::Value::F64(f64::from_bits(bits)),
        Value::V128(bits) => wasmrun::Value::V128(bits),
        Value::Ref(_) => wasmrun::Value::default_for(ty),
    }
}

fn value(value: &wasmrun::Value) -> Value {
    match value {
        wasmrun::Value::I32(v) => Value::I32(*v as u32),
        wasmrun::Value::I64(v) => Value::I64(*v as u64),
        wasmrun::Value::F32(v) => Value::F32(v.to_bits()),
        wasmrun::Value::F64(v) => Value::F64(v.to_bits()),
        wasmrun::Value::V128(v) => Value::V128(*v),
        wasmrun::Value::FuncRef(v) => Value::Ref(v.is_some()),
        wasmrun::Value::ExternRef(v) => Value::Ref(v.is_some()),
        wasmrun::Value::ExnRef(v) => Value::Ref(v.is_some()),
        other => panic!("an unknown type of value: {other:?}"),
    }
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

fn import(store: &mut Store<Host>, ty: &ExternType, number: usize) -> Result<Extern, Error> {
    Ok(match ty {
        ExternType::Func(ty) => func(store, ty, number).into(),
        ExternType::Global(ty) => {
            let content = Value::sample(types(&[ty.content])[0], number as u32);
            Global::new(&mut *store, *ty, native(content, ty.content))?.into()
        }
        ExternType::Memory(ty) => Memory::new(&mut *store, *ty)?.into(),
        ExternType::Table(ty) => Table::new(&mut *store, *ty, wasmrun::Value::default_for(ty.element))?.into(),
        ExternType::Tag(ty) => Tag::new(&mut *store, ty.clone()).into(),
        other => panic!("an unknown type of import: {other}"),
    })
}

fn func(store: &mut Store<Host>, ty: &FuncType, number: usize) -> Func {
    let (params, results, result_types) = (types(ty.params()), types(ty.results()), ty.results().to_vec());
    Func::new(
        &mut *store,
        ty.clone(),
        move |mut caller: Caller<'_, Host>, args: &[wasmrun::Value], out: &mut [wasmrun::Value]| {
            let seen = args.iter().map(value).collect();
            let Some(answers) = caller.data_mut().call(number, seen, &params, &results) else {
                return Err(Error::host("the host fails"));
            };
            for ((slot, answer), ty) in out.iter_mut().zip(answers).zip(&result_types) {
                *slot = match answer {
                    Answer::Argument(i) => args[i].clone(),
                    Answer::Value(value) => native(value, *ty),
                };
            }
            Ok(())
        },
    )
}
