//! The spawner process: starts children for the host, says when they end, and kills those that the host has left.
//!
//! It reads requests of a host that may have been taken over, and nothing else; it has one thread and keeps no data of
//! the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags};

use super::message::{Event, Request};
use super::program::Programs;

/// Children at a time: a worker, a few readers and a compiler, and as many that are about to end.
const CHILDREN_MAX: usize = 32;

/// Starts children for the host on standard input, one end of a socket pair, until it hangs up.
///
/// # Errors
/// Standard input is no such socket.
pub(crate) fn run(models_dir: &Path) -> io::Result<()> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // The memory of a process without this can be written by every process of its user. A child has its own again.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    Service { control, programs: Programs::of_this_binary(models_dir), children: Vec::new() }.serve()
}

struct Service {
    control: OwnedFd,
    programs: Programs,
    children: Vec<Running>,
}

struct Running {
    process: process::Child,
    exit: OwnedFd,
    life: OwnedFd,
    /// Killed, and so not heard any more.
    is_left: bool,
}

/// State of a child at one look.
#[derive(Clone, Copy, Default)]
struct Sight {
    has_ended: bool,
    is_left: bool,
}

impl Service {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let (has_request, sights) = self.wait()?;
            let mut sights = sights.into_iter();
            self.children.retain_mut(|child| !child.ends(sights.next().unwrap_or_default()));
            if !has_request {
                continue;
            }
            match Request::receive(self.control.as_fd()) {
                Ok(Some(request)) => self.start(request),
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "the host asks for a process that there is not");
                }
                Err(_) => break,
            }
        }
        for child in &mut self.children {
            let _ = child.process.kill();
        }
        Ok(())
    }

    /// Waits for a request or a change of a child.
    fn wait(&self) -> io::Result<(bool, Vec<Sight>)> {
        let mut files = vec![PollFd::new(&self.control, PollFlags::IN)];
        for child in &self.children {
            files.push(PollFd::new(&child.exit, PollFlags::IN));
            // Of a child that was killed, only the end is still waited for.
            files.push(if child.is_left {
                PollFd::new(&child.exit, PollFlags::empty())
            } else {
                PollFd::new(&child.life, PollFlags::IN)
            });
        }
        match poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_set = |file: &PollFd<'_>| !file.revents().is_empty();
        let has_request = is_set(&files[0]);
        let pairs = self.children.iter().zip(files[1..].chunks_exact(2));
        let sights = pairs
            .map(|(child, pair)| Sight { has_ended: is_set(&pair[0]), is_left: !child.is_left && is_set(&pair[1]) });
        Ok((has_request, sights.collect()))
    }

    fn start(&mut self, request: Request) {
        let Request { role, end, life } = request;
        let started = if self.children.len() < CHILDREN_MAX {
            self.programs.command(&role, end).and_then(|mut command| command.spawn())
        } else {
            Err(Errno::AGAIN.into())
        };
        let running = started.and_then(|mut process| {
            match Pid::from_raw(process.id().cast_signed())
                .ok_or(Errno::SRCH)
                .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            {
                Ok(exit) => Ok((process, exit)),
                Err(error) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    Err(error.into())
                }
            }
        });
        // A host that has left the child already is seen at the next look.
        match running {
            Ok((process, exit)) => {
                let _ = Event::Started { pid: process.id() }.send(life.as_fd());
                self.children.push(Running { process, exit, life, is_left: false });
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
                let _ = Event::NotStarted { errno }.send(life.as_fd());
            }
        }
    }
}

impl Running {
    /// Whether the child is gone; kills one that the host has left, or wants to end.
    fn ends(&mut self, sight: Sight) -> bool {
        if sight.is_left {
            self.is_left = true;
            let _ = self.process.kill();
        }
        if !sight.has_ended {
            return false;
        }
        match self.process.try_wait() {
            Ok(Some(status)) => {
                let _ = Event::Ended { status: status.into_raw() }.send(self.life.as_fd());
                true
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }
}
