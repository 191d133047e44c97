//! Payloads too large for a row: in files under the digest of their bytes, each kept as long as some call or map refers
//! to it.
//!
//! A file is written before the row that refers to it, and goes after the last such row. `FileClaims` keeps the two
//! apart, digest by digest: no lock is held while a file is written or removed.

use super::claims::{FileClaim, Prepared};
use super::error::JournalError;
use super::layout::key;
use super::{StoreJournal, delete, put, rows};
use crate::call::Payload;
use crate::limits::JOURNAL_STEP_FILES_MAX;
use crate::storage::{PayloadPlace, StoredPayload};
use crate::store::usage::file_row;
use crate::store::{Files, Op, Store, Table, Write};
use crate::tasks::blocking;

/// Bytes of a payload over which it has a file of its own.
pub(super) const INLINE_BYTES_MAX: usize = 256 << 10;

impl StoreJournal {
    /// Puts a payload where it belongs, and adds the references that a file needs to `prepared`.
    pub(super) async fn place(
        &self,
        write: Write,
        owner: &[u8; 16],
        payload: Payload,
        prepared: &mut Prepared,
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
        prepared.claims.push(claim);
        prepared.ops.push(put(Table::JournalIndex, key::file(&digest, owner), Vec::new()));
        prepared.ops.push(put(Table::JournalIndex, key::file_of(owner, &digest), file_row(bytes)));
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

    /// Removes the files of a write that was refused, unless anything else refers to them.
    /// One that stays goes at the next start.
    pub(super) async fn remove_unused(&self, claims: Vec<FileClaim>) {
        if claims.is_empty() {
            return;
        }
        let digests = claims.iter().map(FileClaim::digest).collect();
        // Whoever still has a claim keeps a file.
        drop(claims);
        if let Err(error) = self.remove_files(digests).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the file of a refused write stays");
        }
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
