//! Compiled functions, kept by what they are compiled from: after a small edit, most of a component is the same.
//!
//! For the edit loop: one process, one app, in memory. What is deployed is compiled as a whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use wasmtime::CacheStore;

/// What is kept at most: some thirty apps of the templates' size (2 MB each). Past it, all is forgotten and compiled anew.
const BYTES_MAX: usize = 64 << 20;

/// A store of compiled functions.
#[derive(Debug, Default)]
pub struct FunctionCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    functions: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.functions.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = key.len() + value.len();
        if kept.bytes + bytes > BYTES_MAX {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        if let Some(old) = kept.functions.insert(key.to_vec(), value) {
            kept.bytes -= key.len() + old.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let cache = FunctionCache::default();
        for n in 0..40_u8 {
            assert!(cache.insert(&[n], vec![n; 2 << 20]));
            // The same once more takes no more room.
            assert!(cache.insert(&[n], vec![n; 2 << 20]));
            let kept = cache.0.lock().unwrap();
            assert!(kept.bytes <= BYTES_MAX, "{}", kept.bytes);
            assert_eq!(kept.bytes, kept.functions.len() * ((2 << 20) + 1));
        }
        assert_eq!(cache.get(&[39]).unwrap()[0], 39);
        assert_eq!(cache.get(&[0]), None, "forgotten");
    }
}
