//! Notifications to a service manager (`sd_notify`), for a systemd unit of `Type=notify`.
//!
//! Each notification is one datagram to the socket that the variable `NOTIFY_SOCKET` names. Without the variable none
//! is sent. A failed send is logged: the host serves all the same.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Time that a host may take to exit after its drain.
const EXIT_MARGIN: Duration = Duration::from_secs(5);

/// Sender of notifications; without a socket it sends nothing.
pub(crate) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// Connects to the service manager that started this process, if any.
    pub(crate) fn of_this_process() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = name.and_then(|name| {
            open(&name)
                .inspect_err(|error| tracing::warn!(%error, socket = ?name, "the service manager cannot be notified"))
                .ok()
        });
        Self { socket }
    }

    /// Reports that the host accepts connections; `status` is shown by `systemctl status`.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that the host stops, and asks for the time that its drain may take: the unit's own timeout may be
    /// shorter than `--drain`.
    pub(crate) fn stopping(&self, drain: Duration) {
        let timeout = (drain + EXIT_MARGIN).as_micros();
        self.send(&format!("STOPPING=1\nSTATUS=finishing running calls\nEXTEND_TIMEOUT_USEC={timeout}"));
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager was not notified");
        }
    }
}

/// Returns a socket and the address of `name`: a path, or an abstract name after `@`.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the host.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends both notifications to `name` and expects them at `manager`.
    fn check(manager: &UnixDatagram, name: &OsStr) {
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let service_manager = ServiceManager { socket: Some(open(name).unwrap()) };
        service_manager.ready("listening on http://127.0.0.1:8080");
        service_manager.stopping(Duration::from_secs(8));
        let receive = || {
            let mut buffer = [0; 256];
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(receive(), "READY=1\nSTATUS=listening on http://127.0.0.1:8080");
        assert_eq!(receive(), "STOPPING=1\nSTATUS=finishing running calls\nEXTEND_TIMEOUT_USEC=13000000");
    }

    #[test]
    fn a_socket_in_the_file_system_gets_both_notifications() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        check(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
    }

    #[test]
    fn an_abstract_socket_gets_both_notifications() {
        let name = format!("bireme-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        check(&UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let service_manager = ServiceManager { socket: Some(open(path.as_os_str()).unwrap()) };
        // More than the queue of any datagram socket.
        for _ in 0..10_000 {
            service_manager.ready("listening");
        }
    }
}
