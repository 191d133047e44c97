//! The control socket of a running host.

use std::io;
use std::path::Path;

use super::check::Check;
use crate::unix_socket;

const NAME: &str = "control socket";

/// Checks whether a host answers at the socket; `None` without a socket, since then no host runs.
pub(crate) fn check(socket: &Path) -> Option<Check> {
    let shown = socket.display();
    Some(match unix_socket::connect(socket) {
        Ok(_) => Check::ok(NAME, format!("a host listens at `{shown}`")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Check::ok(NAME, format!("a host that was killed has left `{shown}`; the next one replaces it"))
        }
        Err(error) => Check::warning(
            NAME,
            format!("`{shown}` cannot be used: {error}; commands send the token over TCP"),
            "run the command as the host's user, or as root with `sudo`",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_socket_is_told_from_one_that_was_left_and_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        assert!(check(&path).is_none());
        let (listener, _file) = unix_socket::listen_at(unix_socket::UnboundSocket::new().unwrap(), &path).unwrap();
        assert!(check(&path).unwrap().detail.starts_with("a host listens"));
        drop(listener);
        let left = check(&path).unwrap();
        assert!(left.status == Status::Ok && left.detail.contains("was killed"), "{left:?}");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("control.sock", &path).unwrap();
        assert_eq!(check(&path).unwrap().status, Status::Warning);
    }
}
