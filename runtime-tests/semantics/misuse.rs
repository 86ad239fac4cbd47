//! The API in hands that mean no good, without `unsafe`: contexts that are of another store each time they are asked, errors and
//! exceptions that outlive their store, functions of absurd types.

use crate::engines::{for_each_engine, instantiate};
use crate::heap::for_each_engine_and_zeal;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmrun::{
    AsContext, AsContextMut, Caller, Engine, Error, ErrorKind, ExnRef, ExternRef, Func, FuncType, Instance, Linker,
    Module, Ref, RefType, Store, StoreContext, StoreContextMut, Table, TableType, Tag, TagType, Val, ValType,
    WasmCoreDump,
};

/// Gives one of two stores, in turn.
struct Alternating<'a> {
    stores: [&'a mut Store<()>; 2],
    next: Cell<usize>,
}

impl<'a> Alternating<'a> {
    fn new(first: &'a mut Store<()>, second: &'a mut Store<()>) -> Self {
        Alternating { stores: [first, second], next: Cell::new(0) }
    }

    fn turn(&self) -> usize {
        self.next.replace(1 - self.next.get())
    }
}

impl AsContext for Alternating<'_> {
    type Data = ();

    fn as_context(&self) -> StoreContext<'_, ()> {
        self.stores[self.turn()].as_context()
    }
}

impl AsContextMut for Alternating<'_> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, ()> {
        let turn = self.turn();
        self.stores[turn].as_context_mut()
    }
}

/// What was checked in one store is not used in another.
#[test]
fn contexts_that_change_their_store() {
    for_each_engine(|engine| {
        let [mut one, mut other] = [Store::new(engine, ()), Store::new(engine, ())];
        let wat = r#"(module (memory (export "m") 1) (table (export "t") 1 funcref) (func (export "f") (result i32)
            (i32.load (i32.const 0))) (func (export "_initialize")))"#;
        let module = Module::new(engine, wat).unwrap();
        let instance = Instance::new(&mut one, &module, &[]).unwrap();
        let panics = |call: &mut dyn FnMut()| {
            let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert_eq!(message, "object used with another store than its own");
        };
        panics(&mut || {
            let _ = instance.get_typed_func::<(), i32>(Alternating::new(&mut one, &mut other), "f");
        });
        let table = instance.get_table(&mut one, "t").unwrap();
        let of_other = Func::wrap(&mut other, || 7);
        assert!(table.set(Alternating::new(&mut one, &mut other), 0, of_other.into()).is_err());

        // Linkers look at each object when an instance is made.
        let mut linker = Linker::new(engine);
        panics(&mut || {
            let _ = linker.module(Alternating::new(&mut one, &mut other), "m", &module);
        });
        let importer = Module::new(
            engine,
            r#"(module (import "a" "m" (memory 1)) (import "a" "t" (table 1 funcref)) (import "a" "g" (global i32)))"#,
        )
        .unwrap();
        linker.define_unknown_imports_as_default_values(Alternating::new(&mut one, &mut other), &importer).unwrap();
        for store in [&mut one, &mut other] {
            let error = linker.instantiate(&mut *store, &importer).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
            let error = linker.instantiate_pre(&importer).unwrap().instantiate(&mut *store).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        let dump = WasmCoreDump::capture(&one).serialize(Alternating::new(&mut one, &mut other), "m").unwrap();
        Module::new(engine, dump).unwrap();
    });
}

/// An exception that a host function returns is caught in its own store only; in others it is an error like any other, and
/// what refers to a store that is gone does no harm.
#[test]
fn exceptions_that_outlive_their_store() {
    for_each_engine_and_zeal(|engine| {
        let ty = TagType::new(FuncType::new(engine, [ValType::I32, ValType::EXTERNREF], []));
        let exception = |store: &mut Store<()>| {
            let tag = Tag::new(&mut *store, &ty).unwrap();
            ExnRef::new(store, &tag, &[Val::I32(1), Some(ExternRef::new(7)).into()]).unwrap()
        };
        let mut gone = Store::new(engine, ());
        let foreign = exception(&mut gone);
        drop(gone);
        let error = Error::new(ErrorKind::Exception(foreign.clone())).context("kept");
        std::thread::spawn(move || assert_eq!(format!("{error:#}"), "kept: uncaught exception")).join().unwrap();

        let mut store = Store::new(engine, ());
        // Exceptions of the new store take the place of those that are gone.
        let kept: Vec<_> = (0..100).map(|_| exception(&mut store)).collect();
        assert!(kept.iter().all(|own| !own.same(&foreign)));
        let throw = foreign.clone();
        let throw = Func::wrap(&mut store, move |mut caller: Caller<'_, ()>| {
            caller.gc();
            Err::<(), _>(Error::new(ErrorKind::Exception(throw.clone())))
        });
        let instance = instantiate(
            &mut store,
            r#"(module (import "" "" (func $throw))
                (func (export "run") (result i32)
                    (block $caught (try_table (catch_all $caught) (call $throw)) (return (i32.const 0)))
                    (i32.const 1)))"#,
            &[throw.into()],
        );
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        let error = run.call(&mut store, ()).unwrap_err();
        assert!(error.exception().unwrap().same(&foreign));
        assert!(error.exception().unwrap().field(&mut store, 0).is_err());
        let table = Table::new(&mut store, TableType::new(RefType::EXNREF, 1, None), Ref::Exn(None)).unwrap();
        assert!(table.set(&mut store, 0, foreign.clone().into()).is_err());
        assert!(table.grow(&mut store, 1, foreign.clone().into()).is_err());
        assert!(table.fill(&mut store, 0, foreign.into(), 1).is_err());
    });
}

/// Far more parameters than a module may have.
#[test]
fn functions_of_absurd_types() {
    for_each_engine(|engine| {
        let mut store = Store::new(engine, ());
        let count = 100_000;
        let types = || (0..count).map(|_| ValType::V128);
        let func = Func::new(&mut store, FuncType::new(engine, types(), types()), |_, args, results| {
            results.clone_from_slice(args);
            Ok(())
        });
        let args: Vec<_> = (0..count).map(Val::V128).collect();
        let mut results = vec![Val::I32(0); args.len()];
        func.call(&mut store, &args, &mut results).unwrap();
        assert!(results.iter().enumerate().all(|(at, value)| value.unwrap_v128() == at as u128));
        let tag = Tag::new(&mut store, &TagType::new(FuncType::new(engine, types(), []))).unwrap();
        let exception = ExnRef::new(&mut store, &tag, &args).unwrap();
        assert_eq!(exception.field(&mut store, 99_999).unwrap().unwrap_v128(), 99_999);
    });
}

/// Contexts without end.
#[test]
fn errors_with_many_contexts() {
    let error = (0..200_000).fold(Error::msg("the first"), |error, n| error.context(n));
    assert_eq!((error.chain().count(), error.root_cause().to_string()), (200_001, "the first".into()));
    drop(error);
    let engine = Engine::default();
    let error = (0..200_000).fold(Module::new(&engine, b"").unwrap_err(), |error, n| error.context(n));
    assert!(error.downcast::<ErrorKind>().is_ok());
}
