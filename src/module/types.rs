//! Types of values, references, functions, memories, tables, globals, imports and exports.

use std::fmt;
use std::sync::Arc;

use super::composite::Finality;
use super::registry::{RegisteredType, TypeKind};
use crate::error::{Error, Result};

/// The type of a value (specification, section 2.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// `anyref`: a nullable reference to any object of WebAssembly code.
    pub const ANYREF: ValType = ValType::Ref(RefType::ANYREF);
    /// `exnref`: a nullable reference to any exception.
    pub const EXNREF: ValType = ValType::Ref(RefType::EXNREF);
    /// `nullexnref`: a reference to an exception that is always null.
    pub const NULLEXNREF: ValType = ValType::Ref(RefType::NULLEXNREF);

    /// Whether this is the type of numbers: not of vectors or references.
    pub const fn is_num(&self) -> bool {
        matches!(self, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
    }

    /// Whether this is `i32`.
    pub const fn is_i32(&self) -> bool {
        matches!(self, ValType::I32)
    }

    /// Whether this is `i64`.
    pub const fn is_i64(&self) -> bool {
        matches!(self, ValType::I64)
    }

    /// Whether this is `f32`.
    pub const fn is_f32(&self) -> bool {
        matches!(self, ValType::F32)
    }

    /// Whether this is `f64`.
    pub const fn is_f64(&self) -> bool {
        matches!(self, ValType::F64)
    }

    /// Whether this is `v128`.
    pub const fn is_v128(&self) -> bool {
        matches!(self, ValType::V128)
    }

    /// Whether this is a reference type.
    pub const fn is_ref(&self) -> bool {
        matches!(self, ValType::Ref(_))
    }

    /// This type, if it is a reference type.
    pub const fn as_ref(&self) -> Option<&RefType> {
        match self {
            ValType::Ref(ty) => Some(ty),
            _ => None,
        }
    }

    /// This type as a reference type.
    ///
    /// # Panics
    /// If it is none.
    pub const fn unwrap_ref(&self) -> &RefType {
        self.as_ref().expect("expected a reference type")
    }

    /// Whether every value of this type is one of `other` (specification, section 3.3.3, "subtyping").
    ///
    /// ```
    /// use wasmrun::ValType;
    /// assert!(ValType::NULLEXNREF.matches(&ValType::EXNREF));
    /// assert!(!ValType::EXNREF.matches(&ValType::NULLEXNREF));
    /// ```
    pub fn matches(&self, other: &ValType) -> bool {
        match (self, other) {
            (ValType::Ref(this), ValType::Ref(other)) => this.matches(other),
            _ => self == other,
        }
    }

    /// How many 64-bit slots a value of this type takes in frames and argument buffers: two for `v128`, else one.
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        if matches!(self, ValType::V128) { 2 } else { 1 }
    }

    /// The type wasmparser read in a module with these types.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub(crate) fn from_wasmparser(ty: wasmparser::ValType, types: &[RegisteredType]) -> Self {
        match ty {
            wasmparser::ValType::I32 => ValType::I32,
            wasmparser::ValType::I64 => ValType::I64,
            wasmparser::ValType::F32 => ValType::F32,
            wasmparser::ValType::F64 => ValType::F64,
            wasmparser::ValType::V128 => ValType::V128,
            wasmparser::ValType::Ref(ty) => ValType::Ref(RefType::from_wasmparser(ty, types)),
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefType {
    nullable: bool,
    heap: HeapType,
}

macro_rules! ref_types {
    ($($name:ident $shorthand:literal $heap:ident;)*) => {
        impl RefType {
            $(
                #[doc = concat!("`", $shorthand, "`.")]
                pub const $name: RefType = RefType::new(true, HeapType::$heap);
            )*

            /// Whether it is a type of references to functions, which are no objects of a store's heap.
    pub(crate) fn is_of_functions(&self) -> bool {
        self.heap_type().top() == HeapType::Func
    }

    /// The text format's short name of a nullable reference.
            fn shorthand(&self) -> Option<&'static str> {
                match &self.heap {
                    _ if !self.nullable => None,
                    $(HeapType::$heap => Some($shorthand),)*
                    HeapType::Concrete(_) => None,
                }
            }
        }
    };
}

ref_types! {
    FUNCREF "funcref" Func;
    NULLFUNCREF "nullfuncref" NoFunc;
    EXTERNREF "externref" Extern;
    NULLEXTERNREF "nullexternref" NoExtern;
    ANYREF "anyref" Any;
    EQREF "eqref" Eq;
    I31REF "i31ref" I31;
    STRUCTREF "structref" Struct;
    ARRAYREF "arrayref" Array;
    NULLREF "nullref" None;
    EXNREF "exnref" Exn;
    NULLEXNREF "nullexnref" NoExn;
}

impl RefType {
    /// References to `heap`, among them null if they are `nullable`.
    pub const fn new(nullable: bool, heap: HeapType) -> Self {
        RefType { nullable, heap }
    }

    /// Whether null is a value of it.
    pub const fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// The type of the objects that its references refer to.
    pub const fn heap_type(&self) -> &HeapType {
        &self.heap
    }

    /// Whether every reference of this type is one of `other`.
    pub fn matches(&self, other: &RefType) -> bool {
        (other.nullable || !self.nullable) && self.heap.matches(&other.heap)
    }

    /// The type wasmparser read in a module with these types.
    ///
    /// # Panics
    /// On types of proposals that validation has already refused.
    pub(crate) fn from_wasmparser(ty: wasmparser::RefType, types: &[RegisteredType]) -> Self {
        RefType::new(ty.is_nullable(), HeapType::from_wasmparser(ty.heap_type(), types))
    }
}

impl fmt::Display for RefType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shorthand() {
            Some(name) => f.write_str(name),
            None => write!(f, "(ref {}{})", if self.nullable { "null " } else { "" }, self.heap),
        }
    }
}

macro_rules! heap_types {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        /// The type of the objects that references refer to (specification, section 2.3.4).
        ///
        /// There are four hierarchies; types of different ones are never subtypes of each other. Each has a
        /// [`top`](HeapType::top) type, of which all others in it are subtypes, and a [`bottom`](HeapType::bottom)
        /// type, which has no objects.
        ///
        /// ```
        /// use wasmrun::HeapType;
        /// assert!(HeapType::I31.matches(&HeapType::Eq) && HeapType::Eq.matches(&HeapType::Any));
        /// assert_eq!((HeapType::Struct.top(), HeapType::Struct.bottom()), (HeapType::Any, HeapType::None));
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum HeapType {
            $($(#[$doc])* $name,)*
            /// The functions or objects of a defined type or its subtypes.
            Concrete(RegisteredType),
        }

        impl HeapType {
            /// The type that wasmparser read in a module with these types.
            ///
            /// # Panics
            /// On types of proposals that validation has already refused.
            pub(crate) fn from_wasmparser(ty: wasmparser::HeapType, types: &[RegisteredType]) -> Self {
                match ty {
                    $(wasmparser::HeapType::Abstract { shared: false, ty: wasmparser::AbstractHeapType::$name } => {
                        HeapType::$name
                    })*
                    wasmparser::HeapType::Concrete(index) => {
                        let index = index.as_module_index().expect("types are read as they are written, by their index");
                        HeapType::Concrete(types[index as usize].clone())
                    }
                    other => unreachable!("validated modules have no references to {other:?}"),
                }
            }
        }

        impl fmt::Display for HeapType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(HeapType::$name => f.write_str($text),)*
                    HeapType::Concrete(ty) => ty.fmt(f),
                }
            }
        }
    };
}

heap_types! {
    /// Any function.
    Func "func";
    /// No function: such a reference can only be null.
    NoFunc "nofunc";
    /// Any object of the host.
    Extern "extern";
    /// No object of the host.
    NoExtern "noextern";
    /// Any object of WebAssembly code, and any object of the host that was converted to one.
    Any "any";
    /// Any object that can be compared with another: a structure, an array, an `i31`.
    Eq "eq";
    /// Any 31-bit integer.
    I31 "i31";
    /// Any structure.
    Struct "struct";
    /// Any array.
    Array "array";
    /// No object.
    None "none";
    /// Any exception.
    Exn "exn";
    /// No exception.
    NoExn "noexn";
}

impl HeapType {
    /// Whether this type is `other` or a subtype of it (specification, section 3.3.3, "heap types").
    pub fn matches(&self, other: &HeapType) -> bool {
        use HeapType::*;
        match (self, other) {
            (Concrete(this), Concrete(other)) => this.matches(other),
            (NoFunc | NoExtern | None | NoExn, _) => self.top() == other.top(),
            (Concrete(ty), Struct) => ty.kind() == TypeKind::Struct,
            (Concrete(ty), Array) => ty.kind() == TypeKind::Array,
            (Concrete(ty), Eq | Any) => ty.kind() != TypeKind::Func,
            (Concrete(ty), Func) => ty.kind() == TypeKind::Func,
            (I31 | Struct | Array, Eq | Any) | (Eq, Any) => true,
            _ => self == other,
        }
    }

    /// The top type of its hierarchy: every other type there is a subtype of it. It decides how references are
    /// represented.
    pub fn top(&self) -> HeapType {
        use HeapType::*;
        match self {
            Func | NoFunc => Func,
            Extern | NoExtern => Extern,
            Any | Eq | I31 | Struct | Array | None => Any,
            Exn | NoExn => Exn,
            Concrete(ty) if ty.kind() == TypeKind::Func => Func,
            Concrete(_) => Any,
        }
    }

    /// The bottom type of its hierarchy: it is a subtype of every other type there, and a reference to it can only be
    /// null.
    pub fn bottom(&self) -> HeapType {
        match self.top() {
            HeapType::Func => HeapType::NoFunc,
            HeapType::Extern => HeapType::NoExtern,
            HeapType::Exn => HeapType::NoExn,
            _ => HeapType::None,
        }
    }

    /// The defined type, if this is one.
    pub const fn as_concrete(&self) -> Option<&RegisteredType> {
        match self {
            HeapType::Concrete(ty) => Some(ty),
            _ => None,
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
            ValType::Ref(ty) => return ty.fmt(f),
        })
    }
}

/// The type of a function (specification, section 2.3.6).
///
/// A type that refers to a [`RegisteredType`] belongs to that type's engine: making a function or tag of it in another
/// engine panics.
///
/// ```
/// use wasmrun::{Engine, FuncType, ValType};
/// let ty = FuncType::new(&Engine::default(), [ValType::I32, ValType::I64], [ValType::F32]);
/// assert_eq!(ty.to_string(), "(param i32 i64) (result f32)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuncType {
    // Shared: a module may have a million imports of a type with a thousand parameters.
    params: Arc<[ValType]>,
    results: Arc<[ValType]>,
    /// The type's definition, unless it is a group of its own that is final, has no supertype and does not refer to itself:
    /// its parameters and results then say everything about it.
    defined: Option<RegisteredType>,
}

impl FuncType {
    /// The type of functions from `params` to `results`, which must be of one engine.
    pub(crate) fn of(params: impl IntoIterator<Item = ValType>, results: impl IntoIterator<Item = ValType>) -> Self {
        FuncType { params: params.into_iter().collect(), results: results.into_iter().collect(), defined: None }
    }

    /// The type with this definition, which has these parameters and results.
    pub(crate) fn defined_as(self, defined: RegisteredType) -> Self {
        FuncType { defined: Some(defined), ..self }
    }

    /// The type's definition, if parameters and results do not say everything about it.
    pub(crate) fn defined(&self) -> Option<&RegisteredType> {
        self.defined.as_ref()
    }

    /// Whether it can have subtypes.
    pub fn finality(&self) -> Finality {
        match &self.defined {
            Some(defined) if !defined.is_final() => Finality::NonFinal,
            _ => Finality::Final,
        }
    }

    /// The type that its definition names as supertype.
    pub fn supertype(&self) -> Option<FuncType> {
        self.defined.as_ref()?.supertype()?.as_func()
    }

    /// Types of the parameters.
    pub fn params(&self) -> &[ValType] {
        &self.params
    }

    /// Types of the results.
    pub fn results(&self) -> &[ValType] {
        &self.results
    }

    /// Whether a function of this type can be used as one of `wanted`: its parameters take all that those of `wanted` do, and
    /// its results are among those of `wanted` (specification 3.0, section 3.3.8, "function types"). What the definitions of
    /// the types declare as their supertypes plays no part; [`RegisteredType::matches`] looks at that.
    pub fn matches(&self, wanted: &FuncType) -> bool {
        let all = |these: &[ValType], others: &[ValType]| {
            these.len() == others.len() && these.iter().zip(others).all(|(this, other)| this.matches(other))
        };
        all(&wanted.params, &self.params) && all(&self.results, &wanted.results)
    }

    /// The type of the parameter with this index.
    pub fn param(&self, index: usize) -> Option<&ValType> {
        self.params.get(index)
    }

    /// The type of the result with this index.
    pub fn result(&self, index: usize) -> Option<&ValType> {
        self.results.get(index)
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
        if let Some(defined) = &self.defined {
            // Parameters and results may be those of another type.
            write!(f, "(type {defined})")?;
            separator = " ";
        }
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

/// The type of a tag (specification 3.0, section 2.3.11).
///
/// ```
/// use wasmrun::{Engine, FuncType, TagType, ValType};
/// let ty = TagType::new(FuncType::new(&Engine::default(), [ValType::I32], []));
/// assert_eq!(ty.ty().params(), [ValType::I32]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagType {
    ty: FuncType,
}

impl TagType {
    /// Tags of exceptions that carry values of the parameter types of `ty`, which has no results.
    pub const fn new(ty: FuncType) -> Self {
        TagType { ty }
    }

    /// The function type whose parameters are what exceptions carry.
    pub const fn ty(&self) -> &FuncType {
        &self.ty
    }
}

/// The type of a linear memory (specification, section 2.3.8). Sizes are in pages, which have 64 KiB unless the type
/// says otherwise.
///
/// Any type can be described; [`Memory::new`](crate::Memory::new) says of which ones memories cannot be made.
///
/// ```
/// use wasmrun::MemoryType;
/// let ty = MemoryType::new(1, Some(2));
/// assert_eq!((ty.minimum(), ty.maximum(), ty.page_size()), (1, Some(2), 65536));
/// assert_eq!(MemoryType::new64(1, None).to_string(), "i64 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryType {
    pub(crate) minimum: u64,
    pub(crate) maximum: Option<u64>,
    is_64: bool,
    is_shared: bool,
    page_size_log2: u8,
}

/// Logarithm of the size of a page, unless a type says otherwise.
const PAGE_LOG2: u8 = 16;

impl MemoryType {
    /// Memories of at least `minimum` pages, that grow to `maximum` at most.
    pub const fn new(minimum: u64, maximum: Option<u64>) -> Self {
        MemoryType { minimum, maximum, is_64: false, is_shared: false, page_size_log2: PAGE_LOG2 }
    }

    /// Memories with 64-bit addresses.
    pub const fn new64(minimum: u64, maximum: Option<u64>) -> Self {
        MemoryType { is_64: true, ..MemoryType::new(minimum, maximum) }
    }

    /// Memories that several threads can use; these always have a maximum.
    pub const fn shared(minimum: u64, maximum: u64) -> Self {
        MemoryType { is_shared: true, ..MemoryType::new(minimum, Some(maximum)) }
    }

    /// A builder, for types with a page size or with several of these properties.
    pub const fn builder() -> MemoryTypeBuilder {
        MemoryTypeBuilder::new()
    }

    /// Pages such a memory has at first.
    pub const fn minimum(&self) -> u64 {
        self.minimum
    }

    /// Pages it may grow to.
    pub const fn maximum(&self) -> Option<u64> {
        self.maximum
    }

    /// Whether its addresses have 64 bits.
    pub const fn is_64(&self) -> bool {
        self.is_64
    }

    /// Whether several threads can use it.
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Bytes of a page.
    pub const fn page_size(&self) -> u64 {
        1 << self.page_size_log2
    }

    /// Logarithm of the size of a page.
    pub const fn page_size_log2(&self) -> u8 {
        self.page_size_log2
    }

    /// The type wasmparser read.
    pub(crate) fn from_wasmparser(ty: &wasmparser::MemoryType) -> Self {
        MemoryType {
            minimum: ty.initial,
            maximum: ty.maximum,
            is_64: ty.memory64,
            is_shared: ty.shared,
            page_size_log2: ty.page_size_log2.map_or(PAGE_LOG2, |log2| log2 as u8),
        }
    }

    /// Bytes of the minimum size; `u64::MAX`, which no memory has, if they are more.
    pub(crate) const fn minimum_bytes(&self) -> u64 {
        self.minimum.saturating_mul(self.page_size())
    }

    /// Most pages of a memory with such addresses and pages. `memory.size` must be able to tell it, so it is one less where
    /// as many bytes as there are addresses would be as many pages.
    pub(crate) const fn max_pages(&self) -> u64 {
        let last = if self.is_64 { u64::MAX } else { u32::MAX as u64 };
        if self.page_size_log2 == 0 { last } else { (last >> self.page_size_log2) + 1 }
    }

    /// Most pages that such a memory grows to.
    pub(crate) fn most_pages(&self) -> u64 {
        self.maximum.unwrap_or(u64::MAX).min(self.max_pages())
    }

    /// Whether the only size of such a memory is its minimum.
    #[cfg_attr(not(jit), expect(dead_code, reason = "only compiled code has its length as a constant"))]
    pub(crate) fn is_fixed(&self) -> bool {
        self.maximum == Some(self.minimum)
    }

    /// The type of such a memory that has grown to `pages`.
    pub(crate) const fn with_minimum(self, pages: u64) -> Self {
        MemoryType { minimum: pages, ..self }
    }

    /// Whether a memory of this type, with its current size as minimum, can be imported as one of `wanted`
    /// (specification, section 3.3.7, "memory types").
    pub fn matches(&self, wanted: &MemoryType) -> bool {
        limits_match((self.minimum, self.maximum), (wanted.minimum, wanted.maximum))
            && (self.is_64, self.is_shared, self.page_size_log2)
                == (wanted.is_64, wanted.is_shared, wanted.page_size_log2)
    }

    /// Checks that the limits are in range and in order (specification, section 3.2.12, "memory types").
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage).
    pub(crate) fn check(&self) -> Result<()> {
        check_limits("memory", "pages", self.max_pages().into(), self.minimum, self.maximum)
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        limits(f, self.is_64, self.minimum, self.maximum)?;
        if self.is_shared {
            f.write_str(" shared")?;
        }
        if self.page_size_log2 != PAGE_LOG2 {
            write!(f, " (pagesize {})", self.page_size())?;
        }
        Ok(())
    }
}

/// Describes a [`MemoryType`] step by step.
///
/// ```
/// use wasmrun::MemoryType;
/// let ty = MemoryType::builder().min(100).max(Some(200)).memory64(true).page_size_log2(0).build()?;
/// assert_eq!(ty.to_string(), "i64 100 200 (pagesize 1)");
/// assert!(MemoryType::builder().shared(true).build().is_err());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MemoryTypeBuilder {
    ty: MemoryType,
}

impl Default for MemoryTypeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTypeBuilder {
    /// Describes memories of no page at first, without a maximum.
    pub const fn new() -> Self {
        MemoryTypeBuilder { ty: MemoryType::new(0, None) }
    }

    /// Pages such a memory has at first; 0 by default.
    pub const fn min(&mut self, pages: u64) -> &mut Self {
        self.ty.minimum = pages;
        self
    }

    /// Pages it may grow to.
    pub const fn max(&mut self, pages: Option<u64>) -> &mut Self {
        self.ty.maximum = pages;
        self
    }

    /// Whether its addresses have 64 bits.
    pub const fn memory64(&mut self, is_64: bool) -> &mut Self {
        self.ty.is_64 = is_64;
        self
    }

    /// Whether several threads can use it.
    pub const fn shared(&mut self, is_shared: bool) -> &mut Self {
        self.ty.is_shared = is_shared;
        self
    }

    /// Logarithm of the size of a page: 16, which is the default, or 0.
    pub const fn page_size_log2(&mut self, log2: u8) -> &mut Self {
        self.ty.page_size_log2 = log2;
        self
    }

    /// The type.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if no module can have it: the limits are out of range or contradict each
    /// other, it is shared and has no maximum, or pages have another size.
    pub fn build(&self) -> Result<MemoryType> {
        if ![0, PAGE_LOG2].contains(&self.ty.page_size_log2) {
            return Err(Error::usage("a page of a memory has 1 or 65536 bytes"));
        }
        if self.ty.is_shared && self.ty.maximum.is_none() {
            return Err(Error::usage("a shared memory must have a maximum"));
        }
        self.ty.check().map(|()| self.ty)
    }
}

/// The type of a table (specification, section 2.3.9).
///
/// ```
/// use wasmrun::{RefType, TableType};
/// let ty = TableType::new(RefType::FUNCREF, 2, None);
/// assert_eq!(ty.element(), &RefType::FUNCREF);
/// assert_eq!(TableType::new64(RefType::EXTERNREF, 0, Some(9)).to_string(), "i64 0 9 externref");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableType {
    pub(crate) element: RefType,
    pub(crate) minimum: u64,
    pub(crate) maximum: Option<u64>,
    is_64: bool,
}

impl TableType {
    /// Tables of at least `minimum` elements, that grow to `maximum` at most.
    pub const fn new(element: RefType, minimum: u64, maximum: Option<u64>) -> Self {
        TableType { element, minimum, maximum, is_64: false }
    }

    /// Tables with 64-bit indices.
    pub const fn new64(element: RefType, minimum: u64, maximum: Option<u64>) -> Self {
        TableType { element, minimum, maximum, is_64: true }
    }

    /// Type of the elements.
    pub const fn element(&self) -> &RefType {
        &self.element
    }

    /// Elements such a table has at first.
    pub const fn minimum(&self) -> u64 {
        self.minimum
    }

    /// Elements it may grow to.
    pub const fn maximum(&self) -> Option<u64> {
        self.maximum
    }

    /// Whether its indices have 64 bits.
    pub const fn is_64(&self) -> bool {
        self.is_64
    }

    /// The type of such a table that has grown to this many elements.
    pub(crate) fn with_minimum(&self, elements: u64) -> Self {
        TableType { minimum: elements, ..self.clone() }
    }

    /// Whether a table of this type, with its current size as minimum, can be imported as one of `wanted`
    /// (specification, section 3.3.8, "table types").
    pub fn matches(&self, wanted: &TableType) -> bool {
        limits_match((self.minimum, self.maximum), (wanted.minimum, wanted.maximum))
            && (self.is_64, &self.element) == (wanted.is_64, &wanted.element)
    }

    /// Checks that the limits are in range and in order (specification, section 3.2.13, "table types").
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage).
    pub(crate) fn check(&self) -> Result<()> {
        let most = if self.is_64 { u64::MAX } else { u32::MAX.into() };
        check_limits("table", "elements", most.into(), self.minimum, self.maximum)
    }
}

impl fmt::Display for TableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        limits(f, self.is_64, self.minimum, self.maximum)?;
        write!(f, " {}", self.element)
    }
}

/// The type of a global (specification, section 2.3.10).
///
/// ```
/// use wasmrun::{GlobalType, Mutability, ValType};
/// let ty = GlobalType::new(ValType::I32, Mutability::Var);
/// assert!(ty.is_mutable());
/// assert_eq!(ty.to_string(), "(mut i32)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GlobalType {
    pub(crate) content: ValType,
    pub(crate) mutability: Mutability,
}

impl GlobalType {
    /// Globals with a value of type `content`.
    pub const fn new(content: ValType, mutability: Mutability) -> Self {
        GlobalType { content, mutability }
    }

    /// Type of its value.
    pub const fn content(&self) -> &ValType {
        &self.content
    }

    /// Whether it can be set.
    pub const fn mutability(&self) -> Mutability {
        self.mutability
    }

    /// Whether it can be set.
    pub const fn is_mutable(&self) -> bool {
        matches!(self.mutability, Mutability::Var)
    }
}

impl fmt::Display for GlobalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mutability {
            Mutability::Const => self.content.fmt(f),
            Mutability::Var => write!(f, "(mut {})", self.content),
        }
    }
}

impl Mutability {
    /// Whether it is [`Mutability::Const`].
    pub const fn is_const(self) -> bool {
        matches!(self, Mutability::Const)
    }

    /// Whether it is [`Mutability::Var`].
    pub const fn is_var(self) -> bool {
        matches!(self, Mutability::Var)
    }
}

/// Whether a global or field can be set.
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
    /// A tag.
    Tag(TagType),
}

macro_rules! extern_types {
    ($($kind:ident $ty:ty, $get:ident $unwrap:ident $what:literal;)*) => {
        impl ExternType {
            $(
                #[doc = concat!("The type, if it is that of a ", $what, ".")]
                pub const fn $get(&self) -> Option<&$ty> {
                    if let ExternType::$kind(ty) = self { Some(ty) } else { None }
                }

                #[doc = concat!("The type of a ", $what, ".")]
                ///
                /// # Panics
                /// If it is that of something else.
                pub const fn $unwrap(&self) -> &$ty {
                    self.$get().expect(concat!("expected a ", $what))
                }
            )*
        }

        $(impl From<$ty> for ExternType {
            fn from(ty: $ty) -> Self {
                ExternType::$kind(ty)
            }
        })*
    };
}

extern_types! {
    Func FuncType, func unwrap_func "function";
    Table TableType, table unwrap_table "table";
    Memory MemoryType, memory unwrap_memory "memory";
    Global GlobalType, global unwrap_global "global";
    Tag TagType, tag unwrap_tag "tag";
}

/// Writes the limits of a memory or table as in the text format.
fn limits(f: &mut fmt::Formatter<'_>, is_64: bool, minimum: u64, maximum: Option<u64>) -> fmt::Result {
    write!(f, "{}{minimum}", if is_64 { "i64 " } else { "" })?;
    maximum.map_or(Ok(()), |maximum| write!(f, " {maximum}"))
}

/// Whether limits are within others (specification, section 3.3.6, "limits").
fn limits_match(got: (u64, Option<u64>), wanted: (u64, Option<u64>)) -> bool {
    got.0 >= wanted.0 && wanted.1.is_none_or(|wanted| got.1.is_some_and(|got| got <= wanted))
}

/// Checks that limits are at most `most`, and the maximum no less than the minimum.
fn check_limits(what: &str, units: &str, most: u128, minimum: u64, maximum: Option<u64>) -> Result<()> {
    if maximum.is_some_and(|maximum| maximum < minimum) {
        return Err(Error::usage(format!("the maximum of a {what} must not be less than its minimum")));
    }
    if u128::from(maximum.unwrap_or(minimum)) > most {
        return Err(Error::usage(format!("such a {what} cannot have more than {most} {units}")));
    }
    Ok(())
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternType::Func(FuncType { params, results, defined: None })
                if params.is_empty() && results.is_empty() =>
            {
                f.write_str("(func)")
            }
            ExternType::Func(ty) => write!(f, "(func {ty})"),
            ExternType::Table(ty) => write!(f, "(table {ty})"),
            ExternType::Memory(ty) => write!(f, "(memory {ty})"),
            ExternType::Tag(TagType { ty }) if ty.params.is_empty() => f.write_str("(tag)"),
            ExternType::Tag(TagType { ty }) => write!(f, "(tag {ty})"),
            ExternType::Global(ty) => write!(f, "(global {ty})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    /// The abstract types of each hierarchy, and the supertypes of each type in it.
    const HIERARCHIES: &[&[(HeapType, &[HeapType])]] = {
        use HeapType::*;
        &[
            &[(Func, &[]), (NoFunc, &[Func])],
            &[(Extern, &[]), (NoExtern, &[Extern])],
            &[(Exn, &[]), (NoExn, &[Exn])],
            &[
                (Any, &[]),
                (Eq, &[Any]),
                (I31, &[Eq, Any]),
                (Struct, &[Eq, Any]),
                (Array, &[Eq, Any]),
                (None, &[I31, Struct, Array, Eq, Any]),
            ],
        ]
    };

    #[test]
    fn abstract_types_match_their_supertypes_alone() {
        let all = || HIERARCHIES.iter().flat_map(|types| types.iter());
        for (ty, supertypes) in all() {
            for (other, _) in all() {
                assert_eq!(ty.matches(other), ty == other || supertypes.contains(other), "{ty} {other}");
            }
        }
        for types in HIERARCHIES {
            let (top, bottom) = (&types[0].0, &types[types.len() - 1].0);
            for (ty, _) in *types {
                assert_eq!((&ty.top(), &ty.bottom()), (top, bottom), "{ty}");
            }
        }
    }

    #[test]
    fn a_function_type_lies_between_nofunc_and_func() {
        let engine = Engine::default();
        let [one, other] =
            [ValType::I32, ValType::I64].map(|ty| HeapType::Concrete(engine.register_type(&FuncType::of([ty], []))));
        assert_eq!((one.top(), one.bottom()), (HeapType::Func, HeapType::NoFunc));
        assert!(one.matches(&one) && !one.matches(&other) && !other.matches(&one));
        assert!(one.matches(&HeapType::Func) && HeapType::NoFunc.matches(&one));
        for (ty, _) in HIERARCHIES.iter().flat_map(|types| types.iter()) {
            assert_eq!(one.matches(ty), *ty == HeapType::Func, "{ty}");
            assert_eq!(ty.matches(&one), *ty == HeapType::NoFunc, "{ty}");
        }
        assert_eq!(RefType::new(true, one.clone()).to_string(), format!("(ref null {one})"));
    }

    #[test]
    fn null_is_no_value_of_a_type_without_it() {
        for (nullable, wanted, fits) in [(false, true, true), (true, false, false), (true, true, true)] {
            let [ty, wanted] = [nullable, wanted].map(|nullable| RefType::new(nullable, HeapType::Eq));
            assert_eq!(ty.matches(&wanted), fits);
        }
    }

    #[test]
    fn memories_match_by_all_of_their_type() {
        let wanted = MemoryType::new(1, Some(4));
        for (got, fits) in [
            (wanted, true),
            (MemoryType::new(2, Some(3)), true),
            (MemoryType::new(0, Some(4)), false),
            (MemoryType::new(1, Some(5)), false),
            (MemoryType::new(1, None), false),
            (MemoryType::new64(1, Some(4)), false),
            (MemoryType::shared(1, 4), false),
            (MemoryType { page_size_log2: 0, ..wanted }, false),
        ] {
            assert_eq!(got.matches(&wanted), fits, "{got}");
        }
        assert!(MemoryType::new(1, Some(4)).matches(&MemoryType::new(1, None)));
    }

    #[test]
    fn tables_match_by_all_of_their_type() {
        let wanted = TableType::new(RefType::FUNCREF, 1, Some(4));
        for (got, fits) in [
            (TableType::new(RefType::FUNCREF, 1, Some(4)), true),
            (TableType::new(RefType::FUNCREF, 0, Some(4)), false),
            (TableType::new64(RefType::FUNCREF, 1, Some(4)), false),
            (TableType::new(RefType::NULLFUNCREF, 1, Some(4)), false),
        ] {
            assert_eq!(got.matches(&wanted), fits, "{got}");
        }
    }

    #[test]
    fn the_builder_refuses_what_no_module_can_have() {
        let page = |log2| *MemoryType::builder().page_size_log2(log2);
        let all = 1 << 32;
        // `memory.size` must be able to tell the size.
        assert!(page(0).min(all - 1).build().is_ok() && page(0).min(all).build().is_err());
        assert!(page(16).min(1 << 16).build().is_ok() && page(16).max(Some((1 << 16) + 1)).build().is_err());
        assert!(page(16).memory64(true).max(Some(1 << 48)).build().is_ok());
        assert!(page(16).memory64(true).max(Some((1 << 48) + 1)).build().is_err());
        assert!(page(0).memory64(true).max(Some(u64::MAX)).build().is_ok());
        assert!(page(12).build().is_err());
        assert!(page(16).min(2).max(Some(1)).build().is_err());
        assert!(page(16).shared(true).build().is_err() && page(16).shared(true).max(Some(1)).build().is_ok());
    }

    #[test]
    fn types_are_shown_as_the_text_format_has_them() {
        let shared = *MemoryType::builder().min(1).max(Some(2)).memory64(true).shared(true).page_size_log2(0);
        for (ty, text) in [
            (ExternType::Memory(shared.build().unwrap()), "(memory i64 1 2 shared (pagesize 1))"),
            (ExternType::Memory(MemoryType::new(3, None)), "(memory 3)"),
            (ExternType::Table(TableType::new64(RefType::I31REF, 3, None)), "(table i64 3 i31ref)"),
            (ExternType::Global(GlobalType::new(ValType::ANYREF, Mutability::Var)), "(global (mut anyref))"),
        ] {
            assert_eq!(ty.to_string(), text);
        }
    }
}
