//! The pages of the book, the README and their like: what they show runs, and what they link to is there.
//!
//! `shell` runs the blocks of commands, `code` checks those of other languages, `links` the links. `new` builds the
//! apps that the pages show.

mod code;
mod links;
mod output;
mod session;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use crate::support::crate_dir;

/// Pages, from the repository's root: directories with the pages directly in them, or single files.
const PAGES: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "examples/README.md",
    "docs",
    "docs/guides",
    "docs/reference",
    "docs/decisions",
];

/// Pages that a test writes from the code. Their commands are checked where they are written.
const GENERATED: [&str; 2] = ["docs/errors.md", "docs/reference/cli.md"];

/// A page of Markdown.
pub(crate) struct Page {
    /// Path from the repository's root.
    name: String,
    text: String,
}

/// A fenced block.
struct Block {
    /// Words behind the fence: the language and, after commas, its attributes.
    info: String,
    text: String,
    /// Line of the fence, from 1.
    line: usize,
    /// Reason of the comment `<!-- not run: REASON -->` right in front.
    not_run: Option<String>,
    /// File that the block replaces, where the sentence in front says so.
    file: Option<String>,
}

/// Returns all pages, by name.
fn pages() -> Vec<Page> {
    let root = crate_dir("..");
    let mut paths: Vec<PathBuf> = Vec::new();
    for name in PAGES {
        let path = root.join(name);
        if path.is_dir() {
            let files = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
        } else {
            paths.push(path);
        }
    }
    paths.sort();
    let pages = paths.iter().map(|path| Page::read(&root, path));
    let pages: Vec<Page> = pages.collect();
    assert!(pages.len() > 50, "{} pages: some are not found", pages.len());
    pages
}

impl Page {
    fn read(root: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        Self { name, text: fs::read_to_string(path).unwrap() }
    }

    fn is_generated(&self) -> bool {
        GENERATED.contains(&self.name.as_str())
    }

    /// Returns the fenced blocks in order.
    fn blocks(&self) -> Vec<Block> {
        blocks(&self.text)
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut end) = (Vec::new(), 0);
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                // What stands between the block before and this one.
                let before = text[end..range.start].trim_end();
                let comment = before.rsplit_once("<!-- not run: ").and_then(|(_, rest)| rest.strip_suffix(" -->"));
                let line = text[..range.start].lines().count() + 1;
                end = range.end;
                blocks.push(Block {
                    info: info.to_string(),
                    text: String::new(),
                    line,
                    not_run: comment.map(str::to_owned),
                    file: replaced(before).map(str::to_owned),
                });
            }
            Event::Text(piece) => {
                if let Some(block) = blocks.last_mut().filter(|_| range.end <= end) {
                    block.text += &piece;
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Returns the path in the closing sentence ``Replace `PATH` with:``.
fn replaced(before: &str) -> Option<&str> {
    before.strip_suffix("` with:").and_then(|before| before.rsplit_once("Replace `")).map(|(_, path)| path)
}

#[test]
fn blocks_have_their_line_their_reason_and_their_file() {
    let text = "# A\n\nReplace `a/src/lib.rs` with:\n\n```rust\nfn a() {}\n\nfn b() {}\n```\n\nText.\n\n\
        <!-- not run: it needs a network -->\n```sh\nping\n```\n\n```sh\ntrue\n```\n";
    let found: Vec<_> =
        blocks(text).into_iter().map(|block| (block.line, block.info, block.text, block.not_run, block.file)).collect();
    let (rust, sh) = ("rust".to_owned(), "sh".to_owned());
    assert_eq!(
        found,
        [
            (5, rust, "fn a() {}\n\nfn b() {}\n".to_owned(), None, Some("a/src/lib.rs".to_owned())),
            (14, sh.clone(), "ping\n".to_owned(), Some("it needs a network".to_owned()), None),
            (18, sh, "true\n".to_owned(), None, None),
        ]
    );
}
