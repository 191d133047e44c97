//! Policy of outbound requests, for the targets in `fuzz/`.

use std::net::{IpAddr, SocketAddr};

use super::grants::Grants;
use super::listeners::OwnListeners;
use super::origin::{Host, Origin};
use super::policy::{Permit, Policy, Scope};

/// An origin as the connector takes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub origin: String,
    /// Name to resolve, or the address.
    pub host: Result<IpAddr, String>,
    /// Port, whether the URL named it or not.
    pub port: u16,
}

/// Permission to reach an origin.
pub struct Permitted(Permit);

/// Parses an origin.
pub fn origin(text: &str) -> Result<Target, String> {
    Origin::parse(text).map(|origin| target(&origin)).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Asks the policy of a function that declares `declared` under these grants.
pub fn permit(declared: &[String], grants: &[String], uri: &http::Uri) -> Result<Permitted, String> {
    let said = |error: super::PolicyError| format!("{:#}", anyhow::Error::from(error));
    let policy = Policy::new(declared, &Grants::parse(grants).map_err(said)?, "fuzz").map_err(said)?;
    policy.check(uri).map(Permitted).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

impl Permitted {
    /// Returns the permitted origin.
    pub fn target(&self) -> Target {
        target(self.0.origin())
    }

    /// Whether the operator granted the origin, so that it may have private addresses.
    pub fn is_granted(&self) -> bool {
        self.0.scope() == Scope::Granted
    }

    /// Whether a name of the origin may resolve to `address`.
    pub fn takes(&self, address: IpAddr) -> bool {
        self.0.check_address(address).is_ok()
    }
}

/// Whether a connection to `target` ends at a listener of the host on `listener`.
pub fn is_own_listener(listener: SocketAddr, target: SocketAddr) -> bool {
    let own = OwnListeners::default();
    own.insert(listener);
    own.contains(target)
}

fn target(origin: &Origin) -> Target {
    let host = match origin.host() {
        Host::Name(name) => Err(name.to_string()),
        Host::Address(address) => Ok(*address),
    };
    Target { origin: origin.to_string(), host, port: origin.port() }
}
