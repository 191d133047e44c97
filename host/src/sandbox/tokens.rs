//! Token budgets of functions, by day.
//!
//! Not here: the refusal and the charge of a request (`model_access`).
//!
//! Invariants: a day is one of UTC; an entry is dropped when another function is charged on a later day. Counters live
//! in this process: a restarted host counts from zero. A request is charged after its response, so concurrent requests
//! may exceed a budget together.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ids::FunctionId;

const SECONDS_PER_DAY: i64 = 86_400;

/// Tokens used today, by function; only of functions with a daily budget.
#[derive(Debug, Default)]
pub(crate) struct DailyTokens(Mutex<HashMap<FunctionId, TokenUse>>);

#[derive(Clone, Copy, Debug)]
struct TokenUse {
    day: i64,
    tokens: u64,
}

/// A budget without tokens left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenBudgetError {
    #[error(
        "function `{function}` has used {used} tokens in this call, and its `tokens` are {max}; another call has as \
         many again"
    )]
    Call { function: FunctionId, used: u64, max: u64 },
    #[error(
        "function `{function}` has used {used} tokens today, and its `tokens_per_day` are {max}; it has more from \
         {anew}"
    )]
    Day { function: FunctionId, used: u64, max: u64, anew: Timestamp },
}

impl DailyTokens {
    /// Refuses a function that has used up its `max` tokens of the day.
    pub(crate) fn check(&self, function: &FunctionId, max: u64, now: Timestamp) -> Result<(), TokenBudgetError> {
        let used = self.0.lock().get(function).copied();
        let today = day(now);
        match used {
            Some(used) if used.day == today && used.tokens >= max => {
                let anew = Timestamp::from_second((today + 1) * SECONDS_PER_DAY).unwrap_or(Timestamp::MAX);
                Err(TokenBudgetError::Day { function: function.clone(), used: used.tokens, max, anew })
            }
            _ => Ok(()),
        }
    }

    /// Adds tokens to the function's use of the day.
    pub(crate) fn add(&self, function: &FunctionId, tokens: u64, now: Timestamp) {
        let today = day(now);
        let mut all = self.0.lock();
        if let Some(used) = all.get_mut(function)
            && used.day == today
        {
            used.tokens = used.tokens.saturating_add(tokens);
            return;
        }
        all.retain(|_, used| used.day == today);
        all.insert(function.clone(), TokenUse { day: today, tokens });
    }
}

fn day(now: Timestamp) -> i64 {
    now.as_second().div_euclid(SECONDS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppName, FunctionName};

    fn function(name: &str) -> FunctionId {
        FunctionId { app: AppName::new("app").unwrap(), function: FunctionName::new(name).unwrap() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_that_is_used_up_ends_at_midnight() {
        let (tokens, f) = (DailyTokens::default(), function("f"));
        let evening = at("2026-03-01T23:59:59Z");
        tokens.add(&f, 60, evening);
        assert_eq!(tokens.check(&f, 100, evening), Ok(()));
        tokens.add(&f, 60, evening);
        let spent = tokens.check(&f, 100, evening).unwrap_err();
        assert_eq!(
            spent.to_string(),
            "function `app::f` has used 120 tokens today, and its `tokens_per_day` are 100; it has more from 2026-03-02T00:00:00Z"
        );
        assert_eq!(tokens.check(&function("g"), 100, evening), Ok(()));
        assert_eq!(tokens.check(&f, 100, at("2026-03-02T00:00:00Z")), Ok(()));
    }

    #[test]
    fn yesterday_is_forgotten() {
        let tokens = DailyTokens::default();
        tokens.add(&function("f"), 1, at("2026-03-01T12:00:00Z"));
        tokens.add(&function("g"), 1, at("2026-03-02T12:00:00Z"));
        assert_eq!(tokens.0.lock().len(), 1);
        // Days count the same way before 1970, as a wrong clock may report.
        tokens.add(&function("g"), u64::MAX, at("1969-12-31T12:00:00Z"));
        let spent = tokens.check(&function("g"), 1, at("1969-12-31T13:00:00Z")).unwrap_err();
        assert!(spent.to_string().ends_with("1970-01-01T00:00:00Z"), "{spent}");
    }
}
