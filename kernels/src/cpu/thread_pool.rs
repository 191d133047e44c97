//! A thread pool for the parts of one short job after another, with minimal latency between two jobs.
//!
//! A batch goes through some forty jobs of 50 to 500 µs. Waking a sleeping thread for each of them costs as much as it
//! saves, so helpers stay awake between the jobs of a session ([`ThreadPool::session`]) and for a moment after it, then
//! sleep. A helper that comes late, because its core was busy, finds fewer parts left or none; the job does not wait
//! for it.
//!
//! Invariants: a part of a job runs exactly once; when `ThreadPool::run` returns or unwinds, no helper is inside the
//! job.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The helper threads; the caller's own thread works along.
pub(super) struct ThreadPool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the thread that runs a job.
    caller: Mutex<()>,
}

struct Shared {
    /// The number of the job, whether it is open to helpers, and how many are inside (see [`State`]).
    state: AtomicU64,
    job: UnsafeCell<Job>,
    /// The next free part.
    next: AtomicUsize,
    /// The payload of a helper's panic.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Further jobs follow at once.
    in_session: AtomicBool,
    is_closing: AtomicBool,
    sleeping: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A piece of work in parts. The pointer is valid while the job is open or a helper is inside.
#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

#[expect(unsafe_code, reason = "the job lives on its caller's stack")]
// SAFETY: `job` is written only by the thread inside `ThreadPool::run`, of which `ThreadPool::caller` admits one, and
// only while no helper is inside; helpers read it only inside (see `Shared::enter`). What it points to is `Sync`.
unsafe impl Sync for Shared {}

#[expect(unsafe_code, reason = "see the impl of `Sync`")]
// SAFETY: as for `Sync`; nothing here belongs to the thread that made it.
unsafe impl Send for Shared {}

/// A job's number in the upper half, then one bit for open, then the number of helpers inside.
struct State;

impl State {
    const OPEN: u64 = 1 << 31;
    const HELPERS: u64 = Self::OPEN - 1;
    const JOB: u64 = 1 << 32;

    fn job(state: u64) -> u64 {
        state >> 32
    }
}

/// Time that a helper looks for the next job of a session before it sleeps: longer than the steps that one thread does
/// alone.
const AWAKE: Duration = Duration::from_micros(200);

/// Time that it looks on after a session. Under load the next batch comes within it, and threads that did not sleep
/// need no scheduler to find them a core.
const LINGER: Duration = Duration::from_micros(50);

/// Looks at the state before the thread yields: some 10 µs.
const LOOKS: u32 = 512;

impl ThreadPool {
    /// Starts the helpers.
    pub(super) fn start(helpers: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::new());
        let mut pool = Self { shared, helpers: Vec::with_capacity(helpers), caller: Mutex::new(()) };
        for index in 0..helpers {
            let shared = Arc::clone(&pool.shared);
            // On an error, dropping the pool ends those that have started.
            let helper = thread::Builder::new().name(format!("kernels-{}", index + 1)).spawn(move || shared.help())?;
            pool.helpers.push(helper);
        }
        Ok(pool)
    }

    pub(super) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    /// Keeps the helpers awake between jobs until the result is dropped.
    pub(super) fn session(&self) -> Session {
        self.shared.in_session.store(true, Ordering::Relaxed);
        Session(Arc::clone(&self.shared))
    }

    /// Calls `work` for each part of `0..parts` on the caller's thread and the helpers, and returns when all are done.
    /// Inside a part, or while another thread has a job, the caller's thread does all of it.
    ///
    /// Panics if a part panicked, with the same payload; parts that were not begun by then may be left out.
    pub(super) fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let _caller = match self.caller.try_lock() {
            Ok(caller) => caller,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..parts).for_each(work),
        };
        self.shared.open(parts, work);
        let closing = Closing(&self.shared);
        self.shared.take_parts(parts, work);
        drop(closing);
        let payload = lock(&self.shared.panic).take();
        if let Some(payload) = payload {
            panic::resume_unwind(payload);
        }
    }
}

/// While it lives, idle helpers look for work instead of sleeping.
pub(super) struct Session(Arc<Shared>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.in_session.store(false, Ordering::Relaxed);
    }
}

/// Closes a job however its caller leaves it.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.shared.wake();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its parts, so there is nothing to pass on.
            let _ = helper.join();
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { work: &|_| {}, parts: 0 }),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            in_session: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Lets helpers into a new job. No helper is inside the last one, by `close`.
    #[expect(unsafe_code, reason = "the job lives on its caller's stack")]
    fn open(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the lifetime is forgotten, not outlived: `ThreadPool::run` closes the job before its borrow of `work`
        // ends, by a guard, so also when it unwinds.
        let work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        // SAFETY: the job is closed and empty, and there is one opener (see the impl of `Sync`).
        unsafe { *self.job.get() = Job { work, parts } };
        self.next.store(0, Ordering::Relaxed);
        // Left from a job whose caller panicked itself.
        *lock(&self.panic) = None;
        let last = self.state.load(Ordering::Relaxed);
        // `SeqCst` against `sleeping`: either we see the sleeper, or it sees the job.
        self.state.store((last & !State::HELPERS).wrapping_add(State::JOB) | State::OPEN, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Closes the job and waits until all helpers have left it.
    fn close(&self) {
        self.state.fetch_and(!State::OPEN, Ordering::Relaxed);
        let mut looks = 0_u32;
        // `Acquire`: makes the writes of the helpers visible once they have left.
        while self.state.load(Ordering::Acquire) & State::HELPERS != 0 {
            looks += 1;
            pause(looks);
        }
    }

    /// Enters the job if it is open and not the one that this helper was in last; `Shared::leave` ends it.
    #[expect(unsafe_code, reason = "the job lives on its caller's stack")]
    fn enter(&self, last_job: u64) -> Option<(u64, Job)> {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & State::OPEN == 0 || State::job(state) == last_job {
                return None;
            }
            // `Acquire`: the job that `open` wrote. The number in the state makes this fail if it is another by now.
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: we are inside, so `open` does not write before we leave.
                Ok(_) => return Some((State::job(state), unsafe { *self.job.get() })),
                Err(actual) => state = actual,
            }
        }
    }

    fn leave(&self) {
        self.state.fetch_sub(1, Ordering::Release);
    }

    fn take_parts(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            work(part);
        }
    }

    /// The loop of a helper.
    #[expect(unsafe_code, reason = "the job lives on its caller's stack")]
    fn help(&self) {
        let mut last_job = 0;
        while !self.is_closing.load(Ordering::Relaxed) {
            let Some((number, job)) = self.enter(last_job) else {
                self.rest(last_job);
                continue;
            };
            last_job = number;
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: we are inside, so the job's caller has not returned (see `ThreadPool::run`).
                self.take_parts(job.parts, unsafe { &*job.work });
            }));
            if let Err(payload) = result {
                self.next.store(job.parts, Ordering::Relaxed);
                *lock(&self.panic) = Some(payload);
            }
            self.leave();
        }
    }

    /// Returns when there may be a job other than `last_job`: soon while a session lasts, else after sleep.
    fn rest(&self, last_job: u64) {
        let is_new = || {
            let state = self.state.load(Ordering::SeqCst);
            state & State::OPEN != 0 && State::job(state) != last_job
        };
        let since = Instant::now();
        for looks in 1.. {
            if is_new() {
                return;
            }
            pause(looks);
            let awake = if self.in_session.load(Ordering::Relaxed) { AWAKE } else { LINGER };
            if looks.is_multiple_of(64) && since.elapsed() > awake {
                break;
            }
        }
        let mut guard = lock(&self.sleep);
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        while !is_new() && !self.is_closing.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        // A helper between its last look and its sleep holds the lock.
        drop(lock(&self.sleep));
        self.wake.notify_all();
    }
}

/// Waits a moment; after many looks by yielding the core, which the awaited thread may need.
fn pause(looks: u32) {
    if looks < LOOKS { hint::spin_loop() } else { thread::yield_now() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(len: usize) -> Vec<AtomicUsize> {
        (0..len).map(|_| AtomicUsize::new(0)).collect()
    }

    #[test]
    fn every_part_of_every_job_runs_once() {
        for helpers in [0, 1, 4] {
            let pool = ThreadPool::start(helpers).unwrap();
            for is_session in [true, false] {
                let session = is_session.then(|| pool.session());
                for job in 0..3_000 {
                    // On the stack and of another size each time: a helper that kept a job would be found out.
                    let runs = counts(job % 7);
                    pool.run(runs.len(), &|part| {
                        runs[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
                }
                drop(session);
            }
        }
    }

    #[test]
    fn helpers_work_along_awake_and_from_sleep() {
        let pool = ThreadPool::start(2).unwrap();
        for round in 0..20 {
            let session = pool.session();
            // Each part waits for the other two, so three threads must be inside at once.
            let inside = AtomicUsize::new(0);
            pool.run(3, &|_| {
                inside.fetch_add(1, Ordering::SeqCst);
                while inside.load(Ordering::SeqCst) < 3 {
                    thread::yield_now();
                }
            });
            drop(session);
            if round % 2 == 0 {
                while pool.shared.sleeping.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn what_helpers_wrote_is_there_when_a_job_ends() {
        let pool = ThreadPool::start(3).unwrap();
        let _session = pool.session();
        for job in 0..2_000_usize {
            let mut values = vec![0; 64];
            let chunks = Mutex::new(values.chunks_mut(4));
            pool.run(16, &|_| {
                let chunk = lock(&chunks).next();
                chunk.expect("there are as many as parts").fill(job);
            });
            assert_eq!(values, [job; 64]);
        }
    }

    #[test]
    fn a_panic_of_any_part_reaches_the_caller_and_the_pool_goes_on() {
        let pool = ThreadPool::start(2).unwrap();
        for bad in 0..32 {
            let inside = AtomicUsize::new(0);
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                pool.run(32, &|part| {
                    inside.fetch_add(1, Ordering::SeqCst);
                    let _leaving = scopeguard(|| inside.fetch_sub(1, Ordering::SeqCst));
                    assert!(part != bad, "part {part}");
                });
            }));
            assert_eq!(*result.unwrap_err().downcast::<String>().unwrap(), format!("part {bad}"));
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            let runs = counts(8);
            pool.run(8, &|part| {
                runs[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
        }
    }

    fn scopeguard<R>(end: impl FnMut() -> R) -> impl Drop {
        struct Guard<R, F: FnMut() -> R>(F);
        impl<R, F: FnMut() -> R> Drop for Guard<R, F> {
            fn drop(&mut self) {
                (self.0)();
            }
        }
        Guard(end)
    }

    #[test]
    fn a_job_within_a_part_runs_where_it_is() {
        let pool = ThreadPool::start(2).unwrap();
        let runs = counts(6);
        pool.run(3, &|outer| {
            pool.run(2, &|inner| {
                runs[2 * outer + inner].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
    }
}
