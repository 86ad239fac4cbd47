//! The mapping of Rust types to WebAssembly types: typed calls into WebAssembly, and closures as host functions.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::caller::{Caller, view};
use super::func::{Func, invoke};
use super::gc::{AnyRef, ArrayRef, EqRef, I31, StructRef};
use super::linear::LinearMemory;
use super::store::AsContextMut;
use super::value::Value;
use crate::error::{Error, ExnRef, Result};
use crate::module::types::{FuncType, HeapType, RefType, ValType};
use crate::vm::context::{VMContext, VMFuncRef};
use crate::vm::extern_ref::ExternRef;
use crate::vm::func::HostFunc;
use crate::vm::store::StoreOpaque;

mod private {
    /// Values may be sent to other threads: those of asynchronous calls are.
    pub trait Sealed: Send + Sync + 'static {}
}
use private::Sealed;

/// A Rust type for a WebAssembly value type:
///
/// | Rust | WebAssembly |
/// |---|---|
/// | `i32`, `u32` | `i32` |
/// | `i64`, `u64` | `i64` |
/// | `f32` | `f32` |
/// | `f64` | `f64` |
/// | `u128` | `v128` |
/// | `Option<`[`Func`]`>` | `funcref` |
/// | `Option<`[`ExternRef`]`>` | `externref` |
/// | `Option<`[`ExnRef`]`>` | `exnref` |
/// | `Option<`[`AnyRef`]`>`, `Option<`[`EqRef`]`>` | `anyref`, `eqref` |
/// | `Option<`[`StructRef`]`>`, `Option<`[`ArrayRef`]`>` | `structref`, `arrayref` |
/// | `Option<`[`I31`]`>` | `i31ref` |
/// | [`Func`], [`ExternRef`], [`ExnRef`] | `(ref func)`, `(ref extern)`, `(ref exn)` |
/// | [`AnyRef`], [`EqRef`] | `(ref any)`, `(ref eq)` |
/// | [`StructRef`], [`ArrayRef`], [`I31`] | `(ref struct)`, `(ref array)`, `(ref i31)` |
///
/// A reference must be one of the store that it is passed to. A parameter of a [`TypedFunc`] that is a reference to a
/// [concrete](HeapType::Concrete) type, such as `(ref null $t)`, takes the Rust type of any supertype: each call checks the
/// argument then.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of a WebAssembly value",
    label = "WebAssembly code cannot pass this",
    note = "`i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `u128`, `Func`, `ExternRef`, `ExnRef`, `AnyRef`, `EqRef`, `StructRef`, `ArrayRef` and `I31`, or the last eight in an `Option` can be passed"
)]
pub trait WasmTy: Sealed + Sized {
    /// The WebAssembly type.
    #[doc(hidden)]
    const TYPE: ValType;
    /// Whether values may refer to objects that the store's garbage collector manages.
    #[doc(hidden)]
    const COLLECTED: bool = false;
    /// Number of 64-bit slots that a value takes.
    #[doc(hidden)]
    const SLOTS: usize = 1;
    /// Reads a value from its slots.
    ///
    /// # Safety
    /// `slot` must point to a value of this type in a slot (or two), and `store` must be the live store that it is from.
    #[doc(hidden)]
    unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self;
    /// Writes the value to its slots.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if the value refers to an object in another store.
    ///
    /// # Safety
    /// `slot` must have room for [`SLOTS`](Self::SLOTS) slots, and `store` must be live.
    #[doc(hidden)]
    unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()>;
    /// The value, if it is a reference.
    #[doc(hidden)]
    fn reference(&self) -> Option<Value> {
        None
    }
}

/// A store, as [`WasmTy`] passes it: a pointer to this is a pointer to a `StoreOpaque`, which the public traits can't name.
#[doc(hidden)]
#[derive(Debug)]
pub struct StoreHandle(());

fn opaque(store: *mut StoreHandle) -> *mut StoreOpaque {
    store.cast()
}

macro_rules! scalars {
    ($($ty:ty, $val:ident, |$slot:ident| $load:expr, |$value:ident| $store:expr;)*) => {
        $(
            impl Sealed for $ty {}
            impl WasmTy for $ty {
                const TYPE: ValType = ValType::$val;
                #[inline]
                unsafe fn load(slot: *const u64, _: *mut StoreHandle) -> Self {
                    // SAFETY: the slot holds a value of this type, and the store is live, by the caller's promise.
                    let $slot = unsafe { *slot };
                    $load
                }
                #[inline]
                unsafe fn store(self, slot: *mut u64, _: *mut StoreHandle) -> Result<()> {
                    let $value = self;
                    // SAFETY: the slot has room for the value, and the store is live, by the caller's promise.
                    unsafe { *slot = $store };
                    Ok(())
                }
            }
        )*
    };
}

scalars! {
    i32, I32, |slot| slot as i32, |value| value as u32 as u64;
    u32, I32, |slot| slot as u32, |value| value as u64;
    i64, I64, |slot| slot as i64, |value| value as u64;
    u64, I64, |slot| slot, |value| value;
    f32, F32, |slot| f32::from_bits(slot as u32), |value| value.to_bits() as u64;
    f64, F64, |slot| f64::from_bits(slot), |value| value.to_bits();
}

impl Sealed for u128 {}
impl WasmTy for u128 {
    const TYPE: ValType = ValType::V128;
    const SLOTS: usize = 2;
    #[inline]
    unsafe fn load(slot: *const u64, _: *mut StoreHandle) -> Self {
        // SAFETY: both slots of the value are valid by the caller's promise.
        unsafe { *slot as u128 | (*slot.add(1) as u128) << 64 }
    }
    #[inline]
    unsafe fn store(self, slot: *mut u64, _: *mut StoreHandle) -> Result<()> {
        // SAFETY: both slots of the value are valid by the caller's promise.
        unsafe {
            *slot = self as u64;
            *slot.add(1) = (self >> 64) as u64;
        }
        Ok(())
    }
}

macro_rules! references {
    ($($ty:ty, $heap:ident $collected:literal, |$slot:ident, $store:ident| $load:expr;)*) => {
        $(
            impl Sealed for Option<$ty> {}
            impl WasmTy for Option<$ty> {
                const TYPE: ValType = ValType::Ref(RefType::new(true, HeapType::$heap));
                const COLLECTED: bool = $collected;
                unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self {
                    // SAFETY: the slot holds a value of this type, and the store is live, by the caller's promise.
                    unsafe {
                        let ($slot, $store) = (*slot, &*opaque(store));
                        $load
                    }
                }
                unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()> {
                    // SAFETY: the slot has room for the value, and the store is live, by the caller's promise.
                    unsafe { *slot = Value::from(self).to_slots(&mut *opaque(store))?[0] };
                    Ok(())
                }
                fn reference(&self) -> Option<Value> {
                    Some(self.clone().into())
                }
            }

            impl Sealed for $ty {}
            impl WasmTy for $ty {
                const TYPE: ValType = ValType::Ref(RefType::new(false, HeapType::$heap));
                const COLLECTED: bool = $collected;
                unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { <Option<$ty> as WasmTy>::load(slot, store) }.expect("the type has no null")
                }
                unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()> {
                    // SAFETY: the caller's promise.
                    unsafe { WasmTy::store(Some(self), slot, store) }
                }
                fn reference(&self) -> Option<Value> {
                    Some(self.clone().into())
                }
            }
        )*
    };
}

references! {
    Func, Func false, |slot, store| Func::from_slot(slot, store);
    ExternRef, Extern true, |slot, store| store.extern_ref(slot);
    ExnRef, Exn true, |slot, store| store.exn_ref(slot);
    AnyRef, Any true, |slot, store| store.extern_ref(slot).map(AnyRef);
    EqRef, Eq true, |slot, store| store.extern_ref(slot).map(|object| EqRef(AnyRef(object)));
    StructRef, Struct true, |slot, store| store.extern_ref(slot).map(|object| StructRef(AnyRef(object)));
    ArrayRef, Array true, |slot, store| store.extern_ref(slot).map(|object| ArrayRef(AnyRef(object)));
    I31, I31 false, |slot, store| store.extern_ref(slot).and_then(|number| AnyRef(number).number());
}

/// Rust types for a function's parameters: one [`WasmTy`], or a tuple of up to 16.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of parameters or results of a WebAssembly function",
    note = "a list is `()`, one type, or a tuple of up to 16 types of WebAssembly values: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `u128`, `Func`, `ExternRef`, `ExnRef`, `AnyRef`, `EqRef`, `StructRef`, `ArrayRef` and `I31`, or the last eight in an `Option`"
)]
pub trait WasmParams: Sealed {
    #[doc(hidden)]
    fn types() -> Vec<ValType>;
    #[doc(hidden)]
    const SLOTS: usize;
    /// Whether one of the values may refer to an object that the store's garbage collector manages.
    #[doc(hidden)]
    const COLLECTED: bool;
    /// Writes the values to consecutive slots.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if a value refers to an object in another store.
    ///
    /// # Safety
    /// `slots` must have room for [`SLOTS`](Self::SLOTS) slots, and `store` must be live. No garbage collection may run until
    /// the slots are where it looks.
    #[doc(hidden)]
    unsafe fn store(self, slots: *mut u64, store: *mut StoreHandle) -> Result<()>;
    /// Checks that the references among the values are of these types.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if one is not.
    ///
    /// # Safety
    /// `store` must be live.
    #[doc(hidden)]
    unsafe fn check(&self, types: &[ValType], store: *mut StoreHandle) -> Result<()>;
}

/// Checks that a value, if it is a reference, is of the type that argument `index` has.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) if it is not.
///
/// # Safety
/// `store` must be live.
unsafe fn check_reference(value: &impl WasmTy, types: &[ValType], index: usize, store: *mut StoreHandle) -> Result<()> {
    match value.reference() {
        // SAFETY: the store is live by the caller's promise.
        Some(value) => unsafe { value.check(&*opaque(store), &types[index], "argument", index) },
        None => Ok(()),
    }
}

/// Rust types for a function's results: `()`, one [`WasmTy`], or a tuple of up to 16.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of results of a WebAssembly function",
    note = "a list is `()`, one type, or a tuple of up to 16 types of WebAssembly values: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `u128`, `Func`, `ExternRef`, `ExnRef`, `AnyRef`, `EqRef`, `StructRef`, `ArrayRef` and `I31`, or the last eight in an `Option`"
)]
pub trait WasmResults: WasmParams + Sized {
    /// Reads the values from consecutive slots.
    ///
    /// # Safety
    /// `slots` must hold values of these types, and `store` must be the live store that they are from.
    #[doc(hidden)]
    unsafe fn load(slots: *const u64, store: *mut StoreHandle) -> Self;
}

impl<T: WasmTy> WasmParams for T {
    fn types() -> Vec<ValType> {
        vec![T::TYPE]
    }
    const SLOTS: usize = <T as WasmTy>::SLOTS;
    const COLLECTED: bool = <T as WasmTy>::COLLECTED;
    #[inline]
    unsafe fn store(self, slots: *mut u64, store: *mut StoreHandle) -> Result<()> {
        // SAFETY: the slots have room for the values, and the store is live, by the caller's promise.
        unsafe { WasmTy::store(self, slots, store) }
    }
    unsafe fn check(&self, types: &[ValType], store: *mut StoreHandle) -> Result<()> {
        // SAFETY: the store is live by the caller's promise.
        unsafe { check_reference(self, types, 0, store) }
    }
}

impl<T: WasmTy> WasmResults for T {
    #[inline]
    unsafe fn load(slots: *const u64, store: *mut StoreHandle) -> Self {
        // SAFETY: the slots hold values of these types, and the store is live, by the caller's promise.
        unsafe { <T as WasmTy>::load(slots, store) }
    }
}

/// What a host function's closure may return: [`WasmResults`], or a `Result` of these. An error ends the calling WebAssembly
/// code; see [`Error::host`].
#[diagnostic::on_unimplemented(
    message = "a host function cannot return `{Self}`",
    label = "WebAssembly code cannot take this",
    note = "it returns `()`, a WebAssembly value, a tuple of up to 16 of them, or a `wasmrun::Result` of these",
    note = "other errors become a `wasmrun::Error` by `?` or `Error::from`, boxed ones by `Error::from_boxed`, an `anyhow::Error` by `Error::from_anyhow`"
)]
pub trait IntoResults {
    #[doc(hidden)]
    type Results: WasmResults;
    #[doc(hidden)]
    fn into_results(self) -> Result<Self::Results>;
}

impl<R: WasmResults> IntoResults for R {
    type Results = R;
    #[inline]
    fn into_results(self) -> Result<R> {
        Ok(self)
    }
}

impl<R: WasmResults> IntoResults for Result<R> {
    type Results = R;
    #[inline]
    fn into_results(self) -> Result<R> {
        self
    }
}

/// A closure that can be a host function in stores with data `T`.
///
/// It takes up to 16 [`WasmTy`] arguments and returns [`IntoResults`]. Before the arguments it may take a [`Caller`], or a
/// `&mut` [`LinearMemory`]: a view of the calling instance's memory, which is its export `memory` or else its first memory. The
/// view is empty if the instance has no memory or the host is the caller.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a host function of stores with data `{T}`",
    label = "parameters or results are not those of a host function",
    note = "it takes up to 16 WebAssembly values: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `u128`, `Func`, `ExternRef`, `ExnRef`, `AnyRef`, `EqRef`, `StructRef`, `ArrayRef` and `I31`, or the last eight in an `Option`",
    note = "before these it may take a `Caller<'_, {T}>`, or a `&mut LinearMemory<'_>`",
    note = "it returns `()`, a WebAssembly value, a tuple of up to 16 of them, or a `wasmrun::Result` of these",
    note = "other errors become a `wasmrun::Error` by `?`, an `anyhow::Error` by `Error::from_anyhow`",
    note = "it is `Send + Sync + 'static`"
)]
pub trait IntoFunc<T, Params, Results>: Send + Sync + 'static {
    #[doc(hidden)]
    fn into_host_func<const SUSPENDS: bool>(self) -> HostFuncBox;
}

/// A host function that is to be put into a store or linker.
#[doc(hidden)]
#[derive(Debug)]
pub struct HostFuncBox(pub(crate) HostFunc);

/// Marks closures that take a [`Caller`].
#[doc(hidden)]
#[derive(Debug)]
pub struct WithCaller<P>(PhantomData<P>);

/// Marks closures that take a [`LinearMemory`].
#[doc(hidden)]
#[derive(Debug)]
pub struct WithMemory<P>(PhantomData<P>);

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: WasmTy),*> Sealed for ($($name,)*) {}

        #[allow(non_snake_case, unused_mut, unused_variables, unused_assignments, unused_unsafe)]
        impl<$($name: WasmTy),*> WasmParams for ($($name,)*) {
            fn types() -> Vec<ValType> {
                vec![$($name::TYPE),*]
            }
            const SLOTS: usize = 0 $(+ <$name as WasmParams>::SLOTS)*;
            const COLLECTED: bool = false $(|| <$name as WasmParams>::COLLECTED)*;
            #[inline]
            unsafe fn store(self, mut slots: *mut u64, store: *mut StoreHandle) -> Result<()> {
                let ($($name,)*) = self;
                // SAFETY: the slots have room for the values, and the store is live, by the caller's promise.
                unsafe {
                    $(
                        WasmTy::store($name, slots, store)?;
                        slots = slots.add(<$name as WasmParams>::SLOTS);
                    )*
                }
                Ok(())
            }
            unsafe fn check(&self, types: &[ValType], store: *mut StoreHandle) -> Result<()> {
                let ($($name,)*) = self;
                let mut index = 0;
                // SAFETY: the store is live by the caller's promise.
                unsafe {
                    $(
                        check_reference($name, types, index, store)?;
                        index += 1;
                    )*
                }
                Ok(())
            }
        }

        #[allow(non_snake_case, unused_mut, unused_variables, unused_assignments, unused_unsafe, clippy::unused_unit)]
        impl<$($name: WasmTy),*> WasmResults for ($($name,)*) {
            #[inline]
            unsafe fn load(mut slots: *const u64, store: *mut StoreHandle) -> Self {
                // SAFETY: the slots hold values of these types, and the store is live, by the caller's promise.
                unsafe {
                    $(
                        let $name = <$name as WasmTy>::load(slots, store);
                        slots = slots.add(<$name as WasmParams>::SLOTS);
                    )*
                    ($($name,)*)
                }
            }
        }

        // `into_func` evaluates these expressions in its `unsafe` block.
        into_func!([($($name,)*)] ($($name)*) store vmctx () ());
        into_func!([WithCaller<($($name,)*)>] ($($name)*) store vmctx (Caller<'_, T>,)
            (Caller::new(store, vmctx),));
        into_func!([WithMemory<($($name,)*)>] ($($name)*) store vmctx (&mut LinearMemory<'_>,)
            (&mut match vmctx.as_ref().and_then(|vmctx| view((*vmctx.instance).host_memory)) {
                Some(memory) => memory,
                None => LinearMemory::new(&mut []),
            },));
    };
}

macro_rules! into_func {
    ([$params:ty] ($($name:ident)*) $store:ident $vmctx:ident ($($first:ty,)?) ($($value:expr,)?)) => {
        #[allow(non_snake_case, unused_mut, unused_variables, unused_assignments)]
        impl<T: 'static, FN, R, $($name: WasmTy),*> IntoFunc<T, $params, R> for FN
        where
            FN: Fn($($first,)? $($name),*) -> R + Send + Sync + 'static,
            R: IntoResults,
        {
            fn into_host_func<const SUSPENDS: bool>(self) -> HostFuncBox {
                let ty = FuncType::of(
                    <($($name,)*) as WasmParams>::types(),
                    <R::Results as WasmParams>::types(),
                );
                let body = move |$store: *mut StoreOpaque, $vmctx: *mut VMContext, slots: *mut u64| {
                    let handle = $store.cast::<StoreHandle>();
                    // SAFETY: the engines call the body with slots that hold the arguments and have room for the results, as
                    // `ty` says, with a live store, which has data `T`, and with a context that is null or live. A view of
                    // the memory is dropped before the store is used again.
                    unsafe {
                        let ($($name,)*) = <($($name,)*) as WasmResults>::load(slots, handle);
                        let results = self($($value,)? $($name),*).into_results()?;
                        if <R::Results as WasmParams>::COLLECTED {
                            (*$store).collect_if_due(true);
                        }
                        results.store(slots, handle)
                    }
                };
                // SAFETY: the body reads and writes its slots as `ty` says. Linkers and stores have the type `T`, so the
                // function gets into stores with data `T` only.
                HostFuncBox(unsafe { HostFunc::with_suspension::<_, SUSPENDS>(ty, body) })
            }
        }
    };
}

tuples!();
tuples!(A1);
tuples!(A1 A2);
tuples!(A1 A2 A3);
tuples!(A1 A2 A3 A4);
tuples!(A1 A2 A3 A4 A5);
tuples!(A1 A2 A3 A4 A5 A6);
tuples!(A1 A2 A3 A4 A5 A6 A7);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15);
tuples!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15 A16);

/// A function with Rust types for its parameters, `P`, and results, `R`; made by [`Func::typed`].
///
/// ```
/// use wasmrun::{Engine, Instance, Module, Store};
/// let engine = Engine::default();
/// let module = Module::new(&engine, r#"(module
///     (func (export "swap") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0)))"#)?;
/// let mut store = Store::new(&engine, ());
/// let instance = Instance::new(&mut store, &module, &[])?;
/// let swap = instance.get_typed_func::<(i32, f64), (f64, i32)>(&mut store, "swap")?;
/// assert_eq!(swap.call(&mut store, (1, 2.5))?, (2.5, 1));
/// # Ok::<(), wasmrun::Error>(())
/// ```
pub struct TypedFunc<P, R> {
    func: Func,
    /// Whether the types do not say that all arguments fit the function.
    checks_arguments: bool,
    _types: PhantomData<fn(P) -> R>,
}

impl<P, R> Clone for TypedFunc<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for TypedFunc<P, R> {}

impl<P, R> std::fmt::Debug for TypedFunc<P, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedFunc").field(&self.func).finish()
    }
}

/// Whether a function of type `ty` can be called as one of type `wanted` with some arguments: where a parameter is a reference
/// to a concrete type, that of `wanted` may be a reference to a supertype.
fn may_match(ty: &FuncType, wanted: &FuncType) -> bool {
    let takes = |(own, wanted): (&ValType, &ValType)| match (own, wanted) {
        (ValType::Ref(own), ValType::Ref(wanted)) if own.heap_type().as_concrete().is_some() => {
            own.heap_type().matches(wanted.heap_type())
        }
        (own, wanted) => wanted.matches(own),
    };
    let (params, results) = (ty.params().len(), ty.results().len());
    (params, results) == (wanted.params().len(), wanted.results().len())
        && ty.params().iter().zip(wanted.params()).all(takes)
        && ty.results().iter().zip(wanted.results()).all(|(own, wanted)| own.matches(wanted))
}

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    /// The typed function for `func`, whose type is `ty`.
    pub(crate) fn new(func: Func, ty: &FuncType) -> Result<Self> {
        let wanted = FuncType::of(P::types(), R::types());
        let checks_arguments = !ty.matches(&wanted);
        if checks_arguments && !may_match(ty, &wanted) {
            return Err(Error::usage(format!("the function has type {ty:#}, not {wanted:#}")));
        }
        Ok(TypedFunc { func, checks_arguments, _types: PhantomData })
    }

    /// The function without Rust types.
    pub fn func(&self) -> Func {
        self.func
    }

    /// Calls the function.
    ///
    /// # Errors
    /// Whatever ends the call: a trap, an exception, an exit, an error of a host function.
    ///
    /// # Panics
    /// If the function is in another store. Resumes the panic of a host function that is called.
    pub fn call(&self, mut store: impl AsContextMut, params: P) -> Result<R> {
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        // SAFETY: the store's own pointer; it is borrowed exclusively.
        unsafe { self.call_by(store, params, |store, func, slots| invoke(store, func, slots)) }
    }

    /// Calls the function by `invoke`.
    ///
    /// # Errors
    /// As for [`TypedFunc::call`].
    ///
    /// # Panics
    /// As for [`TypedFunc::call`].
    ///
    /// # Safety
    /// `store` must be the own pointer of a store to which nobody holds a reference; and what `invoke` asks for.
    #[inline]
    pub(super) unsafe fn call_by(
        &self,
        store: *mut StoreOpaque,
        params: P,
        invoke: impl FnOnce(*mut StoreOpaque, NonNull<VMFuncRef>, *mut u64) -> Result<()>,
    ) -> Result<R> {
        /// Slots for the most parameters or results that there can be: 16 of type `v128`.
        const SLOTS: usize = 32;
        const { assert!(P::SLOTS <= SLOTS && R::SLOTS <= SLOTS) };
        let mut slots = [const { std::mem::MaybeUninit::<u64>::uninit() }; SLOTS];
        let slots = slots.as_mut_ptr().cast::<u64>();
        // SAFETY: the buffer has room for parameters and results, as asserted. `new` has compared the types, and `func_ref`
        // checks the store. The rest is the caller's promise.
        unsafe {
            let func = self.func.func_ref(&*store);
            if self.checks_arguments {
                let opaque = &*store;
                let ty = opaque.engine.types.func_type(self.func.sig(opaque));
                params.check(ty.params(), store.cast())?;
            }
            if P::COLLECTED {
                (*store).collect_if_due(true);
            }
            params.store(slots, store.cast())?;
            invoke(store, func, slots)?;
            Ok(R::load(slots, store.cast()))
        }
    }
}
