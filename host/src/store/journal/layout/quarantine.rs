//! Quarantine: rows that cannot be read, set aside with the calls and maps that they belong to.
//!
//! A damaged row never keeps a host from starting. It moves to a table of its own, with its place, the reason and the
//! time; its call or map is neither run nor shown from then on, and its other rows stay where they are until `bireme
//! doctor --repair`.

use std::collections::HashMap;
use std::fmt;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::codec::{CodecError, Reader, put_bytes};
use super::key;
use crate::storage::Kind;
use crate::store::Table;

/// Row that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("row {} of the table `{}` cannot be read: {reason}", hex::encode(key), table.name())]
pub(crate) struct DamagedRow {
    pub table: Table,
    pub key: Vec<u8>,
    pub reason: String,
}

/// Call or map to which a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub kind: Kind,
    pub id: [u8; 16],
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Call => "call",
            Kind::Map => "map",
        };
        write!(f, "{kind} `{}`", uuid::Uuid::from_bytes(self.id))
    }
}

/// Row in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuarantinedRow {
    /// None of a row that belongs to no call or map.
    pub owner: Option<Owner>,
    /// Name of the table that it was in.
    pub table: String,
    pub key: Vec<u8>,
    pub at_ms: u64,
    pub reason: String,
    pub row: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    at_ms: u64,
    reason: String,
}

const NO_OWNER: u8 = b'-';

impl QuarantinedRow {
    /// Makes one of a row as it was when it was set aside.
    pub(crate) fn of(owner: Option<Owner>, damaged: &DamagedRow, at_ms: u64, row: Vec<u8>) -> Self {
        let DamagedRow { table, key, reason } = damaged.clone();
        Self { owner, table: table.name().to_owned(), key, at_ms, reason, row }
    }

    /// Returns its key and value in the table of the quarantine.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (tag, id) = match self.owner {
            Some(Owner { kind, id }) => (key::tag(kind)[0], id),
            None => (NO_OWNER, [0; 16]),
        };
        let key = [&[tag], id.as_slice(), self.table.as_bytes(), b"\0", &self.key].concat();
        let facts = Facts { at_ms: self.at_ms, reason: self.reason.clone() };
        let mut value = Vec::new();
        put_bytes(&mut value, &serde_json::to_vec(&facts).expect("text and a number"));
        value.extend_from_slice(&self.row);
        (key, value)
    }

    pub(crate) fn decode(key: &[u8], value: Vec<u8>) -> Result<Self, CodecError> {
        let mut reader = Reader::new(value);
        let facts: Facts = serde_json::from_slice(&reader.bytes()?).map_err(|_| CodecError("its facts are no JSON"))?;
        let place = key.get(17..).ok_or(CodecError("its key is short"))?;
        let name = place.iter().position(|byte| *byte == 0).ok_or(CodecError("its key names no table"))?;
        let table = std::str::from_utf8(&place[..name]).map_err(|_| CodecError("its key names no table"))?;
        Ok(Self {
            owner: owner_of(key),
            table: table.to_owned(),
            key: place[name + 1..].to_vec(),
            at_ms: facts.at_ms,
            reason: facts.reason,
            row: reader.rest().to_vec(),
        })
    }
}

/// Returns the owner in a key of the quarantine.
fn owner_of(key: &[u8]) -> Option<Owner> {
    let kind = match key.first()? {
        b'c' => Kind::Call,
        b'm' => Kind::Map,
        _ => return None,
    };
    Some(Owner { kind, id: key.get(1..17)?.try_into().ok()? })
}

/// Owners in quarantine, in memory: most hosts have none, and pay a look at an empty map.
#[derive(Default)]
pub(crate) struct Quarantine(RwLock<Contents>);

#[derive(Default)]
struct Contents {
    owners: HashMap<Owner, ()>,
    rows: usize,
}

impl Quarantine {
    /// Puts the contents of the table in, by their keys.
    pub(crate) fn load(&self, keys: &[Vec<u8>]) {
        let owners = keys.iter().filter_map(|key| owner_of(key)).map(|owner| (owner, ())).collect();
        *self.0.write() = Contents { owners, rows: keys.len() };
    }

    pub(crate) fn add(&self, owner: Option<Owner>) {
        let mut contents = self.0.write();
        contents.owners.extend(owner.map(|owner| (owner, ())));
        contents.rows += 1;
    }

    pub(crate) fn contains(&self, owner: Owner) -> bool {
        let contents = self.0.read();
        !contents.owners.is_empty() && contents.owners.contains_key(&owner)
    }

    /// Returns how many rows are in quarantine.
    pub(crate) fn rows(&self) -> usize {
        self.0.read().rows
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// These rows are in the data directories of users (`docs/decisions/store-format.md`).
    #[test]
    fn a_row_is_in_quarantine_as_it_was() {
        let owner = Some(Owner { kind: Kind::Map, id: *b"an id of one map" });
        let (table, key) = ("maps".to_owned(), b"an id of one maph".to_vec());
        let mut row =
            QuarantinedRow { owner, table, key, at_ms: 1_000, reason: "no JSON".to_owned(), row: vec![0, 255, b'x'] };
        let (key, value) = row.encode();
        expect![[r#"man id of one mapmaps\x00an id of one maph"#]].assert_eq(&key.escape_ascii().to_string());
        expect![[r#"!{\"at_ms\":1000,\"reason\":\"no JSON\"}\x00\xffx"#]].assert_eq(&value.escape_ascii().to_string());
        assert_eq!(QuarantinedRow::decode(&key, value), Ok(row.clone()));
        row.owner = None;
        let (key, value) = row.encode();
        assert_eq!(QuarantinedRow::decode(&key, value.clone()), Ok(row));
        assert!(QuarantinedRow::decode(&key[..17], value).is_err());
    }
}
