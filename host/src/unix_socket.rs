//! Unix sockets by path: made for one user, at paths of any length.
//!
//! `sockaddr_un` holds 107 bytes of path. A longer one is reached through an open descriptor of its directory,
//! `/proc/self/fd/N/NAME`, which needs `/proc`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// Bytes of a path in `sockaddr_un`, besides the zero behind it.
const PATH_BYTES_MAX: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// File of a listening socket, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A socket that listens nowhere yet: a confined process makes none.
#[derive(Debug)]
pub(crate) struct UnboundSocket(OwnedFd);

impl UnboundSocket {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?))
    }
}

/// Listens at `path`, whose directory is made if it is missing, with mode 0600 from the first moment, and replaces a
/// socket that a killed process left there. The caller holds a lock, so that nobody listens there now.
pub(crate) fn listen_at(UnboundSocket(socket): UnboundSocket, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(Path::new(".")))?;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The file gets the mode of the socket, so there is no moment in which others may connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    with_short(path, |short| Ok(bind(&socket, &SocketAddrUnix::new(short)?)?))?;
    let file = SocketFile(path.to_owned());
    listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

/// Connects to the socket at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short(path, |short| UnixStream::connect(short))
}

/// Runs `work` on a path that fits into an address and leads to the same place.
fn with_short<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
        return work(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let dir = File::open(dir)?;
    work(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn check(path: &Path) {
        let (listener, file) = listen_at(UnboundSocket::new().unwrap(), path).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let ours = connect(path).unwrap();
        let _theirs = listener.accept().unwrap();
        drop((ours, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_path_of_any_length_is_listened_at() {
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("short.sock"));
        let long = dir.path().join("d".repeat(100)).join("e".repeat(200));
        fs::create_dir_all(&long).unwrap();
        check(&long.join("long.sock"));
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let (listener, file) = listen_at(UnboundSocket::new().unwrap(), &path).unwrap();
        drop(listener);
        // As a killed process leaves it.
        std::mem::forget(file);
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        check(&path);
        fs::write(&path, "mine").unwrap();
        assert_eq!(listen_at(UnboundSocket::new().unwrap(), &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
