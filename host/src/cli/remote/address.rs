//! Address of a host: `--host`, BIREME_HOST, or none for the host of the data directory.

use clap::Args;

#[derive(Args, Clone)]
pub(crate) struct Address {
    /// The host's address. Default: the host of this data directory, by its socket; else http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", env = "BIREME_HOST")]
    pub host: Option<String>,
}

impl Address {
    /// Returns `host` if it is given, else the address that clap would fill in.
    pub(crate) fn of(host: Option<String>) -> Self {
        Self { host: host.or_else(|| std::env::var("BIREME_HOST").ok()) }
    }

    /// Returns the given address; `None` for an empty text.
    pub(crate) fn given(&self) -> Option<&str> {
        self.host.as_deref().filter(|host| !host.is_empty())
    }
}
