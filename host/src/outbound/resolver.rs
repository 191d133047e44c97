//! Name resolution.
//!
//! Not here: permission for an address (`policy`, checked by `connector`). No cache: the system's resolver has one, and
//! every connection checks the addresses that it connects to.
//!
//! Limit: 64 look-ups at once, because each holds a thread until the system's resolver gives up; of those, an app has a
//! share.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use super::shares::Shares;

/// Concurrent look-ups, each of which holds a thread.
const LOOKUPS_MAX: usize = 64;

/// Future of a look-up.
pub(crate) type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// A source of addresses for host names.
pub(crate) trait Resolver: Send + Sync + 'static {
    /// Resolves `host` for an app; called once for each new connection to a name, never for a literal address. Must not block, and
    /// may be dropped at any time.
    fn resolve<'a>(&'a self, app: &'a Arc<str>, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The operating system's resolver: `/etc/hosts`, then DNS as the machine is set up.
#[derive(Debug)]
pub(crate) struct SystemResolver {
    lookups: Arc<Shares>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Shares::new(LOOKUPS_MAX) }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, app: &'a Arc<str>, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move {
            let lookup = self.lookups.take(app).await;
            let host = host.to_owned();
            // Not `tokio::net::lookup_host`: a look-up counts to its app until its thread is free, not until a caller
            // stops waiting.
            tokio::task::spawn_blocking(move || {
                let _lookup = lookup;
                Ok((host.as_str(), port).to_socket_addrs()?.collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}
