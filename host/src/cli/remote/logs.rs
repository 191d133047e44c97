//! `bireme logs`: log lines of functions on a host, and failures of their calls.

use std::io::{BufRead, BufReader};

use clap::{Args, ValueEnum};
use console::style;

use super::address::Address;
use super::client::{Answer, Client};
use super::{app_lookup, paths, short_id, time};
use crate::api::{self, AppHistory, AppState};
use crate::cli::exit::Exit;
use crate::cli::function_lookup::unknown_function;
use crate::cli::global::Global;
use crate::cli::output;
use crate::codes::Code;
use crate::ids::AppName;
use crate::logs::printable;

/// Default number of lines.
const TAIL: usize = 100;

/// Show the log lines of functions and the failures of their calls: the latest, or all as they arrive.
///
/// A host keeps the newest 4 MiB of each app, across restarts.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme logs hello -f\n  bireme logs hello --function greet --level warn --since 10m\n  bireme logs --call 0197c0de --timestamps"
)]
pub(crate) struct Logs {
    /// The name of an app; without it, all apps.
    app: Option<String>,
    #[command(flatten)]
    address: Address,
    /// Print new lines until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only lines of this function.
    #[arg(long)]
    function: Option<String>,
    /// Only lines of this call; a prefix of its id is enough.
    #[arg(long, alias = "function-call", value_name = "ID")]
    call: Option<String>,
    /// Only lines of this version; a prefix is enough.
    #[arg(long)]
    version: Option<String>,
    /// Only lines from this source.
    #[arg(long, short, value_enum)]
    source: Option<LogSource>,
    /// Only lines of this level or above.
    #[arg(long, value_enum)]
    level: Option<MinLevel>,
    /// Only lines with this text in the message or a field, ignoring case.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only lines from this time on: `10m` (ago), `2h`, or a time like 2026-01-31T09:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only lines before this time.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// At most the last N lines. Default: 100, or all lines if a time is given.
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Show times to the millisecond, with date and zone.
    #[arg(long)]
    timestamps: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogSource {
    /// `log::info!` and its like.
    Log,
    Stdout,
    Stderr,
    /// The host: why a call failed.
    System,
}

#[derive(Clone, Copy, ValueEnum)]
enum MinLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Logs {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let query = self.query()?;
        if self.follow {
            // There may never be a line that shows a name to be wrong.
            self.check_names(&client)?;
        }
        let lines = client.stream("/api/v1/logs", &query)?;
        let mut is_empty = true;
        // Ctrl-C ends the process; there is nothing to clean up.
        for line in BufReader::new(lines).lines() {
            let line =
                line.map_err(|error| Exit::new(Code::NoHost, format!("the host's answer broke off: {error}")))?;
            is_empty = false;
            if global.json {
                output::line(&line);
            } else {
                // A newer host may have kinds of lines that this version does not know.
                match serde_json::from_str(&line) {
                    Ok(line) => self.show(&line),
                    Err(error) => output::note(&format!("a line of the host cannot be read ({error})")),
                }
            }
        }
        if self.follow {
            output::note("the host has ended");
        } else if is_empty {
            self.check_names(&client)?;
        }
        Ok(())
    }

    /// Returns an error if no app or function has the name that was typed.
    fn check_names(&self, client: &Client) -> Result<(), Exit> {
        let Some(app) = &self.app else { return Ok(()) };
        let found = app_lookup::find(client, app)?;
        let Some(function) = &self.function else { return Ok(()) };
        let names: Vec<String> = match &found.functions {
            Some(functions) => functions.iter().map(|function| function.name.to_string()).collect(),
            // Of an app that is not live, the last deployment has them.
            None => {
                let history: Answer<AppHistory> = client.send("GET", &paths::app(app, "/history")?, &[])?;
                let newest = history.document.records.into_iter().next();
                newest.iter().flat_map(|record| &record.functions).map(ToString::to_string).collect()
            }
        };
        if found.state == AppState::Failed || names.iter().any(|name| name == function) {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Err(unknown_function(app, function, &names))
    }

    fn query(&self) -> Result<Vec<(&'static str, String)>, Exit> {
        let mut query = Vec::new();
        let mut add = |name: &'static str, value: Option<String>| query.extend(value.map(|value| (name, value)));
        if let Some(app) = &self.app {
            AppName::new(app).map_err(|error| Exit::usage(error.to_string()))?;
        }
        add("app", self.app.clone());
        add("function", self.function.clone());
        add("call", self.call.clone());
        add("version", self.version.clone());
        add("search", self.search.clone());
        add("source", self.source.as_ref().map(word));
        add("level", self.level.as_ref().map(word));
        let since = self.since.as_deref().map(|text| time::parse("--since", text)).transpose()?;
        let until = self.until.as_deref().map(|text| time::parse("--until", text)).transpose()?;
        let tail = self.tail.or_else(|| (since.is_none() && until.is_none()).then_some(TAIL));
        add("since_ms", since.map(|ms| ms.to_string()));
        add("until_ms", until.map(|ms| ms.to_string()));
        add("tail", tail.map(|tail| tail.to_string()));
        add("follow", self.follow.then(|| "true".to_owned()));
        Ok(query)
    }

    fn show(&self, line: &api::LogStreamLine) {
        match line {
            api::LogStreamLine::Entry(entry) => output::line(&self.text(entry)),
            api::LogStreamLine::Lost(api::LogLost { lost }) => {
                output::note(&format!("{lost} lines were lost: they came faster than they were read"));
            }
        }
    }

    /// Returns a line: time, level, version, call, function, message. What guests wrote is escaped.
    fn text(&self, entry: &api::LogEntry) -> String {
        let created_ms = time::newer_or(entry.created_ms, entry.at_ms);
        let time = if self.timestamps { time::exact(created_ms) } else { time::brief(created_ms) };
        let version: String = entry.version.as_str().chars().take(VERSION_LEN).collect();
        let call = entry.call.to_string();
        let place = format!("{version} {}", short_id::short(&call));
        let mut text = format!("{}::{}: {}", entry.app, entry.function, entry.message);
        for (key, value) in &entry.fields {
            text += &format!(" {key}={value}");
        }
        format!("{} {} {} {}", style(time).dim(), level(entry), style(place).dim(), printable(&text))
    }
}

/// Digits of a version that are shown; `--version` takes them.
const VERSION_LEN: usize = 6;

/// Returns the level of a line, or its stream if it has none, in a column of its own.
fn level(entry: &api::LogEntry) -> String {
    let text = match entry.source {
        api::LogSource::Stdout | api::LogSource::Stderr => entry.source.to_string(),
        api::LogSource::Log | api::LogSource::System => entry.level.to_string(),
    };
    let text = style(format!("{text:<6}"));
    match (entry.source, entry.level) {
        (api::LogSource::Stdout | api::LogSource::Stderr, _) => text,
        (_, api::LogLevel::Trace | api::LogLevel::Debug) => text.dim(),
        (_, api::LogLevel::Info) => text.green(),
        (_, api::LogLevel::Warn) => text.yellow(),
        (_, api::LogLevel::Error) => text.red(),
    }
    .to_string()
}

fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        logs: Logs,
    }

    #[test]
    fn a_line_begins_with_its_time_and_levels_are_aligned() {
        let check = |source: &str, level: &str, expected: &str| {
            let entry = serde_json::from_value(json!({
                "number": 1, "created_ms": 0, "app": "shop", "function": "tick", "version": "a15266ae7b02",
                "call": "01a2291c-68ee-778b-9a51-000000000001", "source": source, "level": level,
                "message": "tick\u{1b}[2J", "fields": { "n": "68" },
            }));
            let text = Command::parse_from(["logs"]).logs.text(&entry.unwrap());
            let text = console::strip_ansi_codes(&text).into_owned();
            let (time, rest) = text.split_at(time::brief(0).len());
            assert_eq!((time, rest), (time::brief(0).as_str(), expected));
        };
        let end = "a15266 01a2291c-68ee shop::tick: tick\\u{1b}[2J n=68";
        check("log", "info", &format!(" info   {end}"));
        check("system", "error", &format!(" error  {end}"));
        check("stderr", "info", &format!(" stderr {end}"));
    }
}
