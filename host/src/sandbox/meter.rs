//! CPU time of a guest: the time its future takes on a thread.
//!
//! The clock of a thread's CPU time is a system call (370 ns here, twice for each poll), the monotonic clock is not (22
//! ns), and most calls are one poll of some microseconds. So the monotonic clock measures until a poll takes longer
//! than `EXACT_ABOVE`; later polls are measured by CPU time. Overcounted is at most the time for which the thread was
//! descheduled within one long poll; a guest that computes for long is polled again at each tick.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::boundary::Boundary;

/// A poll of this length may have been preempted, and makes the system calls cheap by comparison.
const EXACT_ABOVE: Duration = Duration::from_micros(100);

/// CPU time of a future. Complete after each poll, so a dropped future leaves its share.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    pub total: Duration,
    is_exact: bool,
}

/// Runs a guest, adds the time of its polls to `cpu`, and tells polls and wake-ups to the timeline of its boundary,
/// which `waker` wakes.
pub(crate) async fn metered<T>(
    guest: impl Future<Output = T>,
    boundary: &Boundary,
    waker: &Waker,
    cpu: &mut CpuTime,
) -> T {
    let mut end = TimelineEnd { boundary, is_over: false };
    let mut guest = pin!(guest);
    std::future::poll_fn(|context| {
        let start = Instant::now();
        let mut task = boundary.task.lock();
        task.waker.get_or_insert_with(|| context.waker().clone()).clone_from(context.waker());
        task.timeline.begin_poll(start);
        drop(task);
        let cpu_start = cpu.is_exact.then(thread_cpu);
        let polled = guest.as_mut().poll(&mut Context::from_waker(waker));
        let cpu_used = cpu_start.map(|cpu_start| thread_cpu().saturating_sub(cpu_start));
        let now = Instant::now();
        let took = now - start;
        let used = cpu_used.unwrap_or(took);
        cpu.total += used;
        cpu.is_exact |= took > EXACT_ABOVE;
        let mut task = boundary.task.lock();
        task.timeline.end_poll(now, took.saturating_sub(used));
        if polled.is_ready() {
            end.is_over = true;
            task.end(now);
        }
        polled
    })
    .await
}

/// Ends a call's timeline where its guest is given up while it waits.
struct TimelineEnd<'a> {
    boundary: &'a Boundary,
    is_over: bool,
}

impl Drop for TimelineEnd<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.boundary.task.lock().end(Instant::now());
        }
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;
    use crate::sandbox::boundary::Import;

    #[derive(Default)]
    struct Call(Boundary);

    impl Wake for Call {
        fn wake(self: Arc<Self>) {
            self.0.wake();
        }
    }

    fn run(cpu: &mut CpuTime, call: &Arc<Call>, guest: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(metered(guest, &call.0, &Waker::from(call.clone()), cpu));
    }

    #[test]
    fn a_long_poll_makes_the_next_ones_exact() {
        let mut cpu = CpuTime::default();
        let mut polls = 0;
        let guest = std::future::poll_fn(|context| {
            polls += 1;
            // A sleeping thread uses no CPU time.
            std::thread::sleep(if polls == 1 { EXACT_ABOVE * 2 } else { Duration::from_millis(50) });
            context.waker().wake_by_ref();
            if polls == 3 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        run(&mut cpu, &Arc::default(), guest);
        assert!(cpu.is_exact);
        assert!(cpu.total >= EXACT_ABOVE * 2, "the first poll is measured by the wall clock: {cpu:?}");
        // Two sleeps of 50 ms are no CPU time, however late the first poll returned.
        let mut slept = CpuTime { is_exact: true, ..CpuTime::default() };
        let call = Arc::default();
        run(&mut slept, &call, async { std::thread::sleep(Duration::from_millis(100)) });
        assert!(slept.total < Duration::from_millis(100), "{slept:?}");
        let parts = call.0.task.lock().timeline.parts();
        assert!(parts.cpu_wait_us > parts.guest_us, "{parts:?}");
    }

    #[test]
    fn computing_is_counted() {
        let mut cpu = CpuTime { is_exact: true, ..CpuTime::default() };
        let spin = async {
            let start = thread_cpu();
            while thread_cpu() - start < Duration::from_millis(2) {}
        };
        run(&mut cpu, &Arc::default(), spin);
        assert!(cpu.total >= Duration::from_millis(2), "{cpu:?}");
    }

    #[test]
    fn waits_for_a_host_call_and_for_a_timer_are_told_apart() {
        let pause = || tokio::time::sleep(Duration::from_millis(5));
        let call = Arc::<Call>::default();
        let guest = async {
            call.0.cross_async(Import::KeyValue, pause()).await;
            pause().await;
        };
        run(&mut CpuTime::default(), &call, guest);
        let parts = call.0.task.lock().timeline.parts();
        assert!(parts.key_value_us >= 5_000 && parts.idle_us >= 4_000 && parts.inference_us == 0, "{parts:?}");
        assert!(call.0.task.lock().waker.is_none(), "the call holds its task no longer");
    }

    #[test]
    fn a_guest_given_up_while_it_waits_has_its_wait_counted() {
        let call = Arc::<Call>::default();
        let guest = async {
            let forever = call.0.cross_async(Import::Inference, std::future::pending::<()>());
            let _ = tokio::time::timeout(Duration::from_millis(5), forever).await;
            std::future::pending::<()>().await;
        };
        let mut cpu = CpuTime::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let waker = Waker::from(call.clone());
        runtime.block_on(async {
            let guest = metered(guest, &call.0, &waker, &mut cpu);
            assert!(tokio::time::timeout(Duration::from_millis(20), guest).await.is_err());
        });
        let parts = call.0.task.lock().timeline.parts();
        assert!(parts.sum() >= 18_000 && parts.inference_us >= 4_000, "{parts:?}");
    }
}
