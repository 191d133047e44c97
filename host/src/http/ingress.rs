//! Listener and server: accepts connections, bounds them, shuts them down gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::activity::TrackedBody;
use super::backend::Backend;
use super::connections::{Connections, evicted_response};
use super::routes::Routes;
use super::write_timeout::ConnectionStream;
use crate::{descriptors, limits};

/// Pause after `accept` failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ingress {
    /// Binds. The error names the address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Returns the bound address, with the real port where 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A running server. Dropping it stops it.
pub(crate) struct Serving {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Starts accepting connections.
    pub(crate) fn start(ingress: Ingress, backend: Backend) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(ingress, backend, async {
            // Without a deadline, as on drop, all connections are cut.
            stopped.await.unwrap_or_else(|_| Instant::now())
        }));
        Self { stop, task }
    }

    /// Stops accepting and waits for requests under way, until `deadline`.
    pub(crate) async fn stop(self, deadline: Instant) {
        let _ = self.stop.send(deadline);
        let _ = self.task.await;
    }
}

/// Serves until `stop` yields a deadline, then lets requests under way finish until then. Dropping the future cuts all
/// connections.
async fn serve(ingress: Ingress, backend: Backend, stop: impl Future<Output = Instant>) {
    let graceful = GracefulShutdown::new();
    let (closing, closed) = watch::channel(false);
    let connections_max = limits::http_connections_max(descriptors::limit()).min(backend.budgets.plan.connections);
    let counters = backend.metrics.http.clone();
    let routes = Arc::new(Routes::new(backend, closed));
    let mut connections = Connections::new(connections_max);
    let mut server = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's header timeout does nothing at all.
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP_CONNECTION_BYTES_MAX as usize);

    let mut stop = std::pin::pin!(stop);
    let deadline = loop {
        let stream = tokio::select! {
            deadline = &mut stop => break deadline,
            accepted = ingress.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let has_room = tokio::select! {
            deadline = &mut stop => break deadline,
            has_room = connections.make_room() => has_room,
        };
        if !has_room {
            connections.refuse(stream);
            continue;
        }
        // Responses are small and single; Nagle's algorithm only delays them.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        let activity = connections.activity();
        let stream = ConnectionStream::new(stream, limits::HTTP_STALL_TIMEOUT, activity.clone());
        let stream = TokioIo::new(stream);
        let service = service_fn({
            let activity = activity.clone();
            move |request| {
                let (routes, active) = (routes.clone(), activity.begin());
                async move {
                    Ok::<_, Infallible>(match active {
                        Some(active) => TrackedBody::new(routes.answer(request).await, Some(active)),
                        None => evicted_response(),
                    })
                }
            }
        });
        let connection = graceful.watch(server.serve_connection(stream, service));
        let open = counters.open_connection();
        connections.spawn(activity, async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    };
    drop(ingress.listener);
    // Long polls and endless streams end now.
    let _ = closing.send(true);
    if timeout_at(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections did not end in time and are cut off");
    }
    // The rest is aborted with the set, and its calls with it.
}
