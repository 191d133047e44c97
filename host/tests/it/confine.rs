//! Confinements of workers and compilers, each tried in a process of its own.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use bireme::confine::Confinement;

/// Says how something ended: the error's number, or that it went well.
fn tried<T>(what: &str, done: std::io::Result<T>) -> String {
    match done {
        Ok(_) => format!("{what}: done"),
        Err(error) => format!("{what}: {}", error.raw_os_error().map_or("error".to_owned(), |code| code.to_string())),
    }
}

/// Makes a system call by its number, with at most four arguments.
#[expect(unsafe_code, reason = "no wrapper makes calls that must fail; none of these passes a pointer")]
fn call(number: i64, arguments: [i64; 4]) -> std::io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: the callers pass numbers, and null where the kernel would expect an address.
    if unsafe { libc::syscall(number, a, b, c, d) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Attempts of a confined process, with its parent as the victim. The directory is the models', in another one.
fn attempts(dir: &str, port: &str) -> Vec<String> {
    let parent = i64::from(std::os::unix::process::parent_id());
    let own = i64::from(std::process::id());
    let none = 0;
    let (inside, outside) = (format!("{dir}/models/model"), format!("{dir}/outside"));
    vec![
        tried("read", std::fs::read(&inside)),
        tried("read by link", std::fs::read(format!("{dir}/models/link"))),
        tried("read itself", std::fs::read("/proc/self/status")),
        tried("read outside", std::fs::read(&outside)),
        tried("read by root", std::fs::read(format!("/proc/self/root{outside}"))),
        tried("read of the host", std::fs::read(format!("/proc/{parent}/environ"))),
        tried("list", std::fs::read_dir("/")),
        tried("write", std::fs::write(&inside, "changed")),
        tried("create", std::fs::write(format!("{dir}/models/new"), "")),
        tried("remove", std::fs::remove_file(&inside)),
        tried("rename", std::fs::rename(&inside, format!("{dir}/models/other"))),
        tried("chmod", std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o777))),
        tried("connect", TcpStream::connect(format!("127.0.0.1:{port}"))),
        tried("listen", TcpListener::bind("127.0.0.1:0")),
        tried("udp", UdpSocket::bind("127.0.0.1:0")),
        tried("unix", UnixStream::pair()),
        tried("start", Command::new("/bin/true").status()),
        tried("kill", call(libc::SYS_kill, [parent, 0, none, none])),
        tried("kill itself", call(libc::SYS_kill, [own, 0, none, none])),
        tried("tkill", call(libc::SYS_tkill, [parent, 0, none, none])),
        tried("tgkill", call(libc::SYS_tgkill, [parent, parent, 0, none])),
        tried("tgkill itself", call(libc::SYS_tgkill, [own, own, 0, none])),
        tried("sigqueue", call(libc::SYS_rt_sigqueueinfo, [parent, 10, none, none])),
        tried("tgsigqueue", call(libc::SYS_rt_tgsigqueueinfo, [parent, parent, 10, none])),
        tried("pidfd", call(libc::SYS_pidfd_open, [parent, 0, none, none])),
        tried("pidfd signal", call(libc::SYS_pidfd_send_signal, [0, 0, none, 0])),
        tried("trace", call(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), parent, none, none])),
        tried("peek", call(libc::SYS_process_vm_readv, [parent, none, 0, none])),
        tried("limit", call(libc::SYS_prlimit64, [parent, libc::RLIMIT_CPU.into(), none, none])),
        tried("limit itself", call(libc::SYS_prlimit64, [0, libc::RLIMIT_CPU.into(), none, none])),
        tried("owner", call(libc::SYS_fcntl, [0, libc::F_SETOWN.into(), parent, none])),
        tried("type", call(libc::SYS_ioctl, [2, libc::TIOCSTI as i64, none, none])),
        tried("process", call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, none, none])),
        tried("shared memory", call(libc::SYS_shmget, [7, 4_096, libc::IPC_CREAT.into(), none])),
        tried("thread", {
            let path = outside.clone();
            std::thread::spawn(move || std::fs::read(path)).join().unwrap()
        }),
    ]
}

/// Not a test of its own: what the child does. Its arguments are a directory, a port, and an act.
#[test]
#[ignore = "run by the tests beside it, in a child process"]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn in_a_child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (dir, port, act) = (variable("CONFINE_DIR"), variable("CONFINE_PORT"), variable("CONFINE_ACT"));
    let confinement = match act.as_str() {
        "cuda" => Confinement::Cuda,
        "compiler" => Confinement::Compiler,
        "compile" => Confinement::Compile,
        _ => Confinement::Cpu,
    };
    let missing = confinement.apply(&[PathBuf::from(&dir).join("models")]);
    match act.as_str() {
        // `getpid` of the x32 table, and `abort`, which signals its own process.
        "x32" => drop(call(libc::SYS_getpid | 0x4000_0000, [0; 4])),
        "abort" => std::process::abort(),
        _ => println!("<<{}; missing: {missing:?}>>", attempts(&dir, &port).join("; ")),
    }
}

fn child(act: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("models")).unwrap();
    std::fs::write(dir.path().join("models/model"), "as it was").unwrap();
    std::fs::write(dir.path().join("outside"), "as it was").unwrap();
    std::fs::write(cache.path().join("blob"), "as it was").unwrap();
    std::os::unix::fs::symlink(cache.path().join("blob"), dir.path().join("models/link")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "confine::in_a_child", "--ignored", "--nocapture"])
        .env("CONFINE_DIR", dir.path())
        .env("CONFINE_PORT", listener.local_addr().unwrap().port().to_string())
        .env("CONFINE_ACT", act);
    command.output().unwrap()
}

fn attempted(act: &str) -> String {
    let output = child(act);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, said) = said.split_once("<<").unwrap_or_else(|| panic!("{output:?}"));
    said.split_once(">>").unwrap().0.to_owned() + ";"
}

#[test]
fn a_worker_on_the_cpu_reads_models_and_computes_and_nothing_else() {
    let said = attempted("cpu");
    let is = |what: &str, outcome: &str| assert!(said.contains(&format!("{what}: {outcome};")), "{what}: {said}");
    // EPERM by seccomp.
    let by_seccomp = [
        "chmod",
        "connect",
        "listen",
        "udp",
        "unix",
        "start",
        "kill",
        "tkill",
        "tgkill",
        "sigqueue",
        "tgsigqueue",
        "pidfd",
        "pidfd signal",
        "trace",
        "peek",
        "limit",
        "owner",
        "type",
        "process",
        "shared memory",
    ];
    by_seccomp.into_iter().for_each(|what| is(what, "1"));
    for kept in ["read", "read by link", "read itself", "tgkill itself", "limit itself"] {
        is(kept, "done");
    }
    // EACCES by Landlock, where the kernel has it: these tests also run where it does not.
    if said.contains("\"landlock\"") {
        return;
    }
    let by_landlock =
        ["read outside", "read by root", "read of the host", "list", "write", "create", "remove", "rename", "thread"];
    by_landlock.into_iter().for_each(|what| is(what, "13"));
}

#[test]
fn a_worker_on_a_gpu_has_no_network_and_keeps_what_a_driver_needs() {
    let said = attempted("cuda");
    for refused in ["connect: 1;", "listen: 1;", "udp: 1;"] {
        assert!(said.contains(refused), "{refused}: {said}");
    }
    for kept in ["read outside: done", "write: done", "create: done", "unix: done", "start: done"] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
}

#[test]
fn a_compiler_reads_no_file_and_a_compile_signals_nobody() {
    for (act, itself) in [("compiler", "done"), ("compile", "13")] {
        let said = attempted(act);
        let is = |what: &str, outcome: &str| assert!(said.contains(&format!("{what}: {outcome};")), "{what}: {said}");
        ["connect", "listen", "udp", "start"].into_iter().for_each(|what| is(what, "1"));
        if act == "compile" {
            ["kill", "kill itself", "tkill", "tgkill", "sigqueue", "process"]
                .into_iter()
                .for_each(|what| is(what, "1"));
        } else {
            is("kill itself", "done");
        }
        // EACCES by Landlock, where the kernel has it: these tests also run where it does not.
        if !said.contains("\"landlock\"") {
            ["read", "read outside", "list", "write", "create", "remove", "rename", "thread"]
                .into_iter()
                .for_each(|what| is(what, "13"));
            is("read itself", itself);
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_by_the_x32_table_ends_the_worker() {
    let output = child("x32");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn a_confined_worker_can_still_abort() {
    let output = child("abort");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}
