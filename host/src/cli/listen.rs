//! Listening socket of a host, with a hint for each common reason why it cannot be bound.

use std::io;
use std::net::SocketAddr;

use super::exit::Exit;
use crate::codes::Code;
use crate::http::Ingress;

/// Binds `address`.
pub(crate) async fn bind(address: SocketAddr) -> Result<Ingress, Exit> {
    Ingress::bind(address).await.map_err(|error| {
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
    })
}
