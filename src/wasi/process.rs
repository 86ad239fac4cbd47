//! Arguments, environment, and the end of the program.

use crate::error::{Error, ErrorKind};
use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::errno::Errno;
use crate::wasi::guest::Guest;
use crate::wasi::types::{Bits, Exitcode, Pointer};
use crate::wasi::wait::Wait;

/// The number of strings, and their bytes with a NUL after each.
fn sizes(lens: impl Iterator<Item = usize>) -> Result<(u32, u32), Errno> {
    let (count, bytes) = lens.fold((0, 0), |(count, bytes), len| (count + 1, bytes + len + 1));
    let size = |value: usize| u32::try_from(value).map_err(|_| Errno::Overflow);
    Ok((size(count)?, size(bytes)?))
}

/// Writes strings to the guest: pointers at `pointers`, bytes at `buffer`. Each string is given in parts.
fn put_strings<'a, const N: usize>(
    memory: &mut LinearMemory<'_>,
    pointers: Pointer,
    buffer: Pointer,
    strings: impl Iterator<Item = [&'a str; N]> + Clone,
) -> Result<(), Errno> {
    let (count, bytes) = sizes(strings.clone().map(|parts| parts.iter().map(|part| part.len()).sum()))?;
    memory.check(pointers, count, 4, 4)?;
    memory.check(buffer, bytes, 1, 1)?;
    let mut end = buffer;
    for (index, parts) in strings.enumerate() {
        memory.store_u32(pointers + 4 * index as u32, end)?;
        for bytes in parts.iter().map(|part| part.as_bytes()).chain([&b"\0"[..]]) {
            memory.store(end, bytes)?;
            // The last string may end at address 2^32.
            end = end.wrapping_add(bytes.len() as u32);
        }
    }
    Ok(())
}

fn put_sizes(memory: &mut LinearMemory<'_>, count: Pointer, bytes: Pointer, sizes: (u32, u32)) -> Result<(), Errno> {
    memory.check(bytes, 1, 4, 4)?;
    memory.store_u32(count, sizes.0)?;
    memory.store_u32(bytes, sizes.1)
}

/// `args_get`: the arguments.
pub(crate) fn args_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    argv: Pointer,
    argv_buf: Pointer,
) -> Result<(), Errno> {
    put_strings(memory, argv, argv_buf, wasi.lock()?.args.iter().map(|arg| [arg.as_str()]))
}

/// `args_sizes_get`: how much room `args_get` needs.
pub(crate) fn args_sizes_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    count: Pointer,
    bytes: Pointer,
) -> Result<(), Errno> {
    let sizes = sizes(wasi.lock()?.args.iter().map(String::len))?;
    put_sizes(memory, count, bytes, sizes)
}

/// `environ_get`: the environment variables, as `KEY=value`.
pub(crate) fn environ_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    environ: Pointer,
    environ_buf: Pointer,
) -> Result<(), Errno> {
    let env = wasi.lock()?;
    put_strings(memory, environ, environ_buf, env.env.iter().map(|(key, value)| [key.as_str(), "=", value.as_str()]))
}

/// `environ_sizes_get`: how much room `environ_get` needs.
pub(crate) fn environ_sizes_get(
    wasi: &Wasi,
    memory: &mut LinearMemory<'_>,
    count: Pointer,
    bytes: Pointer,
) -> Result<(), Errno> {
    let sizes = sizes(wasi.lock()?.env.iter().map(|(key, value)| key.len() + 1 + value.len()))?;
    put_sizes(memory, count, bytes, sizes)
}

/// `proc_exit`: ends the program, by an error that no WebAssembly code can catch.
pub(crate) fn proc_exit(_wasi: &Wasi, _memory: &mut LinearMemory<'_>, code: Exitcode) -> crate::Result<()> {
    Err(Error::new(ErrorKind::Exit(code as i32)))
}

/// `proc_raise`: does what a signal does to a process that does not handle it.
///
/// A signal whose default is to end the process ends the program, with 128 plus the signal's number on Linux, as a shell
/// reports it. One whose default is to be ignored does nothing. One that would stop the process is `notsup`: nobody could
/// make it continue.
pub(crate) fn proc_raise(_wasi: &Wasi, _memory: &mut LinearMemory<'_>, signal: Bits) -> crate::Result<Errno> {
    let number = match signal {
        // none; chld, cont, urg, winch
        0 | 16 | 17 | 22 | 27 => return Ok(Errno::Success),
        // stop, tstp, ttin, ttou
        18..=21 => return Ok(Errno::NotSup),
        1..=15 => signal,
        // WASI has no stkflt before chld, so what follows is one lower than on Linux.
        23..=26 | 28..=30 => signal + 1,
        _ => return Ok(Errno::Inval),
    };
    Err(Error::new(ErrorKind::Exit(128 + number as i32)))
}

/// `sched_yield`: lets others run.
pub(crate) fn sched_yield(wasi: &Wasi, _memory: &mut LinearMemory<'_>) -> Result<(), Errno> {
    if wasi.attempts.is_first() { Err(wasi.attempts.wait(Wait::turn())) } else { Ok(()) }
}
