//! CPU time of a guest: the time its future takes on a thread.
//!
//! The clock of a thread's CPU time is a system call (370 ns here, twice for each poll), the monotonic clock is not (22
//! ns), and most calls are one poll of some microseconds. So the monotonic clock measures until a poll takes longer
//! than `EXACT_ABOVE`; later polls are measured by CPU time. Overcounted is at most the time for which the thread was
//! descheduled within one long poll; a guest that computes for long is polled again at each tick.

use std::pin::pin;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A poll of this length may have been preempted, and makes the system calls cheap by comparison.
const EXACT_ABOVE: Duration = Duration::from_micros(100);

/// CPU time of a future. Complete after each poll, so a dropped future leaves its share.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    pub total: Duration,
    is_exact: bool,
}

/// Runs `future` and adds the time of its polls to `cpu`.
pub(crate) async fn metered<T>(future: impl Future<Output = T>, cpu: &mut CpuTime) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        if cpu.is_exact {
            let start = thread_cpu();
            let polled = future.as_mut().poll(context);
            cpu.total += thread_cpu().saturating_sub(start);
            return polled;
        }
        let start = Instant::now();
        let polled = future.as_mut().poll(context);
        let took = start.elapsed();
        cpu.total += took;
        cpu.is_exact = took > EXACT_ABOVE;
        polled
    })
    .await
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_makes_the_next_ones_exact() {
        let mut cpu = CpuTime::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut polls = 0;
        let future = std::future::poll_fn(|context| {
            polls += 1;
            // A sleeping thread uses no CPU time.
            std::thread::sleep(if polls == 1 { EXACT_ABOVE * 2 } else { Duration::from_millis(50) });
            context.waker().wake_by_ref();
            if polls == 3 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        runtime.block_on(metered(future, &mut cpu));
        assert!(cpu.is_exact);
        assert!(cpu.total >= EXACT_ABOVE * 2, "the first poll is measured by the wall clock: {cpu:?}");
        // Two sleeps of 50 ms are no CPU time, however late the first poll returned.
        let mut slept = CpuTime { is_exact: true, ..CpuTime::default() };
        runtime.block_on(metered(async { std::thread::sleep(Duration::from_millis(100)) }, &mut slept));
        assert!(slept.total < Duration::from_millis(100), "{slept:?}");
    }

    #[test]
    fn computing_is_counted() {
        let mut cpu = CpuTime { is_exact: true, ..CpuTime::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let spin = async {
            let start = thread_cpu();
            while thread_cpu() - start < Duration::from_millis(2) {}
        };
        runtime.block_on(metered(spin, &mut cpu));
        assert!(cpu.total >= Duration::from_millis(2), "{cpu:?}");
    }
}
