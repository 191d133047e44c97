//! Outcome of an attempt at a durable call: the call's next state. A plain decider.

use crate::call::{CallResult, Failure, FailureCode, Payload};
use crate::dispatch::retry::{self, Verdict};
use crate::limits::RetryPolicy;
use crate::storage::{CallRecord, State};

/// End of an attempt, or of a call without one.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ended(CallResult),
    /// No attempt could begin, now or later.
    Refused(Failure),
    /// It did not begin, and can from this time on.
    NotBegun {
        again_ms: u64,
    },
    Cancelled,
    /// The host panicked over the call too often.
    GivenUp(Failure),
}

/// Brings the record of a leased call up to date. Returns its output, if it has one; `next_ms` is set if it begins
/// again.
pub(crate) fn settle(
    record: &mut CallRecord,
    outcome: Outcome,
    now_ms: u64,
    policy: &RetryPolicy,
    jitter: f64,
) -> Option<Payload> {
    match outcome {
        Outcome::Ended(Ok(output)) => {
            end(record, State::Done, None, now_ms);
            return Some(output);
        }
        Outcome::Ended(Err(failure)) => {
            record.note_failed(now_ms, failure.clone());
            match retry::verdict(&failure, record.attempts_charged(), policy, jitter) {
                Verdict::Retry(delay) => wait(record, now_ms + delay.as_millis() as u64),
                Verdict::Failed => end(record, State::Failed, Some(failure), now_ms),
                Verdict::Dead => end(record, State::Dead, Some(failure), now_ms),
            }
        }
        Outcome::Refused(failure) => end(record, State::Failed, Some(failure), now_ms),
        Outcome::NotBegun { again_ms } => {
            record.attempts -= 1;
            wait(record, again_ms);
        }
        Outcome::Cancelled => {
            let failure = Failure::new(FailureCode::Cancelled, "it was cancelled");
            end(record, State::Cancelled, Some(failure), now_ms);
        }
        Outcome::GivenUp(failure) => end(record, State::Dead, Some(failure), now_ms),
    }
    None
}

fn wait(record: &mut CallRecord, again_ms: u64) {
    record.state = State::Waiting;
    record.next_ms = Some(again_ms);
}

/// Ends a call.
pub(crate) fn end(record: &mut CallRecord, state: State, failure: Option<Failure>, now_ms: u64) {
    record.state = state;
    record.failure = failure;
    record.next_ms = None;
    record.ended_ms = Some(now_ms);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Principal;
    use crate::ids::{AppName, FunctionId, FunctionName};

    /// A call in its attempt number `attempts`, `lost` of which ended with their host.
    fn leased(attempts: u32, lost: u32) -> CallRecord {
        let function = FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new("f").unwrap() };
        CallRecord { state: State::Leased, attempts, lost, ..CallRecord::new(&function, Principal::default(), 1) }
    }

    fn failed(code: FailureCode) -> Outcome {
        Outcome::Ended(Err(Failure::new(code, "no")))
    }

    #[track_caller]
    fn check(mut record: CallRecord, outcome: Outcome, expected: (State, u32, Option<u64>)) -> CallRecord {
        let policy = RetryPolicy { retries_max: 2, ..RetryPolicy::default() };
        settle(&mut record, outcome, 10_000, &policy, 1.0);
        assert_eq!((record.state, record.attempts, record.next_ms), expected);
        assert_eq!(record.ended_ms, record.state.is_terminal().then_some(10_000));
        assert_eq!(record.next_ms.is_some(), record.state == State::Waiting);
        record
    }

    #[test]
    fn a_failed_attempt_is_followed_by_another_until_no_retry_is_left() {
        check(leased(1, 0), failed(FailureCode::Failed), (State::Waiting, 1, Some(11_000)));
        check(leased(2, 0), failed(FailureCode::Failed), (State::Waiting, 2, Some(12_000)));
        let dead = check(leased(3, 0), failed(FailureCode::Failed), (State::Dead, 3, None));
        assert_eq!(dead.failed_attempts.len(), 1);
        check(leased(1, 0), failed(FailureCode::Terminal), (State::Failed, 1, None));
        check(leased(1, 0), Outcome::Ended(Ok(Payload::json("1"))), (State::Done, 1, None));
    }

    #[test]
    fn an_attempt_that_ended_with_its_host_is_not_charged() {
        check(leased(4, 2), failed(FailureCode::Failed), (State::Waiting, 4, Some(12_000)));
    }

    #[test]
    fn an_attempt_that_did_not_begin_is_taken_back() {
        check(leased(2, 1), Outcome::NotBegun { again_ms: 10_500 }, (State::Waiting, 1, Some(10_500)));
        check(leased(1, 0), Outcome::Refused(Failure::new(FailureCode::UnknownFunction, "")), (State::Failed, 1, None));
    }

    #[test]
    fn a_cancelled_call_says_so() {
        let record = check(leased(1, 0), Outcome::Cancelled, (State::Cancelled, 1, None));
        assert_eq!(record.failure.map(|failure| failure.code), Some(FailureCode::Cancelled));
        check(leased(1, 0), Outcome::GivenUp(Failure::new(FailureCode::Unavailable, "")), (State::Dead, 1, None));
    }
}
