//! The host under test: a child process that is started, waited for and killed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::api::TOKEN;
use ureq::Agent;

use super::api::Address;

const SIGKILL: i32 = 9;
/// Time for a host to end by itself: more than its calls under way take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// Settings of a start.
pub(crate) struct Launch {
    /// The binary whose `serve` is the host.
    pub bireme: PathBuf,
    pub data: PathBuf,
    pub guest: PathBuf,
    pub recorder: String,
    pub stderr: PathBuf,
    pub address: Address,
    /// Further arguments of `serve`.
    pub more: &'static [&'static str],
}

/// A host that answers.
pub(crate) struct Host {
    child: Child,
    address: Address,
    /// Open as long as it lives, so that it can write.
    _stdout: BufReader<ChildStdout>,
    /// From its start to its first answer.
    pub recovery: Duration,
}

impl Launch {
    /// Starts a host and waits until it is ready. Or returns how it ended before that.
    pub(crate) fn start(&self, fail_point: Option<&str>) -> io::Result<Result<Host, ExitStatus>> {
        let begin = Instant::now();
        let stderr: File = OpenOptions::new().create(true).append(true).open(&self.stderr)?;
        let mut command = Command::new(&self.bireme);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BIREME_")) {
            command.env_remove(name);
        }
        command.arg("serve").arg(&self.guest).args(["--json", "--device", "cpu", "--listen", "127.0.0.1:0"]);
        command.arg("--grant").arg(format!("recorder={}", self.recorder));
        command.args(self.more).env("BIREME_DATA", &self.data).env("BIREME_TOKEN", TOKEN).env("RUST_BACKTRACE", "1");
        if let Some(fail_point) = fail_point {
            command.env("BIREME_FAIL_POINT", fail_point);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(address) = said["listening"].as_str().and_then(|text| text.parse::<SocketAddr>().ok()) else {
            let status = child.wait()?;
            if !is_killed(status) {
                return Err(io::Error::other(format!("the host does not start: {status}: {line}")));
            }
            return Ok(Err(status));
        };
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).proxy(None).build();
        let agent = Agent::new_with_config(config);
        while agent.get(format!("http://{address}/readyz")).call().is_err() {
            if let Some(status) = child.try_wait()? {
                return Ok(Err(status));
            }
            std::thread::sleep(PAUSE);
        }
        let recovery = begin.elapsed();
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(Ok(Host { child, address: self.address.clone(), _stdout: stdout, recovery }))
    }
}

impl Host {
    /// Asks it to end, as a service manager would, and waits until it has.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(pid, Signal::TERM)?;
        let begin = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(unexpected(status)),
                None if begin.elapsed() > STOP_PATIENCE => {
                    return Err(io::Error::other("a host that was asked to end goes on"));
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Waits until it has killed itself, as long as `goes_on` says; returns whether it has.
    pub(crate) fn dies(&mut self, mut goes_on: impl FnMut() -> bool) -> io::Result<bool> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if is_killed(status) { Ok(true) } else { Err(unexpected(status)) };
            }
            if !goes_on() {
                return Ok(false);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Nobody is asked: SIGKILL, and the end is awaited.
impl Drop for Host {
    fn drop(&mut self) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

pub(crate) fn unexpected(status: ExitStatus) -> io::Error {
    io::Error::other(format!("the host ended by itself: {status}; its stderr says why"))
}
