//! Files of the site: lookup by URL path, body in pieces.
//!
//! Invariants: a path names a plain file under the root or nothing; at most one piece of 64 KiB is read ahead.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

const PIECE_BYTES: usize = 64 << 10;

/// Target of a path.
pub(super) enum Target {
    File { body: FileBody, kind: &'static str },
    Directory,
}

/// Opens the target of `path` if it is under `root`, which is canonical. Everything else is "not found".
pub(super) fn find(root: &Path, path: &str) -> io::Result<Target> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let relative = relative(path).ok_or_else(not_found)?;
    let hidden = |error: io::Error| match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => not_found(),
        _ => error,
    };
    let mut target = root.join(relative).canonicalize().map_err(hidden)?;
    if target.is_dir() && target.starts_with(root) {
        if !path.ends_with('/') {
            return Ok(Target::Directory);
        }
        target = target.join("index.html").canonicalize()?;
    }
    if !target.starts_with(root) || !target.is_file() {
        return Err(not_found());
    }
    let body = FileBody::open(&target)?;
    let kind = content_type(&target);
    Ok(Target::File { body, kind })
}

/// Returns the path relative to the root; `None` if a segment is not a plain name.
fn relative(path: &str) -> Option<PathBuf> {
    let decoded = percent_decode(path)?;
    let mut relative = PathBuf::new();
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        if matches!(segment, "." | "..") || segment.contains(['\\', '\0']) {
            return None;
        }
        relative.push(segment);
    }
    Some(relative)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
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

/// A file on its way out, one piece at a time.
pub(super) struct FileBody {
    /// The first piece, which is the whole of most files, so that they take one turn on a blocking thread.
    first: Bytes,
    rest: Option<File>,
    left_bytes: u64,
}

impl FileBody {
    /// Opens a file and reads its first piece; blocks.
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let left_bytes = file.metadata()?.len();
        let want = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut first = vec![0; want];
        file.read_exact(&mut first)?;
        Ok(Self { first: first.into(), rest: (left_bytes > want as u64).then(|| File::from_std(file)), left_bytes })
    }

    /// Returns the body of an answer that has none.
    pub(super) fn empty() -> Self {
        Self { first: Bytes::new(), rest: None, left_bytes: 0 }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let first = std::mem::take(&mut this.first);
            this.left_bytes -= first.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(file) = &mut this.rest else {
            return Poll::Ready(None);
        };
        let want = usize::try_from(this.left_bytes).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = BytesMut::zeroed(want);
        let mut read = ReadBuf::new(&mut piece);
        ready!(Pin::new(file).poll_read(cx, &mut read))?;
        let len = read.filled().len();
        if len == 0 {
            // The file has become shorter than its length said.
            this.rest = None;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        piece.truncate(len);
        this.left_bytes -= len as u64;
        if this.left_bytes == 0 {
            this.rest = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
