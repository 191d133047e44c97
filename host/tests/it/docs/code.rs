//! Blocks of JSON, Python and Rust: they parse, or `new` compiles them.

use std::fmt::Write;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::pages;

/// Languages of blocks that are code of Bireme's own, or run, or are checked here.
const LANGUAGES: [&str; 10] = ["sh", "console", "rust", "rust,ignore", "json", "python", "toml", "yaml", "wit", "text"];

#[test]
fn blocks_of_json_parse() {
    let (mut wrong, mut seen) = (String::new(), 0);
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.info == "json") {
            // `[…]` leaves elements out. One value a line, or one of many lines.
            let text = block.text.replace("[…]", "[]");
            for value in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>() {
                seen += 1;
                if let Err(error) = value {
                    writeln!(wrong, "{}:{}: {error}", page.name, block.line).unwrap();
                    break;
                }
            }
        }
    }
    assert!(seen > 12, "{seen} values");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn blocks_of_python_compile() {
    let mut seen = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.info == "python") {
            let name = format!("{}:{}", page.name, block.line);
            let mut python = Command::new("python3");
            python.args(["-c", "import sys; compile(sys.stdin.read(), sys.argv[1], 'exec')", &name]);
            let mut child = python.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(block.text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen} blocks");
}

/// `new::the_apps_of_the_book_build` compiles every block that begins with this line.
#[test]
fn blocks_of_rust_are_compiled_or_marked_as_fragments() {
    let (mut wrong, mut compiled) = (String::new(), 0);
    for page in pages() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.name, block.line);
            if block.info == "rust" && block.text.starts_with("// src/lib.rs\n") {
                compiled += 1;
            } else if block.info == "rust" {
                writeln!(wrong, "{place}: begin an app with `// src/lib.rs`, mark a fragment `rust,ignore`").unwrap();
            } else if !block.info.is_empty() && !LANGUAGES.contains(&block.info.as_str()) {
                writeln!(wrong, "{place}: nothing checks `{}`", block.info).unwrap();
            }
        }
    }
    assert!(compiled > 6, "{compiled} apps");
    assert!(wrong.is_empty(), "\n{wrong}");
}
