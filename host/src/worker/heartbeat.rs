//! The worker's heartbeat: a thread that counts in the shared memory, independent of the arithmetic.
//!
//! A stopped or starved process does not count; the host looks while an answer is due. The arithmetic has a time limit
//! of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wire::memory::Memory;

/// Interval between counts. The host waits for many of them.
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    pub(crate) fn start(memory: Arc<Memory>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            let mut count = 1;
            // If the memory cannot be written, the host sees no heartbeat and ends the worker, which is right.
            while memory.write_heartbeat(count).is_ok() && stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout)
            {
                count += 1;
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_until_it_is_dropped() {
        let memory = Arc::new(Memory::create().unwrap());
        assert_eq!(memory.heartbeat().unwrap(), 0);
        let heartbeat = Heartbeat::start(memory.clone()).unwrap();
        while memory.heartbeat().unwrap() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(heartbeat);
        let last = memory.heartbeat().unwrap();
        std::thread::sleep(EVERY * 2);
        assert_eq!(memory.heartbeat().unwrap(), last);
    }
}
