//! Confinement of a host that listens: what it needs of the machine is made or opened before, the rest is given up.
//!
//! Not here: how a process gives it up (`confine`), who starts its workers then (`spawner`).

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::{OpenError, ServerError};
use crate::app::artifact::ArtifactCache;
use crate::app::timetable;
use crate::config::Directories;
use crate::confine::{self, HostAccess};
use crate::outbound;
use crate::settings::OperatorToken;
use crate::store::StoreDir;
use crate::tasks;

/// Looks at threads that are about to end, and the rest between two.
const ENDING_THREADS_LOOKS: u32 = 1_000;
const ENDING_THREADS_REST: Duration = Duration::from_millis(1);

/// A host that cannot be confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// The cache of compiled components cannot be made.
    #[error(transparent)]
    Build(#[from] ServerError),
    /// The data directory cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The process has other threads, which would keep what this one gives up.
    #[error("the host has {threads} threads before it is confined; report this as a bug")]
    Threads {
        /// Their number.
        threads: usize,
    },
}

/// Confines this process, which is to listen on `port`, to what a host over these directories needs. Must be called
/// before there are threads. What the kernel lacks is logged.
pub(crate) fn confine(directories: &Directories, port: u16) -> Result<(), ConfineError> {
    prepare(directories)?;
    let access = access(directories, port);
    let threads = threads();
    if threads > 1 {
        return Err(ConfineError::Threads { threads });
    }
    let missing = confine::host(&access);
    if !missing.is_empty() {
        tracing::warn!(?missing, "this kernel confines the host less than others do; see `bireme doctor`");
    }
    Ok(())
}

/// Makes what a confined host could only change.
fn prepare(directories: &Directories) -> Result<(), ConfineError> {
    // Read from files that it will not see.
    tasks::cores();
    ArtifactCache::open(&directories.artifacts).map_err(ServerError::from)?;
    StoreDir::make(&directories.data).map_err(|error| OpenError::Storage(error.into()))?;
    for dir in [Some(directories.models.as_path()), directories.control_socket().parent()].into_iter().flatten() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(OpenError::from)?;
    }
    if OperatorToken::of_environment().map_err(OpenError::from)?.is_none() {
        OperatorToken::read_or_make(&directories.token).map_err(OpenError::from)?;
    }
    Ok(())
}

/// Returns the number of this process's threads; waits a little for those that have been joined and are about to go.
fn threads() -> usize {
    let count = || fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    for _ in 0..ENDING_THREADS_LOOKS {
        if count() == 1 {
            return 1;
        }
        std::thread::sleep(ENDING_THREADS_REST);
    }
    count()
}

fn access(directories: &Directories, port: u16) -> HostAccess {
    let (mut writable, writable_files) = StoreDir::kept(&directories.data);
    writable.push(directories.artifacts.clone());
    let mut readable = outbound::system_files();
    readable.extend(timetable::system_files());
    readable.push(directories.token.clone());
    let listed = vec![directories.data.clone(), directories.models.clone()];
    let sockets = directories.control_socket().parent().map(Path::to_owned).into_iter().collect();
    HostAccess { writable, writable_files, sockets, listed, readable, port }
}
