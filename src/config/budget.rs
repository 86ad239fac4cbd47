//! Budgets: what the code of a store may use.

use std::time::Duration;

/// What the code of a store may use, all items together in one place; see [`Store::set_budget`](crate::Store::set_budget). An
/// item that is not set is not limited.
///
/// A limit on bytes is never exceeded by one. What happens when code comes to one:
///
/// | item | what the code sees | what the host sees |
/// |---|---|---|
/// | [`wall_time`](Budget::wall_time) | it ends | [`Trap::Deadline`](crate::Trap::Deadline) |
/// | [`cpu_time`](Budget::cpu_time) | it ends | [`Trap::CpuTime`](crate::Trap::CpuTime) |
/// | [`memory`](Budget::memory) | `memory.grow` and `table.grow` give -1; a throw ends it | [`ErrorKind::Resource`](crate::ErrorKind::Resource) |
/// | [`stack`](Budget::stack) | it ends | [`Trap::StackOverflow`](crate::Trap::StackOverflow) |
/// | [`output`](Budget::output), [`files_written`](Budget::files_written), [`written`](Budget::written) | the part of a write that fits is written; then `dquot` | the errno only |
/// | [`file_size`](Budget::file_size) | the part of a write that fits is written; then `fbig` | the errno only |
/// | [`open_files`](Budget::open_files) | `mfile` | the errno only |
///
/// An error that the host sees names the item, see [`Error::budget_item`](crate::Error::budget_item). In each case
/// [`Store::budget_reached`](crate::Store::budget_reached) names it afterwards, and
/// [`Store::budget_used`](crate::Store::budget_used) tells how much was used.
///
/// # What a budget does not bound
/// - Memory that the host spends for the guest: compiled code and bytecode, which grow with the module; contexts of
///   instances; what host functions allocate, captured output included
///   ([`WasiEnv::with_max_captured`](crate::WasiEnv::with_max_captured) bounds that); listings of directories (bounded on
///   their own); the kernel's memory for open files, pipes and page tables.
/// - Time of other threads: compilation in the background. With [`Strategy::Jit`](crate::Strategy::Jit) functions are compiled
///   on the thread that calls them, which counts as CPU time, but is not interrupted.
/// - Host functions that wait or compute: time is noticed when they return. Those of WASI that wait end early.
/// - Names, directories and links that a program makes on the disk, and holes in files, which take no room there.
///
/// ```
/// use std::time::Duration;
/// use wasmrun::{Budget, BudgetItem, Engine, Instance, Module, Store};
/// let engine = Engine::default();
/// let mut store = Store::new(&engine, ());
/// store.set_budget(&Budget::new().wall_time(Duration::from_secs(5)).memory(1 << 20))?;
/// let text = r#"(module (memory 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
/// let instance = Instance::new(&mut store, &Module::new(&engine, text)?, &[])?;
/// let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow")?;
/// assert_eq!(grow.call(&mut store, 15)?, 1);
/// assert_eq!(grow.call(&mut store, 1)?, -1);
/// assert_eq!(store.budget_reached(), [BudgetItem::Memory]);
/// assert_eq!(store.budget_used().memory, 1 << 20);
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub(crate) wall_time: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) memory: Option<u64>,
    pub(crate) stack: Option<usize>,
    pub(crate) output: Option<u64>,
    pub(crate) files_written: Option<u64>,
    pub(crate) written: Option<u64>,
    pub(crate) file_size: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl Budget {
    /// A budget without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time that may pass from [`Store::set_budget`](crate::Store::set_budget) on, waiting included. It is the store's
    /// deadline: [`Store::set_deadline`](crate::Store::set_deadline) replaces it.
    #[must_use]
    pub fn wall_time(mut self, time: Duration) -> Self {
        self.wall_time = Some(time);
        self
    }

    /// Sets the processor time that the store's code may use: the time of the thread that runs it, while it runs it, in all
    /// calls together. Host functions that it calls are included, waiting is not, nor is instantiation but for the start
    /// function.
    ///
    /// The code ends within some milliseconds of the limit, and is not called any more then. The clock is read at each call
    /// from the host, which takes about half a microsecond; [`Duration::MAX`] has the time measured and not limited.
    #[must_use]
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.cpu_time = Some(time);
        self
    }

    /// Sets the bytes that all linear memories, tables and collected objects of the store may have together, those that the
    /// host makes included. An element of a table counts 8 bytes, an exception 32 bytes and what it carries, a host object
    /// behind an externref 256 bytes, whatever its size.
    ///
    /// What is there already counts too; a limit below that only prevents growth.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets the bytes of stack that the store's code may use, from the next call from the host on. Not more than
    /// [`Config::max_wasm_stack`](crate::Config::max_wasm_stack), which tells what is counted.
    #[must_use]
    pub fn stack(mut self, bytes: usize) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Sets the bytes that WASI programs may write to standard output and error, together, and to whatever else is no file in a
    /// directory: sockets, pipes, terminals, devices.
    #[must_use]
    pub fn output(mut self, bytes: u64) -> Self {
        self.output = Some(bytes);
        self
    }

    /// Sets the bytes that WASI programs may write to files that they open, together: also over what is there already.
    /// Bytes that are allocated (`fd_allocate`) count as written.
    #[must_use]
    pub fn files_written(mut self, bytes: u64) -> Self {
        self.files_written = Some(bytes);
        self
    }

    /// Sets the bytes that WASI programs may write in all: [output](Self::output) and [files](Self::files_written) together.
    #[must_use]
    pub fn written(mut self, bytes: u64) -> Self {
        self.written = Some(bytes);
        self
    }

    /// Sets the size beyond which no file may grow.
    #[must_use]
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Sets the number of descriptors that may be open at a time, the three standard streams and the directories that the
    /// program is given included.
    #[must_use]
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }
}

/// What the code of a store has used; see [`Store::budget_used`](crate::Store::budget_used). Times and bytes count from when
/// the store was made, whatever budgets were set since.
///
/// How much stack was used is not known: to find that out would cost every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUsed {
    /// Time since the store was made.
    pub wall_time: Duration,
    /// Processor time, if it is measured: see [`Budget::cpu_time`]. It counts from when the first budget with that item was
    /// set.
    pub cpu_time: Option<Duration>,
    /// The most bytes that memories, tables and collected objects had together.
    pub memory: u64,
    /// Bytes of all linear memories, which never shrink.
    pub linear_memory: u64,
    /// Bytes of all tables, which never shrink.
    pub tables: u64,
    /// The most bytes that collected objects had.
    pub heap: u64,
    /// Bytes written to standard output and error, and other than to files.
    pub output: u64,
    /// Bytes written to files.
    pub files_written: u64,
    /// The most descriptors that were open when a WASI program had opened one; 0 if it opened none.
    pub open_files: u64,
}
