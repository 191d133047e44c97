//! Accepts connections, bounds them, and ends them gracefully.

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

use super::Backend;
use super::connections::{Answering, Connections, Flushed};
use super::routes::Routes;
use super::stall::StallGuard;
use crate::{descriptors, limits};

/// Rest after `accept` failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(50);

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

    /// Returns where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server under way. Dropping it stops it.
pub struct Serving {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Starts to accept connections.
    pub fn start(ingress: Ingress, backend: Backend) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(ingress, backend, async {
            // Dropped without a word, it cuts all connections.
            stopped.await.unwrap_or_else(|_| Instant::now())
        }));
        Self { stop, task }
    }

    /// Takes no more connections and waits for requests under way, until `deadline`.
    pub async fn stop(self, deadline: Instant) {
        let _ = self.stop.send(deadline);
        let _ = self.task.await;
    }
}

/// Serves until `stop` is done, then lets requests under way finish until the time that it gives. Dropping the future
/// cuts all connections.
async fn serve(ingress: Ingress, backend: Backend, stop: impl Future<Output = Instant>) {
    let graceful = GracefulShutdown::new();
    let (closing, closed) = watch::channel(false);
    let routes = Arc::new(Routes::new(backend, closed));
    let mut connections = Connections::new(limits::http_connections_max(descriptors::limit()));
    let mut server = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's header timeout does nothing at all.
    server.timer(TokioTimer::new()).header_read_timeout(limits::HTTP_HEADER_TIMEOUT);

    let mut stop = std::pin::pin!(stop);
    let deadline = loop {
        let stream = tokio::select! {
            deadline = &mut stop => break deadline,
            accepted = ingress.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
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
        // Answers are small and single; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        let activity = connections.activity();
        let stream = Flushed::new(StallGuard::new(stream, limits::HTTP_STALL_TIMEOUT), activity.clone());
        let stream = TokioIo::new(stream);
        let service = service_fn({
            let activity = activity.clone();
            move |request| {
                let (routes, begun) = (routes.clone(), activity.begin());
                async move {
                    Ok::<_, Infallible>(match begun {
                        Some(begun) => Answering::new(routes.answer(request).await, begun),
                        None => Answering::given_up(),
                    })
                }
            }
        });
        let connection = graceful.watch(server.serve_connection(stream, service));
        connections.spawn(activity, async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    };
    drop(ingress.listener);
    // Requests that wait, and answers without an end of their own, end now.
    let _ = closing.send(true);
    if timeout_at(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections did not end in time and are cut off");
    }
    // What is left is aborted with the set, and its calls with it.
}
