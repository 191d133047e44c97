//! The threads that share one piece of work.

use std::fmt;

use rayon::prelude::*;

/// A worker's threads: as many as were asked for, started once.
pub struct Threads {
    /// None for one thread: the caller's own does the work, with no hop to another.
    pool: Option<rayon::ThreadPool>,
}

/// How many threads may share a piece of work. Only [`Threads::install`] makes one of more than one.
#[derive(Debug, Clone, Copy)]
pub struct Team {
    size: usize,
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
    Start { count: usize, source: rayon::ThreadPoolBuildError },
}

/// More than any machine that this was tried on; a typing error should not start a million threads.
const THREADS_MAX: usize = 1024;

impl Threads {
    /// Starts `count` threads.
    pub fn new(count: usize) -> Result<Self, ThreadsError> {
        let pool = match count {
            0 => return Err(ThreadsError::Zero),
            1 => None,
            2..=THREADS_MAX => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|index| format!("kernels-{index}"))
                    .build()
                    .map_err(|source| ThreadsError::Start { count, source })?,
            ),
            _ => return Err(ThreadsError::TooMany { count }),
        };
        Ok(Self { pool })
    }

    /// The number of threads.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `work` on one of the threads, with the team of all of them.
    pub fn install<R: Send>(&self, work: impl FnOnce(Team) -> R + Send) -> R {
        match &self.pool {
            None => work(Team::ALONE),
            Some(pool) => pool.install(|| work(Team { size: pool.current_num_threads() })),
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish()
    }
}

impl Team {
    /// The calling thread alone.
    pub const ALONE: Self = Self { size: 1 };

    /// The work, in floating-point operations, below which a hop to another thread costs more than it saves: some 20 µs.
    pub const SHARE_FLOP_MIN: usize = 4_000_000;

    /// The number of threads.
    pub fn size(self) -> usize {
        self.size
    }

    /// Calls `work` for each part of `0..parts`, and returns when all are done.
    pub fn for_each(self, parts: usize, work: impl Fn(usize) + Sync + Send) {
        if self.size == 1 || parts <= 1 {
            (0..parts).for_each(work);
        } else {
            // Parts are few and large: each may go to a thread of its own.
            (0..parts).into_par_iter().with_max_len(1).for_each(work);
        }
    }

    /// Cuts `rows` of `width` values into runs for the team and calls `work` with each and the index of its first row.
    /// `row_flop` is what one row costs; too little work stays in one run.
    pub(crate) fn for_rows(
        self,
        rows: &mut [f32],
        width: usize,
        row_flop: usize,
        work: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) {
        let count = rows.len() / width;
        if self.size == 1 || count < 2 || count.saturating_mul(row_flop) < Self::SHARE_FLOP_MIN {
            return work(0, rows);
        }
        let run = count.div_ceil(self.size);
        rows.par_chunks_mut(run * width).enumerate().for_each(|(index, rows)| work(index * run, rows));
    }

    /// The team for a piece of work of so many operations: this one, or one thread if the piece is small.
    pub(crate) fn for_flop(self, flop: usize) -> Self {
        if flop < Self::SHARE_FLOP_MIN { Self::ALONE } else { self }
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
            threads.install(|team| {
                assert_eq!(team.size(), count);
                team.for_each(runs.len(), |part| {
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
