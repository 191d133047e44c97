//! Row of the time that retention goes by: `clock` in the table of the host, two numbers of 8 bytes each, the highest
//! first.

use super::error::JournalError;
use super::{StoreJournal, put};
use crate::storage::ClockMark;
use crate::store::{Table, Write};

const CLOCK: &[u8] = b"clock";

impl StoreJournal {
    /// Reads the row; one that cannot be read is as if there was none.
    pub(super) async fn clock(&self) -> Result<Option<ClockMark>, JournalError> {
        let row = self.read(|_, store| Ok(store.get(Table::Host, CLOCK)?)).await?;
        Ok(row.as_deref().and_then(decode))
    }

    pub(super) async fn keep_clock(&self, mark: ClockMark) -> Result<(), JournalError> {
        let row = [mark.trusted_ms.to_be_bytes(), mark.held_ms.to_be_bytes()].concat();
        let epoch = self.holder().map(|holder| holder.epoch);
        Ok(self.dir.store()?.commit(epoch, Write::Relief, vec![put(Table::Host, CLOCK.to_vec(), row)]).await?)
    }
}

fn decode(row: &[u8]) -> Option<ClockMark> {
    let (trusted_ms, held_ms) = row.split_first_chunk()?;
    let held_ms = u64::from_be_bytes(held_ms.try_into().ok()?);
    Some(ClockMark { trusted_ms: u64::from_be_bytes(*trusted_ms), held_ms })
}
