//! Commands against a running host, over its control API.

mod address;
mod apps;
mod call;
mod calls;
mod client;
mod deploy;
mod events;
mod export;
mod kv;
mod logs;
mod map;
mod outcome_line;
mod outcomes;
mod paths;
mod reconnect;
mod results;
mod schedule;
mod time;
mod upload;

pub(crate) use address::Address;
pub(crate) use apps::{Apps, History, Rollback, Stop};
pub(crate) use call::Call;
pub(crate) use calls::{Cancel, Get, Ps, Spawn};
pub(crate) use deploy::Deploy;
pub(crate) use export::Export;
pub(crate) use kv::Kv;
pub(crate) use logs::Logs;
pub(crate) use map::HostMap;
pub(crate) use results::Results;
pub(crate) use schedule::Schedule;
