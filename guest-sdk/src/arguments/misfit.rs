//! Messages for JSON that does not fit: position, expected type, found value, probable meaning.
//!
//! serde's errors are text in terms of Rust; here they become terms of JSON: `$.links[3]: expected a string, found 7`.

use serde_path_to_error::{Error, Segment};

/// Longest name that is compared: the cost grows with the product of both lengths.
const NAME_LEN_MAX: usize = 64;

/// Returns `PATH: REASON`, the path below `root`.
pub(crate) fn message(root: &str, error: &Error<serde_json::Error>) -> String {
    let mut path = root.to_owned();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } if is_plain(key) => path.push_str(&format!(".{key}")),
            Segment::Map { key } => path.push_str(&format!("[{key:?}]")),
            Segment::Enum { variant } => path.push_str(&format!(".{variant}")),
            Segment::Unknown => path.push_str(".?"),
        }
    }
    path.push_str(": ");
    path.push_str(&reason(error.inner()));
    path
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Returns the message without serde's line and column, which the path replaces.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let of_kind = |kind: &str| text.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, expected)) = of_kind("invalid type: ").or_else(|| of_kind("invalid value: ")) {
        return format!("expected {}, found {}", of_json(expected), found_value(found));
    }
    if let Some((found, expected)) = of_kind("invalid length ") {
        return format!("expected {}, found {found} of them", of_json(expected));
    }
    for kind in ["unknown field", "unknown variant"] {
        if let Some((name, known)) = text.strip_prefix(kind).and_then(|rest| rest.split_once(", expected ")) {
            let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            let name = name.trim().trim_matches('`');
            return format!("{kind} `{name}`{}, expected {known}", meant(name, &names));
        }
    }
    text.to_owned()
}

fn of_json(expected: &str) -> String {
    match expected {
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
            format!("an integer (`{expected}`)")
        }
        other => match other.strip_prefix("struct ") {
            Some(name) if !name.contains(' ') => format!("an object (`{name}`)"),
            _ => other.to_owned(),
        },
    }
}

/// ``integer `7` `` is 7.
fn found_value(found: &str) -> String {
    match found {
        "sequence" => return "an array".to_owned(),
        "map" => return "an object".to_owned(),
        "unit" => return "null".to_owned(),
        _ => {}
    }
    for kind in ["integer ", "floating point ", "boolean "] {
        if let Some(value) = found.strip_prefix(kind) {
            return value.trim_matches('`').to_owned();
        }
    }
    found.strip_prefix("string ").unwrap_or(found).to_owned()
}

/// Returns ``, did you mean `…` ``, or an empty text.
pub(crate) fn meant(typed: &str, known: &[&str]) -> String {
    if typed.len() > NAME_LEN_MAX {
        return String::new();
    }
    let near = known.iter().map(|word| (distance(typed, word), *word));
    let near = near.filter(|(distance, word)| *distance <= 1 + word.len().min(typed.len()) / 4).min();
    near.map_or_else(String::new, |(_, word)| format!(", did you mean `{word}`"))
}

/// Counts insertions, deletions, substitutions and swaps of neighbours, three rows at a time.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let substituted = last[j] + usize::from(a[i] != b[j]);
            let mut best = substituted.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Page {
        url: String,
        links: Vec<String>,
        size: Option<(u8, u8)>,
        kind: Option<Kind>,
        inner: Option<Box<Page>>,
        tags: Option<BTreeMap<String, bool>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Article,
        Index,
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let error = serde_path_to_error::deserialize::<_, Page>(&mut deserializer).expect_err("it does not fit");
        assert_eq!(message("$", &error), expected);
    }

    #[test]
    fn place_expectation_and_finding_are_told_in_words_of_json() {
        check(r#"{"url": "", "links": ["", "", "", 7]}"#, "$.links[3]: expected a string, found 7");
        check(r#"{"url": null}"#, "$.url: expected a string, found null");
        check(r#"{"url": [true]}"#, "$.url: expected a string, found an array");
        check(r#"{"url": {}}"#, "$.url: expected a string, found an object");
        check(r#"{"links": "a, expected b"}"#, r#"$.links: expected an array, found "a, expected b""#);
        check(r#"{"inner": 1.5}"#, "$.inner: expected an object (`Page`), found 1.5");
        check(r#"{"size": [1]}"#, "$.size: expected a tuple of size 2, found 1 of them");
        check(r#"{"size": [1, 300]}"#, "$.size[1]: expected an integer (`u8`), found 300");
        check(r#"{"tags": {"a b": "true"}}"#, r#"$.tags["a b"]: expected a boolean, found "true""#);
        check(r#"{"url": ""}"#, "$: missing field `links`");
    }

    #[test]
    fn a_near_name_is_suggested() {
        check(
            r#"{"ulr": ""}"#,
            "$.ulr: unknown field `ulr`, did you mean `url`, expected one of `url`, `links`, `size`, `kind`, `inner`, `tags`",
        );
        check(
            r#"{"kind": "articel"}"#,
            "$.kind: unknown variant `articel`, did you mean `article`, expected `article` or `index`",
        );
        assert_eq!(meant("colour", &["url", "links"]), "");
        assert_eq!(meant(&"x".repeat(1_000_000), &["url"]), "");
    }
}
