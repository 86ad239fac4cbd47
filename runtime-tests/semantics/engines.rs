//! Running a test on every engine configuration, and short ways to the API.

use wasmrun::{
    BoundsChecks, Config, Dispatch, Engine, Error, Extern, Instance, Module, Store, Strategy, Tiering, Trap, Value,
    WasmParams, WasmResults,
};

/// Every way to run WebAssembly code that this build has.
pub fn configs() -> Vec<Config> {
    let mut all = steady_configs();
    if Engine::has_jit() {
        let mut config = Config::new();
        config.strategy(Strategy::Tiered);
        all.push(config);
    }
    all
}

/// Those in which it does not depend on the time what is compiled.
pub fn steady_configs() -> Vec<Config> {
    let mut all = vec![Config::new(), Config::new()];
    all[0].strategy(Strategy::Interpreter).dispatch(Dispatch::TailCall);
    all[1].strategy(Strategy::Interpreter).dispatch(Dispatch::Loop);
    if Engine::has_jit() {
        for (checks, quick) in
            [(BoundsChecks::Inline, false), (BoundsChecks::Guard, false), (BoundsChecks::Inline, true)]
        {
            let mut config = Config::new();
            config.strategy(Strategy::Jit).bounds_checks(checks).quick_code(quick);
            all.push(config);
        }
        let mut config = Config::new();
        config.strategy(Strategy::Jit).signals_based_traps(false);
        all.push(config);
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).tiering(Tiering::AtLoops).signals_based_traps(false);
        all.push(config);
        for tiering in [Tiering::AtOnce, Tiering::AtLoops, Tiering::Baseline, Tiering::BaselineAtLoops] {
            let mut config = Config::new();
            config.strategy(Strategy::Tiered).tiering(tiering);
            all.push(config);
        }
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).tiering(Tiering::BaselineAtLoops).dispatch(Dispatch::Loop);
        all.push(config);
        // As where many stores are idle: memories move each time that compiled code is entered and left.
        for strategy in [Strategy::Jit, Strategy::Tiered] {
            let mut config = Config::new();
            config.strategy(strategy).tiering(Tiering::AtOnce).bounds_checks(BoundsChecks::Guard).pack_memories(true);
            all.push(config);
        }
        let mut config = Config::new();
        config.strategy(Strategy::Tiered).tiering(Tiering::AtLoops).pack_memories(true);
        all.push(config);
    }
    let mut config = Config::new();
    config.strategy(Strategy::Interpreter).pack_memories(true);
    all.push(config);
    all
}

/// Runs `test` on each engine; the output of a failing one ends with its configuration.
pub fn for_each_engine(test: impl Fn(&Engine)) {
    for config in configs() {
        println!("{config:?}");
        test(&Engine::new(&config).expect("the configuration works on this host"));
    }
}

/// A module of text, instantiated with these imports.
pub fn instantiate<T>(store: &mut Store<T>, wat: &str, imports: &[Extern]) -> Instance {
    let module = Module::new(store.engine(), wat).expect("the module is valid");
    Instance::new(store, &module, imports).expect("the module instantiates")
}

/// A store with one instance in it.
pub fn setup(engine: &Engine, wat: &str) -> (Store<()>, Instance) {
    let mut store = Store::new(engine, ());
    let instance = instantiate(&mut store, wat, &[]);
    (store, instance)
}

/// Calls an export.
pub fn call<T, P: WasmParams, R: WasmResults>(
    store: &mut Store<T>,
    instance: Instance,
    name: &str,
    params: P,
) -> Result<R, Error> {
    instance.get_typed_func::<P, R>(&mut *store, name).expect("an export of this type").call(store, params)
}

/// Calls an export that is expected to trap.
pub fn trap<T, P: WasmParams>(store: &mut Store<T>, instance: Instance, name: &str, params: P) -> Option<Trap> {
    call::<T, P, ()>(store, instance, name, params).expect_err("the call fails").trap()
}

/// A value as bits that can be compared; references by whether they are null.
pub fn bits(value: &Value) -> u128 {
    match value {
        Value::I32(v) => *v as u32 as u128,
        Value::I64(v) => *v as u64 as u128,
        Value::F32(v) => v.to_bits().into(),
        Value::F64(v) => v.to_bits().into(),
        Value::V128(v) => *v,
        Value::FuncRef(func) => func.is_some().into(),
        Value::ExternRef(object) => object.is_some().into(),
        other => panic!("an unknown type of value: {other:?}"),
    }
}
