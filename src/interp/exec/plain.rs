//! The instructions without forms, each with a handler of its own. What they do is in the files of their categories.

use crate::interp::machine::{Flow, Handler, Machine};
use crate::interp::op::for_each_op;
use crate::interp::print::Field::{self, *};
use crate::interp::print::Half::*;

/// What they do.
mod run {
    pub use super::super::atomic::run::*;
    pub use super::super::call::run::*;
    pub use super::super::control::run::*;
    pub use super::super::exception::run::*;
    pub use super::super::fuel::run::*;
    pub use super::super::gc::run::*;
    pub use super::super::memory::run::*;
    pub use super::super::numeric::run::*;
    pub use super::super::reference::run::*;
    pub use super::super::simd::run::*;
    pub use super::super::table::run::*;
    pub use super::super::variable::run::*;
}

macro_rules! handlers {
    (
        plain { $($(#[$doc:meta])* $name:ident: $fields:tt,)* }
        $($rest:tt)*
    ) => {
        $(
            $(#[$doc])*
            pub struct $name;
            impl Handler for $name {
                const FIELDS: &'static [Field] = &$fields;

                fn name() -> String {
                    super::printed(stringify!($name))
                }

                #[inline(always)]
                fn run(m: &mut Machine) -> Flow {
                    run::$name(m)
                }
            }
        )*
    };
}

for_each_op!(handlers);
