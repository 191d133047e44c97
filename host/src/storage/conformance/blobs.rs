//! Promises of `Blobs`.

use std::collections::HashSet;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::ErrorKind;
use super::Engine;
use super::fixtures::*;

fn blob(text: &'static str) -> ([u8; 32], Bytes) {
    (Sha256::digest(text).into(), text.into())
}

pub(crate) async fn a_blob_is_kept_under_its_digest(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (digest, bytes) = blob("one");
    for _ in 0..2 {
        storage.blobs.put(&digest, bytes.clone()).await.unwrap();
        assert_eq!(storage.blobs.get(&digest).await.unwrap(), bytes);
    }
    let storage = rejoined(engine, storage).await;
    assert_eq!(storage.blobs.get(&digest).await.unwrap(), bytes);
}

pub(crate) async fn a_blob_that_is_missing_is_gone(engine: &impl Engine) {
    let storage = joined(engine).await;
    assert_refused(storage.blobs.get(&blob("one").0).await, ErrorKind::Gone);
}

pub(crate) async fn a_sweep_of_blobs_keeps_those_that_are_named(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (kept, other) = (blob("kept"), blob("other"));
    for (digest, bytes) in [&kept, &other] {
        storage.blobs.put(digest, bytes.clone()).await.unwrap();
    }
    storage.blobs.sweep(&HashSet::from([kept.0, blob("third").0])).await.unwrap();
    assert_eq!(storage.blobs.get(&kept.0).await.unwrap(), kept.1);
    assert_refused(storage.blobs.get(&other.0).await, ErrorKind::Gone);
    storage.blobs.put(&other.0, other.1.clone()).await.unwrap();
    assert_eq!(storage.blobs.get(&other.0).await.unwrap(), other.1);
}
