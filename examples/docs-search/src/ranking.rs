//! The best of many scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bireme_sdk::prelude::*;

use crate::segment::Located;

/// The words of an excerpt.
const EXCERPT_WORDS_MAX: usize = 60;

/// One passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// With the anchor of the passage's heading.
    pub url: String,
    pub title: String,
    pub heading: Vec<String>,
    /// The beginning of the passage.
    pub excerpt: String,
    /// The cosine of the angle to the query: 1 is the same.
    pub score: f32,
}

impl Hit {
    /// Puts together what a reader needs of a passage.
    pub fn new(located: Located, score: f32) -> Self {
        let Located { url, title, passage } = located;
        let mut words = passage.text.split_whitespace();
        let mut excerpt = words.by_ref().take(EXCERPT_WORDS_MAX).collect::<Vec<_>>().join(" ");
        if words.next().is_some() {
            excerpt.push('…');
        }
        let url = if passage.anchor.is_empty() { url } else { format!("{url}#{}", passage.anchor) };
        Self { url, title, heading: passage.heading, excerpt, score }
    }
}

/// Place of a passage in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u32,
    pub position: u32,
}

#[derive(Debug, Clone, Copy)]
struct Scored {
    score: f32,
    place: Place,
}

/// The worst first, so that the heap gives it up; of equal scores, the later place is worse.
impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}

/// Keeps the best scores; its memory is the limit's, whatever is offered.
#[derive(Debug)]
pub struct Ranking {
    limit: usize,
    kept: BinaryHeap<Scored>,
}

impl Ranking {
    /// Keeps at most `limit` of them.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::with_capacity(limit + 1) }
    }

    /// Offers one score.
    pub fn offer(&mut self, score: f32, place: Place) {
        if self.kept.len() == self.limit && self.kept.peek().is_some_and(|worst| score <= worst.score) {
            return;
        }
        self.kept.push(Scored { score, place });
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    /// The best first.
    pub fn into_best(self) -> Vec<(f32, Place)> {
        self.kept.into_sorted_vec().into_iter().map(|scored| (scored.score, scored.place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_ties_go_to_the_earlier_place() {
        let mut ranking = Ranking::new(3);
        for (position, score) in [0.1, 0.9, 0.5, 0.9, 0.5, -1.0].into_iter().enumerate() {
            ranking.offer(score, Place { segment: 0, position: position as u32 });
        }
        let best: Vec<_> = ranking.into_best().into_iter().map(|(score, place)| (score, place.position)).collect();
        assert_eq!(best, [(0.9, 1), (0.9, 3), (0.5, 2)]);
    }
}
