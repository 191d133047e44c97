//! Rows of key-value data: their keys, their values, and the changes that write them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `key-value` | `app \0 bucket \0 key` | value that never expires |
//! | `expiring-values` | `v app \0 bucket \0 key` | time of expiry, value |
//! | `expiring-values` | `t`, time of expiry, `app \0 bucket \0 key` | nothing |
//!
//! Times are milliseconds since 1970 in 8 bytes, the highest first. Each value that expires has its row by time, for
//! `expire`. A key is in one of the tables. In both it is only after an older bireme, which does not know the second,
//! wrote it: then the value that never expires is the newer one.

use std::borrow::Cow;

use crate::ids::AppName;
use crate::storage::Place;
use crate::store::read::Snapshot;
use crate::store::view::RowBytes;
use crate::store::{Decider, Op, Table, View, ViewError};

/// Values that never expire, as all were before there were others.
pub(super) const LASTING: Table = Table::KeyValue;
pub(super) const EXPIRING: Table = Table::ExpiringValues;

/// Start of the keys of values that expire.
pub(super) const VALUE: &[u8] = b"v";
/// Start of the keys by time.
pub(super) const TIME: &[u8] = b"t";

const MS_LEN: usize = size_of::<u64>();

/// Returns `app \0 bucket \0`: names hold no NUL, so no prefix is the start of another.
pub(super) fn bucket_prefix(app: &AppName, bucket: &str) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0", bucket.as_bytes(), b"\0"].concat()
}

pub(super) fn key(place: Place<'_>) -> Vec<u8> {
    [bucket_prefix(place.app, place.bucket).as_slice(), place.key.as_bytes()].concat()
}

/// Returns the key of the row by time.
fn time_key(expires_ms: u64, key: &[u8]) -> Vec<u8> {
    [TIME, &expires_ms.to_be_bytes(), key].concat()
}

/// Returns the end of the keys by time whose values have expired at `now_ms`.
pub(super) fn time_end(now_ms: u64) -> Vec<u8> {
    [TIME, &now_ms.saturating_add(1).to_be_bytes()].concat()
}

/// Returns time and key of a key by time.
pub(super) fn of_time(row: &[u8]) -> Option<(u64, &[u8])> {
    let (time, key) = row.strip_prefix(TIME)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*time), key))
}

/// Returns the time of expiry in a row; a damaged row has expired.
pub(super) fn expiry(row: &[u8]) -> u64 {
    row.first_chunk().map_or(0, |time| u64::from_be_bytes(*time))
}

fn behind_expiry(row: &[u8]) -> &[u8] {
    row.get(MS_LEN..).unwrap_or_default()
}

/// Reads a value unless it has expired at `now_ms`.
pub(super) fn read<T>(
    snapshot: &Snapshot,
    key: &[u8],
    now_ms: u64,
    read: impl Fn(&[u8]) -> T,
) -> Result<Option<T>, redb::Error> {
    if let Some(value) = snapshot.open(LASTING)?.get(key)? {
        return Ok(Some(read(value.value())));
    }
    let row = snapshot.open(EXPIRING)?.get([VALUE, key].concat().as_slice())?;
    let live = row.filter(|row| expiry(row.value()) > now_ms);
    Ok(live.map(|row| read(behind_expiry(row.value()))))
}

/// A value within the writer's transaction.
pub(super) struct Present<'a> {
    row: RowBytes<'a>,
    pub expires_ms: Option<u64>,
}

impl Present<'_> {
    pub(super) fn value(&self) -> &[u8] {
        if self.expires_ms.is_some() { behind_expiry(&self.row) } else { &self.row }
    }
}

/// Returns a value unless it has expired at `now_ms`.
pub(super) fn present<'a>(view: &'a View<'_>, key: &[u8], now_ms: u64) -> Result<Option<Present<'a>>, ViewError> {
    if let Some(row) = view.get(LASTING, key)? {
        return Ok(Some(Present { row, expires_ms: None }));
    }
    let Some(row) = view.get(EXPIRING, &[VALUE, key].concat())? else { return Ok(None) };
    let expires_ms = expiry(&row);
    Ok((expires_ms > now_ms).then_some(Present { row, expires_ms: Some(expires_ms) }))
}

/// Sets a value over any other.
pub(super) fn set(key: Vec<u8>, value: impl AsRef<[u8]> + Into<Vec<u8>>, expires_ms: Option<u64>) -> Vec<Op> {
    let Some(expires_ms) = expires_ms else {
        return vec![delete_expiring(key.clone()), Op::Put { table: LASTING, key, value: value.into() }];
    };
    let row = [&expires_ms.to_be_bytes(), value.as_ref()].concat();
    vec![
        delete_expiring(key.clone()),
        Op::Put { table: EXPIRING, key: [VALUE, &key].concat(), value: row },
        Op::Put { table: EXPIRING, key: time_key(expires_ms, &key), value: Vec::new() },
        Op::Delete { table: LASTING, key },
    ]
}

pub(super) fn delete(key: Vec<u8>) -> [Op; 2] {
    [delete_expiring(key.clone()), Op::Delete { table: LASTING, key }]
}

/// Deletes both rows of a value that expires, if there is one.
pub(super) fn delete_expiring(key: Vec<u8>) -> Op {
    let (decider, _) = Decider::new(key.len(), key, |key, view| {
        let value_key = [VALUE, key].concat();
        let Some(row) = view.get(EXPIRING, &value_key)? else { return Ok((Vec::new(), ())) };
        let time_key = time_key(expiry(&row), key);
        let rows = [value_key, time_key].map(|key| Op::Delete { table: EXPIRING, key });
        Ok((vec![Cow::Owned(rows.into())], ()))
    });
    Op::Decide(decider)
}
