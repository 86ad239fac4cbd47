//! The commands that the README shows, run as they stand there.

use super::*;

const README: &str = include_str!("../../README.md");

/// The lines of the fenced blocks of this language that come after a heading, up to the next one of its level.
fn blocks(heading: &str, language: &str) -> Vec<&'static str> {
    let from = README.find(heading).unwrap_or_else(|| panic!("the README has a heading {heading}"));
    let section = README[from + heading.len()..].split("\n## ").next().expect("there is a first part");
    let fence = format!("```{language}");
    let mut lines = Vec::new();
    let mut is_in = false;
    for line in section.lines() {
        if line.starts_with("```") {
            is_in = line == fence;
        } else if is_in {
            lines.push(line);
        }
    }
    assert!(!lines.is_empty(), "{heading} has commands");
    lines
}

/// The command of a line, without the explanation that spaces set off.
fn command_of(line: &str) -> &str {
    line.split("  ").next().expect("there is a first part")
}

#[test]
fn the_commands_of_the_overview_do_what_it_says() {
    let hello = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/runtime-tests/programs/hello.wasm")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["hello.wasm", "cat.wasm", "sort.wasm", "app.wasm"] {
        fs::write(at(name), &hello).unwrap();
    }
    fs::create_dir(at("in")).unwrap();
    fs::write(at("notes.txt"), "notes").unwrap();
    let add = r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
    fs::write(at("math.wat"), add).unwrap();
    fs::write(
        at("script.wast"),
        format!("{add} (assert_return (invoke \"add\" (i32.const 1) (i32.const 2)) (i32.const 3))"),
    )
    .unwrap();

    // With whatever runs programs of this target before it.
    let tool = common::command(env!("CARGO_BIN_EXE_wasmrun"));
    let words = [tool.get_program()].into_iter().chain(tool.get_args());
    let tool = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let shell = |command: &str| {
        let command = command.replacen("wasmrun", "$WASMRUN", 1);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &command])
            .current_dir(folder.path())
            .env("WASMRUN", &tool)
            .env("XDG_CACHE_HOME", at("cache"));
        shell.stdin(Stdio::null()).output().unwrap()
    };
    let lines = blocks("## The command line", "sh");
    for line in &lines {
        let command = command_of(line).trim_start_matches("$ ");
        // What a command prints follows it where it has a prompt.
        if !command.starts_with("wasmrun ") {
            continue;
        }
        // Without the JIT there are no native code and no cache.
        if cfg!(not(jit)) && ["--asm", "compile", "cache"].iter().any(|word| command.contains(word)) {
            continue;
        }
        if cfg!(not(feature = "profile")) && command.contains("--profile=flame") {
            continue;
        }
        let output = shell(command);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {text}");
        if line.starts_with("$ ") {
            let at = lines.iter().position(|other| other == line).unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), lines[at + 1], "{command}");
        }
    }
    assert!(lines.len() > 10);
}
