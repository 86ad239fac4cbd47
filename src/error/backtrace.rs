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

    /// A number that the module has as long as it lives, and no other.
    fn module_id(&self) -> usize;
    /// The frames for positions in one function, which takes little longer than for one of them.
    fn resolve_all(&self, defined: u32, positions: &[usize]) -> Vec<Frame>;

    /// Whether a position is the function's very beginning, before its first instruction.
    fn is_entry(&self, defined: u32, position: usize) -> bool;

    /// The name of the imported function that is called at a byte offset in the module, as that of its module and its own.
    fn import_called_at(&self, defined: u32, offset: usize) -> Option<(&str, &str)>;
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

/// The function's name and where in the source it was, with a line for each function that it was inlined into.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines(0).iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{} {}", line.shown_name(), line.place(false))?;
        }
        Ok(())
    }
}

impl Frame {
    /// A line for each function at the frame's instruction.
    fn lines(&self, depth: usize) -> Vec<FrameLine<'_>> {
        let line = |name, symbol| FrameLine { depth, name, symbol, frame: self };
        let Some((last, inlined)) = self.symbols.split_last() else { return vec![line(self.name(), None)] };
        let mut lines: Vec<_> = inlined.iter().map(|symbol| line(symbol.name(), Some(symbol))).collect();
        lines.push(line(last.name().or(self.name()), Some(last)));
        lines
    }
}

/// A function in a backtrace, as it is displayed: one that has code of its own, or that was inlined.
#[derive(Clone, Copy)]
pub(crate) struct FrameLine<'a> {
    /// Index of the frame.
    pub depth: usize,
    pub name: Option<&'a str>,
    pub symbol: Option<&'a FrameSymbol>,
    frame: &'a Frame,
}

/// The longest name that others are padded to, so that most places are below each other.
const MAX_PADDING: usize = 48;

impl FrameLine<'_> {
    fn shown_name(&self) -> String {
        match self.name {
            Some(name) => Printable::name(name).to_string(),
            None => format!("<function {}>", self.frame.func_index),
        }
    }

    /// Where the function was in the source, or else the offset in the module; both `with_offset`.
    fn place(&self, with_offset: bool) -> String {
        let offset = format!("at offset {:#x}", self.frame.offset);
        match self.symbol.and_then(FrameSymbol::place) {
            Some(place) if with_offset => format!("at {place} ({offset})"),
            Some(place) => format!("at {place}"),
            None => offset,
        }
    }

    /// Writes lines of a backtrace, without a line end behind the last. Frames that repeat those before them, as in a recursion,
    /// are counted instead, unless the backtrace is written in full, with offsets.
    pub fn write(lines: &[Self], in_full: bool, f: &mut dyn fmt::Write) -> fmt::Result {
        let widths = lines.iter().map(|line| line.shown_name().chars().count());
        let width = widths.filter(|width| *width <= MAX_PADDING).max().unwrap_or(0);
        let text = |line: &Self| format!("{:width$} {}", line.shown_name(), line.place(in_full));
        let frames: Vec<_> = lines.chunk_by(|a, b| a.depth == b.depth).collect();
        let texts: Vec<_> =
            frames.iter().map(|frame| frame.iter().map(text).collect::<Vec<_>>().join("\n      ")).collect();
        let (mut at, mut newline) = (0, "");
        while at < texts.len() {
            write!(f, "{newline}  {:2}: {}", frames[at][0].depth, texts[at])?;
            (at, newline) = (at + 1, "\n");
            if let Some((period, count)) = (!in_full).then(|| repetition(&texts, at)).flatten() {
                match period {
                    1 => write!(f, "\n   (the frame above repeats {count} times)")?,
                    _ => write!(f, "\n   (the {period} frames above repeat {count} times)")?,
                }
                at += period * count;
            }
        }
        Ok(())
    }
}

/// The most functions of a recursion whose repetitions are counted.
const MAX_PERIOD: usize = 8;

/// Whether the texts from `at` on repeat those before: after how many, the least number of them, and how often. Fewer than
/// three repetitions are not worth it.
fn repetition(texts: &[String], at: usize) -> Option<(usize, usize)> {
    (1..=MAX_PERIOD.min(at)).find_map(|period| {
        let alike = (at..texts.len()).take_while(|index| texts[*index] == texts[index - period]).count();
        (alike / period >= 3).then_some((period, alike / period))
    })
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

    pub(crate) fn is_empty(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// A line for each function, innermost first.
    pub(crate) fn lines(&self) -> Vec<FrameLine<'_>> {
        self.frames().iter().enumerate().flat_map(|(depth, frame)| frame.lines(depth)).collect()
    }

    /// The number of each frame's module.
    pub(crate) fn module_ids(&self) -> impl Iterator<Item = usize> {
        self.unresolved.iter().map(|frame| frame.source.module_id())
    }

    /// Whether there may be more frames than the backtrace has.
    pub(crate) fn is_cut(&self) -> bool {
        self.unresolved.len() >= MAX_BACKTRACE
    }

    pub(crate) fn push(&mut self, frames: impl IntoIterator<Item = UnresolvedFrame>) {
        let room = MAX_BACKTRACE.saturating_sub(self.unresolved.len());
        self.unresolved.extend(frames.into_iter().take(room));
        self.frames.take();
    }
}

/// So that [`Error::downcast_ref`](crate::Error::downcast_ref) finds it.
impl std::error::Error for WasmBacktrace {}

/// A line for each function, innermost first, with its name and its place: file, line and column where debug information has them,
/// the offset in the module otherwise. Functions are numbered, except those that others were inlined into.
impl fmt::Display for WasmBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FrameLine::write(&self.lines(), false, f)?;
        if self.is_cut() {
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
