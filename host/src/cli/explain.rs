//! `bireme explain`: the page of an error code.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::global::Global;
use super::{output, table};
use crate::codes::Code;
use crate::suggest::did_you_mean;

/// Explain an error code: what it means, what causes it, what to do. Without a code, list them all.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme explain timeout\n  bireme explain 'error[memory-limit]'")]
pub(crate) struct Explain {
    /// The code, or the line of an error that has one.
    #[arg(value_name = "CODE", allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Explain {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        if self.words.is_empty() {
            list(global.json);
            return Ok(());
        }
        let code = find(&self.words.join(" "))?;
        if global.json {
            let mut document = entry(code);
            document["page"] = json!(code.page());
            output::line(&document.to_string());
        } else {
            output::line(&page(code));
        }
        Ok(())
    }
}

/// Finds a code as typed, or in a pasted `error[CODE]: …`.
fn find(text: &str) -> Result<Code, Exit> {
    let pasted = text.split_once("error[").and_then(|(_, rest)| rest.split_once(']')).map(|(code, _)| code);
    let name = pasted.unwrap_or(text).trim().to_lowercase().replace(['_', ' '], "-");
    Code::find(&name).ok_or_else(|| {
        let exit = Exit::usage(format!("no error has the code `{name}`"));
        let near = did_you_mean(&name, Code::ALL.iter().map(|code| code.as_str()));
        exit.hint(near.unwrap_or_else(|| "`bireme explain` lists all codes".to_owned()))
    })
}

/// Returns the page with its exit and HTTP status.
fn page(code: Code) -> String {
    let mut text = format!("{code}: {}\n", code.title());
    let _ = write!(text, "exit status {}", code.exit_status());
    if let Some(status) = code.http_status() {
        let _ = write!(text, ", HTTP status {status}");
    }
    let _ = write!(text, "\n\n{}", code.page().trim_end());
    text
}

fn list(is_json: bool) {
    if is_json {
        let codes: Vec<Value> = Code::ALL.iter().copied().map(entry).collect();
        output::line(&json!({ "codes": codes }).to_string());
    } else {
        let rows = Code::ALL.iter().map(|code| vec![code.to_string(), code.title().to_owned()]);
        output::line(&table::plain(rows));
    }
}

fn entry(code: Code) -> Value {
    json!({
        "code": code,
        "title": code.title(),
        "exit_status": code.exit_status(),
        "http_status": code.http_status(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect_file;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_code_is_found_as_people_write_it() {
        let check = |text: &str| find(text).map_err(|exit| exit.hint.unwrap_or_default());
        for text in ["timeout", " Timeout ", "error[timeout]", "error[timeout]: function `x` did not finish"] {
            assert_eq!(check(text).unwrap(), Code::Timeout, "{text}");
        }
        assert_eq!(check("memory_limit").unwrap(), Code::MemoryLimit);
        assert_eq!(check("memory limit").unwrap(), Code::MemoryLimit);
        assert_eq!(check("memroy-limit").unwrap_err(), "did you mean `memory-limit`?");
        assert_eq!(check("E0308").unwrap_err(), "`bireme explain` lists all codes");
    }

    /// The commands of a page: lines that are indented, and what stands in backticks.
    fn commands(page: &str) -> Vec<&str> {
        let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
        let quoted = page.split('`').skip(1).step_by(2);
        lines.chain(quoted).filter(|text| text.starts_with("bireme ")).collect()
    }

    #[test]
    fn every_command_that_a_page_names_is_one() {
        let mut seen = 0;
        for code in Code::ALL {
            for command in commands(code.page()) {
                let words = shlex::split(command).unwrap_or_else(|| panic!("{code}: quotes in {command:?}"));
                if let Err(error) = Cli::try_parse_from(words) {
                    use clap::error::ErrorKind::{DisplayHelp, MissingRequiredArgument};
                    // A command may be meant as such, without its arguments.
                    let is_one = matches!(error.kind(), DisplayHelp | MissingRequiredArgument);
                    assert!(is_one, "{code}: `{command}`: {error}");
                }
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen} commands: the search works no more");
    }

    #[test]
    fn the_page_of_all_codes_is_up_to_date() {
        let mut text = "# Errors\n\nEvery error of a command and of the API has one of these codes. \
            Programs match on it; it keeps its meaning.\n\
            `bireme explain CODE` prints the same. \
            Written by `UPDATE_EXPECT=1 cargo test -p bireme --lib explain` from\n\
            `host/src/codes/`.\n\n| code | exit | HTTP | is |\n|---|---|---|---|\n"
            .to_owned();
        for code in Code::ALL {
            let http = code.http_status().map_or(String::new(), |status| status.to_string());
            let _ = writeln!(text, "| [{code}](#{code}) | {} | {http} | {} |", code.exit_status(), code.title());
        }
        for code in Code::ALL {
            let _ = write!(text, "\n## {code}\n\n{}", markdown(code.page()));
        }
        expect_file!["../../../docs/errors.md"].assert_eq(&text);
    }

    /// Fences what is indented: an indented block right behind a paragraph would be part of it.
    fn markdown(page: &str) -> String {
        let (mut text, mut is_code) = (String::new(), false);
        for line in page.lines() {
            let code = line.strip_prefix("    ");
            if code.is_some() != is_code {
                is_code = code.is_some();
                text += if is_code { "\n```sh\n" } else { "```\n\n" };
            }
            text += code.unwrap_or(line);
            text.push('\n');
        }
        text + if is_code { "```\n" } else { "" }
    }
}
