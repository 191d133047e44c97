//! Calls as they are asked for, and their ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::{Failure, FailureCode, Payload, Principal, Priority, Receipt};
use crate::ids::{CallId, FunctionId, FunctionName, MapId};
use crate::limits::DEPTH_MAX;
use crate::sandbox::{Exchange, FunctionRef, Siblings};

/// Origin of a call: properties that its children inherit.
#[derive(Clone, Debug)]
pub struct Origin {
    pub principal: Principal,
    /// 0 from outside; a child is one deeper than its parent.
    pub depth: u32,
    /// The parent's deadline: no child outlives it.
    pub deadline_max: Option<Instant>,
    /// Order where there is not room for all: for a slot, a thread, and, among the app's own requests, a model.
    pub priority: Priority,
    /// Parent recorded for calls that this one spawns; `None` means the call itself.
    pub spawner: Option<CallId>,
    /// Durable map that has that parent as an input.
    pub spawner_map: Option<MapId>,
    /// Whether the journal has it: its attempts wait for a slot without a time limit and are never refused one, because
    /// the disk bounds their number.
    pub is_durable: bool,
}

impl Origin {
    /// A call from outside whose caller waits for it.
    pub(crate) fn outside(principal: Principal) -> Self {
        Self {
            principal,
            depth: 0,
            deadline_max: None,
            priority: Priority::High,
            spawner: None,
            spawner_map: None,
            is_durable: false,
        }
    }

    /// Whether an attempt that begins after `delay` would begin at the deadline or later.
    pub(super) fn is_late_after(&self, delay: Duration) -> bool {
        self.deadline_max.is_some_and(|max| Instant::now() + delay >= max)
    }
}

/// A call to run.
#[derive(Clone)]
pub struct Call {
    /// The same for each attempt.
    pub id: CallId,
    /// Function to run, of one version of its app.
    pub function: FunctionRef,
    /// Argument of the function, checked against its size limit before the first attempt.
    pub input: Payload,
    /// Properties that the call has from its caller, such as principal, depth and priority.
    pub origin: Origin,
    /// The other calls of its map, if it is one of a map's.
    pub siblings: Option<Arc<Siblings>>,
}

impl Call {
    /// A call from outside whose caller waits for it.
    pub fn new(function: FunctionRef, input: Payload, principal: Principal) -> Self {
        Self { id: CallId::generate(), function, input, origin: Origin::outside(principal), siblings: None }
    }
}

/// A web request to run.
pub(crate) struct WebCall {
    /// A function with a route.
    pub function: FunctionRef,
    pub exchange: Exchange,
    pub principal: Principal,
}

/// End of one attempt.
pub(super) enum Attempted<T = Payload> {
    Ended(Result<T, Failure>),
    /// It did not begin: no slot became free in time, or the host takes no more.
    NoSlot(Failure),
}

/// End of a call.
#[derive(Debug)]
pub struct Finished<T = Payload> {
    pub id: CallId,
    pub result: Result<T, Failure>,
    pub receipt: Receipt,
}

impl<T> Finished<T> {
    pub(super) fn failed(id: CallId, failure: Failure) -> Self {
        Self { id, result: Err(failure), receipt: Receipt::default() }
    }

    pub(super) fn failure_code(&self) -> Option<FailureCode> {
        self.result.as_ref().err().map(|failure| failure.code)
    }
}

/// A call that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct LiveCall {
    pub function: FunctionId,
    pub principal: Principal,
    pub depth: u32,
    pub since: Instant,
}

/// Returns the depth of a call of `function` that a call of depth `depth` makes, or refuses it.
pub(super) fn child_depth(function: &FunctionName, depth: u32) -> Result<u32, Failure> {
    if depth < DEPTH_MAX {
        return Ok(depth + 1);
    }
    let message = format!("calls nest at most {} deep, and this call of `{function}` would be deeper", DEPTH_MAX + 1);
    Err(Failure::new(FailureCode::DepthExceeded, message))
}

/// Refuses an input that no attempt could take.
pub(super) fn check(function: &FunctionRef, input: &Payload) -> Result<(), Failure> {
    if let Some(route) = &function.route {
        let message = format!(
            "`{}` is a web function: it answers `{route}` over HTTP, and cannot be called by its name",
            function.name
        );
        return Err(Failure::new(FailureCode::UnknownFunction, message));
    }
    check_secrets(function)?;
    let (input_bytes, bytes_max) = (input.data.len() as u64, function.limits.input_bytes_max);
    if input_bytes > bytes_max {
        let message = format!("the input of `{}` is {input_bytes} bytes, over its limit of {bytes_max}", function.name);
        return Err(Failure::new(FailureCode::InputTooLarge, message));
    }
    Ok(())
}

/// Refuses a call of a function with a secret that the operator did not give. Another attempt would have none either.
pub(super) fn check_secrets(function: &FunctionRef) -> Result<(), Failure> {
    function.check_secrets().map_err(|error| Failure::new(FailureCode::Terminal, error.to_string()))
}

/// Failure of a call that comes while the host shuts down.
pub(super) fn shutting_down() -> Failure {
    Failure::new(FailureCode::Unavailable, "the host is shutting down")
}

/// Puts a panic of the host on record, and returns the failure that the caller gets.
pub(super) fn panicked(call: CallId, panic: &str) -> Failure {
    tracing::error!(%call, panic, "the host met a bug of its own while it ran a call");
    Failure::host_bug()
}

/// Returns the earlier of a deadline and the parent's, if there is one.
pub(super) fn earlier(own: Instant, max: Option<Instant>) -> Instant {
    max.map_or(own, |max| own.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_one_deeper_down_to_the_limit() {
        let function = FunctionName::new("f").unwrap();
        assert_eq!(child_depth(&function, 0), Ok(1));
        assert_eq!(child_depth(&function, DEPTH_MAX - 1), Ok(DEPTH_MAX));
        assert_eq!(child_depth(&function, DEPTH_MAX).unwrap_err().code, FailureCode::DepthExceeded);
    }
}
