//! Keys of the journal's rows. Ids come first and are sorted by time, so what is new is at the end of each table.

use sha2::{Digest, Sha256};

use crate::ids::{AppName, CallId, FunctionId, MapId};
use crate::storage::Kind;

/// Segments of a chunk, from 1; 0 is the one that takes the place of all.
pub(crate) const WHOLE_SEGMENT: u32 = 0;

/// Rows of `Table::Maps`: one for what its caller does, one for what its calls do.
pub(crate) fn map_header(map: MapId) -> Vec<u8> {
    [map.as_bytes().as_slice(), b"h"].concat()
}

pub(crate) fn map_progress(map: MapId) -> Vec<u8> {
    [map.as_bytes().as_slice(), b"p"].concat()
}

/// Key of a chunk's inputs and of its lease.
pub(crate) fn chunk(map: MapId, first: u64) -> Vec<u8> {
    [map.as_bytes().as_slice(), &first.to_be_bytes()].concat()
}

/// Returns where the chunk of such a key begins.
pub(crate) fn chunk_first(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(16..24)?.try_into().ok()?))
}

pub(crate) fn segment(map: MapId, first: u64, number: u32) -> Vec<u8> {
    [map.as_bytes().as_slice(), &first.to_be_bytes(), &number.to_be_bytes()].concat()
}

pub(crate) fn segment_number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(24..28)?.try_into().ok()?))
}

/// Calls and maps that have not ended: what a host finds when it starts.
pub(crate) const OPEN_CALLS: &[u8] = b"oc";
pub(crate) const OPEN_MAPS: &[u8] = b"om";

pub(crate) fn open_call(call: CallId) -> Vec<u8> {
    [OPEN_CALLS, call.as_bytes()].concat()
}

pub(crate) fn open_map(map: MapId) -> Vec<u8> {
    [OPEN_MAPS, map.as_bytes()].concat()
}

/// Calls (`c`) and maps (`m`) of a function, in the order of their ids.
pub(crate) fn of_function(function: &FunctionId, kind: Kind) -> Vec<u8> {
    let mut key = of_app(&function.app, kind);
    key.extend_from_slice(function.function.as_str().as_bytes());
    key.push(0);
    key
}

pub(crate) fn of_app(app: &AppName, kind: Kind) -> Vec<u8> {
    // Names hold no NUL, so that none begins another.
    [b"f", tag(kind), app.as_str().as_bytes(), b"\0"].concat()
}

/// Returns the byte of a kind in keys.
pub(crate) fn tag(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Call => b"c",
        Kind::Map => b"m",
    }
}

/// What has ended, by app and time: what retention deletes first comes first.
pub(crate) fn ended(app: &AppName, at_ms: u64, kind: Kind, id: [u8; 16]) -> Vec<u8> {
    [ended_of(app).as_slice(), &at_ms.to_be_bytes(), tag(kind), &id].concat()
}

pub(crate) fn ended_of(app: &AppName) -> Vec<u8> {
    [b"e", app.as_str().as_bytes(), b"\0"].concat()
}

/// Marks of calls and maps that are being deleted.
pub(crate) const EXPIRING: &[u8] = b"x";

pub(crate) fn expiring(kind: Kind, id: [u8; 16]) -> Vec<u8> {
    [EXPIRING, tag(kind), &id].concat()
}

/// Returns what the mark of such a key is on.
pub(crate) fn expiring_kind(key: &[u8]) -> Option<Kind> {
    match key.get(1)? {
        b'c' => Some(Kind::Call),
        b'm' => Some(Kind::Map),
        _ => None,
    }
}

/// What a call has spawned.
pub(crate) fn child(parent: CallId, kind: Kind, id: [u8; 16]) -> Vec<u8> {
    [children(parent).as_slice(), tag(kind), &id].concat()
}

pub(crate) fn children(parent: CallId) -> Vec<u8> {
    [b"c", parent.as_bytes().as_slice()].concat()
}

/// An idempotency key of a function. Its digest, because a client chooses its length.
pub(crate) fn idempotency(function: &FunctionId, key: &str) -> Vec<u8> {
    let digest = Sha256::new().chain_update(function.to_string()).chain_update([0]).chain_update(key).finalize();
    [b"i", digest.as_slice()].concat()
}

/// Who refers to a file.
pub(crate) fn file(digest: &[u8; 32], owner: &[u8]) -> Vec<u8> {
    [files(digest).as_slice(), owner].concat()
}

pub(crate) fn files(digest: &[u8; 32]) -> Vec<u8> {
    [b"r", digest.as_slice()].concat()
}

/// The files that a call or map refers to.
pub(crate) fn file_of(owner: &[u8; 16], digest: &[u8; 32]) -> Vec<u8> {
    [files_of(owner).as_slice(), digest].concat()
}

pub(crate) fn files_of(owner: &[u8; 16]) -> Vec<u8> {
    [b"R", owner.as_slice()].concat()
}

/// Returns the digest that the key of a reference ends with.
pub(crate) fn digest_of(key: &[u8]) -> Option<[u8; 32]> {
    key.get(key.len().checked_sub(32)?..)?.try_into().ok()
}

/// State of a function's schedule. Its runs follow, in their order.
pub(crate) fn schedule(function: &FunctionId) -> Vec<u8> {
    // Names hold no NUL, so that none begins another.
    [function.app.as_str().as_bytes(), b"\0", function.function.as_str().as_bytes(), b"\0"].concat()
}

pub(crate) fn schedule_run(function: &FunctionId, number: u64) -> Vec<u8> {
    [schedule(function).as_slice(), &number.to_be_bytes()].concat()
}

/// Returns the function of a schedule's row and, of a run, its number.
pub(crate) fn read_schedule(key: &[u8]) -> Option<(FunctionId, Option<u64>)> {
    let mut parts = key.splitn(3, |byte| *byte == 0);
    let mut name = || std::str::from_utf8(parts.next()?).ok();
    let (app, function) = (name()?.parse().ok()?, name()?.parse().ok()?);
    let number = match parts.next()? {
        [] => None,
        number => Some(u64::from_be_bytes(number.try_into().ok()?)),
    };
    Some((FunctionId { app, function }, number))
}

/// Returns the last 16 bytes of a key, the id that most end with.
pub(crate) fn id_of(key: &[u8]) -> Option<[u8; 16]> {
    key.get(key.len().checked_sub(16)?..)?.try_into().ok()
}

/// Returns the first key that does not begin with `prefix`. No prefix here is all ones.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_prefix_lie_before_what_comes_after_it() {
        assert_eq!(after(b"ab"), b"ac");
        assert_eq!(after(&[1, 255, 255]), [2]);
        let map = MapId::generate();
        let (low, high) = (chunk(map, 0), chunk(map, u64::MAX));
        assert!(low < high && high < after(map.as_bytes()));
        assert_eq!(chunk_first(&high), Some(u64::MAX));
        assert_eq!(segment_number(&segment(map, 3, 9)), Some(9));
    }

    #[test]
    fn runs_of_one_function_are_in_order_and_apart_from_those_of_others() {
        let id = |function: &str| FunctionId { app: "a".parse().unwrap(), function: function.parse().unwrap() };
        let (f, fg) = (id("f"), id("fg"));
        let mut keys =
            [schedule_run(&fg, 1), schedule_run(&f, 256), schedule(&fg), schedule_run(&f, 255), schedule(&f)];
        keys.sort();
        let sorted = [schedule(&f), schedule_run(&f, 255), schedule_run(&f, 256), schedule(&fg), schedule_run(&fg, 1)];
        assert_eq!(keys, sorted);
        assert_eq!(read_schedule(&schedule_run(&f, 256)), Some((f.clone(), Some(256))));
        assert_eq!(read_schedule(&schedule(&f)), Some((f, None)));
        assert_eq!(read_schedule(b"a\0f"), None);
        assert_eq!(read_schedule(b"a\0f\x00123"), None);
    }
}
