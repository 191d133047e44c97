//! A full disk, and one whose fsync fails, at every operation at which that can happen.

use std::time::Duration;

use super::*;
use crate::limits::{STORE_FREE_BYTES_MIN, STORE_RESERVE_BYTES_MIN};
use crate::storage::ErrorKind;
use crate::store::{Op, StoreDir, StoreError, Table, Write};

/// A write that makes the file grow now and then.
fn put(i: u64) -> Vec<Op> {
    let key = format!("k{i:03}").into_bytes();
    vec![Op::Put { table: Table::KeyValue, key, value: vec![i as u8; 40_000] }]
}

fn holds(dir: &StoreDir, keys: &[u64]) {
    let found = dir.store().unwrap().keys(Table::KeyValue, b"k", None, usize::MAX).unwrap();
    let expected: Vec<Vec<u8>> = keys.iter().map(|i| format!("k{i:03}").into_bytes()).collect();
    assert_eq!(found, expected);
}

/// Fills the disk at the `nth` operation of a run of writes. Returns whether that was met.
async fn full_at(nth: u64, full: Full) -> bool {
    let disk = Disk::new(nth);
    let dir = StoreDir::simulated(&disk).unwrap();
    let store = dir.store().unwrap();
    let mut kept = Vec::new();
    for i in 0..5 {
        store.write(put(i)).await.unwrap();
        kept.push(i);
    }
    disk.fill_in(nth, full);
    let mut refused = 0;
    for i in 5..60 {
        match store.submit(Write::Essential, put(i)).await {
            Ok(()) => kept.push(i),
            Err(StoreError::Full { .. }) => refused += 1,
            Err(error) => panic!("a full disk at operation {nth} is no {error:?}"),
        }
        if refused == 3 {
            break;
        }
    }
    if refused == 0 {
        return false;
    }
    if full == Full::Growth {
        // What is there can still be read.
        holds(&dir, &kept);
    }
    disk.set_full(None);
    store.write(put(90)).await.unwrap();
    kept.push(90);
    holds(&dir, &kept);
    drop(dir);
    disk.cut_power();
    disk.reboot();
    holds(&StoreDir::simulated(&disk).unwrap(), &kept);
    true
}

#[tokio::test]
async fn a_full_disk_costs_the_writes_that_met_it_and_service_resumes_by_itself() {
    let mut met = 0;
    for nth in 1..60 {
        met += u32::from(full_at(nth, Full::Growth).await);
        met += u32::from(full_at(nth, Full::Everything).await);
    }
    assert!(met > 100, "only {met} of 118 disks were found full");
}

/// Returns whether the operation was a sync.
async fn sync_fails_at(nth: u64) -> bool {
    let disk = Disk::new(nth);
    let dir = StoreDir::simulated(&disk).unwrap();
    let store = dir.store().unwrap();
    store.write(put(0)).await.unwrap();
    let mut kept = vec![0];
    disk.fail_sync_in(nth);
    let mut failed = None;
    for i in 1..20 {
        if let Err(error) = store.write(put(i)).await {
            assert!(matches!(error, StoreError::Poisoned { .. }), "{error:?}");
            failed = Some(i);
            break;
        }
        kept.push(i);
    }
    let Some(failed) = failed else { return false };
    // Whoever watches is told, though the store was opened before.
    let reason = tokio::time::timeout(Duration::from_secs(60), dir.failed()).await.unwrap();
    assert!(reason.kind() == ErrorKind::Unknown && std::error::Error::source(&reason).is_some(), "{reason:?}");
    // Nothing touches the disk any more, and above all no second sync.
    let ops = disk.ops();
    assert!(matches!(store.write(put(70)).await, Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.submit(Write::Essential, put(71)).await, Err(StoreError::Poisoned { .. })));
    assert!(matches!(dir.files().unwrap().keep(Write::Essential, b"x"), Err(StoreError::Poisoned { .. })));
    // What was read before may be read from memory.
    let read = store.get(Table::KeyValue, b"k000");
    assert!(matches!(read, Ok(Some(_)) | Err(StoreError::Poisoned { .. })), "{read:?}");
    drop(dir);
    assert_eq!(disk.ops(), ops, "closing does not write either");
    disk.cut_power();
    disk.reboot();
    let dir = StoreDir::simulated(&disk).unwrap();
    // The one under way may have been kept.
    if dir.store().unwrap().contains(Table::KeyValue, format!("k{failed:03}").as_bytes()).unwrap() {
        kept.push(failed);
    }
    holds(&dir, &kept);
    true
}

#[tokio::test]
async fn an_fsync_that_failed_is_never_tried_again() {
    let mut met = 0;
    for nth in 1..120 {
        met += u32::from(sync_fails_at(nth).await);
    }
    assert!(met >= 12, "only {met} of 119 operations were syncs");
}

#[tokio::test]
async fn under_the_floor_new_work_is_refused_before_the_file_is_touched() {
    let disk = Disk::new(0);
    let dir = StoreDir::simulated(&disk).unwrap();
    let (store, files) = (dir.store().unwrap(), dir.files().unwrap());
    disk.set_free_bytes(STORE_FREE_BYTES_MIN - 1);
    // The first to be refused has the space within the file measured.
    let refused = store.write(put(0)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full { free_mib: Some(63) }), "{refused:?}");
    let ops = disk.ops();
    assert!(matches!(store.write(put(0)).await, Err(StoreError::Full { .. })));
    assert!(matches!(files.keep(Write::New, b"new"), Err(StoreError::Full { .. })));
    assert_eq!(disk.ops(), ops);
    // Results of running work use the reserve, down to its own floor.
    store.submit(Write::Essential, put(1)).await.unwrap();
    files.keep(Write::Essential, b"result").unwrap();
    disk.set_free_bytes(STORE_RESERVE_BYTES_MIN - 1);
    assert!(matches!(store.submit(Write::Essential, put(2)).await, Err(StoreError::Full { .. })));
    assert!(matches!(files.keep(Write::Essential, b"other"), Err(StoreError::Full { .. })));
    // What makes room is refused by nothing but the disk itself.
    disk.set_free_bytes(0);
    store.submit(Write::Relief, vec![Op::Delete { table: Table::KeyValue, key: b"gone".to_vec() }]).await.unwrap();
    disk.set_free_bytes(STORE_FREE_BYTES_MIN);
    store.write(put(3)).await.unwrap();
    holds(&dir, &[1, 3]);
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file() {
    for nth in 1..12 {
        let disk = Disk::new(nth);
        let dir = StoreDir::simulated(&disk).unwrap();
        let files = dir.files().unwrap();
        let first = files.keep(Write::New, b"first").unwrap();
        disk.fill_in(nth, Full::Growth);
        let large = vec![1; 100_000];
        if let Err(error) = files.keep(Write::New, &large) {
            assert!(error.is_full(), "{error:?}");
            assert_eq!(files.digests().unwrap(), [first]);
            assert!(Tree::list(&disk, Path::new("results/unfinished")).unwrap().is_empty());
        }
        disk.set_full(None);
        let digest = files.keep(Write::New, &large).unwrap();
        assert_eq!(files.get(&digest).unwrap(), large);
    }
}

#[test]
fn a_file_whose_sync_failed_stops_the_store() {
    let mut met = 0;
    for nth in 1..12 {
        let disk = Disk::new(nth);
        let dir = StoreDir::simulated(&disk).unwrap();
        disk.fail_sync_in(nth);
        let files = dir.files().unwrap();
        if let Err(error) = files.keep(Write::New, b"first") {
            assert!(matches!(error, StoreError::Poisoned { .. }), "{error:?}");
            assert!(matches!(files.keep(Write::New, b"first"), Err(StoreError::Poisoned { .. })));
            met += 1;
        }
    }
    // The file, and the three directories that lead to it.
    assert_eq!(met, 4);
}

#[tokio::test]
async fn a_database_that_has_a_newer_format_or_is_none_is_refused_with_what_to_do() {
    let disk = Disk::new(0);
    let dir = StoreDir::simulated(&disk).unwrap();
    dir.store().unwrap().write(put(0)).await.unwrap();
    drop(dir);
    disk.edit_database(|db| crate::store::format::set_number(db, 7));
    let refused = StoreDir::simulated(&disk).err().unwrap();
    assert!(matches!(refused, StoreError::NewerFormat { found: 7, known: 4, .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("format 7") && text.contains("up to 4") && text.contains("does not go back to an older bireme"),
        "{text}"
    );
    disk.edit_database(|db| crate::store::format::set_number(db, 4));
    holds(&StoreDir::simulated(&disk).unwrap(), &[0]);

    Tree::write(&disk, Path::new(DATABASE), b"-- a SQL dump, say, of some length").unwrap();
    let refused = StoreDir::simulated(&disk).err().unwrap();
    assert!(matches!(refused, StoreError::NotADatabase { .. }), "{refused:?}");
    assert!(refused.to_string().contains("--data DIR"), "{refused}");
    let kept = Tree::read(&disk, Path::new(DATABASE)).unwrap();
    assert!(kept.starts_with(b"-- a SQL dump"), "what is somebody else's stays as it is");
}
