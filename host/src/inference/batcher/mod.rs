//! Batches made of the waiting requests of many apps for several models. A plain decider: no clock, no task, no lock.
//!
//! Not here: the worker that runs a batch, and its answer (`worker_pool`); the frame of a batch (`wire`).
//!
//! **Fairness.** Between tenants (apps, and ways in from outside) service is counted in tokens, as the Virtual Token
//! Counter of Sheng et al., *Fairness in Serving Large Language Models* (arXiv 2401.00588), does: the least served
//! tenant goes first, and one that comes back from idleness starts at the level of those that wait, so that unused
//! service is not saved up. A weight divides the charge. The requests of one tenant go by priority, then by arrival;
//! every fourth turn takes its oldest, of any priority.
//!
//! **Batches.** The selected tenant decides the model, and its request goes in first. The batch is then filled, in the
//! same order, up to its rows and tokens; shorter requests may pass one that does not fit, at most four times. A
//! partial batch waits for more requests only if the model has a `max_queue_delay`: a batch is taken whenever the
//! device is free, so batches grow by themselves while it is busy, up to the size beyond which a larger one gains too
//! little (`cost`).
//!
//! **Failures.** The batches of a dead worker come back to run by themselves: once more as a whole, then in halves,
//! until the request that kills workers stands alone. Batches beyond their first retry take turns with other requests.
//!
//! Invariants: a sub-request leaves exactly once for each time that it was put in, or is cancelled; a batch stays
//! within the model's rows and tokens, but for a single sub-request that is larger; a request of a tenant that was idle
//! and is not ahead of the others waits for at most as many batches as there were other waiting tenants when it came; a
//! batch is taken whenever there is one.

mod batch;
mod cost;
mod model_queue;
mod queue;
mod requests;
mod retry_queue;
mod selection;
mod tenant;
mod tenant_queue;
#[cfg(test)]
mod tests;

pub(crate) use self::batch::{Batch, LimitReason};
pub(crate) use self::queue::{Arrival, Batcher, QueueFull};
pub(crate) use self::requests::RequestId;
pub(crate) use self::selection::Next;
pub(crate) use self::tenant::{TenantId, WEIGHT_MAX};
