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
    /// The demangled name, if it differs.
    pub(crate) name: Option<String>,
    pub(crate) offset: usize,
    pub(crate) func_offset: usize,
    pub(crate) symbols: Vec<FrameSymbol>,
}

impl Frame {
    /// Index of the function in the function index space of its module.
    pub fn func_index(&self) -> u32 {
        self.func_index
    }

    /// Name of the function as the module has it, mangled as the case may be: from the module's name section or else of its import
    /// or export.
    pub fn func_name(&self) -> Option<&str> {
        self.func_name.as_deref()
    }

    /// [`func_name`](Frame::func_name) for people: demangled, if it is a linkage name of Rust or C++.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref().or(self.func_name())
    }

    /// Byte offset in the binary module of the instruction at which the error left the function. In all frames but the
    /// innermost, that is a call.
    pub fn module_offset(&self) -> usize {
        self.offset
    }

    /// Byte offset of the same instruction from the start of the function's body: its locals and code, without its size.
    pub fn func_offset(&self) -> usize {
        self.func_offset
    }

    /// What the module's debug information (DWARF, in sections like `.debug_info`) says of the instruction: the functions there,
    /// innermost first, each but the last inlined into the next by the compiler, and where in the source each was. Empty without
    /// debug information for it.
    ///
    /// Debug information is read for the first frame that is displayed or asked for, and kept with the module. It is untrusted as
    /// all of the module: names may be misleading and files not there. What is damaged, of another version than DWARF 2 to 5, or
    /// unusually large is left out.
    pub fn symbols(&self) -> &[FrameSymbol] {
        &self.symbols
    }
}

/// The function displays as its name, where it was in the source, and a line for each function that it was inlined into.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(MAX_NAME_WIDTH);
        for (at, (name, place)) in lines.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{name:width$} {place}")?;
        }
        Ok(())
    }
}

/// The width to which names are padded, so that most places are below each other.
const MAX_NAME_WIDTH: usize = 48;

impl Frame {
    /// The name and the place of each function, as they are displayed.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let name = |name: Option<&str>| match name {
            Some(name) => Printable::name(name).to_string(),
            None => format!("<function {}>", self.func_index),
        };
        let offset = format!("at offset {:#x}", self.offset);
        if self.symbols.is_empty() {
            return vec![(name(self.name()), offset)];
        }
        let last = self.symbols.len() - 1;
        let line = |(at, symbol): (usize, &FrameSymbol)| {
            let own = if at == last { self.name() } else { None };
            let place = symbol.place().map_or(offset.clone(), |place| format!("at {place}"));
            (name(symbol.name().or(own)), place)
        };
        self.symbols.iter().enumerate().map(line).collect()
    }
}

/// A function at an instruction, either the one that has it or one that the compiler inlined there; see [`Frame::symbols`] and
/// [`Module::symbolize`](crate::Module::symbolize).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameSymbol {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) linkage_name: Option<Arc<str>>,
    pub(crate) file: Option<Arc<str>>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
}

impl FrameSymbol {
    /// Name of the function for people: demangled, if it is a linkage name of Rust or C++.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Name of the function as the debug information has it.
    pub fn linkage_name(&self) -> Option<&str> {
        self.linkage_name.as_deref()
    }

    /// Path of the source file on the machine that compiled it.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Line in the file, counted from 1.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Column in the line, in bytes or characters as the compiler counts them, from 1.
    pub fn column(&self) -> Option<u32> {
        self.column
    }

    /// File, line and column, as far as they are known.
    fn place(&self) -> Option<String> {
        let mut place = Printable::name(self.file()?).to_string();
        for number in [self.line, self.column].into_iter().flatten() {
            place.push_str(&format!(":{number}"));
        }
        Some(place)
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

    pub(crate) fn push(&mut self, frames: impl IntoIterator<Item = UnresolvedFrame>) {
        let room = MAX_BACKTRACE.saturating_sub(self.unresolved.len());
        self.unresolved.extend(frames.into_iter().take(room));
        self.frames.take();
    }
}

/// A line for each function, innermost first, with its name and its place: file, line and column where debug information has them,
/// the offset in the module otherwise. Functions are numbered, except those that others were inlined into.
impl fmt::Display for WasmBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames: Vec<_> = self.frames().iter().map(Frame::lines).collect();
        let width =
            frames.iter().flatten().map(|(name, _)| name.chars().count()).filter(|width| *width <= MAX_NAME_WIDTH);
        let width = width.max().unwrap_or(0);
        let mut newline = "";
        for (depth, lines) in frames.iter().enumerate() {
            for (at, (name, place)) in lines.iter().enumerate() {
                match at {
                    0 => write!(f, "{newline}  {depth:2}: {name:width$} {place}")?,
                    _ => write!(f, "{newline}      {name:width$} {place}")?,
                }
                newline = "\n";
            }
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
