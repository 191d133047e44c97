//! Streamed bodies of responses.

use std::io::Write;

use serde::Serialize;

use crate::failure::Result;

/// A streamed body: each part leaves at once, and a slow client makes the function wait (back-pressure).
///
/// An error after the first part cannot reach the client; it is logged, and the connection is cut off.
///
/// ```
/// use bireme_sdk::prelude::*;
/// use bireme_sdk::web::Stream;
///
/// #[web(route = "GET /count")]
/// fn count(to: u32) -> Stream {
///     Stream::of("text/plain", (1..=to).map(|n| format!("{n}\n")))
/// }
///
/// fn main() {
///     assert_eq!(bireme_sdk::testing::web("GET", "/count?to=3").send().text().unwrap(), "1\n2\n3\n");
/// }
/// ```
pub struct Stream {
    pub(super) content_type: String,
    #[expect(clippy::type_complexity, reason = "what a writer is")]
    write: Box<dyn FnOnce(&mut dyn Write) -> Result<()>>,
}

impl Stream {
    /// Streams parts. The iterator is polled for the next part once the previous one is sent.
    pub fn of<I>(content_type: impl Into<String>, parts: I) -> Self
    where
        I: IntoIterator<Item: AsRef<[u8]>> + 'static,
    {
        Self::writer(content_type, move |out| {
            for part in parts {
                out.write_all(part.as_ref())?;
            }
            Ok(())
        })
    }

    /// Streams JSON Lines, one value on each.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    /// use bireme_sdk::web::Stream;
    ///
    /// #[web(route = "GET /squares")]
    /// fn squares() -> Stream {
    ///     Stream::json_lines((1..=3).map(|n| Ok(n * n)))
    /// }
    ///
    /// fn main() {
    ///     assert_eq!(bireme_sdk::testing::web("GET", "/squares").send().text().unwrap(), "1\n4\n9\n");
    /// }
    /// ```
    pub fn json_lines<T: Serialize, I>(values: I) -> Self
    where
        I: IntoIterator<Item = Result<T>> + 'static,
    {
        Self::writer("application/x-ndjson", move |out| {
            for value in values {
                let mut line = serde_json::to_vec(&value?)?;
                line.push(b'\n');
                out.write_all(&line)?;
            }
            Ok(())
        })
    }

    /// Streams the output of a closure. Each `write` is a part.
    ///
    /// ```
    /// use bireme_sdk::prelude::*;
    /// use bireme_sdk::web::Stream;
    ///
    /// #[web(route = "GET /table.csv")]
    /// fn table() -> Stream {
    ///     Stream::writer("text/csv", |out| {
    ///         writeln!(out, "n,square")?;
    ///         (1..=2).try_for_each(|n| writeln!(out, "{n},{}", n * n))?;
    ///         Ok(())
    ///     })
    /// }
    ///
    /// fn main() {
    ///     let table = bireme_sdk::testing::web("GET", "/table.csv").send();
    ///     assert_eq!(table.text().unwrap(), "n,square\n1,1\n2,4\n");
    /// }
    /// ```
    pub fn writer(content_type: impl Into<String>, write: impl FnOnce(&mut dyn Write) -> Result<()> + 'static) -> Self {
        Self { content_type: content_type.into(), write: Box::new(write) }
    }

    pub(crate) fn write_to(self, out: &mut dyn Write) -> Result<()> {
        (self.write)(out)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}
