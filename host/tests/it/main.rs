//! The binary as its users meet it: real components, real sockets, real workers.
//!
//! No test needs a network, and none depends on the clock or on another. The model is a small random one (`tiny`),
//! whose vectors plain arithmetic gives, too. A few tests are about others' files, and are skipped, which they say,
//! where those cannot be had: models (`support::real_model`, pulled only where `BIREME_TEST_MODELS=1` asks for it) and
//! packages of PyPI (`python`).

mod api;
mod authored;
mod batched;
mod budgets;
mod cases;
mod cli_help;
mod cli_text;
mod client;
mod compiler;
mod confine;
mod control_socket;
mod cuda;
mod demo;
mod deploy;
mod descriptors;
mod dev;
mod devices;
mod disk;
mod docs;
mod durable;
mod durable_clients;
mod encoder;
mod examples;
mod explain;
mod fixtures;
mod guest_models;
mod holds;
mod hostile_models;
mod http;
mod keyvalue;
mod kv;
mod layers;
mod limits;
mod listening;
mod loading;
mod manifest;
mod map;
mod metrics;
mod models;
mod modules;
mod new;
mod oip;
mod onnx;
mod openai;
mod parity;
mod prose;
mod python;
mod python_apps;
mod quarantine;
mod run;
mod schedules;
mod second_layer;
mod site;
mod sources;
mod spawning;
mod store;
#[path = "../../../kernels/tests/support/stub_driver.rs"]
mod stub_driver;
mod support;
mod terminal;
mod tiny;
mod tiny_onnx;
mod token;
mod web;
mod worker;
