//! `bireme man`: manual pages.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::output;

/// Write the manual pages: one for each command into DIR, or the page of `bireme` itself to stdout.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme man | man -l -\n  bireme man ~/.local/share/man/man1")]
pub(crate) struct Manual {
    /// The directory; it is created where it is missing.
    dir: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(self, global: &Global, root: Command) -> Result<(), Exit> {
        let mut pages = pages(root);
        let Some(dir) = self.dir else {
            // The first page is that of `bireme`.
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

/// Returns each page with its file name, `bireme` first. Hidden commands have none.
fn pages(mut root: Command) -> Vec<(String, String)> {
    // Sets full names and adds global options.
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
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_listed_command_has_a_page_and_no_page_names_another() {
        let pages = pages(Cli::command());
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
