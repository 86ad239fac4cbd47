//! What `compile -o` writes to, and what it leaves alone.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;

use super::{Done, Files, exit_with, wasmrun};

fn files() -> Files {
    Files::new(&[("m.wat", &exit_with(7))])
}

/// Compiles to `output`, which then is a program.
#[track_caller]
fn compiles_to(files: &Files, output: &str) {
    files.run(&["compile", "m.wat", "-o", output]).check(0, "");
    fs::copy(files.path(output), files.path("run.cwasm")).unwrap();
    files.run(&["exec", "--allow-precompiled", "run.cwasm"]).check(7, "");
    fs::remove_file(files.path("run.cwasm")).unwrap();
}

fn names(files: &Files) -> Vec<String> {
    let entries = fs::read_dir(files.0.path()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn links_are_followed() {
    let files = files();
    fs::create_dir(files.path("there")).unwrap();
    fs::write(files.path("there/old"), "old").unwrap();
    for (link, target) in [("a", "there/old"), ("b", "there/new"), ("c", "a"), ("d", "loop")] {
        symlink(target, files.path(link)).unwrap();
    }
    symlink("d", files.path("loop")).unwrap();
    for (link, target) in [("a", "there/old"), ("b", "there/new"), ("c", "a")] {
        compiles_to(&files, link);
        assert_eq!(fs::read_link(files.path(link)).unwrap().to_str(), Some(target));
        assert!(files.path(link).canonicalize().unwrap().starts_with(files.path("there").canonicalize().unwrap()));
    }
    files.run(&["compile", "m.wat", "-o", "d"]).fails(125, &["d: ", "circle"]);
    assert_eq!(names(&files), ["a", "b", "c", "d", "loop", "m.wat", "there"]);
    assert_eq!(fs::read_dir(files.path("there")).unwrap().count(), 2);
}

#[test]
fn the_mode_stays() {
    let files = files();
    for mode in [0o600, 0o755, 0o444, 0o640] {
        fs::write(files.path("out"), "old").unwrap();
        fs::set_permissions(files.path("out"), fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(files.path("out")).unwrap();
        files.run(&["compile", "m.wat", "-o", "out"]).check(0, "");
        let after = fs::metadata(files.path("out")).unwrap();
        assert_eq!((after.mode() & 0o7777, after.uid(), after.gid()), (mode, before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "programs that run the old one have it changed under them");
        fs::remove_file(files.path("out")).unwrap();
    }
    // A new one has that of new files.
    files.run(&["compile", "m.wat", "-o", "out"]).check(0, "");
    fs::write(files.path("other"), "").unwrap();
    let mode = |name: &str| fs::metadata(files.path(name)).unwrap().mode();
    assert_eq!(mode("out"), mode("other"));
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let files = files();
    fs::create_dir(files.path("folder")).unwrap();
    files.run(&["compile", "m.wat", "-o", "folder"]).fails(125, &["folder: is a directory"]);
    files.run(&["compile", "m.wat", "-o", "folder/"]).fails(125, &["folder/: is a directory"]);
    files.run(&["compile", "m.wat", "-o", "."]).fails(125, &[".: is a directory"]);
    // A FIFO stands for devices: a test that fails must not replace one.
    let fifo = files.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let mut both_ends = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    files.run(&["compile", "m.wat", "-o", "fifo"]).check(0, "");
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    files.run(&["compile", "m.wat", "-o", "regular"]).check(0, "");
    let expected = fs::read(files.path("regular")).unwrap();
    let mut written = vec![0; expected.len()];
    both_ends.read_exact(&mut written).unwrap();
    assert!(written == expected);
    assert_eq!(names(&files), ["fifo", "folder", "m.wat", "regular"]);
}

#[test]
fn a_dash_is_standard_output() {
    let files = files();
    compiles_to(&files, "regular");
    let expected = fs::read(files.path("regular")).unwrap();
    for (input, output) in [("m.wat", "-"), ("-", "-"), ("m.wat", "/dev/stdout")] {
        let mut command = wasmrun();
        command.current_dir(files.0.path()).args(["compile", input, "-o", output]);
        let done = command.stdin(fs::File::open(files.path("m.wat")).unwrap()).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == expected, "{input} to {output}");
    }
    assert_eq!(names(&files), ["m.wat", "regular"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = wasmrun();
    command.current_dir(files.0.path()).args(["compile", "m.wat", "-o", "-"]);
    Done::new(command.stdout(full).output().unwrap()).fails(125, &["standard output: "]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.lines().count()), (Some(125), 1), "{told}");
}

/// Native code is run only if the user says so; `inspect` reads the module without.
#[test]
fn compiled_code_must_be_allowed() {
    let files = files();
    files.run(&["compile", "m.wat"]).check(0, "");
    let message = "m.cwasm: compiled code runs outside of any sandbox";
    let hint = "--allow-precompiled runs it, if you trust it as a native program";
    files.run(&["exec", "m.cwasm"]).fails(126, &[message, hint]);
    files.run(&["exec", "--preload", "x=m.cwasm", "m.wat"]).fails(126, &[message, hint]);
    files.run(&["bench", "m.cwasm"]).fails(126, &[message, hint]);
    files.run(&["exec", "--allow-precompiled", "m.cwasm"]).check(7, "");
    files.run(&["exec", "--allow-precompiled", "--preload", "x=m.cwasm", "m.wat"]).check(7, "");
    files.run(&["exec", "--allow-precompiled", "m.wat"]).check(7, "");
    let output = files.run(&["bench", "--allow-precompiled", "--runs=1", "m.cwasm"]);
    assert_eq!(output.status, Some(0));
    let output = files.run(&["inspect", "m.cwasm"]);
    assert_eq!(output.status, Some(0));
}
