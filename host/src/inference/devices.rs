//! Devices of the machine: probed once, in a process of its own, to choose the worker's.
//!
//! Not here: reasons and names (`crate::devices`), calls into a driver (`worker`).
//!
//! A driver can crash its process or never return, so the probe is a process of its own, `bireme worker --probe`,
//! started once and only if the choice needs it. Limits: [`PROBE_TIMEOUT`], [`PROBE_BYTES_MAX`] of answer.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::OnceCell;

use crate::devices::{ChosenDevice, DeviceChoice, DeviceRefused, Obstacle, Probe};
use crate::spawner::{Role, Spawner};

/// A driver that wakes every device of a large machine takes a few seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Some 64 devices are described in 32 KiB.
const PROBE_BYTES_MAX: u64 = 64 << 10;

/// The devices of one host.
pub(super) struct Devices {
    spawner: Spawner,
    choice: Mutex<DeviceChoice>,
    probe: OnceCell<Probe>,
}

impl Devices {
    pub(crate) fn new(spawner: Spawner, choice: DeviceChoice) -> Self {
        Self { spawner, choice: Mutex::new(choice), probe: OnceCell::new() }
    }

    pub(crate) fn choice(&self) -> DeviceChoice {
        *self.choice.lock()
    }

    /// Changes the choice, for workers that start from now on.
    pub(crate) fn choose(&self, choice: DeviceChoice) {
        *self.choice.lock() = choice;
    }

    /// Returns the probe of the machine, made the first time.
    pub(crate) async fn probe(&self) -> &Probe {
        self.probe.get_or_init(|| probe(&self.spawner)).await
    }

    /// Returns the device for the next worker.
    pub(crate) async fn chosen(&self) -> Result<ChosenDevice, DeviceRefused> {
        let choice = self.choice();
        if choice.needs_probe() { choice.resolve(self.probe().await) } else { choice.resolve(&Probe::default()) }
    }
}

/// Probes the machine now. An error becomes the obstacle of the probe.
pub(crate) async fn probe(spawner: &Spawner) -> Probe {
    probe_within(spawner, PROBE_TIMEOUT).await
}

async fn probe_within(spawner: &Spawner, timeout: Duration) -> Probe {
    let failed = |cause: String| Probe::failed(Obstacle::ProbeFailed { cause });
    match tokio::time::timeout(timeout, ask(spawner)).await {
        Ok(Ok(probe)) => probe,
        Ok(Err(cause)) => failed(cause),
        // Dropping the future killed the process.
        Err(_) => failed(format!("the driver gave no answer for {timeout:?}")),
    }
}

async fn ask(spawner: &Spawner) -> Result<Probe, String> {
    let start = || {
        let (stdout, theirs) = io::pipe()?;
        rustix::io::ioctl_fionbio(&stdout, true)?;
        let child = spawner.start(Role::Probe, theirs.into())?;
        io::Result::Ok((pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?, child))
    };
    let (stdout, mut child) = start().map_err(|error| format!("the probe does not start: {error}"))?;
    let mut said = Vec::new();
    let read = stdout.take(PROBE_BYTES_MAX + 1).read_to_end(&mut said).await;
    read.map_err(|error| format!("the probe's answer cannot be read: {error}"))?;
    if said.len() as u64 > PROBE_BYTES_MAX {
        return Err(format!("the probe answered more than {} KiB", PROBE_BYTES_MAX >> 10));
    }
    let status = child.wait().await.map_err(|error| format!("the probe cannot be waited for: {error}"))?;
    if !status.success() {
        return Err(format!("the driver ended the process that looked ({status})"));
    }
    parse(&said)
}

/// Reads the last line: a driver may have written others before it.
fn parse(said: &[u8]) -> Result<Probe, String> {
    let line = said.trim_ascii().rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    let probe: Probe = serde_json::from_slice(line).map_err(|_| "the probe answered what is no probe".to_owned())?;
    probe.check().map_err(|what| format!("the probe answered with {what}"))?;
    Ok(probe)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spawner::Program;

    fn of_worker(worker: Program) -> Spawner {
        Spawner::with_worker(worker, Path::new("/nowhere"))
    }

    fn script(text: &str) -> Spawner {
        of_worker(Program { program: "/bin/sh".into(), args: vec!["-c".into(), text.into()] })
    }

    async fn check(text: &str) -> String {
        match probe(&script(text)).await.obstacle {
            Some(Obstacle::ProbeFailed { cause }) => cause,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_behind_what_a_driver_writes() {
        let line = serde_json::to_string(&Probe::failed(Obstacle::NoDriver)).unwrap();
        let found = probe(&script(&format!("echo 'NVRM: noise'; echo '{line}'"))).await;
        assert_eq!(found, Probe::failed(Obstacle::NoDriver));
    }

    #[tokio::test]
    async fn a_probe_that_goes_wrong_is_a_reason_and_no_crash_of_the_host() {
        assert_eq!(check("kill -SEGV $$").await, "the driver ended the process that looked (signal: 11 (SIGSEGV))");
        assert_eq!(check("exit 101").await, "the driver ended the process that looked (exit status: 101)");
        assert_eq!(check("").await, "the probe answered what is no probe");
        assert_eq!(check("echo '{\"gpus\":[]}'; echo '{}'").await, "the probe answered what is no probe");
        assert_eq!(check("exec head -c 70000 /dev/zero").await, "the probe answered more than 64 KiB");
        let missing = of_worker(Program { program: "/no/such/program".into(), args: vec![] });
        assert!(matches!(probe(&missing).await.obstacle, Some(Obstacle::ProbeFailed { .. })));
    }

    #[tokio::test]
    async fn a_driver_that_hangs_is_given_up() {
        let found = probe_within(&script("exec sleep 600"), Duration::from_millis(10)).await;
        let cause = "the driver gave no answer for 10ms".to_owned();
        assert_eq!(found, Probe::failed(Obstacle::ProbeFailed { cause }));
    }

    #[tokio::test]
    async fn only_a_choice_that_needs_it_looks() {
        let devices = Devices::new(script("exit 1"), DeviceChoice::Named(crate::devices::DeviceName::Cpu));
        assert!(devices.chosen().await.unwrap().obstacle.is_none());
        assert!(!devices.probe.initialized());
        devices.choose(DeviceChoice::Auto);
        let chosen = devices.chosen().await.unwrap();
        assert!(matches!(chosen.obstacle, Some(Obstacle::ProbeFailed { .. })) && devices.probe.initialized());
    }
}
