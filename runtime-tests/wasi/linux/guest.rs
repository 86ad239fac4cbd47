//! A guest that makes the calls it is told to make.

use crate::Result;
use std::sync::{Arc, Mutex};
use wasmrun::{Instance, Memory, Module, Store, Strategy, Value, WasiEnv, create_wasi_linker};

/// The functions that are called, with their parameters.
const FUNCTIONS: &[(&str, &str)] = &[
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_datasync", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_sync", "i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_remove_directory", "i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("sock_accept", "i32 i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// The directory that the guest was given.
pub(crate) const ROOT: i32 = 3;

/// Where in its memory results go, and a path, and another one.
pub(crate) const OUT: i32 = 64;
const PATH: i32 = 1024;
const OTHER: i32 = 8192;

/// An argument of a call.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    I32(i32),
    I64(i64),
    /// A path, which is two arguments; the second of a call lies elsewhere.
    Path(&'a str),
}

pub(crate) struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    pub(crate) fn new(strategy: Strategy, env: WasiEnv) -> Result<Self> {
        let mut text = String::from("(module");
        for (name, params) in FUNCTIONS {
            text +=
                &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))");
        }
        text += "(memory (export \"memory\") 20)";
        for (name, params) in FUNCTIONS {
            let args: String = (0..params.split(' ').count()).map(|index| format!("(local.get {index})")).collect();
            text += &format!("(func (export \"{name}\") (param {params}) (result i32) (call ${name} {args}))");
        }
        let engine = crate::engine(strategy)?;
        let module = Module::new(&engine, text + ")")?;
        let mut store = Store::new(&engine, ());
        let instance = create_wasi_linker(Arc::new(Mutex::new(env))).instantiate(&mut store, &module)?;
        let memory = instance.get_memory(&mut store, "memory").ok_or("no memory")?;
        Ok(Guest { store, instance, memory })
    }

    /// Calls a function and gives its errno.
    pub(crate) fn call(&mut self, name: &str, args: &[Arg<'_>]) -> Result<i32> {
        let mut values = vec![];
        let mut path_at = PATH;
        for arg in args {
            match arg {
                Arg::I32(value) => values.push(Value::I32(*value)),
                Arg::I64(value) => values.push(Value::I64(*value)),
                Arg::Path(path) => {
                    self.memory.write(&mut self.store, path_at as usize, path.as_bytes())?;
                    values.extend([Value::I32(path_at), Value::I32(path.len() as i32)]);
                    path_at = OTHER;
                }
            }
        }
        let function = self.instance.get_func(&mut self.store, name).ok_or("no such function")?;
        let mut results = [Value::I32(-1)];
        function.call(&mut self.store, &values, &mut results)?;
        match results {
            [Value::I32(errno)] => Ok(errno),
            _ => Err("no errno".into()),
        }
    }

    pub(crate) fn write(&mut self, at: i32, bytes: &[u8]) -> Result<()> {
        Ok(self.memory.write(&mut self.store, at as usize, bytes)?)
    }

    /// Lists buffers at `at`.
    pub(crate) fn buffers(&mut self, at: i32, list: impl IntoIterator<Item = (i32, i32)>) -> Result<()> {
        let bytes: Vec<u8> =
            list.into_iter().flat_map(|(start, len)| [start.to_le_bytes(), len.to_le_bytes()].concat()).collect();
        self.write(at, &bytes)
    }

    pub(crate) fn bytes(&self, at: i32, len: usize) -> &[u8] {
        &self.memory.data(&self.store)[at as usize..at as usize + len]
    }

    pub(crate) fn u32_at(&self, at: i32) -> u32 {
        self.bytes(at, 4).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64_at(&self, at: i32) -> u64 {
        self.bytes(at, 8).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Opens a path, and gives the errno and the descriptor.
    pub(crate) fn open(
        &mut self,
        dir: i32,
        lookup: i32,
        path: &str,
        oflags: i32,
        rights: i64,
        fdflags: i32,
    ) -> Result<(i32, i32)> {
        use Arg::*;
        let args = [I32(dir), I32(lookup), Path(path), I32(oflags), I64(rights), I64(0), I32(fdflags), I32(OUT)];
        let errno = self.call("path_open", &args)?;
        Ok((errno, self.u32_at(OUT) as i32))
    }
}
