//! Name resolution.
//!
//! Not here: permission for an address (`policy`, checked by `connector`). No cache: the system's resolver has one, and
//! every connection checks the addresses that it connects to.
//!
//! Limit: 64 look-ups at once, because each holds a thread until the system's resolver gives up.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Concurrent look-ups, each of which holds a thread.
const LOOKUPS_MAX: usize = 64;

/// Future of a look-up.
pub(crate) type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// A source of addresses for host names.
pub(crate) trait Resolver: Send + Sync + 'static {
    /// Resolves `host`; called once for each new connection to a name, never for a literal address. Must not block, and
    /// may be dropped at any time.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The operating system's resolver: `/etc/hosts`, then DNS as the machine is set up.
#[derive(Debug)]
pub(crate) struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move {
            let lookup = self.lookups.clone().acquire_owned().await;
            let lookup = lookup.expect("the semaphore is never closed");
            let host = host.to_owned();
            // Not `tokio::net::lookup_host`: one of the 64 look-ups is free again when its thread is, not when a caller
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
