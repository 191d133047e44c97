//! Parallelism of one piece of work: the threads that share it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::thread_pool::ThreadPool;

/// The threads of a worker, started once. The thread that shares its work is one of them.
pub struct Threads {
    /// None for a single thread.
    pool: Option<Arc<ThreadPool>>,
}

/// The number of threads that may share a piece of work. Only [`Threads::install`] gives more than one.
#[derive(Debug, Clone, Copy)]
pub struct Parallelism {
    threads: usize,
}

/// Threads could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThreadsError {
    #[error("0 threads were asked for, expected 1 to {THREADS_MAX}")]
    Zero,
    #[error("{count} threads were asked for, over the limit of {THREADS_MAX}")]
    TooMany { count: usize },
    #[error("{count} threads could not be started")]
    Start { count: usize, source: io::Error },
}

/// More than any tested machine has; a typing error should not start a million threads.
const THREADS_MAX: usize = 1024;

impl Threads {
    /// Starts `count` threads, less the caller's.
    pub fn new(count: usize) -> Result<Self, ThreadsError> {
        let pool = match count {
            0 => return Err(ThreadsError::Zero),
            1 => None,
            2..=THREADS_MAX => {
                Some(Arc::new(ThreadPool::start(count - 1).map_err(|source| ThreadsError::Start { count, source })?))
            }
            _ => return Err(ThreadsError::TooMany { count }),
        };
        Ok(Self { pool })
    }

    /// The number of threads.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.helpers() + 1)
    }

    /// Calls `work` with all threads, which stay awake until it returns.
    pub fn install<R>(&self, work: impl FnOnce(Parallelism) -> R) -> R {
        struct PoolGuard(Option<Arc<ThreadPool>>);
        impl Drop for PoolGuard {
            fn drop(&mut self) {
                POOL.set(self.0.take());
            }
        }
        let Some(pool) = &self.pool else {
            return work(Parallelism::SINGLE);
        };
        let _guard = PoolGuard(POOL.replace(Some(Arc::clone(pool))));
        let _session = pool.session();
        work(Parallelism { threads: self.count() })
    }
}

thread_local! {
    /// The threads that this thread shares its work with, inside [`Threads::install`].
    static POOL: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) };
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish()
    }
}

impl Parallelism {
    /// The calling thread alone.
    pub const SINGLE: Self = Self { threads: 1 };

    /// The work, in floating-point operations, below which sharing costs more than it saves: some 5 µs.
    pub const SHARE_FLOP_MIN: usize = 1_000_000;

    /// The number of threads.
    pub fn threads(self) -> usize {
        self.threads
    }

    /// Calls `work` for each part of `0..parts`, and returns when all are done. Free threads take parts in order.
    pub fn for_each(self, parts: usize, work: impl Fn(usize) + Sync) {
        let pool = if self.threads == 1 || parts <= 1 { None } else { POOL.with_borrow(Option::clone) };
        match pool {
            None => (0..parts).for_each(work),
            Some(pool) => pool.run(parts, &work),
        }
    }

    /// Cuts `rows` of `width` values into a run for each thread and calls `work` with each and the index of its first
    /// row. `row_flop` is the cost of a row; too little work stays in one run.
    pub(crate) fn for_rows(
        self,
        rows: &mut [f32],
        width: usize,
        row_flop: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let count = rows.len() / width;
        if self.threads == 1 || count < 2 || count.saturating_mul(row_flop) < Self::SHARE_FLOP_MIN {
            return work(0, rows);
        }
        let run = count.div_ceil(self.threads);
        let runs = Mutex::new(rows.chunks_mut(run * width).enumerate());
        self.for_each(count.div_ceil(run), |_| {
            let next = runs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let (index, rows) = next.expect("there is a run for each part");
            work(index * run, rows);
        });
    }

    /// Returns the parallelism for a piece of work of `flop` operations: this one, or one thread if the piece is small.
    pub(crate) fn for_flop(self, flop: usize) -> Self {
        if flop < Self::SHARE_FLOP_MIN { Self::SINGLE } else { self }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_part_runs_once() {
        for count in [1, 2, 5] {
            let threads = Threads::new(count).unwrap();
            let runs: Vec<AtomicUsize> = (0..17).map(|_| AtomicUsize::new(0)).collect();
            threads.install(|parallelism| {
                assert_eq!(parallelism.threads(), count);
                parallelism.for_each(runs.len(), |part| {
                    runs[part].fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn zero_and_absurd_thread_counts_are_refused() {
        assert!(matches!(Threads::new(0), Err(ThreadsError::Zero)));
        assert!(matches!(Threads::new(1 << 20), Err(ThreadsError::TooMany { count: 1_048_576 })));
    }
}
