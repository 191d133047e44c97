//! Commands against a running host, over its control API.

mod address;
mod apps;
mod call;
mod calls;
mod client;
mod deploy;
mod events;
mod export;
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

pub use address::Address;
pub use apps::{Apps, History, Rollback, Stop};
pub use call::Call;
pub use calls::{Cancel, Get, Ps, Spawn};
pub use deploy::Deploy;
pub use export::Export;
pub use logs::Logs;
pub use map::HostMap;
pub use results::Results;
pub use schedule::Schedule;
