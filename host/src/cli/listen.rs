//! Listening socket of a host, with a hint for each common reason why it cannot be bound.

use std::io;
use std::net::SocketAddr;

use super::exit::Exit;
use crate::codes::Code;
use crate::http::Ingress;

/// Binds `address`.
pub(crate) async fn bind(address: SocketAddr) -> Result<Ingress, Exit> {
    bind_from(address, 1).await
}

/// Binds `address`, or the first free one of the `ports` that begin with it.
pub(crate) async fn bind_from(address: SocketAddr, ports: u16) -> Result<Ingress, Exit> {
    let mut last = None;
    for port in address.port()..=address.port().saturating_add(ports.saturating_sub(1)) {
        match Ingress::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(ingress) => return Ok(ingress),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(failed(address, &error)),
        }
    }
    Err(failed(address, &last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into())))
}

fn failed(address: SocketAddr, error: &io::Error) -> Exit {
    let exit = Exit::new(Code::CannotListen, format!("cannot listen on {address}: {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            exit.hint("another process has the port; choose one with --listen, or port 0 for any")
        }
        io::ErrorKind::PermissionDenied => {
            exit.hint("ports below 1024 need privileges; choose a higher one with --listen")
        }
        _ => exit,
    }
}
