//! The runtime under test.

use std::fmt::Write as _;

use wasmrun::{
    Engine, Error, Extern, ExternType, FuncType, Global, GlobalType, Linker, Memory, MemoryType, Module, Store, Table,
    TableType, ValType, Value,
};

use super::{Host, Outcome, hash};

/// A module of one configuration.
pub struct Compiled {
    pub name: &'static str,
    engine: Engine,
    module: Module,
}

impl Compiled {
    pub fn new(name: &'static str, engine: &Engine, wasm: &[u8]) -> Result<Self, Error> {
        Ok(Compiled { name, engine: engine.clone(), module: Module::new(engine, wasm)? })
    }

    /// Names of all exports, in the module's order.
    pub fn exports(&self) -> Vec<String> {
        self.module.exports().map(|export| export.name().to_string()).collect()
    }

    /// Names of the exported functions.
    pub fn functions(&self) -> Vec<String> {
        let functions = self.module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
        functions.map(|export| export.name().to_string()).collect()
    }

    /// Calls an export twice in a fresh instance.
    pub fn run(&self, function: &str) -> Outcome {
        let mut store = Store::new(&self.engine, Host::default());
        let mut externs = Vec::new();
        let result = match self.call(&mut store, &mut externs, function) {
            Ok(values) => values,
            Err(error) => describe(&error),
        };
        Outcome { result, state: state(&mut store, &externs) }
    }

    fn call(&self, store: &mut Store<Host>, externs: &mut Vec<Extern>, function: &str) -> Result<String, Error> {
        let linker = imports(&self.engine, store)?;
        for name in ["memory", "table", "global"] {
            externs.extend(linker.get(&mut *store, "host", name));
        }
        let instance = linker.instantiate(&mut *store, &self.module)?;
        externs.extend(instance.exports(&mut *store).into_iter().map(|(_, item)| item));
        let func = instance.get_func(&mut *store, function).expect("it is exported");
        let ty = func.ty(&*store);
        let mut text = String::new();
        for round in 0..2u32 {
            let args: Vec<Value> = ty.params().iter().zip(round..).map(|(ty, i)| argument(*ty, i)).collect();
            let mut results: Vec<Value> = ty.results().iter().map(|ty| Value::default_for(*ty)).collect();
            func.call(&mut *store, &args, &mut results)?;
            let _ = write!(text, "{} ", show_all(&results));
        }
        Ok(text)
    }
}

fn argument(ty: ValType, i: u32) -> Value {
    match ty {
        ValType::I32 => Value::I32(super::ARGUMENTS[i as usize % super::ARGUMENTS.len()] as i32),
        ValType::I64 => Value::I64(super::ARGUMENTS[i as usize % super::ARGUMENTS.len()]),
        ValType::F32 => Value::F32(i as f32 * 1.5 - 1.0),
        ValType::F64 => Value::F64(f64::from(i) * 1e9 - 0.5),
        ValType::V128 => Value::V128(u128::from(i) * 0x0123_4567_89ab_cdef_0011_2233),
        other => Value::default_for(other),
    }
}

fn show_all(values: &[Value]) -> String {
    let mut text = String::new();
    for value in values {
        let _ = match value {
            Value::I32(v) => write!(text, "i32:{v:x} "),
            Value::I64(v) => write!(text, "i64:{v:x} "),
            Value::F32(v) => write!(text, "f32:{:x} ", v.to_bits()),
            Value::F64(v) => write!(text, "f64:{:x} ", v.to_bits()),
            Value::V128(v) => write!(text, "v128:{v:x} "),
            Value::FuncRef(v) => write!(text, "func:{} ", v.is_some()),
            Value::ExternRef(v) => write!(text, "extern:{} ", v.is_some()),
            Value::ExnRef(v) => write!(text, "exn:{} ", v.is_some()),
            other => write!(text, "{other:?} "),
        };
    }
    text
}

fn describe(error: &Error) -> String {
    match (error.trap(), error.kind()) {
        (Some(trap), _) => format!("trap: {trap}"),
        (None, wasmrun::ErrorKind::Resource(message)) => format!("resource: {message}"),
        (None, wasmrun::ErrorKind::Exception(_)) => "exception".to_string(),
        (None, _) => format!("error: {error}"),
    }
}

fn imports(engine: &Engine, store: &mut Store<Host>) -> Result<Linker<Host>, Error> {
    use ValType::{F32, F64, I32, I64, V128};
    let mut linker = Linker::new(engine);
    for (name, params, results) in [
        ("log", &[I32, I64, F32, F64][..], &[][..]),
        ("next", &[], &[I32]),
        ("pair", &[I64], &[I64, I32]),
        ("vector", &[V128, I32], &[V128]),
        ("many", &[I32, I64, F32, F64, I32, I64, F32, F64, I32, I64, F32, F64, I32], &[F64, F32, I64, I32]),
    ] {
        let ty = FuncType::new(params.iter().copied(), results.iter().copied());
        linker.func_new("host", name, ty, move |mut caller: wasmrun::Caller<'_, Host>, args, results| {
            let host = caller.data_mut();
            host.log(name, &show_all(args));
            for result in results {
                let bits = host.next();
                *result = match result {
                    Value::I32(_) => Value::I32(bits as i32),
                    Value::I64(_) => Value::I64(i64::from(bits) << 13),
                    Value::F32(_) => Value::F32(bits as f32),
                    Value::F64(_) => Value::F64(f64::from(bits) / 3.0),
                    _ => Value::V128(u128::from(bits) << 50),
                };
            }
            Ok(())
        })?;
    }
    let memory = Memory::new(&mut *store, MemoryType { minimum: 1, maximum: Some(3) })?;
    memory.write(&mut *store, 100, b"a few bytes to begin with")?;
    linker.define("host", "memory", Extern::Memory(memory))?;
    let ty = TableType { element: ValType::FuncRef, minimum: 5, maximum: Some(20) };
    let table = Table::new(&mut *store, ty, Value::FuncRef(None))?;
    linker.define("host", "table", Extern::Table(table))?;
    let ty = GlobalType { content: I64, mutable: true };
    let global = Global::new(&mut *store, ty, Value::I64(-3))?;
    linker.define("host", "global", Extern::Global(global))?;
    let ty = GlobalType { content: I32, mutable: false };
    let constant = Global::new(&mut *store, ty, Value::I32(4))?;
    linker.define("host", "constant", Extern::Global(constant))?;
    Ok(linker)
}

fn state(store: &mut Store<Host>, externs: &[Extern]) -> String {
    let mut text = std::mem::take(&mut store.data_mut().log);
    for item in externs {
        let _ = match item {
            Extern::Memory(memory) => write!(text, "memory:{}:{:x} ", memory.size(&*store), hash(memory.data(&*store))),
            Extern::Global(global) => write!(text, "global:{} ", show_all(&[global.get(&*store)])),
            Extern::Table(table) => {
                let size = table.ty(&*store).minimum;
                let elements: Vec<Value> = (0..size).filter_map(|i| table.get(&*store, i)).collect();
                write!(text, "table:{size}:{} ", show_all(&elements))
            }
            _ => Ok(()),
        };
    }
    text
}
