//! Packets between host and spawner.
//!
//! ```text
//! request  role u8 | number of the device u32, all ones for the CPU | name of the model UTF-8
//!          with the child's end, and the socket of the child's life
//! event    1 started | process number u32
//!          2 not started | number of the error u32
//!          3 ended | status of `waitpid` u32
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::role::Role;
use crate::devices::DeviceName;
use crate::packets::{receive, send};

const REQUEST_BYTES_MAX: usize = 5 + 256;
const EVENT_BYTES: usize = 5;
const CPU: u32 = u32::MAX;

/// A child that the host asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub role: Role,
    pub end: OwnedFd,
    pub life: OwnedFd,
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Started { pid: u32 },
    NotStarted { errno: i32 },
    Ended { status: i32 },
}

impl Request {
    pub(super) fn send(&self, control: BorrowedFd<'_>) -> io::Result<()> {
        let (kind, number, name) = match &self.role {
            Role::Worker(DeviceName::Cpu) => (0, CPU, ""),
            Role::Worker(DeviceName::Cuda(ordinal)) => (0, *ordinal, ""),
            Role::ModelReader(name) => (1, 0, name.as_str()),
            Role::Probe => (2, 0, ""),
            Role::Compiler => (3, 0, ""),
        };
        let bytes = [&[kind], &number.to_le_bytes()[..], name.as_bytes()].concat();
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        send(control, &bytes, &[self.end.as_fd(), self.life.as_fd()])
    }

    /// Receives a request; `None` once the host has hung up. What a host says may be hostile: a request that is none is
    /// an error, after which the next one can be received.
    pub(super) fn receive(control: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut bytes = [0; REQUEST_BYTES_MAX + 1];
        let (length, files) = receive(control, &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed request");
        let [end, life] = <[OwnedFd; 2]>::try_from(files).map_err(|_| malformed())?;
        let (kind, rest) = bytes[..length].split_first().ok_or_else(malformed)?;
        let (number, name) = rest.split_first_chunk().filter(|_| length <= REQUEST_BYTES_MAX).ok_or_else(malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| malformed())?;
        let role = match (kind, u32::from_le_bytes(*number), name) {
            (0, CPU, "") => Role::Worker(DeviceName::Cpu),
            (0, ordinal, "") => Role::Worker(DeviceName::Cuda(ordinal)),
            (1, 0, name) => Role::ModelReader(name.to_owned()),
            (2, 0, "") => Role::Probe,
            (3, 0, "") => Role::Compiler,
            _ => return Err(malformed()),
        };
        if role.is_valid() { Ok(Some(Self { role, end, life })) } else { Err(malformed()) }
    }
}

impl Event {
    pub(super) fn send(self, life: BorrowedFd<'_>) -> io::Result<()> {
        let (kind, number) = match self {
            Self::Started { pid } => (1, pid),
            Self::NotStarted { errno } => (2, errno.cast_unsigned()),
            Self::Ended { status } => (3, status.cast_unsigned()),
        };
        send(life, &[&[kind], &number.to_le_bytes()[..]].concat(), &[])
    }

    /// Receives an event; `None` once the spawner has hung up.
    pub(super) fn receive(life: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut bytes = [0; EVENT_BYTES];
        let (length, _) = receive(life, &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        let [kind, number @ ..] = bytes;
        let number = u32::from_le_bytes(number);
        match kind {
            1 => Ok(Some(Self::Started { pid: number })),
            2 => Ok(Some(Self::NotStarted { errno: number.cast_signed() })),
            3 => Ok(Some(Self::Ended { status: number.cast_signed() })),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a malformed event")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::pair;

    fn request(role: Role) -> io::Result<Option<Role>> {
        let (ours, theirs) = pair()?;
        let (end, life) = pair()?;
        Request { role, end, life }.send(ours.as_fd())?;
        drop(ours);
        let received = Request::receive(theirs.as_fd())?;
        assert!(received.is_none() || Request::receive(theirs.as_fd())?.is_none(), "the host has hung up");
        Ok(received.map(|request| request.role))
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        for role in [
            Role::Worker(DeviceName::Cpu),
            Role::Worker(DeviceName::Cuda(7)),
            Role::ModelReader("all-minilm-l6-v2".to_owned()),
            Role::Probe,
            Role::Compiler,
        ] {
            assert_eq!(request(role.clone()).unwrap(), Some(role));
        }
    }

    #[test]
    fn a_request_leads_to_no_other_place_than_a_models_directory() {
        let long = "a".repeat(256);
        for name in ["", ".", "..", "../x", "a/b", "a/", "/etc", "./a", &long] {
            let refused = request(Role::ModelReader(name.to_owned()));
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
        }
    }

    #[test]
    fn junk_is_refused_and_the_next_request_received() {
        let (ours, theirs) = pair().unwrap();
        let (one, two) = pair().unwrap();
        let files = [one.as_fd(), two.as_fd()];
        send(ours.as_fd(), &[9, 0, 0, 0, 0], &files).unwrap();
        send(ours.as_fd(), &[3, 0, 0], &files).unwrap();
        send(ours.as_fd(), &[3, 0, 0, 0, 0], &files[..1]).unwrap();
        send(ours.as_fd(), &[3, 0, 0, 0, 0, b'x'], &files).unwrap();
        send(ours.as_fd(), &[1; 1_000], &files).unwrap();
        for _ in 0..5 {
            assert_eq!(Request::receive(theirs.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        send(ours.as_fd(), &[3, 0, 0, 0, 0], &files).unwrap();
        assert_eq!(Request::receive(theirs.as_fd()).unwrap().unwrap().role, Role::Compiler);
    }

    #[test]
    fn events_arrive_as_they_were_sent() {
        let (ours, theirs) = pair().unwrap();
        let events = [Event::Started { pid: 7 }, Event::NotStarted { errno: 11 }, Event::Ended { status: -1 }];
        for event in events {
            event.send(theirs.as_fd()).unwrap();
            assert_eq!(Event::receive(ours.as_fd()).unwrap(), Some(event));
        }
        drop(theirs);
        assert_eq!(Event::receive(ours.as_fd()).unwrap(), None);
    }
}
