//! The runtime functions that compiled code calls: one list, from which the JIT derives signatures and table offsets.
//!
//! Each takes the caller's VMContext first. One that fails makes its error the store's pending one
//! ([`StoreOpaque::raise`](super::store::StoreOpaque)) and returns a failure value, at which compiled code starts unwinding.
//! The interpreter calls the functions of `ops`, `instance` and `exception` that these wrap.

use super::context::VMContext;

/// The type of an argument or result of a runtime function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LibcallType {
    /// `u32`
    I32,
    /// `u64` or a pointer
    I64,
    /// A `u32` status: zero for success; otherwise the store has a pending error, and the code must trap.
    Trap,
    /// A `u64`, what was made; zero if that failed: the store has a pending error, and the code must trap.
    Made,
    /// A `u64`: the old size of what was grown, -1 if it could not grow, or [`FAILED`].
    Size,
}

/// A [`Size`](LibcallType::Size) that means: the store has a pending error, and the code must trap.
pub(crate) const FAILED: u64 = u64::MAX - 1;

/// The list of runtime functions: expands `$callback!` with `name(arguments after the VMContext) -> result` of each.
macro_rules! for_each_libcall {
    ($callback:ident) => {
        $callback! {
            /// `memory.grow` by `delta` pages; returns the old size in pages, or -1.
            memory_grow(memory: I32, delta: I64) -> Size;
            memory_fill(memory: I32, dst: I64, value: I32, len: I64) -> Trap;
            memory_copy(dst_memory: I32, src_memory: I32, dst: I64, src: I64, len: I64) -> Trap;
            memory_init(memory: I32, segment: I32, dst: I64, src: I32, len: I32) -> Trap;
            data_drop(segment: I32) -> I32;
            /// `table.grow` by `delta` elements of `init`; returns the old size, or -1.
            table_grow(table: I32, delta: I64, init: I64) -> Size;
            table_fill(table: I32, dst: I64, value: I64, len: I64) -> Trap;
            table_copy(dst_table: I32, src_table: I32, dst: I64, src: I64, len: I64) -> Trap;
            table_init(table: I32, segment: I32, dst: I64, src: I32, len: I32) -> Trap;
            elem_drop(segment: I32) -> I32;
            /// `ref.func`: the reference to the function of index `func` in the function index space.
            ref_func(func: I32) -> I64;
            /// Allocates an exception with a copy of the payload in the slots at `payload`. Returns 0 if it fails: the store
            /// has a pending error, and the code must trap.
            exception_new(tag: I32, payload: I64) -> I64;
            /// The function in a slot of the payload of an exception with this tag.
            exception_func(tag: I32, exception: I64, slot: I32) -> Size;
            /// Decides how to go on when less fuel is left than a segment costs; if the code goes on, that has been paid.
            fuel_exhausted(price: I64) -> Trap;
            /// Makes a trap, given by its code, the store's pending error.
            set_pending_trap(code: I32) -> I32;
            /// Makes the trap for an access of `size` bytes at `address` the store's pending error.
            memory_out_of_bounds(memory: I32, address: I64, size: I64) -> I32;
            /// `throw`, `throw_ref`: makes an exception the pending one, its backtrace starting here; for null, makes the trap
            /// the pending error.
            throw_ref(exception: I64) -> I32;
            /// Resumes the throw of an exception that a handler was entered for and did not catch.
            resume_throw(exception: I64) -> I32;
            /// A structure whose fields are zero.
            struct_new_default(ty: I32) -> Made;
            /// An array whose elements are zero.
            array_new_default(ty: I32, length: I32) -> Made;
            /// An array of the value in the slots at `value`.
            array_new_filled(ty: I32, value: I64, length: I32) -> Made;
            array_new_data(ty: I32, segment: I32, offset: I32, length: I32) -> Made;
            array_new_elem(ty: I32, segment: I32, offset: I32, length: I32) -> Made;
            /// Sets elements to the value in the slots at `value`.
            array_fill(ty: I32, array: I64, index: I32, value: I64, length: I32) -> Trap;
            array_copy(ty: I32, to: I64, to_index: I32, from: I64, from_index: I32, length: I32) -> Trap;
            /// Moves bytes of the heap, which are known to be there; the ranges may overlap.
            move_bytes(to: I64, from: I64, len: I64) -> I32;
            array_init_data(ty: I32, segment: I32, array: I64, index: I32, offset: I32, length: I32) -> Trap;
            array_init_elem(ty: I32, segment: I32, array: I64, index: I32, offset: I32, length: I32) -> Trap;
            /// Marks what a reference refers to that is about to be overwritten in an object.
            shade_reference(reference: I64) -> I32;
            /// The number of a function in the heap, which it gets if it has none.
            func_to_id(func: I64) -> Made;
            /// `memory.atomic.notify` at the sum of index and offset; returns how many were woken.
            atomic_notify(memory: I32, index: I64, offset: I64, count: I32) -> Size;
        }
    };
}
pub(crate) use for_each_libcall;

macro_rules! rust_type {
    (I32) => {
        u32
    };
    (I64) => {
        u64
    };
    (Trap) => {
        u32
    };
    (Size) => {
        u64
    };
    (Made) => {
        u64
    };
}

macro_rules! declare {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ident),*) -> $result:ident;)*) => {
        /// The table that [`VMContext::libcalls`] points to.
        #[repr(C)]
        pub(crate) struct Libcalls {
            $($(#[$doc])* pub $name: unsafe extern "C" fn(*mut VMContext, $(rust_type!($ty)),*) -> rust_type!($result),)*
        }

        static TABLE: Libcalls = Libcalls { $($name: entry::$name,)* };
    };
}

for_each_libcall!(declare);

/// The table of runtime functions; all contexts share it.
pub(crate) fn table() -> *const Libcalls {
    &raw const TABLE
}

/// The functions of the table, with the ABI of compiled code.
///
/// # Safety
/// For all: the context must be that of the running code, indices must be validated ones of its module, and slots must hold
/// values of the types that the instruction has.
mod entry {
    use super::super::context::VMFuncRef;
    use super::super::gc::{functions, ops as gc};
    use super::super::{exception, fuel, heap, instance, ops, store::StoreOpaque};
    use super::{FAILED, VMContext};
    use crate::error::{Result, Trap};

    /// Makes an error the store's pending one; returns the status that says so.
    ///
    /// # Safety
    /// The context must be live.
    unsafe fn status(vmctx: *mut VMContext, result: Result<()>) -> u32 {
        match result {
            Ok(()) => 0,
            Err(error) => {
                // SAFETY: the context is live by the caller's promise, so its store is.
                unsafe { (*(*vmctx).store.cast::<StoreOpaque>()).raise(error) };
                1
            }
        }
    }

    /// As `status`, for a function that returns a size.
    ///
    /// # Safety
    /// The context must be live.
    unsafe fn size(vmctx: *mut VMContext, result: Result<u64>) -> u64 {
        // SAFETY: the context is live by the caller's promise.
        result.unwrap_or_else(|error| unsafe {
            status(vmctx, Err(error));
            FAILED
        })
    }

    /// As `status`, for a function that makes something.
    ///
    /// # Safety
    /// The context must be live.
    unsafe fn made(vmctx: *mut VMContext, result: Result<u32>) -> u64 {
        // SAFETY: the context is live by the caller's promise.
        result.map_or_else(
            |error| unsafe {
                status(vmctx, Err(error));
                0
            },
            u64::from,
        )
    }

    macro_rules! entries {
        ($($name:ident($vmctx:ident, $($arg:ident: $ty:ty),*) -> $result:ty { $body:expr })*) => {
            $(pub unsafe extern "C" fn $name($vmctx: *mut VMContext, $($arg: $ty),*) -> $result {
                // SAFETY: compiled code passes its own context, validated indices, and values of the instruction's types.
                unsafe { $body }
            })*
        };
    }

    entries! {
        memory_grow(vmctx, memory: u32, delta: u64) -> u64 { size(vmctx, ops::memory_grow(vmctx, memory, delta)) }
        memory_fill(vmctx, memory: u32, dst: u64, value: u32, len: u64) -> u32 {
            status(vmctx, ops::memory_fill(vmctx, memory, dst, value, len))
        }
        memory_copy(vmctx, dst_memory: u32, src_memory: u32, dst: u64, src: u64, len: u64) -> u32 {
            status(vmctx, ops::memory_copy(vmctx, dst_memory, src_memory, dst, src, len))
        }
        memory_init(vmctx, memory: u32, segment: u32, dst: u64, src: u32, len: u32) -> u32 {
            status(vmctx, ops::memory_init(vmctx, memory, segment, dst, src, len, ops::Payer::Guest))
        }
        data_drop(vmctx, segment: u32) -> u32 {{
            ops::data_drop(vmctx, segment);
            0
        }}
        table_grow(vmctx, table: u32, delta: u64, init: u64) -> u64 {
            size(vmctx, ops::table_grow(vmctx, table, delta, init))
        }
        table_fill(vmctx, table: u32, dst: u64, value: u64, len: u64) -> u32 {
            status(vmctx, ops::table_fill(vmctx, table, dst, value, len))
        }
        table_copy(vmctx, dst_table: u32, src_table: u32, dst: u64, src: u64, len: u64) -> u32 {
            status(vmctx, ops::table_copy(vmctx, dst_table, src_table, dst, src, len))
        }
        table_init(vmctx, table: u32, segment: u32, dst: u64, src: u32, len: u32) -> u32 {
            status(vmctx, ops::table_init(vmctx, table, segment, dst, src, len, ops::Payer::Guest))
        }
        elem_drop(vmctx, segment: u32) -> u32 {{
            ops::elem_drop(vmctx, segment);
            0
        }}
        ref_func(vmctx, func: u32) -> u64 { instance::func_ref(vmctx, func) as u64 }
        exception_new(vmctx, tag: u32, payload: u64) -> u64 {
            match exception::new(vmctx, tag, payload as usize as *const u64) {
                Ok(exception) => exception.into(),
                Err(error) => {
                    (*(*vmctx).store.cast::<StoreOpaque>()).raise(error);
                    0
                }
            }
        }
        exception_func(vmctx, tag: u32, exception: u64, slot: u32) -> u64 {
            size(vmctx, exception::function(vmctx, tag, exception as u32, slot))
        }
        fuel_exhausted(vmctx, price: u64) -> u32 { status(vmctx, fuel::exhausted((*vmctx).store.cast(), price)) }
        set_pending_trap(vmctx, code: u32) -> u32 {
            status(vmctx, Err(Trap::from_code(code as u8).expect("compiled code has no other codes").into()))
        }
        memory_out_of_bounds(vmctx, memory: u32, address: u64, size: u64) -> u32 {
            status(vmctx, Err(ops::out_of_bounds(vmctx, memory, address, size)))
        }
        throw_ref(vmctx, exception: u64) -> u32 {
            if exception == 0 {
                status(vmctx, Err(Trap::NullExceptionReference.into()))
            } else {
                exception::begin_propagation(&mut *(*vmctx).store.cast::<StoreOpaque>());
                (*(*vmctx).store).thrown = exception;
                0
            }
        }
        resume_throw(vmctx, exception: u64) -> u32 {{
            if (*(*vmctx).store).in_flight != exception {
                exception::begin_propagation(&mut *(*vmctx).store.cast::<StoreOpaque>());
            }
            (*(*vmctx).store).thrown = exception;
            0
        }}
        struct_new_default(vmctx, ty: u32) -> u64 { made(vmctx, gc::struct_new_default(vmctx, ty)) }
        array_new_default(vmctx, ty: u32, length: u32) -> u64 {
            made(vmctx, gc::array_new_default(vmctx, ty, length, ops::Payer::Guest))
        }
        array_new_filled(vmctx, ty: u32, value: u64, length: u32) -> u64 {
            made(vmctx, gc::array_new(vmctx, ty, value as usize as *const u64, length, ops::Payer::Guest))
        }
        array_new_data(vmctx, ty: u32, segment: u32, offset: u32, length: u32) -> u64 {
            made(vmctx, gc::array_new_data(vmctx, ty, segment, offset, length))
        }
        array_new_elem(vmctx, ty: u32, segment: u32, offset: u32, length: u32) -> u64 {
            made(vmctx, gc::array_new_elem(vmctx, ty, segment, offset, length))
        }
        array_fill(vmctx, ty: u32, array: u64, index: u32, value: u64, length: u32) -> u32 {
            status(vmctx, gc::array_fill(vmctx, ty, (array as u32, index, length), value as usize as *const u64))
        }
        array_copy(vmctx, ty: u32, to: u64, to_index: u32, from: u64, from_index: u32, length: u32) -> u32 {
            status(vmctx, gc::array_copy(vmctx, ty, (to as u32, to_index), (from as u32, from_index), length))
        }
        move_bytes(_vmctx, to: u64, from: u64, len: u64) -> u32 {{
            std::ptr::copy(from as usize as *const u8, to as usize as *mut u8, len as usize);
            0
        }}
        array_init_data(vmctx, ty: u32, segment: u32, array: u64, index: u32, offset: u32, length: u32) -> u32 {
            status(vmctx, gc::array_init_data(vmctx, ty, segment, (array as u32, index, length), offset))
        }
        array_init_elem(vmctx, ty: u32, segment: u32, array: u64, index: u32, offset: u32, length: u32) -> u32 {
            status(vmctx, gc::array_init_elem(vmctx, ty, segment, (array as u32, index, length), offset))
        }
        shade_reference(vmctx, reference: u64) -> u32 {{
            heap::shade(&mut *(*vmctx).store.cast::<StoreOpaque>(), &[reference as u32]);
            0
        }}
        func_to_id(vmctx, func: u64) -> u64 {
            made(vmctx, functions::func_to_id((*vmctx).store.cast(), func as usize as *mut VMFuncRef))
        }
        atomic_notify(vmctx, memory: u32, index: u64, offset: u64, count: u32) -> u64 {
            size(vmctx, ops::atomic_notify(vmctx, memory, (index, offset), count).map(u64::from))
        }
    }
}
