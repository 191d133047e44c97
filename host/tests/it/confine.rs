//! Confinements of workers and compilers, each tried in a process of its own.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use bireme::worker::confine::Confinement;

/// Says how something ended: the error's kind, or that it went well.
fn tried<T>(what: &str, done: std::io::Result<T>) -> String {
    match done {
        Ok(_) => format!("{what}: done"),
        Err(error) => format!("{what}: {}", error.raw_os_error().map_or("error".to_owned(), |code| code.to_string())),
    }
}

/// Not a test of its own: what the child does. Its arguments are a directory and a port.
#[test]
#[ignore = "run by the tests beside it, in a child process"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn in_a_child() {
    let (dir, port) = (std::env::var("CONFINE_DIR").unwrap(), std::env::var("CONFINE_PORT").unwrap());
    let confinement = match std::env::var("CONFINE_AS").unwrap().as_str() {
        "Cpu" => Confinement::Cpu,
        "Cuda" => Confinement::Cuda,
        "Compiler" => Confinement::Compiler,
        _ => Confinement::Compile,
    };
    let old = format!("{dir}/old");
    confinement.apply();
    let lines = [
        tried("read", std::fs::read(&old)),
        tried("write", std::fs::write(&old, "changed")),
        tried("create", std::fs::write(format!("{dir}/new"), "")),
        tried("remove", std::fs::remove_file(&old)),
        tried("rename", std::fs::rename(&old, format!("{dir}/other"))),
        tried("connect", TcpStream::connect(format!("127.0.0.1:{port}"))),
        tried("listen", TcpListener::bind("127.0.0.1:0")),
        tried("udp", UdpSocket::bind("127.0.0.1:0")),
        tried("unix", UnixStream::pair()),
        tried("proc", std::fs::read("/proc/self/statm")),
        tried("signal", rustix::process::test_kill_process(rustix::process::getpid()).map_err(Into::into)),
        tried("start", Command::new("/bin/true").status()),
        tried("in a thread", {
            let path = format!("{dir}/thread");
            std::thread::spawn(move || std::fs::write(path, "")).join().unwrap()
        }),
    ];
    println!("<<{}>>", lines.join("; "));
}

fn child(confinement: Confinement) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old"), "as it was").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "confine::in_a_child", "--ignored", "--nocapture"])
        .env("CONFINE_AS", format!("{confinement:?}"))
        .env("CONFINE_DIR", dir.path())
        .env("CONFINE_PORT", listener.local_addr().unwrap().port().to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, said) = said.split_once("<<").unwrap_or_else(|| panic!("{output:?}"));
    said.split_once(">>").unwrap().0.to_owned()
}

#[test]
fn a_worker_on_the_cpu_reads_and_computes_and_nothing_else() {
    let said = child(Confinement::Cpu);
    // EPERM by seccomp; EACCES by Landlock, where the kernel has it.
    for refused in ["connect: 1", "listen: 1", "udp: 1", "start: 1"] {
        assert!(said.contains(refused), "{refused}: {said}");
    }
    assert!(said.contains("read: done") && said.contains("unix: done"), "{said}");
    let by_landlock = ["write", "create", "remove", "rename"].map(|what| said.contains(&format!("{what}: 13")));
    if by_landlock.contains(&true) {
        assert_eq!(by_landlock, [true; 4], "{said}");
        assert!(said.contains("in a thread: 13"), "{said}");
    }
}

#[test]
fn a_worker_on_a_gpu_has_no_network_and_keeps_what_a_driver_needs() {
    let said = child(Confinement::Cuda);
    for refused in ["connect: 1", "listen: 1", "udp: 1"] {
        assert!(said.contains(refused), "{refused}: {said}");
    }
    for kept in ["read: done", "write: done", "create: done", "unix: done", "start: done"] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
}

#[test]
fn a_compiler_reads_no_file_and_a_compile_signals_nobody() {
    for (confinement, proc, signal) in
        [(Confinement::Compiler, "proc: done", "signal: done"), (Confinement::Compile, "proc: 13", "signal: 1;")]
    {
        let said = child(confinement);
        for refused in ["connect: 1", "listen: 1", "udp: 1", "start: 1", signal] {
            assert!(said.contains(refused), "{refused} as {confinement:?}: {said}");
        }
        // EACCES by Landlock, where the kernel has it.
        if said.contains("write: 13") {
            for words in ["read: 13", "create: 13", "remove: 13", "rename: 13", "in a thread: 13", proc] {
                assert!(said.contains(words), "{words} as {confinement:?}: {said}");
            }
        }
    }
}
