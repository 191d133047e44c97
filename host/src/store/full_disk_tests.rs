//! The largest writes that make room, on a small file system without a free byte.
//!
//! Each test runs again within a mount namespace of its own; where the kernel lets nobody make one, it is skipped,
//! which it says.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::limits::{JOURNAL_STEP_ROWS_MAX, KV_BATCH_KEYS_MAX, KV_VALUE_BYTES_MAX, STORE_SPARE_BYTES};

const MEBIBYTES: u64 = 500;

/// Runs the test `name` with a file system of its own in the place of the temporary directory. Returns whether this is
/// that run.
fn is_on_small_disk(name: &str) -> bool {
    const VARIABLE: &str = "TEST_SMALL_DISK";
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let mount = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={MEBIBYTES}m tmpfs \"$TMPDIR\" || exit 125\nexec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, "1")
        .env("TMPDIR", mount.path())
        .output();
    match output {
        Ok(output) if output.status.code() != Some(125) && !output.stderr.starts_with(b"unshare:") => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
        }
        _ => {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = std::io::stderr().write_all(b"skipped: this user may mount no file system in a namespace\n");
        }
    }
    false
}

fn key(n: usize) -> Vec<u8> {
    format!("app\0b\0{n:06}").into_bytes()
}

fn fill(dir: &Path) {
    let mut filler = std::fs::File::options().append(true).create(true).open(dir.join("filler")).unwrap();
    for bytes in [1 << 20, 4_096, 1] {
        while filler.write_all(&vec![1; bytes]).is_ok() {}
    }
    assert_eq!(durable::free_bytes(dir).unwrap(), 0);
}

#[tokio::test]
async fn the_reserve_is_enough_for_the_largest_write_that_makes_room() {
    if !is_on_small_disk("store::full_disk_tests::the_reserve_is_enough_for_the_largest_write_that_makes_room") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = StoreDir::new(dir.path());
    data.open_for_host().unwrap();
    let store = data.store().unwrap();
    let put = |n, bytes| Op::Put { table: Table::KeyValue, key: key(n), value: vec![7; bytes] };
    let delete = |n| Op::Delete { table: Table::KeyValue, key: key(n) };
    // Small values, far enough from each other that each has a page of its own, and between some of them the largest.
    let small = 3 * KV_BATCH_KEYS_MAX;
    for step in (0..small).collect::<Vec<_>>().chunks(500) {
        store.write(step.iter().map(|n| put(*n * 10, 3_000)).collect()).await.unwrap();
    }
    for n in 0..12 {
        store.write(vec![put(n * 1_000 + 5, KV_VALUE_BYTES_MAX)]).await.unwrap();
        store.write(vec![put(n * 1_000 + 6, 10)]).await.unwrap();
    }
    fill(dir.path());
    let reserve = || std::fs::metadata(dir.path().join("reserve")).unwrap().len();
    assert!(reserve() > STORE_SPARE_BYTES / 2, "{}", reserve());

    // A batch of keys, a step of retention, and rows beside the largest values one by one.
    for (from, len) in [(0, KV_BATCH_KEYS_MAX), (KV_BATCH_KEYS_MAX, JOURNAL_STEP_ROWS_MAX)] {
        let batch = (from..from + len).map(|n| delete(n * 10)).collect();
        store.commit(None, Write::Relief, batch).await.unwrap();
        fill(dir.path());
    }
    for n in 0..12 {
        store.commit(None, Write::Relief, vec![delete(n * 1_000 + 6)]).await.unwrap();
        store.commit(None, Write::Relief, vec![delete(n * 1_000 + 5)]).await.unwrap();
        fill(dir.path());
    }
    assert!(!store.contains(Table::KeyValue, &key(5)).unwrap());
    assert!(store.contains(Table::KeyValue, &key(20_000)).unwrap());
}
