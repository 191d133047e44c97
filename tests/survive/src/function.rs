//! The guest's functions that durable calls run, and how each of them must end.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A function of `host/tests/guests/survive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    Double,
    Flaky,
    Terminal,
    Hopeless,
    Naps,
}

/// End of a call or an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub state: String,
    pub output: Option<u64>,
}

impl Outcome {
    pub(crate) fn done(output: u64) -> Self {
        Self { state: "done".to_owned(), output: Some(output) }
    }

    pub(crate) fn without_result(state: &str) -> Self {
        Self { state: state.to_owned(), output: None }
    }

    /// Reads what the host says of a call or an input.
    pub(crate) fn read(value: &Value) -> Self {
        let state = value["state"].as_str().unwrap_or("missing").to_owned();
        Self { state, output: value["output"].as_u64() }
    }

    /// Returns true if nothing more happens unless somebody asks for it.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "dead" | "cancelled")
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.output {
            Some(output) => write!(f, "{} with {output}", self.state),
            None => f.write_str(&self.state),
        }
    }
}

impl Function {
    pub(crate) const ALL: [Function; 5] = [Self::Double, Self::Flaky, Self::Terminal, Self::Hopeless, Self::Naps];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Flaky => "flaky",
            Self::Terminal => "terminal",
            Self::Hopeless => "hopeless",
            Self::Naps => "naps",
        }
    }

    /// The retries that it declares.
    pub(crate) fn retries(self) -> u64 {
        if self == Self::Hopeless { 1 } else { 3 }
    }

    /// Returns its end, however many hosts died under it.
    pub(crate) fn expected(self, n: u64) -> Outcome {
        match self {
            Self::Double => Outcome::done(n * 2),
            Self::Flaky | Self::Naps => Outcome::done(n),
            Self::Terminal => Outcome::without_result("failed"),
            Self::Hopeless => Outcome::without_result("dead"),
        }
    }

    pub(crate) fn input(n: u64, url: &str) -> Value {
        json!({ "n": n, "url": url })
    }
}
