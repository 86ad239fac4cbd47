//! Calls and their results as text.

use std::fmt::Write as _;

use super::{Argument, Call, Kind};
use crate::runtime::linear::LinearMemory;
use crate::wasi::env::Wasi;
use crate::wasi::guest::Guest;
use crate::wasi::table::Object;
use crate::wasi::types::{Abi, Fdflags, Filestat, Fstflags, Lookupflags, Oflags, Rights, Whence};

/// How many bytes of a string or buffer a trace shows.
const PREVIEW: u32 = 48;

/// How many elements of a list a trace shows.
const ELEMENTS: u32 = 4;

/// The call with its arguments.
pub(super) fn head(wasi: &Wasi, memory: &LinearMemory<'_>, function: &str, arguments: &[Argument]) -> String {
    let mut line = format!("{function}(");
    let mut shown = arguments.iter();
    let mut first = true;
    while let Some(argument) = shown.next() {
        let text = match argument.kind {
            Kind::Out16 | Kind::Out32 | Kind::Out64 | Kind::OutFdstat | Kind::OutFilestat => continue,
            Kind::Path | Kind::Text | Kind::Iovs | Kind::Ciovs | Kind::Buffer => {
                let count = shown.next().map_or(0, |count| count.value as u32);
                sized(memory, argument, count)
            }
            Kind::Subscriptions => subscriptions(memory, argument.pointer(), arguments, wasi.abi),
            _ => scalar(wasi, argument),
        };
        let _ = write!(line, "{}{}={text}", if first { "" } else { ", " }, argument.name);
        first = false;
    }
    line.push(')');
    line
}

/// An argument that points to as many bytes or elements as the next argument says.
fn sized(memory: &LinearMemory<'_>, argument: &Argument, count: u32) -> String {
    let pointer = argument.pointer();
    match argument.kind {
        Kind::Path | Kind::Text => {
            shown(memory, pointer, count, 1024).unwrap_or_else(|| format!("{pointer:#x}+{count}"))
        }
        Kind::Buffer => format!("{pointer:#x}+{count}"),
        _ => {
            let mut text = String::from("[");
            for index in 0..count.min(ELEMENTS) {
                let element = u64::from(pointer) + u64::from(index) * 8;
                let field = |offset| memory.load_u32(u32::try_from(element + offset).unwrap_or(u32::MAX));
                let (Ok(start), Ok(len)) = (field(0), field(4)) else { return format!("{pointer:#x}[{count}]") };
                let shown = match argument.kind {
                    Kind::Ciovs => shown(memory, start, len, PREVIEW),
                    _ => None,
                };
                let shown = shown.unwrap_or_else(|| format!("{start:#x}+{len}"));
                let _ = write!(text, "{}{shown}", if index == 0 { "" } else { ", " });
            }
            if count > ELEMENTS {
                let _ = write!(text, ", {} more", count - ELEMENTS);
            }
            text + "]"
        }
    }
}

/// Up to `most` of the `len` bytes at `pointer`, [`quoted`]; `None` if they don't all lie in memory.
fn shown(memory: &LinearMemory<'_>, pointer: u32, len: u32, most: u32) -> Option<String> {
    memory.check(pointer, len, 1, 1).ok()?;
    Some(quoted(&memory.bytes(pointer, len.min(most)).ok()?, len as usize))
}

/// The first ones of `len` bytes as a string, with everything escaped that a terminal might not show as text.
fn quoted(part: &[u8], len: usize) -> String {
    let text = match std::str::from_utf8(part) {
        Ok(text) => text.escape_debug().to_string().replace("\\'", "'"),
        Err(_) => part.escape_ascii().to_string(),
    };
    match len - part.len() {
        0 => format!("\"{text}\""),
        more => format!("\"{text}\" and {more} more bytes"),
    }
}

fn scalar(wasi: &Wasi, argument: &Argument) -> String {
    let value = argument.value;
    let named = |names: &[&str]| names.get(value as usize).map_or(value.to_string(), |name| (*name).into());
    match argument.kind {
        Kind::Fd => match wasi.get(value as u32) {
            Ok(descriptor) => match &descriptor.object {
                Object::Directory(directory) => format!("{value}<{}>", directory.name.escape_debug()),
                _ => value.to_string(),
            },
            Err(_) => value.to_string(),
        },
        Kind::Pointer => format!("{value:#x}"),
        Kind::Filedelta => (value as i64).to_string(),
        Kind::Exitcode => (value as i32).to_string(),
        Kind::LookupBits => flags(value, Lookupflags::NAMES.iter().map(|(name, flag)| (*name, u64::from(flag.0)))),
        Kind::OflagsBits => flags(value, Oflags::NAMES.iter().map(|(name, flag)| (*name, u64::from(flag.0)))),
        Kind::FdflagsBits => flags(value, Fdflags::NAMES.iter().map(|(name, flag)| (*name, u64::from(flag.0)))),
        Kind::FstflagsBits => flags(value, Fstflags::NAMES.iter().map(|(name, flag)| (*name, u64::from(flag.0)))),
        // Nobody reads thirty names.
        Kind::RightsBits if value.count_ones() > 4 => format!("{value:#x}"),
        Kind::RightsBits => flags(value, Rights::NAMES.iter().map(|(name, flag)| (*name, flag.0))),
        Kind::ShutdownBits => flags(value, [("RD", 1), ("WR", 2)].into_iter()),
        Kind::ClockBits => named(&CLOCKS),
        Kind::AdviceBits => named(&["normal", "sequential", "random", "willneed", "dontneed", "noreuse"]),
        Kind::WhenceBits => match Whence::decode(wasi.abi, value as u32) {
            Ok(whence) => format!("{whence:?}").to_lowercase(),
            Err(_) => value.to_string(),
        },
        _ => value.to_string(),
    }
}

const CLOCKS: [&str; 4] = ["realtime", "monotonic", "process_cputime_id", "thread_cputime_id"];

fn flags(bits: u64, names: impl Iterator<Item = (&'static str, u64)>) -> String {
    let mut rest = bits;
    let mut text = String::new();
    for (name, flag) in names {
        if bits & flag != 0 {
            let _ = write!(text, "{}{}", if text.is_empty() { "" } else { "|" }, name.to_lowercase());
            rest &= !flag;
        }
    }
    if rest != 0 || text.is_empty() {
        let _ = write!(text, "{}{rest:#x}", if text.is_empty() { "" } else { "|" });
    }
    text
}

/// What `poll_oneoff` waits for.
fn subscriptions(memory: &LinearMemory<'_>, pointer: u32, arguments: &[Argument], abi: Abi) -> String {
    let count = arguments.iter().find(|argument| argument.name == "count").map_or(0, |count| count.value as u32);
    let (size, clock) = match abi {
        Abi::Preview1 => (48, 16),
        Abi::Unstable => (56, 24),
    };
    let mut text = String::from("[");
    for index in 0..count.min(ELEMENTS) {
        let start = u64::from(pointer) + u64::from(index) * size;
        let Some(bytes) = u32::try_from(start).ok().and_then(|start| memory.bytes(start, size as u32).ok()) else {
            return format!("{pointer:#x}[{count}]");
        };
        let u32_at = |at: usize| bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let shown = match bytes[8] {
            0 => {
                let clock_name = CLOCKS.get(u32_at(clock) as usize).copied().unwrap_or("?");
                let sign = if u32_at(clock + 24) & 1 == 0 { "+" } else { "" };
                format!("{clock_name} {sign}{} ns", u64_at(clock + 8))
            }
            1 => format!("read {}", u32_at(16)),
            2 => format!("write {}", u32_at(16)),
            other => format!("type {other}"),
        };
        let _ = write!(text, "{}{shown}", if index == 0 { "" } else { ", " });
    }
    if count > ELEMENTS {
        let _ = write!(text, ", {} more", count - ELEMENTS);
    }
    text + "]"
}

const FILETYPES: [&str; 8] = [
    "unknown",
    "block_device",
    "character_device",
    "directory",
    "regular_file",
    "socket_dgram",
    "socket_stream",
    "symbolic_link",
];

/// The results of a call that succeeded.
pub(super) fn results(call: &Call, memory: &LinearMemory<'_>) -> String {
    let mut text = String::new();
    let mut count = None;
    for argument in &call.arguments {
        let byte = |offset: u64| {
            let at = u32::try_from(argument.value + offset).ok()?;
            memory.bytes(at, 1).ok().map(|bytes| bytes[0])
        };
        let filetype =
            |offset| byte(offset).and_then(|filetype| FILETYPES.get(filetype as usize)).copied().unwrap_or("?");
        let value = match argument.kind {
            Kind::Out16 => memory.read_u16(argument.pointer()).ok().map(|value| value.to_string()),
            Kind::Out32 => memory.read_u32(argument.pointer()).ok().map(|value| {
                count.get_or_insert(value);
                value.to_string()
            }),
            Kind::Out64 => memory.read_u64(argument.pointer()).ok().map(|value| value.to_string()),
            Kind::OutFdstat => Some(filetype(0).into()),
            Kind::OutFilestat => {
                let offset = Filestat::size_offset(call.abi);
                let size = memory.read_u64(argument.pointer().saturating_add(offset)).unwrap_or(0);
                Some(format!("{} of {size} bytes", filetype(16)))
            }
            _ => None,
        };
        if let Some(value) = value {
            let _ = write!(text, " {}={value}", argument.name);
        }
    }
    let data = match call.function {
        "fd_read" | "fd_pread" | "sock_recv" => first_of_list(call, memory),
        "path_readlink" | "fd_prestat_dir_name" => {
            call.arguments.iter().position(|argument| argument.kind == Kind::Buffer).and_then(|index| {
                let room = call.arguments.get(index + 1)?.value as u32;
                Some((call.arguments[index].pointer(), count.unwrap_or(room).min(room)))
            })
        }
        _ => None,
    };
    if let Some((start, len)) = data
        && let Some(shown) = shown(memory, start, count.map_or(len, |count| len.min(count)), PREVIEW)
    {
        let _ = write!(text, " {shown}");
    }
    text
}

/// Address and length of the first buffer of a list.
fn first_of_list(call: &Call, memory: &LinearMemory<'_>) -> Option<(u32, u32)> {
    let index = call.arguments.iter().position(|argument| argument.kind == Kind::Iovs)?;
    if call.arguments.get(index + 1)?.value == 0 {
        return None;
    }
    let list = call.arguments[index].pointer();
    Some((memory.load_u32(list).ok()?, memory.load_u32(list.checked_add(4)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        let names = || Oflags::NAMES.iter().map(|(name, flag)| (*name, u64::from(flag.0)));
        assert_eq!(flags(9, names()), "creat|trunc");
        assert_eq!(flags(0, names()), "0x0");
        assert_eq!(flags(17, names()), "creat|0x10");
    }

    #[test]
    fn no_control_character_gets_through() {
        assert_eq!(quoted(b"a\x1b[0m\"\n", 7), r#""a\u{1b}[0m\"\n""#);
        assert_eq!(quoted(&[0xff, 7], 2), r#""\xff\x07""#);
        assert_eq!(quoted(b"ab", 6), r#""ab" and 4 more bytes"#);
    }
}
