//! Parts of the host that the paths lead to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::events::Events;
use super::last_call::LastCall;
use crate::budgets::Budgets;
use crate::deploy::Deployments;
use crate::devices::ReportSource;
use crate::dispatch::{Dispatcher, Durable, Schedules};
use crate::inference::Inference;
use crate::kv::Buckets;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::settings::OperatorToken;
use crate::store::StoreDir;

/// Parts of one host, as its server is given them.
#[derive(Clone)]
pub(crate) struct Backend {
    /// Bound address of its TCP listener.
    pub address: SocketAddr,
    pub dispatcher: Arc<Dispatcher>,
    pub durable: Arc<Durable>,
    pub budgets: Budgets,
    /// What the operator's paths ask for.
    pub token: OperatorToken,
    pub logs: Arc<Logs>,
    pub metrics: Arc<Metrics>,
    /// Its disk is in the metrics.
    pub store: Arc<StoreDir>,
    pub devices: Arc<dyn ReportSource>,
    /// Models for clients that call them without a function between.
    pub inference: Arc<Inference>,
    /// None on a host whose apps come from elsewhere (`bireme dev`).
    pub deployments: Option<Arc<Deployments>>,
    pub schedules: Schedules,
    pub events: Arc<Events>,
    /// Key-value data of the apps.
    pub key_value: Arc<Buckets>,
    /// Records function calls, where `bireme dev` repeats the last one.
    pub last_call: Option<Arc<LastCall>>,
}
