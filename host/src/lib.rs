//! Bireme: a function host.
//!
//! Functions run as WebAssembly components, each call in a fresh sandbox; inference runs in native worker processes;
//! the interface in `wit/` joins the two. `ARCHITECTURE.md` has the map.
//!
//! Modules are listed from the top down: each uses modules below it, never above it (`tests/it/layers.rs` checks).

#![cfg_attr(not(test), warn(clippy::unwrap_used))]
#![deny(missing_docs)]

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub mod cli;
pub mod server;

pub mod config;

pub mod http;

pub mod store;

pub(crate) mod python;

pub(crate) mod deploy;
pub mod dispatch;

pub mod compiler;

pub mod sandbox;

pub mod logs;

pub mod inference;
pub mod worker;

pub(crate) mod kv;
pub(crate) mod outbound;
pub(crate) mod storage;

pub(crate) mod api;
pub mod app;

pub(crate) mod metrics;

pub mod spawner;

pub mod call;
pub mod devices;
pub(crate) mod settings;
pub(crate) mod suggest;
pub mod wire;

pub mod tokenizer;

pub(crate) mod budgets;
pub(crate) mod clock;
pub mod confine;
pub(crate) mod descriptors;
#[cfg(debug_assertions)]
pub(crate) mod escape;
pub mod failpoint;
pub mod ids;
pub(crate) mod packets;
pub(crate) mod tasks;
pub(crate) mod telemetry;
pub(crate) mod throttle;
pub(crate) mod unix_socket;

pub(crate) mod byte_queue;
pub mod limits;

pub mod codes;
