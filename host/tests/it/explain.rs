//! Error codes, from the registry to what a user sees.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bireme::codes::Code;

use crate::support::{Guest, Server, bireme, crate_dir, function};

#[test]
fn a_pasted_error_is_explained() {
    let failed = bireme(&["run", &function(Guest::Hello, "gret"), "{}"]);
    assert_eq!(failed.status, 4);
    let line = failed.stderr.lines().next().unwrap();
    assert!(line.starts_with("error[unknown-function]: "), "{line}");
    assert!(failed.stderr.ends_with("  more: bireme explain unknown-function\n"), "{}", failed.stderr);

    let explained = bireme(&["explain", line]);
    assert_eq!((explained.status, explained.stderr.as_str()), (0, ""));
    assert!(explained.stdout.starts_with("unknown-function: the app has no function of that name\n"));
}

#[test]
fn all_codes_are_listed() {
    let text = bireme(&["explain"]).stdout;
    let json = bireme(&["--json", "explain"]).json();
    let listed = json["codes"].as_array().unwrap();
    assert_eq!((text.lines().count(), listed.len()), (Code::ALL.len(), Code::ALL.len()));
    let one = bireme(&["--json", "explain", "timeout"]).json();
    assert_eq!((&one["exit_status"], &one["http_status"]), (&5.into(), &504.into()));
    assert!(one["page"].as_str().unwrap().contains("`timeout`"));
}

#[test]
fn an_unknown_code_names_the_nearest() {
    let output = bireme(&["explain", "time-out"]);
    assert_eq!((output.status, output.stdout.as_str()), (2, ""));
    assert_eq!(output.stderr, "error[usage]: no error has the code `time-out`\n  hint: did you mean `timeout`?\n");
}

#[test]
fn a_wrong_command_line_has_a_code_in_text_and_in_json() {
    let text = bireme(&["serv"]);
    assert_eq!((text.status, text.stdout.as_str()), (2, ""));
    assert!(text.stderr.starts_with("error[usage]: unrecognized subcommand 'serv'"), "{}", text.stderr);
    assert!(text.stderr.contains("'serve'"), "{}", text.stderr);
    let json = bireme(&["serv", "--json"]);
    assert_eq!((json.status, &json.json()["error"]["code"]), (2, &"usage".into()));
}

#[test]
fn a_problem_names_its_page() {
    let server = Server::start(&[Guest::Hello]);
    let problem = server.post("/hello/gret", "{}").json();
    assert_eq!(problem["explain"], "bireme explain unknown-function");
    let own = server.post("/hello/add", r#"{"a": 9223372036854775807, "b": 1}"#).json();
    assert_eq!((&own["code"], own.get("explain")), (&"failed".into(), None));
}

/// A code that nothing gives would explain what never happens.
#[test]
fn every_code_is_given_somewhere() {
    let mut used = BTreeSet::new();
    collect(&crate_dir("src"), &mut used);
    for code in Code::ALL {
        assert!(used.contains(&format!("{code:?}")), "nothing gives `{code}`");
    }
}

fn collect(dir: &Path, used: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, used);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("codes/mod.rs") {
            let text = fs::read_to_string(&path).unwrap();
            // `from_error!` of `cli/exit.rs` writes `TYPE => CODE`.
            for piece in text.split("Code::").chain(text.split("Error => ")).skip(1) {
                let end = piece.find(|c: char| !c.is_alphanumeric()).unwrap_or(piece.len());
                used.insert(piece[..end].to_owned());
            }
        }
    }
}
