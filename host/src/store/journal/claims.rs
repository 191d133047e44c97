//! Claims on the digests of files: a file is either about to be referred to, or about to be removed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::store::Op;

/// Claims on digests: by writers, until their reference is committed, or by the one who removes the file.
#[derive(Default)]
pub(crate) struct FileClaims {
    claims: Mutex<HashMap<[u8; 32], ClaimKind>>,
    /// Notified when a removal has ended.
    removed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimKind {
    Writers(usize),
    Removal,
}

/// A claim, given back when it is dropped.
pub(crate) struct FileClaim {
    claims: Arc<FileClaims>,
    digest: [u8; 32],
}

impl FileClaims {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], ClaimKind>> {
        self.claims.lock()
    }

    /// Claims a digest for a reference that will be committed. Waits while its file is removed.
    pub(crate) async fn write(self: &Arc<Self>, digest: [u8; 32]) -> FileClaim {
        loop {
            let mut removed = std::pin::pin!(self.removed.notified());
            removed.as_mut().enable();
            if self.try_write(digest) {
                return FileClaim { claims: self.clone(), digest };
            }
            removed.await;
        }
    }

    fn try_write(&self, digest: [u8; 32]) -> bool {
        match self.lock().entry(digest).or_insert(ClaimKind::Writers(0)) {
            ClaimKind::Writers(writers) => {
                *writers += 1;
                true
            }
            ClaimKind::Removal => false,
        }
    }

    /// Claims a digest for the removal of its file; none if anybody else has a claim.
    pub(crate) fn remove(self: &Arc<Self>, digest: [u8; 32]) -> Option<FileClaim> {
        let mut claims = self.lock();
        if claims.contains_key(&digest) {
            return None;
        }
        claims.insert(digest, ClaimKind::Removal);
        Some(FileClaim { claims: self.clone(), digest })
    }
}

impl Drop for FileClaim {
    fn drop(&mut self) {
        let mut claims = self.claims.lock();
        match claims.get_mut(&self.digest) {
            Some(ClaimKind::Writers(writers)) if *writers > 1 => *writers -= 1,
            _ => drop(claims.remove(&self.digest)),
        }
        drop(claims);
        self.claims.removed.notify_waiters();
    }
}

/// Changes prepared for one write, with the claims on the files that they refer to: held until the write is committed.
#[derive(Default)]
pub(crate) struct Prepared {
    pub ops: Vec<Op>,
    pub claims: Vec<FileClaim>,
}

impl FileClaim {
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_digest_is_either_written_or_removed() {
        let claims = Arc::<FileClaims>::default();
        let (one, other) = ([1; 32], [2; 32]);
        let (first, second) = (claims.write(one).await, claims.write(one).await);
        assert!(claims.remove(one).is_none(), "two refer to it");
        drop(first);
        assert!(claims.remove(one).is_none(), "one still does");
        drop(second);
        let removal = claims.remove(one).unwrap();
        assert!(claims.remove(one).is_none(), "it is removed once");

        let mut waits = Box::pin(claims.write(one));
        let is_waiting = std::future::poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting);
        drop(claims.write(other).await);
        drop(removal);
        drop(waits.await);
        assert!(claims.lock().is_empty(), "nothing is remembered");
    }
}
