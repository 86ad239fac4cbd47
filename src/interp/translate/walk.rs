//! Hands each operator of a body first to the validator, then to the translator. It is a visitor, so that the reader need not build
//! and move operators as values.

use wasmparser::{Operator, VisitOperator, VisitSimdOperator};

use super::Translator;
use crate::module::decode::Parsed;
use crate::module::validate::Check;

/// The visitor of a body's operators.
pub(super) struct ValidatingVisitor<'w, 'm> {
    pub translator: &'w mut Translator<'m>,
    pub check: &'w mut Check,
    /// Byte offset of the next operator.
    pub offset: u64,
}

macro_rules! visit {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        $(
            #[allow(clippy::clone_on_copy, reason = "some operands are not `Copy`")]
            fn $visit(&mut self $($(, $arg: $argty)*)?) -> Parsed<()> {
                if let Some(validator) = self.check.validator() {
                    validator.simd_visitor(self.offset).$visit($($($arg.clone()),*)?)?;
                }
                self.translator.next(self.offset, &Operator::$op $({ $($arg),* })?)
            }
        )*
    };
}

// The macro names the lifetime.
impl<'a> VisitOperator<'a> for ValidatingVisitor<'_, 'a> {
    type Output = Parsed<()>;

    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = Parsed<()>>> {
        Some(self)
    }

    wasmparser::for_each_visit_operator!(visit);
}

impl<'a> VisitSimdOperator<'a> for ValidatingVisitor<'_, 'a> {
    wasmparser::for_each_visit_simd_operator!(visit);
}
