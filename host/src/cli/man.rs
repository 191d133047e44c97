//! `bireme man`: the manual, as pages for `man`.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use super::exit::Exit;
use super::{Cli, Global, output};

/// Write the manual pages: one for each command into DIR, or the page of `bireme` itself to stdout.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme man | man -l -\n  bireme man ~/.local/share/man/man1")]
pub struct Manual {
    /// The directory; it is created where it is missing.
    dir: Option<PathBuf>,
}

impl Manual {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let mut pages = pages();
        let Some(dir) = self.dir else {
            // The first is the whole command line's.
            let (_, text) = pages.swap_remove(0);
            output::line(text.trim_end());
            return Ok(());
        };
        std::fs::create_dir_all(&dir)?;
        for (name, text) in &pages {
            std::fs::write(dir.join(name), text)?;
        }
        let names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        if global.json {
            output::line(&json!({ "dir": dir, "pages": names }).to_string());
        } else {
            output::line(&format!("{} pages in {}; try `man bireme-run`", names.len(), dir.display()));
        }
        Ok(())
    }
}

/// Returns every page by its file's name; commands that help does not list have none.
fn pages() -> Vec<(String, String)> {
    let mut root = Cli::command();
    // Gives each command its full name and the options that hold for all.
    root.build();
    let mut pages = Vec::new();
    add(&root, &mut pages);
    pages
}

fn add(command: &Command, pages: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = Man::new(command.clone()).title(name.to_uppercase()).render(&mut text);
    pages.push((format!("{name}.1"), String::from_utf8(text).expect("names and help are UTF-8")));
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    commands.for_each(|command| add(command, pages));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_command_has_a_page_and_no_page_names_another() {
        let pages = pages();
        let page = |name: &str| pages.iter().find(|(page, _)| page == name).map(|(_, text)| text.as_str());
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("bireme-{}.1", command.get_name());
            let text = page(&name).unwrap_or_else(|| panic!("no page {name}"));
            assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{name}");
        }
        assert!(page("bireme-models-pull.1").is_some() && page("bireme-worker.1").is_none());
        assert_eq!(pages[0].0, "bireme.1");
        for (name, text) in &pages {
            assert!(!text.contains("bireme\\-worker") && !text.contains("bireme-worker"), "{name}");
        }
    }
}
