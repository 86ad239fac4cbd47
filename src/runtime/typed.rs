//! Rust types as WebAssembly types: typed calls into WebAssembly, and closures as host functions.

use std::marker::PhantomData;

use super::caller::{Caller, view};
use super::func::{Func, invoke};
use super::linear::LinearMemory;
use super::store::AsContextMut;
use super::value::Value;
use crate::error::{Error, Result};
use crate::module::types::{FuncType, ValType};
use crate::vm::context::VMContext;
use crate::vm::extern_ref::ExternRef;
use crate::vm::func::HostFunc;
use crate::vm::store::StoreOpaque;

mod private {
    pub trait Sealed {}
}
use private::Sealed;

/// A Rust type that stands for a WebAssembly value type: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `u128` (`v128`),
/// `Option<Func>` and `Option<ExternRef>`.
pub trait WasmTy: Sealed + Sized {
    /// The WebAssembly type.
    #[doc(hidden)]
    const TYPE: ValType;
    /// Whether values keep something of a store alive that is collected.
    #[doc(hidden)]
    const COLLECTED: bool = false;
    /// 64-bit slots that a value takes.
    #[doc(hidden)]
    const SLOTS: usize = 1;
    /// Reads a value.
    ///
    /// # Safety
    /// `slot` must hold one of this type, of `store`.
    #[doc(hidden)]
    unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self;
    /// Writes the value.
    ///
    /// # Safety
    /// `slot` must have room for it.
    #[doc(hidden)]
    unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()>;
}

/// A store, as [`WasmTy`] passes it on.
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
                    // SAFETY: the caller's promise.
                    let $slot = unsafe { *slot };
                    $load
                }
                #[inline]
                unsafe fn store(self, slot: *mut u64, _: *mut StoreHandle) -> Result<()> {
                    let $value = self;
                    // SAFETY: the caller's promise.
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
        // SAFETY: the caller's promise; a v128 has two slots.
        unsafe { *slot as u128 | (*slot.add(1) as u128) << 64 }
    }
    #[inline]
    unsafe fn store(self, slot: *mut u64, _: *mut StoreHandle) -> Result<()> {
        // SAFETY: the caller's promise; a v128 has two slots.
        unsafe {
            *slot = self as u64;
            *slot.add(1) = (self >> 64) as u64;
        }
        Ok(())
    }
}

impl Sealed for Option<Func> {}
impl WasmTy for Option<Func> {
    const TYPE: ValType = ValType::FUNCREF;
    unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Func::from_slot(*slot, &*opaque(store)) }
    }
    unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { *slot = self.map_or(Ok(0), |func| func.to_slot(&*opaque(store)))? };
        Ok(())
    }
}

impl Sealed for Option<ExternRef> {}
impl WasmTy for Option<ExternRef> {
    const TYPE: ValType = ValType::EXTERNREF;
    const COLLECTED: bool = true;
    unsafe fn load(slot: *const u64, store: *mut StoreHandle) -> Self {
        // SAFETY: the caller's promise.
        unsafe { (*opaque(store)).heap.extern_ref(*slot) }
    }
    unsafe fn store(self, slot: *mut u64, store: *mut StoreHandle) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { *slot = Value::ExternRef(self).to_slots(&mut *opaque(store))?[0] };
        Ok(())
    }
}

/// A list of Rust types that stand for parameters: one [`WasmTy`] or a tuple of up to 16.
pub trait WasmParams: Sealed {
    #[doc(hidden)]
    fn types() -> Vec<ValType>;
    #[doc(hidden)]
    const SLOTS: usize;
    /// Whether there is one that keeps something alive that is collected.
    #[doc(hidden)]
    const COLLECTED: bool;
    /// # Safety
    /// `slots` must have room for all. No collection may run before they are where that looks.
    #[doc(hidden)]
    unsafe fn store(self, slots: *mut u64, store: *mut StoreHandle) -> Result<()>;
}

/// A list of Rust types that stand for results: `()`, one [`WasmTy`] or a tuple of up to 16.
pub trait WasmResults: WasmParams + Sized {
    /// # Safety
    /// `slots` must hold values of these types, of `store`.
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
        // SAFETY: the caller's promise.
        unsafe { WasmTy::store(self, slots, store) }
    }
}

impl<T: WasmTy> WasmResults for T {
    #[inline]
    unsafe fn load(slots: *const u64, store: *mut StoreHandle) -> Self {
        // SAFETY: the caller's promise.
        unsafe { <T as WasmTy>::load(slots, store) }
    }
}

/// What a closure may return: [`WasmResults`], or a `Result` of them, whose error ends the calling code.
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

/// A closure that can be a host function of stores with data `T`.
///
/// It takes up to 16 [`WasmTy`] arguments, before them optionally a [`Caller`] or a `&mut` [`LinearMemory`] (a view of
/// the caller's memory: its export `memory`, or else its first; empty if it has none), and returns [`IntoResults`].
pub trait IntoFunc<T, Params, Results>: Send + Sync + 'static {
    #[doc(hidden)]
    fn into_host_func(self) -> HostFuncBox;
}

/// A host function on its way into a store or linker.
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
                // SAFETY: the caller's promise.
                unsafe {
                    $(
                        WasmTy::store($name, slots, store)?;
                        slots = slots.add(<$name as WasmParams>::SLOTS);
                    )*
                }
                Ok(())
            }
        }

        #[allow(non_snake_case, unused_mut, unused_variables, unused_assignments, unused_unsafe, clippy::unused_unit)]
        impl<$($name: WasmTy),*> WasmResults for ($($name,)*) {
            #[inline]
            unsafe fn load(mut slots: *const u64, store: *mut StoreHandle) -> Self {
                // SAFETY: the caller's promise.
                unsafe {
                    $(
                        let $name = <$name as WasmTy>::load(slots, store);
                        slots = slots.add(<$name as WasmParams>::SLOTS);
                    )*
                    ($($name,)*)
                }
            }
        }

        // The values given here are evaluated in the `unsafe` block of `into_func`.
        into_func!([($($name,)*)] ($($name)*) store vmctx () ());
        into_func!([WithCaller<($($name,)*)>] ($($name)*) store vmctx (Caller<'_, T>,)
            (Caller::new(store, vmctx),));
        into_func!([WithMemory<($($name,)*)>] ($($name)*) store vmctx (&mut LinearMemory<'_>,)
            (&mut match vmctx.as_ref().and_then(|vmctx| (*vmctx.instance).host_memory.as_ref()) {
                Some(memory) => view(memory),
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
            fn into_host_func(self) -> HostFuncBox {
                let ty = FuncType::new(
                    <($($name,)*) as WasmParams>::types(),
                    <R::Results as WasmParams>::types(),
                );
                let body = move |$store: *mut StoreOpaque, $vmctx: *mut VMContext, slots: *mut u64| {
                    let handle = $store.cast::<StoreHandle>();
                    // SAFETY: the slots hold the arguments and have room for the results, as `ty` says; the store is of
                    // data `T`; the context is null or live, and a view of its memory is gone when the closure returns.
                    unsafe {
                        let ($($name,)*) = <($($name,)*) as WasmResults>::load(slots, handle);
                        let results = self($($value,)? $($name),*).into_results()?;
                        if <R::Results as WasmParams>::COLLECTED {
                            (*$store).collect_if_due();
                        }
                        results.store(slots, handle)
                    }
                };
                // SAFETY: the body goes by `ty`; `T` is upheld by the typed linkers and stores that take it.
                HostFuncBox(unsafe { HostFunc::new(ty, body) })
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

/// A function whose parameters `P` and results `R` are known to Rust. See [`Func::typed`].
pub struct TypedFunc<P, R> {
    func: Func,
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

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    pub(crate) fn new(func: Func, ty: &FuncType) -> Result<Self> {
        let wanted = FuncType::new(P::types(), R::types());
        if *ty != wanted {
            return Err(Error::usage(format!("the function has type {ty:#}, not {wanted:#}")));
        }
        Ok(TypedFunc { func, _types: PhantomData })
    }

    /// The function without its Rust type.
    pub fn func(&self) -> Func {
        self.func
    }

    /// Calls it.
    ///
    /// # Errors
    /// Whatever ends it: a trap, an exit, an error of a host function.
    ///
    /// # Panics
    /// If `store` is not the function's; and it resumes the panic of a host function that it calls.
    pub fn call(&self, mut store: impl AsContextMut, params: P) -> Result<R> {
        /// Slots on the stack for nearly all signatures: 16 parameters and results of any type fit.
        const SLOTS: usize = 32;
        const { assert!(P::SLOTS <= SLOTS && R::SLOTS <= SLOTS) };
        let store = store.as_context_mut().into_inner().opaque.as_ptr();
        let mut slots = [const { std::mem::MaybeUninit::<u64>::uninit() }; SLOTS];
        let slots = slots.as_mut_ptr().cast::<u64>();
        // SAFETY: the buffer has room for both, the types were compared in `new`, the store is checked by `func_ref`.
        unsafe {
            let func = self.func.func_ref(&*store);
            if P::COLLECTED {
                (*store).collect_if_due();
            }
            params.store(slots, store.cast())?;
            invoke(store, func, slots)?;
            Ok(R::load(slots, store.cast()))
        }
    }
}
