//! `exec --profile=flame`: the table, and the flame graph as a file.

use super::{Done, ENGINES, Files, common, interruptible, wait, wasmrun};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// A program that spends its time in `inner`, most of it, and in `outer`, writes `done`, and ends as `end` says.
fn program(end: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (data (i32.const 16) "done\n")
            (func $inner (param $n i32) (local $x i64)
                (loop $again
                    (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 7)) (i64.const 1)))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (i64.store (i32.const 64) (local.get $x)))
            (func $outer (local $n i32) (local $x i64)
                (call $inner (i32.const 40000000))
                (local.set $n (i32.const 10000000))
                (loop $again
                    (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 5)) (i64.const 1)))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (i64.store (i32.const 64) (local.get $x)))
            (func (export "_start")
                (call $outer)
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 5))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                {end}))"#
    )
}

/// The rows of the table: share and milliseconds of a function itself, those with its callees, and the name.
fn rows(stderr: &str) -> Vec<([f64; 4], String)> {
    let table = stderr.lines().skip_while(|line| !line.trim_start().starts_with("self "));
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [own, "%", own_ms, "ms", total, "%", total_ms, "ms", name @ ..] = &words[..] else { return None };
        let numbers = [own, own_ms, total, total_ms].map(|number| number.parse().unwrap());
        Some((numbers, name.join(" ")))
    };
    table.skip(1).map_while(row).collect()
}

/// Checks that elements are nested and their attributes quoted.
#[track_caller]
fn check_xml(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains("]]>"), "{:?}", &rest[..at]);
        rest = &rest[at..];
        let end = [("<?", "?>"), ("<![CDATA[", "]]>"), ("<!--", "-->"), ("<!DOCTYPE", ">")];
        if let Some((_, end)) = end.iter().find(|(begin, _)| rest.starts_with(begin)) {
            rest = &rest[rest.find(end).unwrap() + end.len()..];
            continue;
        }
        let mut quoted = false;
        let end = rest.char_indices().find(|(_, c)| {
            quoted ^= *c == '"';
            *c == '>' && !quoted
        });
        let tag = &rest[1..end.unwrap().0];
        let name = |tag: &str| tag.split([' ', '\n', '/']).next().unwrap().to_string();
        match tag.strip_prefix('/') {
            Some(tag) => assert_eq!(open.pop(), Some(name(tag))),
            None if !tag.ends_with('/') => open.push(name(tag)),
            None => {}
        }
        rest = &rest[tag.len() + 2..];
    }
    assert!(open.is_empty() && text.contains("<svg") && rest.trim().is_empty(), "{open:?} {rest:?}");
}

#[test]
fn a_program_is_profiled_on_all_engines() {
    let files = Files::new(&[("hot.wat", &program(""))]);
    for engine in ENGINES.iter().copied().map(Some).chain([None]) {
        let mut args = vec!["exec", "--cache=off", "--profile=flame"];
        args.extend(engine);
        args.push("hot.wat");
        let done = files.run(&args);
        done.check(0, "done\n");
        let graph = files.path("hot.flame.svg");
        let first = done.stderr.lines().find(|line| !line.contains("warning: --jit")).unwrap();
        assert!(first.starts_with("profile: ") && first.ends_with("flame graph: hot.flame.svg"), "{done:?}");
        let rows = rows(&done.stderr);
        let find = |name: &str| rows.iter().find(|(_, own)| own == name).unwrap_or_else(|| panic!("{done:?}")).0;
        let (inner, outer) = (find("inner"), find("outer"));
        assert!((45.0..95.0).contains(&inner[0]) && (5.0..45.0).contains(&outer[0]), "{done:?}");
        assert!(outer[2] >= inner[2] && outer[3] >= outer[1] && inner[1] <= inner[3], "{done:?}");
        assert_eq!(rows[0].1, "inner", "{done:?}");
        let svg = fs::read_to_string(&graph).unwrap();
        check_xml(&svg);
        for title in ["<title>outer (", "<title>inner (", " ms, ", ">hot.wat</text>"] {
            assert!(svg.contains(title), "{title}");
        }
        fs::remove_file(graph).unwrap();
    }
}

#[test]
fn the_profile_is_there_however_the_program_ends() {
    let ends = [
        ("unreachable", 134, "unreachable"),
        ("(call $exit (i32.const 7))", 7, ""),
        ("(loop $forever (br $forever))", 124, "--timeout"),
    ];
    for (end, status, message) in ends {
        let files = Files::new(&[("m.wat", &program(end))]);
        for engine in ENGINES {
            let done = files.run(&["exec", engine, "--timeout=4s", "--profile=flame=out.svg", "m.wat"]);
            assert_eq!(done.status, Some(status), "{done:?}");
            assert!(done.stderr.contains(message), "{done:?}");
            assert!(rows(&done.stderr).iter().any(|(_, name)| name == "inner"), "{done:?}");
            check_xml(&fs::read_to_string(files.path("out.svg")).unwrap());
        }
    }
}

#[test]
fn ctrl_c_ends_the_program_with_its_profile() {
    let files = Files::new(&[("m.wat", &program("(call $inner (i32.const 0)) (loop $forever (br $forever))"))]);
    for engine in ENGINES {
        let mut child = interruptible()
            .current_dir(files.0.path())
            .args(["exec", engine, "--profile=flame=out.svg", "m.wat"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        thread::sleep(Duration::from_millis(20));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(wait(&mut child, Duration::from_secs(30)), Some(130), "{engine}");
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(rows(&stderr).iter().any(|(_, name)| name == "inner"), "{stderr}");
        check_xml(&fs::read_to_string(files.path("out.svg")).unwrap());
    }
}

#[test]
fn a_graph_that_cannot_be_written_is_told_before_the_run() {
    let files = Files::new(&[
        ("m.wat", &program("")),
        ("old.svg", "an older graph"),
        ("quick.wat", "(module (func (export \"_start\")))"),
    ]);
    let missing = files.run(&["exec", "--profile=flame=none/out.svg", "m.wat"]);
    missing.fails(125, &["--profile=flame", "none/out.svg"]);
    files.run(&["exec", "--profile=flame=.", "m.wat"]).fails(125, &["--profile=flame", "irectory"]);
    for bad in ["flame=", "svg", "flames", ""] {
        files.run(&["exec", &format!("--profile={bad}"), "m.wat"]).fails(2, &["flame, flame=FILE, perfmap or jitdump"]);
    }
    files.run(&["wast", "--profile=flame", "m.wat"]).fails(2, &["exec"]);
    // What does not run, or ends at once, leaves no file, and keeps the one that was there.
    files.run(&["exec", "--profile=flame=new.svg", "--call=none", "quick.wat"]).fails(125, &["no export"]);
    files.run(&["exec", "--profile=flame=new.svg", "quick.wat"]).fails(0, &["nothing was sampled"]);
    assert!(!files.path("new.svg").exists());
    files.run(&["exec", "--profile=flame=old.svg", "quick.wat"]).fails(0, &["nothing was sampled"]);
    assert_eq!(fs::read_to_string(files.path("old.svg")).unwrap(), "an older graph");
}

/// Neither the graph nor the table takes anything from a name but letters.
#[test]
fn names_of_functions_are_no_markup() {
    const NAMES: [&str; 8] = [
        "<script>alert(1)</script>",
        "]]><script>alert(2)</script>",
        "\\22 onload=\\22alert(3)\\22 x=\\22",
        "a;b 17",
        "\\1b[31mred\\0aprofile: forged",
        "\\e2\\80\\aeturned",
        "&amp;&lt;&#60;script&#62;",
        "-->'--&x;",
    ];
    let mut wat = String::from("(module");
    for (index, name) in NAMES.iter().enumerate() {
        wat.push_str(&format!(
            "(func $f{index} (@name \"{name}\") (local $n i32)
                (local.set $n (i32.const 9000000))
                (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"
        ));
    }
    let calls: Vec<_> = (0..NAMES.len()).map(|index| format!("(call $f{index})")).collect();
    wat.push_str(&format!("(func (export \"_start\") {}))", calls.concat()));
    let files = Files::new(&[("<b>&.wat", &wat)]);
    let done = files.run(&["exec", "--interp", "--profile=flame=out.svg", "<b>&.wat"]);
    assert_eq!((done.status, rows(&done.stderr).len()), (Some(0), 9), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 11, "{done:?}");
    assert!(!done.stderr.contains(['\u{1b}', '\u{202e}']), "{done:?}");
    let svg = fs::read_to_string(files.path("out.svg")).unwrap();
    check_xml(&svg);
    assert_eq!(svg.matches("<script").count(), 1, "the graph has one script, its own");
    assert!(!svg.contains(['\u{1b}', '\u{202e}']) && !svg.contains("onload=\"alert") && !svg.contains("<b>"));
    for shown in ["&lt;script&gt;alert(1)&lt;/script&gt;", "a:b", "&amp;amp:&amp;lt:&amp;#60:script"] {
        assert!(svg.contains(shown), "{shown}");
    }
}

/// A program that sleeps is not woken, and its sleep is not counted.
#[test]
fn sleep_is_no_processor_time() {
    const SLEEP: &str = r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $sleep (i64.store (i32.const 24) (i64.const 150_000_000))
            (i32.store (i32.const 16) (i32.const 1))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
        (func $work (local $n i32)
            (local.set $n (i32.const 3000000))
            (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
        (func (export "_start") (call $sleep) (call $work) (call $sleep)))"#;
    if common::emulated() {
        // What the emulator itself does counts as the program's.
        return;
    }
    let files = Files::new(&[("m.wat", SLEEP)]);
    for engine in ENGINES {
        let done = Done::new(
            wasmrun()
                .current_dir(files.0.path())
                .args(["exec", engine, "--cache=off", "--stats=json", "--profile=flame", "m.wat"])
                .output()
                .unwrap(),
        );
        assert_eq!(done.status, Some(0), "{done:?}");
        let of_rows: f64 = rows(&done.stderr).iter().map(|(row, _)| row[1]).sum();
        let stats = done.stderr.lines().rev().find(|line| line.starts_with('{')).unwrap();
        let stats: serde_json::Value = serde_json::from_str(stats).unwrap();
        assert!(of_rows <= stats["used"]["cpu_ms"].as_f64().unwrap() + 1.0, "{done:?}");
        assert!(stats["phases_ms"]["run"].as_f64().unwrap() >= 300.0, "{done:?}");
    }
}
