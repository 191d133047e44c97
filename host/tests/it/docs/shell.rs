//! Blocks of commands, run in order as a reader would: those of `sh` must succeed, those of `console` must print what
//! they show. A block that cannot run here has the comment `<!-- not run: REASON -->` in front.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::output::missing;
use super::session::{Session, Step};
use super::{Block, Page, pages};
use crate::support::{MODEL, kept, locked, real_model};

#[test]
fn the_commands_of_the_pages_run() {
    locked("docs", || {
        let (mut notes, mut ran) = (String::new(), 0);
        for page in pages().iter().filter(|page| !page.is_generated()) {
            let blocks = page.blocks();
            let commands = blocks.iter().filter(|block| is_shell(block));
            for block in commands.clone() {
                if let Some(reason) = &block.not_run {
                    writeln!(notes, "not run: {}:{}: {reason}", page.name, block.line).unwrap();
                }
            }
            let run: Vec<&Block> = commands.filter(|block| block.not_run.is_none()).collect();
            if run.is_empty() {
                continue;
            }
            let needs_model = run.iter().any(|block| block.text.contains("bireme models pull"));
            let model = if needs_model { real_model(MODEL) } else { None };
            if needs_model && model.is_none() {
                writeln!(notes, "not run: {}: needs {MODEL}", page.name).unwrap();
                continue;
            }
            let begun = Instant::now();
            walk(page, "room", model.as_deref());
            writeln!(notes, "{}: {} blocks in {:.1?}", page.name, run.len(), begun.elapsed()).unwrap();
            ran += 1;
        }
        // Past the test harness, which shows nothing of a test that passes.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), notes.as_bytes());
        assert!(ran > 4, "{ran} pages");
    });
}

fn is_shell(block: &Block) -> bool {
    matches!(block.info.as_str(), "sh" | "console")
}

/// Runs the blocks of one page in a directory of this name.
fn walk(page: &Page, name: &str, model: Option<&Path>) {
    let mut walk = Walk::start(page, name, model);
    for block in &page.blocks() {
        match block.info.as_str() {
            _ if block.not_run.is_some() => {}
            "sh" => walk.run(block),
            "console" => walk.show(block),
            _ => {
                if let Some(file) = &block.file {
                    walk.session.write(file, &block.text);
                }
            }
        }
    }
}

struct Walk<'a> {
    page: &'a Page,
    session: Session,
    /// Output of the latest block of `sh`.
    printed: String,
    /// Commands of a second terminal. They end before the next block of `sh`.
    terminal: Vec<Step>,
}

impl<'a> Walk<'a> {
    fn start(page: &'a Page, name: &str, model: Option<&Path>) -> Self {
        let room = |name: &str| {
            let room: PathBuf = kept().join("docs").join(name);
            fs::create_dir_all(&room).unwrap();
            room
        };
        let data = room(&format!("{name}-data"));
        for entry in fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            // Its path is part of what cargo remembers.
            if path.file_name().is_some_and(|name| name == "sdk") {
                continue;
            }
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        if let Some(model) = model {
            fs::create_dir_all(data.join("models")).unwrap();
            symlink(model, data.join("models").join(MODEL)).unwrap();
        }
        let session = Session::start(&room(name), &data, &room("target"));
        Self { page, session, printed: String::new(), terminal: Vec::new() }
    }

    /// Runs a block of commands, each of which must succeed.
    fn run(&mut self, block: &Block) {
        for step in std::mem::take(&mut self.terminal) {
            let stop = self.session.begin("kill -TERM $terminal; wait $terminal || true");
            self.session.end(&stop);
            self.session.end(&step);
        }
        let step = self.session.begin(&format!("set -e\n{}\nset +e", block.text));
        let (status, printed) = self.session.end(&step);
        assert!(status == 0, "{}:{}: status {status}\n{printed}", self.page.name, block.line);
        self.printed = printed;
    }

    /// Runs the commands behind `$ `, each of which prints the lines behind it. A block without a command shows what
    /// the block before printed.
    fn show(&mut self, block: &Block) {
        let mut commands = Vec::new();
        for line in block.text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, String::new())),
                (None, Some((_, shown))) => *shown += &format!("{line}\n"),
                (None, None) => {
                    self.compare(block, &block.text, &self.printed);
                    return;
                }
            }
        }
        for (command, shown) in commands {
            let is_service = ["bireme dev", "bireme serve"].iter().any(|service| command.starts_with(service));
            if is_service && !command.ends_with('&') {
                let step = self.session.begin(&format!("{command} &\nterminal=$!"));
                let printed = self.session.wait(&step, |printed| missing(&shown, printed).is_none());
                self.compare(block, &shown, &printed);
                self.terminal.push(step);
                continue;
            }
            let step = self.session.begin(command);
            let (status, mut printed) = self.session.end(&step);
            if command.ends_with('&') {
                printed = self.session.wait(&step, |printed| missing(&shown, printed).is_none());
            }
            self.compare(block, &shown, &printed);
            let fails = shown.contains("error[");
            let place = format!("{}:{}", self.page.name, block.line);
            assert!((status != 0) == fails, "{place}: `{command}` ended with status {status}\n{printed}");
        }
    }

    fn compare(&self, block: &Block, shown: &str, printed: &str) {
        if let Some(line) = missing(shown, printed) {
            panic!("{}:{}: nothing printed `{line}`:\n{printed}", self.page.name, block.line);
        }
    }
}

fn walk_text(name: &str, text: &str) {
    walk(&Page { name: format!("{name}.md"), text: text.to_owned() }, name, None);
}

#[test]
fn variables_and_jobs_last_from_block_to_block() {
    walk_text(
        "lasting",
        "```sh\nsleep 600 &\njob=$!\necho 1 word\n```\n\n```console\n1 word\n```\n\n\
         ```console\n$ kill $job\n$ cat nothing || echo none\n…\nnone\n$ seq 1000000 | wc -l\n20000\n```\n",
    );
}

#[test]
#[should_panic(expected = "shown.md:5: nothing printed `2 words`")]
fn a_line_that_is_shown_must_be_printed() {
    walk_text("shown", "```sh\ntrue\n```\n\n```console\n$ echo 1 word\n2 words\n```\n");
}

#[test]
#[should_panic(expected = "failing.md:1: status 1")]
fn a_command_in_the_middle_of_a_block_must_succeed() {
    walk_text("failing", "```sh\ntrue\nfalse\ntrue\n```\n");
}

#[test]
#[should_panic(expected = "`false` ended with status 1")]
fn a_command_fails_only_where_its_error_is_shown() {
    walk_text("unshown", "```console\n$ false\n```\n");
}
