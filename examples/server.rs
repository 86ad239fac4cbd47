//! A server that runs programs of many tenants on few threads: each request runs a WASI program, and what that writes is the
//! answer.
//!
//!     cargo run --release --example server -- 127.0.0.1:8080 PROGRAMS
//!     curl 'http://127.0.0.1:8080/hello?who=me'
//!
//! This runs `PROGRAMS/hello.wasm` with the arguments `hello` and `who=me`. All guests share the threads of one executor: one
//! that waits is suspended, one that computes gives way a thousand times a second, and one that takes too long, or too much, is
//! ended.
//!
//! In a `Cargo.toml`, tokio needs its features `io-util`, `macros`, `net`, `rt-multi-thread` and `time` for this.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wasmrun::{
    Engine, ErrorKind, InstancePre, Linker, Module, Store, StoreLimits, StoreLimitsBuilder, Trap, WasiEnv, wasi,
};

/// How often guests that compute give way to others.
const TICK: Duration = Duration::from_millis(1);
/// How long a request may take, from its first byte on.
const TIME: Duration = Duration::from_secs(2);
/// How many bytes of memory, and of output, a guest may have.
const MEMORY: usize = 64 << 20;
const OUTPUT: usize = 1 << 20;
/// The longest request.
const REQUEST: usize = 8 << 10;

/// What a guest has to itself.
struct Guest {
    wasi: WasiEnv,
    limits: StoreLimits,
}

/// The answer to a request: an HTTP status and a body.
type Answer = (&'static str, Vec<u8>);

/// The programs, compiled and linked once for all requests.
struct Server {
    engine: Engine,
    programs: HashMap<String, InstancePre<Guest>>,
}

impl Server {
    fn new(programs: impl IntoIterator<Item = (String, Vec<u8>)>) -> wasmrun::Result<Server> {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)?;
        let mut linked = HashMap::new();
        for (name, bytes) in programs {
            linked.insert(name, linker.instantiate_pre(&Module::new(&engine, bytes)?)?);
        }
        let ticking = engine.clone();
        // Not a task: no task runs while guests keep all threads busy.
        thread::spawn(move || {
            loop {
                thread::sleep(TICK);
                ticking.increment_epoch();
            }
        });
        Ok(Server { engine, programs: linked })
    }

    /// Runs a program with these arguments.
    async fn run(&self, name: &str, args: Vec<String>, deadline: Instant) -> Answer {
        let Some(program) = self.programs.get(name) else { return ("404 Not Found", Vec::new()) };
        let guest = Guest {
            wasi: WasiEnv::new().with_args(args).with_max_captured(OUTPUT),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY).instances(1).build(),
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.limits);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let result = async {
            store.set_deadline(deadline)?;
            let instance = program.instantiate_async(&mut store).await?;
            instance.get_typed_func::<(), ()>(&mut store, "_start")?.call_async(&mut store, ()).await
        };
        match result.await {
            Err(error) if error.trap() == Some(Trap::Deadline) => ("504 Gateway Timeout", Vec::new()),
            Err(error) if !matches!(error.kind(), ErrorKind::Exit(0)) => {
                ("502 Bad Gateway", format!("{error}\n").into_bytes())
            }
            _ => ("200 OK", store.data().wasi.get_stdout()),
        }
    }

    /// Answers one request of a connection.
    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let deadline = Instant::now() + TIME;
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = stream.read_buf(&mut head);
            let received = tokio::time::timeout_at(deadline.into(), read).await??;
            if received == 0 || head.len() > REQUEST {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head);
        let (status, body) = match head.split(' ').nth(1).and_then(|target| target.strip_prefix('/')) {
            None => ("400 Bad Request", Vec::new()),
            Some(target) => {
                let (name, query) = target.split_once('?').unwrap_or((target, ""));
                let args = [name].into_iter().chain(query.split('&').filter(|arg| !arg.is_empty()));
                self.run(name, args.map(Into::into).collect(), deadline).await
            }
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        tokio::time::timeout(TIME, stream.write_all(&[head.as_bytes(), &body].concat())).await??;
        Ok(())
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let server = self.clone();
            tokio::spawn(async move {
                if let Err(error) = server.answer(stream).await {
                    eprintln!("a connection failed: {error}");
                }
            });
        }
    }
}

/// The programs in a directory, by their names without `.wasm`.
fn programs(dir: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut programs = vec![];
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let (Some("wasm"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_stem()) {
            programs.push((name.to_string_lossy().into_owned(), fs::read(&path)?));
        }
    }
    Ok(programs)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [_, address, dir] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: server ADDRESS PROGRAMS".into());
    };
    let server = Arc::new(Server::new(programs(dir.as_ref())?)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { server.serve(TcpListener::bind(address).await?).await })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that imports what it needs and runs `body`.
    fn program(name: &str, body: &str) -> (String, Vec<u8>) {
        let text = format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "hello\0a")
            (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $sleep (param $ms i64)
                (i32.store (i32.const 80) (i32.const 1))
                (i64.store (i32.const 88) (i64.mul (local.get $ms) (i64.const 1000000)))
                (drop (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 8))))
            (func $start (export "_start") {body}))"#
        );
        (name.into(), text.into_bytes())
    }

    async fn get(address: std::net::SocketAddr, target: &str) -> (String, Duration) {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET /{target} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer, begun.elapsed())
    }

    /// Tenants that loop, wait, flood, recurse and take memory, all at once and on one thread, do not keep the good ones from
    /// being served.
    #[test]
    fn bad_tenants_do_not_harm_good_ones() {
        let server = Server::new([
            program("good", "(call $say)"),
            program("patient", "(call $sleep (i64.const 50)) (call $say)"),
            program("loops", "(loop (br 0))"),
            program("waits", "(call $sleep (i64.const 1_000_000))"),
            program("floods", "(loop (call $say) (br 0))"),
            program("recurses", "(call $start)"),
            program("takes", "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"),
        ]);
        let server = Arc::new(server.unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(server.serve(listener));
            let bad = ["loops", "waits", "floods", "recurses", "takes"];
            let bad: Vec<_> = bad.into_iter().cycle().take(20).map(|name| tokio::spawn(get(address, name))).collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
            for _ in 0..3 {
                for name in ["good", "patient"] {
                    let (answer, took) = get(address, name).await;
                    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhello\n"), "{answer}");
                    assert!(took < TIME, "{took:?}");
                }
            }
            assert!(get(address, "unknown").await.0.starts_with("HTTP/1.1 404"));
            for (n, task) in bad.into_iter().enumerate() {
                let (answer, took) = task.await.unwrap();
                let expected = ["504", "504", "504", "502", "502"][n % 5];
                assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{n}: {answer}");
                assert!(took < 20 * TIME, "{n}: {took:?}");
            }
        });
    }
}
