//! Suggestions for misspelt words.

/// Most edits between the typed word and a suggestion.
const DISTANCE_MAX: usize = 3;

/// Returns the known word nearest to `typed`, if one is near.
pub(crate) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (distance(typed, word), *word))
        .filter(|(distance, word)| *distance <= DISTANCE_MAX.min(word.len() / 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["timeout", "memory", "retries", "outbound", "models"];
        assert_eq!(nearest("memroy", &known), Some("memory"));
        assert_eq!(nearest("time_out", &known), Some("timeout"));
        assert_eq!(nearest("schedule", &known), None);
    }
}
