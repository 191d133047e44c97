//! The compiler process of a host: bounded, cancelled with its client, replaced when it dies, and in nobody's way.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use bireme::app::metadata::Metadata;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use wasm_encoder::{
    BlockType, CodeSection, Component, Function, FunctionSection, InstructionSink, Module, ModuleSection, TypeSection,
    ValType,
};

use crate::support::{
    Connection, Guest, Reply, Server, children, children_as, command, file, finish, fresh_data, guest, signal_process,
    stat, wait_until, with_token,
};

const LOCALS: u32 = 40_000;
const LOOPS: u32 = 10;
const LONG: &str = "1h,16GiB";

/// Returns a component that Cranelift works on for minutes, with hundreds of megabytes: one function in which each of
/// many loops changes each of many locals.
fn bomb() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut function = Function::new([(LOCALS, ValType::I32)]);
    let mut code: InstructionSink<'_> = function.instructions();
    for _ in 0..LOOPS {
        code.loop_(BlockType::Empty);
        for local in 0..LOCALS {
            code.local_get(local).local_get((local + 1) % LOCALS).i32_add().local_set(local);
        }
        code.local_get(0).br_if(0).end();
    }
    code.end();
    let mut codes = CodeSection::new();
    codes.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&codes);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    as_app("bomb", &component.finish())
}

/// Returns `hello` as an app of another name.
fn good(name: &str) -> Vec<u8> {
    as_app(name, Metadata::strip(&fs::read(guest(Guest::Hello)).unwrap()))
}

fn as_app(name: &str, code: &[u8]) -> Vec<u8> {
    let mut metadata = Metadata::read(&fs::read(guest(Guest::Hello)).unwrap()).unwrap();
    metadata.app.name = bireme::ids::AppName::new(name).unwrap();
    metadata.attach(code)
}

/// A host whose compiles have these limits, and no compiled code.
struct Host {
    server: Server,
    _data: TempDir,
}

impl Host {
    fn start(compile_max: &str) -> Self {
        let data = fresh_data();
        fs::remove_file(data.path().join("artifacts")).unwrap();
        let server = Server::try_start(data.path(), &[], &["--compile-max", compile_max]).unwrap();
        Self { server, _data: data }
    }

    /// Sends a component; the reply comes once it is compiled.
    fn send(&self, component: &[u8]) -> Connection {
        let mut connection = Connection::open(self.server.address);
        connection.send(&request(component));
        connection
    }

    #[track_caller]
    fn deploy(&self, component: &[u8]) -> Reply {
        self.send(component).receive()
    }

    fn post(&self, path: &str) -> u16 {
        self.server.post(path, "").status
    }

    fn greets(&self, app: &str) -> bool {
        self.server.post(&format!("/{app}/greet"), r#"{"name":"Ada"}"#).status == 200
    }

    /// The compiler process; a host without a model has no other child.
    fn compiler(&self) -> Option<u32> {
        children_as("compiler", self.server.process.pid()).into_iter().next()
    }

    /// Compiles under way.
    fn compiles(&self) -> Vec<u32> {
        self.compiler().map(children).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for_compile(&self) -> u32 {
        wait_until("a compile begins", || !self.compiles().is_empty());
        self.compiles()[0]
    }
}

fn request(component: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/apps?accept=all HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/wasm\r\n\
         content-length: {}\r\n\r\n",
        component.len()
    );
    [head.as_bytes(), component].concat()
}

/// Returns the resident bytes of a process; 0 once it is gone.
fn resident_bytes(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[test]
fn nothing_waits_for_a_component_that_compiles_for_minutes() {
    let host = Host::start(LONG);
    let before = resident_bytes(host.server.process.pid());
    let bomb = host.send(&bomb());
    let compile = host.wait_for_compile();

    assert_eq!(host.deploy(&good("first")).status, 201);
    assert!(host.greets("first"));
    let mut second = Metadata::read(&good("first")).unwrap();
    second.app.description = "another".to_owned();
    let second = second.attach(Metadata::strip(&good("first")));
    assert_eq!(host.deploy(&second).status, 201);
    assert_eq!(host.post("/api/v1/apps/first/rollback"), 200);
    let stopped = host.server.exchange("DELETE /api/v1/apps/first HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(stopped.status, 200, "{stopped:#?}");
    assert!(!host.greets("first"));
    assert!(stat(compile).is_some(), "the compile is over, so nothing was tested");

    // Its memory is not the host's.
    wait_until("the compile takes memory", || resident_bytes(compile) > 300 << 20);
    let grown = resident_bytes(host.server.process.pid()).saturating_sub(before);
    assert!(grown < 100 << 20, "the host has grown by {} MiB", grown >> 20);
    drop(bomb);
}

#[test]
fn a_client_that_hangs_up_ends_its_compile_and_no_other() {
    let host = Host::start(LONG);
    let component = bomb();
    let mut leaving = TcpStream::connect(host.server.address).unwrap();
    leaving.write_all(&with_token(&request(&component))).unwrap();
    let left = host.wait_for_compile();
    let staying = host.send(&as_app("other", Metadata::strip(&component)));
    wait_until("both are compiled", || host.compiles().len() == 2);
    let stayed = host.compiles().into_iter().find(|&pid| pid != left).unwrap();
    leaving.shutdown(Shutdown::Both).unwrap();
    drop(leaving);
    wait_until("one compile is over", || host.compiles() == [stayed]);
    drop(staying);
    wait_until("both compiles are over", || host.compiles().is_empty());
    assert_eq!(host.deploy(&good("next")).status, 201);
}

#[test]
fn a_component_over_the_time_or_the_memory_is_refused_and_changes_nothing() {
    for (limit, words) in [("1s,16GiB", "after 1 s"), ("1h,64MiB", "more than 64 MiB of memory")] {
        let host = Host::start(limit);
        let refused = host.deploy(&bomb());
        assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("compile-limit")), "{refused:#?}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words) && detail.contains("--compile-max"), "{detail}");
        assert_eq!(host.server.get("/api/v1/apps").json()["apps"], json!([]));
        wait_until("the compile is over", || host.compiles().is_empty());
    }
}

#[test]
fn a_compiler_that_is_killed_is_started_again_and_its_compile_repeated_once() {
    let host = Host::start(LONG);
    let mut bomb = host.send(&bomb());
    let mut killed = Vec::new();
    for _ in 0..2 {
        let compile = host.wait_for_compile();
        let compiler = host.compiler().unwrap();
        signal_process(compiler, Signal::KILL);
        wait_until("its compile ends with it", || stat(compile).is_none());
        killed.push(compiler);
    }
    let reply = bomb.receive();
    assert_eq!((reply.status, reply.json()["code"].as_str()), (500, Some("compiler-died")), "{reply:#?}");
    assert_eq!(host.deploy(&good("next")).status, 201);
    assert!(!killed.contains(&host.compiler().unwrap()));
}

#[test]
fn a_compile_that_is_killed_is_refused_alone() {
    let host = Host::start(LONG);
    let mut bomb = host.send(&bomb());
    let compile = host.wait_for_compile();
    let compiler = host.compiler();
    signal_process(compile, Signal::KILL);
    let reply = bomb.receive();
    assert_eq!((reply.status, reply.json()["code"].as_str()), (500, Some("compiler-died")), "{reply:#?}");
    assert!(reply.json()["detail"].as_str().unwrap().contains("signal 9"), "{reply:#?}");
    assert_eq!(host.deploy(&good("next")).status, 201);
    assert_eq!(host.compiler(), compiler);
}

#[test]
fn the_compiler_ends_with_its_host() {
    let mut host = Host::start(LONG);
    let bomb = host.send(&bomb());
    let compile = host.wait_for_compile();
    let compiler = host.compiler().unwrap();
    host.server.process.signal(Signal::KILL);
    host.server.process.wait();
    for pid in [compiler, compile] {
        wait_until("all processes have ended", || stat(pid).is_none());
    }
    drop(bomb);
}

#[test]
fn a_slow_compile_is_announced_by_name() {
    let (data, dir) = (fresh_data(), tempfile::tempdir().unwrap());
    fs::remove_file(data.path().join("artifacts")).unwrap();
    let path = file(&dir, "bomb.wasm", &bomb());
    let refused = run(data.path(), &["run", "--compile-max", "3s", &format!("{path}::greet"), "--name", "Ada"]);
    assert_eq!(refused.status, 1, "{refused:#?}");
    for words in ["compiling `bomb` (", "error[compile-limit]", "bireme explain compile-limit"] {
        assert!(refused.stderr.contains(words), "no `{words}` in {refused:#?}");
    }
    // What an app without metadata has is known once it is compiled, so these have the option too.
    for command in ["inspect", "build"] {
        let refused = run(data.path(), &[command, "--compile-max", "0s", &path]);
        assert!(refused.status == 2 && refused.stderr.contains("nothing compiles in no time"), "{refused:#?}");
    }
}

fn run(data: &Path, args: &[&str]) -> crate::support::Output {
    finish(command(data, args))
}
