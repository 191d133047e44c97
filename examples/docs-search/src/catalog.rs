//! The indexes in the key-value store.
//!
//! | key | holds |
//! |---|---|
//! | `manifest` | which generation is searched, and how large it is; written last |
//! | `{generation}/vectors/{segment}` | the packed vectors of a segment |
//! | `{generation}/passages/{segment}/{block}` | 32 passages as JSON, read only for hits |
//!
//! A generation is the id of the call that built it, so that a later one sorts after an earlier one. A half-written
//! generation is never searched, since no manifest names it; the next commit removes it.

use std::collections::btree_map::{BTreeMap, Entry};

use bireme_sdk::prelude::*;
use bireme_sdk::vectors::{Match, Vectors};

use crate::MODEL;
use crate::hit::Hit;
use crate::segment::{self, Located, SEGMENT_LEN_MAX, Segment};

const BUCKET: &str = "docs";
const MANIFEST: &str = "manifest";
/// Passages of one key: small enough to be read for one hit, large enough that there are not thousands of keys.
const BLOCK_LEN: usize = 32;
/// Tries of a search whose index a commit took away.
const TRIES_MAX: usize = 3;

/// Index that is searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    pub generation: String,
    pub segments: u32,
    pub passages: u64,
    /// The model that made the vectors.
    pub model: String,
}

/// Rows that `store` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stored {
    pub passages: u32,
    pub vector_bytes: u64,
}

fn vectors_key(generation: &str, segment: u32) -> String {
    format!("{generation}/vectors/{segment}")
}

fn passages_key(generation: &str, segment: u32, block: usize) -> String {
    format!("{generation}/passages/{segment}/{block}")
}

/// Writes a segment: its passages first, its vectors last.
pub fn store(segment: &Segment) -> Result<Stored> {
    let len = segment.passages.len();
    if len == 0 || len > SEGMENT_LEN_MAX || len != segment.vectors.len() {
        let message = format!(
            "a segment has 1 to {SEGMENT_LEN_MAX} passages with a vector each, not {len} with {}",
            segment.vectors.len()
        );
        return Err(Failure::terminal(message));
    }
    if segment.generation.is_empty() || segment.generation.contains('/') {
        return Err(Failure::terminal("a generation is named by a call's id"));
    }
    let packed = segment::pack(&segment.vectors)?;
    let bucket = kv::open(BUCKET)?;
    for (block, passages) in segment.passages.chunks(BLOCK_LEN).enumerate() {
        bucket.set_json(&passages_key(&segment.generation, segment.number, block), passages)?;
    }
    bucket.set(&vectors_key(&segment.generation, segment.number), &packed)?;
    Ok(Stored { passages: u32::try_from(len)?, vector_bytes: packed.len() as u64 })
}

/// Checks that a generation is whole, makes it the one that is searched, and removes those before it.
pub fn commit(manifest: Manifest) -> Result<Manifest> {
    let bucket = kv::open(BUCKET)?;
    for number in 0..manifest.segments {
        if !bucket.exists(&vectors_key(&manifest.generation, number))? {
            return Err(Failure::terminal(format!(
                "segment {number} of {} was not stored; index again",
                manifest.segments
            )));
        }
    }
    if let Some(current) = bucket.get_json::<Manifest>(MANIFEST)?
        && current.generation > manifest.generation
    {
        return Err(Failure::terminal(format!("a later index, {}, was committed meanwhile", current.generation)));
    }
    bucket.set_json(MANIFEST, &manifest)?;
    let keys: Vec<String> = bucket.keys().collect::<Result<_, _>>()?;
    let is_older =
        |key: &&String| key.split_once('/').is_some_and(|(generation, _)| generation < manifest.generation.as_str());
    for key in keys.iter().filter(is_older) {
        bucket.delete(key)?;
    }
    Ok(manifest)
}

/// Returns what is searched, if anything was indexed.
pub fn current() -> Result<Option<Manifest>> {
    Ok(kv::open(BUCKET)?.get_json(MANIFEST)?)
}

/// Finds the passages nearest to `query`.
pub fn search(query: &[f32], limit: usize) -> Result<Vec<Hit>> {
    let bucket = kv::open(BUCKET)?;
    for _ in 0..TRIES_MAX {
        let manifest: Manifest = bucket
            .get_json(MANIFEST)?
            .ok_or_else(|| Failure::terminal("nothing is indexed yet; call `index` first"))?;
        if manifest.model != MODEL {
            return Err(Failure::terminal(format!(
                "the index was built with model `{}`, not `{MODEL}`; index again",
                manifest.model
            )));
        }
        if let Some(hits) = search_generation(&bucket, &manifest, query, limit)? {
            return Ok(hits);
        }
    }
    Err(Failure::failed("the index is being replaced again and again; try again"))
}

/// None where a commit removed the generation meanwhile.
fn search_generation(
    bucket: &kv::Bucket,
    manifest: &Manifest,
    query: &[f32],
    limit: usize,
) -> Result<Option<Vec<Hit>>> {
    let mut nearest: Vec<(u32, Match)> = Vec::new();
    for segment in 0..manifest.segments {
        let Some(packed) = bucket.get(&vectors_key(&manifest.generation, segment))? else {
            return Ok(None);
        };
        let found = Vectors::from_bytes(&packed)?.nearest(query, limit)?;
        nearest.extend(found.into_iter().map(|found| (segment, found)));
        // Stable: of equal scores the earlier passage comes first.
        nearest.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
        nearest.truncate(limit);
    }
    let mut blocks: BTreeMap<(u32, usize), Vec<Located>> = BTreeMap::new();
    let mut hits = Vec::with_capacity(limit);
    for (segment, Match { index, score, .. }) in nearest {
        let block = index / BLOCK_LEN;
        let passages = match blocks.entry((segment, block)) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let key = passages_key(&manifest.generation, segment, block);
                let Some(passages) = bucket.get_json::<Vec<Located>>(&key)? else {
                    return Ok(None);
                };
                unread.insert(passages)
            }
        };
        let located = passages
            .get(index % BLOCK_LEN)
            .with_context(|| format!("segment {segment} has no passage {index}; index again"))?;
        hits.push(Hit::new(located.clone(), score));
    }
    Ok(Some(hits))
}
