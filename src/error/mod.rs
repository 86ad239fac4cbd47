//! The one error type of the crate, and the backtrace it may carry.
//!
//! What may be here: errors, traps, and what an error holds. What may not: any knowledge of modules and engines. Frames are
//! resolved, and exceptions described, by trait objects that higher rooms put into the error.

mod exn_ref;
mod trap;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub(crate) use exn_ref::ExnPin;
pub use exn_ref::ExnRef;
pub use trap::{MemoryFault, Trap};

use crate::printable::Printable;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong between the bytes of a module and the end of its program.
///
/// An error knows its [`kind`](Error::kind); one that passed through running Wasm code also carries the
/// [`backtrace`](Error::backtrace) of the functions it left, innermost first, unless it is an exit.
///
/// It can be shown on a terminal: in names that a module chose, control characters and those that change the direction of
/// text are escaped, and long ones are cut. The fields of [`ErrorKind`] and the methods of [`Frame`] give them as they are. What a host
/// function returned is shown as it shows itself.
///
/// ```
/// use wasmrun::{Engine, ErrorKind, Module};
/// let error = Module::new(&Engine::default(), b"not wasm").unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Invalid { .. }));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    frames: Vec<UnresolvedFrame>,
    /// The resolved frames, made when somebody first asks.
    backtrace: OnceLock<Vec<Frame>>,
    /// Tag and payload of an exception that left its store.
    description: Option<Box<dyn fmt::Display + Send + Sync>>,
}

/// A function that an error left, as an engine records it. To resolve it takes long, and most exceptions are caught before
/// anybody asks.
pub(crate) struct UnresolvedFrame {
    pub source: Arc<dyn FrameSource>,
    /// Index among the module's defined functions.
    pub defined: u32,
    /// Where in the function the error left it, in the source's own units.
    pub position: usize,
}

/// Resolves the frames of one module's functions.
pub(crate) trait FrameSource: Send + Sync {
    /// The frame of a defined function at a position that this source has recorded.
    fn resolve(&self, defined: u32, position: usize) -> Frame;
}

/// What an [`Error`] is about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module is malformed or does not validate.
    Invalid {
        /// What is wrong.
        message: String,
        /// Byte offset into the binary module; `None` where the text format was read.
        offset: Option<usize>,
        /// The function the offset lies in: its name, or `function N` without one.
        function: Option<String>,
    },
    /// The module is well formed but uses a part of WebAssembly that this version does not run.
    Unsupported {
        /// The proposal as the WebAssembly proposals repository names it, such as `threads`.
        proposal: &'static str,
        /// What was used.
        message: String,
        /// Byte offset into the binary module.
        offset: usize,
    },
    /// Imports are missing or have other types than what was supplied.
    Link(String),
    /// WebAssembly code trapped.
    Trap {
        /// The kind of trap.
        trap: Trap,
        /// For an out-of-bounds memory access, what was accessed.
        fault: Option<MemoryFault>,
    },
    /// WebAssembly code threw an exception that it did not catch.
    Exception(ExnRef),
    /// The program asked to end with this exit code (WASI `proc_exit`).
    Exit(i32),
    /// A host function failed.
    Host(Box<dyn std::error::Error + Send + Sync>),
    /// The API was called with arguments that do not fit: wrong types, an object of another store.
    Usage(String),
    /// The system did not give what was needed: memory, address space, a file.
    Resource(String),
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

    /// Byte offset in the binary module of the instruction that was executed: the call, for all but the innermost frame.
    pub fn module_offset(&self) -> usize {
        self.offset
    }
}

impl Error {
    /// An error of the given kind, with no backtrace.
    pub fn new(kind: ErrorKind) -> Self {
        Error(Box::new(Inner { kind, frames: Vec::new(), backtrace: OnceLock::new(), description: None }))
    }

    /// An error a host function returns to end the WebAssembly code that called it.
    pub fn host(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Host(error.into()))
    }

    /// An error for a wrong use of the API.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage(message.into()))
    }

    /// An error for a resource that the system refused.
    pub(crate) fn resource(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Resource(message.into()))
    }

    /// What the error is about.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The WebAssembly functions that the error left, innermost first; empty if it never was in any.
    pub fn backtrace(&self) -> &[Frame] {
        self.0.backtrace.get_or_init(|| {
            self.0.frames.iter().map(|frame| frame.source.resolve(frame.defined, frame.position)).collect()
        })
    }

    /// The trap, if this is one.
    pub fn trap(&self) -> Option<Trap> {
        match self.0.kind {
            ErrorKind::Trap { trap, .. } => Some(trap),
            _ => None,
        }
    }

    /// The code given to `proc_exit`, if that is what ended the program.
    pub fn exit_code(&self) -> Option<i32> {
        match self.0.kind {
            ErrorKind::Exit(code) => Some(code),
            _ => None,
        }
    }

    /// The error a host function returned, if it is of type `E`. [`source`](std::error::Error::source) gives what is behind
    /// that error, as [`Display`](fmt::Display) shows the error itself.
    pub fn downcast_host<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match &self.0.kind {
            ErrorKind::Host(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Sets how the exception that this error is describes itself.
    pub(crate) fn set_description(&mut self, description: impl fmt::Display + Send + Sync + 'static) {
        self.0.description = Some(Box::new(description));
    }

    /// Appends the frames of one activation of an engine, innermost first. An exit gets none: every program ends so.
    pub(crate) fn push_frames(&mut self, frames: impl IntoIterator<Item = UnresolvedFrame>) {
        if self.exit_code().is_some() {
            return;
        }
        let room = MAX_BACKTRACE.saturating_sub(self.0.frames.len());
        self.0.frames.extend(frames.into_iter().take(room));
        self.0.backtrace.take();
    }
}

/// Frames kept in a backtrace; deeper ones are dropped, so that a stack overflow stays readable.
pub(crate) const MAX_BACKTRACE: usize = 64;

impl From<Trap> for Error {
    fn from(trap: Trap) -> Self {
        Self::new(ErrorKind::Trap { trap, fault: None })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            ErrorKind::Invalid { message, offset, function } => {
                write!(f, "{}", Printable::message(message))?;
                match (function.as_deref().map(Printable::name), offset) {
                    (Some(function), Some(offset)) => write!(f, " (in {function}, at offset {offset:#x})"),
                    (None, Some(offset)) => write!(f, " (at offset {offset:#x})"),
                    (Some(function), None) => write!(f, " (in {function})"),
                    (None, None) => Ok(()),
                }
            }
            ErrorKind::Unsupported { proposal, message, offset } => {
                let message = Printable::message(message);
                write!(f, "{message}: the {proposal} proposal is not supported (at offset {offset:#x})")
            }
            ErrorKind::Link(message) | ErrorKind::Usage(message) | ErrorKind::Resource(message) => f.write_str(message),
            ErrorKind::Trap { trap, fault: None } => write!(f, "{trap}"),
            ErrorKind::Trap { trap, fault: Some(fault) } => write!(f, "{trap}: {fault}"),
            ErrorKind::Exception(_) => {
                f.write_str("uncaught exception")?;
                self.0.description.as_ref().map_or(Ok(()), |description| write!(f, " {description}"))
            }
            ErrorKind::Exit(code) => write!(f, "exit with code {code}"),
            ErrorKind::Host(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for (depth, frame) in self.backtrace().iter().enumerate() {
            write!(f, "\n  {depth}: {frame}")?;
        }
        Ok(())
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            // The error of a host function is what this one shows as itself: only what is behind it is not told yet.
            ErrorKind::Host(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    /// All that a chain of errors says, as programs print it.
    fn chain(error: &Error) -> Vec<String> {
        let (mut texts, mut next) = (vec![error.to_string()], error.source());
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no number of seconds")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_chain_of_errors_says_everything_once() {
        let cause = "x".parse::<u8>().unwrap_err();
        let error = Error::host(Outer(cause.clone()));
        assert_eq!(chain(&error), ["no number of seconds".to_string(), cause.to_string()]);
        assert!(error.downcast_host::<Outer>().is_some());
        assert_eq!(chain(&Error::host("plain")), ["plain"]);
        assert_eq!(chain(&Error::host(Error::host("nested"))), ["nested"]);
        for error in [Error::usage("a"), Error::resource("b"), Error::from(Trap::Unreachable)] {
            assert_eq!(chain(&error).len(), 1);
        }
    }

    #[test]
    fn names_in_errors_are_escaped_and_kept_as_they_are() {
        let (name, long) = ("a\n\u{202e}", "n".repeat(1000));
        let frame = Frame { func_index: 1, func_name: Some(name.into()), offset: 16 };
        assert_eq!(frame.to_string(), "a\\n\\u{202e} at offset 0x10");
        assert!(Frame { func_name: Some(long.clone()), ..frame }.to_string().len() < 400);
        let kind = ErrorKind::Invalid { message: name.into(), offset: Some(16), function: Some(long) };
        let text = Error::new(kind).to_string();
        assert!(text.starts_with("a\\n\\u{202e} (in nnn") && text.len() < 400, "{text}");
        let kind = ErrorKind::Unsupported { proposal: "gc", message: name.into(), offset: 1 };
        assert!(Error::new(kind).to_string().starts_with("a\\n\\u{202e}: the gc"));
    }
}
