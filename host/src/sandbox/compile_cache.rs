//! Cache of compiled functions, keyed by their source: a small edit leaves most of a component as it was.
//!
//! For the edit loop alone (one process, one app, in memory); deployments compile whole components.

use std::borrow::Cow;
use std::collections::HashMap;

use parking_lot::Mutex;
use wasmtime::CacheStore;

/// Bytes of the cache: about thirty apps of the templates' size (2 MB each). A full cache is emptied.
const BYTES_MAX: usize = 64 << 20;

/// Compiled functions of this process.
#[derive(Debug, Default)]
pub(crate) struct FunctionCache(Mutex<CompiledFunctions>);

#[derive(Debug, Default)]
struct CompiledFunctions {
    functions: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let compiled = self.0.lock();
        compiled.functions.get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut compiled = self.0.lock();
        let bytes = key.len() + value.len();
        if compiled.bytes + bytes > BYTES_MAX {
            *compiled = CompiledFunctions::default();
        }
        compiled.bytes += bytes;
        if let Some(old) = compiled.functions.insert(key.to_vec(), value) {
            compiled.bytes -= key.len() + old.len();
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
            // A second insert under the same key replaces the first.
            assert!(cache.insert(&[n], vec![n; 2 << 20]));
            let compiled = cache.0.lock();
            assert!(compiled.bytes <= BYTES_MAX, "{}", compiled.bytes);
            assert_eq!(compiled.bytes, compiled.functions.len() * ((2 << 20) + 1));
        }
        assert_eq!(cache.get(&[39]).unwrap()[0], 39);
        assert_eq!(cache.get(&[0]), None, "forgotten");
    }
}
