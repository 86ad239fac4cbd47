//! Where the parts of an object of the heap are: its header, its fields or elements, and its type's descriptor.
//!
//! All that compiled code and the interpreter know of objects is here. A layout follows from the type alone, so code that was
//! compiled for one store, or read from the cache, is right in every other.
//!
//! ```text
//! object      | u32 descriptor | u32 length of an array, else 0 | fields or elements ...
//! descriptor  | u32 number of the layout | u32 depth | u32 kind | u32 supertypes by depth, the type itself last ... | 0 ...
//! ```
//!
//! A reference to an object is its offset in the heap, and so is that to a descriptor. Objects and descriptors start at
//! multiples of [`ALIGN`].

use super::ModuleFacts;
use super::composite::{ArrayType, CompositeType, MAX_FIELDS, StorageType, StructType};
use super::types::ValType;

/// Alignment of objects and descriptors: three bits of each reference tell objects from other values.
pub(crate) const ALIGN: u32 = 8;

/// Offset in an object of the `u32` that is the offset of its type's descriptor.
pub(crate) const DESCRIPTOR: u32 = 0;

/// Offset in an array of the `u32` that is its number of elements.
pub(crate) const LENGTH: u32 = 4;

/// Bytes of the header. The fields of a structure and the elements of an array come next.
pub(crate) const HEADER: u32 = 8;

/// The kinds of objects, as the first word of each display: numbers below that of the first descriptor.
pub(crate) const STRUCT: u32 = 8;
/// See [`STRUCT`].
pub(crate) const ARRAY: u32 = 16;
/// See [`STRUCT`].
pub(crate) const EXCEPTION: u32 = 24;

/// Offset in a descriptor of the number of the layout in the store's table.
pub(crate) const DESCRIPTOR_LAYOUT: u32 = 0;

/// Offset in a descriptor of the number of supertypes that the type has.
pub(crate) const DESCRIPTOR_DEPTH: u32 = 4;

/// Offset in an exception of the slots of its payload. A function there is a number, as in other objects.
pub(crate) const PAYLOAD: u32 = HEADER;

/// Offset in a descriptor of the kind: [`STRUCT`], [`ARRAY`] or [`EXCEPTION`].
pub(crate) const DESCRIPTOR_KIND: u32 = 8;

/// Number of supertypes, the type itself included, that every descriptor has room for; those past the type's own are 0. A cast
/// to a type of less depth needs no look at the depth of the object's type.
pub(crate) const ALWAYS: u32 = 7;

/// Bits of a reference that is an `i31`: the value is in the others.
pub(crate) const I31_BIT: u32 = 1;

/// The low three bits of a reference, which are 0 for an object.
pub(crate) const TAG_BITS: u32 = 7;

/// The low three bits of a reference to an object of the host.
pub(crate) const EXTERN_BITS: u32 = 2;

/// Offset in a descriptor of the descriptor of the supertype of depth `depth`, or of the type itself if that is its depth.
pub(crate) const fn display(depth: u32) -> u32 {
    DESCRIPTOR_KIND + 4 + 4 * depth
}

/// Bytes of the descriptor of a type of depth `depth`.
pub(crate) const fn descriptor_size(depth: u32) -> u32 {
    display(if depth < ALWAYS { ALWAYS } else { depth + 1 }).next_multiple_of(ALIGN)
}

/// Bytes of an exception with so many slots, header included.
pub(crate) const fn exception_size(slots: usize) -> usize {
    PAYLOAD as usize + 8 * slots
}

/// How a field or element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    I8,
    I16,
    /// `i32` or `f32`.
    Bits32,
    /// `i64` or `f64`.
    Bits64,
    V128,
    /// The low half of the slot of a reference to an object, an object of the host or an exception, or an `i31`.
    Reference,
    /// The store's number of a function, see `vm::gc::functions`.
    Function,
}

impl Storage {
    /// How a value of this type is stored.
    pub fn of(ty: &StorageType) -> Self {
        match ty {
            StorageType::I8 => Storage::I8,
            StorageType::I16 => Storage::I16,
            StorageType::ValType(ValType::I32 | ValType::F32) => Storage::Bits32,
            StorageType::ValType(ValType::I64 | ValType::F64) => Storage::Bits64,
            StorageType::ValType(ValType::V128) => Storage::V128,
            StorageType::ValType(ValType::Ref(ty)) if ty.is_of_functions() => Storage::Function,
            StorageType::ValType(ValType::Ref(_)) => Storage::Reference,
        }
    }

    /// Binary logarithm of the size in bytes.
    pub const fn size_log2(self) -> u32 {
        match self {
            Storage::I8 => 0,
            Storage::I16 => 1,
            Storage::Bits32 | Storage::Reference | Storage::Function => 2,
            Storage::Bits64 => 3,
            Storage::V128 => 4,
        }
    }

    /// Size in bytes.
    pub const fn size(self) -> u32 {
        1 << self.size_log2()
    }

    /// Alignment of a field; elements of arrays come one after the other, from [`HEADER`] on.
    const fn align(self) -> u32 {
        if self.size() < ALIGN { self.size() } else { ALIGN }
    }
}

/// Where a field of a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLayout {
    /// Offset in the object.
    pub offset: u32,
    pub storage: Storage,
}

/// Where the fields of a structure are. Those of a supertype come first and are where they are in the supertype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StructLayout {
    pub fields: Box<[FieldLayout]>,
    /// Bytes of an object, header included: a multiple of [`ALIGN`].
    pub size: u32,
}

/// The most bytes of a structure.
pub(crate) const MAX_STRUCT: u32 = HEADER + 16 * MAX_FIELDS as u32;

impl StructLayout {
    /// The layout of a type.
    pub fn new(ty: &StructType) -> Self {
        Self::of_fields(ty.field_types().iter().map(|field| Storage::of(field.element_type())))
    }

    fn of_fields(fields: impl Iterator<Item = Storage>) -> Self {
        let mut end = HEADER;
        let place = |storage: Storage| {
            let offset = end.next_multiple_of(storage.align());
            end = offset + storage.size();
            FieldLayout { offset, storage }
        };
        let fields = fields.map(place).collect();
        StructLayout { fields, size: end.next_multiple_of(ALIGN) }
    }
}

/// Bytes of an array with this number of elements, header included: a multiple of [`ALIGN`].
pub(crate) const fn array_size(element: Storage, length: u32) -> u64 {
    (HEADER as u64 + ((length as u64) << element.size_log2())).next_multiple_of(ALIGN as u64)
}

/// The layout of the objects of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Struct(StructLayout),
    /// An array of such elements.
    Array(Storage),
}

impl Layout {
    /// The layout of a type; `None` for functions, which are not in the heap.
    pub fn of(ty: &CompositeType) -> Option<Self> {
        match ty {
            CompositeType::Func(_) => None,
            CompositeType::Struct(ty) => Some(Layout::Struct(StructLayout::new(ty))),
            CompositeType::Array(ty) => Some(Layout::of_array(ty)),
        }
    }

    fn of_array(ty: &ArrayType) -> Self {
        Layout::Array(Storage::of(ty.element().element_type()))
    }

    /// The kind, as descriptors have it.
    pub fn kind(&self) -> u32 {
        match self {
            Layout::Struct(_) => STRUCT,
            Layout::Array(_) => ARRAY,
        }
    }
}

impl ModuleFacts {
    /// The layouts of the module's types, by type index; `None` for functions.
    pub fn layouts(&self) -> &[Option<Layout>] {
        self.layouts.get_or_init(|| self.types.iter().map(Layout::of).collect())
    }

    /// The layout of a type of structures.
    ///
    /// # Panics
    /// If it is another type.
    pub fn struct_layout(&self, ty: u32) -> &StructLayout {
        match &self.layouts()[ty as usize] {
            Some(Layout::Struct(layout)) => layout,
            _ => unreachable!("validation asks for a type of structures here"),
        }
    }

    /// How the elements of a type of arrays are stored.
    ///
    /// # Panics
    /// If it is another type.
    pub fn array_storage(&self, ty: u32) -> Storage {
        match &self.layouts()[ty as usize] {
            Some(Layout::Array(storage)) => *storage,
            _ => unreachable!("validation asks for a type of arrays here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Storage; 7] = [
        Storage::I8,
        Storage::I16,
        Storage::Bits32,
        Storage::Bits64,
        Storage::V128,
        Storage::Reference,
        Storage::Function,
    ];

    #[test]
    fn fields_are_aligned_apart_and_where_the_supertype_has_them() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let mut random = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let storages: Vec<Storage> = (0..random() % 40).map(|_| ALL[random() % ALL.len()]).collect();
            let whole = StructLayout::of_fields(storages.iter().copied());
            let mut end = HEADER;
            for (field, storage) in whole.fields.iter().zip(&storages) {
                assert_eq!(field.storage, *storage);
                assert!(field.offset >= end && field.offset.is_multiple_of(storage.size().min(8)));
                assert!(field.offset - end < 8);
                end = field.offset + storage.size();
            }
            assert!(whole.size >= end && whole.size - end < ALIGN && whole.size.is_multiple_of(ALIGN));
            let count = random() % (storages.len() + 1);
            let prefix = StructLayout::of_fields(storages[..count].iter().copied());
            assert_eq!(prefix.fields[..], whole.fields[..count]);
        }
    }

    #[test]
    fn a_struct_has_at_most_the_bytes_that_the_guard_is_made_for() {
        for storage in ALL {
            let layout = StructLayout::of_fields(std::iter::repeat_n(storage, MAX_FIELDS));
            assert!(layout.size <= MAX_STRUCT);
        }
        let mixed = [Storage::I8, Storage::V128].into_iter().cycle().take(MAX_FIELDS);
        assert!(StructLayout::of_fields(mixed).size <= MAX_STRUCT);
    }

    #[test]
    fn arrays_have_their_elements_side_by_side() {
        assert_eq!(array_size(Storage::I8, 0), 8);
        assert_eq!(array_size(Storage::I8, 1), 16);
        assert_eq!(array_size(Storage::I16, 5), 24);
        assert_eq!(array_size(Storage::V128, u32::MAX), 8 + 16 * u64::from(u32::MAX));
    }
}
