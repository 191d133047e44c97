//! Files of the site: lookup by URL path, body in pieces.
//!
//! Invariants: a path names a plain file under the root or nothing (`cap-std` opens it beneath the root's descriptor,
//! so that no link leads out, not even one made meanwhile); at most three pieces of 64 KiB of a file are in memory.

use std::io::{self, Cursor, Read};
use std::path::Path;

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use futures_util::TryStreamExt;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use percent_encoding::percent_decode_str;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

const PIECE_BYTES: usize = 64 << 10;
const INDEX: &str = "index.html";

pub(super) type FileBody = UnsyncBoxBody<Bytes, io::Error>;

/// Target of a path.
pub(super) enum Target {
    File { body: FileBody, bytes: u64, kind: &'static str },
    Directory,
}

/// Opens the target of `path` if it is under `root`; everything else is "not found". Blocks.
pub(super) fn find(root: &Dir, path: &str) -> io::Result<Target> {
    let is_directory_wanted = path.ends_with('/');
    let path = percent_decode_str(path.trim_start_matches('/')).decode_utf8().map_err(|_| io::ErrorKind::NotFound)?;
    let path = Path::new(if path.is_empty() { "." } else { &*path });
    let mut file = open(root, path)?;
    let mut metadata = file.metadata()?;
    if metadata.is_dir() {
        if !is_directory_wanted {
            return Ok(Target::Directory);
        }
        file = open(root, &path.join(INDEX))?;
        metadata = file.metadata()?;
    }
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let kind = content_type(if is_directory_wanted { Path::new(INDEX) } else { path });
    Ok(Target::File { body: body(file, metadata.len())?, bytes: metadata.len(), kind })
}

fn open(root: &Dir, path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    // A pipe that nobody writes to would hold the thread.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = root.open_with(path, &options).map_err(|error| match error.kind() {
        // The last of them is a way out of the root, too.
        io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::PermissionDenied => io::ErrorKind::NotFound.into(),
        _ => error,
    })?;
    Ok(file.into_std())
}

/// Returns a body of the file's first `bytes`. Its first piece is read at once, which is the whole of most files, so
/// that they take one turn on a blocking thread. A file that has become shorter breaks the connection.
fn body(mut file: std::fs::File, bytes: u64) -> io::Result<FileBody> {
    let first_bytes = bytes.min(PIECE_BYTES as u64);
    let mut first = Vec::with_capacity(first_bytes as usize);
    Read::take(&mut file, first_bytes).read_to_end(&mut first)?;
    let reader = AsyncReadExt::chain(Cursor::new(first), File::from_std(file)).take(bytes);
    let frames = ReaderStream::with_capacity(reader, PIECE_BYTES).map_ok(Frame::data);
    Ok(StreamBody::new(frames).boxed_unsync())
}

/// Returns the body of an answer that has none.
pub(super) fn no_body() -> FileBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("xml") => "application/xml",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("woff") => "font/woff",
        Some("ttf") => "font/ttf",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
