//! The one error type of the crate, with its backtrace.
//!
//! What may be here: errors, traps, and the data that an error holds. What may not: any knowledge of modules and engines.
//! Higher rooms put trait objects into an error that resolve its frames and describe its exception.

mod backtrace;
mod budget_item;
mod exn_ref;
mod trap;

use std::fmt;

#[cfg(feature = "cli")]
pub(crate) use backtrace::FrameLine;
pub use backtrace::{Frame, FrameSymbol, WasmBacktrace};
pub(crate) use backtrace::{FrameSource, MAX_BACKTRACE, UnresolvedFrame};
pub use budget_item::BudgetItem;
pub(crate) use exn_ref::ExnPin;
pub use exn_ref::ExnRef;
pub use trap::{MemoryFault, Trap};

use crate::printable::Printable;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong, from decoding a module to the end of its program.
///
/// An error has a [`kind`](Error::kind). One that propagated through WebAssembly code also has a
/// [`backtrace`](Error::backtrace) of the functions it left, innermost first, unless it is an exit.
///
/// [`Display`](fmt::Display) is safe for terminals: names that a module chose have control characters, and characters that
/// change the direction of text, escaped, and long names are cut. The fields of [`ErrorKind`] and the methods of [`Frame`]
/// give names unchanged. An error of a host function is displayed as its own `Display` does, unescaped.
/// [`Debug`](fmt::Debug) adds the backtrace.
///
/// ```
/// use wasmrun::{Engine, ErrorKind, Module};
/// let error = Module::new(&Engine::default(), b"not wasm").unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Invalid { .. }));
/// ```
pub struct Error(Box<ErrorInner>);

struct ErrorInner {
    kind: ErrorKind,
    backtrace: WasmBacktrace,
    /// Displays tag and payload of an exception that propagated out of its store.
    description: Option<Box<dyn fmt::Display + Send + Sync>>,
    budget_item: Option<BudgetItem>,
}

/// The kind of an [`Error`], with its details.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module is malformed or does not validate (specification, chapters 3 and 5).
    Invalid {
        /// What is wrong.
        message: String,
        /// Byte offset in the binary module; `None` for an error in the text format.
        offset: Option<usize>,
        /// The function that the offset lies in: its name, or `function N` if it has none.
        function: Option<String>,
    },
    /// The module is well formed but uses a part of WebAssembly that this version of wasmrun does not support.
    Unsupported {
        /// The proposal's name in the WebAssembly proposals repository, such as `threads`.
        proposal: &'static str,
        /// What the module uses.
        message: String,
        /// Byte offset in the binary module.
        offset: usize,
    },
    /// An import is not defined or the object supplied for it has another type, or a linker already has a definition of the
    /// same name.
    Link(String),
    /// WebAssembly code trapped.
    Trap {
        /// The kind of trap.
        trap: Trap,
        /// For an out-of-bounds memory access, the access. `None` for other traps, and where it is not known.
        fault: Option<MemoryFault>,
    },
    /// WebAssembly code threw an exception and nothing in WebAssembly code caught it.
    Exception(ExnRef),
    /// The program asked to end with this exit code (WASI `proc_exit`).
    Exit(i32),
    /// A host function failed with this error.
    Host(Box<dyn std::error::Error + Send + Sync>),
    /// The API was used wrongly: values of other types, an object of another store, settings that exclude each other.
    Usage(String),
    /// Something could not be had: the system refused memory, address space or a file, or a limit was reached.
    Resource(String),
}

impl Error {
    /// An error of the given kind, without backtrace.
    pub fn new(kind: ErrorKind) -> Self {
        let backtrace = WasmBacktrace::new(Vec::new());
        Error(Box::new(ErrorInner { kind, backtrace, description: None, budget_item: None }))
    }

    /// An error of a host function: returned from one, it ends the WebAssembly code that called the function.
    ///
    /// ```
    /// use wasmrun::{Engine, Error, Func, Store};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let fail = Func::wrap(&mut store, || Err::<(), _>(Error::host("no such record")));
    /// let error = fail.call(&mut store, &[], &mut []).unwrap_err();
    /// assert_eq!(error.to_string(), "no such record");
    /// ```
    pub fn host(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Host(error.into()))
    }

    /// An error for a wrong use of the API.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage(message.into()))
    }

    /// An error for a resource that could not be had.
    pub(crate) fn resource(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Resource(message.into()))
    }

    /// The kind of the error, with its details.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The WebAssembly functions that the error left, innermost first; at most 64. Empty if it did not come from WebAssembly
    /// code, or is an exit.
    pub fn backtrace(&self) -> &[Frame] {
        self.0.backtrace.frames()
    }

    /// The backtrace, to be displayed.
    pub(crate) fn printed_backtrace(&self) -> &WasmBacktrace {
        &self.0.backtrace
    }

    /// The trap, if the error is one.
    pub fn trap(&self) -> Option<Trap> {
        match self.0.kind {
            ErrorKind::Trap { trap, .. } => Some(trap),
            _ => None,
        }
    }

    /// The exit code, if the program ended by WASI `proc_exit`.
    pub fn exit_code(&self) -> Option<i32> {
        match self.0.kind {
            ErrorKind::Exit(code) => Some(code),
            _ => None,
        }
    }

    /// The error that a host function returned, if it has type `E`.
    ///
    /// [`source`](std::error::Error::source) gives the cause of that error, because [`Display`](fmt::Display) shows the error
    /// itself.
    pub fn downcast_host<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match &self.0.kind {
            ErrorKind::Host(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The item of the store's [`Budget`](crate::Budget) that the error is due to, if it is one. [`Display`](fmt::Display) names
    /// its [method](BudgetItem::method).
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmrun::{Budget, BudgetItem, Engine, Instance, Module, Store};
    /// let engine = Engine::default();
    /// let module = Module::new(&engine, "(module (func (export \"spin\") (loop (br 0))))")?;
    /// let mut store = Store::new(&engine, ());
    /// let spin = Instance::new(&mut store, &module, &[])?.get_typed_func::<(), ()>(&mut store, "spin")?;
    /// store.set_budget(&Budget::new().cpu_time(Duration::from_millis(5)))?;
    /// let error = spin.call(&mut store, ()).unwrap_err();
    /// assert_eq!(error.budget_item(), Some(BudgetItem::CpuTime));
    /// assert_eq!(error.to_string(), "CPU time used up (limited by Budget::cpu_time)");
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn budget_item(&self) -> Option<BudgetItem> {
        self.0.budget_item
    }

    /// Sets the item of the budget that the error is due to.
    pub(crate) fn set_budget_item(&mut self, item: BudgetItem) {
        self.0.budget_item = Some(item);
    }

    /// Sets what is displayed for the exception that this error wraps.
    pub(crate) fn set_description(&mut self, description: impl fmt::Display + Send + Sync + 'static) {
        self.0.description = Some(Box::new(description));
    }

    /// Appends the frames of one activation of an engine to the backtrace, innermost first. An exit gets none, because it is
    /// how every program ends.
    pub(crate) fn push_frames(&mut self, frames: impl IntoIterator<Item = UnresolvedFrame>) {
        if self.exit_code().is_some() {
            return;
        }
        self.0.backtrace.push(frames);
    }
}

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
        }?;
        self.0.budget_item.map_or(Ok(()), |item| write!(f, " (limited by {})", item.method()))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if !self.backtrace().is_empty() {
            write!(f, "\n{}", self.0.backtrace)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            // `Display` shows the host function's error itself, so the next in the chain is its cause.
            ErrorKind::Host(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    /// The messages of a chain of errors, as programs print it.
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
        let frame = Frame {
            func_index: 1,
            func_name: Some(name.into()),
            name: None,
            offset: 16,
            func_offset: 2,
            symbols: Vec::new(),
        };
        assert_eq!(frame.to_string(), "a\\n\\u{202e} at offset 0x10");
        assert!(Frame { func_name: Some(long.clone()), ..frame }.to_string().len() < 400);
        let kind = ErrorKind::Invalid { message: name.into(), offset: Some(16), function: Some(long) };
        let text = Error::new(kind).to_string();
        assert!(text.starts_with("a\\n\\u{202e} (in nnn") && text.len() < 400, "{text}");
        let kind = ErrorKind::Unsupported { proposal: "gc", message: name.into(), offset: 1 };
        assert!(Error::new(kind).to_string().starts_with("a\\n\\u{202e}: the gc"));
    }
}
