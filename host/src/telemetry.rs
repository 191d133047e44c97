//! The host's own log: to stderr, filtered by `RUST_LOG` (warnings by default, `--verbose` adds the rest).

use tracing_subscriber::EnvFilter;

/// Sets up the log of this process. Once; later calls do nothing.
pub fn init(verbose: bool) {
    let default = if verbose { "bireme=debug,warn" } else { "bireme=warn,error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}
