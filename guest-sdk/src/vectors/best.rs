//! The best of many scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Match;

/// Keeps the best scores; its memory is bounded by their number, however many are offered.
pub(super) struct Best {
    len_max: usize,
    /// The worst on top.
    kept: BinaryHeap<Worst>,
}

impl Best {
    /// Keeps at most `len_max` matches.
    pub(super) fn new(len_max: usize) -> Self {
        Self { len_max, kept: BinaryHeap::new() }
    }

    /// Offers a vector; of equal scores the earlier index is better, and indexes only rise. `id` is called if it is
    /// kept.
    pub(super) fn offer(&mut self, score: f32, index: usize, id: impl FnOnce() -> String) {
        if self.kept.len() >= self.len_max {
            match self.kept.peek() {
                Some(worst) if score > worst.0.score => drop(self.kept.pop()),
                _ => return,
            }
        }
        self.kept.push(Worst(Match { index, id: id(), score }));
    }

    /// Returns the matches, the best first.
    pub(super) fn into_matches(self) -> Vec<Match> {
        self.kept.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

/// A match; a worse one is greater.
struct Worst(Match);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.index.cmp(&other.0.index))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}
