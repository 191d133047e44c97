//! Commands that talk to a running host over its control API.

mod apps;
mod call;
mod client;
mod deploy;
mod logs;
mod time;

pub use apps::{Apps, History, Rollback, Stop};
pub use call::Call;
pub use deploy::Deploy;
pub use logs::Logs;

use clap::Args;

/// Which host.
#[derive(Args)]
pub struct Address {
    /// The host's address.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL", env = "BIREME_HOST")]
    host: String,
}
