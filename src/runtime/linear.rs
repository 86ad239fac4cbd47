//! The view of a linear memory that host functions get, with bounds-checked accessors.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::error::{MemoryFault, Trap};
use crate::vm::shared::SharedBytes;

/// A view of a linear memory, for the duration of a host call: bounds-checked, little-endian.
///
/// The view borrows the store, so the memory can't be dropped while the view is held, nor grow unless it is shared. An access that is out of
/// bounds fails with [`Trap::MemoryOutOfBounds`], which a host function may return with `?`; nothing has been written then.
///
/// Addresses and lengths may have any type that WebAssembly code passes them in: `u32`, `i32`, `u64`, `i64`, also `usize`. They
/// are taken as unsigned. The accessors copy bytes in and out, because other threads may write to a shared memory at any time.
/// If the memory is not shared, [`unshared_slice`](LinearMemory::unshared_slice) saves the copy.
///
/// ```
/// use wasmrun::LinearMemory;
/// let mut bytes = [0; 16];
/// let mut memory = LinearMemory::new(&mut bytes);
/// memory.write_u32(4, 0x01020304)?;
/// assert_eq!(memory.read_u8(4)?, 4);
/// memory.write(10, b"hello")?;
/// assert_eq!(memory.read_string(10, 5)?, "hello");
/// assert!(memory.read_u64(9).is_err());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Debug)]
pub struct LinearMemory<'a>(Bytes<'a>);

#[derive(Debug)]
enum Bytes<'a> {
    Unshared(&'a mut [u8]),
    Shared(SharedBytes<'a>),
}

/// An address in a linear memory, or a number of bytes there. As in WebAssembly code it is unsigned, whatever the Rust type: a
/// negative `i32` is an address above 2 GiB.
pub trait IntoAddress: Copy + private::Sealed {
    /// The address or number of bytes.
    fn into_address(self) -> u64;
}

mod private {
    pub trait Sealed {}
}

macro_rules! addresses {
    ($($ty:ty as $unsigned:ty;)*) => {
        $(
            impl private::Sealed for $ty {}
            impl IntoAddress for $ty {
                #[inline]
                fn into_address(self) -> u64 {
                    self as $unsigned as u64
                }
            }
        )*
    };
}

addresses! {
    u32 as u32;
    i32 as u32;
    u64 as u64;
    i64 as u64;
    usize as usize;
}

macro_rules! typed {
    ($($read:ident $write:ident $ty:ty;)*) => {
        $(
            #[doc = concat!("Reads a little-endian `", stringify!($ty), "` at `address`, which need not be aligned.")]
            ///
            /// # Errors
            /// [`Trap::MemoryOutOfBounds`].
            #[inline]
            pub fn $read(&self, address: impl IntoAddress) -> Result<$ty> {
                let mut bytes = [0; size_of::<$ty>()];
                self.read(address, &mut bytes)?;
                Ok(<$ty>::from_le_bytes(bytes))
            }

            #[doc = concat!("Writes a `", stringify!($ty), "` in little-endian order at `address`.")]
            ///
            /// # Errors
            /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
            #[inline]
            pub fn $write(&mut self, address: impl IntoAddress, value: $ty) -> Result<()> {
                self.write(address, &value.to_le_bytes())
            }
        )*
    };
}

impl<'a> LinearMemory<'a> {
    /// A view of `bytes`, for tests of host functions.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        LinearMemory(Bytes::Unshared(bytes))
    }

    /// A view of a shared memory.
    pub(crate) fn shared(bytes: SharedBytes<'a>) -> Self {
        LinearMemory(Bytes::Shared(bytes))
    }

    /// Whether other threads may access the memory at the same time.
    #[inline]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Bytes::Shared(_))
    }

    /// Length in bytes. That of a shared memory may have grown since the view was made.
    #[inline]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Bytes::Unshared(bytes) => bytes.len() as u64,
            Bytes::Shared(bytes) => bytes.len() as u64,
        }
    }

    /// Whether the memory has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `address` into `buffer`, which they fill.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if the range does not lie in the memory.
    #[inline]
    pub fn read(&self, address: impl IntoAddress, buffer: &mut [u8]) -> Result<()> {
        let range = self.range(address, buffer.len())?;
        match &self.0 {
            Bytes::Unshared(bytes) => buffer.copy_from_slice(&bytes[range]),
            Bytes::Shared(bytes) => bytes.read(range.start, buffer),
        }
        Ok(())
    }

    /// Copies `data` into the memory, from `address` on.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
    #[inline]
    pub fn write(&mut self, address: impl IntoAddress, data: &[u8]) -> Result<()> {
        let range = self.range(address, data.len())?;
        match &mut self.0 {
            Bytes::Unshared(bytes) => bytes[range].copy_from_slice(data),
            Bytes::Shared(bytes) => bytes.write(range.start, data),
        }
        Ok(())
    }

    /// Sets the `len` bytes from `address` to `byte`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
    pub fn fill(&mut self, address: impl IntoAddress, len: impl IntoAddress, byte: u8) -> Result<()> {
        let range = self.range(address, len)?;
        match &mut self.0 {
            Bytes::Unshared(bytes) => bytes[range].fill(byte),
            Bytes::Shared(bytes) => bytes.fill(range.start, byte, range.len()),
        }
        Ok(())
    }

    /// A copy of `len` bytes from `address` on.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`]; nothing is allocated then.
    pub fn read_vec(&self, address: impl IntoAddress, len: impl IntoAddress) -> Result<Vec<u8>> {
        self.get(address, len).map(Cow::into_owned)
    }

    /// The `len` bytes from `address` on; a copy if the memory is shared.
    #[inline]
    pub(crate) fn get(&self, address: impl IntoAddress, len: impl IntoAddress) -> Result<Cow<'_, [u8]>> {
        let range = self.range(address, len)?;
        Ok(match &self.0 {
            Bytes::Unshared(bytes) => Cow::Borrowed(&bytes[range]),
            Bytes::Shared(bytes) => {
                let mut copy = vec![0; range.len()];
                bytes.read(range.start, &mut copy);
                Cow::Owned(copy)
            }
        })
    }

    /// A copy of the UTF-8 string of `len` bytes at `address`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`], or [`ErrorKind::Host`] with the [`std::str::Utf8Error`] if it is not UTF-8.
    pub fn read_string(&self, address: impl IntoAddress, len: impl IntoAddress) -> Result<String> {
        String::from_utf8(self.read_vec(address, len)?).map_err(|error| Error::host(error.utf8_error()))
    }

    typed! {
        read_u8 write_u8 u8;
        read_u16 write_u16 u16;
        read_u32 write_u32 u32;
        read_u64 write_u64 u64;
        read_i32 write_i32 i32;
        read_i64 write_i64 i64;
        read_f32 write_f32 f32;
        read_f64 write_f64 f64;
    }

    /// The `len` bytes from `address` on, without a copy, of a memory that is not shared.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`], or [`ErrorKind::Usage`] for a shared memory: the bytes behind a Rust slice must not change,
    /// and other threads write to a shared memory.
    #[inline]
    pub fn unshared_slice(&self, address: impl IntoAddress, len: impl IntoAddress) -> Result<&[u8]> {
        let range = self.range(address, len)?;
        match &self.0 {
            Bytes::Unshared(bytes) => Ok(&bytes[range]),
            Bytes::Shared(_) => Err(no_slices()),
        }
    }

    /// The `len` bytes from `address` on, to be written, of a memory that is not shared.
    ///
    /// # Errors
    /// As for [`LinearMemory::unshared_slice`].
    #[inline]
    pub fn unshared_slice_mut(&mut self, address: impl IntoAddress, len: impl IntoAddress) -> Result<&mut [u8]> {
        let range = self.range(address, len)?;
        match &mut self.0 {
            Bytes::Unshared(bytes) => Ok(&mut bytes[range]),
            Bytes::Shared(_) => Err(no_slices()),
        }
    }

    /// The range of bytes for an access.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`].
    #[inline]
    fn range(&self, address: impl IntoAddress, len: impl IntoAddress) -> Result<std::ops::Range<usize>> {
        let (address, len) = (address.into_address(), len.into_address());
        match address.checked_add(len).filter(|end| *end <= self.len()) {
            // Both fit, because they are no larger than the length, which is a `usize`.
            Some(end) => Ok(address as usize..end as usize),
            None => Err(self.out_of_bounds(address, len)),
        }
    }

    #[cold]
    fn out_of_bounds(&self, address: u64, size: u64) -> Error {
        Error::new(ErrorKind::Trap {
            trap: Trap::MemoryOutOfBounds,
            fault: Some(MemoryFault { address, size, length: self.len() }),
        })
    }
}

#[cold]
fn no_slices() -> Error {
    Error::usage("a shared memory has no slices, because other threads write to it: copy with `read` and `write`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(error: &Error) -> (u64, u64, u64) {
        match error.kind() {
            ErrorKind::Trap { trap: Trap::MemoryOutOfBounds, fault: Some(fault) } => {
                (fault.address, fault.size, fault.length)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accesses_end_where_the_memory_does() {
        let mut bytes = [0; 16];
        let mut memory = LinearMemory::new(&mut bytes);
        assert!(memory.write(12, &[1, 2, 3, 4]).is_ok() && memory.read_u32(12).is_ok());
        assert_eq!(fault(&memory.write(13, &[9; 4]).unwrap_err()), (13, 4, 16));
        assert_eq!(fault(&memory.fill(13, 4, 9).unwrap_err()), (13, 4, 16));
        assert_eq!(memory.read_vec(12, 4).unwrap(), [1, 2, 3, 4]);
        assert!(memory.unshared_slice(16, 0).is_ok() && memory.unshared_slice(17, 0).is_err());
        assert_eq!(fault(&memory.read_vec(0, u64::MAX).unwrap_err()), (0, u64::MAX, 16));
        // The sum of both would be in bounds if it were allowed to wrap.
        assert_eq!(fault(&memory.read_vec(u64::MAX, 2).unwrap_err()), (u64::MAX, 2, 16));
        assert_eq!(fault(&memory.unshared_slice_mut(u64::MAX, 1).unwrap_err()), (u64::MAX, 1, 16));
    }

    #[test]
    fn signed_addresses_are_those_that_webassembly_code_means() {
        let memory = LinearMemory::new(&mut []);
        assert_eq!(fault(&memory.read_u8(-1).unwrap_err()).0, u64::from(u32::MAX));
        assert_eq!(fault(&memory.read_u8(-1i64).unwrap_err()).0, u64::MAX);
        assert_eq!(fault(&memory.read_u8(7usize).unwrap_err()).0, 7);
    }

    #[test]
    fn strings_are_utf_8() {
        let mut bytes = *b"a\xc3\xa4\xff";
        let memory = LinearMemory::new(&mut bytes);
        assert_eq!(memory.read_string(0, 3).unwrap(), "a\u{e4}");
        assert!(memory.read_string(1, 3).unwrap_err().downcast_host::<std::str::Utf8Error>().is_some());
    }
}
