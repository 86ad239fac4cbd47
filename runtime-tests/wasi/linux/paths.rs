//! Paths: every way to open one, and every call that changes what one names.

use super::guest::{Arg, OUT, ROOT};
use super::{Guest, INVAL, PATHS, Report, Twins, number};
use crate::Result;
use Arg::*;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::fs::File;
use wasmrun::{Strategy, WasiEnv};

const CREAT: i32 = 1;
const DIRECTORY: i32 = 2;
const EXCL: i32 = 4;
const TRUNC: i32 = 8;
const READ: i64 = 2;
const WRITE: i64 = 64;

pub(crate) fn opening(strategy: Strategy) -> Result<()> {
    let twins = Twins::new()?;
    let own = File::open(twins.own())?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_preopen(twins.guest(), "/")?)?;
    let mut report = Report::default();
    for path in PATHS {
        for (lookup, oflags, rights) in every_way() {
            let (errno, fd) = guest.open(ROOT, lookup, path, oflags, rights, 0)?;
            if errno == 0 {
                guest.call("fd_close", &[I32(fd)])?;
            }
            let mut flags = match rights & (READ | WRITE) {
                WRITE => OFlags::WRONLY,
                rights if rights == READ | WRITE => OFlags::RDWR,
                _ => OFlags::RDONLY,
            };
            flags |= OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            flags.set(OFlags::NOFOLLOW, lookup == 0);
            for (bit, flag) in
                [(CREAT, OFlags::CREATE), (DIRECTORY, OFlags::DIRECTORY), (EXCL, OFlags::EXCL), (TRUNC, OFlags::TRUNC)]
            {
                flags.set(flag, oflags & bit != 0);
            }
            // What POSIX leaves open, and Linux does in different ways at different ages.
            let wanted = match oflags & DIRECTORY != 0 && oflags != DIRECTORY {
                true => INVAL,
                false => number(rustix::fs::openat(&own, *path, flags, Mode::RUSR | Mode::WUSR)),
            };
            let call = || format!("open {path:?} lookup {lookup} oflags {oflags} rights {rights}");
            report.add(call, errno, wanted);
            if oflags & (CREAT | TRUNC) != 0 {
                report.same_files(call, twins.compare()?);
            }
        }
    }
    report.end()
}

fn every_way() -> impl Iterator<Item = (i32, i32, i64)> {
    (0..2).flat_map(|lookup| {
        (0..16).flat_map(move |oflags| [0, READ, WRITE, READ | WRITE].map(|rights| (lookup, oflags, rights)))
    })
}

pub(crate) fn changes(strategy: Strategy) -> Result<()> {
    let twins = Twins::new()?;
    let own = File::open(twins.own())?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_preopen(twins.guest(), "/")?)?;
    let mut report = Report::default();
    let follow = |lookup| if lookup == 0 { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    for path in PATHS.iter().copied() {
        let mut add = |name: &str, guest: i32, own: i32, changes: bool| -> Result<()> {
            report.add(|| format!("{name} {path:?}"), guest, own);
            if changes {
                report.same_files(|| format!("{name} {path:?}"), twins.compare()?);
            }
            Ok(())
        };
        let errno = guest.call("path_create_directory", &[I32(ROOT), Path(path)])?;
        add("mkdir", errno, number(rustix::fs::mkdirat(&own, path, Mode::RWXU)), true)?;
        let errno = guest.call("path_remove_directory", &[I32(ROOT), Path(path)])?;
        add("rmdir", errno, number(rustix::fs::unlinkat(&own, path, AtFlags::REMOVEDIR)), true)?;
        let errno = guest.call("path_unlink_file", &[I32(ROOT), Path(path)])?;
        add("unlink", errno, number(rustix::fs::unlinkat(&own, path, AtFlags::empty())), true)?;
        for target in ["f", "", "no/x", "../out"] {
            let errno = guest.call("path_symlink", &[Path(target), I32(ROOT), Path(path)])?;
            add(&format!("symlink {target:?}"), errno, number(rustix::fs::symlinkat(target, &own, path)), true)?;
        }
        let args = [I32(ROOT), Path(path), I32(2048), I32(100), I32(OUT)];
        let errno = guest.call("path_readlink", &args)?;
        let link = rustix::fs::readlinkat(&own, path, Vec::new());
        if let Ok(link) = &link
            && guest.bytes(2048, guest.u32_at(OUT) as usize) != link.to_bytes()
        {
            return Err(format!("readlink {path:?}: {:?}", guest.bytes(2048, 100)).into());
        }
        add("readlink", errno, number(link), false)?;
        for lookup in [0, 1] {
            let errno = guest.call("path_filestat_get", &[I32(ROOT), I32(lookup), Path(path), I32(OUT)])?;
            let stat = rustix::fs::statat(&own, path, follow(lookup));
            if let (0, Ok(stat)) = (errno, &stat)
                && stat.st_mode & 0o170_000 != 0o040_000
                && guest.u64_at(OUT + 32) != stat.st_size as u64
            {
                return Err(format!("stat {path:?}: {} bytes", guest.u64_at(OUT + 32)).into());
            }
            add(&format!("stat {lookup}"), errno, number(stat), false)?;
            // Every set of flags: contradictions are refused before anything else.
            for flags in 1..16 {
                let args = [I32(ROOT), I32(lookup), Path(path), I64(1_000_000_000), I64(2_000_000_000), I32(flags)];
                let errno = guest.call("path_filestat_set_times", &args)?;
                let wanted = match times(flags) {
                    Some(times) => number(rustix::fs::utimensat(&own, path, &times, follow(lookup))),
                    None => INVAL,
                };
                add(&format!("set_times {lookup} {flags}"), errno, wanted, flags == 5)?;
            }
        }
    }
    report.end()
}

/// What `fstflags` ask for, with 1 and 2 seconds as the times; `None` for contradictions.
pub(super) fn times(flags: i32) -> Option<Timestamps> {
    let time = |set: bool, now: bool, seconds: i64| match (set, now) {
        (true, true) => None,
        (true, false) => Some(Timespec { tv_sec: seconds, tv_nsec: 0 }),
        (false, true) => Some(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (false, false) => Some(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    };
    Some(Timestamps {
        last_access: time(flags & 1 != 0, flags & 2 != 0, 1)?,
        last_modification: time(flags & 4 != 0, flags & 8 != 0, 2)?,
    })
}

pub(crate) fn renaming(strategy: Strategy) -> Result<()> {
    let twins = Twins::new()?;
    let own = File::open(twins.own())?;
    let mut guest = Guest::new(strategy, WasiEnv::new().with_preopen(twins.guest(), "/")?)?;
    let mut report = Report::default();
    for from in PATHS.iter().copied() {
        for to in PATHS.iter().copied() {
            let errno = guest.call("path_rename", &[I32(ROOT), Path(from), I32(ROOT), Path(to)])?;
            let wanted = number(rustix::fs::renameat(&own, from, &own, to));
            report.add(|| format!("rename {from:?} {to:?}"), errno, wanted);
            if errno == 0 || wanted == 0 {
                report.same_files(|| format!("rename {from:?} {to:?}"), twins.compare()?);
            }
            let errno = guest.call("path_link", &[I32(ROOT), I32(0), Path(from), I32(ROOT), Path(to)])?;
            let wanted = number(rustix::fs::linkat(&own, from, &own, to, AtFlags::empty()));
            report.add(|| format!("link {from:?} {to:?}"), errno, wanted);
            if errno == 0 || wanted == 0 {
                report.same_files(|| format!("link {from:?} {to:?}"), twins.compare()?);
            }
        }
    }
    report.end()
}
