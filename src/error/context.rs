//! Contexts of errors: messages that say what was being done when an error occurred.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

use super::{BudgetItem, Error, ErrorKind, Result};

/// An error itself, or a message around it. A list, because each element must be a [`std::error::Error`] whose source is the
/// next.
pub(super) enum Layer {
    Root(Root),
    Context { message: Box<dyn Message>, below: Below },
}

/// What a context is around: always a layer until it is taken out. Dropped one by one, because there may be more layers than the
/// stack has room for.
pub(super) struct Below(Option<Box<Layer>>);

const NOT_TAKEN: &str = "it is taken out by value";

impl Below {
    fn get(&self) -> &Layer {
        self.0.as_deref().expect(NOT_TAKEN)
    }

    pub fn into_layer(mut self) -> Layer {
        *self.0.take().expect(NOT_TAKEN)
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut layer) = next {
            next = match &mut *layer {
                Layer::Context { below, .. } => below.0.take(),
                Layer::Root(_) => None,
            };
        }
    }
}

/// An error without contexts.
pub(super) struct Root {
    pub kind: ErrorKind,
    /// Displays tag and payload of an exception that propagated out of its store.
    pub description: Option<Box<dyn fmt::Display + Send + Sync>>,
    pub budget_item: Option<BudgetItem>,
}

/// A message that can be downcast to its type.
pub(super) trait Message: fmt::Display + Any + Send + Sync {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<M: fmt::Display + Any + Send + Sync> Message for M {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl dyn Message {
    pub(super) fn is<E: 'static>(&self) -> bool {
        (self as &dyn Any).is::<E>()
    }
}

/// An error from a message.
pub(super) struct MessageError<M>(pub M);

impl<M: fmt::Display> fmt::Display for MessageError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<M: fmt::Debug> fmt::Debug for MessageError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<M: fmt::Display + fmt::Debug> StdError for MessageError<M> {}

impl Layer {
    /// This layer with a message in front.
    pub fn under(self, message: Box<dyn Message>) -> Layer {
        Layer::Context { message, below: Below(Some(Box::new(self))) }
    }

    pub fn root(&self) -> &Root {
        let mut layer = self;
        loop {
            match layer {
                Layer::Root(root) => return root,
                Layer::Context { below, .. } => layer = below.get(),
            }
        }
    }

    pub fn root_mut(&mut self) -> &mut Root {
        let mut layer = self;
        loop {
            match layer {
                Layer::Root(root) => return root,
                Layer::Context { below, .. } => layer = below.0.as_mut().expect(NOT_TAKEN),
            }
        }
    }

    /// The outermost context of this type.
    pub fn context_as<E: 'static>(&self) -> Option<&E> {
        let mut layer = self;
        while let Layer::Context { message, below } = layer {
            if let Some(found) = (&**message as &dyn Any).downcast_ref() {
                return Some(found);
            }
            layer = below.get();
        }
        None
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Context { message, .. } => message.fmt(f),
            Layer::Root(Root { kind, description, budget_item }) => {
                write!(f, "{kind}")?;
                description.as_ref().map_or(Ok(()), |description| write!(f, " {description}"))?;
                budget_item.map_or(Ok(()), |item| write!(f, " (limited by {})", item.method()))
            }
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Context { message, .. } => write!(f, "{:?}", message.to_string()),
            Layer::Root(root) => fmt::Debug::fmt(&root.kind, f),
        }
    }
}

impl StdError for Layer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Layer::Context { below, .. } => Some(below.get()),
            Layer::Root(root) => root.kind.source(),
        }
    }
}

mod private {
    pub trait Sealed {}
}

impl<T, E> private::Sealed for Result<T, E> {}
impl<T> private::Sealed for Option<T> {}

/// Gives the error of a `Result` a message that says what was being done; makes an error of a `None`.
///
/// ```
/// use wasmrun::error::Context;
/// fn port(text: &str) -> wasmrun::Result<u16> {
///     text.parse().with_context(|| format!("{text:?} is no port"))
/// }
/// assert_eq!(format!("{:#}", port("x").unwrap_err()), "\"x\" is no port: invalid digit found in string");
/// assert_eq!(None::<u8>.context("nothing there").unwrap_err().to_string(), "nothing there");
/// ```
pub trait Context<T>: private::Sealed {
    /// Adds a message; see [`Error::context`].
    ///
    /// # Errors
    /// The error with the message, if there is one.
    fn context<C: fmt::Display + Send + Sync + 'static>(self, context: C) -> Result<T>;

    /// As [`Context::context`], with a message that is made only if there is an error.
    ///
    /// # Errors
    /// As for [`Context::context`].
    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context<C: fmt::Display + Send + Sync + 'static>(self, context: C) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }

    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context<C: fmt::Display + Send + Sync + 'static>(self, context: C) -> Result<T> {
        self.ok_or_else(|| Error::msg(context.to_string()))
    }

    fn with_context<C: fmt::Display + Send + Sync + 'static>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::msg(context().to_string()))
    }
}
