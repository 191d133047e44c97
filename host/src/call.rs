//! Data of a call: payload, failure, receipt. Shared by every module that carries calls.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codes::Code;

mod principal;
mod priority;

pub use principal::{BadPrincipal, Principal};
pub use priority::Priority;

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
pub(crate) type CallResult = Result<Payload, Failure>;

/// Costs of a call; `docs/receipts.md` explains each field. Sums over the attempts, wall clock unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Receipt {
    /// Starts of the function; 0 if it was never started.
    pub attempts: u32,
    /// Wait for a slot.
    pub queue_us: u64,
    /// From the start of the first attempt to the result, backoff included.
    pub wall_us: u64,
    /// Instantiation.
    pub instantiate_us: u64,
    /// CPU time: the guest's own instructions and the host calls' synchronous parts.
    pub cpu_us: u64,
    /// Inputs of the groups that it ran in, its own included; of a batched function only.
    #[serde(skip_serializing_if = "is_zero")]
    pub group_inputs: u64,
    /// Largest memory of any attempt: linear memories, tables, and bytes held by the host.
    pub memory_peak_bytes: u64,
    /// Calls from the function to the host, by kind.
    #[serde(skip_serializing_if = "HostCalls::is_empty")]
    pub host_calls: HostCalls,
    /// Log bytes dropped over the limit.
    pub log_dropped_bytes: u64,
    /// Requests to models, and their share of the workers' time.
    #[serde(skip_serializing_if = "InferenceReceipt::is_empty")]
    pub inference: InferenceReceipt,
}

impl Receipt {
    /// Adds the costs of another call or attempt.
    pub(crate) fn add(&mut self, other: &Receipt) {
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.queue_us += other.queue_us;
        self.wall_us += other.wall_us;
        self.instantiate_us += other.instantiate_us;
        self.cpu_us += other.cpu_us;
        self.group_inputs += other.group_inputs;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.host_calls.add(&other.host_calls);
        self.log_dropped_bytes += other.log_dropped_bytes;
        self.inference.add(&other.inference);
    }
}

/// Host calls of a receipt, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostCalls {
    /// Readings of the clocks and of the call's remaining time.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub clock: HostCallsOfKind,
    /// Readings of the app's configuration values.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub config: HostCallsOfKind,
    /// Calls to other functions, with spawned calls and maps.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub functions: HostCallsOfKind,
    /// Outbound HTTP requests, each timed until the head of its response.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub http: HostCallsOfKind,
    /// Requests to models.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub inference: HostCallsOfKind,
    /// Operations on the key-value store.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub key_value: HostCallsOfKind,
    /// Requests for random numbers.
    #[serde(skip_serializing_if = "HostCallsOfKind::is_empty")]
    pub random: HostCallsOfKind,
}

/// Host calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostCallsOfKind {
    /// Number of host calls, failed ones included.
    pub count: u64,
    /// Not measured for clocks, configuration and random numbers, which answer at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub wall_us: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl HostCalls {
    /// Returns the kinds, by name.
    pub(crate) fn kinds(&self) -> [(&'static str, HostCallsOfKind); 7] {
        [
            ("clock", self.clock),
            ("config", self.config),
            ("functions", self.functions),
            ("http", self.http),
            ("inference", self.inference),
            ("key-value", self.key_value),
            ("random", self.random),
        ]
    }

    /// Returns the kinds, in the order of `kinds`.
    pub(crate) fn kinds_mut(&mut self) -> [&mut HostCallsOfKind; 7] {
        [
            &mut self.clock,
            &mut self.config,
            &mut self.functions,
            &mut self.http,
            &mut self.inference,
            &mut self.key_value,
            &mut self.random,
        ]
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds those of another attempt.
    pub(crate) fn add(&mut self, other: &HostCalls) {
        self.clock.add(other.clock);
        self.config.add(other.config);
        self.functions.add(other.functions);
        self.http.add(other.http);
        self.inference.add(other.inference);
        self.key_value.add(other.key_value);
        self.random.add(other.random);
    }
}

impl HostCallsOfKind {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.wall_us += other.wall_us;
    }
}

/// The inference part of a receipt: sums over the call's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InferenceReceipt {
    /// Number of answered requests to models.
    pub requests: u64,
    /// Tokens of the requests' texts, special tokens included; 0 for a model of named tensors.
    pub tokens: u64,
    /// Wait in the batcher.
    pub wait_us: u64,
    /// Rows of the batches with this call's requests.
    pub batch_rows: u64,
    /// Batches of the requests; a batch with two of them counts twice.
    pub batches: u64,
    /// This call's share of the device's time, by tokens.
    pub device_us: u64,
    /// Device of the requests: `cpu` or `cuda:N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl InferenceReceipt {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another call's or request's share.
    pub(crate) fn add(&mut self, other: &InferenceReceipt) {
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.wait_us += other.wait_us;
        self.batch_rows += other.batch_rows;
        self.batches += other.batches;
        self.device_us += other.device_us;
        if other.device.is_some() {
            self.device.clone_from(&other.device);
        }
    }
}

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
