//! A data directory of which one row is damaged: the host starts, everything else goes on, and `doctor` shows and
//! exports the row.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use crate::fixtures::{data_of, fixtures};
use crate::support::{Server, command, finish, fresh_data};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Flips three bytes of the first row whose key `is_it`.
fn flip(data: &Path, table: &str, is_it: impl Fn(&[u8]) -> bool) {
    let db = Database::open(data.join("store.redb")).unwrap();
    let table = Rows::new(Box::leak(table.to_owned().into_boxed_str()));
    let transaction = db.begin_write().unwrap();
    {
        let mut open = transaction.open_table(table).unwrap();
        let found = open.iter().unwrap().map(Result::unwrap).find(|(key, _)| is_it(key.value()));
        let (key, mut value) = found.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).unwrap();
        value.iter_mut().take(3).for_each(|byte| *byte ^= 0xff);
        open.insert(key.as_slice(), value.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

fn quarantined(data: &Path) -> usize {
    let db = Database::open(data.join("store.redb")).unwrap();
    let table = db.begin_read().unwrap().open_table(Rows::new("quarantine")).unwrap();
    table.iter().unwrap().count()
}

fn serve(data: &Path) -> Server {
    Server::try_start(data, &[], &["--keep", "36500d"]).unwrap_or_else(|output| panic!("no server: {output:#?}"))
}

/// Reads all that a host tells of its calls and maps. Returns the ids in its list.
fn read_all(server: &Server) -> BTreeSet<String> {
    let listed = server.get("/api/v1/calls?limit=1000");
    assert_eq!(listed.status, 200, "{listed:#?}");
    let rows = listed.json()["calls"].as_array().unwrap().clone();
    for row in &rows {
        let id = row["id"].as_str().unwrap();
        let paths = match row.get("counts") {
            Some(_) => vec![format!("/api/v1/maps/{id}"), format!("/api/v1/maps/{id}/results")],
            None => vec![format!("/api/v1/calls/{id}")],
        };
        for path in paths {
            let reply = server.get(&path);
            // Of what is in quarantine the host says so; nothing ends it.
            assert!(reply.status < 500 || reply.body.contains("quarantine"), "{path}: {reply:#?}");
        }
    }
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// The fixture's calls and maps but those of a list: schedules add calls of their own.
fn missing(listed: &BTreeSet<String>) -> usize {
    let text = fs::read_to_string(fixtures().join("states-2/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let ids = expected["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap());
    ids.filter(|id| !listed.contains(*id)).count()
}

fn doctor(data: &Path, more: &[&str]) -> (i32, String) {
    let output = finish(command(data, &[&["--json", "doctor"], more].concat()));
    (output.status, output.stdout)
}

#[test]
fn a_damaged_row_of_any_kind_stops_no_start_and_can_be_taken_out() {
    let whole = data_of("states-2");
    let mut server = serve(whole.path());
    assert_eq!(missing(&read_all(&server)), 0);
    assert_eq!(server.stop(), 0);
    let ends_with = |byte: u8| move |key: &[u8]| key.last() == Some(&byte);
    let any = |_: &[u8]| true;
    type IsRow = Box<dyn Fn(&[u8]) -> bool>;
    let damages: [(&str, IsRow); 9] = [
        ("calls", Box::new(any)),
        ("call-inputs", Box::new(any)),
        ("call-outputs", Box::new(any)),
        ("maps", Box::new(ends_with(b'h'))),
        ("maps", Box::new(ends_with(b'p'))),
        ("map-inputs", Box::new(any)),
        ("map-pending", Box::new(any)),
        ("map-results", Box::new(any)),
        ("schedules", Box::new(any)),
    ];
    for (table, is_it) in damages {
        let data = data_of("states-2");
        flip(data.path(), table, is_it);
        let mut server = serve(data.path());
        assert!(missing(&read_all(&server)) <= 1, "{table}");
        assert!(missing(&read_all(&server)) <= 1, "{table}: once more, with the row set aside");
        assert_eq!(doctor(data.path(), &["--repair", "--export", "/nonexistent"]).0, 1, "a host has the directory");
        assert_eq!(server.stop(), 0, "{table}");
        let rows = quarantined(data.path());
        assert!(rows <= 1, "{table}: {rows}");

        let export = fresh_data();
        let (status, said) = doctor(data.path(), &["--repair", "--export", export.path().to_str().unwrap()]);
        assert_eq!(status, 0, "{said}");
        let file = fs::read_to_string(export.path().join("quarantine.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.is_empty(), rows == 0, "{table}");
        if let Some(first) = lines.first() {
            assert_eq!(first["table"], table);
        }
        assert_eq!(quarantined(data.path()), 0);
        let mut server = serve(data.path());
        assert!(missing(&read_all(&server)) <= 1, "{table}");
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn doctor_shows_what_is_in_quarantine_and_changes_nothing() {
    let data = data_of("states-2");
    flip(data.path(), "maps", |key| key.last() == Some(&b'h'));
    let mut server = serve(data.path());
    read_all(&server);
    assert_eq!(server.stop(), 0);
    let before = fs::read(data.path().join("store.redb")).unwrap();
    let (_, said) = doctor(data.path(), &[]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let journal = checks.iter().find(|check| check["name"] == "journal").unwrap();
    assert_eq!(journal["status"], "warning");
    assert!(journal["detail"].as_str().unwrap().contains("map `"), "{journal}");
    assert!(journal["fix"].as_str().unwrap().contains("--repair --export"), "{journal}");
    assert!(fs::read(data.path().join("store.redb")).unwrap() == before, "it only looks");
}
