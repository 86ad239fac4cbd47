//! The types of the WebAssembly type system that a module's surface is made of.

use std::fmt;
use std::sync::Arc;

/// The type of a value (specification, section 2.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// Nullable reference to a function.
    FuncRef,
    /// Nullable reference to an object of the host.
    ExternRef,
    /// Nullable reference to an exception.
    ExnRef,
}

impl ValType {
    /// Whether this is a reference type.
    pub fn is_ref(self) -> bool {
        matches!(self, ValType::FuncRef | ValType::ExternRef | ValType::ExnRef)
    }

    /// How many 64-bit slots a value of this type takes in frames and argument buffers: two for `v128`, else one.
    #[inline]
    pub(crate) fn slots(self) -> usize {
        if self == ValType::V128 { 2 } else { 1 }
    }

    /// The type wasmparser read.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub(crate) fn from_wasmparser(ty: wasmparser::ValType) -> Self {
        match ty {
            wasmparser::ValType::I32 => ValType::I32,
            wasmparser::ValType::I64 => ValType::I64,
            wasmparser::ValType::F32 => ValType::F32,
            wasmparser::ValType::F64 => ValType::F64,
            wasmparser::ValType::V128 => ValType::V128,
            wasmparser::ValType::Ref(r) if r == wasmparser::RefType::FUNCREF => ValType::FuncRef,
            wasmparser::ValType::Ref(r) if r == wasmparser::RefType::EXTERNREF => ValType::ExternRef,
            // `catch_ref` gives a non-null one, and of `nullexnref` null is the only value.
            wasmparser::ValType::Ref(r)
                if [wasmparser::RefType::EXN, wasmparser::RefType::NOEXN].contains(&r.as_non_null()) =>
            {
                ValType::ExnRef
            }
            other => unreachable!("validated modules have no values of type {other}"),
        }
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValType::I32 => "i32",
            ValType::I64 => "i64",
            ValType::F32 => "f32",
            ValType::F64 => "f64",
            ValType::V128 => "v128",
            ValType::FuncRef => "funcref",
            ValType::ExternRef => "externref",
            ValType::ExnRef => "exnref",
        })
    }
}

/// The type of a function (specification, section 2.3.6).
///
/// ```
/// use wasmrun::{FuncType, ValType};
/// let ty = FuncType::new([ValType::I32, ValType::I64], [ValType::F32]);
/// assert_eq!(ty.to_string(), "(param i32 i64) (result f32)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuncType {
    // Shared: a module may have a million imports of a type with a thousand parameters.
    params: Arc<[ValType]>,
    results: Arc<[ValType]>,
}

impl FuncType {
    /// The type of functions from `params` to `results`.
    pub fn new(params: impl IntoIterator<Item = ValType>, results: impl IntoIterator<Item = ValType>) -> Self {
        FuncType { params: params.into_iter().collect(), results: results.into_iter().collect() }
    }

    /// Types of the parameters.
    pub fn params(&self) -> &[ValType] {
        &self.params
    }

    /// Types of the results.
    pub fn results(&self) -> &[ValType] {
        &self.results
    }

    /// 64-bit slots that the parameters take.
    pub(crate) fn param_slots(&self) -> usize {
        self.params.iter().map(|t| t.slots()).sum()
    }

    /// 64-bit slots that the results take.
    pub(crate) fn result_slots(&self) -> usize {
        self.results.iter().map(|t| t.slots()).sum()
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (keyword, types) in [("param", &self.params), ("result", &self.results)] {
            if !types.is_empty() {
                write!(f, "{separator}({keyword}")?;
                types.iter().try_for_each(|ty| write!(f, " {ty}"))?;
                f.write_str(")")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// The type of a linear memory (specification, section 2.3.8). Sizes are in pages of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryType {
    /// Pages it has at first.
    pub minimum: u64,
    /// Pages it may grow to.
    pub maximum: Option<u64>,
}

/// The type of a table (specification, section 2.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableType {
    /// Type of the elements, a reference type.
    pub element: ValType,
    /// Elements it has at first.
    pub minimum: u64,
    /// Elements it may grow to.
    pub maximum: Option<u64>,
}

/// The type of a global (specification, section 2.3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalType {
    /// Type of its value.
    pub content: ValType,
    /// Whether it can be set.
    pub mutable: bool,
}

/// The type of an import or export (specification, section 2.3.11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExternType {
    /// A function.
    Func(FuncType),
    /// A table.
    Table(TableType),
    /// A memory.
    Memory(MemoryType),
    /// A global.
    Global(GlobalType),
    /// A tag of exceptions that carry values of the parameter types.
    Tag(FuncType),
}

fn limits(f: &mut fmt::Formatter<'_>, minimum: u64, maximum: Option<u64>) -> fmt::Result {
    write!(f, "{minimum}")?;
    maximum.map_or(Ok(()), |maximum| write!(f, " {maximum}"))
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternType::Func(ty) if ty.params.is_empty() && ty.results.is_empty() => f.write_str("(func)"),
            ExternType::Func(ty) => write!(f, "(func {ty})"),
            ExternType::Table(ty) => {
                f.write_str("(table ")?;
                limits(f, ty.minimum, ty.maximum)?;
                write!(f, " {})", ty.element)
            }
            ExternType::Memory(ty) => {
                f.write_str("(memory ")?;
                limits(f, ty.minimum, ty.maximum)?;
                f.write_str(")")
            }
            ExternType::Tag(ty) if ty.params.is_empty() => f.write_str("(tag)"),
            ExternType::Tag(ty) => write!(f, "(tag {ty})"),
            ExternType::Global(ty) if ty.mutable => write!(f, "(global (mut {}))", ty.content),
            ExternType::Global(ty) => write!(f, "(global {})", ty.content),
        }
    }
}
