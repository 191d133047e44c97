//! Comparison of what a page shows with what a command printed: line by line, loosely.
//!
//! Each shown line must be printed, in order; further lines may be. Times, sizes, rates and ids differ from run to run
//! and count as equal, spaces as one. `…` stands for any text, on a line of its own for any lines.

/// Shortest hexadecimal word that is an id or a version.
const ID_LEN_MIN: usize = 8;

const UNITS: [&str; 13] = ["ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "MB", "B/s", "passages/s"];

const ANY: char = '…';

/// Returns the first shown line that was not printed after those before it.
pub(super) fn missing<'a>(shown: &'a str, printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines().map(without_variables);
    shown.lines().filter(|line| !matches!(line.trim(), "" | "…")).find(|line| {
        let line = without_variables(line);
        !printed.any(|printed| is_like(&line, &printed))
    })
}

/// Compares two lines without variables.
fn is_like(shown: &str, printed: &str) -> bool {
    let parts: Vec<&str> = shown.split(ANY).collect();
    let [first, middle @ .., last] = parts.as_slice() else { return shown == printed };
    let inner = printed.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    let found = middle.iter().try_fold(inner, |rest, part| {
        let rest = rest?;
        Some(rest.find(part).map(|at| &rest[at + part.len()..]))
    });
    found.flatten().is_some()
}

/// Puts `…` for each id, and for each number with a unit.
fn without_variables(line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(without_ids).collect();
    let mut at = 1;
    while at < words.len() {
        let (number, unit) = (&words[at - 1], words[at].trim_end_matches([',', ')', ';']));
        let is_number = number.trim_start_matches('(').chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','));
        if is_number && UNITS.contains(&unit) {
            words[at - 1] = ANY.to_string();
            words.remove(at);
        } else {
            at += 1;
        }
    }
    words.join(" ")
}

/// Puts `…` for each id in a word: hexadecimal digits and dashes, one decimal digit at least.
fn without_ids(word: &str) -> String {
    let is_of_id = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c) || c == '-';
    let (mut text, mut rest) = (String::new(), word);
    while !rest.is_empty() {
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        let (run, behind) = rest.split_at(len);
        let is_id = len >= ID_LEN_MIN && run.chars().all(is_of_id) && run.contains(|c: char| c.is_ascii_digit());
        if is_id {
            text.push(ANY)
        } else {
            text += run
        }
        let mut chars = behind.chars();
        text.extend(chars.next());
        rest = chars.as_str();
    }
    text
}

#[test]
fn shown_lines_are_found_in_order_among_others() {
    assert_eq!(missing("a\n…\nc", "a\nb\nc\n"), None);
    assert_eq!(missing("a\nc", "x\na\nb\nc\nd"), None);
    assert_eq!(missing("c\na", "a\nb\nc"), Some("a"));
    assert_eq!(missing("a\na", "a"), Some("a"));
}

#[test]
fn times_sizes_and_ids_may_differ_and_counts_may_not() {
    let same = |shown, printed| missing(shown, printed).is_none();
    assert!(same("   queue        77 µs", "queue 1.2 ms"));
    assert!(same("app 5c748dcce0b1 is live", "app 00c748dcce0b is live"));
    assert!(same("map 01a22cb2-a316-7666-9510-949f30afeed7", "map 01a22cb2-a316-7666-9510-949f30afeed8"));
    assert!(same(
        "logs --call 01a22cb2-a300-74af-bcc8-5abbddb54a82",
        "logs --call 02a22cb2-a300-74af-bcc8-5abbddb54a82"
    ));
    assert!(!same(r#"{"count":5}"#, r#"{"count":6}"#));
    assert!(!same("3 inputs", "4 inputs"));
    assert!(!same("the facade decade", "the facade faced"));
}

#[test]
fn an_ellipsis_stands_for_any_text_within_its_line() {
    let same = |shown, printed| missing(shown, printed).is_none();
    assert!(same("ok … 1.95", "ok rustc 1.95"));
    assert!(same("ok …", "ok anything at all"));
    assert!(same("… at all", "anything at all at all"));
    assert!(!same("ok … 1.95", "ok rustc 1.96"));
    assert!(!same("ok …", "error"));
}
