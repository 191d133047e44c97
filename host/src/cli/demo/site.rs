//! Static file server on loopback: the demo's site to scrape.
//!
//! Not here: the directory (`docs`). Listens on loopback only.
//!
//! Invariants: no file outside the root is served, whatever the path or links say (path traversal); files are read in
//! pieces, so slow readers cost no memory. Reasons for no server of a library: `docs/decisions/static-files.md`.
//!
//! Limits: 256 connections, more wait in the kernel's queue; 10 s for a request's head and for keep-alive; 5 s to
//! finish when stopped.

mod file;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use self::file::{FileBody, Target, find, no_body};

const CONNECTIONS_MAX: usize = 256;
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A directory that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SiteError {
    /// The root is no directory that can be read.
    #[error("`{}` cannot be served: {source}", root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The listener cannot be used.
    #[error("the site cannot listen on loopback: {source}")]
    Listen {
        /// The system's reason.
        source: io::Error,
    },
    /// The listener is reachable from other machines.
    #[error("the site listens on loopback only, not on {address}; bind 127.0.0.1")]
    NotLoopback {
        /// Where the listener is bound.
        address: SocketAddr,
    },
}

/// A running server; drop stops it at once.
#[derive(Debug)]
pub(crate) struct Site {
    address: SocketAddr,
    /// Becomes true when the site stops.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Site {
    /// Serves `root` on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn open(root: &Path) -> Result<Self, SiteError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        Self::serve(root, listener.map_err(|source| SiteError::Listen { source })?)
    }

    /// Serves `root` on `listener`, which must be on loopback.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn serve(root: &Path, listener: TcpListener) -> Result<Self, SiteError> {
        let failed = |source| SiteError::Listen { source };
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            return Err(SiteError::NotLoopback { address });
        }
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let directory = Dir::open_ambient_dir(root, ambient_authority());
        let directory = directory.map_err(|source| SiteError::Root { root: root.to_owned(), source })?;
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(accept(listener, directory.into(), stopping));
        Ok(Self { address, stop, task })
    }

    /// Returns the address that the site listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Graceful shutdown: stops accepting, waits up to 5 s for requests under way.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: tokio::net::TcpListener, root: Arc<Dir>, mut stopping: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let next = async {
            let slot = Arc::clone(&connections).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = is_true(&mut stopping) => break,
        };
        while tasks.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Nagle's algorithm would delay the body by 40 ms. An error here shows again at the first write.
        let _ = stream.set_nodelay(true);
        let root = Arc::clone(&root);
        let service = service_fn(move |request| {
            let root = Arc::clone(&root);
            async move { Ok::<_, io::Error>(answer(&root, &request).await) }
        });
        // The header timeout needs a timer.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut stopping = stopping.clone();
        tasks.spawn(async move {
            let _slot = slot;
            let mut connection = pin!(connection);
            // A closed connection is not an error of the site.
            tokio::select! {
                _ = connection.as_mut() => return,
                () = is_true(&mut stopping) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        });
    }
    drop(listener);
    // Dropping the set aborts unfinished connections.
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(STOP_TIME_MAX, all).await;
}

/// Waits until the site stops or is dropped.
async fn is_true(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and the site with it.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn answer(root: &Arc<Dir>, request: &Request<Incoming>) -> Response<FileBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    let (root, wanted) = (Arc::clone(root), path.to_owned());
    let found = tokio::task::spawn_blocking(move || find(&root, &wanted)).await;
    match found {
        Ok(Ok(Target::File { body, bytes, kind })) => {
            let body = if request.method() == Method::HEAD { no_body() } else { body };
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(header::CONTENT_LENGTH, bytes.into());
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        Ok(Ok(Target::Directory)) => {
            // Relative links on the index page need the trailing slash. One leading slash: two would name another host.
            let mut response = status(StatusCode::MOVED_PERMANENTLY);
            let location = format!("/{}/", path.trim_start_matches('/'));
            match HeaderValue::try_from(location) {
                Ok(location) => response.headers_mut().insert(header::LOCATION, location),
                Err(_) => return status(StatusCode::NOT_FOUND),
            };
            response
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => status(StatusCode::NOT_FOUND),
        Ok(Err(_)) | Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(status: StatusCode) -> Response<FileBody> {
    let mut response = Response::new(no_body());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn home() -> (TempDir, PathBuf) {
        let home = TempDir::new().expect("a directory");
        let root = home.path().join("root");
        fs::create_dir_all(root.join("book")).expect("made");
        fs::write(home.path().join("secret.html"), "secret").expect("written");
        fs::write(root.join("index.html"), "root").expect("written");
        fs::write(root.join("book/index.html"), "book").expect("written");
        fs::write(root.join("a b.css"), "css").expect("written");
        fs::write(root.join("empty.js"), "").expect("written");
        fs::write(root.join("large.woff2"), vec![7; 300_000]).expect("written");
        symlink(home.path().join("secret.html"), root.join("link.html")).expect("linked");
        symlink(home.path(), root.join("up")).expect("linked");
        symlink("index.html", root.join("inside.html")).expect("linked");
        mkfifoat(CWD, root.join("pipe.html"), Mode::RUSR | Mode::WUSR).expect("made");
        (home, root)
    }

    /// Sends one request as it stands and returns the whole answer.
    async fn ask(address: SocketAddr, line: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answered");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let body = answer.split_off(end + 4);
        (String::from_utf8(answer).expect("text").to_lowercase(), body)
    }

    #[tokio::test]
    async fn files_come_with_their_type_and_length() {
        let (_home, root) = home();
        let site = Site::open(&root).expect("served");
        for (path, kind, body) in [
            ("/", "text/html; charset=utf-8", "root".into()),
            ("/index.html?x=1", "text/html; charset=utf-8", "root".into()),
            ("/book/", "text/html; charset=utf-8", "book".into()),
            ("//book//index.html", "text/html; charset=utf-8", "book".into()),
            ("/a%20b.css", "text/css; charset=utf-8", "css".into()),
            ("/empty.js", "text/javascript; charset=utf-8", "".into()),
            ("/inside.html", "text/html; charset=utf-8", "root".into()),
            ("/large.woff2", "font/woff2", vec![7; 300_000]),
        ] {
            let (head, got) = ask(site.address(), &format!("GET {path}")).await;
            assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
            assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{path}: {head}");
            assert!(got == body, "{path}");
        }
        let (head, body) = ask(site.address(), "HEAD /large.woff2").await;
        assert!(head.contains("content-length: 300000\r\n") && body.is_empty(), "{head}");
        site.stop().await;
    }

    #[tokio::test]
    async fn nothing_outside_the_root_is_served() {
        let (_home, root) = home();
        let site = Site::open(&root).expect("served");
        for path in [
            "/missing.html",
            "/../secret.html",
            "/%2e%2e/secret.html",
            "/%2E%2E%2Fsecret.html",
            "/book/../../secret.html",
            "/book/..%2f..%2fsecret.html",
            "/..%5csecret.html",
            "/link.html",
            "/up",
            "/up/",
            "/up/secret.html",
            "/index.html/x",
            "/index.html/",
            "/pipe.html",
            "/index.html%00.css",
            "/%ff",
            "/%zz",
            "/%2",
        ] {
            let (head, body) = ask(site.address(), &format!("GET {path}")).await;
            assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
            assert!(body.is_empty(), "{path}");
        }
    }

    #[tokio::test]
    async fn directories_redirect_and_other_methods_are_refused() {
        let (_home, root) = home();
        let site = Site::open(&root).expect("served");
        let (head, _) = ask(site.address(), "GET /book").await;
        assert!(head.starts_with("http/1.1 301") && head.contains("location: /book/\r\n"), "{head}");
        let (head, _) = ask(site.address(), "GET //book").await;
        assert!(head.contains("location: /book/\r\n"), "{head}");
        let (head, _) = ask(site.address(), "POST /").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head\r\n"), "{head}");
    }

    #[tokio::test]
    async fn connections_are_kept_alive_until_the_site_stops() {
        let (_home, root) = home();
        let site = Site::open(&root).expect("served");
        let mut stream = TcpStream::connect(site.address()).await.expect("listening");
        for _ in 0..3 {
            stream.write_all(b"GET /index.html HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("open");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nroot") {
                assert!(stream.read_buf(&mut answer).await.expect("open") > 0);
            }
        }
        site.stop().await;
        assert_eq!(stream.read(&mut [0; 1]).await.expect("closed"), 0);
    }

    #[tokio::test]
    async fn only_loopback_and_only_directories_are_served() {
        let (home, root) = home();
        let everywhere = TcpListener::bind("0.0.0.0:0").expect("a free port");
        assert!(matches!(Site::serve(&root, everywhere), Err(SiteError::NotLoopback { .. })));
        let file = home.path().join("secret.html");
        assert!(matches!(Site::open(&file), Err(SiteError::Root { .. })));
    }
}
