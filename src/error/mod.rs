//! The one error type of the crate, with its backtrace.
//!
//! What may be here: errors, traps, and the data that an error holds. What may not: any knowledge of modules and engines.
//! Higher rooms put trait objects into an error that resolve its frames and describe its exception.

mod backtrace;
mod budget_item;
mod context;
mod exn_ref;
mod macros;
mod trap;

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

#[cfg(feature = "cli")]
pub(crate) use backtrace::FrameLine;
pub use backtrace::{Frame, FrameSymbol, WasmBacktrace};
pub(crate) use backtrace::{FrameSource, MAX_BACKTRACE, UnresolvedFrame};
pub use budget_item::BudgetItem;
pub use context::Context;
use context::{Layer, Root};
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
/// Any `E: std::error::Error + Send + Sync + 'static` becomes one by `?`, and is found again by
/// [`downcast_ref`](Error::downcast_ref). For that to be possible, the type does not implement [`std::error::Error`] itself;
/// it dereferences to one, and becomes a `Box<dyn std::error::Error + Send + Sync>` by `?`, and an `anyhow::Error` if the
/// feature `anyhow` is on (back by [`from_anyhow`](Error::from_anyhow)).
///
/// [`Display`](fmt::Display) shows the outermost [context](Error::context), or else the error itself; `{:#}` adds the causes.
/// It is safe for terminals: names that a module chose have control characters, and characters that change the direction of
/// text, escaped, and long names are cut. The fields of [`ErrorKind`] and the methods of [`Frame`] give names unchanged. An
/// error of a host function is displayed as its own `Display` does, unescaped. [`Debug`](fmt::Debug) adds the causes and the
/// backtrace, for `fn main() -> wasmrun::Result<()>`.
///
/// ```
/// use wasmrun::{Engine, ErrorKind, Module, Result, Trap};
/// let error = Module::new(&Engine::default(), b"not wasm").unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Invalid { .. }));
///
/// fn parse(text: &str) -> Result<u8> {
///     Ok(text.parse::<u8>()?)
/// }
/// assert!(parse("x").unwrap_err().is::<std::num::ParseIntError>());
/// # Ok::<(), wasmrun::Error>(())
/// ```
pub struct Error(Box<ErrorInner>);

struct ErrorInner {
    layer: Layer,
    backtrace: WasmBacktrace,
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
    /// The module uses a part of WebAssembly that is turned off in the engine's [`Config`](crate::Config).
    Disabled {
        /// The proposal's name in the WebAssembly proposals repository, such as `simd`.
        proposal: &'static str,
        /// The method of [`Config`](crate::Config) that turns it on, such as `wasm_simd`.
        switch: &'static str,
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
    /// An error from any error type, without backtrace. A [`Trap`] or an [`ErrorKind`] gives an error of that kind, any other
    /// type one of kind [`Host`](ErrorKind::Host).
    ///
    /// ```
    /// use wasmrun::{Error, ErrorKind, Trap};
    /// assert_eq!(Error::new(Trap::OutOfFuel).trap(), Some(Trap::OutOfFuel));
    /// assert_eq!(Error::new(ErrorKind::Exit(3)).exit_code(), Some(3));
    /// assert!(Error::new(std::fmt::Error).is::<std::fmt::Error>());
    /// ```
    pub fn new<E: StdError + Send + Sync + 'static>(error: E) -> Self {
        let mut error = Some(error);
        let any: &mut dyn Any = &mut error;
        let kind = if let Some(kind) = any.downcast_mut::<Option<ErrorKind>>() {
            kind.take()
        } else if let Some(trap) = any.downcast_mut::<Option<Trap>>() {
            trap.take().map(|trap| ErrorKind::Trap { trap, fault: None })
        } else if let Some(Some(AsStdError(own))) = any.downcast_mut::<Option<AsStdError>>().map(Option::take) {
            return own;
        } else {
            error.map(|error| ErrorKind::Host(Box::new(error)))
        };
        let root = Root { kind: kind.expect("it is taken once"), description: None, budget_item: None };
        Error(Box::new(ErrorInner { layer: Layer::Root(root), backtrace: WasmBacktrace::new(Vec::new()) }))
    }

    /// An error of kind [`Host`](ErrorKind::Host) from a message; see also [`format_err!`](crate::format_err) and
    /// [`bail!`](crate::bail).
    ///
    /// ```
    /// assert_eq!(wasmrun::Error::msg("no such record").to_string(), "no such record");
    /// ```
    pub fn msg<M: fmt::Display + fmt::Debug + Send + Sync + 'static>(message: M) -> Self {
        Self::new(context::MessageError(message))
    }

    /// The error in a box, as [`Error::new`] makes one of it: an [`Error`] that was boxed comes back as it was.
    ///
    /// ```
    /// use wasmrun::{Error, Result, Trap};
    /// fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     Err(Error::from(Trap::Interrupt))?
    /// }
    /// let error = run().map_err(Error::from_boxed).unwrap_err();
    /// assert_eq!(error.trap(), Some(Trap::Interrupt));
    /// ```
    pub fn from_boxed(error: Box<dyn StdError + Send + Sync>) -> Self {
        let error = match error.downcast::<AsStdError>() {
            Ok(own) => return own.0,
            Err(error) => error,
        };
        let error = match error.downcast::<ErrorKind>() {
            Ok(kind) => return Self::new(*kind),
            Err(error) => error,
        };
        match error.downcast::<Trap>() {
            Ok(trap) => Self::new(*trap),
            Err(error) => Self::new(ErrorKind::Host(error)),
        }
    }

    /// The error that an `anyhow::Error` was made from by `?`, as it was, or else one of kind [`Host`](ErrorKind::Host): for host
    /// functions that call code which returns `anyhow::Result`, and to find a [`Trap`] again in what such code returns. The
    /// contexts that anyhow has added become [contexts](Error::context).
    ///
    /// ```
    /// use wasmrun::{Error, Linker, Trap};
    /// fn lookup(key: u32) -> anyhow::Result<u32> {
    ///     anyhow::bail!("no record {key}")
    /// }
    /// let mut linker = Linker::<()>::default();
    /// linker.func_wrap("host", "lookup", |key: u32| lookup(key).map_err(Error::from_anyhow))?;
    ///
    /// fn run() -> anyhow::Result<()> {
    ///     Err(Error::from(Trap::Interrupt))?
    /// }
    /// assert_eq!(run().map_err(Error::from_anyhow).unwrap_err().trap(), Some(Trap::Interrupt));
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    #[cfg(feature = "anyhow")]
    pub fn from_anyhow(error: anyhow::Error) -> Self {
        let contexts = error.chain().take_while(|cause| !cause.is::<AsStdError>()).map(|cause| cause.to_string());
        let contexts: Vec<_> = contexts.collect();
        match error.downcast::<AsStdError>() {
            Ok(own) => contexts.into_iter().rev().fold(own.0, Error::context),
            Err(error) => Self::from_boxed(error.reallocate_into_boxed_dyn_error_without_backtrace()),
        }
    }

    /// The error with a message in front of it that says what was being done. The kind stays the same, and so does what
    /// [`Error::downcast_ref`] finds. See [`Context`] for the same of a `Result`.
    ///
    /// ```
    /// use wasmrun::{Error, Trap};
    /// let error = Error::from(Trap::OutOfFuel).context("the plugin failed");
    /// assert_eq!(error.to_string(), "the plugin failed");
    /// assert_eq!(format!("{error:#}"), "the plugin failed: all fuel consumed by WebAssembly");
    /// assert_eq!(error.trap(), Some(Trap::OutOfFuel));
    /// ```
    pub fn context(mut self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.0.layer = self.0.layer.under(Box::new(context));
        self
    }

    /// The error of this type that it is or was made from: a [`Trap`], an [`ErrorKind`], a [`WasmBacktrace`] if there is one, a
    /// [context](Error::context), or the error of a host function.
    ///
    /// ```
    /// use wasmrun::{Error, Trap};
    /// assert_eq!(Error::from(Trap::OutOfFuel).downcast_ref(), Some(&Trap::OutOfFuel));
    /// ```
    pub fn downcast_ref<E: StdError + Send + Sync + 'static>(&self) -> Option<&E> {
        if let Some(context) = self.0.layer.context_as() {
            return Some(context);
        }
        let kind = self.kind();
        let of_kind = match kind {
            ErrorKind::Host(error) => error.downcast_ref(),
            ErrorKind::Trap { trap, .. } => (trap as &dyn Any).downcast_ref(),
            _ => None,
        };
        let backtrace = Some(&self.0.backtrace as &dyn Any).filter(|_| !self.0.backtrace.is_empty());
        of_kind.or((kind as &dyn Any).downcast_ref()).or(backtrace.and_then(|backtrace| backtrace.downcast_ref()))
    }

    /// Whether [`Error::downcast_ref`] finds an error of this type.
    pub fn is<E: StdError + Send + Sync + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    /// As [`Error::downcast_ref`], by value.
    ///
    /// # Errors
    /// The error itself, if it is not of this type.
    ///
    /// ```
    /// use wasmrun::{Error, Trap};
    /// # fn main() -> wasmrun::Result<()> {
    /// assert_eq!(Error::from(Trap::OutOfFuel).downcast::<Trap>()?, Trap::OutOfFuel);
    /// # Ok(())
    /// # }
    /// ```
    pub fn downcast<E: StdError + Send + Sync + 'static>(self) -> Result<E> {
        if !self.is::<E>() {
            return Err(self);
        }
        let ErrorInner { mut layer, backtrace } = *self.0;
        let found: Box<dyn Any> = loop {
            layer = match layer {
                Layer::Context { message, below } => match (*message).is::<E>() {
                    true => break message.into_any(),
                    false => below.into_layer(),
                },
                Layer::Root(Root { kind, .. }) => match kind {
                    ErrorKind::Host(error) if error.is::<E>() => {
                        break error.downcast::<E>().expect("its type was looked at");
                    }
                    ErrorKind::Trap { trap, .. } if (&trap as &dyn Any).is::<E>() => break Box::new(trap),
                    kind if (&kind as &dyn Any).is::<E>() => break Box::new(kind),
                    _ => break Box::new(backtrace),
                },
            }
        };
        Ok(*found.downcast().expect("an error of this type was found"))
    }

    /// The error and its causes, the outermost context first.
    ///
    /// ```
    /// let error = "x".parse::<u8>().map_err(wasmrun::Error::from).unwrap_err().context("bad port");
    /// let texts: Vec<_> = error.chain().map(|error| error.to_string()).collect();
    /// assert_eq!(texts, ["bad port", "invalid digit found in string"]);
    /// ```
    pub fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        std::iter::successors(Some(&self.0.layer as &(dyn StdError + 'static)), |&error| error.source())
    }

    /// The innermost cause. That of a trap is the [`Trap`].
    pub fn root_cause(&self) -> &(dyn StdError + 'static) {
        let root = self.0.layer.root();
        match &root.kind {
            ErrorKind::Trap { trap, .. } => trap,
            ErrorKind::Host(error) => {
                let error: &(dyn StdError + 'static) = &**error;
                std::iter::successors(Some(error), |&error| error.source()).last().expect("there is one")
            }
            kind => kind,
        }
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
        &self.0.layer.root().kind
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
        match *self.kind() {
            ErrorKind::Trap { trap, .. } => Some(trap),
            _ => None,
        }
    }

    /// The exit code, if the program ended by WASI `proc_exit`.
    pub fn exit_code(&self) -> Option<i32> {
        match *self.kind() {
            ErrorKind::Exit(code) => Some(code),
            _ => None,
        }
    }

    /// The error that a host function returned, if it has type `E`.
    ///
    /// [`source`](std::error::Error::source) gives the cause of that error, because [`Display`](fmt::Display) shows the error
    /// itself.
    pub fn downcast_host<E: StdError + 'static>(&self) -> Option<&E> {
        match self.kind() {
            ErrorKind::Host(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The exception that WebAssembly code or a host function threw, if the error is one. See [`ExnRef`].
    pub fn exception(&self) -> Option<&ExnRef> {
        match self.kind() {
            ErrorKind::Exception(exception) => Some(exception),
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
        self.0.layer.root().budget_item
    }

    /// Sets the item of the budget that the error is due to.
    pub(crate) fn set_budget_item(&mut self, item: BudgetItem) {
        self.0.layer.root_mut().budget_item = Some(item);
    }

    /// Sets what is displayed for the exception that this error wraps.
    pub(crate) fn set_description(&mut self, description: impl fmt::Display + Send + Sync + 'static) {
        self.0.layer.root_mut().description = Some(Box::new(description));
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

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    /// As [`Error::new`].
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// An [`Error`] in a box, where it is a [`std::error::Error`].
struct AsStdError(Error);

impl fmt::Display for AsStdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AsStdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for AsStdError {
    /// The last of the causes is the backtrace: `anyhow` prints causes, and nothing else of an error.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let ErrorInner { layer, backtrace } = &*self.0.0;
        layer.source().or((!backtrace.is_empty()).then_some(backtrace))
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(AsStdError(error))
    }
}

impl From<Error> for Box<dyn StdError> {
    fn from(error: Error) -> Self {
        Box::new(AsStdError(error))
    }
}

#[cfg(feature = "anyhow")]
impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        anyhow::Error::new(AsStdError(error))
    }
}

impl std::ops::Deref for Error {
    type Target = dyn StdError + Send + Sync + 'static;

    fn deref(&self) -> &Self::Target {
        &self.0.layer
    }
}

impl AsRef<dyn StdError + Send + Sync> for Error {
    fn as_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &self.0.layer
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
                write!(f, "{message}: not supported yet (the {proposal} proposal, at offset {offset:#x})")
            }
            ErrorKind::Disabled { proposal, switch, message, offset } => {
                let message = Printable::message(message);
                write!(
                    f,
                    "{message}: the {proposal} proposal is turned off by `Config::{switch}` (at offset {offset:#x})"
                )
            }
            ErrorKind::Link(message) | ErrorKind::Usage(message) | ErrorKind::Resource(message) => f.write_str(message),
            ErrorKind::Trap { trap, fault: None } => write!(f, "{trap}"),
            ErrorKind::Trap { trap, fault: Some(fault) } => write!(f, "{trap}: {fault}"),
            ErrorKind::Exception(_) => f.write_str("uncaught exception"),
            ErrorKind::Exit(code) => write!(f, "exit with code {code}"),
            ErrorKind::Host(error) => write!(f, "{error}"),
        }
    }
}

impl StdError for ErrorKind {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // `Display` shows the host function's error itself, so the next in the chain is its cause.
            ErrorKind::Host(error) => error.source(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.layer)?;
        if f.alternate() {
            self.chain().skip(1).try_for_each(|cause| write!(f, ": {cause}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for (depth, cause) in self.chain().skip(1).enumerate() {
            let heading = if depth == 0 { "\ncaused by" } else { "\n      and" };
            write!(f, "{heading}: {cause}")?;
        }
        if !self.backtrace().is_empty() {
            write!(f, "\n{}", self.0.backtrace)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a chain of errors, as programs print it.
    fn chain(error: &Error) -> Vec<String> {
        error.chain().map(|error| error.to_string()).collect()
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
    fn every_error_is_found_by_its_type() {
        let parse = || "x".parse::<u8>().unwrap_err();
        let error = || Error::from(Outer(parse())).context("inner").context(parse()).context("outer");
        assert_eq!(chain(&error())[..2], ["outer", &parse().to_string()]);
        assert_eq!(error().chain().count(), 5);
        assert!(error().is::<Outer>() && !error().is::<Trap>() && error().root_cause().is::<std::num::ParseIntError>());
        // The context is outside of the cause, which is no error that was made into one.
        assert_eq!(error().downcast::<std::num::ParseIntError>().unwrap(), parse());
        assert_eq!(error().downcast::<Outer>().unwrap().0, parse());
        let kept = error().downcast::<fmt::Error>().unwrap_err();
        assert_eq!(kept.to_string(), "outer");
        assert!(!Error::from(Outer(parse())).is::<std::num::ParseIntError>(), "a cause is no error of its own");

        let trap = || Error::from(Trap::Interrupt).context("outer");
        assert_eq!((trap().downcast().unwrap(), trap().trap()), (Trap::Interrupt, Some(Trap::Interrupt)));
        assert!(matches!(trap().downcast().unwrap(), ErrorKind::Trap { trap: Trap::Interrupt, fault: None }));
        assert!(!trap().is::<WasmBacktrace>(), "it did not come from WebAssembly code");
        assert_eq!(Error::from(ErrorKind::Exit(7)).context("outer").exit_code(), Some(7));
        assert!(Error::msg("message").root_cause().to_string() == "message");
    }

    #[test]
    fn what_was_boxed_comes_back() {
        let boxed = |error: Error| Box::<dyn StdError + Send + Sync>::from(error);
        let error = Error::from_boxed(boxed(Error::from(Trap::Deadline).context("outer")));
        assert_eq!(
            (chain(&error), error.trap()),
            (vec!["outer".into(), "deadline exceeded".into()], Some(Trap::Deadline))
        );
        assert_eq!(chain(&Error::from_boxed("text".into())), ["text"]);
        assert_eq!(Error::from_boxed(Box::new(Trap::Deadline)).trap(), Some(Trap::Deadline));
        assert_eq!(Error::from_boxed(Box::new(ErrorKind::Exit(1))).exit_code(), Some(1));
        let source =
            |error: &Error| boxed(Error::msg("cause").context(error.to_string())).source().map(|it| it.to_string());
        assert_eq!(source(&error).as_deref(), Some("cause"));
        // An error of another runtime, that a host function returns, is not an exit of this one.
        assert_eq!(Error::host(Error::from(ErrorKind::Exit(3))).exit_code(), None);
    }

    #[test]
    fn every_form_shows_the_causes_it_should() {
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err())).context("start");
        assert_eq!(error.to_string(), "start");
        assert_eq!(format!("{error:#}"), "start: no number of seconds: invalid digit found in string");
        assert_eq!(
            format!("{error:?}"),
            "start\ncaused by: no number of seconds\n      and: invalid digit found in string"
        );
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
        assert!(Error::new(kind).to_string().starts_with("a\\n\\u{202e}: not"));
    }
}
