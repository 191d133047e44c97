//! Promises of `Apps`.

use super::super::{Action, AppRecord, Pushed, Storage};
use super::Engine;
use super::fixtures::*;

pub(super) fn record(number: u64) -> AppRecord {
    AppRecord {
        number,
        action: Action::Deploy,
        version: version(number as u8),
        digest: "00".repeat(32),
        at_ms: 1_000 * number,
        bytes: 7,
        functions: vec!["f".parse().unwrap()],
        grants: Vec::new(),
        capabilities: Vec::new(),
        added: Vec::new(),
        message: Some(format!("change {number}")),
    }
}

async fn push(storage: &Storage, name: &str, record: &AppRecord, displaced: &[u64]) -> Pushed {
    storage.apps.push(&app(name), record, displaced).await.unwrap()
}

/// Returns the records of one app.
async fn records(storage: &Storage, name: &str) -> Vec<AppRecord> {
    let records = storage.apps.records().await.unwrap();
    records.into_iter().filter(|(of, _)| *of == app(name)).map(|(_, record)| record).collect()
}

pub(crate) async fn an_app_is_pushed_in_order(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(storage.apps.records().await.unwrap(), []);
    for number in 1..=3 {
        assert_eq!(push(&storage, "b", &record(number), &[]).await, Pushed::Kept);
    }
    assert_eq!(push(&storage, "a", &record(1), &[]).await, Pushed::Kept);
    let storage = rejoined(engine, storage).await;
    assert_eq!(records(&storage, "b").await, [record(1), record(2), record(3)]);
    assert_eq!(records(&storage, "a").await, [record(1)]);
}

pub(crate) async fn a_push_behind_another_is_a_conflict(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_eq!(push(&storage, "app", &record(2), &[]).await, Pushed::Conflict { last: 0 });
    push(&storage, "app", &record(1), &[]).await;
    push(&storage, "app", &record(2), &[]).await;
    let other = |number| AppRecord { message: None, ..record(number) };
    for number in [1, 2, 4] {
        assert_eq!(push(&storage, "app", &other(number), &[1]).await, Pushed::Conflict { last: 2 });
    }
    assert_eq!(records(&storage, "app").await, [record(1), record(2)]);
}

pub(crate) async fn displaced_records_go(engine: &impl Engine) {
    let storage = joined(engine).await;
    push(&storage, "app", &record(1), &[]).await;
    push(&storage, "other", &record(1), &[]).await;
    push(&storage, "app", &record(2), &[]).await;
    assert_eq!(push(&storage, "app", &record(3), &[1, 2]).await, Pushed::Kept);
    assert_eq!(records(&storage, "app").await, [record(3)]);
    assert_eq!(records(&storage, "other").await, [record(1)]);
    assert_eq!(push(&storage, "app", &record(4), &[]).await, Pushed::Kept);
}

pub(crate) async fn a_repeated_push_is_kept(engine: &impl Engine) {
    let storage = joined(engine).await;
    for _ in 0..2 {
        assert_eq!(push(&storage, "app", &record(1), &[]).await, Pushed::Kept);
        assert_eq!(records(&storage, "app").await, [record(1)]);
    }
    assert_eq!(push(&storage, "app", &record(2), &[1]).await, Pushed::Kept);
    assert_eq!(push(&storage, "app", &record(2), &[1]).await, Pushed::Kept);
    assert_eq!(records(&storage, "app").await, [record(2)]);
}
