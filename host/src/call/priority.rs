//! Priority of a call, and of its requests for inference.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Order of precedence under load, most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Interactive: a client waits for the result.
    High,
    /// Work without a stated urgency.
    #[default]
    Normal,
    /// Batch work, done whenever there is room.
    Low,
}

/// Text that is not a priority.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no priority; there are high, normal and low")]
pub struct UnknownPriority(String);

impl Priority {
    /// All priorities, most urgent first.
    pub(crate) const ALL: [Priority; 3] = [Self::High, Self::Normal, Self::Low];

    /// Returns the name used in every interface.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(word: &str) -> Result<Self, UnknownPriority> {
        let is_named = |priority: &Priority| priority.as_str() == word;
        Self::ALL.into_iter().find(is_named).ok_or_else(|| UnknownPriority(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_word() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse(), Ok(priority));
            assert_eq!(serde_json::to_value(priority).unwrap(), priority.as_str());
        }
        assert_eq!("urgent".parse::<Priority>(), Err(UnknownPriority("urgent".to_owned())));
    }

    #[test]
    fn a_child_of_batch_work_is_no_more_urgent() {
        assert_eq!(Priority::Normal.max(Priority::Low), Priority::Low);
        assert_eq!(Priority::Normal.max(Priority::High), Priority::Normal);
    }
}
