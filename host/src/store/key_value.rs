//! Key-value data: a row for each value, the keys of one bucket adjacent.
//!
//! Read-modify-write operations are decided by the writer inside its transaction, after every earlier write: nothing
//! falls between the comparison and the write, no lock is held during disk I/O, and operations that wait together share
//! a commit.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::{Decider, Op, StoreDir, StoreError, Table};
use crate::ids::AppName;
use crate::storage::{Answer, Increment, Incremented, KeyValue, Place};

/// Bytes of the longest text that is read as a number: every 128-bit integer fits.
const NUMBER_LEN_MAX: usize = 40;

const TABLE: Table = Table::KeyValue;

/// Key-value data of a data directory, opened at the first use.
pub(super) struct StoreKeyValue {
    dir: Arc<StoreDir>,
}

impl StoreKeyValue {
    pub(super) fn new(dir: Arc<StoreDir>) -> Self {
        Self { dir }
    }

    async fn write(&self, op: Op) -> Result<(), StoreError> {
        self.dir.store()?.write(vec![op]).await
    }
}

/// Returns `app \0 bucket \0`: names hold no NUL, so no prefix is the start of another.
fn prefix(app: &AppName, bucket: &str) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0", bucket.as_bytes(), b"\0"].concat()
}

fn key(place: Place<'_>) -> Vec<u8> {
    [prefix(place.app, place.bucket).as_slice(), place.key.as_bytes()].concat()
}

// Reads block for the microseconds of a page in memory: a thread of its own would cost more.
impl KeyValue for StoreKeyValue {
    fn get<'a>(&'a self, place: Place<'a>) -> Answer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.dir.store()?.get(TABLE, &key(place))?.map(Bytes::from)) })
    }

    fn exists<'a>(&'a self, place: Place<'a>) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.dir.store()?.contains(TABLE, &key(place))?) })
    }

    fn set<'a>(&'a self, place: Place<'a>, value: Bytes) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.write(Op::Put { table: TABLE, key: key(place), value: value.into() }).await?) })
    }

    fn delete<'a>(&'a self, place: Place<'a>) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.write(Op::Delete { table: TABLE, key: key(place) }).await?) })
    }

    fn keys<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let prefix = prefix(app, bucket);
            let after = after.map(|after| [prefix.as_slice(), after.as_bytes()].concat());
            let keys = self.dir.store()?.keys(TABLE, &prefix, after.as_deref(), limit)?;
            Ok(keys.iter().map(|key| String::from_utf8_lossy(&key[prefix.len()..]).into_owned()).collect())
        })
    }

    fn swap<'a>(&'a self, place: Place<'a>, expected: Option<Bytes>, value: Bytes) -> Answer<'a, bool> {
        Box::pin(async move {
            let key = key(place);
            let bytes = key.len() + expected.as_ref().map_or(0, Bytes::len) + value.len();
            // Made here: the writer copies no value.
            let put = [Op::Put { table: TABLE, key: key.clone(), value: value.into() }];
            let (decider, is_swapped) = Decider::new(bytes, (key, expected, put), |(key, expected, put), view| {
                let is_expected = view.get(TABLE, key)?.as_deref() == expected.as_deref();
                Ok((if is_expected { vec![Cow::Borrowed(&put[..])] } else { Vec::new() }, is_expected))
            });
            self.write(Op::Decide(decider)).await?;
            Ok(is_swapped.take())
        })
    }

    fn increment<'a>(&'a self, place: Place<'a>, increment: Increment) -> Answer<'a, Incremented> {
        Box::pin(async move {
            let add = move |present: Option<&[u8]>| match sum(present, increment) {
                Incremented::Sum(sum) => (Some(sum.to_string().into()), Incremented::Sum(sum)),
                refused => (None, refused),
            };
            Ok(self.dir.store()?.update(TABLE, key(place), NUMBER_LEN_MAX, add).await?)
        })
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

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[tokio::test]
    async fn values_are_on_disk_as_they_were() {
        let open = || {
            let dir = tempfile::tempdir().unwrap();
            let kv = StoreKeyValue::new(Arc::new(StoreDir::new(dir.path())));
            (dir, kv)
        };
        let ((_one, written), (_other, read)) = (open(), open());
        let app = AppName::new("app").unwrap();
        let place = |key| Place { app: &app, bucket: "bucket", key };
        let values = [("", &b"empty"[..]), ("key", b"\0\xff"), ("k\u{e4}y\0/", b"")];
        for (key, value) in values {
            written.set(place(key), value.into()).await.unwrap();
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
