//! Payloads too large for a row: in files under the digest of their bytes, each kept as long as some call or map refers to it.
//!
//! A file is written before the row that refers to it, and goes after the last such row; `files` keeps the two apart: writers share
//! it from the file to the commit, whoever deletes has it alone.

use super::*;

/// Bytes of a payload over which it has a file of its own.
pub(super) const INLINE_BYTES_MAX: usize = 256 << 10;
/// Files that are looked at in one step when a host starts.
const SWEEP_LEN: usize = 256;

impl StoreJournal {
    /// Puts a payload where it belongs, and adds the references that a file needs to `ops`.
    pub(super) async fn place(
        &self,
        write: Write,
        owner: &[u8; 16],
        payload: Payload,
        ops: &mut Vec<Op>,
    ) -> Result<StoredPayload, JournalError> {
        if payload.data.len() <= INLINE_BYTES_MAX {
            return Ok(StoredPayload::inline(payload));
        }
        let Payload { content_type, data } = payload;
        let bytes = data.len() as u64;
        let this = self.clone();
        let digest = blocking(move || this.dir.files()?.put(write, &data)).await?;
        ops.push(put(Table::JournalIndex, key::file(&digest, owner), Vec::new()));
        ops.push(put(Table::JournalIndex, key::file_of(owner, &digest), Vec::new()));
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

    /// Removes those of the files that nobody refers to any more. The caller has `files` alone.
    pub(super) async fn remove_files(&self, digests: Vec<[u8; 32]>) -> Result<(), JournalError> {
        self.read(move |this, store| {
            for digest in digests {
                if rows(store, Table::JournalIndex, &key::files(&digest), None, 1)?.is_empty() {
                    this.dir.files()?.remove(&digest)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes files whose row was never written, because the host died between the two.
    pub(super) async fn sweep_files(&self) -> Result<(), JournalError> {
        let digests = self.read(|this, _| Ok(this.dir.files()?.digests()?)).await?;
        for digests in digests.chunks(SWEEP_LEN) {
            let _alone = self.files.write().await;
            self.remove_files(digests.to_vec()).await?;
        }
        Ok(())
    }
}

/// Deletes the references of a call or map, and returns the files that they were to.
pub(super) fn forget(store: &Store, owner: &[u8; 16], ops: &mut Vec<Op>) -> Result<Vec<[u8; 32]>, JournalError> {
    let mut digests = Vec::new();
    for (found, _) in rows(store, Table::JournalIndex, &key::files_of(owner), None, usize::MAX)? {
        let Some(digest) = found.get(found.len() - 32..).and_then(|digest| digest.try_into().ok()) else { continue };
        ops.push(delete(Table::JournalIndex, key::file(&digest, owner)));
        ops.push(delete(Table::JournalIndex, found));
        digests.push(digest);
    }
    Ok(digests)
}
