//! HTTP in front of `dispatch`: functions as routes, the control API, health.
//!
//! Not here: what runs and when (`dispatch`). This module alone decides HTTP statuses (`problem`).
//!
//! Limits: `HTTP_HEADER_TIMEOUT` for the head and between requests, `HTTP_BODY_TIMEOUT` for a body,
//! `HTTP_CONNECTIONS_MAX` connections, the function's own input limit for a body's bytes.

mod ingress;
mod problem;
mod routes;

pub use ingress::{Ingress, serve};
