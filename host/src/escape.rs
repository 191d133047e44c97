//! Escape hook: acts as a guest that has taken the host over, so that a test sees what the host was left with.
//!
//! With `BIREME_ESCAPE=PID@DIR` the first attempt of a call tries what such a guest would: against the process `PID`,
//! against `DIR`, which has a file `outside` and a listening socket `socket`, and against the machine. One line on
//! standard error lists each attempt with `done` or the number of the error. Builds without `debug_assertions` contain
//! none of it.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use rustix::net::{AddressFamily, SocketType, ipproto};

use crate::telemetry;

/// Variable that arms the hook.
const VARIABLE: &str = "BIREME_ESCAPE";

/// Tries everything, once in this process, if the environment says so.
pub(crate) fn attempt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(plan) = std::env::var(VARIABLE) else { return };
        let (pid, dir) = plan.split_once('@').expect("the variable is PID@DIR");
        let tried = attempts(pid.parse().expect("a process number"), Path::new(dir));
        let tried: Vec<String> = tried.into_iter().map(|(what, done)| format!("{what}={}", outcome(done))).collect();
        telemetry::note(format!("escape: {}", tried.join(" ")));
        telemetry::flush();
        // The last, since one that goes well ends this process.
        let refused = Command::new("/bin/sh").args(["-c", "echo escape-exec: done >&2"]).exec();
        telemetry::note(format!("escape-exec: {}", outcome(Err(refused))));
    });
}

fn outcome(done: io::Result<()>) -> String {
    match done {
        Ok(()) => "done".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.kind().to_string(), |code| code.to_string()),
    }
}

fn attempts(victim: i32, dir: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let outside = dir.join("outside");
    let pid = i64::from(victim);
    let socket =
        |family, protocol| -> io::Result<()> { Ok(rustix::net::socket(family, SocketType::RAW, protocol).map(drop)?) };
    let abstract_name = || {
        let address = SocketAddr::from_abstract_name(format!("bireme-escape-{victim}"))?;
        UnixStream::connect_addr(&address).map(drop)
    };
    vec![
        ("start", Command::new("/bin/true").status().map(drop)),
        ("fork", call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0])),
        ("read", fs::read(&outside).map(drop)),
        ("read-passwd", fs::read("/etc/passwd").map(drop)),
        ("read-environment", fs::read(format!("/proc/{victim}/environ")).map(drop)),
        ("list", fs::read_dir("/").map(drop)),
        ("write", fs::write(&outside, "changed")),
        ("create", fs::write(dir.join("new"), "")),
        ("link", std::os::unix::fs::symlink("/", dir.join("link"))),
        ("chmod", fs::set_permissions(&outside, PermissionsExt::from_mode(0o600))),
        ("kill", call(libc::SYS_kill, [pid, 0, 0, 0])),
        ("tgkill", call(libc::SYS_tgkill, [pid, pid, 0, 0])),
        ("pidfd", call(libc::SYS_pidfd_open, [pid, 0, 0, 0])),
        ("trace", call(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), pid, 0, 0])),
        ("limit", call(libc::SYS_prlimit64, [pid, libc::RLIMIT_CORE.into(), 0, 0])),
        ("memory", fs::OpenOptions::new().write(true).open(format!("/proc/{victim}/mem")).map(drop)),
        ("unix", UnixStream::connect(dir.join("socket")).map(drop)),
        ("unix-abstract", abstract_name()),
        ("unix-datagram", UnixDatagram::pair().map(drop)),
        ("netlink", socket(AddressFamily::NETLINK, None)),
        ("raw", socket(AddressFamily::INET, Some(ipproto::ICMP))),
        ("packet", socket(AddressFamily::PACKET, None)),
        ("listen", TcpListener::bind("127.0.0.9:47110").map(drop)),
        ("namespace", call(libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0])),
        ("keys", call(libc::SYS_keyctl, [0, -3, 0, 0])),
        ("personality", call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0])),
        ("thread", std::thread::spawn(move || fs::read(outside).map(drop)).join().expect("it does not panic")),
        // What a host keeps.
        ("kept-udp", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("kept-pair", UnixStream::pair().map(drop)),
    ]
}

/// Makes a system call by its number.
#[expect(unsafe_code, reason = "no wrapper makes calls that must fail; none of these passes a pointer but null")]
fn call(number: i64, [a, b, c, d]: [i64; 4]) -> io::Result<()> {
    // SAFETY: the callers pass numbers, and null where the kernel would expect an address.
    let returned = unsafe { libc::syscall(number, a, b, c, d) };
    if number == libc::SYS_clone && returned == 0 {
        // The copy of a host that was not refused one must not go on as a second host.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("itself");
    }
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
