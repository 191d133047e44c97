//! HTTP in front of `dispatch` and `inference`: functions as routes, models as other servers offer them, the control API,
//! health.
//!
//! Not here: what runs and when (`dispatch`). Statuses are those of `codes`.
//!
//! Limits: `HTTP_HEADER_TIMEOUT` for the head and between requests; `HTTP_BODY_STALL_TIMEOUT` for a body that stands
//! still, and a minimum rate over `HTTP_BODY_TIMEOUT` for one that is read whole; `HTTP_STALL_TIMEOUT` for a client that does not read;
//! `HTTP_CONNECTIONS_MAX` connections, or what the limit of open files leaves; the function's own input limit for a
//! body's bytes, and `HTTP_BODIES_BYTES_MAX` for all bodies together.

mod answering;
mod body;
mod calls;
mod connections;
mod control;
mod durable;
mod ingress;
mod last;
mod lines;
mod maps;
mod metrics;
mod oip;
mod openai;
mod problem;
mod routes;
mod schedules;
mod stall;
mod upload;
mod web;
mod web_body;

use std::sync::Arc;

use crate::deploy::Deployments;
use crate::devices::ReportSource;
use crate::dispatch::{Dispatcher, Durable, Schedules};
use crate::inference::Inference;
use crate::logs::Logs;

pub use ingress::{Ingress, Serving};
pub use last::LastCall;

/// What the paths lead to.
#[derive(Clone)]
pub struct Backend {
    pub dispatcher: Arc<Dispatcher>,
    pub durable: Arc<Durable>,
    pub logs: Arc<Logs>,
    pub devices: Arc<dyn ReportSource>,
    /// The models, for clients that ask them without a function between.
    pub inference: Arc<Inference>,
    /// None on a host whose apps come from elsewhere (`bireme dev`).
    pub deployments: Option<Arc<Deployments>>,
    pub schedules: Schedules,
    /// Where calls of functions are noted, if the last one is to be made again.
    pub last_call: Option<Arc<LastCall>>,
}
