//! Messages between host, compiler process and its forks, as packets with descriptors.
//!
//! ```text
//! order   time ms u64 | memory bytes u64, with the job's socket and the component
//! reply   kind u8 | text UTF-8, with the code if there is some
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::config::CompileLimits;
use crate::packets::{receive, send};

const ORDER_BYTES: usize = 16;
/// Bytes of a reply's text; the rest is cut.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// One component to compile.
pub(super) struct Order {
    pub limits: CompileLimits,
    pub socket: OwnedFd,
    pub component: OwnedFd,
}

/// The end of a job. A fork sends the first two, its service the others.
#[derive(Debug)]
pub(super) enum Reply {
    Compiled(OwnedFd),
    Refused(String),
    OverTime,
    OverMemory,
    Died(String),
}

/// Sends an order.
pub(super) fn order(
    control: BorrowedFd<'_>,
    limits: CompileLimits,
    socket: BorrowedFd<'_>,
    component: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut bytes = [0; ORDER_BYTES];
    let (time, memory) = bytes.split_at_mut(8);
    time.copy_from_slice(&(limits.time_max.as_millis().min(u64::MAX.into()) as u64).to_le_bytes());
    memory.copy_from_slice(&limits.memory_bytes_max.to_le_bytes());
    send(control, &bytes, &[socket, component])
}

impl Order {
    /// Receives an order; `None` once the host has hung up.
    pub(super) fn receive(control: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut bytes = [0; ORDER_BYTES];
        let (length, files) = receive(control, &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed order");
        let [socket, component] = <[OwnedFd; 2]>::try_from(files).map_err(|_| malformed())?;
        let (time, memory) = bytes.split_first_chunk().filter(|_| length == ORDER_BYTES).ok_or_else(malformed)?;
        let memory = memory.try_into().map_err(|_| malformed())?;
        let limits = CompileLimits {
            time_max: Duration::from_millis(u64::from_le_bytes(*time)),
            memory_bytes_max: u64::from_le_bytes(memory),
        };
        Ok(Some(Self { limits, socket, component }))
    }
}

impl Reply {
    /// Sends the reply.
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (kind, text, code) = match self {
            Self::Compiled(code) => (0, "", Some(code.as_fd())),
            Self::Refused(text) => (1, text.as_str(), None),
            Self::OverTime => (2, "", None),
            Self::OverMemory => (3, "", None),
            Self::Died(text) => (4, text.as_str(), None),
        };
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        send(socket, &[&[kind], text.as_bytes()].concat(), code.as_slice())
    }

    /// Receives a reply, the first message of a job's socket. `None` if there will be none.
    pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut bytes = [0; 1 + TEXT_BYTES_MAX];
        let (length, mut files) = receive(socket, &mut bytes)?;
        let Some((kind, text)) = bytes[..length].split_first() else { return Ok(None) };
        let text = String::from_utf8_lossy(text).into_owned();
        let reply = match (kind, files.pop()) {
            (0, Some(code)) => Self::Compiled(code),
            (1, None) => Self::Refused(text),
            (2, None) => Self::OverTime,
            (3, None) => Self::OverMemory,
            (4, None) => Self::Died(text),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a malformed reply")),
        };
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::sealed;
    use crate::packets::pair;

    #[test]
    fn an_order_arrives_with_its_limits_and_files() {
        let (ours, theirs) = pair().unwrap();
        let (socket, _) = pair().unwrap();
        let component = sealed::write(b"component").unwrap();
        let limits = CompileLimits { time_max: Duration::from_millis(1_500), memory_bytes_max: 7 << 20 };
        order(ours.as_fd(), limits, socket.as_fd(), component.as_fd()).unwrap();
        drop(ours);
        let order = Order::receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!(order.limits, limits);
        assert_eq!(sealed::read(order.component, 100).unwrap(), b"component");
        assert!(Order::receive(theirs.as_fd()).unwrap().is_none(), "the host has hung up");
    }

    #[test]
    fn replies_arrive_as_they_were_sent_and_junk_is_refused() {
        let (ours, theirs) = pair().unwrap();
        let long = "é".repeat(TEXT_BYTES_MAX);
        let code = sealed::write(b"code").unwrap();
        for reply in [Reply::Compiled(code), Reply::Refused(long), Reply::OverTime, Reply::Died("signal 9".to_owned())]
        {
            reply.send(theirs.as_fd()).unwrap();
        }
        let next = || Reply::receive(ours.as_fd());
        let Ok(Some(Reply::Compiled(code))) = next() else { panic!("no code") };
        assert_eq!(sealed::read(code, 4).unwrap(), b"code");
        assert!(matches!(next(), Ok(Some(Reply::Refused(text))) if text.len() == TEXT_BYTES_MAX));
        assert!(matches!(next(), Ok(Some(Reply::OverTime))));
        assert!(matches!(next(), Ok(Some(Reply::Died(text))) if text == "signal 9"));
        // Code without a file, a file without code, an unknown kind.
        send(theirs.as_fd(), &[0], &[]).unwrap();
        send(theirs.as_fd(), &[2], &[theirs.as_fd()]).unwrap();
        send(theirs.as_fd(), &[9], &[]).unwrap();
        for _ in 0..3 {
            assert_eq!(next().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        drop(theirs);
        assert!(matches!(next(), Ok(None)));
    }
}
