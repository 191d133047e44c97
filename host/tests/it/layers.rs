//! The order of the host's modules, read from their sources: each names those below it in `lib.rs`, none above.

use std::fmt::Write;
use std::fs;

use crate::sources::{code_of, names, visit};
use crate::support::crate_dir;

/// From the top down, as in `lib.rs`.
const ORDER: &[&str] = &[
    "fuzzing",
    "cli",
    "server",
    "config",
    "http",
    "store",
    "python",
    "deploy",
    "dispatch",
    "compiler",
    "sandbox",
    "logs",
    "inference",
    "worker",
    "kv",
    "outbound",
    "storage",
    "api",
    "app",
    "metrics",
    "spawner",
    "call",
    "devices",
    "settings",
    "suggest",
    "wire",
    "tokenizer",
    "budgets",
    "clock",
    "confine",
    "descriptors",
    "escape",
    "failpoint",
    "ids",
    "packets",
    "tasks",
    "telemetry",
    "throttle",
    "unix_socket",
    "byte_queue",
    "limits",
    "codes",
];

/// Edges that go down and are wrong all the same.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("store", "deploy", "it keeps records and decides nothing"),
    ("store", "dispatch", "it keeps calls and runs none"),
    ("store", "sandbox", "it keeps calls and runs none"),
    ("inference", "worker", "they share `wire` and `tokenizer`, and nothing else"),
    ("inference", "outbound", "models are fetched by the host, not for a guest"),
    ("outbound", "storage", "it keeps nothing"),
];

/// Edges that go down to some names of a module and to no others.
const NARROW: &[(&str, &str, &[&str], &str)] = &[
    (
        "http",
        "sandbox",
        &["Exchange", "FunctionRef", "GuestBody", "Program", "ResponseReceiver"],
        "it passes these on; `dispatch` is the only way to run them",
    ),
    ("http", "store", &["StoreDir"], "it shows how full the disk is, and keeps nothing"),
    ("server", "store", &["StoreDir", "engine"], "it chooses the engine, and names no part of it"),
    (
        "cli",
        "store",
        &[
            "FileSpace",
            "OfflineDatabase",
            "Quarantined",
            "QuarantinedRow",
            "StoreDir",
            "StoreJournal",
            "database_bytes",
            "file_space",
            "has_database",
            "peek_quarantine",
        ],
        "`doctor` shows and removes rows in quarantine, and compacts the database",
    ),
];

/// Words that belong to some modules alone.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("redb::", &["store"], "one module knows the database"),
    ("prometheus_client::", &["metrics"], "one module knows the library of metrics"),
    ("println!", &["cli"], "one module prints"),
    ("process::exit", &["cli"], "one module exits"),
    ("hyper_util::server", &["http", "cli"], "one module serves (and the demo, its site)"),
    ("wasmtime::", &["sandbox", "app"], "two modules know the engine: one runs, one keeps compiled code"),
    ("bireme_kernels::", &["worker"], "arithmetic happens in a worker"),
    ("tract_onnx::", &["worker"], "arithmetic happens in a worker"),
];

/// A place in the sources that names something of another module.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    /// As far as it is spelt: `wire::Frame`.
    to: String,
    line: usize,
}

/// Finds what `text`, the source of the module at `path`, names of the crate's other modules.
fn edges(path: &[&str], text: &str) -> Vec<Edge> {
    let code = code_of(text);
    let mut edges = Vec::new();
    // `super` leads out of a module of depth 1 after one step, to a sibling of the module at the top.
    let up = "super::".repeat(path.len());
    for prefix in ["crate::", &up] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_$:".contains(c)) {
                continue;
            }
            let line = code[..at].lines().count().max(1);
            for to in names(&code[at + prefix.len()..]) {
                let from = path[0].to_owned();
                if to.split("::").next() != Some(&from) {
                    edges.push(Edge { from, to, line });
                }
            }
        }
    }
    edges
}

/// Says what is wrong with an edge, if anything.
fn judge(edge: &Edge) -> Option<String> {
    let to = edge.to.split("::").next().unwrap_or_default();
    let rank = |name: &str| ORDER.iter().position(|module| *module == name);
    let Some(to_rank) = rank(to) else {
        return Some(format!("`{to}` is no module of `lib.rs`"));
    };
    let within =
        |allowed: &str| edge.to.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if let Some((_, _, why)) = FORBIDDEN.iter().find(|(from, to, _)| *from == edge.from && within(to)) {
        return Some((*why).to_owned());
    }
    let narrow = NARROW.iter().find(|(from, module, _, _)| *from == edge.from && *module == to);
    if let Some((_, module, names, why)) = narrow
        && !names.iter().any(|name| within(&format!("{module}::{name}")))
    {
        return Some((*why).to_owned());
    }
    let is_up = rank(&edge.from).is_none_or(|from_rank| to_rank < from_rank);
    is_up.then(|| format!("`{to}` is above `{}`", edge.from))
}

#[test]
fn the_order_is_that_of_the_library() {
    let lib = fs::read_to_string(crate_dir("src/lib.rs")).unwrap();
    let modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("pub").trim_start_matches("(crate)").strip_prefix(" mod ")?.strip_suffix(';')
        })
        .collect();
    assert_eq!(modules, ORDER);
}

#[test]
fn no_module_names_one_above_it() {
    let (mut wrong, mut seen) = (String::new(), Vec::new());
    visit(&crate_dir("src"), &mut |module, path, text| {
        for edge in edges(module, text) {
            if let Some(why) = judge(&edge) {
                writeln!(wrong, "{}:{}: `crate::{}`: {why}", path.display(), edge.line, edge.to).unwrap();
            }
            seen.push(edge);
        }
    });
    assert!(wrong.is_empty(), "\n{wrong}");
    // The search itself works: these are there.
    assert!(seen.len() > 100, "{} edges", seen.len());
}

#[test]
fn what_belongs_to_one_module_is_named_by_no_other() {
    let mut wrong = String::new();
    visit(&crate_dir("src"), &mut |module, path, text| {
        for (number, line) in code_of(text).lines().enumerate() {
            for (word, owners, why) in OWNED {
                if line.contains(word) && !owners.contains(&module[0]) {
                    writeln!(wrong, "{}:{}: `{word}`: {why}", path.display(), number + 1).unwrap();
                }
            }
        }
    });
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn check(path: &[&str], text: &str, expected: &[&str]) {
    let found: Vec<String> = edges(path, text).into_iter().map(|edge| edge.to).collect();
    assert_eq!(found, expected);
}

#[test]
fn edges_are_found_in_every_spelling() {
    check(&["kv"], "use crate::store::{Op,\n    Table};", &["store::Op", "store::Table"]);
    check(&["kv"], "use crate::{ids::AppName, limits};", &["ids::AppName", "limits"]);
    check(&["kv"], "let x = crate::http::serve(1);", &["http::serve"]);
    check(&["http", "ingress"], "use super::super::cli::Exit;\nuse super::routes;", &["cli::Exit"]);
    check(&["kv"], "use super::cli::Exit;", &["cli::Exit"]);
    check(&["kv"], "use crate::kv::Keys; // crate::cli\n/// [`crate::cli`]\n\"crate::cli\"; $crate::x", &[]);
    check(&["kv"], "fn a() {}\n#[cfg(test)]\nmod tests {\n use crate::cli; }", &[]);
}

#[test]
fn an_upward_edge_is_refused() {
    let verdict = |from: &str, to: &str| judge(&Edge { from: from.to_owned(), to: to.to_owned(), line: 1 }).is_none();
    assert!(verdict("dispatch", "sandbox::Program"));
    assert!(!verdict("sandbox", "dispatch::Call"));
    assert!(verdict("worker", "wire::Frame"));
    assert!(!verdict("worker", "inference"));
    assert!(!verdict("inference", "worker"));
    assert!(!verdict("inference", "sandbox"));
    assert!(!verdict("cli", "unheard_of"));
    assert!(verdict("http", "sandbox::Program"));
    assert!(!verdict("http", "sandbox::Programs"));
    assert!(!verdict("http", "sandbox::Sandbox"));
    assert!(!verdict("http", "sandbox"));
}
