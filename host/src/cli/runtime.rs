//! The runtime of a command.

use super::exit::Exit;
use crate::{descriptors, tasks};

/// Runs the work of a command on a thread for each core.
pub(crate) fn block_on(work: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    // Shells set 1,024; a host may need one descriptor for each connection.
    descriptors::raise_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(tasks::cores()).enable_all().build()?;
    let result = runtime.block_on(work);
    // Does not wait for a thread blocked on standard input.
    runtime.shutdown_background();
    result
}
