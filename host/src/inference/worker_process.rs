//! The worker process, the socket to it and the memory shared with it.
//!
//! Up to two frames are out at a time. Bytes that the socket does not take at once wait in an outbox that a task
//! empties, so that no sender waits for a worker that does not read; frames keep their order.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::spawner::{Child, Role, Spawner};
use crate::wire::memory::{Direction, INLINE_BYTES_MAX, Memory};
use crate::wire::{Frame, HEADER_BYTES, Header, mark_placed};

/// Time for a worker to end after the host hung up.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between looks at a worker that owes an answer.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Looks in a row without a heartbeat before a worker counts as stopped: 1.5 s, or 15 heartbeats. Counted in looks, not
/// in time: a host that was suspended itself starts anew.
const LOOKS_MAX: u32 = 6;

/// The sending side of a running worker.
pub(super) struct Worker {
    link: Arc<Link>,
    pid: u32,
    ended: watch::Receiver<bool>,
}

/// The receiving side; owns the process.
pub(super) struct Replies {
    link: Arc<Link>,
    child: Child,
    ended: watch::Sender<bool>,
    /// Replies that came, and so the number of the next.
    number: u64,
}

struct Link {
    stream: UnixStream,
    memory: Memory,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Outbox {
    /// Frames that were sent, and so the number of the next.
    number: u64,
    /// Bytes that the socket had no room for.
    waiting: Vec<u8>,
    /// Set once the memory is on its way: it goes with the first bytes of all.
    is_memory_sent: bool,
}

impl Worker {
    /// Starts the process, in the role of a worker or a reader of models. Must run within a tokio runtime.
    pub(crate) async fn start(spawner: &Spawner, role: Role) -> io::Result<(Worker, Replies)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = spawner.start(role, OwnedFd::from(theirs))?;
        let pid = child.pid().await?;
        let stream = UnixStream::from_std(ours)?;
        let link = Arc::new(Link { stream, memory: Memory::create()?, outbox: Mutex::default() });
        let (ended, has_ended) = watch::channel(false);
        Ok((Worker { link: link.clone(), pid, ended: has_ended }, Replies { link, child, ended, number: 0 }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one frame, at once as far as the socket takes it. A broken socket shows on the receiving side.
    pub(crate) fn send(&self, frame: &[u8]) {
        let mut outbox = self.link.outbox();
        let number = outbox.number;
        outbox.number += 1;
        let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().expect("a frame has a header");
        let mut placed = *header;
        // Without room in the memory (the machine is out of it) the socket takes longer.
        let is_placed =
            body.len() > INLINE_BYTES_MAX && self.link.memory.write(Direction::ToWorker, number, body).is_ok();
        if is_placed {
            mark_placed(&mut placed);
        }
        let bytes = if is_placed { &placed[..] } else { frame };
        if !outbox.waiting.is_empty() {
            outbox.waiting.extend_from_slice(bytes);
            return;
        }
        let sent = self.link.try_send(bytes, &mut outbox.is_memory_sent);
        if sent < bytes.len() {
            outbox.waiting.extend_from_slice(&bytes[sent..]);
            drop(outbox);
            let link = self.link.clone();
            tokio::spawn(async move { link.drain().await });
        }
    }

    /// Tells the worker to end: it sees the end of its input.
    pub(crate) fn hang_up(&self) {
        self.link.shut_down();
    }

    /// Waits until the process is gone.
    pub(crate) async fn closed(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl Link {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Writes as much as the socket takes now.
    fn try_send(&self, bytes: &[u8], is_memory_sent: &mut bool) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let written = if *is_memory_sent {
                self.stream.try_write(&bytes[sent..])
            } else {
                self.stream.try_io(tokio::io::Interest::WRITABLE, || self.send_with_memory(bytes))
            };
            match written {
                Ok(written) => {
                    *is_memory_sent = true;
                    sent += written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
                // The receiving side reports the error.
                Err(_) => return bytes.len(),
            }
        }
        sent
    }

    fn send_with_memory(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files = [self.memory.as_fd()];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(rustix::net::sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
    }

    /// Writes what waits, as the socket takes it.
    async fn drain(&self) {
        loop {
            if self.stream.writable().await.is_err() {
                return;
            }
            let mut outbox = self.outbox();
            let Outbox { waiting, is_memory_sent, .. } = &mut *outbox;
            let sent = self.try_send(waiting, is_memory_sent);
            waiting.drain(..sent);
            if outbox.waiting.is_empty() {
                outbox.waiting = Vec::new();
                return;
            }
        }
    }

    fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

impl Replies {
    /// Hands every reply to `take` until that returns false, the worker ends, or it misses the time that `due` returns.
    /// Then ends the process and returns the reason.
    pub(crate) async fn run(
        mut self,
        mut take: impl FnMut(Header, Frame) -> bool,
        due: impl Fn() -> Option<Instant>,
    ) -> String {
        let reason = loop {
            match self.next(&due).await {
                Ok((header, frame)) => {
                    if !take(header, frame) {
                        self.child.start_kill();
                        break "it broke the protocol".to_owned();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break "it hung up".to_owned(),
                Err(error) => {
                    // Neither ends by itself, and its batch waits.
                    if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) {
                        self.child.start_kill();
                    }
                    break error.to_string();
                }
            }
        };
        // A worker that lives sees the end of its input now.
        self.link.shut_down();
        let status = match tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.start_kill();
                self.child.wait().await
            }
        };
        let _ = self.ended.send(true);
        match status {
            Ok(status) if !status.success() => format!("{reason} ({status})"),
            _ => reason,
        }
    }

    async fn next(&mut self, due: &impl Fn() -> Option<Instant>) -> io::Result<(Header, Frame)> {
        let link = self.link.clone();
        tokio::select! {
            biased;
            frame = self.frame() => frame,
            error = link.overdue(due) => Err(error),
        }
    }

    async fn frame(&mut self) -> io::Result<(Header, Frame)> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut header = [0; HEADER_BYTES];
        self.link.read_exact(&mut header).await?;
        let header = Header::parse(&header).map_err(invalid)?;
        let mut body = vec![0; header.body_bytes];
        if header.is_placed {
            self.link.memory.read(Direction::ToHost, self.number, &mut body)?;
        } else {
            self.link.read_exact(&mut body).await?;
        }
        self.number += 1;
        let frame = Frame::decode(header.kind, &body).map_err(invalid)?;
        Ok((header, frame))
    }
}

impl Link {
    /// Returns once an answer is overdue, or the heartbeat stops while one is.
    async fn overdue(&self, due: &impl Fn() -> Option<Instant>) -> io::Error {
        let (mut last, mut looks) = (0, 0);
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            // An idle worker may be silent.
            let Some(due) = due() else {
                looks = 0;
                continue;
            };
            if Instant::now() > due {
                return io::Error::new(io::ErrorKind::TimedOut, "it gave no answer in the time that it may take");
            }
            let beats = self.memory.heartbeat().unwrap_or(last);
            // Before the first heartbeat it is being started, which takes long on a busy machine.
            looks = if beats == last && beats > 0 { looks + 1 } else { 0 };
            last = beats;
            if looks == LOOKS_MAX {
                let silent = WATCH_EVERY * LOOKS_MAX;
                return io::Error::new(io::ErrorKind::TimedOut, format!("it showed no sign of life for {silent:?}"));
            }
        }
    }

    async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.stream.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.readable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
