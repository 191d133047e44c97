//! Turns host names into addresses.
//!
//! Not here: whether an address may be used (`policy`, asked by `connector`). No cache: the system's resolver has one,
//! and every connection checks the addresses that it connects to.
//!
//! Limit: 64 look-ups at once, because each holds a thread until the system's resolver gives up.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// The most look-ups that hold a thread at once.
const LOOKUPS_MAX: usize = 64;

/// The answer to come of a look-up.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of a host name.
pub trait Resolver: Send + Sync + 'static {
    /// Looks `host` up; called once for each new connection to a name, never for a literal address. It must not block,
    /// and it may be dropped at any time.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The operating system's resolver: `/etc/hosts`, then DNS as the machine is set up.
#[derive(Debug)]
pub struct SystemResolver {
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
            // Not `tokio::net::lookup_host`: the place among the 64 is given back when the thread is free again, not
            // when a caller stops waiting.
            tokio::task::spawn_blocking(move || {
                let _lookup = lookup;
                Ok((host.as_str(), port).to_socket_addrs()?.collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}
