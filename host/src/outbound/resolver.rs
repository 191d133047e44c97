//! Name resolution.
//!
//! Not here: permission for an address (`policy`, checked by `connector`). No cache: the system's resolver has one, and
//! every connection checks the addresses that it connects to.
//!
//! Limit: 64 look-ups at once, because each holds a thread until the system's resolver gives up; of those, an app has a
//! share.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Once};

use super::shares::Shares;
use super::system_files::RESOLV_CONF;

/// Concurrent look-ups, each of which holds a thread.
const LOOKUPS_MAX: usize = 64;

/// Future of a look-up.
pub(crate) type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// A source of addresses for host names.
pub(crate) trait Resolver: Send + Sync + 'static {
    /// Resolves `host` for an app; called once for each new connection to a name, never for a literal address. Must not
    /// block, and may be dropped at any time.
    fn resolve<'a>(&'a self, app: &'a Arc<str>, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The operating system's resolver: `/etc/hosts`, then DNS as the machine is set up.
pub(crate) struct SystemResolver {
    lookups: Arc<Shares>,
    look_up: Arc<LookUp>,
}

/// One look-up, which blocks its thread.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl SystemResolver {
    fn with(look_up: Arc<LookUp>) -> Self {
        Self { lookups: Shares::new(LOOKUPS_MAX), look_up }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::with(Arc::new(|host, port| {
            Ok((host, port).to_socket_addrs().inspect_err(|_| warn_of_set_up())?.collect())
        }))
    }
}

/// Logs, once, that the machine's resolver was set up anew by a file in place of the old one: a confined host has a
/// right to that one only.
fn warn_of_set_up() {
    static ONCE: Once = Once::new();
    let opened = File::open(RESOLV_CONF);
    if opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        ONCE.call_once(|| {
            tracing::warn!("`{RESOLV_CONF}` was replaced; restart the host, which looks up names by the old one")
        });
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, app: &'a Arc<str>, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move {
            let lookup = self.lookups.take(app).await;
            let (host, look_up) = (host.to_owned(), self.look_up.clone());
            // Not `tokio::net::lookup_host`: a look-up counts to its app until its thread is free, not until a caller
            // stops waiting.
            tokio::task::spawn_blocking(move || {
                let _lookup = lookup;
                look_up(&host, port)
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn slow_names_of_one_app_count_to_it_after_their_callers_and_leave_look_ups_for_others() {
        // A slow name is looked up until `release` is dropped.
        let (release, released) = mpsc::channel::<()>();
        let released = parking_lot::Mutex::new(released);
        let resolver = SystemResolver::with(Arc::new(move |host, port| {
            if host == "slow.example" {
                let _ = released.lock().recv();
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        }));
        let (slow, other): (Arc<str>, Arc<str>) = ("slow".into(), "other".into());
        let mut begun = 0;
        while resolver.lookups.try_take(&slow).is_some() {
            // The caller is gone as soon as its look-up has begun.
            assert!(resolver.resolve(&slow, "slow.example", 80).now_or_never().is_none());
            begun += 1;
        }
        assert_eq!(begun, 56);
        let mut waiting = resolver.resolve(&slow, "slow.example", 80);
        assert!(waiting.as_mut().now_or_never().is_none());
        let found = resolver.resolve(&other, "quick.example", 81).await.expect("not behind the slow names");
        assert_eq!(found, [SocketAddr::from(([192, 0, 2, 1], 81))]);
        drop(release);
        waiting.await.expect("a look-up that ended made room");
    }
}
