//! WebAssembly values for the embedder, and their conversion to and from slots.

use super::func::Func;
use super::gc::{AnyRef, ArrayRef, EqRef, I31, StructRef};
use super::store::AsContext;
use crate::error::{Error, ExnRef, Result};
use crate::module::types::{HeapType, RefType, ValType};
use crate::vm::exception;
use crate::vm::extern_ref::ExternRef;
use crate::vm::store::StoreOpaque;

/// A WebAssembly value (specification, section 4.2.1); also under the name `Val`.
///
/// ```
/// use wasmrun::{ValType, Value};
/// let value = Value::from(7);
/// assert!(matches!(value, Value::I32(7)) && value.ty() == ValType::I32);
/// assert_eq!((value.unwrap_i32(), value.i64()), (7, None));
/// assert!(Value::ExternRef(None).matches(&ValType::EXTERNREF));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A 32-bit integer; instructions take it as signed or unsigned.
    I32(i32),
    /// A 64-bit integer; instructions take it as signed or unsigned.
    I64(i64),
    /// A 32-bit float; the bits of a NaN are kept.
    F32(f32),
    /// A 64-bit float; the bits of a NaN are kept.
    F64(f64),
    /// A 128-bit vector, lane 0 in the low bits.
    V128(u128),
    /// A reference to a function, or null.
    FuncRef(Option<Func>),
    /// A reference to a host object, or null.
    ExternRef(Option<ExternRef>),
    /// A reference to an exception, or null.
    ExnRef(Option<ExnRef>),
    /// A reference to an object of WebAssembly code, also one that is known to be a structure or an array, or null.
    AnyRef(Option<AnyRef>),
}

macro_rules! accessors {
    ($($variant:ident $ty:ty, $get:ident $unwrap:ident;)*) => {
        impl Value {
            $(
                #[doc = concat!("The `", stringify!($get), "`, if it is one.")]
                pub fn $get(&self) -> Option<$ty> {
                    if let Value::$variant(value) = self { Some(*value) } else { None }
                }

                #[doc = concat!("The `", stringify!($get), "`.")]
                ///
                /// # Panics
                /// If it has another type.
                pub fn $unwrap(&self) -> $ty {
                    self.$get().expect(concat!("expected ", stringify!($get)))
                }
            )*
        }
    };
}

accessors! {
    I32 i32, i32 unwrap_i32;
    I64 i64, i64 unwrap_i64;
    F32 f32, f32 unwrap_f32;
    F64 f64, f64 unwrap_f64;
    V128 u128, v128 unwrap_v128;
}

macro_rules! reference_accessors {
    ($($variant:ident $ref_variant:ident $ty:ty, $get:ident $unwrap:ident, $is:ident $as:ident $unwrap_ref:ident;)*) => {
        impl Value {
            $(
                #[doc = concat!("The reference, if it is a `", stringify!($get), "`; the inner `None` is null.")]
                pub fn $get(&self) -> Option<Option<&$ty>> {
                    if let Value::$variant(reference) = self { Some(reference.as_ref()) } else { None }
                }

                #[doc = concat!("The `", stringify!($get), "`; `None` for null.")]
                ///
                /// # Panics
                /// If it has another type.
                pub fn $unwrap(&self) -> Option<&$ty> {
                    self.$get().expect(concat!("expected ", stringify!($get)))
                }
            )*

            /// The reference, if it is one.
            pub fn ref_(self) -> Option<Ref> {
                match self {
                    $(Value::$variant(reference) => Some(Ref::$ref_variant(reference)),)*
                    _ => None,
                }
            }
        }

        impl Ref {
            $(
                #[doc = concat!("Whether it is a `", stringify!($get), "`.")]
                pub fn $is(&self) -> bool {
                    self.$as().is_some()
                }

                #[doc = concat!("The reference, if it is a `", stringify!($get), "`; the inner `None` is null.")]
                pub fn $as(&self) -> Option<Option<&$ty>> {
                    if let Ref::$ref_variant(reference) = self { Some(reference.as_ref()) } else { None }
                }

                #[doc = concat!("The `", stringify!($get), "`; `None` for null.")]
                ///
                /// # Panics
                /// If it has another type.
                pub fn $unwrap_ref(&self) -> Option<&$ty> {
                    self.$as().expect(concat!("expected ", stringify!($get)))
                }
            )*

            /// Null in the hierarchy of a heap type.
            pub fn null(heap: &HeapType) -> Self {
                Value::null(heap).ref_().expect("null is a reference")
            }

            /// Whether it is null.
            pub fn is_null(&self) -> bool {
                match self {
                    $(Ref::$ref_variant(reference) => reference.is_none(),)*
                }
            }

            /// Whether it refers to something.
            pub fn is_non_null(&self) -> bool {
                !self.is_null()
            }
        }

        impl From<Ref> for Value {
            fn from(reference: Ref) -> Self {
                match reference {
                    $(Ref::$ref_variant(reference) => Value::$variant(reference),)*
                }
            }
        }

        $(
            impl From<$ty> for Ref {
                fn from(reference: $ty) -> Self {
                    Ref::$ref_variant(Some(reference))
                }
            }

            impl From<Option<$ty>> for Ref {
                fn from(reference: Option<$ty>) -> Self {
                    Ref::$ref_variant(reference)
                }
            }
        )*
    };
}

reference_accessors! {
    FuncRef Func Func, funcref unwrap_funcref, is_func as_func unwrap_func;
    ExternRef Extern ExternRef, externref unwrap_externref, is_extern as_extern unwrap_extern;
    AnyRef Any AnyRef, anyref unwrap_anyref, is_any as_any unwrap_any;
    ExnRef Exn ExnRef, exnref unwrap_exnref, is_exn as_exn unwrap_exn;
}

/// A reference: what tables hold (specification, section 4.2.1).
///
/// ```
/// use wasmrun::{ExternRef, HeapType, Ref, Val};
/// let object: Ref = ExternRef::new(7).into();
/// assert!(object.unwrap_extern().is_some() && !object.is_func());
/// assert!(Ref::null(&HeapType::Func).is_null());
/// assert!(Val::from(object).ref_().is_some());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ref {
    /// To a function, or null.
    Func(Option<Func>),
    /// To a host object, or null.
    Extern(Option<ExternRef>),
    /// To an object of WebAssembly code, or null.
    Any(Option<AnyRef>),
    /// To an exception, or null.
    Exn(Option<ExnRef>),
}

impl Value {
    /// Null in the hierarchy of a heap type; as [`Value::null`].
    pub fn null_ref(heap: &HeapType) -> Self {
        Self::null(heap)
    }

    /// A null `funcref`.
    pub const fn null_func_ref() -> Self {
        Value::FuncRef(None)
    }

    /// A null `externref`.
    pub const fn null_extern_ref() -> Self {
        Value::ExternRef(None)
    }

    /// A null `anyref`.
    pub const fn null_any_ref() -> Self {
        Value::AnyRef(None)
    }

    /// Zero, or null; `None` for the type of references that are not null.
    pub fn default_for_ty(ty: &ValType) -> Option<Self> {
        ty.as_ref().is_none_or(RefType::is_nullable).then(|| Self::default_for(ty))
    }

    /// The type of the value; for a reference, the nullable reference type at the top of its hierarchy, such as `funcref`.
    pub fn ty(&self) -> ValType {
        match self {
            Value::I32(_) => ValType::I32,
            Value::I64(_) => ValType::I64,
            Value::F32(_) => ValType::F32,
            Value::F64(_) => ValType::F64,
            Value::V128(_) => ValType::V128,
            Value::FuncRef(_) => ValType::FUNCREF,
            Value::ExternRef(_) => ValType::EXTERNREF,
            Value::ExnRef(_) => ValType::EXNREF,
            Value::AnyRef(_) => ValType::ANYREF,
        }
    }

    /// Zero, or null, also for the type of references that are not null.
    pub fn default_for(ty: &ValType) -> Self {
        match ty {
            ValType::I32 => Value::I32(0),
            ValType::I64 => Value::I64(0),
            ValType::F32 => Value::F32(0.0),
            ValType::F64 => Value::F64(0.0),
            ValType::V128 => Value::V128(0),
            ValType::Ref(ty) => Value::null(ty.heap_type()),
        }
    }

    /// Null in the hierarchy of a heap type.
    pub fn null(heap: &HeapType) -> Self {
        match heap.top() {
            HeapType::Func => Value::FuncRef(None),
            HeapType::Extern => Value::ExternRef(None),
            HeapType::Exn => Value::ExnRef(None),
            _ => Value::AnyRef(None),
        }
    }

    /// Whether the value may be used where the type is expected. A null matches every nullable type of its hierarchy.
    ///
    /// What type an object is of, and whether a function is of a [concrete](HeapType::Concrete) type, only its store knows: this
    /// says no, and [`Value::matches_ty`] what is so.
    pub fn matches(&self, ty: &ValType) -> bool {
        let is_null = match self {
            Value::FuncRef(func) => func.is_none(),
            Value::ExternRef(object) => object.is_none(),
            Value::ExnRef(exception) => exception.is_none(),
            Value::AnyRef(object) => object.is_none(),
            _ => false,
        };
        match (self.ty(), ty) {
            (ValType::Ref(own), ValType::Ref(ty)) if is_null => {
                ty.is_nullable() && *own.heap_type() == ty.heap_type().top()
            }
            (ValType::Ref(own), ValType::Ref(ty)) => match self {
                Value::AnyRef(Some(object)) => object.known_type().matches(ty.heap_type()),
                _ => own.heap_type().matches(ty.heap_type()),
            },
            (own, ty) => own == *ty,
        }
    }

    /// Whether the value may be used in `store` where the type is expected. A null matches every nullable type of its
    /// hierarchy; a reference to an object in another store matches no type that only that store could tell.
    ///
    /// ```
    /// use wasmrun::{Engine, Func, FuncType, HeapType, RefType, Store, Value};
    /// let mut store = Store::new(&Engine::default(), ());
    /// let callback = store.engine().register_type(&FuncType::new(store.engine(), [], []));
    /// let ty = RefType::new(false, HeapType::Concrete(callback)).into();
    /// let func = Func::wrap(&mut store, || ());
    /// assert!(Value::from(func).matches_ty(&store, &ty) && !Value::null_func_ref().matches_ty(&store, &ty));
    /// ```
    pub fn matches_ty(&self, store: impl AsContext, ty: &ValType) -> bool {
        self.matches_in(&store.as_context().0.opaque, ty)
    }

    /// As [`Value::matches_ty`].
    pub(crate) fn matches_in(&self, store: &StoreOpaque, ty: &ValType) -> bool {
        match (self, ty.as_ref().map(RefType::heap_type)) {
            (Value::FuncRef(Some(func)), Some(HeapType::Concrete(ty))) => {
                func.belongs_to(store) && func.has_type(store, ty)
            }
            (Value::AnyRef(Some(object)), Some(ty)) if !matches!(ty, HeapType::Any) => {
                object.ty_in(store).is_ok_and(|own| own.matches(ty))
            }
            _ => self.matches(ty),
        }
    }

    /// Whether the value refers to an object in another store.
    fn is_foreign(&self, store: &StoreOpaque) -> bool {
        match self {
            Value::FuncRef(Some(func)) => !func.belongs_to(store),
            Value::ExternRef(Some(object)) | Value::AnyRef(Some(AnyRef(object))) => !object.fits_store(store),
            Value::ExnRef(Some(exception)) => exception.pin().store != store.id,
            _ => false,
        }
    }

    /// Whether the value refers to a host object.
    pub(crate) fn is_host_object(&self) -> bool {
        matches!(self, Value::ExternRef(Some(object)) | Value::AnyRef(Some(AnyRef(object))) if object.is_host_object())
    }

    /// The value in slots; the second is zero for all types but `v128`. The caller must put the slots where a garbage collection
    /// looks before the next one runs.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the value refers to an object in another store; for a host object those of
    /// [`StoreOpaque::intern`].
    pub(crate) fn to_slots(&self, store: &mut StoreOpaque) -> Result<[u64; 2]> {
        Ok(match self {
            Value::I32(v) => [*v as u32 as u64, 0],
            Value::I64(v) => [*v as u64, 0],
            Value::F32(v) => [v.to_bits() as u64, 0],
            Value::F64(v) => [v.to_bits(), 0],
            Value::V128(v) => [*v as u64, (*v >> 64) as u64],
            Value::FuncRef(func) => [func.map_or(Ok(0), |func| func.to_slot(store))?, 0],
            Value::ExternRef(None) | Value::AnyRef(None) => [0, 0],
            Value::ExternRef(Some(object)) | Value::AnyRef(Some(AnyRef(object))) => [store.intern(object)?, 0],
            Value::ExnRef(exception) => {
                [exception.as_ref().map_or(Ok(0), |exception| exception::to_slot(store, exception))?, 0]
            }
        })
    }

    /// The value of type `ty` in slots.
    ///
    /// # Safety
    /// The slot of a function reference must be null or a live `VMFuncRef` of this store; that of another reference must be
    /// null or refer to a live exception or object of this store.
    pub(crate) unsafe fn from_slots(ty: &ValType, slots: [u64; 2], store: &StoreOpaque) -> Self {
        match ty {
            ValType::I32 => Value::I32(slots[0] as i32),
            ValType::I64 => Value::I64(slots[0] as i64),
            ValType::F32 => Value::F32(f32::from_bits(slots[0] as u32)),
            ValType::F64 => Value::F64(f64::from_bits(slots[0])),
            ValType::V128 => Value::V128(slots[0] as u128 | (slots[1] as u128) << 64),
            ValType::Ref(ty) => match ty.heap_type().top() {
                // SAFETY: the slot is null or a live function reference of the store, by the caller's promise.
                HeapType::Func => Value::FuncRef(unsafe { Func::from_slot(slots[0], store) }),
                HeapType::Extern => Value::ExternRef(store.extern_ref(slots[0])),
                // SAFETY: the slot is null or a live exception of the store, by the caller's promise.
                HeapType::Exn => Value::ExnRef(unsafe { store.exn_ref(slots[0]) }),
                _ => Value::AnyRef(store.extern_ref(slots[0]).map(AnyRef)),
            },
        }
    }

    /// Writes values to consecutive slots.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if a value refers to an object in another store.
    ///
    /// # Safety
    /// `slots` must have room for the values.
    pub(crate) unsafe fn write_all(values: &[Value], mut slots: *mut u64, store: &mut StoreOpaque) -> Result<()> {
        for value in values {
            let pair = value.to_slots(store)?;
            let count = value.ty().slots();
            // SAFETY: `slots` has room for this and the remaining values, by the caller's promise.
            unsafe {
                std::ptr::copy_nonoverlapping(pair.as_ptr(), slots, count);
                slots = slots.add(count);
            }
        }
        Ok(())
    }

    /// Reads values of the given types from consecutive slots into `out`.
    ///
    /// # Safety
    /// `slots` must hold values of these types, of this store.
    pub(crate) unsafe fn read_all(types: &[ValType], mut slots: *const u64, store: &StoreOpaque, out: &mut [Value]) {
        for (ty, out) in types.iter().zip(out) {
            // SAFETY: `slots` holds a value of this type, of this store, by the caller's promise.
            unsafe {
                let high = if ty.slots() == 2 { *slots.add(1) } else { 0 };
                *out = Value::from_slots(ty, [*slots, high], store);
                slots = slots.add(ty.slots());
            }
        }
    }

    /// Checks that values match types, in number and one by one. `what` names one of them in the message.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if they do not.
    pub(crate) fn check_all(store: &StoreOpaque, values: &[Value], types: &[ValType], what: &str) -> Result<()> {
        if values.len() != types.len() {
            return Err(Error::usage(format!("expected {} {what}(s), got {}", types.len(), values.len())));
        }
        values.iter().zip(types).enumerate().try_for_each(|(at, (value, ty))| value.check(store, ty, what, at))
    }

    /// Checks that the value matches a type. `what` and `at` name it in the message.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it does not.
    #[inline]
    pub(crate) fn check(&self, store: &StoreOpaque, ty: &ValType, what: &str, at: usize) -> Result<()> {
        if self.matches_in(store, ty) { Ok(()) } else { Err(self.mismatch(store, ty, what, at)) }
    }

    #[cold]
    fn mismatch(&self, store: &StoreOpaque, ty: &ValType, what: &str, at: usize) -> Error {
        if self.is_foreign(store) {
            return Error::usage(format!("{what} {at} refers to an object in another store"));
        }
        let got = match self {
            Value::AnyRef(Some(object)) => object.ty_in(store).map_or(self.ty(), |ty| RefType::new(false, ty).into()),
            _ => self.ty(),
        };
        Error::usage(format!("{what} {at} has type {ty}, got {got}"))
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident,)*) => {
        $(impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Value::$variant(value.into())
            }
        })*
    };
}

from! {
    i32 => I32,
    i64 => I64,
    f32 => F32,
    f64 => F64,
    u128 => V128,
    Func => FuncRef,
    ExternRef => ExternRef,
    ExnRef => ExnRef,
    AnyRef => AnyRef,
    Option<Func> => FuncRef,
    Option<ExternRef> => ExternRef,
    Option<ExnRef> => ExnRef,
    Option<AnyRef> => AnyRef,
}

macro_rules! from_any {
    ($($ty:ident)*) => {
        $(
            impl From<$ty> for Value {
                fn from(value: $ty) -> Self {
                    Value::AnyRef(Some(value.into()))
                }
            }

            impl From<Option<$ty>> for Value {
                fn from(value: Option<$ty>) -> Self {
                    Value::AnyRef(value.map(AnyRef::from))
                }
            }

            impl From<$ty> for Ref {
                fn from(value: $ty) -> Self {
                    Ref::Any(Some(value.into()))
                }
            }

            impl From<Option<$ty>> for Ref {
                fn from(value: Option<$ty>) -> Self {
                    Ref::Any(value.map(AnyRef::from))
                }
            }
        )*
    };
}

from_any!(EqRef StructRef ArrayRef I31);

impl ValType {
    /// Zero, or null; `None` for the type of references that are not null.
    pub fn default_value(&self) -> Option<Value> {
        Value::default_for_ty(self)
    }
}
