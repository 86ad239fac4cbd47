//! A program with plug-ins: each is a module that changes lines of text. None can do anything but that, hang the program, or
//! end it.
//!
//!     cargo run --release --example plugins -- PLUGINS <INPUT
//!
//! PLUGINS is a directory of modules (.wasm or .wat); they are applied in the order of their names. A plug-in exports its
//! `memory`, and
//!
//! - `alloc: (len: i32) -> i32`, which gives room for so many bytes,
//! - `line: (at: i32, len: i32) -> i64`, which takes a line of UTF-8 and returns another one: where it is in the low half, and
//!   its length in the high one.
//!
//! It may import `host.log: (at: i32, len: i32)`, which writes a message.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use wasmrun::{
    Caller, Engine, Error, InstancePre, Linker, Memory, Module, Result, Store, StoreLimits, StoreLimitsBuilder,
    TypedFunc,
};

/// How long a plug-in may take for a line.
const TIME: Duration = Duration::from_millis(200);
/// How many bytes of memory a plug-in may have.
const MEMORY: usize = 16 << 20;

/// What the host keeps for a plug-in.
struct State {
    name: String,
    messages: Vec<String>,
    limits: StoreLimits,
}

/// A plug-in, in a store of its own: what it does in there does not reach the others.
struct Plugin {
    program: InstancePre<State>,
    running: Running,
}

struct Running {
    store: Store<State>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    line: TypedFunc<(u32, u32), u64>,
}

/// What plug-ins may call.
fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("host", "log", |mut caller: Caller<'_, State>, at: u32, len: u32| {
        let (memory, state) = caller.memory_and_data();
        state.messages.push(memory.read_string(at, len)?);
        Ok(())
    })?;
    Ok(linker)
}

impl Plugin {
    fn new(engine: &Engine, linker: &Linker<State>, name: &str, bytes: &[u8]) -> Result<Self> {
        let program = linker.instantiate_pre(&Module::new(engine, bytes)?)?;
        let running = Running::new(&program, name)?;
        Ok(Plugin { program, running })
    }

    /// Has the plug-in change a line. One that fails leaves it as it is, and begins anew with the next: what it had in its
    /// memory may make no sense any more.
    fn apply(&mut self, line: &mut String) -> Result<()> {
        match self.running.apply(line) {
            Ok(changed) => *line = changed,
            Err(error) => {
                let name = self.running.store.data().name.clone();
                self.running = Running::new(&self.program, &name)?;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Running {
    fn new(program: &InstancePre<State>, name: &str) -> Result<Self> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY).build();
        let state = State { name: name.into(), messages: Vec::new(), limits };
        let mut store = Store::new(program.module().engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_deadline(Instant::now() + TIME)?;
        let instance = program.instantiate(&mut store)?;
        Ok(Running {
            memory: instance.get_memory(&mut store, "memory").ok_or_else(|| Error::host("it exports no memory"))?,
            alloc: instance.get_typed_func(&mut store, "alloc")?,
            line: instance.get_typed_func(&mut store, "line")?,
            store,
        })
    }

    fn apply(&mut self, line: &str) -> Result<String> {
        let store = &mut self.store;
        store.set_deadline(Instant::now() + TIME)?;
        let len = line.len() as u32;
        let at = self.alloc.call(&mut *store, len)?;
        // The plug-in chose the address: that it is in its memory is checked.
        self.memory.write(&mut *store, at as usize, line.as_bytes())?;
        let changed = self.line.call(&mut *store, (at, len))?;
        let (at, len) = (changed as u32 as usize, (changed >> 32) as usize);
        let bytes = self.memory.data(&*store).get(at..at.saturating_add(len));
        let bytes = bytes.ok_or_else(|| Error::host("the line that it returned is not in its memory"))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::host("the line that it returned is no UTF-8"))
    }
}

/// The plug-ins in a directory, in the order of their names.
fn load(directory: &Path) -> std::result::Result<Vec<Plugin>, Box<dyn std::error::Error>> {
    let engine = Engine::default();
    let linker = linker(&engine)?;
    let mut paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm" || extension == "wat"));
    paths.sort();
    let mut plugins = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let plugin = Plugin::new(&engine, &linker, &name, &fs::read(&path)?);
        plugins.push(plugin.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(plugins)
}

/// Applies all plug-ins to a line, and gives it to `output`. What they say goes to `log`.
fn apply(plugins: &mut [Plugin], line: &mut String, log: &mut dyn FnMut(&str)) {
    for plugin in plugins {
        let outcome = plugin.apply(line);
        let state = plugin.running.store.data_mut();
        for message in state.messages.drain(..) {
            log(&format!("{}: {message}", state.name));
        }
        if let Err(error) = outcome {
            log(&format!("{} failed: {error}", state.name));
        }
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(directory) = env::args_os().nth(1) else { return Err("usage: plugins PLUGINS <INPUT".into()) };
    let mut plugins = load(Path::new(&directory))?;
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let mut line = line?;
        apply(&mut plugins, &mut line, &mut |message| eprintln!("{message}"));
        writeln!(output, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plug-in with this body of `line`. All lines are at 64.
    fn plugin(body: &str) -> Plugin {
        let module = format!(
            r#"(module
                (import "host" "log" (func $log (param i32 i32)))
                (memory (export "memory") 1)
                (data (i32.const 0) "empty")
                (func (export "alloc") (param i32) (result i32) (i32.const 64))
                (func $same (param i32 i32) (result i64)
                    (i64.or (i64.extend_i32_u (local.get 0)) (i64.shl (i64.extend_i32_u (local.get 1)) (i64.const 32))))
                (func (export "line") (param $at i32) (param $len i32) (result i64)
                    {body}
                    (call $same (local.get $at) (local.get $len))))"#
        );
        let engine = Engine::default();
        Plugin::new(&engine, &linker(&engine).unwrap(), "test", module.as_bytes()).unwrap()
    }

    fn applied(plugins: &mut [Plugin], line: &str) -> (String, Vec<String>) {
        let (mut line, mut log) = (line.to_string(), Vec::new());
        apply(plugins, &mut line, &mut |message| log.push(message.to_string()));
        (line, log)
    }

    /// Makes the first character an `X`.
    const MARK: &str = "(i32.store8 (local.get $at) (i32.const 88))";

    #[test]
    fn plugins_change_lines_and_say_things() {
        let says = "(if (i32.eqz (local.get $len)) (then (call $log (i32.const 0) (i32.const 5))))";
        let shortens = "(if (local.get $len) (then (local.set $len (i32.sub (local.get $len) (i32.const 1)))))";
        let mut plugins = [plugin(MARK), plugin(says), plugin(shortens)];
        assert_eq!(applied(&mut plugins, "line"), ("Xin".into(), vec![]));
        assert_eq!(applied(&mut plugins, ""), ("".into(), vec!["test: empty".into()]));
    }

    #[test]
    fn plugins_that_fail_leave_the_line() {
        let cases = [
            ("(loop (br 0))", "deadline"),
            ("unreachable", "unreachable"),
            ("(local.set $len (i32.const -1))", "not in its memory"),
            ("(i32.store8 (local.get $at) (i32.const 255))", "no UTF-8"),
            ("(call $log (i32.const -1) (i32.const 5))", "out of bounds"),
        ];
        for (body, reason) in cases {
            let mut plugins = [plugin(body), plugin(MARK)];
            let (line, log) = applied(&mut plugins, "line");
            assert_eq!(line, "Xine");
            assert!(log.len() == 1 && log[0].contains(reason), "{log:?}");
        }
    }

    #[test]
    fn a_plugin_that_failed_begins_anew() {
        // Counts its lines in memory, and fails at the second.
        let body = "(i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))
            (if (i32.eq (i32.load (i32.const 32)) (i32.const 2)) (then unreachable))";
        let mut plugins = [plugin(body)];
        let failed = [(); 4].map(|()| !applied(&mut plugins, "line").1.is_empty());
        assert_eq!(failed, [false, true, false, true]);
    }

    #[test]
    fn a_directory_is_loaded_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let module = r#"(module (memory (export "memory") 1)
            (func (export "alloc") (param i32) (result i32) (i32.const 0))
            (func (export "line") (param i32 i32) (result i64) (i64.const 0)))"#;
        for name in ["b.wat", "a.wat", "c.txt"] {
            fs::write(directory.path().join(name), module).unwrap();
        }
        let names: Vec<_> =
            load(directory.path()).unwrap().iter().map(|plugin| plugin.running.store.data().name.clone()).collect();
        assert_eq!(names, ["a", "b"]);
        fs::write(directory.path().join("d.wat"), "(module)").unwrap();
        assert!(load(directory.path()).is_err_and(|error| error.to_string().contains("d.wat")));
    }
}
