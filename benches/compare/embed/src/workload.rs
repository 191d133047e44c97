//! Workloads: batches of token ids, each workload cut into rounds.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A text's ids, special tokens included.
pub type Ids = Vec<u32>;

/// Batches of texts, of which each round takes the next few and begins again after the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub batches: Vec<Vec<Ids>>,
    pub batches_round: usize,
}

pub const LENGTHS: [usize; 2] = [32, 128];
pub const BATCH_TEXTS: [usize; 3] = [1, 8, 32];

pub const MIXED: &str = "mixed";
pub const MIXED_SINGLY: &str = "mixed-singly";
pub const MIXED_SORTED: &str = "mixed-sorted";

/// Texts in a batch of the passages.
const MIXED_BATCH_TEXTS: usize = 32;

/// Rounds in which all passages are taken once.
pub const MIXED_ROUNDS: usize = 8;

/// Tokens of a round on equal lengths, where one batch has fewer: a fifth of a second on one thread.
const ROUND_TOKENS: usize = 2048;

/// The name of the workload of so many texts of one length a batch.
pub fn equal_name(length: usize, batch_texts: usize) -> String {
    format!("{length}x{batch_texts}")
}

/// Batches of texts of equal lengths, in every combination of length and batch, made of the ids of `passages`.
pub fn equal(passages: &[Ids]) -> Vec<Workload> {
    // Every passage is `[CLS] … [SEP]`.
    let (first, last) = (passages[0][0], passages[0][passages[0].len() - 1]);
    let inner: Vec<u32> = passages.iter().flat_map(|ids| &ids[1..ids.len() - 1]).copied().collect();
    let mut workloads = Vec::new();
    for length in LENGTHS {
        let mut texts = inner
            .chunks_exact(length - 2)
            .map(|ids| [&[first], ids, &[last]].concat())
            .collect::<Vec<Ids>>()
            .into_iter()
            .cycle();
        for batch_texts in BATCH_TEXTS {
            let batches_round = (ROUND_TOKENS / (length * batch_texts)).max(1);
            let batches = (0..4 * batches_round).map(|_| texts.by_ref().take(batch_texts).collect()).collect();
            workloads.push(Workload { name: equal_name(length, batch_texts), batches, batches_round });
        }
    }
    workloads
}

/// The passages as they come, one at a time, and in batches that were sorted by length before they were cut.
pub fn mixed(passages: &[Ids]) -> [Workload; 3] {
    let workload = |name: &str, passages: &[Ids], batch_texts: usize| {
        let batches: Vec<Vec<Ids>> = passages.chunks(batch_texts).map(<[Ids]>::to_vec).collect();
        let batches_round = batches.len().div_ceil(MIXED_ROUNDS);
        Workload { name: name.to_owned(), batches, batches_round }
    };
    let mut sorted = passages.to_vec();
    sorted.sort_by_key(Vec::len);
    let mut sorted = workload(MIXED_SORTED, &sorted, MIXED_BATCH_TEXTS);
    // Every round gets short batches and long ones.
    sorted.batches = (0..MIXED_ROUNDS)
        .flat_map(|round| sorted.batches.iter().skip(round).step_by(MIXED_ROUNDS).cloned().collect::<Vec<_>>())
        .collect();
    [workload(MIXED, passages, MIXED_BATCH_TEXTS), workload(MIXED_SINGLY, passages, 1), sorted]
}

impl Workload {
    /// The batches of a round.
    pub fn round(&self, round: usize) -> &[Vec<Ids>] {
        let rounds = self.batches.len().div_ceil(self.batches_round);
        let start = round % rounds * self.batches_round;
        &self.batches[start..self.batches.len().min(start + self.batches_round)]
    }
}

/// Path of the workloads, for the engines.
pub fn path(work: &Path) -> PathBuf {
    work.join("workloads.json")
}

pub fn save(work: &Path, workloads: &[Workload]) -> Result<(), Box<dyn Error>> {
    Ok(fs::write(path(work), serde_json::to_vec(workloads)?)?)
}

pub fn load(work: &Path) -> Result<Vec<Workload>, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(path(work))?)?)
}
