//! The host's side: starts a child itself, or has the spawner start it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use super::child::Child;
use super::message::Request;
use super::program::{ENVIRONMENT, Program, Programs};
use super::role::Role;
use crate::packets;

/// First word of the binary as a spawner.
const WORD: &str = "spawner";

/// Starts this binary's other processes. Clones share one spawner process, if there is one.
#[derive(Clone, Debug)]
pub struct Spawner(Parent);

#[derive(Clone, Debug)]
enum Parent {
    Own(Arc<Programs>),
    /// Control socket of the spawner process, which ends once it is closed.
    Process(Arc<OwnedFd>),
}

impl Spawner {
    /// Returns a spawner that starts this binary as children of this process.
    pub fn in_process(models_dir: &Path) -> Self {
        Self(Parent::Own(Arc::new(Programs::of_this_binary(models_dir))))
    }

    /// Returns a spawner that starts another program as the worker, as children of this process.
    pub fn with_worker(worker: Program, models_dir: &Path) -> Self {
        Self(Parent::Own(Arc::new(Programs::of_worker(worker, models_dir))))
    }

    /// Starts the spawner process, for children that read models of `models_dir` and no others.
    pub(crate) fn start_process(models_dir: &Path) -> io::Result<Self> {
        let (ours, theirs) = packets::pair()?;
        // Nobody waits on a spawner that does not read.
        rustix::io::ioctl_fionbio(&ours, true)?;
        let mut command = Program::this_binary(WORD).command(&ENVIRONMENT);
        command.arg(std::path::absolute(models_dir)?).stdin(theirs).stdout(Stdio::null());
        command.spawn()?;
        Ok(Self(Parent::Process(Arc::new(ours))))
    }

    /// Starts a child. `end` is its end of what it speaks over: standard output of the probe, standard input of the
    /// others. Must run within a tokio runtime.
    ///
    /// # Errors
    /// The child does not start, or the spawner is gone. What goes wrong in the spawner's process shows in the
    /// [`Child`].
    pub(crate) fn start(&self, role: Role, end: OwnedFd) -> io::Result<Child> {
        match &self.0 {
            Parent::Own(programs) => {
                let command = programs.command(&role, end)?;
                Ok(Child::own(tokio::process::Command::from(command).kill_on_drop(true).spawn()?))
            }
            Parent::Process(control) => {
                let (ours, life) = packets::pair()?;
                let sent = Request { role, end, life }.send(control.as_fd());
                sent.map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        io::Error::other("the spawner has ended; restart the host")
                    }
                    _ => error,
                })?;
                Ok(Child::spawned(packets::watched(ours)?))
            }
        }
    }
}
