//! Failed inputs of a map, for people: grouped by their error, each input beside its index.

use console::{style, truncate_str};

use super::client::Client;
use super::paths;
use crate::api::MapInput;
use crate::call::Failure;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::codes::Code;
use crate::logs::printable;

/// Different errors that are told apart.
const GROUPS_MAX: usize = 20;
/// Inputs that are shown for one error, each fetched by itself.
const INPUTS_MAX: usize = 5;

/// Failed inputs by their error, in the order of the first input of each.
#[derive(Default)]
pub(crate) struct FailedInputs {
    groups: Vec<Group>,
    /// Inputs with an error that has no group.
    others: usize,
}

/// Inputs that failed with the same error, but for its numbers.
struct Group {
    failure: Failure,
    /// Numbers in the errors differ, so none is shown.
    differs: bool,
    /// The first of them.
    indexes: Vec<u64>,
    count: usize,
}

impl FailedInputs {
    pub(crate) fn add(&mut self, index: u64, failure: Failure) {
        if let Some(group) = self.groups.iter_mut().find(|group| is_alike(&group.failure, &failure)) {
            group.count += 1;
            group.differs |= group.failure != failure;
            if group.indexes.len() < INPUTS_MAX {
                group.indexes.push(index);
            }
        } else if self.groups.len() < GROUPS_MAX {
            self.groups.push(Group { failure, differs: false, indexes: vec![index], count: 1 });
        } else {
            self.others += 1;
        }
    }

    /// Fetches the inputs that are shown, and returns the lines, at most `width` columns each where an input is in it.
    pub(crate) fn text(&self, client: &Client, id: &str, width: usize) -> Result<String, Exit> {
        self.text_with(width, id, |index| {
            let input = client.send::<MapInput>("GET", &paths::map(id, &format!("/inputs/{index}"))?, &[]);
            match input {
                Ok(input) => Ok(input.document.input.to_string()),
                // It went with the map's data in the meantime.
                Err(exit) if exit.code != Code::NoHost => Ok("(the input cannot be read)".to_owned()),
                Err(exit) => Err(exit),
            }
        })
    }

    fn text_with(
        &self,
        width: usize,
        id: &str,
        mut input: impl FnMut(u64) -> Result<String, Exit>,
    ) -> Result<String, Exit> {
        let mut lines = Vec::new();
        let (mut shown, mut all) = (0, self.others);
        for Group { failure, differs, indexes, count } in &self.groups {
            let shown_text = |text: &str| printable(&if *differs { without_numbers(text) } else { text.to_owned() });
            let (code, inputs) = (failure.code.code(), output::counted(*count, "input"));
            let error = style(shown_text(&failure.message)).red();
            lines.push(format!("{}: {error} {}", inputs, style(format!("[{code}]")).dim()));
            lines.extend(failure.causes.iter().map(|cause| format!("  caused by: {}", shown_text(cause))));
            for index in indexes {
                let line = format!("  {index:>6}  {}", printable(&input(*index)?));
                lines.push(truncate_str(&line, width, "…").into_owned());
            }
            if *count > indexes.len() {
                lines.push(format!("     and {} more", output::count((count - indexes.len()) as u64)));
            }
            shown += indexes.len();
            all += count;
        }
        if self.others > 0 {
            lines.push(format!("{} with other errors", output::counted(self.others, "input")));
        }
        if shown < all {
            lines.push(format!("all of them, as JSON: bireme results {id} --failed --json"));
        }
        Ok(lines.join("\n"))
    }
}

fn is_alike(one: &Failure, other: &Failure) -> bool {
    let same = |(one, other): (&String, &String)| without_numbers(one) == without_numbers(other);
    one.code == other.code
        && one.causes.len() == other.causes.len()
        && same((&one.message, &other.message))
        && one.causes.iter().zip(&other.causes).all(same)
}

/// Returns a text with `…` in place of each number.
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < part.len() {
            out.push('…');
        }
        out += rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::call::FailureCode;

    fn check(failures: impl IntoIterator<Item = (u64, Failure)>, width: usize, expected: Expect) {
        let mut failed = FailedInputs::default();
        failures.into_iter().for_each(|(index, failure)| failed.add(index, failure));
        let text = failed.text_with(width, "01a2291c", |index| Ok(format!("{{\"url\":\"http://site/{index}\"}}")));
        expected.assert_eq(&format!("{}\n", console::strip_ansi_codes(&text.unwrap())));
    }

    #[test]
    fn inputs_with_the_same_error_stand_together_and_are_cut_to_the_terminal() {
        let timeout = || Failure::new(FailureCode::Timeout, "it took too long");
        let gone = Failure {
            causes: vec!["404 Not Found".to_owned()],
            ..Failure::new(FailureCode::Terminal, "the page is\n gone")
        };
        let failures = [(4, timeout()), (17, gone), (120_000, timeout())];
        check(
            failures,
            32,
            expect![[r#"
            2 inputs: it took too long [timeout]
                   4  {"url":"http://site/4…
              120000  {"url":"http://site/1…
            1 input: the page is\n gone [terminal]
              caused by: 404 Not Found
                  17  {"url":"http://site/1…
        "#]],
        );
    }

    #[test]
    fn errors_that_differ_in_numbers_alone_are_one() {
        let failure = |n: u64| Failure::new(FailureCode::Failed, format!("{n} of 10 pages, status {n}"));
        check(
            [(1, failure(500)), (2, failure(502)), (3, failure(502))],
            80,
            expect![[r#"
            3 inputs: … of … pages, status … [failed]
                   1  {"url":"http://site/1"}
                   2  {"url":"http://site/2"}
                   3  {"url":"http://site/3"}
        "#]],
        );
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let failures = (0..7).map(|index| (index, Failure::new(FailureCode::Failed, "no")));
        let others = (b'a'..=b'w').map(|letter| {
            let failure = Failure::new(FailureCode::Failed, format!("no {}", char::from(letter)));
            (u64::from(letter), failure)
        });
        let mut failed = FailedInputs::default();
        failures.chain(others).for_each(|(index, failure)| failed.add(index, failure));
        let text = failed.text_with(80, "01a2291c", |index| Ok(index.to_string())).unwrap();
        let text = console::strip_ansi_codes(&text).into_owned();
        assert!(text.starts_with("7 inputs: no [failed]\n       0  0\n"), "{text}");
        assert!(text.contains("       4  4\n     and 2 more\n1 input: no a [failed]\n"), "{text}");
        let end = "4 inputs with other errors\nall of them, as JSON: bireme results 01a2291c --failed --json";
        assert!(text.ends_with(end), "{text}");
    }
}
