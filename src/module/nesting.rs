//! The nesting of blocks, for those who follow it through a body.

use wasmparser::Operator;

/// Whether an instruction opens a block.
pub(crate) fn opens_block(op: &Operator<'_>) -> bool {
    matches!(
        op,
        Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. }
            | Operator::Try { .. }
    )
}

/// Whether an instruction ends the innermost open block: `delegate` does so in place of `end`.
pub(crate) fn ends_block(op: &Operator<'_>) -> bool {
    matches!(op, Operator::End | Operator::Delegate { .. })
}

/// Whether an instruction ends one arm of the innermost open block and begins another.
pub(crate) fn begins_arm(op: &Operator<'_>) -> bool {
    matches!(op, Operator::Else | Operator::Catch { .. } | Operator::CatchAll)
}
