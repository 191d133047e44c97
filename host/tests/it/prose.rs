//! Prose of comments, as far as a program can judge it: module docs begin with the thing, comment lines fit the page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::crate_dir;

/// Sources that are held to the rules, from the repository's root.
const ROOTS: [&str; 6] =
    ["host/src", "guest-sdk/src", "guest-sdk/macros/src", "kernels/src", "benches/src", "host/tests"];

/// First words that stand in place of a noun.
const OPENINGS: [&str; 10] = ["What", "Which", "How", "Who", "Whether", "Whatever", "Whoever", "Where", "When", "Why"];

const COLUMNS_MAX: usize = 120;

/// Directories, without those below them, that are still to be mended. An entry goes once nothing of it is left.
const PENDING: &[&str] = &[
    "benches/src",
    "benches/src/bin/batch",
    "benches/src/bin/durable",
    "benches/src/bin/gpu",
    "benches/src/bin/survive",
    "benches/src/bin/survive/checker",
    "host/src",
    "host/src/cli/doctor",
    "host/src/dispatch",
    "host/src/dispatch/admission",
    "host/src/dispatch/agenda",
    "host/src/dispatch/batching",
    "host/src/dispatch/durable",
    "host/src/dispatch/durable/call_queue",
    "host/src/dispatch/durable/map",
    "host/src/dispatch/map",
    "host/src/dispatch/scheduler",
    "host/src/journal",
    "host/src/journal/stored",
    "host/src/store",
    "host/src/store/power",
    "host/tests/faults",
    "host/tests/guests/authored/src",
    "host/tests/guests/hostile/src",
    "host/tests/guests/spawning/src",
    "host/tests/it",
];

/// Returns each line of a source that breaks a rule, with the rule.
fn offences(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let first = text.lines().next().unwrap_or_default();
    let word = first.strip_prefix("//! ").and_then(|doc| doc.split(|c: char| !c.is_alphabetic()).next());
    if let Some(word) = word.filter(|word| OPENINGS.contains(word)) {
        found.push((1, format!("module docs open with `{word}`; begin with the thing")));
    }
    for (number, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if line.trim_start().starts_with("//") && columns > COLUMNS_MAX {
            found.push((number + 1, format!("a comment of {columns} columns; {COLUMNS_MAX} fit")));
        }
    }
    found
}

/// Calls `visit` with each Rust source below `dir`; built guests are left out.
fn visit(dir: &Path, visit_file: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                visit(&path, visit_file);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit_file(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn module_docs_begin_with_the_thing_and_comments_fit_the_page() {
    let repository = crate_dir("..");
    let (mut offenders, mut files): (BTreeMap<PathBuf, String>, usize) = (BTreeMap::new(), 0);
    for root in ROOTS {
        visit(&repository.join(root), &mut |path, text| {
            files += 1;
            let path = path.strip_prefix(&repository).unwrap();
            for (line, rule) in offences(text) {
                let listed = offenders.entry(path.parent().unwrap().to_owned()).or_default();
                writeln!(listed, "{}:{line}: {rule}", path.display()).unwrap();
            }
        });
    }
    assert!(files > 300, "{files} files");
    let is_pending = |dir: &PathBuf| PENDING.iter().any(|pending| dir == Path::new(pending));
    let wrong: String = offenders.iter().filter(|(dir, _)| !is_pending(dir)).map(|(_, listed)| &**listed).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
    for pending in PENDING {
        assert!(offenders.contains_key(Path::new(pending)), "`{pending}` is mended; take it off the list");
    }
}

#[test]
fn an_offence_is_named_with_its_line() {
    let check = |text: &str| offences(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(check("//! What a guest sees.\n"), [1]);
    assert_eq!(check("//! Whatever chooses.\n//! Who knows.\n"), [1]);
    assert!(check("//! Whereabouts of a file.\n/// What it is.\n").is_empty());
    let long = "x".repeat(COLUMNS_MAX);
    assert_eq!(check(&format!("//! A thing.\n    // {long}\n/// {long}\nlet x = \"{long}\";\n")), [2, 3]);
    // Columns are characters: 120 of two bytes fit.
    assert!(check(&format!("// {}\n", "é".repeat(COLUMNS_MAX - 3))).is_empty());
}
