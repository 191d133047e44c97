//! Ids in paths: whole, or their first digits where one call or map has them.

use super::problem::Problem;
use super::query::bad_query;
use crate::codes::Code;
use crate::dispatch::Durable;
use crate::ids::{CallId, IdError, MapId};
use crate::storage::{Kind, ListEntry, Query};

/// Fewest digits of a prefix. Fewer name a span of time, and no call.
const PREFIX_LEN_MIN: usize = 8;
/// Rows that the search for a prefix reads.
const ROWS_MAX: usize = 1_000;

/// Returns the id of the call that `text` names.
pub(crate) async fn call(durable: &Durable, text: &str) -> Result<CallId, Problem> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(error) => find(durable, Kind::Call, text, error).await.map(CallId::from_bytes),
    }
}

/// Returns the id of the map that `text` names.
pub(crate) async fn map(durable: &Durable, text: &str) -> Result<MapId, Problem> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(error) => find(durable, Kind::Map, text, error).await.map(MapId::from_bytes),
    }
}

async fn find(durable: &Durable, kind: Kind, text: &str, error: IdError) -> Result<[u8; 16], Problem> {
    let (first, last) = span(text).ok_or_else(|| bad_query(error.to_string()))?;
    let mut found = Vec::new();
    // One more than the last: the list begins before it.
    let before = u128::from_be_bytes(last).checked_add(1).map(u128::to_be_bytes);
    let mut query = Query { before, limit: 64, ..Query::default() };
    let (mut rows, mut is_whole) = (0, false);
    'pages: while rows < ROWS_MAX {
        rows += query.limit;
        let (entries, more) = durable.list(query.clone()).await?;
        for entry in entries {
            let (entry_kind, id) = match entry {
                ListEntry::Call(record) => (Kind::Call, *record.id.as_bytes()),
                ListEntry::Map(record) => (Kind::Map, *record.header.id.as_bytes()),
            };
            if id < first {
                is_whole = true;
                break 'pages;
            }
            if entry_kind == kind {
                found.push(id);
            }
        }
        let Some(more) = more.filter(|more| *more >= first && found.len() < 2) else {
            is_whole = true;
            break;
        };
        query.before = Some(more);
    }
    let (name, code) = match kind {
        Kind::Call => ("call", Code::UnknownCall),
        Kind::Map => ("map", Code::UnknownMap),
    };
    match found[..] {
        [id] if is_whole => Ok(id),
        _ if !is_whole => {
            let detail = format!("too many calls and maps have an id that begins with `{text}`; give more of it");
            Err(bad_query(detail))
        }
        [] => Err(Problem::new(code, format!("no {name} has an id that begins with `{text}`"))),
        _ => Err(bad_query(format!("several {name}s have an id that begins with `{text}`; give more of it"))),
    }
}

/// Returns the first and the last id with these first digits.
fn span(text: &str) -> Option<([u8; 16], [u8; 16])> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if !(PREFIX_LEN_MIN..32).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let bits = 4 * (32 - digits.len());
    let first = u128::from_str_radix(&digits, 16).ok()? << bits;
    let last = first | ((1 << bits) - 1);
    Some((first.to_be_bytes(), last.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_the_ids_that_begin_with_it() {
        let (first, last) = span("01a20e64-a1").unwrap();
        assert_eq!((first[..5].to_vec(), first[5]), (vec![0x01, 0xa2, 0x0e, 0x64, 0xa1], 0));
        assert_eq!((last[..5].to_vec(), last[5]), (vec![0x01, 0xa2, 0x0e, 0x64, 0xa1], 0xff));
        let id = "01a20e64-a124-707d-9175-a92a41304ff";
        assert_eq!(span(id).map(|(first, last)| last[15] - first[15]), Some(15));
        for text in ["", "01a20e6", "01a20e64z", "01a20e64-a124-707d-9175-a92a41304ffb", "é1a20e64"] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
