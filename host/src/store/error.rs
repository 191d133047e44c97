//! What a store can fail with, and which code that is.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codes::Code;

/// A database that cannot serve.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot open the database `{}`", path.display())]
    Open { path: PathBuf, source: Arc<redb::Error> },
    #[error("`{}` is no database of bireme; move it away, or give another directory with --data DIR", path.display())]
    NotADatabase { path: PathBuf },
    #[error("the database `{}` is damaged; restore it from a copy, or give another directory with --data DIR", path.display())]
    Damaged { path: PathBuf },
    #[error(
        "the database `{}` has format {found}, and this bireme knows formats up to {known}; use the newer bireme that wrote \
         it, or give another directory with --data DIR",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("cannot use the data directory `{}`", dir.display())]
    Directory { dir: PathBuf, source: Arc<io::Error> },
    #[error("the data directory `{}` is in use by process {holder}; stop it or give another with --data DIR", dir.display())]
    InUse { dir: PathBuf, holder: String },
    #[error("the database cannot be read")]
    Read { source: Arc<redb::Error> },
    /// Nothing of the write was kept, and the store goes on.
    #[error("the database could not commit")]
    Commit { source: Arc<redb::Error> },
    /// Nothing of the write was kept. The store goes on by itself once there is room.
    #[error("{}", FullText(*free_mib))]
    Full { free_mib: Option<u64> },
    /// Nothing of the write was kept. The process or the machine has no descriptors or memory left for now.
    #[error(
        "the operating system has no file descriptor or memory for the database now; try again, and raise the limit of \
         open files (`ulimit -n`, in systemd LimitNOFILE) if it comes again"
    )]
    Exhausted { source: Arc<io::Error> },
    /// Nothing of the write was kept: too much waits already.
    #[error("the database has too many writes waiting ({waiting_mib} MiB); try again")]
    Busy { waiting_mib: u64 },
    /// Nothing of the write was kept: a later host has raised the epoch.
    #[error("the database has epoch {latest}, and this write is of epoch {epoch}")]
    Fenced { epoch: u64, latest: u64 },
    #[error(
        "the file of {} is missing; it was removed by somebody else, or the data directory is a part of another",
        hex(digest)
    )]
    FileMissing { digest: [u8; 32] },
    #[error("the file of {} has other contents than were written; the disk may be failing", hex(digest))]
    FileChanged { digest: [u8; 32] },
    #[error("the file of {} cannot be used", hex(digest))]
    File { digest: [u8; 32], source: Arc<io::Error> },
    /// The store has stopped for good. Whether the writes under way were kept, only opening it again tells.
    #[error(
        "the database `{}` met an error of its disk and takes no more writes; check the disk, then start bireme again",
        path.display()
    )]
    Poisoned { path: PathBuf, source: Option<Arc<redb::Error>> },
}

/// Returns a digest in hex.
pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct FullText(Option<u64>);

impl fmt::Display for FullText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(free_mib) => write!(
                f,
                "the disk of the data directory is full ({free_mib} MiB are free); free some space, and new work is taken again"
            ),
            None => f.write_str(
                "the database cannot grow: the disk, a quota or a limit on the file's size is full; make room, and new work \
                 is taken again",
            ),
        }
    }
}

impl StoreError {
    /// Whether there is no room now and may be later.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Returns the code that clients and commands see.
    pub fn code(&self) -> Code {
        match self {
            Self::Full { .. } => Code::DiskFull,
            Self::Busy { .. } | Self::Exhausted { .. } => Code::Overloaded,
            _ => Code::Store,
        }
    }
}
