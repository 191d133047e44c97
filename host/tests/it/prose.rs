//! Prose, as far as a program can judge it: docs, sentences of pages and entries of help begin with the thing, and
//! comment lines fit the page.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::support::crate_dir;

/// Sources that are held to the rules, from the repository's root.
const SOURCES: [&str; 10] =
    ["host/src", "host/tests", "host/templates", "guest-sdk", "kernels", "benches", "tests", "examples", "fuzz", "wit"];

/// Sources of which the docs of items are held to the rules, too.
const SOURCES_WITH_ITEMS: [&str; 8] =
    ["host/templates", "guest-sdk", "kernels", "benches", "tests", "examples", "fuzz", "wit"];

/// Sources that a generator writes.
const SOURCES_EXEMPT: [&str; 1] = ["guest-sdk/src/host/bindings.rs"];

/// Texts that are held to the rules: directories with all below them, or single files.
const TEXTS: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benches/README.md",
    "docs",
    "examples/README.md",
    "host/src/codes/pages",
    "host/tests/fixtures/README.md",
    "kernels/cuda",
    "tests/README.md",
];

/// Texts that another test holds to their source.
const TEXTS_EXEMPT: [&str; 1] = ["docs/api.md"];

/// First words that stand in place of a noun.
const PRONOUNS: [&str; 10] =
    ["What", "Which", "How", "Who", "Whose", "Whether", "Whatever", "Whichever", "Whoever", "Why"];

/// First words of docs that leave the noun out. A sentence may open with such a clause.
const ADVERBS: [&str; 2] = ["Where", "When"];

const COLUMNS_MAX: usize = 120;

fn first_word(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    &text[..text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len())]
}

/// Returns each line of a source that breaks a rule, with the rule. Docs of items are looked at `with_items` only.
fn offences(text: &str, with_items: bool) -> Vec<(usize, String)> {
    let (mut found, mut before) = (Vec::new(), "");
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let module = line.strip_prefix("//! ").filter(|_| number == 0);
        let item = line.strip_prefix("/// ").filter(|_| with_items && !before.starts_with("///"));
        for doc in module.into_iter().chain(item) {
            let word = first_word(doc);
            if PRONOUNS.contains(&word) || ADVERBS.contains(&word) {
                found.push((number + 1, format!("docs open with `{word}`; begin with the thing")));
            }
        }
        before = line;
    }
    for (number, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if line.trim_start().starts_with("//") && columns > COLUMNS_MAX {
            found.push((number + 1, format!("a comment of {columns} columns; {COLUMNS_MAX} fit")));
        }
    }
    found
}

/// Returns the paragraphs, list items and table cells of Markdown or of a page of an error, each with its first line.
/// Code and headings are left out.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut is_code, mut goes_on) = (Vec::<(usize, String)>::new(), false, false);
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            (is_code, goes_on) = (!is_code, false);
        } else if is_code || trimmed.is_empty() || trimmed.starts_with('#') || (line.starts_with("    ") && !goes_on) {
            goes_on = false;
        } else if let Some(cells) = trimmed.strip_prefix('|') {
            found.extend(cells.split('|').map(|cell| (number + 1, cell.trim().to_owned())));
            goes_on = false;
        } else if let Some((_, paragraph)) = found.last_mut().filter(|_| goes_on && !trimmed.starts_with("- ")) {
            *paragraph += " ";
            *paragraph += trimmed;
        } else {
            found.push((number + 1, trimmed.trim_start_matches("- ").to_owned()));
            goes_on = true;
        }
    }
    found
}

/// Returns each sentence of a text that opens with a clause in place of a noun. Questions may, and headings in bold.
fn clauses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, paragraph) in paragraphs(text) {
        for sentence in paragraph.split_inclusive(['.', '!', '?']) {
            // A dot within a word, as of a file's name, ends nothing: what comes behind it has no capital.
            let word = first_word(sentence);
            if PRONOUNS.contains(&word) && !sentence.ends_with('?') && !sentence.trim_start().starts_with("**") {
                found.push((line, format!("`{}` opens with a clause; begin with the thing", sentence.trim())));
            }
        }
    }
    found
}

/// Calls `visit_file` with each file below `path` of one of the extensions, or with the file at `path`. Built guests
/// and interfaces of others are left out.
fn visit(path: &Path, extensions: &[&str], visit_file: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        if path.file_name().is_some_and(|name| name != "target" && name != "deps") {
            for entry in fs::read_dir(path).unwrap() {
                visit(&entry.unwrap().path(), extensions, visit_file);
            }
        }
    } else if path.extension().and_then(|extension| extension.to_str()).is_some_and(|name| extensions.contains(&name)) {
        visit_file(path, &fs::read_to_string(path).unwrap());
    }
}

#[test]
fn docs_begin_with_the_thing_and_comments_fit_the_page() {
    let repository = crate_dir("..");
    let (mut wrong, mut files) = (String::new(), 0);
    for root in SOURCES {
        visit(&repository.join(root), &["rs", "wit"], &mut |path, text| {
            files += 1;
            let path = path.strip_prefix(&repository).unwrap();
            if SOURCES_EXEMPT.iter().any(|exempt| path == Path::new(exempt)) {
                return;
            }
            for (line, rule) in offences(text, SOURCES_WITH_ITEMS.contains(&root)) {
                writeln!(wrong, "{}:{line}: {rule}", path.display()).unwrap();
            }
        });
    }
    assert!(files > 500, "{files} files");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn sentences_of_docs_and_of_error_pages_begin_with_the_thing() {
    let repository = crate_dir("..");
    let (mut wrong, mut files) = (String::new(), 0);
    for root in TEXTS {
        visit(&repository.join(root), &["md", "txt"], &mut |path, text| {
            files += 1;
            let path = path.strip_prefix(&repository).unwrap();
            if TEXTS_EXEMPT.iter().any(|exempt| path == Path::new(exempt)) {
                return;
            }
            for (line, rule) in clauses(text) {
                writeln!(wrong, "{}:{line}: {rule}", path.display()).unwrap();
            }
        });
    }
    assert!(files > 100, "{files} files");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn an_offence_is_named_with_its_line() {
    let check = |text: &str| offences(text, false).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(check("//! What a guest sees.\n"), [1]);
    assert_eq!(check("//! Whatever chooses.\n//! Who knows.\n"), [1]);
    assert!(check("//! Whereabouts of a file.\n/// What it is.\n").is_empty());
    let long = "x".repeat(COLUMNS_MAX);
    assert_eq!(check(&format!("//! A thing.\n    // {long}\n/// {long}\nlet x = \"{long}\";\n")), [2, 3]);
    // Columns are characters: 120 of two bytes fit.
    assert!(check(&format!("// {}\n", "é".repeat(COLUMNS_MAX - 3))).is_empty());
}

#[test]
fn docs_of_items_are_judged_by_their_first_line() {
    let check = |text: &str| offences(text, true).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(check("//! A thing.\n\n    /// Whether it is.\n    /// How it is.\n"), [3]);
    assert!(check("/// A thing.\n/// Where it is not: there.\n").is_empty());
}

#[test]
fn clauses_are_found_in_paragraphs_lists_and_tables_alone() {
    let check = |text: &str| clauses(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(check("# What it is\n\nA thing. What it does\nis this.\n"), [3]);
    assert_eq!(check("- A thing.\n- Who reads it.\n\n1 | a\n| a | Whatever b |\n"), [2, 5]);
    assert!(check("**What would change it.** A card. Why? Where there is none, nothing.\n").is_empty());
    assert!(check("A thing:\n    What it prints.\n").is_empty());
    assert!(check("A thing:\n\n```\nWhat it prints.\n```\n\n    What it prints.\n").is_empty());
}
