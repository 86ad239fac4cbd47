//! The message of an uncaught exception: its tag and its payload as text.

use std::fmt;
use std::sync::Arc;

use super::value::Value;
use crate::error::{Error, ErrorKind, ExnRef};
use crate::module::ModuleFacts;
use crate::printable::Printable;
use crate::vm::store::StoreOpaque;

/// Most values of a payload that are shown.
const MAX_VALUES: usize = 8;

/// Tag and payload of an exception, which can be displayed without the store.
struct ExceptionDescription {
    /// The module that defines the tag, and the tag's index there; `None` for a tag that the host made.
    tag: Option<(Arc<ModuleFacts>, u32)>,
    payload: String,
}

impl ExceptionDescription {
    fn new(store: &StoreOpaque, exception: &ExnRef) -> Option<Self> {
        // SAFETY: `exception` keeps the exception alive, and is of this store.
        let (tag, values) = unsafe { Value::of_exception(store, exception.pin().exception, MAX_VALUES + 1).ok()? };
        let mut texts: Vec<_> = values.iter().take(MAX_VALUES).map(text).collect();
        texts.extend((values.len() > MAX_VALUES).then(|| "…".to_string()));
        Some(ExceptionDescription { tag: tag.origin.clone(), payload: texts.join(", ") })
    }
}

/// If an error wraps an exception of `store`, adds the description of the exception, which can't be made without the store.
pub(crate) fn describe(store: &StoreOpaque, error: &mut Error) {
    if let ErrorKind::Exception(exception) = error.kind()
        && exception.pin().store == store.id
        && let Some(thrown) = ExceptionDescription::new(store, exception)
    {
        error.set_description(thrown);
    }
}

/// A value as text; a reference is shown by its type.
fn text(value: &Value) -> String {
    match value {
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F32(value) => format!("{value:?}"),
        Value::F64(value) => format!("{value:?}"),
        Value::V128(value) => format!("{value:#034x}"),
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) => "null".into(),
        reference => reference.ty().to_string(),
    }
}

impl fmt::Display for ExceptionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            None => f.write_str("<tag of the host>")?,
            Some((module, index)) => match module.tag_name(*index) {
                Some(name) => write!(f, "{}", Printable::name(name))?,
                None => write!(f, "<tag {index}>")?,
            },
        }
        write!(f, "({})", self.payload)
    }
}
