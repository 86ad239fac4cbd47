//! A read-only directory fails as a file system does that Linux has mounted for reading only, with `perm` where that
//! says `rofs`. Mounting needs to be root, so what it says was noted once, on Linux 6.18.

use super::guest::{Arg, Guest, OUT, ROOT};
use super::{PERM, Report, list, plant};
use crate::Result;
use Arg::*;
use wasmrun::{Strategy, WasiEnv};

/// For each path, what the calls of [`errnos`] say.
#[rustfmt::skip]
const TABLE: &[(&str, &str)] = &[
    ("f", "ok exist perm perm perm exist perm ok exist exist exist perm perm perm perm perm perm perm perm"),
    ("d", "isdir exist isdir isdir isdir exist isdir isdir exist exist exist perm perm perm perm perm perm perm perm"),
    ("missing", "perm perm noent noent perm perm noent perm perm perm perm noent perm perm perm perm perm noent noent"),
    ("no/x", "noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent"),
    ("f/x", "notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir notdir"),
    ("ld", "isdir exist isdir isdir isdir exist loop loop exist exist exist perm perm perm perm perm perm perm perm"),
    ("lf", "ok exist perm perm perm exist loop loop exist exist exist perm perm perm perm perm perm perm perm"),
    ("dang", "perm exist noent noent perm exist loop loop exist exist exist perm perm perm perm perm perm noent perm"),
    ("dangno", "noent exist noent noent noent exist loop loop exist exist exist perm perm perm perm perm perm noent perm"),
    ("loop", "loop exist loop loop loop exist loop loop exist exist exist perm perm perm perm perm perm loop perm"),
    ("d/", "isdir isdir isdir isdir isdir isdir isdir isdir exist exist exist perm perm perm perm perm perm perm perm"),
    ("f/", "isdir isdir notdir notdir isdir isdir notdir isdir exist exist exist notdir perm perm perm perm perm notdir notdir"),
    ("missing/", "isdir isdir noent noent isdir isdir noent isdir perm noent noent noent perm perm perm perm perm noent noent"),
    (".", "isdir exist isdir isdir isdir exist isdir isdir exist exist exist perm isdir inval busy busy busy perm perm"),
    ("", "noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent noent"),
    ("lf/", "isdir isdir notdir notdir isdir isdir notdir isdir exist exist exist notdir perm perm perm perm perm notdir notdir"),
    ("ld/", "isdir isdir isdir isdir isdir isdir isdir isdir exist exist exist perm perm perm perm perm perm perm perm"),
    ("dang/", "isdir isdir noent noent isdir isdir noent isdir exist exist exist noent perm perm perm perm perm noent noent"),
    ("d/inner", "ok exist perm perm perm exist perm ok exist exist exist perm perm perm perm perm perm perm perm"),
];

const CREAT: i32 = 1;
const EXCL: i32 = 4;
const TRUNC: i32 = 8;
const WRITE: i64 = 64;

/// What each call says of `path`, in the order of the table.
fn errnos(guest: &mut Guest, path: &str) -> Result<Vec<i32>> {
    let mut errnos = vec![];
    let ways = [
        (1, CREAT, 2),
        (1, CREAT | EXCL, 2),
        (1, 0, WRITE),
        (1, TRUNC, 2),
        (1, CREAT, WRITE),
        (1, CREAT | EXCL, WRITE),
        (0, 0, WRITE),
        (0, CREAT, 2),
    ];
    for (lookup, oflags, rights) in ways {
        errnos.push(guest.open(ROOT, lookup, path, oflags, rights, 0)?.0);
    }
    let calls: [(&str, &[Arg<'_>]); 11] = [
        ("path_create_directory", &[I32(ROOT), Path(path)]),
        ("path_symlink", &[Path("x"), I32(ROOT), Path(path)]),
        ("path_link", &[I32(ROOT), I32(0), Path("f"), I32(ROOT), Path(path)]),
        ("path_link", &[I32(ROOT), I32(0), Path(path), I32(ROOT), Path("new")]),
        ("path_unlink_file", &[I32(ROOT), Path(path)]),
        ("path_remove_directory", &[I32(ROOT), Path(path)]),
        ("path_rename", &[I32(ROOT), Path("f"), I32(ROOT), Path(path)]),
        ("path_rename", &[I32(ROOT), Path(path), I32(ROOT), Path("new")]),
        ("path_rename", &[I32(ROOT), Path("d"), I32(ROOT), Path(path)]),
        ("path_filestat_set_times", &[I32(ROOT), I32(1), Path(path), I64(0), I64(0), I32(8)]),
        ("path_filestat_set_times", &[I32(ROOT), I32(0), Path(path), I64(0), I64(0), I32(8)]),
    ];
    for (name, args) in calls {
        errnos.push(guest.call(name, args)?);
    }
    Ok(errnos)
}

fn number(name: &str) -> Result<i32> {
    let names = [
        ("ok", 0),
        ("busy", 10),
        ("exist", 20),
        ("inval", 28),
        ("isdir", 31),
        ("loop", 32),
        ("noent", 44),
        ("notdir", 54),
        ("perm", PERM),
    ];
    let found = names.iter().find(|(known, _)| *known == name);
    Ok(found.ok_or_else(|| format!("no number for {name}"))?.1)
}

pub(crate) fn read_only(strategy: Strategy) -> Result<()> {
    let [directory, other] = [tempfile::TempDir::new()?, tempfile::TempDir::new()?];
    plant(directory.path())?;
    let before = list(directory.path())?;
    let env = WasiEnv::new().with_read_only_preopen(directory.path(), "/ro")?.with_preopen(other.path(), "/")?;
    let mut guest = Guest::new(strategy, env)?;
    let mut report = Report::default();
    for (path, row) in TABLE {
        let names: Vec<&str> = row.split(' ').collect();
        let errnos = errnos(&mut guest, path)?;
        if names.len() != errnos.len() {
            return Err(format!("{path:?}: {} and {} columns", names.len(), errnos.len()).into());
        }
        for (column, (errno, name)) in errnos.into_iter().zip(names).enumerate() {
            report.add(|| format!("{path:?}, call {column}"), errno, number(name)?);
        }
    }
    let second = ROOT + 1;
    let more: [(&str, &[Arg<'_>], i32); 10] = [
        // Out of it, and into it, where a mount would say that these are two file systems.
        ("path_rename", &[I32(ROOT), Path("f"), I32(second), Path("new")], PERM),
        ("path_rename", &[I32(ROOT), Path("no/x"), I32(second), Path("new")], 44),
        ("path_rename", &[I32(second), Path("new"), I32(ROOT), Path("f")], PERM),
        ("path_link", &[I32(ROOT), I32(0), Path("f"), I32(second), Path("new")], PERM),
        ("path_link", &[I32(ROOT), I32(0), Path("missing"), I32(second), Path("new")], 44),
        ("path_link", &[I32(second), I32(0), Path("missing"), I32(ROOT), Path("new")], 44),
        ("path_symlink", &[Path(""), I32(ROOT), Path("new")], 44),
        // Changes nothing.
        ("fd_sync", &[I32(ROOT)], 0),
        ("fd_filestat_set_times", &[I32(ROOT), I64(0), I64(0), I32(4)], PERM),
        ("path_open", &[I32(ROOT), I32(1), Path("fifo"), I32(0), I64(WRITE), I64(0), I32(0), I32(OUT)], PERM),
    ];
    for (name, args, wanted) in more {
        report.add(|| name.into(), guest.call(name, args)?, wanted);
    }
    // What was opened although it was to be made if it was not there can only be read.
    let (errno, fd) = guest.open(ROOT, 1, "f", CREAT, 2, 0)?;
    report.add(|| "open f".into(), errno, 0);
    guest.buffers(2048, [(4096, 4)])?;
    report.add(|| "read f".into(), guest.call("fd_read", &[I32(fd), I32(2048), I32(1), I32(OUT)])?, 0);
    report.add(|| "write f".into(), guest.call("fd_write", &[I32(fd), I32(2048), I32(1), I32(OUT)])?, 8);
    if list(directory.path())? != before || std::fs::read_dir(other.path())?.next().is_some() {
        return Err("something was changed".into());
    }
    report.end()
}
