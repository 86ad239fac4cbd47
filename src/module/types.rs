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
    /// Reference.
    Ref(RefType),
}

impl ValType {
    /// `funcref`: a nullable reference to any function.
    pub const FUNCREF: ValType = ValType::Ref(RefType::FUNCREF);
    /// `externref`: a nullable reference to any object of the host.
    pub const EXTERNREF: ValType = ValType::Ref(RefType::EXTERNREF);
    /// `exnref`: a nullable reference to any exception.
    pub const EXNREF: ValType = ValType::Ref(RefType::EXNREF);
    /// `nullexnref`: a reference to an exception that is always null.
    pub const NULLEXNREF: ValType = ValType::Ref(RefType::NULLEXNREF);

    /// Whether this is a reference type.
    pub const fn is_ref(self) -> bool {
        matches!(self, ValType::Ref(_))
    }

    /// This type, if it is a reference type.
    pub const fn as_ref(self) -> Option<RefType> {
        match self {
            ValType::Ref(ty) => Some(ty),
            _ => None,
        }
    }

    /// Whether every value of this type is one of `other` (specification, section 3.3.3, "subtyping").
    ///
    /// ```
    /// use wasmrun::ValType;
    /// assert!(ValType::NULLEXNREF.matches(ValType::EXNREF));
    /// assert!(!ValType::EXNREF.matches(ValType::NULLEXNREF));
    /// ```
    pub fn matches(self, other: ValType) -> bool {
        match (self, other) {
            (ValType::Ref(this), ValType::Ref(other)) => this.matches(other),
            _ => self == other,
        }
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
            wasmparser::ValType::Ref(ty) => ValType::Ref(RefType::from_wasmparser(ty)),
        }
    }
}

impl From<RefType> for ValType {
    fn from(ty: RefType) -> Self {
        ValType::Ref(ty)
    }
}

/// The type of a reference (specification, section 2.3.5).
///
/// ```
/// use wasmrun::{HeapType, RefType};
/// assert_eq!(RefType::new(true, HeapType::Func), RefType::FUNCREF);
/// assert_eq!(RefType::new(false, HeapType::Exn).to_string(), "(ref exn)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefType {
    nullable: bool,
    heap: HeapType,
}

impl RefType {
    /// `(ref null func)`.
    pub const FUNCREF: RefType = RefType::new(true, HeapType::Func);
    /// `(ref null extern)`.
    pub const EXTERNREF: RefType = RefType::new(true, HeapType::Extern);
    /// `(ref null exn)`.
    pub const EXNREF: RefType = RefType::new(true, HeapType::Exn);
    /// `(ref null noexn)`.
    pub const NULLEXNREF: RefType = RefType::new(true, HeapType::NoExn);

    /// References to what `heap` says, and to nothing if they are `nullable`.
    pub const fn new(nullable: bool, heap: HeapType) -> Self {
        RefType { nullable, heap }
    }

    /// Whether null is a value of it.
    pub const fn is_nullable(self) -> bool {
        self.nullable
    }

    /// What its references refer to.
    pub const fn heap_type(self) -> HeapType {
        self.heap
    }

    /// Whether every reference of this type is one of `other`.
    pub fn matches(self, other: RefType) -> bool {
        (other.nullable || !self.nullable) && self.heap.matches(other.heap)
    }

    /// The type wasmparser read.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub(crate) fn from_wasmparser(ty: wasmparser::RefType) -> Self {
        use wasmparser::AbstractHeapType as Abstract;
        let heap = match ty.heap_type() {
            wasmparser::HeapType::Abstract { shared: false, ty: Abstract::Func } => HeapType::Func,
            wasmparser::HeapType::Abstract { shared: false, ty: Abstract::Extern } => HeapType::Extern,
            wasmparser::HeapType::Abstract { shared: false, ty: Abstract::Exn } => HeapType::Exn,
            wasmparser::HeapType::Abstract { shared: false, ty: Abstract::NoExn } => HeapType::NoExn,
            other => unreachable!("validated modules have no references to {other:?}"),
        };
        RefType::new(ty.is_nullable(), heap)
    }
}

impl fmt::Display for RefType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nullable, self.heap) {
            (true, HeapType::Func) => f.write_str("funcref"),
            (true, HeapType::Extern) => f.write_str("externref"),
            (true, HeapType::Exn) => f.write_str("exnref"),
            (true, HeapType::NoExn) => f.write_str("nullexnref"),
            (false, heap) => write!(f, "(ref {heap})"),
        }
    }
}

/// What references refer to (specification, section 2.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeapType {
    /// Any function.
    Func,
    /// Any object of the host.
    Extern,
    /// Any exception.
    Exn,
    /// No exception: such a reference can only be null.
    NoExn,
}

impl HeapType {
    /// Whether everything of this type is of `other`.
    pub fn matches(self, other: HeapType) -> bool {
        self == other || (self, other) == (HeapType::NoExn, HeapType::Exn)
    }

    /// The type of the same hierarchy that every other one there is a subtype of: it says how references are represented.
    pub const fn top(self) -> HeapType {
        match self {
            HeapType::Func => HeapType::Func,
            HeapType::Extern => HeapType::Extern,
            HeapType::Exn | HeapType::NoExn => HeapType::Exn,
        }
    }
}

impl fmt::Display for HeapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeapType::Func => "func",
            HeapType::Extern => "extern",
            HeapType::Exn => "exn",
            HeapType::NoExn => "noexn",
        })
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
            ValType::Ref(ty) => return ty.fmt(f),
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
///
/// ```
/// let ty = wasmrun::MemoryType::new(1, Some(2));
/// assert_eq!((ty.minimum, ty.maximum), (1, Some(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MemoryType {
    /// Pages it has at first.
    pub minimum: u64,
    /// Pages it may grow to.
    pub maximum: Option<u64>,
}

impl MemoryType {
    /// Memories of at least `minimum` pages, that grow to `maximum` at most.
    pub const fn new(minimum: u64, maximum: Option<u64>) -> Self {
        MemoryType { minimum, maximum }
    }
}

/// The type of a table (specification, section 2.3.9).
///
/// ```
/// use wasmrun::{RefType, TableType};
/// let ty = TableType::new(RefType::FUNCREF, 2, None);
/// assert_eq!(ty.element, RefType::FUNCREF);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TableType {
    /// Type of the elements.
    pub element: RefType,
    /// Elements it has at first.
    pub minimum: u64,
    /// Elements it may grow to.
    pub maximum: Option<u64>,
}

impl TableType {
    /// Tables of at least `minimum` elements, that grow to `maximum` at most.
    pub const fn new(element: RefType, minimum: u64, maximum: Option<u64>) -> Self {
        TableType { element, minimum, maximum }
    }
}

/// The type of a global (specification, section 2.3.10).
///
/// ```
/// use wasmrun::{GlobalType, Mutability, ValType};
/// let ty = GlobalType::new(ValType::I32, Mutability::Var);
/// assert!(ty.is_mutable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GlobalType {
    /// Type of its value.
    pub content: ValType,
    /// Whether it can be set.
    pub mutability: Mutability,
}

impl GlobalType {
    /// Globals with a value of type `content`.
    pub const fn new(content: ValType, mutability: Mutability) -> Self {
        GlobalType { content, mutability }
    }

    /// Whether it can be set.
    pub const fn is_mutable(&self) -> bool {
        matches!(self.mutability, Mutability::Var)
    }
}

/// Whether a global can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutability {
    /// It keeps its first value.
    Const,
    /// It can be set.
    Var,
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
            ExternType::Global(ty) if ty.is_mutable() => write!(f, "(global (mut {}))", ty.content),
            ExternType::Global(ty) => write!(f, "(global {})", ty.content),
        }
    }
}
