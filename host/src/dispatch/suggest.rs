//! "Did you mean": the closest of a set of names.

use crate::ids::NAME_LEN_MAX;

/// Returns the candidate nearest to `name`, if one is near enough to be a slip of the finger. Nothing longer than a name can
/// be is compared: the cost grows with the product of both lengths, and guests choose `name`.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let near = |candidate: &str| {
        let distance = distance(name, candidate);
        (distance <= 1 + name.len().min(candidate.len()) / 4).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| Some((near(candidate)?, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Counts insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // The last two rows of the table, and the one that is filled.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["scrape", "search", "embed"];
        assert_eq!(closest("scarpe", names), Some("scrape"));
        assert_eq!(closest("serch", names), Some("search"));
        assert_eq!(closest("index", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest(&"x".repeat(8 << 20), names), None);
    }
}
