//! Errors of the journal, within the engine.

use super::layout::quarantine::{DamagedRow, Owner};
use crate::storage::{ErrorKind, StorageError};
use crate::store::StoreError;

/// Operation that the journal did not do.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was written.
    #[error("it ended longer ago than it is kept, and has been deleted")]
    Expired,
    /// Row that could not be set aside either.
    #[error(transparent)]
    Damaged(Box<DamagedRow>),
    #[error("{owner} is in quarantine: a row of it cannot be read; `bireme doctor` shows it")]
    Quarantined { owner: Owner },
}

impl From<JournalError> for StorageError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Store(error) => error.into(),
            JournalError::Expired | JournalError::Quarantined { .. } => Self::new(ErrorKind::Gone, error),
            JournalError::Damaged(_) => Self::new(ErrorKind::Refused, error),
        }
    }
}
