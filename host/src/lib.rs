//! Bireme: a function host.
//!
//! Lightweight functions run as WebAssembly components, a fresh sandbox for each call; the heavy arithmetic runs in native
//! worker processes; the interface in `wit/` joins the two. `ARCHITECTURE.md` has the map.
//!
//! Modules are listed from the top down: each may use those below it, none above it (`tests/it/layers.rs` holds the order).

pub mod cli;
pub mod server;

pub mod http;

pub mod deploy;
pub mod dispatch;
pub mod logs;

pub mod journal;

pub mod sandbox;

pub mod inference;
pub mod worker;

pub mod kv;
pub mod outbound;
pub mod store;

pub mod app;

pub mod call;
pub mod config;
pub mod devices;
pub mod settings;

pub mod clock;
pub mod descriptors;
pub mod failpoint;
pub mod ids;
pub mod tasks;
pub mod telemetry;

pub mod byte_queue;
pub mod limits;

pub mod codes;
