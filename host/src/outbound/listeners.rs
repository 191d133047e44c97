//! Listeners of the host itself, which no function may reach, and the addresses of its machine.
//!
//! Not here: other unreachable addresses (`policy`).
//!
//! Invariants: a listener on a concrete address is found under the wildcard, IPv4-mapped and NAT64 spellings of it; a
//! listener on a wildcard address is found under every address of this machine.
//!
//! Limit: a port that another machine or a firewall rule forwards to a listener cannot be recognised.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;

use super::address;
use super::local::LocalAddresses;

/// Listening addresses of the host; clones share one set.
///
/// The server inserts each listener before it accepts; they stay as long as the host lives.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners {
    set: Arc<RwLock<HashSet<SocketAddr>>>,
    local: LocalAddresses,
}

impl OwnListeners {
    /// Adds a bound address.
    pub(crate) fn insert(&self, listener: SocketAddr) {
        self.set.write().insert(listener);
    }

    /// Whether a connection to `target` would end at one of the listeners.
    pub(crate) fn contains(&self, target: SocketAddr) -> bool {
        let set = self.set.read();
        let ip = address::inner(target.ip());
        set.iter().any(|listener| listener.port() == target.port() && self.meets(address::inner(listener.ip()), ip))
    }

    /// Whether `ip` is an address of this machine, in any spelling.
    pub(super) fn is_local(&self, ip: IpAddr) -> bool {
        self.local.contains(address::inner(ip))
    }

    /// Whether a packet to `target` arrives at a socket bound to `listener`, given equal ports.
    fn meets(&self, listener: IpAddr, target: IpAddr) -> bool {
        listener == target
            || target.is_unspecified() && self.is_local(listener)
            || listener.is_unspecified() && self.is_local(target)
    }

    /// Makes an empty set on a machine with these addresses, for tests.
    #[cfg(test)]
    pub(super) fn on(local: LocalAddresses) -> Self {
        Self { local, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listener: &str, met: &[&str], missed: &[&str]) {
        let own = OwnListeners::default();
        own.insert(listener.parse().expect("an address"));
        for target in met {
            assert!(own.contains(target.parse().expect("an address")), "{target}");
        }
        for target in missed {
            assert!(!own.contains(target.parse().expect("an address")), "{target}");
        }
    }

    #[test]
    fn a_loopback_listener_is_found_under_every_spelling() {
        check(
            "127.0.0.1:8080",
            &[
                "127.0.0.1:8080",
                "0.0.0.0:8080",
                "[::]:8080",
                "[::ffff:127.0.0.1]:8080",
                "[::ffff:0.0.0.0]:8080",
                "[64:ff9b::7f00:1]:8080",
            ],
            &["127.0.0.1:8081", "127.0.0.2:8080", "10.0.0.1:8080", "[::1]:8080"],
        );
    }

    #[test]
    fn a_wildcard_listener_is_found_under_every_local_address() {
        for listener in ["0.0.0.0:8080", "[::]:8080"] {
            check(
                listener,
                &["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "0.0.0.0:8080", "[::]:8080"],
                &["192.0.2.1:8080", "127.0.0.1:80"],
            );
        }
    }

    #[test]
    fn a_mapped_listener_is_its_ipv4_address() {
        check("[::ffff:127.0.0.1]:9", &["127.0.0.1:9"], &["127.0.0.2:9"]);
    }
}
