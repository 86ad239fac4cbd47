//! wasmi, an oracle that shares no code with the compilers. It has no exceptions, atomic instructions, typed function references
//! or garbage collection, and as it is built here no 64-bit memories.

use wasmi::{
    AsContext, AsContextMut, Caller, Engine, Error, Extern, ExternRef, ExternType, F32, F64, Func, FuncType, Global,
    Memory, Module, Nullable, Ref, Store, Table, TrapCode, V128, Val, ValType,
};

use super::{Failure, Instance};
use crate::host::{Answer, Host, Reentry};
use crate::value::{Outcome, Type, Value, hash};

pub struct Wasmi(Engine);

impl Default for Wasmi {
    fn default() -> Self {
        let mut config = wasmi::Config::default();
        config.wasm_multi_memory(true).wasm_tail_call(true).wasm_extended_const(true).wasm_simd(true);
        config.wasm_wide_arithmetic(true).wasm_custom_page_sizes(true);
        Wasmi(Engine::new(&config))
    }
}

struct Running {
    store: Store<Data>,
    /// The last one is that whose exports are called.
    instances: Vec<wasmi::Instance>,
}

/// What host functions can get at.
#[derive(Default)]
struct Data {
    host: Host,
    /// The module's functions, for the host to call.
    funcs: Vec<Func>,
}

impl Running {
    fn instance(&self) -> wasmi::Instance {
        *self.instances.last().expect("there is one")
    }
}

impl super::Engine for Wasmi {
    fn name(&self) -> &str {
        "wasmi"
    }

    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure> {
        let module = Module::new(&self.0, wasm).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut store = Store::new(&self.0, Data::default());
        let start = |error: Error| Failure::Start(outcome(&error));
        let imports: Result<Vec<Extern>, Error> =
            module.imports().enumerate().map(|(i, item)| import(&mut store, item.ty(), i)).collect();
        let mut imports = imports.map_err(start)?;
        let first = wasmi::Instance::new(&mut store, &module, &imports).map_err(start)?;
        let mut instances = vec![first];
        for (import, name) in imports.iter_mut().zip(linked) {
            if let Some(name) = name {
                *import = first.get_func(&store, name).expect("it is exported").into();
            }
        }
        if !linked.is_empty() {
            instances.push(wasmi::Instance::new(&mut store, &module, &imports).map_err(start)?);
        }
        let called = *instances.last().expect("there is one");
        store.data_mut().funcs = (0..).map_while(|i| called.get_func(&store, &format!("f{i}"))).collect();
        Ok(Box::new(Running { store, instances }))
    }
}

impl Instance for Running {
    fn call(&mut self, function: &str, args: &[Value], results: &[Type]) -> Outcome {
        let func = self.instance().get_func(&self.store, function).expect("it is exported");
        let ty = func.ty(&self.store);
        let args: Vec<Val> =
            args.iter().zip(ty.params()).map(|(value, ty)| native(&mut self.store, *value, *ty)).collect();
        let mut values = vec![Val::I32(0); results.len()];
        match func.call(&mut self.store, &args, &mut values) {
            Ok(()) => Outcome::Values(values.iter().map(|v| value(&self.store, v)).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn set_fuel(&mut self, fuel: u32) {
        for instance in &self.instances {
            if let Some(global) = instance.get_global(&self.store, "fuel") {
                global.set(&mut self.store, Val::I32(fuel as i32)).expect("it is a mutable i32");
            }
        }
    }

    fn global(&mut self, name: &str) -> Value {
        let global = self.instance().get_global(&self.store, name).expect("it is exported");
        value(&self.store, &global.get(&self.store))
    }

    fn memory(&mut self, name: &str) -> (u64, u64) {
        let memory = self.instance().get_memory(&self.store, name).expect("it is exported");
        (memory.size(&self.store), hash(memory.data(&self.store)))
    }

    fn table(&mut self, name: &str) -> Vec<Value> {
        let table = self.instance().get_table(&self.store, name).expect("it is exported");
        let elements = (0..table.size(&self.store)).filter_map(|i| table.get(&self.store, i));
        elements.map(|element| value(&self.store, &Val::from(element))).collect()
    }

    fn host(&mut self) -> &mut Host {
        &mut self.store.data_mut().host
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
    };
    types.iter().map(ty).collect()
}

fn native(store: impl AsContextMut, value: Value, ty: ValType) -> Val {
    match value {
        Value::I32(bits) => Val::I32(bits as i32),
        Value::I64(bits) => Val::I64(bits as i64),
        Value::F32(bits) => Val::F32(F32::from_bits(bits)),
        Value::F64(bits) => Val::F64(F64::from_bits(bits)),
        Value::V128(bits) => Val::V128(V128::from(bits)),
        Value::Ref(None) if ty == ValType::FuncRef => Val::FuncRef(Nullable::Null),
        Value::Ref(Some(number)) => Val::ExternRef(ExternRef::new(store, number).into()),
        Value::Ref(None) | Value::I31(_) | Value::Struct(_) | Value::Array(_) => Val::ExternRef(Nullable::Null),
    }
}

fn value(store: impl AsContext<Data = Data>, value: &Val) -> Value {
    match value {
        Val::I32(v) => Value::I32(*v as u32),
        Val::I64(v) => Value::I64(*v as u64),
        Val::F32(v) => Value::F32(v.to_bits()),
        Val::F64(v) => Value::F64(v.to_bits()),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(v) => Value::Ref((!matches!(v, Nullable::Null)).then_some(0)),
        Val::ExternRef(Nullable::Null) => Value::Ref(None),
        Val::ExternRef(Nullable::Val(object)) => {
            Value::Ref(Some(object.data(store.as_context()).downcast_ref().copied().unwrap_or(u32::MAX)))
        }
    }
}

fn outcome(error: &Error) -> Outcome {
    let message = match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => "unreachable",
        Some(TrapCode::MemoryOutOfBounds) => "out of bounds memory access",
        Some(TrapCode::TableOutOfBounds) => "out of bounds table access",
        Some(TrapCode::IndirectCallToNull) => "uninitialized element",
        Some(TrapCode::IntegerDivisionByZero) => "integer divide by zero",
        Some(TrapCode::IntegerOverflow) => "integer overflow",
        Some(TrapCode::BadConversionToInteger) => "invalid conversion to integer",
        Some(TrapCode::BadSignature) => "indirect call type mismatch",
        Some(_) => return Outcome::Limit,
        None if error.to_string().contains("the host fails") => return Outcome::Host,
        None => return Outcome::Limit,
    };
    Outcome::Trap(message.into())
}

fn import(store: &mut Store<Data>, ty: &ExternType, number: usize) -> Result<Extern, Error> {
    Ok(match ty {
        ExternType::Func(ty) => func(store, ty, number).into(),
        ExternType::Global(ty) => {
            let content = Value::sample(types(&[ty.content()])[0], number as u32);
            let content = native(&mut *store, content, ty.content());
            Global::new(&mut *store, content, ty.mutability()).into()
        }
        ExternType::Memory(ty) => Memory::new(&mut *store, *ty)?.into(),
        ExternType::Table(ty) => {
            let null = match native(&mut *store, Value::Ref(None), ty.element().into()) {
                Val::FuncRef(null) => Ref::Func(null),
                Val::ExternRef(null) => Ref::Extern(null),
                _ => unreachable!("elements are references"),
            };
            Table::new(&mut *store, *ty, null)?.into()
        }
    })
}

fn func(store: &mut Store<Data>, ty: &FuncType, number: usize) -> Func {
    let (params, results, result_types) = (types(ty.params()), types(ty.results()), ty.results().to_vec());
    Func::new(&mut *store, ty.clone(), move |mut caller: Caller<'_, Data>, args: &[Val], out: &mut [Val]| {
        enter(&mut caller, number)?;
        let seen = args.iter().map(|v| value(&caller, v)).collect();
        let Some(answers) = caller.data_mut().host.call(number, seen, &params, &results) else {
            return Err(Error::new("the host fails"));
        };
        for ((slot, answer), ty) in out.iter_mut().zip(answers).zip(&result_types) {
            *slot = match answer {
                Answer::Argument(i) => args[i].clone(),
                Answer::Value(value) => native(&mut caller, value, *ty),
            };
        }
        Ok(())
    })
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
    let args: Vec<Val> =
        (0..).zip(ty.params()).map(|(n, ty)| native(&mut *caller, Value::sample(types(&[*ty])[0], n), *ty)).collect();
    let mut values = vec![Val::I32(0); ty.results().len()];
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
