//! Body of a request, streamed.

use std::fmt;
use std::io::{self, Read};

use super::Problem;

/// Bytes that [`Json`](super::Json), [`Form`](super::Form) and [`Bytes`](super::Bytes) read: 8 MiB. A larger body is
/// refused with status 413; [`Body`] has no limit of its own.
///
/// ```
/// assert_eq!(bireme_sdk::web::BODY_BYTES_MAX, 8 << 20);
/// ```
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Body of a request, streamed: a large one never has to fit into memory.
///
/// ```
/// use std::io::{BufRead, BufReader};
///
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Body;
///
/// #[web(route = "POST /lines")]
/// fn lines(body: Body) -> String {
///     BufReader::new(body).lines().count().to_string()
/// }
///
/// fn main() {
///     let counted = bireme_sdk::testing::web("POST", "/lines").body("a\nb\nc\n").send();
///     assert_eq!(counted.text().unwrap(), "3");
/// }
/// ```
pub struct Body(Box<dyn Read>);

impl Body {
    pub(crate) fn new(read: impl Read + 'static) -> Self {
        Self(Box::new(read))
    }

    /// A body of these bytes, for a request in a test.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self::new(io::Cursor::new(bytes))
    }

    /// Reads all of it, within the limit.
    pub(crate) fn read_whole(self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        let read = self.0.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| Problem::new(400, format!("the body could not be read: {error}")))?;
        if bytes.len() > BODY_BYTES_MAX {
            let detail = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
            return Err(Problem::of_request(413, "input-too-large", detail));
        }
        Ok(bytes)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}
