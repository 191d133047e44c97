//! Key-value data: a row for each value, the keys of one bucket adjacent.
//!
//! Read-modify-write operations are decided by the writer inside its transaction, after every earlier write: nothing
//! falls between the comparison and the write, no lock is held during disk I/O, and operations that wait together share
//! a commit.

mod listing;
mod rows;

use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use self::rows::{EXPIRING, LASTING, TIME, VALUE, key};
use super::read::Snapshot;
use super::{Changes, Decider, Op, StoreDir, StoreError, View, ViewError, Write, over_quota};
use crate::clock::unix_ms;
use crate::ids::AppName;
use crate::limits::JOURNAL_STEP_ROWS_MAX;
use crate::storage::{Answer, Increment, Incremented, KeyPage, KeyQuery, KeyValue, Place};
use crate::tasks::blocking;

/// Bytes of the longest text that is read as a number: every 128-bit integer fits.
const NUMBER_LEN_MAX: usize = 40;

/// Key-value data of a data directory, opened at the first use.
pub(super) struct StoreKeyValue {
    dir: Arc<StoreDir>,
}

impl StoreKeyValue {
    pub(super) fn new(dir: Arc<StoreDir>) -> Self {
        Self { dir }
    }

    /// Writes changes of an app's data, if they keep it within its quota.
    async fn keep(&self, app: &AppName, ops: Vec<Op>) -> Result<(), StoreError> {
        let bytes = ops.iter().map(Op::bytes).sum();
        self.decide(app, bytes, ops, |ops, _| Ok((vec![Cow::Borrowed(&ops[..])], ()))).await
    }

    /// Decides changes of an app's data within the transaction, as a [`Decider`] does, and applies them if they keep
    /// the app within its quota.
    async fn decide<S, T>(
        &self,
        app: &AppName,
        bytes: usize,
        state: S,
        decide: impl for<'a> Fn(&'a S, &View<'_>) -> Result<(Changes<'a>, T), ViewError> + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
    {
        let store = self.dir.store()?;
        let (decider, decided) = Decider::new(bytes, (app.clone(), state), move |(app, state), view| {
            let (changes, answer) = decide(state, view)?;
            Ok(match over_quota(view, app, &changes)? {
                Some(over) => (Vec::new(), Err(over)),
                None => (changes, Ok(answer)),
            })
        });
        store.write_within_share(None, app.as_str(), vec![Op::Decide(decider)]).await?;
        decided.take().map_err(|over| store.refuse(over))
    }

    async fn delete_rows(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        self.dir.store()?.commit(None, Write::Relief, ops).await
    }

    /// Reads on the caller's thread where that takes the microseconds of pages in memory: an app without large values,
    /// and a file that is not being opened again. Else on a thread of its own.
    async fn read<T: Send + 'static>(
        &self,
        app: &AppName,
        read: impl Fn(&Snapshot) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Opening the database may repair it first.
        if let Some(store) = self.dir.store_if_open()
            && !store.has_large_values(app)
            && let Some(value) = store.at_once_now(&read)
        {
            return value;
        }
        self.read_elsewhere(read).await
    }

    /// Reads on a thread of its own.
    async fn read_elsewhere<T: Send + 'static>(
        &self,
        read: impl Fn(&Snapshot) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let dir = self.dir.clone();
        blocking(move || dir.store()?.at_once(read)).await
    }

    async fn expire_step(&self) -> Result<bool, StoreError> {
        let store = self.dir.store()?;
        let end = rows::time_end(unix_ms());
        let due = (Bound::Included(TIME), Bound::Excluded(end.as_slice()));
        let due: Vec<Vec<u8>> =
            store.range(EXPIRING, due, JOURNAL_STEP_ROWS_MAX, false)?.into_iter().map(|(row, _)| row).collect();
        if due.is_empty() {
            return Ok(false);
        }
        let bytes = due.iter().map(Vec::len).sum();
        let expire = move |view: &View<'_>| {
            let mut ops = Vec::new();
            for row in &due {
                let Some((time, key)) = rows::of_time(row) else { continue };
                let value = [VALUE, key].concat();
                // It may have been set anew since.
                if view.get(EXPIRING, &value)?.is_some_and(|row| rows::expiry(&row) == time) {
                    ops.push(Op::Delete { table: EXPIRING, key: value });
                }
                ops.push(Op::Delete { table: EXPIRING, key: row.clone() });
            }
            let is_any = !ops.is_empty();
            Ok((ops, is_any))
        };
        store.transact(None, Write::Relief, bytes, expire).await
    }
}

impl KeyValue for StoreKeyValue {
    fn now_ms(&self) -> u64 {
        unix_ms()
    }

    fn get<'a>(&'a self, place: Place<'a>) -> Answer<'a, Option<Bytes>> {
        let (key, now_ms) = (key(place), unix_ms());
        let read = move |snapshot: &_| rows::read(snapshot, &key, now_ms, Bytes::copy_from_slice);
        Box::pin(async move { Ok(self.read(place.app, read).await?) })
    }

    fn exists<'a>(&'a self, place: Place<'a>) -> Answer<'a, bool> {
        let (key, now_ms) = (key(place), unix_ms());
        let read = move |snapshot: &_| Ok(rows::read(snapshot, &key, now_ms, |_| ())?.is_some());
        Box::pin(async move { Ok(self.read(place.app, read).await?) })
    }

    fn get_many<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        keys: &'a [String],
        bytes_max: usize,
    ) -> Answer<'a, Option<Vec<Option<Bytes>>>> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|name| key(Place { app, bucket, key: name })).collect();
        let now_ms = unix_ms();
        let read = move |snapshot: &_| {
            let (mut values, mut left) = (Vec::with_capacity(keys.len()), bytes_max);
            for key in &keys {
                // Copied only if it fits.
                let copy = |value: &[u8]| (value.len() <= left).then(|| Bytes::copy_from_slice(value));
                let value = match rows::read(snapshot, key, now_ms, copy)? {
                    Some(None) => return Ok(None),
                    Some(fits) => fits,
                    None => None,
                };
                left -= value.as_ref().map_or(0, Bytes::len);
                values.push(value);
            }
            Ok(Some(values))
        };
        Box::pin(async move { Ok(self.read_elsewhere(read).await?) })
    }

    fn set<'a>(&'a self, place: Place<'a>, value: Bytes, expires_ms: Option<u64>) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.keep(place.app, rows::set(key(place), value, expires_ms)).await?) })
    }

    fn set_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, values: Vec<(String, Bytes)>) -> Answer<'a, ()> {
        let set = |(name, value): (String, _)| rows::set(key(Place { app, bucket, key: &name }), value, None);
        let ops = values.into_iter().flat_map(set).collect();
        Box::pin(async move { Ok(self.keep(app, ops).await?) })
    }

    fn delete<'a>(&'a self, place: Place<'a>) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.delete_rows(rows::delete(key(place)).into()).await?) })
    }

    fn delete_many<'a>(&'a self, app: &'a AppName, bucket: &'a str, keys: &'a [String]) -> Answer<'a, ()> {
        let ops = keys.iter().flat_map(|name| rows::delete(key(Place { app, bucket, key: name }))).collect();
        Box::pin(async move { Ok(self.delete_rows(ops).await?) })
    }

    // Each key of a page may lie beside a large value, which is read with it.
    fn keys<'a>(&'a self, query: KeyQuery<'a>) -> Answer<'a, KeyPage> {
        let KeyQuery { app, bucket, prefix, after, len_max, bytes_max } = query;
        let (app, bucket, prefix) = (app.clone(), bucket.to_owned(), prefix.to_owned());
        let (after, now_ms) = (after.map(str::to_owned), unix_ms());
        let read = move |snapshot: &_| {
            let (app, bucket, prefix, after) = (&app, bucket.as_str(), prefix.as_str(), after.as_deref());
            listing::keys(snapshot, KeyQuery { app, bucket, prefix, after, len_max, bytes_max }, now_ms)
        };
        Box::pin(async move { Ok(self.read_elsewhere(read).await?) })
    }

    fn buckets<'a>(&'a self, app: &'a AppName, after: Option<&'a str>, len_max: usize) -> Answer<'a, KeyPage> {
        let (app, after, now_ms) = (app.clone(), after.map(str::to_owned), unix_ms());
        let read = move |snapshot: &_| listing::buckets(snapshot, &app, after.as_deref(), len_max, now_ms);
        Box::pin(async move { Ok(self.read_elsewhere(read).await?) })
    }

    fn swap<'a>(&'a self, place: Place<'a>, expected: Option<Bytes>, value: Bytes) -> Answer<'a, bool> {
        Box::pin(async move {
            let key = key(place);
            let bytes = key.len() + expected.as_ref().map_or(0, Bytes::len) + value.len();
            // Made here: the writer copies no value but one that expires.
            let set = [rows::delete_expiring(key.clone()), Op::Put { table: LASTING, key, value: value.into() }];
            let swap = self.decide(place.app, bytes, (expected, set), |(expected, set), view| {
                let [_, Op::Put { key, value, .. }] = set else { unreachable!("it is made above") };
                let present = rows::present(view, key, unix_ms())?;
                if present.as_ref().map(rows::Present::value) != expected.as_deref() {
                    return Ok((Vec::new(), false));
                }
                let changes = match present.and_then(|present| present.expires_ms) {
                    None => Cow::Borrowed(&set[..]),
                    expires_ms => Cow::Owned(rows::set(key.clone(), value.as_slice(), expires_ms)),
                };
                Ok((vec![changes], true))
            });
            Ok(swap.await?)
        })
    }

    fn increment<'a>(&'a self, place: Place<'a>, increment: Increment) -> Answer<'a, Incremented> {
        Box::pin(async move {
            let key = key(place);
            let bytes = place.key.len() + NUMBER_LEN_MAX;
            let add = self.decide(place.app, bytes, key, move |key, view| {
                let present = rows::present(view, key, unix_ms())?;
                let answer = sum(present.as_ref().map(rows::Present::value), increment);
                let expires_ms = present.and_then(|present| present.expires_ms);
                let ops = match answer {
                    Incremented::Sum(sum) => rows::set(key.clone(), sum.to_string(), expires_ms),
                    _ => Vec::new(),
                };
                Ok((vec![Cow::Owned(ops)], answer))
            });
            Ok(add.await?)
        })
    }

    fn expire(&self) -> Answer<'_, bool> {
        Box::pin(async move { Ok(self.expire_step().await?) })
    }
}

fn sum(present: Option<&[u8]>, Increment { delta, min, max }: Increment) -> Incremented {
    let value = match present {
        None => 0,
        Some(text) => match number(text) {
            Some(value) => value,
            None => return Incremented::NotANumber,
        },
    };
    let sum = value.checked_add(delta).filter(|sum| (min..=max).contains(sum));
    sum.map_or(Incremented::Overflow { value }, Incremented::Sum)
}

fn number(text: &[u8]) -> Option<i128> {
    if text.len() > NUMBER_LEN_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::store::snapshot;

    fn open() -> (tempfile::TempDir, StoreKeyValue) {
        let dir = tempfile::tempdir().unwrap();
        let kv = StoreKeyValue::new(Arc::new(StoreDir::new(dir.path())));
        (dir, kv)
    }

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[tokio::test]
    async fn values_are_on_disk_as_they_were() {
        let ((_one, written), (_other, read)) = (open(), open());
        let app = AppName::new("app").unwrap();
        let place = |key| Place { app: &app, bucket: "bucket", key };
        let values = [("", &b"empty"[..]), ("key", b"\0\xff"), ("k\u{e4}y\0/", b"")];
        for (key, value) in values {
            written.set(place(key), value.into(), None).await.unwrap();
        }
        let text = snapshot::dump(written.dir.store().unwrap());
        expect![[r#"
            [key-value]
            app\x00bucket\x00 → empty|
            app\x00bucket\x00key → \x00\xff|
            app\x00bucket\x00k\xc3\xa4y\x00/ → |
        "#]]
        .assert_eq(&text);
        snapshot::fill(read.dir.store().unwrap(), &text).await;
        for (key, value) in values {
            assert_eq!(read.get(place(key)).await.unwrap().as_deref(), Some(value), "{key}");
        }
    }

    /// As above, for values that expire.
    #[tokio::test]
    async fn values_that_expire_are_on_disk_as_they_were() {
        let ((_one, written), (_other, read)) = (open(), open());
        let app = AppName::new("app").unwrap();
        let place = |key| Place { app: &app, bucket: "bucket", key };
        let later = 0x7fff_0000_0000_0041;
        let set = [("key", &b"\0\xff"[..], Some(later)), ("gone", b"x", Some(1)), ("stays", b"x", None)];
        for (key, value, expires_ms) in set {
            written.set(place(key), value.into(), expires_ms).await.unwrap();
        }
        let text = snapshot::dump(written.dir.store().unwrap());
        expect![[r#"
            [key-value]
            app\x00bucket\x00stays → x|
            [expiring-values]
            t\x00\x00\x00\x00\x00\x00\x00\x01app\x00bucket\x00gone → |
            t\x7f\xff\x00\x00\x00\x00\x00Aapp\x00bucket\x00key → |
            vapp\x00bucket\x00gone → \x00\x00\x00\x00\x00\x00\x00\x01x|
            vapp\x00bucket\x00key → \x7f\xff\x00\x00\x00\x00\x00A\x00\xff|
        "#]]
        .assert_eq(&text);
        snapshot::fill(read.dir.store().unwrap(), &text).await;
        assert_eq!(read.get(place("key")).await.unwrap().as_deref(), Some(&b"\0\xff"[..]));
        assert_eq!(read.get(place("gone")).await.unwrap(), None);
        assert_eq!(read.get(place("stays")).await.unwrap().as_deref(), Some(&b"x"[..]));
        assert!(read.expire().await.unwrap());
        assert!(!read.expire().await.unwrap());
        assert!(!snapshot::dump(read.dir.store().unwrap()).contains("gone"));
        // Each write leaves the rows of one value.
        for expires_ms in [Some(later + 1), None, Some(1), Some(later)] {
            read.set(place("key"), "new".into(), expires_ms).await.unwrap();
        }
        read.set(place("stays"), "new".into(), Some(later)).await.unwrap();
        for key in ["key", "stays"] {
            assert!(read.swap(place(key), Some("new".into()), "newer".into()).await.unwrap());
        }
        read.delete(place("key")).await.unwrap();
        expect![[r#"
            [expiring-values]
            t\x7f\xff\x00\x00\x00\x00\x00Aapp\x00bucket\x00stays → |
            vapp\x00bucket\x00stays → \x7f\xff\x00\x00\x00\x00\x00Anewer|
        "#]]
        .assert_eq(&snapshot::dump(read.dir.store().unwrap()));
    }

    /// An older bireme writes the first table only.
    #[tokio::test]
    async fn a_value_that_an_older_bireme_wrote_is_newer_than_one_that_expires() {
        let (_dir, kv) = open();
        let app = AppName::new("app").unwrap();
        let place = Place { app: &app, bucket: "bucket", key: "key" };
        kv.set(place, "older".into(), Some(u64::MAX)).await.unwrap();
        let older = Op::Put { table: LASTING, key: key(place), value: b"newer".to_vec() };
        kv.dir.store().unwrap().write(vec![older]).await.unwrap();
        assert_eq!(kv.get(place).await.unwrap().as_deref(), Some(&b"newer"[..]));
        let query = KeyQuery { app: &app, bucket: "bucket", prefix: "", after: None, len_max: 9, bytes_max: 99 };
        assert_eq!(kv.keys(query).await.unwrap(), KeyPage { keys: vec!["key".to_owned()], next: None });
        kv.delete(place).await.unwrap();
        assert_eq!(kv.get(place).await.unwrap(), None);
    }

    proptest! {
        /// Checked against plain 128-bit arithmetic.
        #[test]
        fn a_sum_is_exact_or_refused(value in any::<i128>(), small in any::<i64>(), delta in any::<i64>()) {
            let increment = Increment { delta: delta.into(), min: i64::MIN.into(), max: i64::MAX.into() };
            for value in [value, small.into()] {
                let exact = value.checked_add(delta.into()).filter(|sum| i64::try_from(*sum).is_ok());
                match sum(Some(value.to_string().as_bytes()), increment) {
                    Incremented::Sum(sum) => prop_assert_eq!(Some(sum), exact),
                    Incremented::Overflow { value: held } => prop_assert!(exact.is_none() && held == value),
                    Incremented::NotANumber => prop_assert!(false, "{value} is a number"),
                }
            }
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..64), delta in any::<u64>()) {
            let _ = sum(Some(&text), Increment { delta: delta.into(), min: 0, max: u64::MAX.into() });
        }
    }
}
