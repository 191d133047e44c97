//! Timeline of one attempt: wall time from the first poll of its guest to the last, by what it was spent on. A plain
//! decider.
//!
//! Invariant: every moment between the two belongs to one part. A guest makes one host call at a time, so host calls
//! cannot overlap; outbound requests run beside the guest, and count while it waits for nothing else.

use std::time::{Duration, Instant};

use crate::call::{WallParts, micros};

/// Host calls of which the timeline knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostCall {
    Functions,
    Http,
    Inference,
    KeyValue,
}

/// Wall time of a guest, complete up to the last event.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    guest: Duration,
    cpu_wait: Duration,
    functions: Duration,
    http: Duration,
    inference: Duration,
    key_value: Duration,
    idle: Duration,
    /// The last event; `None` before the first poll and after the last.
    since: Option<Instant>,
    is_polled: bool,
    /// Whether the guest was woken since its last poll began.
    is_woken: bool,
    /// Host call that the guest waits for.
    host_call: Option<HostCall>,
    /// Outbound requests and response bodies that are waited for.
    http_waits: u32,
    /// `guest` when the present poll began.
    guest_before: Duration,
}

impl Timeline {
    /// The guest is polled.
    pub(super) fn begin_poll(&mut self, now: Instant) {
        match self.since {
            Some(_) => self.advance(now),
            None => self.since = Some(now),
        }
        (self.is_polled, self.is_woken) = (true, false);
        self.guest_before = self.guest;
    }

    /// The poll returned, of which the thread did not run for `descheduled`.
    pub(super) fn end_poll(&mut self, now: Instant, descheduled: Duration) {
        self.advance(now);
        self.is_polled = false;
        // A host call may block on the disk, so it keeps its share where the guest's own does not cover the loss.
        let lost = descheduled.min(self.guest - self.guest_before);
        self.guest -= lost;
        self.cpu_wait += lost;
    }

    /// The guest can go on. May come during a poll, and more than once.
    pub(super) fn wake(&mut self, now: Instant) {
        if !self.is_woken {
            self.advance(now);
            self.is_woken = true;
        }
    }

    /// The guest enters a host call.
    pub(super) fn begin_call(&mut self, call: HostCall, now: Instant) {
        self.advance(now);
        match call {
            HostCall::Http => self.http_waits += 1,
            _ => self.host_call = Some(call),
        }
    }

    /// A host call ends, or is given up.
    pub(super) fn end_call(&mut self, call: HostCall, now: Instant) {
        self.advance(now);
        match call {
            HostCall::Http => self.http_waits = self.http_waits.saturating_sub(1),
            _ => self.host_call = None,
        }
    }

    /// The guest ends, or is given up. Later events count no more.
    pub(super) fn end(&mut self, now: Instant) {
        self.advance(now);
        self.since = None;
    }

    /// Returns the parts so far, without those that other clocks have.
    pub(super) fn parts(&self) -> WallParts {
        WallParts {
            guest_us: micros(self.guest),
            cpu_wait_us: micros(self.cpu_wait),
            functions_us: micros(self.functions),
            http_us: micros(self.http),
            inference_us: micros(self.inference),
            key_value_us: micros(self.key_value),
            idle_us: micros(self.idle),
            ..WallParts::default()
        }
    }

    /// Adds the time since the last event to its part. Events of several threads may come out of order by a little.
    fn advance(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let elapsed = now.saturating_duration_since(since);
        self.since = Some(since.max(now));
        let part = match self.host_call {
            _ if !self.is_polled && self.is_woken => &mut self.cpu_wait,
            Some(HostCall::Functions) => &mut self.functions,
            Some(HostCall::Inference) => &mut self.inference,
            Some(HostCall::KeyValue) => &mut self.key_value,
            Some(HostCall::Http) => &mut self.http,
            None if self.is_polled => &mut self.guest,
            None if self.http_waits > 0 => &mut self.http,
            None => &mut self.idle,
        };
        *part += elapsed;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A timeline, and the time in milliseconds since its start.
    struct Clock {
        timeline: Timeline,
        start: Instant,
    }

    impl Clock {
        fn new() -> Self {
            Self { timeline: Timeline::default(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Returns the parts that are not 0, in milliseconds.
        fn parts(&self) -> Vec<(&'static str, u64)> {
            let parts = self.timeline.parts().parts();
            parts
                .into_iter()
                .filter(|&(_, part_us)| part_us > 0)
                .map(|(name, part_us)| (name, part_us / 1_000))
                .collect()
        }
    }

    #[test]
    fn a_host_call_counts_until_the_guest_is_woken_and_then_it_waits_for_a_cpu() {
        let mut clock = Clock::new();
        let at = [0, 1, 2, 10, 15, 16, 20].map(|ms| clock.at(ms));
        clock.timeline.begin_poll(at[0]);
        clock.timeline.begin_call(HostCall::Inference, at[1]);
        clock.timeline.end_poll(at[2], Duration::ZERO);
        clock.timeline.wake(at[3]);
        clock.timeline.begin_poll(at[4]);
        clock.timeline.end_call(HostCall::Inference, at[5]);
        clock.timeline.end_poll(at[6], Duration::from_millis(3));
        // 1 to 10 and 15 to 16; of the guest's 5, 3 were another thread's.
        assert_eq!(clock.parts(), [("guest code", 2), ("waiting for a CPU", 8), ("inference", 10)]);
    }

    #[test]
    fn a_guest_that_yields_waits_for_a_cpu() {
        let mut clock = Clock::new();
        let at = [0, 1, 2, 7, 8].map(|ms| clock.at(ms));
        clock.timeline.begin_poll(at[0]);
        clock.timeline.wake(at[1]);
        clock.timeline.end_poll(at[2], Duration::ZERO);
        clock.timeline.begin_poll(at[3]);
        clock.timeline.end_poll(at[4], Duration::ZERO);
        assert_eq!(clock.parts(), [("guest code", 3), ("waiting for a CPU", 5)]);
    }

    #[test]
    fn requests_at_the_same_time_count_once_and_only_while_the_guest_waits() {
        let mut clock = Clock::new();
        let at = [0, 1, 2, 4, 8, 10, 20].map(|ms| clock.at(ms));
        clock.timeline.begin_poll(at[0]);
        clock.timeline.begin_call(HostCall::Http, at[1]);
        clock.timeline.begin_call(HostCall::Http, at[1]);
        clock.timeline.end_poll(at[2], Duration::ZERO);
        clock.timeline.end_call(HostCall::Http, at[3]);
        clock.timeline.end_call(HostCall::Http, at[4]);
        clock.timeline.begin_poll(at[5]);
        clock.timeline.end_poll(at[6], Duration::ZERO);
        assert_eq!(clock.parts(), [("guest code", 12), ("http", 6), ("timers and client", 2)]);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_whatever_happens(events in proptest::collection::vec((0u8..9, 0u64..50), 0..60)) {
            let (mut clock, mut ms) = (Clock::new(), 0);
            clock.timeline.begin_poll(clock.start);
            for (event, gap_ms) in events {
                ms += gap_ms;
                let now = clock.at(ms);
                let timeline = &mut clock.timeline;
                match event {
                    0 => timeline.begin_poll(now),
                    1 => timeline.end_poll(now, Duration::from_millis(gap_ms / 2)),
                    2 => timeline.wake(now),
                    3 => timeline.begin_call(HostCall::KeyValue, now),
                    4 => timeline.end_call(HostCall::KeyValue, now),
                    5 => timeline.begin_call(HostCall::Http, now),
                    6 => timeline.end_call(HostCall::Http, now),
                    7 => timeline.begin_call(HostCall::Functions, now),
                    _ => timeline.end_call(HostCall::Functions, now),
                }
            }
            clock.timeline.end(clock.at(ms));
            prop_assert_eq!(clock.timeline.parts().sum(), ms * 1_000);
            // Nothing counts after the end.
            clock.timeline.wake(clock.at(ms + 9));
            prop_assert_eq!(clock.timeline.parts().sum(), ms * 1_000);
        }
    }
}
