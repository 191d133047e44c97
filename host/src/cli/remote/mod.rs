//! Commands that talk to a running host over its control API.

mod apps;
mod call;
mod calls;
mod client;
mod deploy;
mod export;
mod logs;
mod map;
mod schedule;
mod time;

pub use apps::{Apps, History, Rollback, Stop};
pub use call::Call;
pub use calls::{Cancel, Get, Ps, Spawn};
pub use deploy::Deploy;
pub use export::Export;
pub use logs::Logs;
pub use map::{HostMap, ResultsCommand};
pub use schedule::Schedule;

use std::time::{Duration, Instant};

use clap::Args;

use super::exit::Exit;
use super::output;

/// Which host.
#[derive(Args)]
pub struct Address {
    /// The host's address.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL", env = "BIREME_HOST")]
    host: String,
}

impl Address {
    /// The host of this address, else the one that the environment names, else the one on this machine.
    pub fn of(host: Option<String>) -> Self {
        let host = host.or_else(|| std::env::var("BIREME_HOST").ok().filter(|host| !host.is_empty()));
        Self { host: host.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned()) }
    }
}

/// How long a command goes on asking a host that does not answer: it may be about to be started again.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_STEP: Duration = Duration::from_millis(250);

/// Waits between two requests, until it has been too long.
#[derive(Default)]
struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Waits a moment, or gives the error back.
    fn wait(&mut self, exit: Exit) -> Result<(), Exit> {
        let since = *self.since.get_or_insert_with(|| {
            output::note(&format!("the host does not answer; trying again for {} s", PATIENCE.as_secs()));
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(exit);
        }
        std::thread::sleep(PATIENCE_STEP);
        Ok(())
    }
}
