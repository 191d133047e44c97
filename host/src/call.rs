//! Data of a call: payload, failure, receipt. Shared by every module that carries calls.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codes::Code;

mod principal;
mod priority;
mod receipt;

pub use principal::{BadPrincipal, Principal};
pub use priority::Priority;
pub use receipt::{HostCalls, HostCallsOfKind, InferenceReceipt, Receipt, WallParts};

/// Media type of JSON, the default encoding of inputs and outputs.
pub(crate) const JSON: &str = "application/json";

/// Bytes with their media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Media type of `data`.
    pub content_type: String,
    /// Content in the encoding of `content_type`; its length is bounded by the function's input or output limit.
    pub data: Bytes,
}

impl Payload {
    /// Returns the bytes of data and media type.
    pub(crate) fn bytes(&self) -> u64 {
        (self.content_type.len() + self.data.len()) as u64
    }

    /// Whether the media type is JSON or absent.
    pub(crate) fn is_json(&self) -> bool {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim();
        essence.is_empty() || essence.eq_ignore_ascii_case(JSON)
    }

    /// Wraps JSON text. Unchecked: the function's decoder checks it, and names the position.
    pub fn json(data: impl Into<Bytes>) -> Self {
        Self { content_type: JSON.to_owned(), data: data.into() }
    }
}

/// Kind of a failure. The same set as `failure-code` in `wit/types.wit`, which documents each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// Error returned by the function; another attempt may succeed.
    Failed,
    /// Error returned by the function that no further attempt can mend.
    Terminal,
    /// Input that does not fit the function's input type.
    InvalidInput,
    /// Name that no function of the app has, or that of a web function, which has no calls by name.
    UnknownFunction,
    /// Deadline reached before the end of the call.
    Timeout,
    /// Request of the function for more memory or table elements than its limit.
    MemoryLimit,
    /// Panic, trap or exit of the instance, or a web function's response without an end.
    Crashed,
    /// Input over the function's input limit.
    InputTooLarge,
    /// Output over the function's output limit.
    OutputTooLarge,
    /// Lack of room for the call at the moment, for instance a full queue or no free instance.
    Overloaded,
    /// Nesting of calls beyond the depth that the host allows.
    DepthExceeded,
    /// Call given up by its caller, by a cancellation, or by a host that shuts down.
    Cancelled,
    /// Host unable to do its part, for instance because of its store or a bug.
    Unavailable,
}

impl FailureCode {
    /// Every code, in the order of the WIT.
    pub(crate) const ALL: [FailureCode; 13] = [
        Self::Failed,
        Self::Terminal,
        Self::InvalidInput,
        Self::UnknownFunction,
        Self::Timeout,
        Self::MemoryLimit,
        Self::Crashed,
        Self::InputTooLarge,
        Self::OutputTooLarge,
        Self::Overloaded,
        Self::DepthExceeded,
        Self::Cancelled,
        Self::Unavailable,
    ];

    /// Returns the error code for users.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Failed => Code::Failed,
            Self::Terminal => Code::Terminal,
            Self::InvalidInput => Code::InvalidInput,
            Self::UnknownFunction => Code::UnknownFunction,
            Self::Timeout => Code::Timeout,
            Self::MemoryLimit => Code::MemoryLimit,
            Self::Crashed => Code::Crashed,
            Self::InputTooLarge => Code::InputTooLarge,
            Self::OutputTooLarge => Code::OutputTooLarge,
            Self::Overloaded => Code::Overloaded,
            Self::DepthExceeded => Code::DepthExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Unavailable => Code::Unavailable,
        }
    }

    /// Returns the stable name of the code.
    pub(crate) fn as_str(self) -> &'static str {
        self.code().as_str()
    }

    /// Whether another attempt could succeed.
    ///
    /// A crash or a missed deadline may be due to circumstances (a slow site, a large page that is gone next time), so
    /// both count; a failure that the input or the declaration alone decides does not.
    pub(crate) fn is_retryable(self) -> bool {
        matches!(self, Self::Failed | Self::Timeout | Self::Crashed | Self::Unavailable)
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call's failure, as its caller sees it: without host paths, secrets and backtraces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Kind of the failure, the basis of retries, exit statuses and HTTP statuses.
    pub code: FailureCode,
    /// One sentence for the caller, without `causes`; a guest's is cut so that both have at most 64 KiB.
    pub message: String,
    /// Causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Failure {
    /// Returns the bytes of message and causes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.message.len() + self.causes.iter().map(String::len).sum::<usize>()) as u64
    }

    /// Cuts message and causes to `bytes_max` together: guests write them, and callers keep them.
    pub(crate) fn truncate(&mut self, bytes_max: usize) {
        let mut room = bytes_max;
        let texts = std::iter::once(&mut self.message).chain(&mut self.causes);
        for text in texts {
            let cut = text.floor_char_boundary(room);
            text.truncate(cut);
            room -= cut;
        }
        self.causes.retain(|cause| !cause.is_empty());
    }

    /// Makes a failure without causes.
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new() }
    }

    /// Failure of a call over which the host panicked.
    pub(crate) fn host_bug() -> Self {
        Self::new(FailureCode::Unavailable, "the host met a bug of its own while it ran this call")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Failure {}

/// Result of a call.
pub type CallResult = Result<Payload, Failure>;

/// Returns `duration` in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_is_cut_between_characters() {
        let mut failure = Failure::new(FailureCode::Failed, "ä".repeat(10));
        failure.causes = vec!["because".to_owned(), "of this".to_owned()];
        failure.truncate(25);
        assert_eq!(failure.bytes(), 25);
        failure.truncate(5);
        assert_eq!(failure.message, "ää");
        assert!(failure.bytes() <= 5);
    }

    #[test]
    fn serde_and_display_agree_on_every_code() {
        for code in FailureCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
