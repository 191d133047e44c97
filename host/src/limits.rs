//! Bounds of the host: name, unit and default of each, in one place.
//!
//! A function's attributes choose within the ceilings given here. Full is a normal answer everywhere: a typed failure
//! with a hint, never a longer queue.

use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Epoch tick: interval at which a running guest checks its deadline and yields its thread.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Nesting depth of calls through the host: a top-level call has depth 0, so four levels fit.
pub(crate) const DEPTH_MAX: u32 = 3;

/// Inputs that an ordered map reads ahead of its oldest unfinished one.
pub(crate) const MAP_WINDOW: usize = 4_096;
/// Bytes of inputs that a map keeps in memory, and of outcomes: unread ones, plus an estimate for running calls (each
/// as large as the largest so far).
pub(crate) const MAP_BYTES_MAX: u64 = 64 * MIB;
/// Bytes of inputs and outcomes of all maps of a host. Beside it each map has one input and one outcome, or one chunk
/// of the journal, so no map blocks another. Enough for eight maps at their own bound, or a thousand at half a
/// mebibyte.
pub(crate) const MAPS_BYTES_MAX: u64 = 512 * MIB;
/// Bytes of message and causes of a guest's failure; the rest is cut.
pub(crate) const FAILURE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a guest's content type; longer ones are replaced by `application/octet-stream`.
pub(crate) const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// Concurrent calls of one map, if the host has slots for them.
pub(crate) const MAP_CONCURRENCY: usize = 64;
/// Maps that one call may hold open, and readers of durable maps' outcomes.
pub(crate) const MAPS_PER_CALL_MAX: usize = 8;
/// Durable calls and maps that one attempt may spawn.
pub(crate) const SPAWNS_PER_CALL_MAX: usize = 10_000;
/// Bytes of outcomes handed to a guest at once, after the first.
pub(crate) const OUTCOMES_BYTES_MAX: u64 = 4 * MIB;

/// Unfinished durable calls of one app.
pub(crate) const OPEN_CALLS_PER_APP_MAX: usize = 1_000_000;
/// Ready durable calls in memory, by id alone; the others are read from the journal when these have begun.
pub(crate) const READY_CALLS_MAX: usize = 4_096;
/// Of those, ready calls of one function and priority.
pub(crate) const READY_LANE_MAX: usize = 256;
/// Ready calls that each function and priority may have in memory, also over `READY_CALLS_MAX`.
pub(crate) const READY_LANE_MIN: usize = 8;
/// Durable calls in memory that wait for the time of their next attempt: the soonest.
pub(crate) const RETRY_CALLS_MAX: usize = 16_384;
/// Bytes of events that are kept for clients of the feed.
pub(crate) const EVENTS_BYTES_MAX: usize = 8 << 20;

/// Open calls that are read from the journal at a time.
pub(crate) const OPEN_CALLS_PAGE_LEN: usize = 4_096;
/// Unfinished durable maps of one app.
pub(crate) const OPEN_MAPS_PER_APP_MAX: usize = 1_000;
/// Bytes of a client's idempotency key.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Bytes of one request with inputs of a map, and of one line in a stream of inputs.
pub(crate) const MAP_INPUTS_BODY_BYTES_MAX: u64 = 64 * MIB;
/// Inputs of one such request.
pub(crate) const MAP_INPUTS_REQUEST_MAX: usize = 65_536;
/// Longest time without a new input, after which an open map is closed.
pub(crate) const MAP_FEED_IDLE: Duration = Duration::from_secs(3_600);
/// Longest pause in a stream of a map's inputs.
pub(crate) const MAP_UPLOAD_IDLE: Duration = Duration::from_secs(600);
/// Inputs of one durable map.
pub(crate) const MAP_INPUTS_MAX: u64 = 1_000_000_000;

/// Inputs of one group of a batched function, and the longest wait of its first input for others.
pub(crate) const GROUP_SIZE_CEILING: u32 = 1_000;
pub(crate) const GROUP_WAIT_CEILING: Duration = Duration::from_secs(10);
/// Bytes of an input or a group's result that are checked on the current thread; larger ones move to another.
pub(crate) const GROUP_CHECK_BYTES_MAX: usize = 256 << 10;

/// Waiting durable calls of one app above which each of its maps runs one input at a time: a waiting call takes memory.
pub(crate) const DURABLE_WAITING_APP_MAX: usize = 256;

/// Calls waiting for a slot, over all apps; the same bound holds for calls waiting in groups.
pub(crate) const WAITING_CALLS_MAX: usize = 16_384;

/// Instances (slots of the pool), unless the kernel's mapping limit allows fewer.
pub(crate) const INSTANCES_DEFAULT: u32 = 1_000;
/// Bytes of a slot that stay resident between calls: 1 MiB of its memory, 64 KiB of each table.
pub(crate) const INSTANCE_RESIDENT_BYTES_MAX: u64 = MIB + TABLES_PER_COMPONENT_MAX as u64 * 64 * KIB;
/// Memory mappings of one instance (measured: about 6), with slack for its stack and code.
pub(crate) const MAPPINGS_PER_INSTANCE: u64 = 8;
/// Memory mappings reserved for the rest of the process.
pub(crate) const MAPPINGS_RESERVED: u64 = 8_192;

/// Core instances of one component: its modules, wit-component's shims, and those that linkers of other languages add
/// (Python: 14). They are heap memory, 1 MiB for all of a component, and take no mapping.
pub(crate) const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 32;
/// Linear memories of one component. `MAPPINGS_PER_INSTANCE` assumes one.
pub(crate) const MEMORIES_PER_COMPONENT_MAX: u32 = 1;
/// Tables of one component.
pub(crate) const TABLES_PER_COMPONENT_MAX: u32 = 4;
/// Elements of one table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Live resources (streams, requests, pollables, maps) of one instance.
pub(crate) const RESOURCES_MAX: usize = 1_024;
/// Bytes of one `get-random-bytes`.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 * KIB;
/// Bytes of one set of HTTP fields.
pub(crate) const HTTP_FIELDS_BYTES_MAX: usize = 32 * 1024;
/// Bytes of one key of the key-value store.
pub(crate) const KV_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of one value of the key-value store.
pub(crate) const KV_VALUE_BYTES_MAX: usize = 8 << 20;
/// Keys that one page of a listing has.
pub(crate) const KV_LIST_KEYS_MAX: usize = 1_000;
/// Bytes of the keys of one page together.
pub(crate) const KV_LIST_BYTES_MAX: usize = 256 << 10;
/// Keys of one batch.
pub(crate) const KV_BATCH_KEYS_MAX: usize = 1_000;
/// Bytes of the values of one batch together: those of one value, so that a batch holds no more than a `get`.
pub(crate) const KV_BATCH_BYTES_MAX: usize = KV_VALUE_BYTES_MAX;

/// Free bytes on the data directory's disk below which new work is refused.
pub(crate) const STORE_FREE_BYTES_MIN: u64 = 64 * MIB;
/// Free bytes below which results of running work are refused too.
pub(crate) const STORE_RESERVE_BYTES_MIN: u64 = 16 * MIB;
/// Bytes of the preallocated file that work which makes room may use: one row beside the largest value, which redb
/// writes into a page of 16 MiB, and the pages of a batch of small ones.
pub(crate) const STORE_SPARE_BYTES: u64 = 32 * MIB;
/// Bytes of a database whose free part is measured while writes wait.
pub(crate) const STORE_MEASURE_BYTES_MAX: u64 = 8 << 30;
/// Bytes in use of a database that a host compacts by itself on a full disk: some seconds of work.
pub(crate) const STORE_COMPACT_BYTES_MAX: u64 = 4 << 30;
/// Part of the disk that one app may fill, unless `--app-disk` says otherwise: one in so many.
pub(crate) const APP_DISK_PARTS: u64 = 4;

/// Bytes of one log line with its fields; the rest is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of log lines kept in memory, of all apps.
pub(crate) const LOGS_BYTES_MAX: usize = 64 << 20;
/// Bytes of log lines queued for standard error.
pub(crate) const STDERR_BYTES_MAX: usize = 4 << 20;
/// Bytes of log lines queued for their files.
pub(crate) const LOG_FILES_WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes of log lines queued for one follower (`bireme logs -f`), and for all followers together.
pub(crate) const LOG_FOLLOWER_BYTES_MAX: usize = 1 << 20;
pub(crate) const LOG_FOLLOWERS_BYTES_MAX: usize = 16 << 20;

/// Apps and functions with series of their own in the metrics; the others share those of `other`.
pub(crate) const METRICS_APPS_MAX: usize = 512;
pub(crate) const METRICS_FUNCTIONS_MAX: usize = 4_096;

/// Bytes of one secret's value.
pub(crate) const SECRET_BYTES_MAX: usize = 64 << 10;
/// Bytes of a secrets file.
pub(crate) const SECRETS_FILE_BYTES_MAX: u64 = MIB;
/// Secrets that one function may declare.
pub(crate) const SECRETS_PER_FUNCTION_MAX: usize = 64;
/// Bytes of a configuration key.
pub(crate) const CONFIG_KEY_BYTES_MAX: usize = 256;
/// Bytes of a configuration value.
pub(crate) const CONFIG_VALUE_BYTES_MAX: usize = 64 << 10;

/// Bytes of waiting and running inference requests, with room for their results, all models together.
pub(crate) const INFERENCE_BYTES_MAX: usize = 1 << 30;

/// Bytes of the largest component.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 * MIB;
/// Time to compile one component, unless `--compile-max` sets another: three times that of the largest on two cores.
pub(crate) const COMPILE_TIME_DEFAULT: Duration = Duration::from_secs(120);
/// Bytes of memory to compile one component, unless `--compile-max` sets others.
pub(crate) const COMPILE_MEMORY_BYTES_DEFAULT: u64 = 2_048 * MIB;
/// Bytes of compiled functions that the compiler process caches.
pub(crate) const COMPILE_CACHE_BYTES_MAX: usize = 128 << 20;
/// Bytes of the native code of one component.
pub(crate) const NATIVE_CODE_BYTES_MAX: u64 = 1_024 * MIB;
/// Bytes of a component's manifest, `bireme.toml`.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 * KIB;
/// Bytes of the largest metadata document.
pub(crate) const METADATA_BYTES_MAX: usize = 4 << 20;
/// Deadline of `describe`.
pub(crate) const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of memory and tables for `describe`.
pub(crate) const DESCRIBE_MEMORY_BYTES_MAX: u64 = 256 * MIB;

/// Deadline for the import of a Python app's modules.
pub(crate) const PRELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of memory and tables for it.
pub(crate) const PRELOAD_MEMORY_BYTES_MAX: u64 = 256 * MIB;
/// Bytes of what the modules may print meanwhile.
pub(crate) const PRELOAD_OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes of one source file, or of one file of data that a module reads.
pub(crate) const SOURCE_BYTES_MAX: u64 = 16 * MIB;
/// Bytes of all of them in one build.
pub(crate) const SOURCES_BYTES_MAX: u64 = 128 * MIB;
/// Names in one directory of sources.
pub(crate) const SOURCE_NAMES_MAX: usize = 10_000;

/// Deadline for a client's request line and headers; also the idle time of a kept-alive connection.
pub(crate) const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which a client's body may be slower than the minimum rate.
pub(crate) const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Minimum rate of a body, in bytes per second.
pub(crate) const HTTP_BODY_BYTES_PER_SECOND_MIN: u64 = 64 * KIB;
/// Longest pause in a body.
pub(crate) const HTTP_BODY_STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline for a client to read the next part of its response.
pub(crate) const HTTP_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of all request bodies in memory, each from its arrival to the end of its call.
pub(crate) const HTTP_BODIES_BYTES_MAX: u64 = 512 * MIB;
/// Bytes of a request to a model.
pub(crate) const INFERENCE_BODY_BYTES_MAX: u64 = 16 * MIB;
/// Deadline of a client's direct request to a model.
pub(crate) const INFERENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request body with tensors.
pub(crate) const TENSORS_BODY_BYTES_MAX: u64 = 64 * MIB;
/// Longest deadline that such a request may set.
pub(crate) const TENSORS_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of a web function's response held back before its head is sent, as long as the function does not wait.
pub(crate) const WEB_HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one connection: the head of a request, buffers for reading and writing. Bodies are charged elsewhere.
pub(crate) const HTTP_CONNECTION_BYTES_MAX: u64 = 64 * KIB;
/// Open HTTP connections, if memory (`budgets::MemoryPlan`) and the limit of open files leaves as many.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Part of them that is left to the operator, over the control socket: one in so many, and at most so many.
pub(crate) const OPERATOR_CONNECTIONS_PART: usize = 8;
pub(crate) const OPERATOR_CONNECTIONS_MAX: usize = 32;
/// Descriptors reserved for everything but HTTP connections: 1,024 outbound connections, the store's reader and writer
/// threads, a log file for each app, the workers' sockets and memory. At most half of the limit.
pub(crate) const DESCRIPTORS_RESERVED: usize = 2_048;

/// Total time for the host's shutdown: below Docker's 10 s.
pub(crate) const DRAIN_DEFAULT: Duration = Duration::from_secs(8);
/// Part of that time reserved for writing outcomes of durable calls.
pub(crate) const FLUSH_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Returns the number of HTTP connections under a limit of open files; `None` is no limit.
pub(crate) fn http_connections_max(descriptors_max: Option<u64>) -> usize {
    let descriptors_max = descriptors_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    let left = descriptors_max - DESCRIPTORS_RESERVED.min(descriptors_max / 2);
    left.clamp(2, HTTP_CONNECTIONS_MAX)
}

/// Returns the number of HTTP connections, of all, that are left to the operator.
pub(crate) fn operator_connections(connections_max: usize) -> usize {
    (connections_max / OPERATOR_CONNECTIONS_PART).clamp(1, OPERATOR_CONNECTIONS_MAX)
}

/// Limits of one function: its attributes, over the host's defaults and within the ceilings.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionLimits {
    /// Bytes of the instance's linear memories and tables, and of what the host holds for it.
    pub memory_bytes_max: u64,
    /// Wall-clock time of one attempt, waits included.
    pub timeout: Duration,
    /// Number and delays of further attempts after a retryable failure; none by default.
    pub retries: RetryPolicy,
    /// Concurrent calls of the function on this host; `None` for as many as there are slots.
    pub concurrency_max: Option<u32>,
    /// Groups of its inputs; `None` if each call runs by itself.
    pub group: Option<GroupLimits>,
    /// Model tokens of one attempt.
    pub tokens_max: Option<u64>,
    /// Model tokens of the function on this host, for one day of UTC.
    pub tokens_per_day_max: Option<u64>,
    /// Bytes of the input of one call, or of all inputs of one group.
    pub input_bytes_max: u64,
    /// Bytes of the output of one call, or of all outputs of one group.
    pub output_bytes_max: u64,
    /// Bytes of log (lines, stdout and stderr together).
    pub log_bytes_max: u64,
    /// Concurrent outbound connections.
    pub connections_max: usize,
}

impl FunctionLimits {
    /// Returns the number of calls that a map starts at a time: no more than may run, because a waiting call's timeout
    /// runs. For a batched function, enough calls to fill as many groups.
    pub(crate) fn map_concurrency(&self) -> usize {
        let (size_max, groups) = self
            .group
            .map_or((1, MAP_CONCURRENCY), |group| (group.size_max, MAP_CONCURRENCY.div_ceil(group.size_max).max(2)));
        size_max * self.concurrency_max.map_or(groups, |runs_max| groups.min(runs_max as usize))
    }
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 128 * MIB,
            timeout: Duration::from_secs(30),
            retries: RetryPolicy::default(),
            concurrency_max: None,
            group: None,
            tokens_max: None,
            tokens_per_day_max: None,
            input_bytes_max: 8 * MIB,
            output_bytes_max: 8 * MIB,
            log_bytes_max: MIB,
            connections_max: 16,
        }
    }
}

/// Conditions under which a group of inputs is complete. Its bytes are bounded by `input_bytes_max`, like a single
/// input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Inputs of a group.
    pub size_max: usize,
    /// Longest wait, from the group's first input.
    pub wait: Duration,
}

/// Retries of a failed call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries_max: u32,
    /// Delay before the second attempt.
    pub initial: Duration,
    /// Factor from one delay to the next, at least 1.
    pub backoff: f64,
    /// Longest delay.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    /// No retry. The delays are Modal's defaults.
    fn default() -> Self {
        Self { retries_max: 0, initial: Duration::from_secs(1), backoff: 2.0, delay_max: Duration::from_secs(60) }
    }
}

/// Upper bounds of a function's attributes.
#[derive(Clone, Debug)]
pub struct Ceilings {
    /// Bytes of an instance's memories and tables, and of what the host holds for it.
    pub memory_bytes_max: u64,
    /// Bytes of the output of one call, which the host holds for it.
    pub output_bytes_max: u64,
    /// Wall-clock time of one attempt.
    pub timeout_max: Duration,
    /// Attempts after the first.
    pub retries_max: u32,
    /// Delay before an attempt: bounds both the first and the longest delay.
    pub retry_delay_max: Duration,
    /// Factor from one delay to the next.
    pub backoff_max: f64,
    /// Concurrent calls of one function.
    pub concurrency_max: u32,
    /// Inputs of one group of a batched function.
    pub group_size_max: u32,
    /// Wait of a group's first input for others.
    pub group_wait_max: Duration,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1024 * MIB,
            output_bytes_max: 64 * MIB,
            timeout_max: Duration::from_secs(3_600),
            retries_max: 10,
            retry_delay_max: Duration::from_secs(3_600),
            backoff_max: 10.0,
            concurrency_max: 1_000,
            group_size_max: GROUP_SIZE_CEILING,
            group_wait_max: GROUP_WAIT_CEILING,
        }
    }
}

/// Bounds of a model's queue and batches. Names are Triton's.
#[derive(Clone, Debug)]
pub struct BatchLimits {
    /// Rows (texts) of one batch.
    pub max_batch_size: usize,
    /// Tokens of one batch.
    pub max_batch_tokens: usize,
    /// Waiting rows.
    pub max_queue_size: usize,
    /// How long a partial batch waits for more requests.
    pub max_queue_delay: Duration,
    /// Texts of one request.
    pub max_request_rows: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_batch_size: 512,
            max_batch_tokens: 16_384,
            max_queue_size: 65_536,
            max_queue_delay: Duration::ZERO,
            max_request_rows: 16_384,
        }
    }
}

// A lane is refilled once it is half empty, so that one page read serves many calls.
const _: () = assert!(READY_LANE_MIN < READY_LANE_MAX && READY_LANE_MAX < READY_CALLS_MAX);

// A map at its own bound leaves room for others.
const _: () = assert!(2 * MAP_BYTES_MAX < MAPS_BYTES_MAX);
/// Rows that one step of retention deletes in its commit.
pub(crate) const JOURNAL_STEP_ROWS_MAX: usize = 256;
/// Files that one step of retention removes.
pub(crate) const JOURNAL_STEP_FILES_MAX: usize = 64;

// A full map fits the queue whole, or its own size would refuse it.
const _: () = assert!(MAP_WINDOW < WAITING_CALLS_MAX);
// New work stops while there is still room for results of running work.
const _: () = assert!(STORE_RESERVE_BYTES_MIN < STORE_FREE_BYTES_MIN);
// One map alone cannot take every slot.
const _: () = assert!(MAP_CONCURRENCY < INSTANCES_DEFAULT as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_rest_of_the_host() {
        let allowed = [None, Some(1 << 20), Some(6_144), Some(4_096), Some(1_024), Some(256), Some(0)];
        assert_eq!(allowed.map(http_connections_max), [4_096, 4_096, 4_096, 2_048, 512, 128, 2]);
        assert_eq!([2, 128, 4_096].map(operator_connections), [1, 16, 32]);
    }
}
