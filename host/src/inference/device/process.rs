//! The worker process and the socket to it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::WorkerProgram;
use crate::devices::DeviceName;
use crate::inference::wire::{Frame, HEADER_BYTES, Header};

/// How long a worker that was hung up on may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an answer that is due is looked for.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What a worker gets of the host's environment. Nothing else: that holds the secrets of the apps, and a driver is a large
/// program of somebody else's.
const ENVIRONMENT: [&str; 9] = [
    "RUST_LOG",
    "RUST_BACKTRACE",
    "BIREME_WORKER_THREADS",
    "BIREME_CUDA_MEMORY",
    // Where the loader finds `libcuda.so.1` and cuBLASLt.
    "LD_LIBRARY_PATH",
    // Which devices there are, and in which order.
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    // Where the driver keeps what it compiled, by default below the home directory: without it each start compiles anew.
    "CUDA_CACHE_PATH",
    "HOME",
];

/// The sending side of a running worker.
pub(super) struct Worker {
    stream: Arc<UnixStream>,
    pid: u32,
    ended: watch::Receiver<bool>,
}

/// The receiving side; owns the process.
pub(super) struct Replies {
    stream: Arc<UnixStream>,
    child: Child,
    ended: watch::Sender<bool>,
}

impl Worker {
    /// Starts the process. Must run within a tokio runtime.
    pub fn start(program: &WorkerProgram, device: DeviceName) -> io::Result<(Worker, Replies)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = command(program);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        // The CPU is what a worker takes by itself.
        if device != DeviceName::Cpu {
            command.arg("--device").arg(device.to_string());
        }
        let child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the worker ended at once"))?;
        let stream = Arc::new(UnixStream::from_std(ours)?);
        let (ended, has_ended) = watch::channel(false);
        Ok((Worker { stream: stream.clone(), pid, ended: has_ended }, Replies { stream, child, ended }))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one frame: at once as far as the socket takes it, the rest from a task. Only one frame is out at a time, so
    /// nothing can come between. A broken socket shows on the receiving side.
    pub fn send(&self, frame: &[u8]) {
        let mut sent = 0;
        while sent < frame.len() {
            match self.stream.try_write(&frame[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let rest = frame[sent..].to_vec();
                    let stream = self.stream.clone();
                    tokio::spawn(async move { write_all(&stream, &rest).await });
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Tells the worker to end: it sees the end of its input.
    pub fn hang_up(&self) {
        let _ = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Both);
    }

    /// Waits until the process is gone.
    pub async fn closed(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// What a process that may load a driver is started by, in an environment of its own.
pub(in crate::inference) fn command(program: &WorkerProgram) -> Command {
    let mut command = Command::new(&program.program);
    command
        .args(&program.args)
        // Its own group: Ctrl-C in a terminal reaches the host, which then hangs up in its own time.
        .process_group(0)
        .env_clear()
        .kill_on_drop(true);
    for key in ENVIRONMENT {
        if let Some(value) = std::env::var_os(key) {
            command.env(key, value);
        }
    }
    command
}

async fn write_all(stream: &UnixStream, mut rest: &[u8]) {
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.writable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

impl Replies {
    /// Hands every reply to `take` until that returns false, the worker ends, or an answer is due for longer than `timeout`
    /// (`due_since` says since when). Then ends the process and says why.
    pub async fn run(
        mut self,
        timeout: Duration,
        mut take: impl FnMut(Header, Frame) -> bool,
        due_since: impl Fn() -> Option<Instant>,
    ) -> String {
        let reason = loop {
            match self.next(timeout, &due_since).await {
                Ok((header, frame)) => {
                    if !take(header, frame) {
                        break "it broke the protocol".to_owned();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break "it hung up".to_owned(),
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        let _ = self.child.start_kill();
                    }
                    break error.to_string();
                }
            }
        };
        // A worker that lives sees the end of its input now.
        let _ = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Both);
        let status = match tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                let _ = self.child.start_kill();
                self.child.wait().await
            }
        };
        let _ = self.ended.send(true);
        match status {
            Ok(status) if !status.success() => format!("{reason} ({status})"),
            _ => reason,
        }
    }

    async fn next(&self, timeout: Duration, due_since: &impl Fn() -> Option<Instant>) -> io::Result<(Header, Frame)> {
        let overdue = || async {
            loop {
                tokio::time::sleep(WATCH_EVERY).await;
                // An idle worker is silent, and that is well.
                if due_since().is_some_and(|since| since.elapsed() > timeout) {
                    return io::Error::new(io::ErrorKind::TimedOut, format!("it gave no answer for {timeout:?}"));
                }
            }
        };
        tokio::select! {
            biased;
            frame = self.frame() => frame,
            error = overdue() => Err(error),
        }
    }

    async fn frame(&self) -> io::Result<(Header, Frame)> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&mut header).await?;
        let header = Header::parse(&header).map_err(invalid)?;
        let mut body = vec![0; header.body_bytes];
        self.read_exact(&mut body).await?;
        let frame = Frame::decode(header.kind, &body).map_err(invalid)?;
        Ok((header, frame))
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
