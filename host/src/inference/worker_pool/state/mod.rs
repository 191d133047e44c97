//! The decisions of a worker pool: which worker starts, loads, runs and answers what. `worker_pool` acts on them.
//!
//! A plain decider: no clock, no task, no lock.

mod failures;
mod frames;
mod history;
mod models;
mod outputs;
mod pool;
mod replies;
mod report;
mod room;
mod slot;
#[cfg(test)]
mod tests;
mod work;

pub use self::history::DeviceStats;
#[cfg(test)]
pub(crate) use self::history::ModelStats;
pub(crate) use self::history::{BatchRecord, Outcome};
pub(crate) use self::models::{ModelConfig, ModelSource};
pub(crate) use self::pool::{Action, PoolConfig, PoolState};
pub(crate) use self::work::{Answer, Output, OutputKind, Work};
