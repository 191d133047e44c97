//! Apps, key-value data and blobs of an engine in memory.

use std::collections::HashSet;

use bytes::Bytes;

use super::super::{AppRecord, Increment, Incremented, KeyPage, KeyQuery, Place, Pushed, StorageError};
use super::state::{StartNumber, State, Value, gone};
use crate::ids::AppName;

/// Bytes of the longest text that is read as a number.
const NUMBER_LEN_MAX: usize = 40;

impl State {
    pub(crate) fn records(&self) -> Vec<(AppName, AppRecord)> {
        let records = self.apps.iter().flat_map(|(app, records)| records.values().map(move |record| (app, record)));
        records.map(|(app, record)| (app.clone(), record.clone())).collect()
    }

    pub(crate) fn push(
        &mut self,
        me: StartNumber,
        app: &AppName,
        record: &AppRecord,
        displaced: &[u64],
    ) -> Result<Pushed, StorageError> {
        self.check(me)?;
        let records = self.apps.entry(app.clone()).or_default();
        let last = records.last_key_value();
        // The same push was written before.
        if last.is_some_and(|(_, last)| last == record) {
            return Ok(Pushed::Kept);
        }
        let last = last.map_or(0, |(number, _)| *number);
        if record.number != last + 1 {
            return Ok(Pushed::Conflict { last });
        }
        records.insert(record.number, record.clone());
        records.retain(|number, _| !displaced.contains(number));
        Ok(Pushed::Kept)
    }

    pub(crate) fn value(&self, place: Place<'_>) -> Option<&Bytes> {
        self.live_value(place).map(|value| &value.bytes)
    }

    fn live_value(&self, place: Place<'_>) -> Option<&Value> {
        self.values.get(&place_key(place)).filter(|value| self.is_live(value))
    }

    fn is_live(&self, value: &Value) -> bool {
        value.expires_ms.is_none_or(|expires_ms| expires_ms > self.now_ms)
    }

    pub(crate) fn set(
        &mut self,
        me: StartNumber,
        place: Place<'_>,
        bytes: Bytes,
        expires_ms: Option<u64>,
    ) -> Result<(), StorageError> {
        self.check(me)?;
        self.values.insert(place_key(place), Value { bytes, expires_ms });
        Ok(())
    }

    /// Changes a value, whose time to live goes on.
    fn change(&mut self, me: StartNumber, place: Place<'_>, bytes: Bytes) -> Result<(), StorageError> {
        let expires_ms = self.live_value(place).and_then(|value| value.expires_ms);
        self.set(me, place, bytes, expires_ms)
    }

    pub(crate) fn get_many(&self, places: &[Place<'_>], bytes_max: usize) -> Option<Vec<Option<Bytes>>> {
        let values: Vec<_> = places.iter().map(|place| self.value(*place).cloned()).collect();
        let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
        (bytes <= bytes_max).then_some(values)
    }

    pub(crate) fn delete(&mut self, me: StartNumber, place: Place<'_>) -> Result<(), StorageError> {
        self.check(me)?;
        self.values.remove(&place_key(place));
        Ok(())
    }

    pub(crate) fn keys(&self, query: KeyQuery<'_>) -> KeyPage {
        let KeyQuery { app, bucket, prefix, after, len_max, bytes_max } = query;
        let of_bucket = self.values.iter().filter(|((of, within, _), _)| of == app && within == bucket);
        let live = of_bucket.filter(|(_, value)| self.is_live(value)).map(|((_, _, key), _)| key);
        let found = live.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        let mut page = KeyPage::default();
        let mut bytes = 0;
        for key in found {
            bytes += key.len();
            if page.keys.len() == len_max || (bytes > bytes_max && !page.keys.is_empty()) {
                page.next = page.keys.last().cloned();
                break;
            }
            page.keys.push(key.clone());
        }
        page
    }

    pub(crate) fn buckets(&self, app: &AppName, after: Option<&str>, len_max: usize) -> KeyPage {
        let of_app = self.values.iter().filter(|((of, ..), value)| of == app && self.is_live(value));
        let mut names: Vec<&String> = of_app.map(|((_, bucket, _), _)| bucket).collect();
        names.dedup();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        let keys: Vec<String> = names.iter().take(len_max).map(|name| (*name).clone()).collect();
        let next = (names.len() > len_max).then(|| keys.last().cloned()).flatten();
        KeyPage { keys, next }
    }

    pub(crate) fn expire_values(&mut self, me: StartNumber) -> Result<bool, StorageError> {
        self.check(me)?;
        let (now_ms, len) = (self.now_ms, self.values.len());
        self.values.retain(|_, value| value.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms));
        Ok(self.values.len() < len)
    }

    pub(crate) fn swap(
        &mut self,
        me: StartNumber,
        place: Place<'_>,
        expected: Option<&Bytes>,
        value: Bytes,
    ) -> Result<bool, StorageError> {
        let is_expected = self.value(place) == expected;
        if is_expected {
            self.change(me, place, value)?;
        }
        Ok(is_expected)
    }

    pub(crate) fn increment(
        &mut self,
        me: StartNumber,
        place: Place<'_>,
        increment: Increment,
    ) -> Result<Incremented, StorageError> {
        let Increment { delta, min, max } = increment;
        let value = match self.value(place) {
            None => 0,
            Some(text) => match number(text) {
                Some(value) => value,
                None => return Ok(Incremented::NotANumber),
            },
        };
        let Some(sum) = value.checked_add(delta).filter(|sum| (min..=max).contains(sum)) else {
            return Ok(Incremented::Overflow { value });
        };
        self.change(me, place, sum.to_string().into())?;
        Ok(Incremented::Sum(sum))
    }

    pub(crate) fn put_blob(&mut self, me: StartNumber, digest: &[u8; 32], bytes: Bytes) -> Result<(), StorageError> {
        self.check(me)?;
        self.blobs.insert(*digest, bytes);
        Ok(())
    }

    pub(crate) fn blob(&self, digest: &[u8; 32]) -> Result<Bytes, StorageError> {
        self.blobs.get(digest).cloned().ok_or_else(gone)
    }

    pub(crate) fn sweep_blobs(&mut self, me: StartNumber, kept: &HashSet<[u8; 32]>) -> Result<(), StorageError> {
        self.check(me)?;
        self.blobs.retain(|digest, _| kept.contains(digest));
        Ok(())
    }
}

fn place_key(Place { app, bucket, key }: Place<'_>) -> (AppName, String, String) {
    (app.clone(), bucket.to_owned(), key.to_owned())
}

fn number(text: &[u8]) -> Option<i128> {
    std::str::from_utf8(text).ok().filter(|text| text.len() <= NUMBER_LEN_MAX)?.parse().ok()
}
