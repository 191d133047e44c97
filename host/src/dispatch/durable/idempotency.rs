//! Idempotency keys: two requests with one key and one function have their turns one after the other, so the second
//! finds the call or map of the first.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::error::DurableError;
use crate::ids::FunctionId;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::storage::{Idempotency, Journal, KeyedRecord};

type Name = (FunctionId, String);

/// See the module.
#[derive(Debug, Default)]
pub struct IdempotencyGate {
    /// Keys of the requests under way.
    turns: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
}

impl IdempotencyGate {
    /// Runs `make` unless the key was used before; then `find` returns the call or map of the first request.
    pub async fn once<T>(
        &self,
        journal: &dyn Journal,
        function: &FunctionId,
        key: Option<&str>,
        fingerprint: [u8; 32],
        find: impl AsyncFnOnce(KeyedRecord) -> Result<T, DurableError>,
        make: impl AsyncFnOnce(Option<Idempotency>) -> Result<T, DurableError>,
    ) -> Result<T, DurableError> {
        let Some(key) = key else { return make(None).await };
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(DurableError::KeyLength { bytes: key.len() });
        }
        let _turn = self.enter((function.clone(), key.to_owned())).await;
        match journal.keyed(function, key).await? {
            Some(keyed) if keyed.fingerprint != fingerprint => Err(DurableError::KeyReused { key: key.to_owned() }),
            Some(keyed) => find(keyed).await,
            None => make(Some(Idempotency { key: key.to_owned(), fingerprint })).await,
        }
    }

    /// Waits until no other request with this key is under way.
    async fn enter(&self, name: Name) -> Turn<'_> {
        // Made before the wait, so that a request that is dropped while it waits leaves nothing behind.
        let mut turn = Turn { gate: self, name, guard: None };
        let gate = self.lock().entry(turn.name.clone()).or_default().clone();
        turn.guard = Some(gate.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Arc<tokio::sync::Mutex<()>>>> {
        self.turns.lock()
    }
}

/// Turn of one request; ends when dropped.
struct Turn<'a> {
    gate: &'a IdempotencyGate,
    name: Name,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.gate.lock();
        // First, for the guard counts as a holder of the lock.
        self.guard = None;
        if turns.get(&self.name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.name);
        }
    }
}

/// Returns the fingerprint of a request: SHA-256 over its parts and their lengths.
pub fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::ids::{AppName, FunctionName};

    fn name(key: &str) -> Name {
        let function = FunctionId { app: AppName::new("a").unwrap(), function: FunctionName::new("f").unwrap() };
        (function, key.to_owned())
    }

    #[tokio::test]
    async fn requests_with_one_key_have_their_turns_one_after_the_other() {
        let gate = IdempotencyGate::default();
        let first = gate.enter(name("k")).await;
        let mut second = pin!(gate.enter(name("k")));
        assert!(second.as_mut().now_or_never().is_none());
        drop(gate.enter(name("other")).await);
        drop(first);
        drop(second.await);
        assert!(gate.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_while_it_waits_leaves_nothing_behind() {
        let gate = IdempotencyGate::default();
        let first = gate.enter(name("k")).await;
        {
            let mut second = pin!(gate.enter(name("k")));
            assert!(second.as_mut().now_or_never().is_none());
        }
        drop(first);
        assert!(gate.lock().is_empty());
    }

    #[test]
    fn a_fingerprint_tells_where_one_part_ends_and_the_next_begins() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }
}
