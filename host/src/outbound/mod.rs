//! Outbound HTTP: the functions' only way to the network.
//!
//! Each request passes the function's [`Policy`], then a connector that resolves once and checks every address, then
//! HTTP/1.1. Redirects are returned, never followed: the function's next request is checked like its first. Responses
//! are never decompressed here.
//!
//! Not here: the import that functions call (`sandbox::outgoing_http`), requests of the host itself (model downloads).
//!
//! Invariants: no byte goes to an address that the policy did not permit; the host's own listeners are never reached;
//! proxy variables of the environment have no effect; every wait has a timeout, except that for the call's own budget,
//! which the call's deadline ends.
//!
//! Limits: [`OutboundLimits`], [`Timeouts`], [`CallBudget`].

pub(crate) mod address;
mod body;
mod connector;
mod declaration;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grants;
mod idle;
mod limits;
mod listeners;
mod local;
mod message;
mod origin;
mod policy;
mod policy_error;
mod pool;
mod resolver;
mod shares;
mod system_files;
#[cfg(test)]
mod tests;
mod tls;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::body::OutboundBody;
pub(crate) use self::error::{BoxError, OutboundError, Phase};
pub(crate) use self::grants::Grants;
pub(crate) use self::limits::{CallBudget, OutboundLimits, Timeouts};
pub(crate) use self::listeners::OwnListeners;
pub(crate) use self::policy::{Permit, Policy};
pub(crate) use self::policy_error::PolicyError;
pub(crate) use self::resolver::{Resolver, SystemResolver};
pub(crate) use self::system_files::system_files;
pub(crate) use self::tls::Roots;

use self::body::Lease;
use self::connector::{Connection, Connector};
use self::message::PreparedRequest;
use self::pool::{Pool, PoolKey};
use self::tls::Tls;
use self::upload::Upload;

/// Longest wait for a pooled connection to report ready; a live one does so at once.
const READY_MAX: Duration = Duration::from_secs(1);

/// HTTP client of all functions of a host; clones share its connections.
///
/// Sockets live on the runtime in which [`Outbound::new`] was called, wherever a call is polled.
#[derive(Clone)]
pub(crate) struct Outbound {
    state: Arc<ClientState>,
}

struct ClientState {
    limits: OutboundLimits,
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    runtime: Handle,
}

/// Failure of one attempt on one connection.
struct SendFailure {
    error: OutboundError,
    /// The request, if none of it was sent.
    unsent: Option<Box<Request<Upload>>>,
    /// Whether the connection ended before any part of a response.
    is_cut_off: bool,
}

impl Outbound {
    /// Creates the client with the system's resolver and certificates. `own` holds the host's listeners, now and later.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn new(limits: OutboundLimits, own: OwnListeners) -> Self {
        Self::with(limits, own, Arc::new(SystemResolver::default()), Roots::System)
    }

    /// Creates the client with another resolver or other certificates.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn with(limits: OutboundLimits, own: OwnListeners, resolver: Arc<dyn Resolver>, roots: Roots) -> Self {
        let runtime = Handle::current();
        Self {
            state: Arc::new(ClientState {
                limits,
                connector: Arc::new(Connector::new(&limits, own, resolver, Tls::new(roots))),
                pool: Arc::new(Pool::new(&limits, runtime.clone())),
                runtime,
            }),
        }
    }

    /// Sends `request` for a call of `app`, and returns the response with its body still to be read.
    ///
    /// First it waits for one of the call's own connections (`budget`), bounded by the call's deadline. A request on a
    /// dead pooled connection is sent once more on a fresh one, if none of it was sent, or if it has no body and an
    /// idempotent method. Dropping the future or the body closes the connection.
    pub(crate) async fn send<B>(
        &self,
        app: &str,
        policy: &Policy,
        budget: &CallBudget,
        request: Request<B>,
        timeouts: Timeouts,
    ) -> Result<Response<OutboundBody>, OutboundError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let permit = policy.check(request.uri())?;
        let PreparedRequest { request, retry_copy } = message::prepare_request(request, &permit)?;
        let timeouts = timeouts.within(&self.state.limits);
        let call_share = budget.acquire().await;
        let key = PoolKey::new(app, &permit);

        let mut request = request;
        if let Some(connection) = self.pooled(&key, &permit).await? {
            let failed = match self.exchange(connection, request, &permit, timeouts).await {
                Ok(head) => return self.respond(head, key, call_share, &permit, timeouts),
                Err(failed) => failed,
            };
            request = match (failed.unsent, retry_copy) {
                (Some(unsent), _) => *unsent,
                (None, Some(retry_copy)) if failed.is_cut_off => retry_copy,
                _ => return Err(failed.error),
            };
        }
        let connection = self.connect(key.app(), &permit, timeouts.connect).await?;
        match self.exchange(connection, request, &permit, timeouts).await {
            Ok(head) => self.respond(head, key, call_share, &permit, timeouts),
            Err(failed) => Err(failed.error),
        }
    }

    /// Returns a live idle connection, if there is one.
    async fn pooled(&self, key: &PoolKey, permit: &Permit) -> Result<Option<Connection>, OutboundError> {
        while let Some(mut connection) = self.state.pool.take(key) {
            self.state.connector.check(permit, connection.peer)?;
            if let Ok(Ok(())) = timeout(READY_MAX, connection.sender.ready()).await {
                return Ok(Some(connection));
            }
        }
        Ok(None)
    }

    async fn connect(&self, app: &Arc<str>, permit: &Permit, limit: Duration) -> Result<Connection, OutboundError> {
        let host_share = self.state.pool.host_share(app)?;
        let connector = Arc::clone(&self.state.connector);
        let owned = permit.clone();
        let opening = async move { connector.connect(&owned, limit, host_share).await };
        match AbortOnDropHandle::new(self.state.runtime.spawn(opening)).await {
            Ok(opened) => opened,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(OutboundError::Connect {
                origin: permit.origin().clone(),
                source: std::io::Error::other("the host is shutting down"),
            }),
        }
    }

    /// Sends the request and waits for the response's head.
    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Upload>,
        permit: &Permit,
        timeouts: Timeouts,
    ) -> Result<ResponseHead, SendFailure> {
        let upload = request.body().state();
        let deadline = Instant::now() + timeouts.first_byte;
        let sent = timeout_at(deadline, connection.sender.try_send_request(request)).await;
        match sent {
            Ok(Ok(response)) => Ok(ResponseHead { response, connection, upload }),
            Ok(Err(mut failed)) => {
                let unsent = failed.take_message().map(Box::new);
                let error = failed.into_error();
                let is_cut_off = error.is_incomplete_message() || error.is_closed() || is_reset(&error);
                let explained = upload.take_failure();
                Err(SendFailure {
                    unsent,
                    is_cut_off: is_cut_off && explained.is_none(),
                    error: explained.unwrap_or_else(|| self.explain(error, permit)),
                })
            }
            Err(_) => Err(SendFailure {
                error: OutboundError::Timeout {
                    origin: permit.origin().clone(),
                    phase: Phase::FirstByte,
                    limit: timeouts.first_byte,
                },
                unsent: None,
                is_cut_off: false,
            }),
        }
    }

    fn respond(
        &self,
        head: ResponseHead,
        key: PoolKey,
        call_share: tokio::sync::OwnedSemaphorePermit,
        permit: &Permit,
        timeouts: Timeouts,
    ) -> Result<Response<OutboundBody>, OutboundError> {
        let origin = permit.origin().clone();
        let (mut parts, incoming) = head.response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(OutboundError::Protocol { origin, source: "the server switched protocols unasked".into() });
        }
        let lease = Lease {
            is_kept_open: message::strip_response(&mut parts),
            connection: head.connection,
            key,
            pool: Arc::clone(&self.state.pool),
            upload: head.upload,
            call_share,
        };
        let limit_bytes = self.state.limits.body_bytes_max;
        let body = OutboundBody::new(incoming, origin, limit_bytes, timeouts.between_bytes, lease)?;
        Ok(Response::from_parts(parts, body))
    }

    fn explain(&self, error: hyper::Error, permit: &Permit) -> OutboundError {
        let origin = permit.origin().clone();
        if error.is_parse_too_large() {
            return OutboundError::HeadTooLarge {
                origin,
                headers_max: self.state.limits.headers_max,
                bytes_max: self.state.limits.head_bytes_max,
            };
        }
        OutboundError::Protocol { origin, source: error.into() }
    }
}

/// A response's head, with the connection of its body.
struct ResponseHead {
    response: Response<hyper::body::Incoming>,
    connection: Connection,
    upload: Arc<upload::UploadState>,
}

/// Whether the peer reset the connection, as servers do when a request meets the end of an idle one.
fn is_reset(error: &hyper::Error) -> bool {
    use std::error::Error;
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| matches!(source.kind(), BrokenPipe | ConnectionReset))
}
