//! Short forms of ids for people: first digits, which every command takes in place of the id.

/// Characters of a short id: its time in milliseconds, which tells ids apart that were not made at once.
const LEN: usize = 13;

/// Returns the first digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..LEN).unwrap_or(id)
}

/// Returns the first digits of each id, as many as it takes to tell it from the others.
pub(crate) fn all_short(ids: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable();
    let len = |id: &String| {
        let place = sorted.partition_point(|other| *other < id);
        // The nearest ids are those beside it.
        let before = place.checked_sub(1).map(|before| sorted[before]);
        let after = sorted[place..].iter().find(|other| **other != id).copied();
        let beside = before.into_iter().chain(after);
        let same = |other: &String| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let len = beside.map(|other| same(other) + 1).max().unwrap_or(0).max(LEN);
        // A dash at the end would look cut off.
        if id.as_bytes().get(len - 1) == Some(&b'-') { len + 1 } else { len }
    };
    ids.iter().map(|id| id.get(..len(id)).unwrap_or(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_as_long_as_tells_it_from_the_others() {
        let ids = [
            "01a2291c-68ee-778b-9a51-000000000001",
            "01a2291c-68ee-778b-9a51-0000000000f2",
            "01a2291c-68ef-7000-8000-000000000000",
            "01a2291c-68ee-778b-9000-000000000000",
        ]
        .map(str::to_owned);
        let short = ["01a2291c-68ee-778b-9a51-00000000000", "01a2291c-68ee-778b-9a51-0000000000f"];
        assert_eq!(all_short(&ids)[0], &ids[0][..35], "{:?}", all_short(&ids));
        assert_eq!(all_short(&ids)[1], short[1]);
        assert_eq!(all_short(&ids)[2..], ["01a2291c-68ef", "01a2291c-68ee-778b-90"]);
        for (id, short) in ids.iter().zip(all_short(&ids)) {
            assert_eq!(ids.iter().filter(|other| other.starts_with(short)).count(), 1, "{id} {short}");
        }
        assert!(all_short(&[]).is_empty());
        assert_eq!(all_short(&ids[..1]), ["01a2291c-68ee"]);
    }
}
