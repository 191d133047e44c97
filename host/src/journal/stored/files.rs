//! Payloads too large for a row: in files under the digest of their bytes, each kept as long as some call or map refers to it.
//!
//! A file is written before the row that refers to it, and goes after the last such row. [`FileClaims`] keeps the two apart, digest
//! by digest: no lock is held while a file is written or removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{StoreJournal, delete, put, rows};
use crate::call::Payload;
use crate::journal::{JournalError, PayloadPlace, StoredPayload, key};
use crate::limits::JOURNAL_STEP_FILES_MAX;
use crate::store::{Files, Op, Store, Table, Write};
use crate::tasks::blocking;

/// Bytes of a payload over which it has a file of its own.
pub(super) const INLINE_BYTES_MAX: usize = 256 << 10;

/// Claims on digests: by writers, until their reference is committed, or by the one who removes the file.
#[derive(Default)]
pub(super) struct FileClaims {
    claims: Mutex<HashMap<[u8; 32], ClaimKind>>,
    /// Notified when a removal has ended.
    removed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimKind {
    Writers(usize),
    Removal,
}

/// A claim, given back when it is dropped.
pub(super) struct FileClaim {
    claims: Arc<FileClaims>,
    digest: [u8; 32],
}

impl FileClaims {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], ClaimKind>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a digest for a reference that will be committed. Waits while its file is removed.
    async fn write(self: &Arc<Self>, digest: [u8; 32]) -> FileClaim {
        loop {
            let mut removed = std::pin::pin!(self.removed.notified());
            removed.as_mut().enable();
            if self.try_write(digest) {
                return FileClaim { claims: self.clone(), digest };
            }
            removed.await;
        }
    }

    fn try_write(&self, digest: [u8; 32]) -> bool {
        match self.lock().entry(digest).or_insert(ClaimKind::Writers(0)) {
            ClaimKind::Writers(writers) => {
                *writers += 1;
                true
            }
            ClaimKind::Removal => false,
        }
    }

    /// Claims a digest for the removal of its file; none if anybody else has a claim.
    fn remove(self: &Arc<Self>, digest: [u8; 32]) -> Option<FileClaim> {
        let mut claims = self.lock();
        if claims.contains_key(&digest) {
            return None;
        }
        claims.insert(digest, ClaimKind::Removal);
        Some(FileClaim { claims: self.clone(), digest })
    }
}

impl Drop for FileClaim {
    fn drop(&mut self) {
        let mut claims = self.claims.lock();
        match claims.get_mut(&self.digest) {
            Some(ClaimKind::Writers(writers)) if *writers > 1 => *writers -= 1,
            _ => drop(claims.remove(&self.digest)),
        }
        drop(claims);
        self.claims.removed.notify_waiters();
    }
}

/// Changes of one write, with the claims on the files that they refer to: held until the write is committed.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) ops: Vec<Op>,
    pub(super) claims: Vec<FileClaim>,
}

impl StoreJournal {
    /// Puts a payload where it belongs, and adds the references that a file needs to `changes`.
    pub(super) async fn place(
        &self,
        write: Write,
        owner: &[u8; 16],
        payload: Payload,
        changes: &mut Changes,
    ) -> Result<StoredPayload, JournalError> {
        if payload.data.len() <= INLINE_BYTES_MAX {
            return Ok(StoredPayload::inline(payload));
        }
        let Payload { content_type, data } = payload;
        let bytes = data.len() as u64;
        let digest = blocking({
            let data = data.clone();
            move || Files::digest(&data)
        })
        .await;
        let claim = self.claims.write(digest).await;
        let this = self.clone();
        blocking(move || this.dir.files()?.put(write, &digest, &data)).await?;
        changes.claims.push(claim);
        changes.ops.push(put(Table::JournalIndex, key::file(&digest, owner), Vec::new()));
        changes.ops.push(put(Table::JournalIndex, key::file_of(owner, &digest), Vec::new()));
        Ok(StoredPayload { content_type, at: PayloadPlace::File { digest, bytes } })
    }

    pub(super) async fn payload(&self, stored: StoredPayload) -> Result<Payload, JournalError> {
        let content_type = stored.content_type;
        match stored.at {
            PayloadPlace::Inline(data) => Ok(Payload { content_type, data }),
            PayloadPlace::File { digest, .. } => {
                let this = self.clone();
                let data = blocking(move || this.dir.files()?.get(&digest)).await?;
                Ok(Payload { content_type, data: data.into() })
            }
        }
    }

    /// Removes the files among `digests` to which no row refers and no write is about to.
    pub(super) async fn remove_files(&self, digests: Vec<[u8; 32]>) -> Result<(), JournalError> {
        self.read(move |this, store| {
            for digest in digests {
                // Whoever is about to refer to the file keeps it.
                let Some(_claim) = this.claims.remove(digest) else { continue };
                if rows(store, Table::JournalIndex, &key::files(&digest), None, 1)?.is_empty() {
                    this.dir.files()?.remove(&digest)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes files without a row: the host died between the two.
    pub(super) async fn sweep_files(&self) -> Result<(), JournalError> {
        let digests = self.read(|this, _| Ok(this.dir.files()?.digests()?)).await?;
        for digests in digests.chunks(JOURNAL_STEP_FILES_MAX) {
            self.remove_files(digests.to_vec()).await?;
        }
        Ok(())
    }
}

/// Deletes up to `limit` references of a call or map. Returns the digests of their files, and whether those were all.
pub(super) fn unreference(
    store: &Store,
    owner: &[u8; 16],
    limit: usize,
    ops: &mut Vec<Op>,
) -> Result<(Vec<[u8; 32]>, bool), JournalError> {
    let mut digests = Vec::new();
    let found = rows(store, Table::JournalIndex, &key::files_of(owner), None, limit)?;
    let is_all = found.len() < limit;
    for (found, _) in found {
        if let Some(digest) = key::digest_of(&found) {
            ops.push(delete(Table::JournalIndex, key::file(&digest, owner)));
            digests.push(digest);
        }
        ops.push(delete(Table::JournalIndex, found));
    }
    Ok((digests, is_all))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_digest_is_either_written_or_removed() {
        let claims = Arc::<FileClaims>::default();
        let (one, other) = ([1; 32], [2; 32]);
        let (first, second) = (claims.write(one).await, claims.write(one).await);
        assert!(claims.remove(one).is_none(), "two refer to it");
        drop(first);
        assert!(claims.remove(one).is_none(), "one still does");
        drop(second);
        let removal = claims.remove(one).unwrap();
        assert!(claims.remove(one).is_none(), "it is removed once");

        let mut waits = Box::pin(claims.write(one));
        let is_waiting = std::future::poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting);
        drop(claims.write(other).await);
        drop(removal);
        drop(waits.await);
        assert!(claims.lock().is_empty(), "nothing is remembered");
    }
}
