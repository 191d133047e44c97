//! Retry decision of a request, with its delay. A plain decider.

use std::time::{Duration, SystemTime};

use super::{Error, Response};

/// Delay before the second attempt; doubles each time.
const DELAY_INITIAL: Duration = Duration::from_millis(250);
/// Longest delay of our own; a server may ask for more.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Settings of [`retries`](super::Request::retries).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retries {
    pub max: u32,
    /// Retries of non-idempotent methods, too.
    pub any_method: bool,
}

impl Retries {
    /// Returns the delay before the next attempt, or `None` if this outcome stands. `attempt` is the one that ended,
    /// counted from 1; `remaining` is the call's time; `jitter`, from 0 to 1, takes up to half of a delay of our own.
    pub(super) fn delay(
        self,
        method: &str,
        attempt: u32,
        outcome: &Result<Response, Error>,
        now: SystemTime,
        remaining: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let is_repeatable =
            self.any_method || matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
        if attempt > self.max || !is_repeatable {
            return None;
        }
        let asked = match outcome {
            Ok(response) if matches!(response.status, 408 | 425 | 429 | 500 | 502 | 503 | 504) => {
                response.headers.get("retry-after").and_then(|text| retry_after(text, now))
            }
            Ok(_) => return None,
            Err(Error::Dns { .. } | Error::Connect { .. } | Error::Timeout { .. } | Error::Protocol { .. }) => None,
            Err(_) => return None,
        };
        let chosen = DELAY_INITIAL.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(DELAY_MAX);
        let delay = asked.unwrap_or_else(|| chosen.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)));
        // Without time left for another attempt, a delay would only turn this outcome into a missed deadline.
        (delay < remaining).then_some(delay)
    }
}

/// Parses seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn answered(status: u16) -> Result<Response, Error> {
        Ok(Response::new(status, ""))
    }

    fn check(retries: Retries, method: &str, attempt: u32, outcome: &Result<Response, Error>) -> Option<u128> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        retries.delay(method, attempt, outcome, now, LONG, 1.0).map(|delay| delay.as_millis())
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retries = Retries { max: 100, any_method: false };
        let delays = [1, 2, 3, 7, 100].map(|attempt| check(retries, "GET", attempt, &answered(503)));
        assert_eq!(delays, [250, 500, 1_000, 10_000, 10_000].map(Some));
        assert_eq!(check(retries, "GET", 101, &answered(503)), None);
    }

    #[test]
    fn only_idempotent_methods_are_repeated_unless_all_are_to_be() {
        let retries = Retries { max: 1, any_method: false };
        for (method, is_repeated) in [("GET", true), ("DELETE", true), ("POST", false), ("PATCH", false)] {
            assert_eq!(check(retries, method, 1, &answered(500)).is_some(), is_repeated, "{method}");
            assert!(check(Retries { any_method: true, ..retries }, method, 1, &answered(500)).is_some());
        }
    }

    #[test]
    fn what_another_attempt_cannot_mend_stands() {
        let retries = Retries { max: 1, any_method: false };
        let url = || "http://a/".to_owned();
        for status in [200, 301, 400, 404, 501] {
            assert_eq!(check(retries, "GET", 1, &answered(status)), None, "{status}");
        }
        assert_eq!(check(retries, "GET", 1, &Err(Error::Denied { url: url() })), None);
        let refused = Err(Error::Connect { url: url(), reason: String::new() });
        assert_eq!(check(retries, "GET", 1, &refused), Some(250));
        assert_eq!(check(Retries::default(), "GET", 1, &refused), None);
    }

    #[test]
    fn a_server_says_when_and_the_calls_time_is_the_bound() {
        let retries = Retries { max: 1, any_method: false };
        let busy = |after: &str| Ok(Response::new(429, "").with_header("retry-after", after));
        assert_eq!(check(retries, "GET", 1, &busy("7")), Some(7_000));
        assert_eq!(check(retries, "GET", 1, &busy("Thu, 01 Jan 1970 00:16:45 GMT")), Some(5_000));
        assert_eq!(check(retries, "GET", 1, &busy("Thu, 01 Jan 1970 00:00:00 GMT")), Some(0));
        assert_eq!(check(retries, "GET", 1, &busy("soon")), Some(250));
        assert_eq!(check(retries, "GET", 1, &busy("3600")), None);
    }
}
