//! States and other closed sets as text: the word that stands for each in documents.

use std::fmt;

use serde::Serialize;

use super::apps::{AppState, DeploymentAction};
use super::calls::CallState;
use super::logs::{LogLevel, LogSource};
use super::maps::{MapOutcomeState, MapState};
use super::schedules::{RunOutcome, SkipReason};

macro_rules! display {
    ($($type:ty),+ $(,)?) => {
        $(impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A variant without fields is its name, which a formatter takes as a serializer.
                self.serialize(f)
            }
        })+
    };
}

display! {
    AppState,
    CallState,
    DeploymentAction,
    LogLevel,
    LogSource,
    MapOutcomeState,
    MapState,
    RunOutcome,
    SkipReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_that_of_the_document() {
        let words = [MapOutcomeState::Pending.to_string(), SkipReason::Overlap.to_string(), LogLevel::Warn.to_string()];
        assert_eq!(words, ["pending", "overlap", "warn"]);
        assert_eq!(serde_json::to_value(SkipReason::Overlap).ok(), Some(SkipReason::Overlap.to_string().into()));
    }
}
