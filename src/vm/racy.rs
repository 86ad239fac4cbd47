//! Accesses to bytes of a memory that other threads may access at the same time.
//!
//! To Rust two such accesses are a data race unless both are atomic and of one size, which WebAssembly's need not be. So the
//! compiler does not get to see them: each is one instruction that it knows nothing of but the result. Where there are no such
//! instructions here, an access is atomic where it is aligned, and otherwise goes byte by byte. Either way the result of a race is
//! some bytes of one and some of the other, which is what WebAssembly specifies.
//!
//! They cost no more than accesses to memory of one's own, so the interpreter has no others.

use std::mem::transmute;

use crate::numeric::simd::V128;

/// A vector in the form in which accesses leave it in a register.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) type Wide = std::arch::x86_64::__m128i;
/// A vector in the form in which accesses leave it in a register.
#[cfg(all(target_arch = "aarch64", not(miri)))]
pub(crate) type Wide = std::arch::aarch64::uint8x16_t;
/// A vector in the form in which accesses leave it in registers.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) type Wide = [u64; 2];

/// The vector that has the bytes of `wide`.
#[inline(always)]
pub(crate) fn narrow(wide: Wide) -> V128 {
    // SAFETY: both are 16 bytes, of any value.
    unsafe { transmute(wide) }
}

/// The bytes of a vector.
#[inline(always)]
pub(crate) fn widen(vector: V128) -> Wide {
    // SAFETY: as above.
    unsafe { transmute(vector) }
}

/// What one access reads or writes, in the host's byte order.
pub(crate) trait Racy: Copy {
    /// Reads what is at `base + index`.
    ///
    /// # Safety
    /// Its bytes are readable.
    unsafe fn load_racy(base: *const u8, index: usize) -> Self;

    /// Writes it to `base + index`.
    ///
    /// # Safety
    /// Its bytes are writable, and no Rust reference to them is in use.
    unsafe fn store_racy(self, base: *mut u8, index: usize);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod target {
    use std::arch::asm;
    use std::hint::assert_unchecked;

    use super::{Racy, Wide};

    macro_rules! integers {
        ($($ty:ident $load:literal $store:literal $register:ident;)*) => {
            $(impl Racy for $ty {
                #[inline(always)]
                unsafe fn load_racy(base: *const u8, index: usize) -> Self {
                    let value: u64;
                    // SAFETY: the bytes are readable by the caller's promise. The instruction zeroes what is above them.
                    unsafe {
                        asm!(
                            $load, value = out(reg) value, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags, readonly)
                        );
                        assert_unchecked(value <= $ty::MAX as u64);
                    }
                    value as $ty
                }

                #[inline(always)]
                unsafe fn store_racy(self, base: *mut u8, index: usize) {
                    // SAFETY: the bytes are writable by the caller's promise.
                    unsafe {
                        asm!(
                            $store, value = in($register) self, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags)
                        );
                    }
                }
            })*
        };
    }

    integers! {
        u8 "movzx {value:e}, byte ptr [{base} + {index}]" "mov byte ptr [{base} + {index}], {value}" reg_byte;
        u16 "movzx {value:e}, word ptr [{base} + {index}]" "mov word ptr [{base} + {index}], {value:x}" reg;
        u32 "mov {value:e}, dword ptr [{base} + {index}]" "mov dword ptr [{base} + {index}], {value:e}" reg;
        u64 "mov {value}, qword ptr [{base} + {index}]" "mov qword ptr [{base} + {index}], {value}" reg;
    }

    macro_rules! vectors {
        ($($ty:ident $load:literal $store:literal;)*) => {
            $(impl Racy for $ty {
                #[inline(always)]
                unsafe fn load_racy(base: *const u8, index: usize) -> Self {
                    let value: Self;
                    // SAFETY: the bytes are readable by the caller's promise.
                    unsafe {
                        asm!(
                            $load, value = out(xmm_reg) value, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags, readonly)
                        );
                    }
                    value
                }

                #[inline(always)]
                unsafe fn store_racy(self, base: *mut u8, index: usize) {
                    // SAFETY: the bytes are writable by the caller's promise.
                    unsafe {
                        asm!(
                            $store, value = in(xmm_reg) self, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags)
                        );
                    }
                }
            })*
        };
    }

    vectors! {
        f32 "movss {value}, dword ptr [{base} + {index}]" "movss dword ptr [{base} + {index}], {value}";
        f64 "movsd {value}, qword ptr [{base} + {index}]" "movsd qword ptr [{base} + {index}], {value}";
        Wide "movups {value}, [{base} + {index}]" "movups [{base} + {index}], {value}";
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod target {
    use std::arch::asm;

    use super::{Racy, Wide};

    macro_rules! accesses {
        ($($ty:ident as $operand:ident in $register:ident $load:literal $store:literal;)*) => {
            $(impl Racy for $ty {
                #[inline(always)]
                unsafe fn load_racy(base: *const u8, index: usize) -> Self {
                    let value: $operand;
                    // SAFETY: the bytes are readable by the caller's promise.
                    unsafe {
                        asm!(
                            $load, value = out($register) value, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags, readonly)
                        );
                    }
                    value as $ty
                }

                #[inline(always)]
                unsafe fn store_racy(self, base: *mut u8, index: usize) {
                    // SAFETY: the bytes are writable by the caller's promise.
                    unsafe {
                        asm!(
                            $store, value = in($register) self as $operand, base = in(reg) base, index = in(reg) index,
                            options(nostack, preserves_flags)
                        );
                    }
                }
            })*
        };
    }

    accesses! {
        u8 as u32 in reg "ldrb {value:w}, [{base}, {index}]" "strb {value:w}, [{base}, {index}]";
        u16 as u32 in reg "ldrh {value:w}, [{base}, {index}]" "strh {value:w}, [{base}, {index}]";
        u32 as u32 in reg "ldr {value:w}, [{base}, {index}]" "str {value:w}, [{base}, {index}]";
        u64 as u64 in reg "ldr {value}, [{base}, {index}]" "str {value}, [{base}, {index}]";
        f32 as f32 in vreg "ldr {value:s}, [{base}, {index}]" "str {value:s}, [{base}, {index}]";
        f64 as f64 in vreg "ldr {value:d}, [{base}, {index}]" "str {value:d}, [{base}, {index}]";
        Wide as Wide in vreg "ldr {value:q}, [{base}, {index}]" "str {value:q}, [{base}, {index}]";
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod target {
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

    use super::{Racy, Wide};

    macro_rules! integers {
        ($($ty:ident as $atomic:ident;)*) => {
            $(impl Racy for $ty {
                #[inline(always)]
                unsafe fn load_racy(base: *const u8, index: usize) -> Self {
                    let place = base.wrapping_add(index).cast_mut();
                    // SAFETY: the bytes are readable by the caller's promise, and nobody refers to them; the place is a multiple of
                    // the size where that matters.
                    unsafe {
                        if place.addr().is_multiple_of(size_of::<Self>()) {
                            return $atomic::from_ptr(place.cast()).load(Relaxed);
                        }
                        let byte = |at| AtomicU8::from_ptr(place.wrapping_add(at)).load(Relaxed);
                        $ty::from_ne_bytes(std::array::from_fn(byte))
                    }
                }

                #[inline(always)]
                unsafe fn store_racy(self, base: *mut u8, index: usize) {
                    let place = base.wrapping_add(index);
                    // SAFETY: the bytes are writable by the caller's promise; the rest as above.
                    unsafe {
                        if place.addr().is_multiple_of(size_of::<Self>()) {
                            return $atomic::from_ptr(place.cast()).store(self, Relaxed);
                        }
                        for (at, byte) in self.to_ne_bytes().into_iter().enumerate() {
                            AtomicU8::from_ptr(place.wrapping_add(at)).store(byte, Relaxed);
                        }
                    }
                }
            })*
        };
    }

    integers! {
        u8 as AtomicU8;
        u16 as AtomicU16;
        u32 as AtomicU32;
        u64 as AtomicU64;
    }

    macro_rules! by_integers {
        ($($ty:ident as $integer:ty, $from:expr, $to:expr;)*) => {
            $(impl Racy for $ty {
                #[inline(always)]
                unsafe fn load_racy(base: *const u8, index: usize) -> Self {
                    // SAFETY: the caller's promise.
                    $from(unsafe { <$integer>::load_racy(base, index) })
                }

                #[inline(always)]
                unsafe fn store_racy(self, base: *mut u8, index: usize) {
                    // SAFETY: the caller's promise.
                    unsafe { $to(self).store_racy(base, index) };
                }
            })*
        };
    }

    by_integers! {
        f32 as u32, f32::from_bits, f32::to_bits;
        f64 as u64, f64::from_bits, f64::to_bits;
    }

    impl Racy for Wide {
        #[inline(always)]
        unsafe fn load_racy(base: *const u8, index: usize) -> Self {
            // SAFETY: the caller's promise.
            unsafe { [u64::load_racy(base, index), u64::load_racy(base, index.wrapping_add(8))] }
        }

        #[inline(always)]
        unsafe fn store_racy(self, base: *mut u8, index: usize) {
            let [low, high] = self;
            // SAFETY: the caller's promise.
            unsafe {
                low.store_racy(base, index);
                high.store_racy(base, index.wrapping_add(8));
            }
        }
    }
}

/// Bytes that are moved at once.
const WIDTH: usize = size_of::<Wide>();

/// Copies `len` bytes out of a memory.
///
/// # Safety
/// The bytes from `from` on are readable; those at `to` are writable, and no other thread accesses them.
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; a write to bytes of one's own is no race.
    unsafe { copy_up(from, to, len) };
}

/// Copies `data` into a memory.
///
/// # Safety
/// As many bytes from `to` on are writable, and no Rust reference to them is in use.
pub(crate) unsafe fn copy_in(data: &[u8], to: *mut u8) {
    // SAFETY: the caller's promise; a read of bytes that do not change is no race.
    unsafe { copy_up(data.as_ptr(), to, data.len()) };
}

/// Copies `len` bytes within a memory, or from one to another; the ranges may overlap.
///
/// # Safety
/// The bytes from `from` on are readable, and those from `to` on writable; no Rust reference to them is in use.
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise. Where the target begins within the source, the last bytes go first.
    unsafe {
        if to.addr().wrapping_sub(from.addr()) >= len {
            copy_up(from, to, len);
        } else {
            copy_down(from, to, len);
        }
    }
}

/// Moves one piece.
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
unsafe fn shift<T: Racy>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise.
    unsafe { T::load_racy(from, at).store_racy(to, at) };
}

/// [`copy`] from the first byte to the last. A range that is as long as one access is read by one and written by one.
///
/// # Safety
/// As for `copy`.
#[inline]
unsafe fn copy_up(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    // SAFETY: the caller's promise: all of a piece is below `len`. A piece is read before it is written, and a target that begins
    // before its source reaches no bytes that are yet to be read.
    unsafe {
        while len - at >= WIDTH {
            shift::<Wide>(from, to, at);
            at += WIDTH;
        }
        if len & 8 != 0 {
            shift::<u64>(from, to, at);
            at += 8;
        }
        if len & 4 != 0 {
            shift::<u32>(from, to, at);
            at += 4;
        }
        if len & 2 != 0 {
            shift::<u16>(from, to, at);
            at += 2;
        }
        if len & 1 != 0 {
            shift::<u8>(from, to, at);
        }
    }
}

/// [`copy`] from the last byte to the first.
///
/// # Safety
/// As for `copy`.
#[inline]
unsafe fn copy_down(from: *const u8, to: *mut u8, len: usize) {
    let mut end = len;
    // SAFETY: the caller's promise: all of a piece is below `len`.
    unsafe {
        while end >= WIDTH {
            end -= WIDTH;
            shift::<Wide>(from, to, end);
        }
        if len & 8 != 0 {
            end -= 8;
            shift::<u64>(from, to, end);
        }
        if len & 4 != 0 {
            end -= 4;
            shift::<u32>(from, to, end);
        }
        if len & 2 != 0 {
            end -= 2;
            shift::<u16>(from, to, end);
        }
        if len & 1 != 0 {
            shift::<u8>(from, to, 0);
        }
    }
}

/// Sets `len` bytes of a memory to `byte`.
///
/// # Safety
/// The bytes from `to` on are writable, and no Rust reference to them is in use.
pub(crate) unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let all = widen(V128::from(u128::from_ne_bytes([byte; WIDTH])));
    let mut at = 0;
    // SAFETY: the caller's promise: all of a piece is below `len`.
    unsafe {
        while len - at >= WIDTH {
            all.store_racy(to, at);
            at += WIDTH;
        }
        while at < len {
            byte.store_racy(to, at);
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 80;

    fn bytes() -> [u8; LEN] {
        std::array::from_fn(|at| at as u8 ^ 0x80)
    }

    /// Each width, at each alignment: only its own bytes, in the host's order, and NaNs as they are.
    #[test]
    fn an_access_is_to_its_bytes() {
        macro_rules! check {
            ($($ty:ident)*) => {
                $(for at in 0..32 {
                    let (mut place, size) = (bytes(), size_of::<$ty>());
                    // SAFETY: within the bytes.
                    let value = unsafe { $ty::load_racy(place.as_ptr(), at) };
                    assert_eq!(value.to_ne_bytes(), place[at..at + size]);
                    let written: [u8; size_of::<$ty>()] = [0xFF; size_of::<$ty>()];
                    // SAFETY: as above.
                    unsafe { $ty::from_ne_bytes(written).store_racy(place.as_mut_ptr(), at) };
                    let mut expected = bytes();
                    expected[at..at + size].fill(0xFF);
                    assert_eq!(place, expected, "{} at {at}", stringify!($ty));
                })*
            };
        }
        check! { u8 u16 u32 u64 f32 f64 }
        for at in 0..32 {
            let mut place = bytes();
            // SAFETY: within the bytes.
            unsafe { Wide::load_racy(place.as_ptr(), at).store_racy(place.as_mut_ptr(), 48) };
            let mut expected = bytes();
            expected.copy_within(at..at + 16, 48);
            assert_eq!(place, expected);
        }
    }

    #[test]
    fn ranges_are_copied_and_filled() {
        for len in 0..40 {
            for from in 0..20 {
                for to in 0..40 {
                    let (mut place, mut expected) = (bytes(), bytes());
                    // SAFETY: within the bytes.
                    unsafe { copy(place.as_ptr().add(from), place.as_mut_ptr().add(to), len) };
                    expected.copy_within(from..from + len, to);
                    assert_eq!(place, expected, "{len} bytes from {from} to {to}");
                }
                let (mut place, mut expected) = (bytes(), bytes());
                // SAFETY: within the bytes.
                unsafe { fill(place.as_mut_ptr().add(from), 7, len) };
                expected[from..from + len].fill(7);
                assert_eq!(place, expected);
                let (mut out, mut place) = ([0; LEN], bytes());
                // SAFETY: within the bytes.
                unsafe {
                    copy_out(place.as_ptr().add(from), out.as_mut_ptr(), len);
                    copy_in(&out[..len], place.as_mut_ptr().add(40));
                }
                let mut expected = bytes();
                expected.copy_within(from..from + len, 40);
                assert_eq!((place, &out[len..]), (expected, &[0; LEN][len..]));
            }
        }
    }
}
