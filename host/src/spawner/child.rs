//! Handle of a child: its process number, its end, its exit status. Dropping it kills the child.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::Event;
use crate::packets;

/// A child that was asked for.
pub(crate) struct Child(Parent);

enum Parent {
    /// This process; the child is killed on drop.
    Own(tokio::process::Child),
    Spawner(Spawned),
}

/// A child of the spawner.
struct Spawned {
    /// Closed, it has the spawner kill the child.
    life: UnixStream,
    pid: Option<u32>,
    status: Option<ExitStatus>,
}

impl Child {
    pub(super) fn own(child: tokio::process::Child) -> Self {
        Self(Parent::Own(child))
    }

    pub(super) fn spawned(life: UnixStream) -> Self {
        Self(Parent::Spawner(Spawned { life, pid: None, status: None }))
    }

    /// Returns the process number, once the child has started.
    pub(crate) async fn pid(&mut self) -> io::Result<u32> {
        match &mut self.0 {
            Parent::Own(child) => child.id().ok_or_else(|| io::Error::other("the process ended at once")),
            Parent::Spawner(spawned) => spawned.pid().await,
        }
    }

    /// Kills the child.
    pub(crate) fn start_kill(&mut self) {
        match &mut self.0 {
            // Fails only if it has ended.
            Parent::Own(child) => drop(child.start_kill()),
            Parent::Spawner(spawned) => {
                let _ = packets::send(spawned.life.as_fd(), &[0], &[]);
            }
        }
    }

    /// Waits for the end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.0 {
            Parent::Own(child) => child.wait().await,
            Parent::Spawner(spawned) => spawned.wait().await,
        }
    }
}

impl Spawned {
    async fn pid(&mut self) -> io::Result<u32> {
        loop {
            match self.pid {
                Some(pid) => return Ok(pid),
                None => self.next().await?,
            }
        }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.status {
                Some(status) => return Ok(status),
                None => self.next().await?,
            }
        }
    }

    async fn next(&mut self) -> io::Result<()> {
        let life = &self.life;
        match life.async_io(Interest::READABLE, || Event::receive(life.as_fd())).await? {
            Some(Event::Started { pid }) => self.pid = Some(pid),
            Some(Event::Ended { status }) => self.status = Some(ExitStatus::from_raw(status)),
            Some(Event::NotStarted { errno }) => return Err(io::Error::from_raw_os_error(errno)),
            None => return Err(io::Error::other("the spawner has ended; restart the host")),
        }
        Ok(())
    }
}
