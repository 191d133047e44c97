//! Connector of functions' requests: the security boundary between a permit and a socket.
//!
//! A name is resolved once, every address is checked, and the connection goes to one of the checked addresses; the name
//! itself lives on only in SNI and `Host`. So a DNS answer that changes after the check (rebinding) has no effect, and
//! an answer that mixes public and private addresses is refused whole.
//!
//! Not here: permissions (`policy`), reuse (`pool`). Proxy variables of the environment are never consulted: a proxy
//! would resolve names again, out of sight.
//!
//! Limits: 16 addresses a name, tried in the resolver's order; each has a fair share of the time left, at least 2 s.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::error::{OutboundError, Phase};
use super::limits::OutboundLimits;
use super::listeners::OwnListeners;
use super::origin::{Host, Scheme};
use super::policy::Permit;
use super::resolver::Resolver;
use super::shares::Share;
use super::tls::{NoRoots, Tls};
use super::upload::Upload;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Shortest time for one address while others wait.
const SHARE_MIN: Duration = Duration::from_secs(2);

/// Connector of one host.
pub(super) struct Connector {
    resolver: Arc<dyn Resolver>,
    own: OwnListeners,
    tls: Tls,
    http: http1::Builder,
}

/// An open connection that speaks HTTP/1.1. Dropping it closes the socket.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    /// The address connected to.
    pub(super) peer: SocketAddr,
    _driver: AbortOnDropHandle<()>,
    _host_share: Share,
}

impl Connector {
    /// Makes the connector of a host.
    pub(super) fn new(limits: &OutboundLimits, own: OwnListeners, resolver: Arc<dyn Resolver>, tls: Tls) -> Self {
        let mut http = http1::Builder::new();
        http.max_headers(limits.headers_max)
            .max_header_size(limits.head_bytes_max)
            .max_buf_size(limits.head_bytes_max.max(8 << 10));
        Self { resolver, own, tls, http }
    }

    /// Opens a connection to the permit's origin within `limit`.
    pub(super) async fn connect(
        &self,
        permit: &Permit,
        limit: Duration,
        host_share: Share,
    ) -> Result<Connection, OutboundError> {
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.open(permit, deadline, host_share)).await.unwrap_or_else(|_| {
            Err(OutboundError::Timeout { origin: permit.origin().clone(), phase: Phase::Connect, limit })
        })
    }

    /// Refuses an address that the permit does not cover. Also for a connection that is open already: the address may
    /// have become this machine's, or a listener of this host.
    pub(super) fn check(&self, permit: &Permit, peer: SocketAddr) -> Result<(), OutboundError> {
        // First, so that the message about a private address does not suggest a grant that cannot help.
        if self.own.contains(peer) {
            return Err(OutboundError::OwnListener { origin: permit.origin().clone() });
        }
        permit.check_address(peer.ip())?;
        if self.own.is_local(peer.ip()) { permit.check_local(peer.ip()) } else { Ok(()) }
    }

    async fn open(&self, permit: &Permit, deadline: Instant, host_share: Share) -> Result<Connection, OutboundError> {
        let addresses = self.addresses(permit, host_share.app()).await?;
        let stream = dial(&addresses, deadline)
            .await
            .map_err(|source| OutboundError::Connect { origin: permit.origin().clone(), source })?;
        let broken = |source: io::Error| OutboundError::Connect { origin: permit.origin().clone(), source };
        stream.set_nodelay(true).map_err(broken)?;
        let peer = stream.peer_addr().map_err(broken)?;
        let spoken = match permit.origin().scheme() {
            Scheme::Http => self.speak(stream).await,
            Scheme::Https => self.speak(self.encrypt(permit, stream).await?).await,
        };
        let (sender, driver) = spoken
            .map_err(|source| OutboundError::Protocol { origin: permit.origin().clone(), source: source.into() })?;
        Ok(Connection { sender, peer, _driver: driver, _host_share: host_share })
    }

    /// Returns the origin's addresses, all of them checked.
    async fn addresses(&self, permit: &Permit, app: &Arc<str>) -> Result<Vec<SocketAddr>, OutboundError> {
        let origin = permit.origin();
        let failed = |source: io::Error| OutboundError::Resolve { origin: origin.clone(), source };
        let addresses = match origin.host() {
            Host::Address(address) => vec![SocketAddr::new(*address, origin.port())],
            Host::Name(name) => self.resolver.resolve(app, name, origin.port()).await.map_err(failed)?,
        };
        if addresses.is_empty() {
            let none = "the name has no address";
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, none)));
        }
        for address in &addresses {
            self.check(permit, *address)?;
        }
        Ok(addresses)
    }

    async fn encrypt(
        &self,
        permit: &Permit,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, OutboundError> {
        let origin = permit.origin();
        let failed = |source: io::Error| OutboundError::Tls { origin: origin.clone(), source };
        let config = self.tls.config().await.map_err(|NoRoots| OutboundError::NoRoots { origin: origin.clone() })?;
        let name = match origin.host() {
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
            Host::Address(address) => ServerName::from(*address),
        };
        TlsConnector::from(config).connect(name, stream).await.map_err(failed)
    }

    async fn speak<S>(&self, stream: S) -> hyper::Result<(SendRequest<Upload>, AbortOnDropHandle<()>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = self.http.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // The error reaches the reader of the response or of its body.
            let _ = connection.await;
        });
        Ok((sender, AbortOnDropHandle::new(driver)))
    }
}

/// Connects to the first of `addresses` that accepts.
async fn dial(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let waiting = u32::try_from(addresses.len() - index).expect("at most 16");
        let share = (deadline.saturating_duration_since(now) / waiting).max(SHARE_MIN);
        match timeout_at(deadline.min(now + share), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(last)
}
