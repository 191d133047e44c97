//! Accepts connections, bounds them, and ends them gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::routes;
use crate::dispatch::Dispatcher;
use crate::limits;

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

/// Serves until `stop` is done, then lets requests under way finish within `DRAIN_TIMEOUT`.
pub async fn serve(ingress: Ingress, dispatcher: Arc<Dispatcher>, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let ready = Arc::new(AtomicBool::new(true));
    let mut server = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's header timeout does nothing at all.
    server.timer(TokioTimer::new()).header_read_timeout(limits::HTTP_HEADER_TIMEOUT);

    let mut stop = std::pin::pin!(stop);
    loop {
        let permit = tokio::select! {
            () = &mut stop => break,
            permit = connections.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = ingress.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            },
        };
        // Answers are small and single; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let (dispatcher, ready) = (dispatcher.clone(), ready.clone());
        let service = service_fn(move |request| {
            let (dispatcher, ready) = (dispatcher.clone(), ready.clone());
            async move { Ok::<_, Infallible>(routes::answer(&dispatcher, ready.load(Ordering::Relaxed), request).await) }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    ready.store(false, Ordering::Relaxed);
    drop(ingress.listener);
    if tokio::time::timeout(limits::DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections did not end in time and are cut off");
    }
}
