//! Backtraces: the functions that were running at some time.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::printable::Printable;

/// Most frames of a backtrace. Outer ones are dropped, so that the message of a stack overflow stays readable.
pub(crate) const MAX_BACKTRACE: usize = 64;

/// A frame of a backtrace as an engine records it. It is resolved when the backtrace is asked for: that takes long, and most
/// exceptions are caught before.
#[derive(Clone)]
pub(crate) struct UnresolvedFrame {
    pub source: Arc<dyn FrameSource>,
    /// Index among the module's defined functions.
    pub defined: u32,
    /// Where in the function the error left it, in units that only `source` knows.
    pub position: usize,
}

/// Resolves the frames of one module's functions.
pub(crate) trait FrameSource: Send + Sync {
    /// The frame for a position in the function of index `defined` among the module's defined functions.
    fn resolve(&self, defined: u32, position: usize) -> Frame;
}

/// One WebAssembly function in a backtrace.
///
/// ```
/// use wasmrun::{Engine, Instance, Module, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, "(module (func $main unreachable) (start $main))")?;
/// let error = Instance::new(Store::new(&engine, ()), &module, &[]).unwrap_err();
/// let frame = &error.backtrace()[0];
/// assert_eq!((frame.func_index(), frame.func_name()), (0, Some("main")));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(crate) func_index: u32,
    pub(crate) func_name: Option<String>,
    pub(crate) offset: usize,
}

impl Frame {
    /// Index of the function in the function index space of its module.
    pub fn func_index(&self) -> u32 {
        self.func_index
    }

    /// Name of the function, from the module's name section or else of its import or export.
    pub fn func_name(&self) -> Option<&str> {
        self.func_name.as_deref()
    }

    /// Byte offset in the binary module of the instruction at which the error left the function. In all frames but the
    /// innermost, that is a call.
    pub fn module_offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.func_name {
            Some(name) => write!(f, "{}", Printable::name(name))?,
            None => write!(f, "<function {}>", self.func_index)?,
        }
        write!(f, " at offset {:#x}", self.offset)
    }
}

/// The WebAssembly functions that are running in a store, innermost first, at most 64. Displayed with a line for each.
///
/// An error has one of its own, see [`Error::backtrace`](crate::Error::backtrace).
///
/// ```
/// use wasmrun::{Caller, Engine, Func, Instance, Module, Store, WasmBacktrace};
/// let engine = Engine::default();
/// let text = "(module (import \"\" \"log\" (func $log)) (func $work (export \"work\") (call $log)))";
/// let module = Module::new(&engine, text)?;
/// let mut store = Store::new(&engine, ());
/// let log = Func::wrap(&mut store, |caller: Caller<'_, ()>| {
///     assert_eq!(WasmBacktrace::capture(&caller).frames()[0].func_name(), Some("work"));
/// });
/// let instance = Instance::new(&mut store, &module, &[log.into()])?;
/// instance.get_typed_func::<(), ()>(&mut store, "work")?.call(&mut store, ())?;
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct WasmBacktrace {
    unresolved: Vec<UnresolvedFrame>,
    /// Made when first asked for, which takes long.
    frames: OnceLock<Vec<Frame>>,
}

impl WasmBacktrace {
    pub(crate) fn new(unresolved: Vec<UnresolvedFrame>) -> Self {
        WasmBacktrace { unresolved, frames: OnceLock::new() }
    }

    /// The frames, innermost first.
    pub fn frames(&self) -> &[Frame] {
        self.frames.get_or_init(|| {
            self.unresolved.iter().map(|frame| frame.source.resolve(frame.defined, frame.position)).collect()
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unresolved.is_empty()
    }

    pub(crate) fn push(&mut self, frames: impl IntoIterator<Item = UnresolvedFrame>) {
        let room = MAX_BACKTRACE.saturating_sub(self.unresolved.len());
        self.unresolved.extend(frames.into_iter().take(room));
        self.frames.take();
    }
}

/// So that [`Error::downcast_ref`](crate::Error::downcast_ref) finds it.
impl std::error::Error for WasmBacktrace {}

impl fmt::Display for WasmBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, frame) in self.frames().iter().enumerate() {
            let newline = if depth == 0 { "" } else { "\n" };
            write!(f, "{newline}  {depth:2}: {frame}")?;
        }
        if self.unresolved.len() >= MAX_BACKTRACE {
            write!(f, "\n   (deeper frames are not shown)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for WasmBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}
