//! The worker's sign of life: a thread that counts in the shared memory, whatever the others do.
//!
//! A process that is stopped, or that the machine has no time for, does not count; the host looks at it while an answer is
//! due. It says nothing of the arithmetic, which has its own time limit.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wire::memory::Memory;

/// How often it counts. The host waits for many of these.
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    pub fn start(memory: Arc<Memory>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            let mut count = 1;
            // Memory that cannot be written is a host that takes us for dead, which is as good as the truth.
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
