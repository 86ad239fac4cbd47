//! Macros that make errors.

/// An [`Error`](crate::Error) of a host function: from a message, formatted as by `format!`, or from a value of any error type.
///
/// ```
/// use wasmrun::{Trap, format_err};
/// let name = "add";
/// assert_eq!(format_err!("no function `{name}`").to_string(), "no function `add`");
/// assert_eq!(format_err!("no function `{}`", name).to_string(), "no function `add`");
/// assert_eq!(format_err!(Trap::OutOfFuel).trap(), Some(Trap::OutOfFuel));
/// ```
#[macro_export]
macro_rules! format_err {
    ($message:literal $(,)?) => {
        $crate::Error::msg(::std::format!($message))
    };
    ($format:literal, $($args:tt)*) => {
        $crate::Error::msg(::std::format!($format, $($args)*))
    };
    ($error:expr $(,)?) => {
        $crate::Error::from($error)
    };
}

/// Returns an error, which [`format_err!`](crate::format_err) makes of the arguments.
///
/// ```
/// use wasmrun::{Caller, Memory, Result, bail};
/// fn memory(caller: &mut Caller<'_, ()>) -> Result<Memory> {
///     match caller.get_export("memory") {
///         Some(wasmrun::Extern::Memory(memory)) => Ok(memory),
///         _ => bail!("the caller exports no memory"),
///     }
/// }
/// ```
#[macro_export]
macro_rules! bail {
    ($($args:tt)+) => {
        return ::core::result::Result::Err($crate::format_err!($($args)+))
    };
}

/// Returns an error unless a condition holds. Without a message, the error shows the condition.
///
/// ```
/// fn half(n: u32) -> wasmrun::Result<u32> {
///     wasmrun::ensure!(n % 2 == 0, "{n} is odd");
///     Ok(n / 2)
/// }
/// assert_eq!(half(3).unwrap_err().to_string(), "3 is odd");
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr $(,)?) => {
        if !$condition {
            return ::core::result::Result::Err($crate::Error::msg(::core::concat!(
                "condition failed: `",
                ::core::stringify!($condition),
                "`"
            )));
        }
    };
    ($condition:expr, $($args:tt)+) => {
        if !$condition {
            $crate::bail!($($args)+);
        }
    };
}
