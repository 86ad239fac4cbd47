//! The handlers: what each instruction does, written once for both dispatches.
//!
//! A handler is a type. Those of instructions with forms are generic over the operation ([`ops`]) and the form; instructions
//! without forms have a type each ([`plain`]). Each category of instructions has its file, named as in `translate`, in
//! `baseline` and in the JIT's `lower`.

/// What `Plain` instructions do, in the file of their category: functions of their names.
macro_rules! run {
    ($($name:ident($m:ident) $body:expr)*) => {
        #[allow(non_snake_case, reason = "named like the instructions")]
        pub(super) mod run {
            use super::*;

            $(
                #[inline(always)]
                pub fn $name($m: &mut Machine) -> Flow {
                    $body
                }
            )*
        }
    };
}

pub(super) mod atomic;
mod call;
pub(super) mod control;
mod exception;
mod fuel;
mod gc;
pub(super) mod memory;
pub(super) mod numeric;
pub(super) mod plain;
mod reference;
pub(super) mod simd;
mod table;
pub(super) mod tier;
mod variable;

/// The operations of the list, as types that implement the trait of their class.
pub(super) mod ops {
    use super::{atomic, memory, numeric as scalar, simd as vector};
    use crate::error::Trap;
    use crate::interp::op::for_each_op;
    use crate::numeric::simd::V128;
    use crate::numeric::{self, simd};
    use crate::vm::racy::{Wide, narrow, widen};

    macro_rules! operations {
        (
            plain $plain:tt
            compare { $($compare:ident($ca:ident, $cb:ident: $ct:ident) $compare_body:tt)* }
            tested { $($negated:ident($na:ident, $nb:ident: $nt:ident) $negated_body:tt)* }
            binary { $($binary:ident($ba:ident, $bb:ident: $bt:ident) $comm:ident $binary_body:tt)* }
            unary { $($unary:ident($ua:ident: $ut:ident) -> $unary_out:ident $unary_body:tt)* }
            load { $($load:ident($lx:ident: $load_unit:ident) -> $load_out:ident $load_body:tt)* }
            store { $($store:ident($sx:ident: $store_in:ident) -> $store_unit:ident $store_body:tt)* }
            atomic_load { $($al:ident $al_unit:ident;)* }
            atomic_store { $($as:ident $as_unit:ident;)* }
            atomic_rmw { $($ar:ident $ar_fn:ident $ar_unit:ident;)* }
            atomic_cmpxchg { $($ac:ident $ac_unit:ident;)* }
            load_lane { $($load_lane:ident($lv:ident, $ll:ident, $lu:ident: $lt:ident) $ll_body:tt)* }
            store_lane { $($store_lane:ident($sv:ident, $sl:ident) -> $st:ident $sl_body:tt)* }
            splat { $($splat:ident $splat_fn:ident $splat_ty:ident;)* }
            extract { $($extract:ident $extract_fn:ident $extract_ty:ident;)* }
            replace { $($replace:ident $replace_fn:ident $replace_ty:ident;)* }
            vector_binary { $($vb:ident $vb_fn:ident;)* }
            vector_unary { $($vu:ident $vu_fn:ident;)* }
            vector_ternary { $($vt:ident $vt_fn:ident;)* }
            vector_swizzle { $($vz:ident $vz_fn:ident;)* }
            vector_fused { $($vf:ident $vf_fn:ident;)* }
            vector_shift { $($vs:ident $vs_fn:ident;)* }
            vector_test { $($vx:ident $vx_fn:ident;)* }
        ) => {
            operations! { @types
                $($compare)* $($negated)* $($binary)* $($unary)* $($load)* $($store)* $($al)* $($as)* $($ar)* $($ac)* $($load_lane)* $($store_lane)*
                $($splat)* $($extract)* $($replace)* $($vb)* $($vu)* $($vt)* $($vz)* $($vf)* $($vs)* $($vx)*
            }
            $(impl scalar::CompareOp for $compare {
                type Operand = $ct;
                #[inline(always)]
                fn holds($ca: $ct, $cb: $ct) -> bool $compare_body
            })*
            $(impl scalar::CompareOp for $negated {
                type Operand = $nt;
                #[inline(always)]
                #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "true for NaN is what these are for")]
                fn holds($na: $nt, $nb: $nt) -> bool $negated_body
            })*
            $(impl scalar::BinaryOp for $binary {
                type Operand = $bt;
                #[inline(always)]
                fn apply($ba: $bt, $bb: $bt) -> Result<$bt, Trap> { Ok($binary_body) }
            })*
            $(impl scalar::UnaryOp for $unary {
                type Operand = $ut;
                type Output = $unary_out;
                #[inline(always)]
                fn apply($ua: $ut) -> Result<$unary_out, Trap> { Ok($unary_body) }
            })*
            $(impl memory::LoadOp for $load {
                type Unit = $load_unit;
                type Output = $load_out;
                #[inline(always)]
                fn extend($lx: $load_unit) -> $load_out $load_body
            })*
            $(impl memory::StoreOp for $store {
                type Value = $store_in;
                type Unit = $store_unit;
                #[inline(always)]
                fn wrap($sx: $store_in) -> $store_unit $store_body
            })*
            $(impl atomic::AtomicLoadOp for $al {
                type Unit = $al_unit;
            })*
            $(impl atomic::AtomicStoreOp for $as {
                type Unit = $as_unit;
            })*
            $(impl atomic::AtomicRmwOp for $ar {
                type Unit = $ar_unit;
                #[inline(always)]
                unsafe fn apply(place: *mut u8, operand: $ar_unit) -> $ar_unit {
                    // SAFETY: the caller's promise.
                    unsafe { atomic::AtomicUnit::$ar_fn(place, operand) }
                }
            })*
            $(impl atomic::AtomicCmpxchgOp for $ac {
                type Unit = $ac_unit;
            })*
            $(impl vector::LoadLaneOp for $load_lane {
                type Unit = $lt;
                #[inline(always)]
                fn insert($lv: V128, $ll: u8, $lu: $lt) -> V128 $ll_body
            })*
            $(impl vector::StoreLaneOp for $store_lane {
                type Unit = $st;
                #[inline(always)]
                fn extract($sv: V128, $sl: u8) -> $st $sl_body
            })*
            $(impl vector::SplatOp for $splat {
                type Operand = $splat_ty;
                #[inline(always)]
                fn apply(x: $splat_ty) -> V128 { simd::$splat_fn(x) }
            })*
            $(impl vector::ExtractOp for $extract {
                type Output = $extract_ty;
                #[inline(always)]
                fn apply(v: V128, lane: u8) -> $extract_ty { simd::$extract_fn(v, lane) }
            })*
            $(impl vector::ReplaceOp for $replace {
                type Operand = $replace_ty;
                #[inline(always)]
                fn apply(v: V128, lane: u8, x: $replace_ty) -> V128 { simd::$replace_fn(v, lane, x) }
            })*
            $(impl vector::VectorBinaryOp for $vb {
                #[inline(always)]
                fn apply(a: V128, b: V128) -> V128 { simd::$vb_fn(a, b) }
            })*
            $(impl vector::VectorUnaryOp for $vu {
                #[inline(always)]
                fn apply(a: V128) -> V128 { simd::$vu_fn(a) }
            })*
            $(impl vector::VectorTernaryOp for $vt {
                #[inline(always)]
                fn apply(a: V128, b: V128, c: V128) -> V128 { simd::$vt_fn(a, b, c) }
            })*
            $(impl vector::VectorBinaryOp for $vz {
                #[inline(always)]
                fn apply(a: V128, b: V128) -> V128 { simd::$vz_fn(a, b) }
            })*
            $(impl vector::VectorTernaryOp for $vf {
                #[inline(always)]
                fn apply(a: V128, b: V128, c: V128) -> V128 { simd::$vf_fn(a, b, c) }
            })*
            $(impl vector::VectorShiftOp for $vs {
                #[inline(always)]
                fn apply(a: V128, bits: u32) -> V128 { simd::$vs_fn(a, bits) }
            })*
            $(impl vector::VectorTestOp for $vx {
                #[inline(always)]
                fn apply(a: V128) -> u32 { simd::$vx_fn(a) }
            })*
        };
        (@types $($name:ident)*) => {
            $(
                pub struct $name;
                impl super::Named for $name {
                    const NAME: &'static str = stringify!($name);
                }
            )*
        };
    }

    for_each_op!(operations);
}

/// An operation's name in the list.
pub(super) trait Named {
    const NAME: &'static str;
}

/// An instruction's name as it is printed: `I32TruncF32S` is `i32_trunc_f32_s`.
pub(super) fn printed(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 6);
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The end of a printed name: `!` if the result is only left in the accumulator.
pub(super) fn kept(kept: bool) -> &'static str {
    if kept { "!" } else { "" }
}

/// A [`OpTable`](super::op::OpTable) with `$make::<H>` for every handler `H`.
macro_rules! dispatch_table {
    ($make:ident) => {
        $crate::interp::op::for_each_op!(handlers_of_list_into_table[$make])
    };
}

macro_rules! handlers_of_list_into_table {
    (
        [$make:ident]
        plain { $($(#[$plain_doc:meta])* $plain:ident: $plain_fields:tt,)* }
        compare { $($compare:ident($($c:tt)*) $compare_body:tt)* }
        tested { $($negated:ident($($n:tt)*) $negated_body:tt)* }
        binary { $($binary:ident($($b:tt)*) $comm:ident $binary_body:tt)* }
        unary { $($unary:ident($($u:tt)*) -> $unary_out:ident $unary_body:tt)* }
        load { $($load:ident($($l:tt)*) -> $load_out:ident $load_body:tt)* }
        store { $($store:ident($($s:tt)*) -> $store_unit:ident $store_body:tt)* }
        atomic_load { $($al:ident $al_unit:ident;)* }
        atomic_store { $($as:ident $as_unit:ident;)* }
        atomic_rmw { $($ar:ident $ar_fn:ident $ar_unit:ident;)* }
        atomic_cmpxchg { $($ac:ident $ac_unit:ident;)* }
        load_lane { $($load_lane:ident($($ll:tt)*) $ll_body:tt)* }
        store_lane { $($store_lane:ident($($sl:tt)*) -> $st:ident $sl_body:tt)* }
        splat { $($splat:ident $splat_fn:ident $splat_ty:ident;)* }
        extract { $($extract:ident $extract_fn:ident $extract_ty:ident;)* }
        replace { $($replace:ident $replace_fn:ident $replace_ty:ident;)* }
        vector_binary { $($vb:ident $vb_fn:ident;)* }
        vector_unary { $($vu:ident $vu_fn:ident;)* }
        vector_ternary { $($vt:ident $vt_fn:ident;)* }
        vector_swizzle { $($vz:ident $vz_fn:ident;)* }
        vector_fused { $($vf:ident $vf_fn:ident;)* }
        vector_shift { $($vs:ident $vs_fn:ident;)* }
        vector_test { $($vx:ident $vx_fn:ident;)* }
    ) => {{
        use $crate::interp::exec::{atomic, control, memory, numeric as scalar, numeric::form, ops, plain, simd as vector};
        $crate::interp::op::OpTable {
            plain: [$($make::<plain::$plain>),*],
            compare: $crate::interp::exec::compare_rows!($make scalar::CompareHandler [$($compare)* $($negated)*]),
            branch: $crate::interp::exec::compare_rows!($make control::BranchHandler [$($compare)* $($negated)*]),
            step: $crate::interp::exec::step_rows!($make
                [I32Eq I32Ne I32LtS I32LtU I32GtS I32GtU I32LeS I32LeU I32GeS I32GeU]),
            binary: [$([
                $make::<scalar::BinaryHandler<ops::$binary, form::SS, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::AS, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SA, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SI, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::AI, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SK, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::KS, false>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SS, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::AS, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SA, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SI, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::AI, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::SK, true>>,
                $make::<scalar::BinaryHandler<ops::$binary, form::KS, true>>,
            ]),*],
            unary: [$([
                $make::<scalar::UnaryHandler<ops::$unary, false, false>>,
                $make::<scalar::UnaryHandler<ops::$unary, true, false>>,
                $make::<scalar::UnaryHandler<ops::$unary, false, true>>,
                $make::<scalar::UnaryHandler<ops::$unary, true, true>>,
            ]),*],
            load: [$([
                $make::<memory::LoadHandler<ops::$load, memory::AtSlot, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtAcc, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtConst, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtSum, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtIndex, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtDeref, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtAccDeref, false>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtSlot, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtAcc, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtConst, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtSum, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtIndex, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtDeref, true>>,
                $make::<memory::LoadHandler<ops::$load, memory::AtAccDeref, true>>,
                $make::<memory::LoadAnyHandler<ops::$load>>,
            ]),*],
            store: [$([
                $make::<memory::StoreHandler<ops::$store, memory::Slots>>,
                $make::<memory::StoreHandler<ops::$store, memory::AddrAcc>>,
                $make::<memory::StoreHandler<ops::$store, memory::ValueAcc>>,
                $make::<memory::StoreHandler<ops::$store, memory::ValueImm>>,
                $make::<memory::StoreHandler<ops::$store, memory::AccImm>>,
                $make::<memory::StoreHandler<ops::$store, memory::AddrConst>>,
                $make::<memory::StoreAnyHandler<ops::$store>>,
            ]),*],
            atomic_load: [$($make::<atomic::AtomicLoadHandler<ops::$al>>),*],
            atomic_store: [$($make::<atomic::AtomicStoreHandler<ops::$as>>),*],
            atomic_rmw: [$($make::<atomic::AtomicRmwHandler<ops::$ar>>),*],
            atomic_cmpxchg: [$($make::<atomic::AtomicCmpxchgHandler<ops::$ac>>),*],
            load_lane: [$($make::<vector::LoadLaneHandler<ops::$load_lane>>),*],
            store_lane: [$($make::<vector::StoreLaneHandler<ops::$store_lane>>),*],
            splat: [$($make::<vector::SplatHandler<ops::$splat>>),*],
            extract: [$($make::<vector::ExtractHandler<ops::$extract>>),*],
            replace: [$($make::<vector::ReplaceHandler<ops::$replace>>),*],
            vector_binary: [$($make::<vector::VectorBinaryHandler<ops::$vb>>),*],
            vector_unary: [$($make::<vector::VectorUnaryHandler<ops::$vu>>),*],
            vector_ternary: [$($make::<vector::VectorTernaryHandler<ops::$vt>>),*],
            vector_swizzle: [$($make::<vector::VectorSwizzleHandler<ops::$vz>>),*],
            vector_fused: [$($make::<vector::VectorFusedHandler<ops::$vf>>),*],
            vector_shift: [$($make::<vector::VectorShiftHandler<ops::$vs>>),*],
            vector_test: [$($make::<vector::VectorTestHandler<ops::$vx>>),*],
        }
    }};
}

macro_rules! compare_rows {
    ($make:ident $category:ident::$handler:ident [$($compare:ident)*]) => {
        [$([
            $make::<$category::$handler<ops::$compare, form::SS>>,
            $make::<$category::$handler<ops::$compare, form::AS>>,
            $make::<$category::$handler<ops::$compare, form::SA>>,
            $make::<$category::$handler<ops::$compare, form::SI>>,
            $make::<$category::$handler<ops::$compare, form::AI>>,
            $make::<$category::$handler<ops::$compare, form::SK>>,
        ]),*]
    };
}

macro_rules! step_rows {
    ($make:ident [$($compare:ident)*]) => {
        [$([$make::<control::StepHandler<ops::$compare, false>>, $make::<control::StepHandler<ops::$compare, true>>]),*]
    };
}

pub(super) use {compare_rows, dispatch_table, handlers_of_list_into_table, step_rows};
