//! Apps, key-value data and blobs of an engine in memory.

use std::collections::HashSet;

use bytes::Bytes;

use super::super::{AppRecord, Increment, Incremented, Place, Pushed, StorageError};
use super::state::{StartNumber, State, gone};
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
        self.values.get(&place_key(place))
    }

    pub(crate) fn set(&mut self, me: StartNumber, place: Place<'_>, value: Bytes) -> Result<(), StorageError> {
        self.check(me)?;
        self.values.insert(place_key(place), value);
        Ok(())
    }

    pub(crate) fn delete(&mut self, me: StartNumber, place: Place<'_>) -> Result<(), StorageError> {
        self.check(me)?;
        self.values.remove(&place_key(place));
        Ok(())
    }

    pub(crate) fn keys(&self, app: &AppName, bucket: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let keys = self.values.keys().filter(|(of, within, _)| of == app && within == bucket).map(|(_, _, key)| key);
        keys.filter(|key| after.is_none_or(|after| key.as_str() > after)).take(limit).cloned().collect()
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
            self.set(me, place, value)?;
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
        self.set(me, place, sum.to_string().into())?;
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
