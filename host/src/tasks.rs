//! Tasks whose panics continue in the task that waits for them, a guard that ends a panic, and the cores for them.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::telemetry::panic_message;

/// Returns the cores of this process, at least one. Looked up once: the files that say so are out of a confined host's
/// reach.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Runs a future; a panic in it becomes an error with its message. Everything the future held is dropped by then.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panic_message(&*panic).to_owned())
}

/// Runs long blocking work (cargo, Cranelift, a disk) off the runtime's threads. Dropping the future does not end the
/// work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Returns work that runs to completion once it was polled, even if it is dropped then. It runs in the task that polls
/// it, and in one of its own from its drop on: most work is never dropped, and pays for no second task.
pub(crate) fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> ToTheEnd<T> {
    ToTheEnd { work: Some(Box::pin(work)), is_begun: false }
}

/// See [`to_the_end`].
pub(crate) struct ToTheEnd<T: Send + 'static> {
    /// None once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    is_begun: bool,
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.is_begun = true;
        // Taken, so that work that panics is not polled again from the drop.
        let mut work = self.work.take().expect("polled after its end");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // A runtime that has ended runs nothing more.
        if self.is_begun
            && let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current())
        {
            runtime.spawn(async move { drop(work.await) });
        }
    }
}

async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_ends_though_nobody_waits() {
        let (done, ended) = tokio::sync::oneshot::channel();
        let work = to_the_end(async move {
            tokio::task::yield_now().await;
            let _ = done.send(7);
        });
        // Polled once and dropped.
        let _ = tokio::time::timeout(Duration::ZERO, work).await;
        assert_eq!(ended.await, Ok(7));
    }

    #[tokio::test]
    async fn a_caught_panic_is_its_message() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        assert_eq!(caught(async { panic!("no {} oars", "more") }).await, Err::<(), _>("no more oars".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_reaches_who_waits() {
        let waiting = tokio::spawn(blocking(|| panic!("no more oars")));
        assert!(waiting.await.unwrap_err().is_panic());
    }
}
