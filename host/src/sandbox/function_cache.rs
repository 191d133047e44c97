//! Cache of compiled functions, keyed by their source: functions that two components share, or that a new version
//! leaves as they were, are compiled once.
//!
//! Held by the compiler process. Each compile runs in a fork of it with a copy of the cache, which records its own
//! additions as `news`; the process `learn`s them afterwards.
//!
//! Invariant: at most `COMPILE_CACHE_BYTES_MAX` bytes, in two generations. A full young generation becomes the old one,
//! which is dropped, but for functions used since: those return to the young one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use wasmtime::CacheStore;

use crate::limits::COMPILE_CACHE_BYTES_MAX;

/// Bytes of one generation, and of one compile's additions.
const GENERATION_BYTES_MAX: usize = COMPILE_CACHE_BYTES_MAX / 2;
/// Length that marks a key without code: a function of the old generation was used.
const USED: u32 = u32::MAX;

/// Compiled functions of this process.
#[derive(Debug, Default)]
pub(crate) struct FunctionCache {
    functions: RwLock<Functions>,
    /// Changes by this process, which `functions` lacks.
    news: Mutex<News>,
}

#[derive(Debug, Default)]
struct Functions {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    code: HashMap<Vec<u8>, Arc<[u8]>>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct News {
    added: Generation,
    used: Vec<Vec<u8>>,
}

/// News that are cut off or inconsistent; entries in front of the defect are kept.
#[derive(Debug, thiserror::Error)]
#[error("the additions to the function cache are malformed")]
pub(crate) struct MalformedNews;

impl FunctionCache {
    /// Returns the additions since the start of this process: for each `key length u32 | code length u32 | key | code`.
    pub(crate) fn news(&self) -> Vec<u8> {
        let news = self.news.lock();
        let mut bytes = Vec::with_capacity(news.added.bytes + 64 * (news.added.code.len() + news.used.len()));
        let mut push = |key: &[u8], code_len: u32, code: &[u8]| {
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&code_len.to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(code);
        };
        news.used.iter().for_each(|key| push(key, USED, &[]));
        news.added.code.iter().for_each(|(key, code)| push(key, code.len() as u32, code));
        bytes
    }

    /// Takes in the news of another process.
    pub(crate) fn learn(&self, mut news: &[u8]) -> Result<(), MalformedNews> {
        let mut functions = self.functions.write();
        while !news.is_empty() {
            let key_bytes = take_length(&mut news)? as usize;
            let code_bytes = take_length(&mut news)?;
            let key = news.split_off(..key_bytes).ok_or(MalformedNews)?;
            if code_bytes == USED {
                functions.renew(key);
            } else {
                let code = news.split_off(..code_bytes as usize).ok_or(MalformedNews)?;
                functions.insert(key.to_vec(), code.into());
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let functions = self.functions.read();
        functions.young.bytes + functions.old.bytes
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let functions = self.functions.read();
        let mut code = functions.young.code.get(key).cloned();
        if code.is_none() {
            code = functions.old.code.get(key).cloned();
            let mut news = self.news.lock();
            match code {
                Some(_) => news.used.push(key.to_vec()),
                None => code = news.added.code.get(key).cloned(),
            }
        }
        code.map(|code| Cow::Owned(code.to_vec()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let mut news = self.news.lock();
        let fits = news.added.bytes + key.len() + code.len() <= GENERATION_BYTES_MAX;
        if fits {
            news.added.insert(key.to_vec(), code.into());
        }
        fits
    }
}

impl Functions {
    fn insert(&mut self, key: Vec<u8>, code: Arc<[u8]>) {
        let bytes = key.len() + code.len();
        if bytes > GENERATION_BYTES_MAX {
            return;
        }
        if self.young.bytes + bytes > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, code);
    }

    /// Moves a function of the old generation to the young one.
    fn renew(&mut self, key: &[u8]) {
        if let Some((key, code)) = self.old.code.remove_entry(key) {
            self.old.bytes -= key.len() + code.len();
            self.insert(key, code);
        }
    }
}

impl Generation {
    fn insert(&mut self, key: Vec<u8>, code: Arc<[u8]>) {
        let (key_bytes, code_bytes) = (key.len(), code.len());
        match self.code.insert(key, code) {
            Some(replaced) => self.bytes = self.bytes + code_bytes - replaced.len(),
            None => self.bytes += key_bytes + code_bytes,
        }
    }
}

fn take_length(news: &mut &[u8]) -> Result<u32, MalformedNews> {
    let (length, rest) = news.split_first_chunk().ok_or(MalformedNews)?;
    *news = rest;
    Ok(u32::from_le_bytes(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that compiled these functions, with a copy of `cache`.
    fn news_of(functions: &[(u8, usize)]) -> Vec<u8> {
        let fork = FunctionCache::default();
        functions.iter().for_each(|&(key, len)| assert!(fork.insert(&[key], vec![key; len])));
        fork.news()
    }

    #[test]
    fn additions_of_another_process_are_found() {
        let cache = FunctionCache::default();
        assert_eq!(cache.get(&[1]), None);
        cache.learn(&news_of(&[(1, 10), (2, 20)])).unwrap();
        assert_eq!(cache.get(&[1]).unwrap(), [1; 10].as_slice());
        assert_eq!(cache.get(&[2]).unwrap(), [2; 20].as_slice());
        assert!(cache.news().is_empty(), "nothing was added here");
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let cache = FunctionCache::default();
        cache.learn(&news_of(&[(0, 1 << 20)])).unwrap();
        for n in 1..=200 {
            cache.learn(&news_of(&[(n, 2 << 20)])).unwrap();
            assert!(cache.bytes() <= COMPILE_CACHE_BYTES_MAX, "{}", cache.bytes());
            // The use of a fork: its copy has the function in its old generation, once it is there.
            let fork = FunctionCache { functions: RwLock::new(copy(&cache)), ..FunctionCache::default() };
            assert!(fork.get(&[0]).is_some(), "used, and lost after {n}");
            cache.learn(&fork.news()).unwrap();
        }
        assert_eq!(cache.get(&[200]).unwrap()[0], 200);
        assert_eq!(cache.get(&[1]), None, "never used again");
    }

    fn copy(cache: &FunctionCache) -> Functions {
        let of = |generation: &Generation| Generation { code: generation.code.clone(), bytes: generation.bytes };
        let functions = cache.functions.read();
        Functions { young: of(&functions.young), old: of(&functions.old) }
    }

    #[test]
    fn one_compile_adds_no_more_than_a_generation() {
        let fork = FunctionCache::default();
        let added = (0..=255).filter(|&key| fork.insert(&[key], vec![0; 1 << 20])).count();
        assert_eq!(added, GENERATION_BYTES_MAX / ((1 << 20) + 1));
    }

    #[test]
    fn cut_news_are_an_error_and_add_nothing_wrong() {
        let whole = news_of(&[(7, 100)]);
        for len in 1..whole.len() {
            let cache = FunctionCache::default();
            assert!(cache.learn(&whole[..len]).is_err(), "cut at {len}");
            assert_eq!(cache.get(&[7]), None);
        }
    }
}
