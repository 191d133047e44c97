//! Errors of the store, and their codes.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hex::encode as hex;

use crate::codes::Code;
use crate::storage::{ErrorKind, OverQuota, StorageError};

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
        "the database `{}` has format {found}, and this bireme knows formats up to {known}; a directory does not go back to \
         an older bireme: use the newer one that wrote it, restore a copy from before, or give another with --data DIR",
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
    #[error("{}", FullMessage(*free_mib))]
    Full { free_mib: Option<u64> },
    /// Nothing of the write was kept.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// Nothing of the write was kept. The process or the machine has no descriptors or memory left for now.
    #[error(
        "the operating system has no file descriptor or memory for the database now; try again, and raise the limit of \
         open files (`ulimit -n`, in systemd LimitNOFILE) if it comes again"
    )]
    Exhausted { source: Arc<io::Error> },
    /// Nothing of the write was kept: too much waits already.
    #[error("the database has too many writes waiting ({waiting_mib} MiB); try again")]
    Busy { waiting_mib: u64 },
    /// Nothing of the write was kept, and no write of this host will be: a later one has raised the epoch.
    #[error("another host has taken up the journal since (epoch {latest}, this one has {epoch}); stop this host")]
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

/// Message of a full disk.
struct FullMessage(Option<u64>);

impl fmt::Display for FullMessage {
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
    #[cfg(test)]
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether another host has the data directory.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    /// Returns the code that clients and commands see.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Full { .. } => Code::DiskFull,
            Self::OverQuota(_) => Code::DiskQuota,
            Self::Busy { .. } | Self::Exhausted { .. } => Code::Overloaded,
            _ => Code::Store,
        }
    }
}

impl From<StoreError> for StorageError {
    fn from(error: StoreError) -> Self {
        let code = error.code();
        let (kind, public) = match &error {
            // Their messages name no path.
            StoreError::Full { .. }
            | StoreError::OverQuota(_)
            | StoreError::Busy { .. }
            | StoreError::Exhausted { .. } => (ErrorKind::Full, Some(error.to_string())),
            StoreError::InUse { holder, .. } => {
                (ErrorKind::Refused, Some(format!("the host's data directory is in use by process {holder}")))
            }
            StoreError::Fenced { .. } => (ErrorKind::Fenced, None),
            StoreError::Poisoned { .. } => (ErrorKind::Unknown, None),
            StoreError::FileMissing { .. } => (ErrorKind::Gone, None),
            _ => (ErrorKind::Refused, None),
        };
        let error = Self::new(kind, error).with_code(code);
        match public {
            Some(message) => error.with_public(&message),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_kind_for_callers_a_code_for_users_and_no_path_for_guests() {
        let dir = || PathBuf::from("/secret");
        let over = || OverQuota { app: "a".parse().unwrap(), used_bytes: 7 << 20, quota_bytes: 8 << 20 };
        let exhausted = || Arc::new(io::Error::from(io::ErrorKind::OutOfMemory));
        let cases = [
            (StoreError::Full { free_mib: Some(7) }, ErrorKind::Full, Code::DiskFull, Some("7 MiB are free")),
            (StoreError::from(over()), ErrorKind::Full, Code::DiskQuota, Some("quota of 8.0 MiB")),
            (StoreError::Busy { waiting_mib: 64 }, ErrorKind::Full, Code::Overloaded, Some("64 MiB")),
            (StoreError::Exhausted { source: exhausted() }, ErrorKind::Full, Code::Overloaded, Some("LimitNOFILE")),
            (
                StoreError::InUse { dir: dir(), holder: "17".to_owned() },
                ErrorKind::Refused,
                Code::Store,
                Some("the host's data directory is in use by process 17"),
            ),
            (StoreError::Fenced { epoch: 1, latest: 2 }, ErrorKind::Fenced, Code::Store, None),
            (StoreError::Poisoned { path: dir(), source: None }, ErrorKind::Unknown, Code::Store, None),
            (StoreError::FileMissing { digest: [0; 32] }, ErrorKind::Gone, Code::Store, None),
            (StoreError::FileChanged { digest: [0; 32] }, ErrorKind::Refused, Code::Store, None),
            (StoreError::NotADatabase { path: dir() }, ErrorKind::Refused, Code::Store, None),
        ];
        for (error, kind, code, public) in cases {
            let message = error.to_string();
            let error = StorageError::from(error);
            assert_eq!((error.kind(), error.code(), error.to_string()), (kind, code, message.clone()));
            match (error.public(), public) {
                (Some(shown), Some(part)) => {
                    assert!(shown.contains(part) && !shown.contains("/secret"), "{message}: {shown}");
                }
                (shown, public) => assert_eq!(shown, public, "{message}"),
            }
        }
    }
}
