//! Live log lines for one reader: a queue bounded in bytes, for which writers of lines never wait.
//!
//! Invariants: a reader gets each matching line once, in order, or in its place the number of lines lost; one queue
//! holds at most `LOG_FOLLOWER_BYTES_MAX`, all together at most `LOG_FOLLOWERS_BYTES_MAX`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::query::Query;
use super::record::LogRecord;
use crate::limits::{LOG_FOLLOWER_BYTES_MAX, LOG_FOLLOWERS_BYTES_MAX};

/// The followers of one host.
#[derive(Default)]
pub(super) struct Followers {
    queues: Vec<Weak<Queue>>,
    /// Bytes in all queues.
    bytes: Arc<AtomicUsize>,
}

impl Followers {
    /// Adds a follower of lines that match `query`.
    pub(crate) fn add(&mut self, query: Query) -> Follower {
        self.queues.retain(|queue| queue.strong_count() > 0);
        let queue =
            Arc::new(Queue { query, state: Mutex::default(), filled: Notify::new(), bytes_of_all: self.bytes.clone() });
        self.queues.push(Arc::downgrade(&queue));
        Follower { queue }
    }

    /// Offers a line to every follower.
    pub(crate) fn send(&mut self, record: &Arc<LogRecord>) {
        self.queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            queue.offer(record);
            true
        });
    }
}

#[cfg(test)]
impl Followers {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Followers {
    /// Ends each follower once it has read its waiting lines.
    fn drop(&mut self) {
        for queue in self.queues.iter().filter_map(Weak::upgrade) {
            queue.state.lock().is_closed = true;
            queue.filled.notify_one();
        }
    }
}

struct Queue {
    query: Query,
    state: Mutex<QueueState>,
    filled: Notify,
    bytes_of_all: Arc<AtomicUsize>,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Arc<LogRecord>>,
    bytes: usize,
    /// Lines that found no room behind those in the queue. No line is added until the reader has this number.
    lost: u64,
    is_closed: bool,
}

impl Queue {
    fn offer(&self, record: &Arc<LogRecord>) {
        if !self.query.matches(record) {
            return;
        }
        let mut state = self.state.lock();
        let bytes = record.bytes();
        let has_room = state.lost == 0 && state.bytes + bytes <= LOG_FOLLOWER_BYTES_MAX && self.take_room(bytes);
        if has_room {
            state.bytes += bytes;
            state.lines.push_back(record.clone());
        } else {
            state.lost += 1;
        }
        drop(state);
        self.filled.notify_one();
    }

    fn take_room(&self, bytes: usize) -> bool {
        let add = |all: usize| Some(all + bytes).filter(|all| *all <= LOG_FOLLOWERS_BYTES_MAX);
        self.bytes_of_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let bytes = self.state.get_mut().bytes;
        self.bytes_of_all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The reader's side. Dropping it ends the queue.
pub(crate) struct Follower {
    queue: Arc<Queue>,
}

/// An item for a follower.
#[derive(Debug)]
pub(crate) enum FollowItem {
    Line(Arc<LogRecord>),
    /// Number of matching lines lost because the follower reads too slowly.
    Lost(u64),
}

impl Follower {
    /// Waits for the next item; `None` once the host ends. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<FollowItem> {
        loop {
            {
                let mut state = self.queue.state.lock();
                if let Some(line) = state.lines.pop_front() {
                    state.bytes -= line.bytes();
                    self.queue.bytes_of_all.fetch_sub(line.bytes(), Ordering::Relaxed);
                    return Some(FollowItem::Line(line));
                }
                if state.lost > 0 {
                    return Some(FollowItem::Lost(std::mem::take(&mut state.lost)));
                }
                if state.is_closed {
                    return None;
                }
            }
            self.queue.filled.notified().await;
        }
    }
}
