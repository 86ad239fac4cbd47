//! The view of a memory that host functions get.

use crate::error::{Error, ErrorKind, Result};
use crate::error::{MemoryFault, Trap};

/// A view of one linear memory, for the time of a host call: all of its bytes, little-endian, bounds-checked.
///
/// The view borrows the store it came from, so the memory can neither grow nor go away while it is held.
/// A failed access is [`Trap::MemoryOutOfBounds`], which a host function may pass on with `?`; nothing has been
/// written then.
///
/// ```
/// use wasmrun::LinearMemory;
/// let mut bytes = [0; 16];
/// let mut memory = LinearMemory::new(&mut bytes);
/// memory.write_u32(4, 0x01020304)?;
/// assert_eq!(memory.read_u8(4)?, 4);
/// assert!(memory.read_u64(9).is_err());
/// # Ok::<(), wasmrun::Error>(())
/// ```
#[derive(Debug)]
pub struct LinearMemory<'a> {
    bytes: &'a mut [u8],
}

macro_rules! typed {
    ($($read:ident $write:ident $ty:ty;)*) => {
        $(
            #[doc = concat!("Reads a little-endian `", stringify!($ty), "` at `address`, which need not be aligned.")]
            ///
            /// # Errors
            /// [`Trap::MemoryOutOfBounds`].
            #[inline]
            pub fn $read(&self, address: u32) -> Result<$ty> {
                Ok(<$ty>::from_le_bytes(*self.array(address)?))
            }

            #[doc = concat!("Writes a `", stringify!($ty), "` in little-endian order at `address`.")]
            ///
            /// # Errors
            /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
            #[inline]
            pub fn $write(&mut self, address: u32, value: $ty) -> Result<()> {
                self.slice_mut(address, size_of::<$ty>() as u32)?.copy_from_slice(&value.to_le_bytes());
                Ok(())
            }
        )*
    };
}

impl<'a> LinearMemory<'a> {
    /// A view of `bytes`, as a test of a host function needs it.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        LinearMemory { bytes }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the memory has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
    }

    /// All bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The `len` bytes from `address`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if they do not all lie in the memory.
    #[inline]
    pub fn slice(&self, address: u32, len: u32) -> Result<&[u8]> {
        let start = address as usize;
        match self.bytes.get(start..start + len as usize) {
            Some(bytes) => Ok(bytes),
            None => Err(self.out_of_bounds(address, len)),
        }
    }

    /// The `len` bytes from `address`, to be written.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`] if they do not all lie in the memory.
    #[inline]
    pub fn slice_mut(&mut self, address: u32, len: u32) -> Result<&mut [u8]> {
        let start = address as usize;
        if start + len as usize > self.bytes.len() {
            return Err(self.out_of_bounds(address, len));
        }
        Ok(&mut self.bytes[start..start + len as usize])
    }

    /// Copies `data` to `address`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`]; nothing is written then.
    pub fn write(&mut self, address: u32, data: &[u8]) -> Result<()> {
        let len = u32::try_from(data.len()).map_err(|_| self.out_of_bounds(address, u32::MAX))?;
        self.slice_mut(address, len)?.copy_from_slice(data);
        Ok(())
    }

    /// The string of `len` bytes at `address`.
    ///
    /// # Errors
    /// [`Trap::MemoryOutOfBounds`], or [`ErrorKind::Host`] with the [`std::str::Utf8Error`] if it is not UTF-8.
    pub fn str(&self, address: u32, len: u32) -> Result<&str> {
        std::str::from_utf8(self.slice(address, len)?).map_err(Error::host)
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

    fn array<const N: usize>(&self, address: u32) -> Result<&[u8; N]> {
        match self.bytes.get(address as usize..).and_then(|tail| tail.first_chunk()) {
            Some(bytes) => Ok(bytes),
            None => Err(self.out_of_bounds(address, N as u32)),
        }
    }

    #[cold]
    fn out_of_bounds(&self, address: u32, size: u32) -> Error {
        Error::new(ErrorKind::Trap {
            trap: Trap::MemoryOutOfBounds,
            fault: Some(MemoryFault { address: address.into(), size: size.into(), length: self.bytes.len() as u64 }),
        })
    }
}
