//! References to arrays.

use std::fmt;

use super::scope::{object_conversions, reference_methods};
use super::{AnyRef, EqRef, Object, check, make, write};
use crate::error::{Error, Result};
use crate::module::composite::{ArrayType, CompositeType};
use crate::module::layout::{HEADER, Layout, Storage};
use crate::runtime::store::{AsContext, AsContextMut, StoreContext};
use crate::runtime::value::Value;
use crate::vm::gc::object;
use crate::vm::store::StoreOpaque;

/// A type of arrays and a store, to make such arrays in it.
#[derive(Clone, Debug)]
pub struct ArrayRefPre {
    store: u64,
    ty: ArrayType,
}

impl ArrayRefPre {
    /// For arrays of type `ty` in a store.
    ///
    /// # Panics
    /// If the type is one of another engine.
    pub fn new(store: impl AsContextMut, ty: ArrayType) -> Self {
        let store = &store.as_context().0.opaque;
        assert!(ty.registered_type().is_of(&store.engine.types), "a type of another engine");
        ArrayRefPre { store: store.id, ty }
    }

    /// Checks that arrays of this type can be made in the store.
    fn check(&self, store: &StoreOpaque) -> Result<()> {
        if self.store != store.id {
            return Err(Error::usage("ArrayRefPre used with another store than its own"));
        }
        Ok(())
    }
}

/// A reference to an array (specification 3.0, `(ref array)`). See [`AnyRef`] for how long it is valid.
///
/// ```
/// use wasmrun::{ArrayRef, ArrayRefPre, ArrayType, FieldType, Mutability, StorageType, Store, Val};
/// let mut store = Store::<()>::default();
/// let ty = ArrayType::new(store.engine(), FieldType::new(Mutability::Var, StorageType::I16));
/// let pre = ArrayRefPre::new(&mut store, ty);
/// let text: Vec<Val> = "naïve".encode_utf16().map(|unit| Val::I32(unit.into())).collect();
/// let array = ArrayRef::new_fixed(&mut store, &pre, &text)?;
/// array.set(&mut store, 2, Val::I32(b'i'.into()))?;
/// let units: Vec<u16> = array.elems(&mut store)?.map(|unit| unit.unwrap_i32() as u16).collect();
/// assert_eq!(String::from_utf16_lossy(&units), "naive");
/// assert_eq!((array.len(&store)?, array.get(&mut store, 0)?.unwrap_i32()), (5, 'n' as i32));
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct ArrayRef(pub(crate) AnyRef);

reference_methods!(ArrayRef | this | this.0);
object_conversions!(ArrayRef);

impl fmt::Debug for ArrayRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArrayRef")
    }
}

/// An array in its store.
struct Array<'a> {
    object: Object<'a>,
    ty: &'a ArrayType,
    element: Storage,
    length: u32,
}

impl Array<'_> {
    /// Offset in the array of the element with an index.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if there is no such element.
    fn place(&self, index: u32) -> Result<u32> {
        if index >= self.length {
            return Err(Error::usage(format!("the array has {} element(s), not element {index}", self.length)));
        }
        Ok(offset(self.element, index))
    }

    /// Address of the elements.
    fn elements(&self) -> *mut u8 {
        // SAFETY: the object is an array with such elements.
        unsafe { object::elements(self.object.store, self.object.at, self.element) }
    }

    /// Checks that the elements are bytes.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if they are not.
    fn check_bytes(&self) -> Result<()> {
        if self.element != Storage::I8 {
            return Err(Error::usage(format!("the array has elements of type {}, not i8", self.ty.element_type())));
        }
        Ok(())
    }
}

/// Offset in an array of an element that it has.
fn offset(element: Storage, index: u32) -> u32 {
    HEADER + (index << element.size_log2())
}

impl ArrayRef {
    /// Makes an array of `len` elements that are all `elem`.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if `pre` is of another store, or `elem` is not of the elements' type;
    /// - [`Resource`](crate::ErrorKind::Resource) if the heap, the store's budget or its limiter has no room for it, or the
    ///   error that the limiter returns.
    ///
    /// # Panics
    /// Resumes the panic of a limiter, or of a host object's drop.
    pub fn new(mut store: impl AsContextMut, pre: &ArrayRefPre, elem: &Value, len: u32) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        pre.check(store)?;
        check(store, elem, pre.ty.element(), "element", 0)?;
        store.collect_if_due(elem.is_host_object());
        let own = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The type is of its engine,
        // and the value one of its elements, of which there is one at least where the first is written.
        unsafe {
            let made = ArrayRef(make(own, pre.ty.registered_type(), len)?);
            if len > 0 {
                let Array { object: Object { at, .. }, element, .. } = made.in_store(&*own)?;
                write(own, at + offset(element, 0), element, elem)?;
                object::repeat_first(&*own, at, element);
            }
            Ok(made)
        }
    }

    /// Makes an array of these elements. Of packed ones, the low bits count.
    ///
    /// # Errors
    /// As for [`ArrayRef::new`].
    ///
    /// # Panics
    /// As for [`ArrayRef::new`].
    pub fn new_fixed(mut store: impl AsContextMut, pre: &ArrayRefPre, elems: &[Value]) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        pre.check(store)?;
        for (index, value) in elems.iter().enumerate() {
            check(store, value, pre.ty.element(), "element", index)?;
        }
        let length = length_of(elems)?;
        store.collect_if_due(elems.iter().any(Value::is_host_object));
        let own = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The type is of its engine,
        // and the values are those of the elements.
        unsafe {
            let made = ArrayRef(make(own, pre.ty.registered_type(), length)?);
            let Array { object: Object { at, .. }, element, .. } = made.in_store(&*own)?;
            for (index, value) in (0..).zip(elems) {
                write(own, at + offset(element, index), element, value)?;
            }
            Ok(made)
        }
    }

    /// Makes an array of bytes.
    ///
    /// # Errors
    /// As for [`ArrayRef::new`]; the elements' type must be `i8`.
    ///
    /// # Panics
    /// As for [`ArrayRef::new`].
    ///
    /// ```
    /// use wasmrun::{ArrayRef, ArrayRefPre, ArrayType, FieldType, Mutability, StorageType, Store};
    /// let mut store = Store::<()>::default();
    /// let ty = ArrayType::new(store.engine(), FieldType::new(Mutability::Var, StorageType::I8));
    /// let pre = ArrayRefPre::new(&mut store, ty);
    /// let array = ArrayRef::new_from_i8_slice(&mut store, &pre, b"hello")?;
    /// let mut bytes = [0; 5];
    /// array.copy_to_i8_slice(&mut store, &mut bytes)?;
    /// assert_eq!(&bytes, b"hello");
    /// # Ok::<(), wasmrun::Error>(())
    /// ```
    pub fn new_from_i8_slice(mut store: impl AsContextMut, pre: &ArrayRefPre, elems: &[u8]) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        pre.check(store)?;
        if !pre.ty.element_type().is_i8() {
            return Err(Error::usage(format!("the array has elements of type {}, not i8", pre.ty.element_type())));
        }
        let length = length_of(elems)?;
        store.collect_if_due(false);
        let own = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The type is of its engine,
        // and the array has as many bytes as there are.
        unsafe {
            let made = ArrayRef(make(own, pre.ty.registered_type(), length)?);
            let bytes = made.in_store(&*own)?.elements();
            std::ptr::copy_nonoverlapping(elems.as_ptr(), bytes, elems.len());
            Ok(made)
        }
    }

    /// Copies the bytes of the array.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store, its elements are no bytes, or `out` has another length.
    pub fn copy_to_i8_slice(&self, store: impl AsContext, out: &mut [u8]) -> Result<()> {
        let array = self.in_store(&store.as_context().0.opaque)?;
        array.check_bytes()?;
        if out.len() != array.length as usize {
            return Err(Error::usage(format!(
                "the array has {} bytes, room was given for {}",
                array.length,
                out.len()
            )));
        }
        // SAFETY: the array has so many bytes, and nobody writes to them while the store is borrowed.
        unsafe { std::ptr::copy_nonoverlapping(array.elements(), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn in_store<'a>(&self, store: &'a StoreOpaque) -> Result<Array<'a>> {
        match Object::of(&self.0.0, store)? {
            Some(object) => match (object.ty, object.layout) {
                (CompositeType::Array(ty), Layout::Array(element)) => {
                    // SAFETY: the object is an array of the store, which `self` keeps.
                    let length = unsafe { object::length(store, object.at) };
                    Ok(Array { object, ty, element: *element, length })
                }
                _ => unreachable!("an ArrayRef refers to an array"),
            },
            None => unreachable!("an ArrayRef refers to an array"),
        }
    }

    /// Its type.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    pub fn ty(&self, store: impl AsContext) -> Result<ArrayType> {
        Ok(self.in_store(&store.as_context().0.opaque)?.ty.clone())
    }

    /// Whether it is of a type or of a subtype.
    ///
    /// # Errors
    /// As for [`ArrayRef::ty`].
    pub fn matches_ty(&self, store: impl AsContext, ty: &ArrayType) -> Result<bool> {
        Ok(self.in_store(&store.as_context().0.opaque)?.ty.matches(ty))
    }

    /// Number of elements.
    ///
    /// # Errors
    /// As for [`ArrayRef::ty`].
    pub fn len(&self, store: impl AsContext) -> Result<u32> {
        Ok(self.in_store(&store.as_context().0.opaque)?.length)
    }

    /// The elements. Packed ones are read as unsigned.
    ///
    /// # Errors
    /// As for [`ArrayRef::ty`].
    pub fn elems<'a, T: 'static>(
        &'a self,
        store: impl Into<StoreContext<'a, T>>,
    ) -> Result<impl ExactSizeIterator<Item = Value> + 'a> {
        let array = self.in_store(&store.into().0.opaque)?;
        Ok((0..array.length as usize).map(move |index| {
            array.object.read(offset(array.element, index as u32), array.element, array.ty.element())
        }))
    }

    /// The element with an index. A packed one is read as unsigned.
    ///
    /// # Errors
    /// As for [`ArrayRef::ty`], and if there is no such element.
    pub fn get(&self, store: impl AsContext, index: u32) -> Result<Value> {
        let array = self.in_store(&store.as_context().0.opaque)?;
        Ok(array.object.read(array.place(index)?, array.element, array.ty.element()))
    }

    /// Sets the element with an index. Of a packed one, the low bits of the value count.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if the array or the value is in another store, there is no such element, the
    ///   elements are immutable, or of another type than the value;
    /// - [`Resource`](crate::ErrorKind::Resource) if the value is an object of the host, for which the store has no room, or
    ///   the error that the limiter returns.
    pub fn set(&self, mut store: impl AsContextMut, index: u32, value: Value) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let array = self.in_store(store)?;
        let (at, place, element) = (array.object.at, array.place(index)?, array.element);
        if array.ty.mutability().is_const() {
            return Err(Error::usage("the elements of the array cannot be set"));
        }
        check(store, &value, array.ty.element(), "element", index as usize)?;
        store.collect_if_due(value.is_host_object());
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The array, which `self`
        // keeps, has the element, and the value is of its type.
        unsafe { write(store.as_ptr(), at + place, element, &value) }
    }
}

/// The number of elements, as arrays have it.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if it does not fit 32 bits.
fn length_of<T>(elements: &[T]) -> Result<u32> {
    let length = u32::try_from(elements.len());
    length.map_err(|_| Error::resource(format!("an array of {} elements", elements.len())))
}
