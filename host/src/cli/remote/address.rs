//! Address of a host: `--host`, BIREME_HOST, or this machine.

use clap::Args;

const DEFAULT: &str = "http://127.0.0.1:8080";

#[derive(Args)]
pub(crate) struct Address {
    /// The host's address.
    #[arg(long, default_value = DEFAULT, value_name = "URL", env = "BIREME_HOST")]
    pub host: String,
}

impl Address {
    /// Returns `host` if it is given, else the address that clap would fill in.
    pub(crate) fn of(host: Option<String>) -> Self {
        let host = host.or_else(|| std::env::var("BIREME_HOST").ok().filter(|host| !host.is_empty()));
        Self { host: host.unwrap_or_else(|| DEFAULT.to_owned()) }
    }
}
