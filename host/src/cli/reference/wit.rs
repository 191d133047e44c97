//! WIT contract: one section for each interface and world of `wit/`, with its docs in front.

use std::fmt::Write;

use expect_test::expect_file;

const FILES: [(&str, &str); 8] = [
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
    ("handler.wit", include_str!("../../../../wit/handler.wit")),
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("context.wit", include_str!("../../../../wit/context.wit")),
    ("functions.wit", include_str!("../../../../wit/functions.wit")),
    ("inference.wit", include_str!("../../../../wit/inference.wit")),
    ("buckets.wit", include_str!("../../../../wit/buckets.wit")),
    ("python.wit", include_str!("../../../../wit/python.wit")),
];

#[test]
fn the_page_of_the_contract_is_up_to_date() {
    let mut text = "# WIT contract\n\nThe package `bireme:host`: the interface between a host and its apps, in any \
        language with component bindings. The SDK wraps\nit for Rust; [metadata](../metadata.md) has the document that \
        `describe` returns. Written by `UPDATE_EXPECT=1 cargo test -p bireme\n--lib cli::reference` from `wit/`.\n"
        .to_owned();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let files = std::fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files, FILES.len(), "a file of `wit/` is missing here");
    for (file, source) in FILES {
        let mut docs = Vec::new();
        let mut items = 0;
        let mut lines = source.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(doc) = line.strip_prefix("///") {
                docs.push(doc.strip_prefix(' ').unwrap_or(doc));
            } else if let Some(head) = line.strip_suffix(" {").filter(|_| !line.starts_with(' ')) {
                let mut body = format!("{line}\n");
                for line in lines.by_ref() {
                    let _ = writeln!(body, "{line}");
                    if line == "}" {
                        break;
                    }
                }
                let docs = std::mem::take(&mut docs).join("\n");
                let _ = write!(text, "\n## {head}\n\n{docs}\n\n```wit\n// wit/{file}\n{body}```\n");
                items += 1;
            }
        }
        assert!(items > 0 && docs.is_empty(), "{file}");
    }
    expect_file!["../../../../docs/reference/wit.md"].assert_eq(&text);
}
