//! Pages of `docs/reference` that have the code as their source, as tests write and check them: the command line here,
//! `attributes` of the SDK, `wit`.

mod attributes;
mod wit;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory, Parser};
use expect_test::expect_file;

use super::Cli;

/// Pages that the generated ones would check themselves against, and pages of errors, which `explain` checks.
const PAGES_EXEMPT: [&str; 1] = ["docs/errors.md"];

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    let mut root = Cli::command();
    // Sets full names and adds global options.
    root.build();
    let mut text = "# Command line\n\nEvery command with its arguments and options; `bireme COMMAND --help` prints the \
        same. The [overview](commands.md) has\nthe common ones by task. Written by `UPDATE_EXPECT=1 cargo test -p bireme \
        --lib cli::reference` from `host/src/cli/`.\n\n"
        .to_owned();
    text += "| command | does |\n|---|---|\n";
    for command in listed(&root) {
        let name = command.get_bin_name().unwrap_or_default();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), cell(&about));
    }
    text += "\n## Global options\n\nEvery command takes these.\n\n";
    text += &table(root.get_arguments().filter(|arg| arg.is_global_set()));
    for command in listed(&root) {
        add(command, 2, &mut text);
    }
    let _ = write!(text, "\n## Exit codes\n\n{}\n", exit_codes(&root));
    expect_file!["../../../../docs/reference/cli.md"].assert_eq(&text);
}

/// Help, guides and reference name commands that exist, with options that they take.
#[test]
fn every_command_that_help_or_a_page_names_is_one() {
    let mut seen = 0;
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    for_each(&root, &mut |command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned);
        commands.extend(lines.map(|line| (format!("help of {}", command.get_name()), line)));
    });
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let quoted = text.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " "));
        commands.extend(quoted.map(|code| (page.display().to_string(), code)));
    }
    let mut wrong = String::new();
    for (place, command) in commands.iter().filter(|(_, command)| command.starts_with("bireme ")) {
        // One within another stands for what it prints.
        let command = match (command.find("$("), command.rfind(')')) {
            (Some(begin), Some(end)) => &format!("{}ID{}", &command[..begin], &command[end + 1..]),
            _ => command,
        };
        let words = shlex::split(command).unwrap_or_else(|| panic!("{place}: quotes in {command:?}"));
        let words = words.into_iter().take_while(|word| !matches!(word.as_str(), "|" | ">" | "<" | "&" | "#"));
        if let Err(error) = Cli::try_parse_from(words) {
            use clap::error::ErrorKind;
            // A command may be named alone, without its arguments, and a value may stand for others: `APP=N`.
            let is_one = matches!(
                error.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    | ErrorKind::DisplayVersion
                    | ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::ValueValidation
            );
            let is_usage = command.contains('[') || command.contains('…') || command.contains("COMMAND");
            if !(is_one || is_usage || command.starts_with("bireme worker")) {
                let _ =
                    writeln!(wrong, "{place}: `{command}`: {}", error.to_string().lines().next().unwrap_or_default());
            }
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(seen > 150, "{seen} commands: the search no longer works");
}

#[test]
fn every_argument_has_help() {
    let mut root = Cli::command();
    root.build();
    let mut wrong = String::new();
    for_each(&root, &mut |command| {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_help().is_none()) {
            let _ = writeln!(wrong, "{}: {arg}", command.get_bin_name().unwrap_or_default());
        }
    });
    assert!(wrong.is_empty(), "no help of\n{wrong}");
}

/// Calls `visit` with each command that help lists, at every depth.
fn for_each(command: &Command, visit: &mut impl FnMut(&Command)) {
    visit(command);
    listed(command).for_each(|command| for_each(command, visit));
}

fn listed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

/// Markdown of the repository that people read, generated pages and those in `PAGES_EXEMPT` left out.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages: Vec<PathBuf> = Vec::new();
    for dir in ["", "docs", "docs/guides", "docs/reference", "docs/decisions", "examples"] {
        for entry in std::fs::read_dir(root.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let is_exempt = PAGES_EXEMPT.iter().any(|exempt| path.ends_with(exempt)) || path.ends_with("CHANGELOG.md");
            if path.extension().is_some_and(|extension| extension == "md") && !is_exempt {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// Adds the section of a command and those of its subcommands.
fn add(command: &Command, level: usize, text: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string().replace("Usage: ", "");
    let _ = write!(text, "\n{} {name}\n\n{}\n\n```text\n{usage}\n```\n", "#".repeat(level), prose(&about));
    let own = command.get_arguments().filter(|arg| is_own(arg));
    let (targets, options): (Vec<&Arg>, Vec<&Arg>) = own.partition(|arg| arg.is_positional());
    let mut own = targets.into_iter().chain(options).peekable();
    if own.peek().is_some() {
        let _ = write!(text, "\n{}", table(own));
    }
    if let Some(help) = command.get_after_help() {
        *text += &examples(&help.to_string());
    }
    for command in listed(command) {
        add(command, level + 1, text);
    }
}

fn is_own(arg: &Arg) -> bool {
    !arg.is_global_set() && !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn table<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = "| argument | default | effect |\n|---|---|---|\n".to_owned();
    for arg in args {
        let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let mut effect = cell(&help);
        let takes_value = arg.get_action().takes_values();
        let values = if takes_value { arg.get_possible_values() } else { Vec::new() };
        if !values.is_empty() {
            let values: Vec<String> = values.iter().filter(|value| !value.is_hide_set()).map(value_text).collect();
            let _ = write!(effect, ". Values: {}", values.join("; "));
        }
        if let Some(variable) = arg.get_env() {
            let _ = write!(effect, ". Variable: `{}`", variable.to_string_lossy());
        }
        let defaults = if takes_value { defaults.join(" ") } else { String::new() };
        let _ = writeln!(text, "| `{short}{}` | {defaults} | {effect} |", arg.to_string().replace('|', "\\|"));
    }
    text
}

fn value_text(value: &PossibleValue) -> String {
    let help = value.get_help().map(|help| format!(": {}", cell(&help.to_string()))).unwrap_or_default();
    format!("`{}`{help}", value.get_name())
}

/// Returns text as one cell of a table.
fn cell(text: &str) -> String {
    prose(text).replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Escapes what Markdown would read as HTML, outside of code.
fn prose(text: &str) -> String {
    let pieces = text.split('`').enumerate();
    let escaped = pieces.map(|(at, piece)| if at % 2 == 0 { piece.replace('<', "\\<") } else { piece.to_owned() });
    escaped.collect::<Vec<_>>().join("`")
}

/// Returns the examples of a command's help: its indented lines as code, the others as prose.
fn examples(help: &str) -> String {
    let (mut text, mut is_code) = (String::new(), false);
    for line in help.lines() {
        let code = line.strip_prefix("  ");
        if code.is_some() != is_code {
            is_code = code.is_some();
            text += if is_code { "\n```sh\n" } else { "```\n" };
        }
        match code {
            Some(code) => text += code,
            // Names the block; several examples are seen to be several.
            None if line.is_empty() || line.starts_with("Example") => continue,
            None => {
                text.push('\n');
                text += &prose(line);
            }
        }
        text.push('\n');
    }
    text + if is_code { "```\n" } else { "" }
}

/// Returns the exit codes of the root's help as a table.
fn exit_codes(root: &Command) -> String {
    let help = root.get_after_help().map(ToString::to_string).unwrap_or_default();
    let codes = help.trim_start_matches("Exit codes: ").trim_end_matches('.');
    let mut text = "| code | means |\n|---|---|\n".to_owned();
    // `4 no such app, function or model` has a comma of its own: a code begins with a digit.
    let mut rows: Vec<String> = Vec::new();
    for part in codes.split(", ") {
        match rows.last_mut() {
            Some(row) if !part.starts_with(|c: char| c.is_ascii_digit()) => *row += &format!(", {part}"),
            _ => rows.push(part.to_owned()),
        }
    }
    for (code, means) in rows.iter().filter_map(|row| row.split_once(' ')) {
        let _ = writeln!(text, "| {code} | {means} |");
    }
    text + "\nAn error names the thing, the limit and the remedy, and points at its page of [errors](../errors.md)."
}
