//! Pages of keys and of buckets, over values that expire and those that do not.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Bound;

use super::rows::{EXPIRING, LASTING, VALUE, bucket_prefix, expiry};
use crate::ids::AppName;
use crate::storage::{KeyPage, KeyQuery};
use crate::store::read::{Open, Snapshot};

/// Rows that one page passes, so that values which expired and were not removed yet do not hold up a thread.
const SCAN_ROWS_MAX: usize = 10_000;

/// A key, and whether its value has not expired.
type Found = Result<(Vec<u8>, bool), redb::Error>;

/// Returns a page of keys.
pub(super) fn keys(snapshot: &Snapshot, query: KeyQuery<'_>, now_ms: u64) -> Result<KeyPage, redb::Error> {
    let bucket = bucket_prefix(query.app, query.bucket);
    let prefix = [&bucket, query.prefix.as_bytes()].concat();
    let after = query.after.map(|after| [&bucket, after.as_bytes()].concat()).filter(|after| *after >= prefix);
    let start = after.as_deref().map_or(Bound::Included(prefix.as_slice()), Bound::Excluded);
    let (lasting, expiring) = (snapshot.open(LASTING)?, snapshot.open(EXPIRING)?);
    let mut lasting = rows(&lasting, b"", &prefix, start, None)?.peekable();
    let mut expiring = rows(&expiring, VALUE, &prefix, start, Some(now_ms))?.peekable();

    let mut page = KeyPage::default();
    let (mut bytes, mut last) = (0, None);
    for passed in 0.. {
        let Some((key, is_live)) = next(&mut lasting, &mut expiring)? else { break };
        let key = String::from_utf8_lossy(&key[bucket.len()..]).into_owned();
        let is_over = !page.keys.is_empty() && bytes + key.len() > query.bytes_max;
        if passed == SCAN_ROWS_MAX || page.keys.len() == query.len_max || is_over {
            page.next = last;
            break;
        }
        last = Some(key.clone());
        if is_live {
            bytes += key.len();
            page.keys.push(key);
        }
    }
    Ok(page)
}

/// Returns a page of the names of buckets.
pub(super) fn buckets(
    snapshot: &Snapshot,
    app: &AppName,
    after: Option<&str>,
    len_max: usize,
    now_ms: u64,
) -> Result<KeyPage, redb::Error> {
    let (lasting, expiring) = (snapshot.open(LASTING)?, snapshot.open(EXPIRING)?);
    let prefix = [app.as_str().as_bytes(), b"\0"].concat();
    let mut page = KeyPage::default();
    // A bucket's keys follow its name and a NUL; the next bucket's name is behind all of them.
    let behind = |bucket: &str| [&prefix, bucket.as_bytes(), b"\x01"].concat();
    let mut from = after.map_or_else(|| prefix.clone(), behind);
    loop {
        let start = Bound::Included(from.as_slice());
        let first = [
            first_live(rows(&lasting, b"", &prefix, start, None)?)?,
            first_live(rows(&expiring, VALUE, &prefix, start, Some(now_ms))?)?,
        ];
        let Some(key) = first.into_iter().flatten().min() else { break };
        let name = key[prefix.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        if page.keys.len() == len_max {
            page.next = page.keys.last().cloned();
            break;
        }
        from = behind(&name);
        page.keys.push(name);
    }
    Ok(page)
}

/// Returns the first key whose value has not expired, or the one at which the search ends.
fn first_live(rows: impl Iterator<Item = Found>) -> Result<Option<Vec<u8>>, redb::Error> {
    for (passed, row) in rows.enumerate() {
        let (key, is_live) = row?;
        if is_live || passed == SCAN_ROWS_MAX {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Returns the keys of one table from `start` on that begin with `prefix`, without the `lead` of its rows. Without
/// `now_ms`, no value expires.
fn rows<'a>(
    table: &Open,
    lead: &'a [u8],
    prefix: &'a [u8],
    start: Bound<&[u8]>,
    now_ms: Option<u64>,
) -> Result<impl Iterator<Item = Found> + use<'a>, redb::Error> {
    let start = start.map(|start| [lead, start].concat());
    let range = table.range::<&[u8]>((start.as_ref().map(Vec::as_slice), Bound::Unbounded))?;
    let found = range.map(move |row| {
        let (key, value) = row?;
        let Some(key) = key.value().strip_prefix(lead).filter(|key| key.starts_with(prefix)) else { return Ok(None) };
        Ok(Some((key.to_vec(), now_ms.is_none_or(|now_ms| expiry(value.value()) > now_ms))))
    });
    Ok(found.map_while(Result::transpose))
}

/// Returns the next key of both, which are sorted. Of two values of one key, the one that never expires is the newer.
fn next(
    lasting: &mut Peekable<impl Iterator<Item = Found>>,
    expiring: &mut Peekable<impl Iterator<Item = Found>>,
) -> Result<Option<(Vec<u8>, bool)>, redb::Error> {
    let order = match (lasting.peek(), expiring.peek()) {
        (Some(Ok((one, _))), Some(Ok((other, _)))) => one.cmp(other),
        (None, _) | (_, Some(Err(_))) => Ordering::Greater,
        (Some(_), _) => Ordering::Less,
    };
    if order == Ordering::Equal {
        expiring.next();
    }
    (if order == Ordering::Greater { expiring.next() } else { lasting.next() }).transpose()
}
