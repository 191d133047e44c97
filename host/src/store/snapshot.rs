//! Rows as text and back, for snapshots of what is on disk.
//!
//! Printable ASCII stands for itself, `\xNN` for any other byte and `\\` for a backslash. A row that is too long for a
//! line goes on in the next, indented.

use std::fmt::Write as _;

use super::{Op, Store, Table};

/// Bytes of a row's text in one line.
const LINE_LEN: usize = 100;
/// Between a key and its value. No byte of either is written so.
const ARROW: &str = " → ";
const INDENT: &str = "    ";

/// Returns every row of a store, by table, but for those that other rows determine.
pub(crate) fn dump(store: &Store) -> String {
    let mut text = String::new();
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Usage) {
        let entries = store.entries(table).unwrap();
        if !entries.is_empty() {
            writeln!(text, "[{}]", table.name()).unwrap();
        }
        for (key, value) in entries {
            let row = format!("{}{ARROW}{}", escape(&key), escape(&value));
            let (mut rest, mut indent) = (row.as_str(), "");
            while !rest.is_empty() {
                let (line, behind) = rest.split_at(cut(rest));
                // A space at the end of a line would be lost on an editor.
                writeln!(text, "{indent}{line}|").unwrap();
                (rest, indent) = (behind, INDENT);
            }
        }
    }
    text
}

/// Returns where a line ends: between two fields of JSON, if it can.
fn cut(row: &str) -> usize {
    if row.len() <= LINE_LEN {
        return row.len();
    }
    let line = &row[..row.floor_char_boundary(LINE_LEN)];
    line.rfind(",\"").map_or(line.len(), |comma| comma + 1)
}

/// Puts the rows of such a text into a store.
pub(crate) async fn fill(store: &Store, text: &str) {
    let mut table = None;
    let mut rows: Vec<(Table, String)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = Table::ALL.into_iter().find(|table| table.name() == name);
            assert!(table.is_some(), "no table `{name}`");
            continue;
        }
        let part = line.strip_suffix('|').unwrap();
        match (part.strip_prefix(INDENT), rows.last_mut()) {
            (Some(part), Some((_, row))) => row.push_str(part),
            _ => rows.push((table.unwrap(), part.to_owned())),
        }
    }
    let put = |(table, row): (Table, String)| {
        let (key, value) = row.split_once(ARROW).unwrap();
        Op::Put { table, key: unescape(key), value: unescape(value) }
    };
    store.write(rows.into_iter().map(put).collect()).await.unwrap();
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}").unwrap(),
        }
        text
    })
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ if rest.next() == Some(b'\\') => b'\\',
            _ => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
        });
    }
    bytes
}

#[tokio::test]
async fn rows_are_text_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Store::open(&dir.path().join("one")).unwrap(), Store::open(&dir.path().join("other")).unwrap());
    let put = |key: &[u8], value: Vec<u8>| Op::Put { table: Table::Calls, key: key.to_vec(), value };
    let all: Vec<u8> = (0..=255).collect();
    one.write(vec![put(b"", vec![]), put(b"\\x00 |", b" ".repeat(300)), put(&all, all.clone())]).await.unwrap();
    fill(&other, &dump(&one)).await;
    assert_eq!(other.entries(Table::Calls).unwrap(), one.entries(Table::Calls).unwrap());
}
