//! Write timeout of a connection: the peer must go on reading, or the connection ends.
//!
//! hyper bounds the time for a request's head, and the routes that for its body; this bounds the time for reading the
//! response, which the host keeps in memory until then. The same stream tells the connection's activity of flushes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// Stream of one connection, whose writes must make progress within a timeout.
pub(crate) struct ConnectionStream<S> {
    stream: S,
    write_timeout: Duration,
    /// Timer of a write that waits.
    timer: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl<S> ConnectionStream<S> {
    pub(crate) fn new(stream: S, write_timeout: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, write_timeout, timer: None, activity }
    }

    /// Passes on the result of a write; a write that waits too long fails with `TimedOut`.
    fn check_timeout<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timeout = self.write_timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ConnectionStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ConnectionStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_timeout(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.check_timeout(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.check_timeout(context, flushed))?;
        // hyper flushes after everything that it has to write.
        self.activity.mark_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn guard<S>(stream: S, write_timeout: Duration) -> ConnectionStream<S> {
        ConnectionStream::new(stream, write_timeout, Activity::new(Instant::now()))
    }

    #[tokio::test]
    async fn a_peer_that_stops_reading_is_cut_off() {
        let (ours, _theirs) = tokio::io::duplex(10);
        let mut guarded = guard(ours, Duration::from_millis(1));
        let failed = guarded.write_all(&[0; 11]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_goes_on_reading_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut guarded = guard(ours, Duration::from_secs(60));
        let reader = tokio::spawn(async move {
            let mut all = [0; 1_000];
            theirs.read_exact(&mut all).await.map(|_| ())
        });
        guarded.write_all(&[0; 1_000]).await.unwrap();
        reader.await.unwrap().unwrap();
        assert!(guarded.timer.is_none());
    }

    #[tokio::test]
    async fn a_connection_is_idle_once_its_response_is_flushed() {
        let (ours, _theirs) = tokio::io::duplex(10);
        let mut guarded = guard(ours, Duration::from_secs(60));
        let activity = guarded.activity.clone();
        drop(activity.begin().unwrap());
        guarded.write_all(b"x").await.unwrap();
        assert!(activity.idle_since().is_none());
        guarded.flush().await.unwrap();
        assert!(activity.idle_since().is_some());
    }
}
