//! Faults of an engine in memory, drawn from a seed.

use std::time::Duration;

use super::super::ErrorKind;

/// Faults by their probability. The default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// An operation waits before it is applied, and again before its answer. Concurrent ones are reordered so.
    pub delay: f64,
    /// Longest of those waits.
    pub delay_max: Duration,
    /// A write is applied, and its answer is lost.
    pub lose_answers: f64,
    /// A write is lost on its way.
    pub lose_requests: f64,
    /// An operation is refused.
    pub refuse: f64,
    /// A write that adds something finds no room.
    pub full: f64,
    /// The start that writes is fenced just before.
    pub fence: f64,
}

/// Kind of an operation, by the faults that it can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// It can be delayed and refused.
    Read,
    /// Beyond that, it can be lost.
    Write,
    /// It adds something, so there may be no room.
    Add,
}

/// Course of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    pub before: Duration,
    pub after: Duration,
    pub is_fencing: bool,
    /// Error in place of the answer.
    pub error: Option<ErrorKind>,
    /// Only the answer is lost.
    pub is_applied: bool,
}

/// Source of the courses.
#[derive(Debug, Default)]
pub(crate) struct Draws {
    pub faults: Faults,
    state: u64,
}

impl Draws {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, state: seed }
    }

    /// Draws 64 bits (splitmix64).
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Draws from 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws the course of the next operation. Each takes as many draws, so that one probability can be changed alone.
    pub(crate) fn course(&mut self, operation: Operation) -> Course {
        let draws: [f64; 8] = std::array::from_fn(|_| self.unit());
        let [before, before_len, after, after_len, fence, refuse, full, lose] = draws;
        let Faults { delay, delay_max, .. } = self.faults;
        let wait = |drawn: f64, len: f64| if drawn < delay { delay_max.mul_f64(len) } else { Duration::ZERO };
        let is_write = operation != Operation::Read;
        let (error, is_applied) = if refuse < self.faults.refuse {
            (Some(ErrorKind::Refused), false)
        } else if operation == Operation::Add && full < self.faults.full {
            (Some(ErrorKind::Full), false)
        } else if is_write && lose < self.faults.lose_answers {
            (Some(ErrorKind::Unknown), true)
        } else if is_write && lose < self.faults.lose_answers + self.faults.lose_requests {
            (Some(ErrorKind::Unknown), false)
        } else {
            (None, true)
        };
        Course {
            before: wait(before, before_len),
            after: wait(after, after_len),
            is_fencing: is_write && fence < self.faults.fence,
            error,
            is_applied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn courses(faults: Faults, seed: u64, operation: Operation) -> Vec<Course> {
        let mut draws = Draws::new(faults, seed);
        (0..1_000).map(|_| draws.course(operation)).collect()
    }

    #[test]
    fn a_seed_decides_every_course() {
        let delay_max = Duration::from_millis(50);
        let faults = Faults { delay: 0.5, delay_max, lose_answers: 0.1, refuse: 0.1, ..Faults::default() };
        let run = |seed| courses(faults, seed, Operation::Add);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).iter().all(|course| course.before <= delay_max && course.after <= delay_max));
    }

    #[test]
    fn each_fault_comes_about_as_often_as_it_is_said_to() {
        let faults =
            Faults { lose_answers: 0.2, lose_requests: 0.2, refuse: 0.2, full: 0.2, fence: 0.2, ..Faults::default() };
        let count = |operation, is_it: &dyn Fn(&Course) -> bool| {
            courses(faults, 7, operation).into_iter().filter(is_it).count()
        };
        let of = |kind| move |course: &Course| course.error == Some(kind);
        assert!((150..250).contains(&count(Operation::Add, &of(ErrorKind::Refused))));
        assert!((100..250).contains(&count(Operation::Add, &of(ErrorKind::Full))));
        assert!((150..350).contains(&count(Operation::Add, &of(ErrorKind::Unknown))));
        assert!((150..250).contains(&count(Operation::Write, &|course| course.is_fencing)));
        assert_eq!(count(Operation::Write, &of(ErrorKind::Full)), 0);
        assert_eq!(count(Operation::Read, &|course| course.is_fencing), 0);
        assert_eq!(count(Operation::Read, &of(ErrorKind::Unknown)), 0);
        assert!((150..250).contains(&count(Operation::Read, &of(ErrorKind::Refused))));
    }
}
