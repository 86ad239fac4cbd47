//! [`Executor`]: the short way to run a module in a store of its own.

use crate::error::{Error, Result};
use crate::printable::Printable;
use crate::runtime::instance::Instance;
use crate::runtime::linker::Linker;
use crate::runtime::module::Module;
use crate::runtime::store::Store;
use crate::runtime::value::Value;

/// One module, instantiated in a store of its own, ready to be called.
///
/// ```
/// use wasmrun::{Engine, Executor, Module, Value};
/// let module = Module::new(&Engine::default(), r#"(module
///     (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))"#)?;
/// let mut executor = Executor::new(module)?;
/// let results = executor.execute_export("double", vec![Value::I32(21)])?;
/// assert!(matches!(results[..], [Value::I32(42)]));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Debug)]
pub struct Executor {
    store: Store<()>,
    instance: Instance,
}

impl Executor {
    /// Instantiates a module that imports nothing.
    ///
    /// # Errors
    /// Those of [`Linker::instantiate`].
    pub fn new(module: Module) -> Result<Self> {
        let linker = Linker::default();
        Self::new_with_linker(module, linker)
    }

    /// Instantiates a module with the imports that `linker` defines.
    ///
    /// # Errors
    /// Those of [`Linker::instantiate`].
    pub fn new_with_linker(module: Module, linker: Linker) -> Result<Self> {
        let mut store = Store::new(module.engine(), ());
        let instance = linker.instantiate(&mut store, &module)?;
        Ok(Executor { store, instance })
    }

    /// Calls a function by its index in the module's function index space, imported functions first.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if there is no such function or the arguments are not of its types;
    /// otherwise the error that ended the call, such as a trap or `proc_exit`: see [`Executor::is_proc_exit`].
    pub fn execute_with_args(&mut self, func_idx: u32, args: Vec<Value>) -> Result<Vec<Value>> {
        let func = self.instance.func_by_index(&mut self.store.inner_mut().opaque, func_idx);
        let func = func.ok_or_else(|| Error::usage(format!("the module has no function {func_idx}")))?;
        self.call(func, &args)
    }

    /// Calls an exported function by name.
    ///
    /// # Errors
    /// As [`Executor::execute_with_args`].
    pub fn execute_export(&mut self, name: &str, args: Vec<Value>) -> Result<Vec<Value>> {
        let func = self.instance.get_func(&mut self.store, name);
        let func = func.ok_or_else(|| Error::usage(format!("no exported function {}", Printable::quoted(name))))?;
        self.call(func, &args)
    }

    fn call(&mut self, func: crate::Func, args: &[Value]) -> Result<Vec<Value>> {
        let ty = func.ty(&self.store);
        let mut results: Vec<Value> = ty.results().iter().map(Value::default_for).collect();
        func.call(&mut self.store, args, &mut results)?;
        Ok(results)
    }

    /// The code given to `proc_exit`, if that is what the error is.
    pub fn is_proc_exit(error: &Error) -> Option<i32> {
        error.exit_code()
    }

    /// The instance.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The store the instance is in.
    pub fn store(&mut self) -> &mut Store<()> {
        &mut self.store
    }
}
