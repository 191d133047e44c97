//! Tasks whose panics continue in the task that waits for them, and a guard that ends a panic.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::telemetry::panic_message;

/// Runs a future; a panic in it becomes an error with its message. Everything the future held is dropped by then.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panic_message(&*panic).to_owned())
}

/// Runs long blocking work (cargo, Cranelift, a disk) off the runtime's threads. Dropping the future does not end the
/// work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Runs work to completion, even if the returned future is dropped.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    joined(tokio::spawn(work)).await
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
