//! HTTP server in front of `dispatch` and `inference`: functions, models, the control API, health, metrics.
//!
//! Not here: what runs and when (`dispatch`); error codes and their statuses (`codes`).
//!
//! Layers, from the top: `ingress` (connections, by `peer`), `routes` (paths), then one file for each resource, then
//! what they share: `query`, `headers`, `request_body`, `documents`, `handler`, `problem`, `respond`.
//!
//! Limits: `HTTP_HEADER_TIMEOUT` for the head and between requests; `HTTP_BODY_STALL_TIMEOUT` for a body that makes no
//! progress, and a minimum data rate over `HTTP_BODY_TIMEOUT` for one that is read whole; `HTTP_STALL_TIMEOUT` for a
//! client that does not read; `HTTP_CONNECTIONS_MAX` connections, or what memory and the limit of open files leave, a
//! part of them for the operator alone; the function's own input limit for the bytes of a body; `budgets` for all
//! request bodies, and for all answers, together.

mod activity;
mod answers;
mod apps;
mod backend;
mod calls;
mod connections;
mod csrf;
mod documents;
mod errors;
mod event_ring;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guest_response;
mod handler;
mod headers;
mod ids;
mod ingress;
mod key_value;
mod last_call;
mod logs;
mod map_inputs;
mod map_results;
mod maps;
mod metrics;
pub(crate) mod oip;
mod openai;
mod peer;
mod problem;
mod query;
mod request_body;
mod respond;
mod router;
mod routes;
mod schedules;
mod upload;
mod web;
mod web_body;
mod write_timeout;

pub(crate) use backend::Backend;
pub(crate) use events::Events;
pub use ingress::Ingress;
pub(crate) use ingress::Serving;
pub(crate) use last_call::LastCall;
