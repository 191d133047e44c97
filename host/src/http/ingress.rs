//! Listeners and server: accepts connections, bounds them, shuts them down gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::activity::TrackedBody;
use super::backend::Backend;
use super::connections::{Connections, evicted_response};
use super::peer::Peer;
use super::routes::Routes;
use super::write_timeout::ConnectionStream;
use crate::metrics::HttpCounters;
use crate::unix_socket::{self, SocketFile, UnboundSocket};
use crate::{descriptors, limits};

/// Pause after `accept` failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bound listeners: one of TCP, and the control socket.
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
    control: Option<(UnixListener, SocketFile)>,
}

impl Ingress {
    /// Binds. The error names the address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, control: None })
    }

    /// Returns the bound address, with the real port where 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens at this Unix socket too, whose file goes with the listener. The caller holds the lock of the directory.
    pub(crate) fn bind_control(&mut self, socket: UnboundSocket, path: &Path) -> io::Result<()> {
        let (listener, file) = unix_socket::listen_at(socket, path)?;
        self.control = Some((UnixListener::from_std(listener)?, file));
        Ok(())
    }

    /// Returns the path of the control socket, unless there is none.
    pub(crate) fn control_path(&self) -> Option<&Path> {
        self.control.as_ref().map(|(_, file)| file.path())
    }

    async fn accept(&self) -> io::Result<Accepted> {
        let control = async {
            match &self.control {
                Some((listener, _)) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            tcp = self.listener.accept() => tcp.map(|(stream, _)| Accepted::Tcp(stream)),
            control = control => control.map(|(stream, _)| Accepted::Control(Peer::of(&stream), stream)),
        }
    }
}

/// An accepted connection.
enum Accepted {
    Tcp(TcpStream),
    Control(Peer, UnixStream),
}

impl Accepted {
    fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_) => Peer::Tcp,
            Self::Control(peer, _) => *peer,
        }
    }

    fn into_descriptor(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Into::into),
            Self::Control(_, stream) => stream.into_std().map(Into::into),
        }
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
    let (closing, closed) = watch::channel(false);
    let connections_max = limits::http_connections_max(descriptors::limit()).min(backend.budgets.plan.connections);
    let operators_share = limits::operator_connections(connections_max);
    let mut server = Server {
        http: http1::Builder::new(),
        graceful: GracefulShutdown::new(),
        counters: backend.metrics.http.clone(),
        routes: Arc::new(Routes::new(backend, closed)),
        connections: Connections::new(connections_max, operators_share),
    };
    // Without a timer hyper's header timeout does nothing at all.
    server
        .http
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP_CONNECTION_BYTES_MAX as usize);

    let mut stop = std::pin::pin!(stop);
    let deadline = loop {
        let accepted = tokio::select! {
            deadline = &mut stop => break deadline,
            accepted = ingress.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        tokio::select! {
            deadline = &mut stop => break deadline,
            () = server.open(accepted) => {}
        }
    };
    drop(ingress);
    // Long polls and endless streams end now.
    let _ = closing.send(true);
    let Server { graceful, connections, .. } = server;
    if timeout_at(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections did not end in time and are cut off");
    }
    // The rest is aborted with the set, and its calls with it.
    drop(connections);
}

/// Connections, and what serves each of them.
struct Server {
    http: http1::Builder,
    graceful: GracefulShutdown,
    counters: Arc<HttpCounters>,
    routes: Arc<Routes>,
    connections: Connections,
}

impl Server {
    /// Serves a connection, or refuses it where there is no room.
    async fn open(&mut self, accepted: Accepted) {
        if !self.connections.make_room(accepted.peer()).await {
            if let Ok(stream) = accepted.into_descriptor() {
                self.connections.refuse(stream);
            }
            return;
        }
        match accepted {
            Accepted::Tcp(stream) => {
                // Responses are small and single; Nagle's algorithm only delays them.
                let _ = stream.set_nodelay(true);
                self.serve(stream, Peer::Tcp);
            }
            Accepted::Control(peer, stream) => self.serve(stream, peer),
        }
    }

    fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&mut self, stream: S, peer: Peer) {
        let routes = self.routes.clone();
        let activity = self.connections.activity();
        let stream = ConnectionStream::new(stream, limits::HTTP_STALL_TIMEOUT, activity.clone());
        let stream = TokioIo::new(stream);
        let service = service_fn({
            let activity = activity.clone();
            move |request| {
                let (routes, active) = (routes.clone(), activity.begin());
                async move {
                    Ok::<_, Infallible>(match active {
                        Some(active) => TrackedBody::new(routes.answer(request, peer).await, Some(active)),
                        None => evicted_response(),
                    })
                }
            }
        });
        let connection = self.graceful.watch(self.http.serve_connection(stream, service));
        let open = self.counters.open_connection();
        self.connections.spawn(peer, activity, async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}
