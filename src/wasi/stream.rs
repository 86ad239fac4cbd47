//! Streams that are not the host's descriptors: captured output, and what an embedder supplies.

use crate::wasi::errno::Errno;
use std::fmt;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks, also if a thread has panicked while it held the lock: the data here is consistent between any two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream to read from.
pub(crate) struct Input(Mutex<Box<dyn Read + Send>>);

/// A stream to write to.
pub(crate) enum Output {
    /// Kept in memory.
    Captured(Capture),
    /// Passed on.
    Custom(Mutex<Box<dyn Write + Send>>),
}

/// Captured output.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    pub(crate) limit: usize,
}

impl Input {
    pub(crate) fn new(stream: impl Read + Send + 'static) -> Self {
        Input(Mutex::new(Box::new(stream)))
    }

    pub(crate) fn read(&self, buffers: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
        let mut stream = lock(&self.0);
        loop {
            match stream.read_vectored(buffers) {
                // A faulty stream may claim to have read more than there was room for; the guest must not be told so.
                Ok(read) if read <= buffers.iter().map(|buffer| buffer.len()).sum() => return Ok(read),
                Ok(_) => return Err(Errno::Io),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Output {
    pub(crate) fn custom(stream: impl Write + Send + 'static) -> Self {
        Output::Custom(Mutex::new(Box::new(stream)))
    }

    pub(crate) fn write(&self, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self {
            Output::Captured(capture) => capture.write(buffers),
            Output::Custom(stream) => {
                let mut stream = lock(stream);
                loop {
                    match stream.write_vectored(buffers) {
                        Ok(written) if written <= buffers.iter().map(|buffer| buffer.len()).sum() => {
                            return Ok(written);
                        }
                        Ok(_) => return Err(Errno::Io),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Flushes the embedder's stream.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        match self {
            Output::Captured(_) => Ok(()),
            Output::Custom(stream) => Ok(lock(stream).flush()?),
        }
    }
}

impl Capture {
    pub(crate) fn new() -> Self {
        Capture { bytes: Arc::default(), limit: usize::MAX }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        lock(&self.bytes).clone()
    }

    fn write(&self, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut bytes = lock(&self.bytes);
        let room = self.limit.saturating_sub(bytes.len());
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if room == 0 && total > 0 {
            return Err(Errno::NoSpc);
        }
        let mut left = total.min(room);
        bytes.try_reserve(left).map_err(|_| Errno::NoSpc)?;
        for buffer in buffers {
            let part = &buffer[..buffer.len().min(left)];
            bytes.extend_from_slice(part);
            left -= part.len();
        }
        Ok(total.min(room))
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Captured(_) => f.write_str("Captured"),
            Output::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_output_stops_at_its_limit() {
        let capture = Capture { limit: 5, ..Capture::new() };
        let output = Output::Captured(capture.clone());
        assert_eq!(output.write(&[IoSlice::new(b"abc"), IoSlice::new(b"def")]), Ok(5));
        assert_eq!(output.write(&[IoSlice::new(b"g")]), Err(Errno::NoSpc));
        assert_eq!(output.write(&[]), Ok(0));
        assert_eq!(capture.bytes(), b"abcde");
    }

    #[test]
    fn streams_that_lie_are_not_believed() {
        struct Liar;
        impl Read for Liar {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Ok(1 << 20)
            }
        }
        assert_eq!(Input::new(Liar).read(&mut [IoSliceMut::new(&mut [0; 4])]), Err(Errno::Io));
    }
}
