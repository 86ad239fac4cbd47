//! wasmtime, an oracle for everything that the runtime under test runs, but for exceptions of the legacy form and, as it is built here,
//! atomic instructions.

use wasmtime::{
    AnyRef, AsContext, AsContextMut, Caller, Collector, Config, Engine, Error, Extern, ExternRef, ExternType, Func,
    FuncType, Global, HeapType, I31, Memory, Module, OptLevel, Ref, RefType, Rooted, Store, Table, Tag,
    ThrownException, Trap, Val, ValType,
};

use super::{Failure, Instance};
use crate::host::{Answer, Host, Reentry};
use crate::value::{DEPTH, ELEMENTS, Outcome, Type, Value, hash, hash_all};

pub struct Wasmtime(Engine);

impl Default for Wasmtime {
    fn default() -> Self {
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::None)
            .cranelift_regalloc_algorithm(wasmtime::RegallocAlgorithm::SinglePass)
            .max_wasm_stack(512 << 10);
        config.wasm_exceptions(true).wasm_tail_call(true).wasm_multi_memory(true).wasm_relaxed_simd(true);
        config.wasm_wide_arithmetic(true).wasm_memory64(true).wasm_custom_page_sizes(true);
        config.wasm_function_references(true).wasm_gc(true);
        config.relaxed_simd_deterministic(true).wasm_backtrace_max_frames(None);
        config.generate_address_map(false).native_unwind_info(false);
        // Nothing runs for long.
        config.collector(Collector::Null);
        // Two runtimes in one process would both want the signals.
        config.signals_based_traps(false).memory_reservation(0).memory_guard_size(0).memory_init_cow(false);
        Wasmtime(Engine::new(&config).expect("the host can run wasmtime"))
    }
}

struct Running {
    store: Store<Data>,
    /// The last one is that whose exports are called.
    instances: Vec<wasmtime::Instance>,
}

/// What host functions can get at.
#[derive(Default)]
struct Data {
    host: Host,
    /// The module's functions, for the host to call.
    funcs: Vec<Func>,
}

impl Running {
    fn instance(&self) -> wasmtime::Instance {
        *self.instances.last().expect("there is one")
    }
}

impl super::Engine for Wasmtime {
    fn name(&self) -> &str {
        "wasmtime"
    }

    fn instantiate(&self, wasm: &[u8], linked: &[Option<String>]) -> Result<Box<dyn Instance + '_>, Failure> {
        let module = Module::new(&self.0, wasm).map_err(|error| Failure::Refused(format!("{error:#}")))?;
        let mut store = Store::new(&self.0, Data::default());
        let start = |error: Error| Failure::Start(outcome(&error));
        let imports: Result<Vec<Extern>, Error> =
            module.imports().enumerate().map(|(i, item)| import(&mut store, &item.ty(), i)).collect();
        let mut imports = imports.map_err(start)?;
        let first = wasmtime::Instance::new(&mut store, &module, &imports).map_err(start)?;
        let mut instances = vec![first];
        for (import, name) in imports.iter_mut().zip(linked) {
            if let Some(name) = name {
                *import = first.get_func(&mut store, name).expect("it is exported").into();
            }
        }
        if !linked.is_empty() {
            instances.push(wasmtime::Instance::new(&mut store, &module, &imports).map_err(start)?);
        }
        let called = *instances.last().expect("there is one");
        let funcs: Vec<_> = (0..).map_while(|i| called.get_func(&mut store, &format!("f{i}"))).collect();
        // Others can be passed nothing.
        let may_call = |func: &Func| func.ty(&store).params().all(|ty| Val::default_for_ty(&ty).is_some());
        store.data_mut().funcs = funcs.into_iter().filter(may_call).collect();
        Ok(Box::new(Running { store, instances }))
    }
}

impl Instance for Running {
    fn call(&mut self, function: &str, args: &[Value], results: &[Type]) -> Outcome {
        let func = self.instance().get_func(&mut self.store, function).expect("it is exported");
        let ty = func.ty(&self.store);
        let args: Vec<Val> =
            args.iter().zip(ty.params()).map(|(value, ty)| native(&mut self.store, *value, &ty)).collect();
        let mut values = vec![Val::I32(0); results.len()];
        match func.call(&mut self.store, &args, &mut values) {
            Ok(()) => Outcome::Values(values.iter().map(|v| value(&mut self.store, v)).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn set_fuel(&mut self, fuel: u32) {
        for instance in &self.instances {
            if let Some(global) = instance.get_global(&mut self.store, "fuel") {
                global.set(&mut self.store, Val::I32(fuel as i32)).expect("it is a mutable i32");
            }
        }
    }

    fn global(&mut self, name: &str) -> Value {
        let global = self.instance().get_global(&mut self.store, name).expect("it is exported");
        let content = global.get(&mut self.store);
        value(&mut self.store, &content)
    }

    fn memory(&mut self, name: &str) -> (u64, u64) {
        let memory = self.instance().get_memory(&mut self.store, name).expect("it is exported");
        (memory.size(&self.store), hash(memory.data(&self.store)))
    }

    fn table(&mut self, name: &str) -> Vec<Value> {
        let table = self.instance().get_table(&mut self.store, name).expect("it is exported");
        let size = table.size(&self.store);
        let elements: Vec<_> = (0..size).filter_map(|i| table.get(&mut self.store, i)).collect();
        elements.into_iter().map(|element| value(&mut self.store, &element.into())).collect()
    }

    fn host(&mut self) -> &mut Host {
        &mut self.store.data_mut().host
    }
}

fn types(types: impl Iterator<Item = ValType>) -> Vec<Type> {
    let ty = |ty: ValType| match ty {
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
    };
    types.map(ty).collect()
}

fn native(store: impl AsContextMut, value: Value, ty: &ValType) -> Val {
    match value {
        Value::I32(bits) => Val::I32(bits as i32),
        Value::I64(bits) => Val::I64(bits as i64),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.into()),
        Value::Ref(Some(number)) if ValType::eq(ty, &ValType::EXTERNREF) => {
            Val::ExternRef(Some(ExternRef::new(store, number).expect("there is memory")))
        }
        Value::I31(number) if ValType::Ref(RefType::new(false, HeapType::I31)).matches(ty) => {
            Val::AnyRef(Some(AnyRef::from_i31(store, I31::wrapping_u32(number))))
        }
        _ => Val::default_for_ty(ty).expect("references are nullable"),
    }
}

fn value(store: &mut impl AsContextMut<Data = Data>, value: &Val) -> Value {
    value_to(store, value, DEPTH)
}

/// With the contents of objects so many references deep.
fn value_to(store: &mut impl AsContextMut<Data = Data>, value: &Val, depth: usize) -> Value {
    match value {
        Val::I32(v) => Value::I32(*v as u32),
        Val::I64(v) => Value::I64(*v as u64),
        Val::F32(v) => Value::F32(*v),
        Val::F64(v) => Value::F64(*v),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(v) => Value::Ref(v.is_some().then_some(0)),
        Val::ExternRef(v) => Value::Ref(v.map(|object| {
            let data = object.data(store.as_context()).expect("it is rooted");
            data.and_then(|data| data.downcast_ref().copied()).unwrap_or(u32::MAX)
        })),
        Val::ExnRef(v) => Value::Ref(v.is_some().then_some(0)),
        Val::AnyRef(None) => Value::Ref(None),
        Val::AnyRef(Some(any)) => of_any(store, any, depth).expect("it is rooted"),
        other => panic!("an unknown type of value: {other:?}"),
    }
}

/// Which kind of object it is and what is in it; or the number, of an `i31`.
fn of_any(store: &mut impl AsContextMut<Data = Data>, any: &Rooted<AnyRef>, depth: usize) -> Result<Value, Error> {
    Ok(if let Some(number) = any.as_i31(&*store)? {
        Value::I31(number.get_u32())
    } else if let Some(object) = any.as_struct(&*store)? {
        let fields: Vec<_> = if depth == 0 { Vec::new() } else { object.fields(store.as_context_mut())?.collect() };
        Value::Struct(hash_all(fields.len(), fields.iter().map(|field| value_to(store, field, depth - 1))))
    } else if let Some(object) = any.as_array(&*store)? {
        let length = object.len(&*store)? as usize;
        let some = if depth == 0 { 0 } else { ELEMENTS };
        let elements: Vec<_> = object.elems(store.as_context_mut())?.take(some).collect();
        Value::Array(hash_all(length, elements.iter().map(|element| value_to(store, element, depth - 1))))
    } else {
        Value::Ref(Some(0))
    })
}

/// What a host function of this module gives as its failure.
#[derive(Debug)]
struct HostFailed;

impl std::fmt::Display for HostFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the host fails")
    }
}

impl std::error::Error for HostFailed {}

fn outcome(error: &Error) -> Outcome {
    if error.is::<HostFailed>() {
        return Outcome::Host;
    }
    if error.is::<ThrownException>() {
        return Outcome::Exception;
    }
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "unreachable",
        Some(Trap::MemoryOutOfBounds) => "out of bounds memory access",
        Some(Trap::TableOutOfBounds) => "out of bounds table access",
        Some(Trap::IndirectCallToNull) => "uninitialized element",
        Some(Trap::BadSignature) => "indirect call type mismatch",
        Some(Trap::IntegerOverflow) => "integer overflow",
        Some(Trap::IntegerDivisionByZero) => "integer divide by zero",
        Some(Trap::BadConversionToInteger) => "invalid conversion to integer",
        Some(Trap::NullReference) => "null reference",
        Some(Trap::ArrayOutOfBounds) => "out of bounds array access",
        Some(Trap::CastFailure) => "cast failure",
        Some(Trap::StackOverflow | Trap::AllocationTooLarge) => return Outcome::Limit,
        Some(other) => return Outcome::Error(other.to_string()),
        // No memory, or no room in the heap of exceptions.
        None => return Outcome::Limit,
    };
    Outcome::Trap(message.into())
}

fn import(store: &mut Store<Data>, ty: &ExternType, number: usize) -> Result<Extern, Error> {
    Ok(match ty {
        ExternType::Func(ty) => func(store, ty, number).into(),
        ExternType::Global(ty) => {
            let content = Value::sample(types([ty.content().clone()].into_iter())[0], number as u32);
            let content = native(&mut *store, content, ty.content());
            Global::new(&mut *store, ty.clone(), content)?.into()
        }
        ExternType::Memory(ty) => Memory::new(&mut *store, ty.clone())?.into(),
        ExternType::Table(ty) => Table::new(&mut *store, ty.clone(), Ref::null(ty.element().heap_type()))?.into(),
        ExternType::Tag(ty) => Tag::new(&mut *store, ty)?.into(),
    })
}

fn func(store: &mut Store<Data>, ty: &FuncType, number: usize) -> Func {
    let (params, results) = (types(ty.params()), types(ty.results()));
    let (param_types, result_types) = (ty.params().collect::<Vec<_>>(), ty.results().collect::<Vec<_>>());
    Func::new(&mut *store, ty.clone(), move |mut caller: Caller<'_, Data>, args: &[Val], out: &mut [Val]| {
        enter(&mut caller, number)?;
        let seen = args.iter().map(|v| value(&mut caller, v)).collect();
        let Some(answers) = caller.data_mut().host.call(number, seen, &params, &results) else {
            return Err(Error::new(HostFailed));
        };
        for ((slot, answer), ty) in out.iter_mut().zip(answers).zip(&result_types) {
            *slot = match answer {
                Answer::Argument(i) if param_types[i].matches(ty) => args[i],
                Answer::Argument(_) => Val::default_for_ty(ty).expect("references are nullable"),
                Answer::Value(value) => native(&mut caller, value, ty),
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
    let args: Vec<Val> = (0..)
        .zip(ty.params())
        .map(|(n, ty)| native(&mut *caller, Value::sample(types([ty.clone()].into_iter())[0], n), &ty))
        .collect();
    let mut values = vec![Val::I32(0); ty.results().len()];
    let result = func.call(&mut *caller, &args, &mut values);
    let outcome = match &result {
        Ok(()) => Outcome::Values(values.iter().map(|v| value(caller, v)).collect()),
        Err(error) => outcome(error),
    };
    match caller.data_mut().host.leave(number, &outcome) {
        Reentry::PassOn => result,
        Reentry::Ignore => Ok(()),
    }
}
