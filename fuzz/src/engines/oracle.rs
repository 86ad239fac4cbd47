//! wasmi, the independent opinion.

use std::fmt::Write as _;

use wasmi::{
    Engine, Error, Extern, F32, F64, Func, FuncType, Global, Linker, Memory, MemoryType, Module, Mutability, Nullable,
    Ref, Store, Table, TableType, TrapCode, V128, Val, ValType,
};

use super::{Host, Outcome, hash};

pub struct Compiled {
    engine: Engine,
    module: Module,
}

impl Compiled {
    /// The module, if wasmi takes it.
    pub fn new(wasm: &[u8]) -> Option<Self> {
        let mut config = wasmi::Config::default();
        config.wasm_multi_memory(true).wasm_tail_call(true).wasm_extended_const(true).wasm_simd(true);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, wasm).ok()?;
        Some(Compiled { engine, module })
    }

    /// As for the runtime under test, whose order of `exports` it keeps; `None` where wasmi meets a limit of its own.
    pub fn run(&self, function: &str, exports: &[String]) -> Option<Outcome> {
        let mut store = Store::new(&self.engine, Host::default());
        let mut externs = Vec::new();
        let result = match self.call(&mut store, &mut externs, function, exports) {
            Ok(values) => values,
            Err(error) => describe(&error)?,
        };
        let state = state(&mut store, &externs);
        Some(Outcome { result, state })
    }

    fn call(
        &self,
        store: &mut Store<Host>,
        externs: &mut Vec<Extern>,
        function: &str,
        exports: &[String],
    ) -> Result<String, Error> {
        let mut linker = Linker::new(&self.engine);
        for (name, item) in imports(store)? {
            if ["memory", "table", "global"].contains(&name) {
                externs.push(item);
            }
            linker.define("host", name, item).expect("names differ");
        }
        let instance = linker.instantiate_and_start(&mut *store, &self.module)?;
        externs.extend(exports.iter().filter_map(|name| instance.get_export(&*store, name)));
        let func = instance.get_func(&*store, function).expect("it is exported");
        let ty = func.ty(&*store);
        let mut text = String::new();
        for round in 0..2u32 {
            let args: Vec<Val> = ty.params().iter().zip(round..).map(|(ty, i)| argument(*ty, i)).collect();
            let mut results: Vec<Val> = ty.results().iter().map(|ty| default(*ty)).collect();
            func.call(&mut *store, &args, &mut results)?;
            let _ = write!(text, "{} ", show_all(&results));
        }
        Ok(text)
    }
}

fn default(ty: ValType) -> Val {
    match ty {
        ValType::I32 => Val::I32(0),
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(F32::from_bits(0)),
        ValType::F64 => Val::F64(F64::from_bits(0)),
        ValType::V128 => Val::V128(V128::from(0)),
        ValType::FuncRef => Val::FuncRef(Nullable::Null),
        ValType::ExternRef => Val::ExternRef(Nullable::Null),
    }
}

fn argument(ty: ValType, i: u32) -> Val {
    match ty {
        ValType::I32 => Val::I32(super::ARGUMENTS[i as usize % super::ARGUMENTS.len()] as i32),
        ValType::I64 => Val::I64(super::ARGUMENTS[i as usize % super::ARGUMENTS.len()]),
        ValType::F32 => Val::F32(F32::from_bits((i as f32 * 1.5 - 1.0).to_bits())),
        ValType::F64 => Val::F64(F64::from_bits((f64::from(i) * 1e9 - 0.5).to_bits())),
        ValType::V128 => Val::V128(V128::from(u128::from(i) * 0x0123_4567_89ab_cdef_0011_2233)),
        other => default(other),
    }
}

fn show_all(values: &[Val]) -> String {
    let mut text = String::new();
    for value in values {
        let _ = match value {
            Val::I32(v) => write!(text, "i32:{v:x} "),
            Val::I64(v) => write!(text, "i64:{v:x} "),
            Val::F32(v) => write!(text, "f32:{:x} ", v.to_bits()),
            Val::F64(v) => write!(text, "f64:{:x} ", v.to_bits()),
            Val::V128(v) => write!(text, "v128:{:x} ", v.as_u128()),
            Val::FuncRef(v) => write!(text, "func:{} ", !matches!(v, Nullable::Null)),
            Val::ExternRef(v) => write!(text, "extern:{} ", !matches!(v, Nullable::Null)),
        };
    }
    text
}

/// The trap in the words of the official suite.
fn describe(error: &Error) -> Option<String> {
    let message = match error.as_trap_code()? {
        TrapCode::UnreachableCodeReached => "unreachable",
        TrapCode::MemoryOutOfBounds => "out of bounds memory access",
        TrapCode::TableOutOfBounds => "out of bounds table access",
        TrapCode::IndirectCallToNull => "uninitialized element",
        TrapCode::IntegerDivisionByZero => "integer divide by zero",
        TrapCode::IntegerOverflow => "integer overflow",
        TrapCode::BadConversionToInteger => "invalid conversion to integer",
        TrapCode::BadSignature => "indirect call type mismatch",
        _ => return None,
    };
    Some(format!("trap: {message}"))
}

fn imports(store: &mut Store<Host>) -> Result<Vec<(&'static str, Extern)>, Error> {
    use ValType::{F32, F64, I32, I64, V128};
    let mut all = Vec::new();
    for (name, params, results) in [
        ("log", &[I32, I64, F32, F64][..], &[][..]),
        ("next", &[], &[I32]),
        ("pair", &[I64], &[I64, I32]),
        ("vector", &[V128, I32], &[V128]),
        ("many", &[I32, I64, F32, F64, I32, I64, F32, F64, I32, I64, F32, F64, I32], &[F64, F32, I64, I32]),
    ] {
        let ty = FuncType::new(params.iter().copied(), results.iter().copied());
        let func = Func::new(&mut *store, ty, move |mut caller: wasmi::Caller<'_, Host>, args, results| {
            let host = caller.data_mut();
            host.log(name, &show_all(args));
            for result in results {
                let bits = host.next();
                *result = match result {
                    Val::I32(_) => Val::I32(bits as i32),
                    Val::I64(_) => Val::I64(i64::from(bits) << 13),
                    Val::F32(_) => Val::F32((bits as f32).into()),
                    Val::F64(_) => Val::F64((f64::from(bits) / 3.0).into()),
                    _ => Val::V128(wasmi::V128::from(u128::from(bits) << 50)),
                };
            }
            Ok(())
        });
        all.push((name, Extern::Func(func)));
    }
    let memory = Memory::new(&mut *store, MemoryType::new(1, Some(3)))?;
    memory.write(&mut *store, 100, b"a few bytes to begin with").expect("it fits");
    all.push(("memory", Extern::Memory(memory)));
    let ty = TableType::new(wasmi::RefType::Func, 5, Some(20));
    all.push(("table", Extern::Table(Table::new(&mut *store, ty, Ref::Func(Nullable::Null))?)));
    all.push(("global", Extern::Global(Global::new(&mut *store, Val::I64(-3), Mutability::Var))));
    all.push(("constant", Extern::Global(Global::new(&mut *store, Val::I32(4), Mutability::Const))));
    Ok(all)
}

fn state(store: &mut Store<Host>, externs: &[Extern]) -> String {
    let mut text = std::mem::take(&mut store.data_mut().log);
    for item in externs {
        let _ = match item {
            Extern::Memory(memory) => write!(text, "memory:{}:{:x} ", memory.size(&*store), hash(memory.data(&*store))),
            Extern::Global(global) => write!(text, "global:{} ", show_all(&[global.get(&*store)])),
            Extern::Table(table) => {
                let size = table.size(&*store);
                let elements: Vec<Val> = (0..size).filter_map(|i| table.get(&*store, i)).map(Val::from).collect();
                write!(text, "table:{size}:{} ", show_all(&elements))
            }
            _ => Ok(()),
        };
    }
    text
}
