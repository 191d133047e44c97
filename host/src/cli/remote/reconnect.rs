//! Reconnection to a host that does not answer: it may be restarting.

use std::time::{Duration, Instant};

use crate::cli::exit::Exit;
use crate::cli::output;

/// Time without an answer after which the command gives up.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(250);

/// Wait between two attempts, for up to `OUTAGE_MAX` from the first.
#[derive(Default)]
pub(crate) struct Reconnect {
    since: Option<Instant>,
}

impl Reconnect {
    /// Sleeps before the next attempt, or returns the error once the time is up.
    pub(crate) fn wait(&mut self, exit: Exit) -> Result<(), Exit> {
        let since = *self.since.get_or_insert_with(|| {
            output::note(&format!("the host does not answer; trying again for {} s", OUTAGE_MAX.as_secs()));
            Instant::now()
        });
        if since.elapsed() > OUTAGE_MAX {
            return Err(exit);
        }
        std::thread::sleep(INTERVAL);
        Ok(())
    }
}
