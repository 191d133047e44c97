//! Suggestions for misspelt names ("did you mean").

use crate::ids::NAME_LEN_MAX;

/// Returns the candidate closest to `name`, if it is close enough to be a typing error. Texts longer than any name
/// are not compared: the cost is the product of both lengths, and guests choose `name`.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let near = |candidate: &str| {
        // Optimal string alignment: a swap of neighbours counts as one edit.
        let distance = strsim::osa_distance(name, candidate);
        (distance <= 1 + name.len().min(candidate.len()) / 4).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| Some((near(candidate)?, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns the question for a misspelt name, if a candidate is close to it.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(name, candidates).map(|near| format!("did you mean `{near}`?"))
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
