//! Receipt: the cost of a call, as it is shown, sent and stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Wall clock by what it was spent on; the parts add up to `wall_us`. Not stored for each input of a durable map.
    #[serde(skip_serializing_if = "WallParts::is_empty")]
    pub wall_parts: WallParts,
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
        self.wall_parts.add(&other.wall_parts);
        self.group_inputs += other.group_inputs;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.host_calls.add(&other.host_calls);
        self.log_dropped_bytes += other.log_dropped_bytes;
        self.inference.add(&other.inference);
    }

    /// Ends an attempt's wall clock at `wall_us`; `other` is what no part has.
    pub(crate) fn end_attempt(&mut self, wall_us: u64) {
        self.wall_us = wall_us.max(self.wall_parts.sum());
        self.wall_parts.other_us += self.wall_us - self.wall_parts.sum();
    }

    /// Extends the wall clock of the attempts to that of the call, which has the waits between them, too.
    pub(crate) fn end_call(&mut self, wall_us: u64) {
        let rest_us = wall_us.saturating_sub(self.wall_us);
        self.wall_us += rest_us;
        match self.attempts {
            0 | 1 => self.wall_parts.other_us += rest_us,
            _ => self.wall_parts.between_attempts_us += rest_us,
        }
    }
}

/// Wall clock of a receipt, by what it was spent on. No moment counts twice, so the parts add up to `wall_us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WallParts {
    /// Instantiation.
    #[serde(skip_serializing_if = "is_zero")]
    pub instantiate_us: u64,
    /// The guest ran, outside of the host calls below.
    #[serde(skip_serializing_if = "is_zero")]
    pub guest_us: u64,
    /// The guest was ready to run, and other calls or programs had the CPU.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu_wait_us: u64,
    /// Calls of other functions, with spawned calls and maps.
    #[serde(skip_serializing_if = "is_zero")]
    pub functions_us: u64,
    /// The guest waited while an outbound request or its response was under way. Requests at the same time count once.
    #[serde(skip_serializing_if = "is_zero")]
    pub http_us: u64,
    /// Requests to models.
    #[serde(skip_serializing_if = "is_zero")]
    pub inference_us: u64,
    /// Operations on the key-value store.
    #[serde(skip_serializing_if = "is_zero")]
    pub key_value_us: u64,
    /// The guest waited for something else: a timer, or its client's body.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_us: u64,
    /// Pauses before retries, and the wait for a slot of every attempt but the first.
    #[serde(skip_serializing_if = "is_zero")]
    pub between_attempts_us: u64,
    /// The rest: preparing the call and freeing its memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_us: u64,
}

impl WallParts {
    /// Returns the parts, by their names for people.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("instantiation", self.instantiate_us),
            ("guest code", self.guest_us),
            ("waiting for a CPU", self.cpu_wait_us),
            ("other functions", self.functions_us),
            ("http", self.http_us),
            ("inference", self.inference_us),
            ("key-value", self.key_value_us),
            ("timers and client", self.idle_us),
            ("between attempts", self.between_attempts_us),
            ("other", self.other_us),
        ]
    }

    /// Returns the sum of the parts.
    pub(crate) fn sum(&self) -> u64 {
        self.parts().iter().map(|(_, part_us)| part_us).sum()
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.instantiate_us += other.instantiate_us;
        self.guest_us += other.guest_us;
        self.cpu_wait_us += other.cpu_wait_us;
        self.functions_us += other.functions_us;
        self.http_us += other.http_us;
        self.inference_us += other.inference_us;
        self.key_value_us += other.key_value_us;
        self.idle_us += other.idle_us;
        self.between_attempts_us += other.between_attempts_us;
        self.other_us += other.other_us;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_parts_of_any_attempts_add_up_to_the_wall_clock(
            attempts in proptest::collection::vec((0u64..1_000, 0u64..1_000, 0u64..1_000, 0u64..3_000), 1..5),
            between_us in 0u64..1_000,
        ) {
            let mut call = Receipt::default();
            for (instantiate_us, guest_us, http_us, wall_us) in attempts {
                let wall_parts = WallParts { instantiate_us, guest_us, http_us, ..WallParts::default() };
                let mut attempt = Receipt { attempts: 1, wall_parts, ..Receipt::default() };
                attempt.end_attempt(wall_us);
                prop_assert!(attempt.wall_us >= wall_us);
                call.add(&attempt);
            }
            let wall_us = call.wall_us + between_us;
            call.end_call(wall_us);
            prop_assert_eq!((call.wall_us, call.wall_parts.sum()), (wall_us, wall_us));
            let is_retried = call.attempts > 1;
            prop_assert_eq!(call.wall_parts.between_attempts_us, if is_retried { between_us } else { 0 });
        }
    }
}
