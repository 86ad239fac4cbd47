//! References to structures.

use std::fmt;

use super::scope::{object_conversions, reference_methods};
use super::{AnyRef, EqRef, Object, check, make, write};
use crate::error::{Error, Result};
use crate::module::composite::{CompositeType, StructType};
use crate::module::layout::{FieldLayout, Layout, StructLayout};
use crate::runtime::store::{AsContext, AsContextMut, StoreContext};
use crate::runtime::value::Value;
use crate::vm::store::StoreOpaque;

/// A type of structures and a store, to make such structures in it.
#[derive(Clone, Debug)]
pub struct StructRefPre {
    store: u64,
    ty: StructType,
}

impl StructRefPre {
    /// For structures of type `ty` in a store.
    ///
    /// # Panics
    /// If the type is one of another engine.
    pub fn new(store: impl AsContextMut, ty: StructType) -> Self {
        let store = &store.as_context().0.opaque;
        assert!(ty.registered_type().is_of(&store.engine.types), "a type of another engine");
        StructRefPre { store: store.id, ty }
    }
}

/// A reference to a structure (specification 3.0, `(ref struct)`). See [`AnyRef`] for how long it is valid.
///
/// ```
/// use wasmrun::{FieldType, Mutability, StorageType, Store, StructRef, StructRefPre, StructType, Val};
/// let mut store = Store::<()>::default();
/// let ty = StructType::new(store.engine(), [FieldType::new(Mutability::Var, StorageType::I8)])?;
/// let pre = StructRefPre::new(&mut store, ty);
/// let object = StructRef::new(&mut store, &pre, &[Val::I32(42)])?;
/// object.set_field(&mut store, 0, Val::I32(-1))?;
/// // Packed fields are read as unsigned.
/// assert_eq!(object.field(&mut store, 0)?.unwrap_i32(), 255);
/// # Ok::<(), wasmrun::Error>(())
/// ```
///
/// A function that takes one, and gives it back:
///
/// ```
/// use wasmrun::{Func, Rooted, Store, StructRef};
/// let mut store = Store::<()>::default();
/// let same = Func::wrap(&mut store, |object: Option<Rooted<StructRef>>| object);
/// assert!(same.typed::<Option<StructRef>, Option<StructRef>>(&store)?.call(&mut store, None)?.is_none());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Clone)]
pub struct StructRef(pub(crate) AnyRef);

reference_methods!(StructRef | this | this.0);
object_conversions!(StructRef);

impl fmt::Debug for StructRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StructRef")
    }
}

/// A structure in its store.
struct Structure<'a> {
    object: Object<'a>,
    ty: &'a StructType,
    layout: &'a StructLayout,
}

impl Structure<'_> {
    /// Where the field with an index is.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if there is no such field.
    fn place(&self, index: usize) -> Result<FieldLayout> {
        let count = self.layout.fields.len();
        let found = self.layout.fields.get(index).copied();
        found.ok_or_else(|| Error::usage(format!("the structure has {count} field(s), not field {index}")))
    }

    /// The value of a field that the structure has.
    fn read(&self, index: usize) -> Value {
        let FieldLayout { offset, storage } = self.layout.fields[index];
        self.object.read(offset, storage, &self.ty.field_types()[index])
    }
}

impl StructRef {
    /// Makes a structure with these values of its fields. Of the values of packed fields, the low bits count.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if `pre` is of another store, or the values are not those of the fields;
    /// - [`Resource`](crate::ErrorKind::Resource) if the heap, the store's budget or its limiter has no room for it, or the
    ///   error that the limiter returns.
    ///
    /// # Panics
    /// Resumes the panic of a limiter, or of a host object's drop.
    pub fn new(mut store: impl AsContextMut, pre: &StructRefPre, fields: &[Value]) -> Result<Self> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        if pre.store != store.id {
            return Err(Error::usage("StructRefPre used with another store than its own"));
        }
        let types = pre.ty.field_types();
        if fields.len() != types.len() {
            return Err(Error::usage(format!("expected {} field(s), got {}", types.len(), fields.len())));
        }
        for (index, (value, ty)) in fields.iter().zip(types).enumerate() {
            check(store, value, ty, "field", index)?;
        }
        store.collect_if_due(fields.iter().any(Value::is_host_object));
        let own = store.as_ptr();
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The type is of its engine,
        // and the values are those of its fields.
        unsafe {
            let made = StructRef(make(own, pre.ty.registered_type(), 0)?);
            for (index, value) in fields.iter().enumerate() {
                let structure = made.in_store(&*own)?;
                let (at, field) = (structure.object.at, structure.layout.fields[index]);
                write(own, at + field.offset, field.storage, value)?;
            }
            Ok(made)
        }
    }

    fn in_store<'a>(&self, store: &'a StoreOpaque) -> Result<Structure<'a>> {
        match Object::of(&self.0.0, store)? {
            Some(object) => match (object.ty, object.layout) {
                (CompositeType::Struct(ty), Layout::Struct(layout)) => Ok(Structure { object, ty, layout }),
                _ => unreachable!("a StructRef refers to a structure"),
            },
            None => unreachable!("a StructRef refers to a structure"),
        }
    }

    /// Its type.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it is in another store.
    pub fn ty(&self, store: impl AsContext) -> Result<StructType> {
        Ok(self.in_store(&store.as_context().0.opaque)?.ty.clone())
    }

    /// Whether it is of a type or of a subtype.
    ///
    /// # Errors
    /// As for [`StructRef::ty`].
    pub fn matches_ty(&self, store: impl AsContext, ty: &StructType) -> Result<bool> {
        Ok(self.in_store(&store.as_context().0.opaque)?.ty.matches(ty))
    }

    /// The values of its fields. Packed ones are read as unsigned.
    ///
    /// # Errors
    /// As for [`StructRef::ty`].
    pub fn fields<'a, T: 'static>(
        &'a self,
        store: impl Into<StoreContext<'a, T>>,
    ) -> Result<impl ExactSizeIterator<Item = Value> + 'a> {
        let structure = self.in_store(&store.into().0.opaque)?;
        let count = structure.layout.fields.len();
        Ok((0..count).map(move |index| structure.read(index)))
    }

    /// The value of the field with an index. A packed one is read as unsigned.
    ///
    /// # Errors
    /// As for [`StructRef::ty`], and if there is no such field.
    pub fn field(&self, store: impl AsContext, index: usize) -> Result<Value> {
        let structure = self.in_store(&store.as_context().0.opaque)?;
        structure.place(index)?;
        Ok(structure.read(index))
    }

    /// Sets the value of the field with an index. Of the value of a packed one, the low bits count.
    ///
    /// # Errors
    /// - [`Usage`](crate::ErrorKind::Usage) if the structure or the value is in another store, there is no such field, it is
    ///   immutable, or of another type than the value;
    /// - [`Resource`](crate::ErrorKind::Resource) if the value is an object of the host, for which the store has no room, or
    ///   the error that the limiter returns.
    pub fn set_field(&self, mut store: impl AsContextMut, index: usize, value: Value) -> Result<()> {
        let store = &mut store.as_context_mut().into_inner().opaque;
        let structure = self.in_store(store)?;
        let (at, place) = (structure.object.at, structure.place(index)?);
        let ty = &structure.ty.field_types()[index];
        if ty.mutability().is_const() {
            return Err(Error::usage(format!("field {index} cannot be set")));
        }
        check(store, &value, ty, "field", index)?;
        store.collect_if_due(value.is_host_object());
        // SAFETY: the store is borrowed exclusively and from here on used through its own pointer. The structure, which `self`
        // keeps, has the field, and the value is of its type.
        unsafe { write(store.as_ptr(), at + place.offset, place.storage, &value) }
    }
}
