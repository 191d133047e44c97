//! `bireme logs`: log lines of functions on a host, and failures of their calls.

use std::io::{BufRead, BufReader};

use clap::{Args, ValueEnum};

use super::address::Address;
use super::client::Client;
use super::time;
use crate::api;
use crate::cli::exit::Exit;
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
    /// Only of this function.
    #[arg(long)]
    function: Option<String>,
    /// Only of this call; a prefix of its id is enough.
    #[arg(long, alias = "function-call", value_name = "ID")]
    call: Option<String>,
    /// Only of this version; a prefix is enough.
    #[arg(long)]
    version: Option<String>,
    /// Only from this source.
    #[arg(long, short, value_enum)]
    source: Option<LogSource>,
    /// Only of at least this level.
    #[arg(long, value_enum)]
    level: Option<MinLevel>,
    /// Only with this text in the message or a field, ignoring case.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only from this time on: `10m` (ago), `2h`, or a time like 2026-01-31T09:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// At most the last N kept lines; 100 where no time is given.
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Put the time in front of each line.
    #[arg(long)]
    timestamps: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogSource {
    /// `log::info!` and its like.
    Log,
    Stdout,
    Stderr,
    /// The host, on why a call failed.
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
        let client = Client::new(&self.address)?;
        let lines = client.stream("/api/v1/logs", &self.query()?)?;
        // Ctrl-C ends the process; there is nothing to clean up.
        for line in BufReader::new(lines).lines() {
            let line =
                line.map_err(|error| Exit::new(Code::NoHost, format!("the host's answer broke off: {error}")))?;
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
        }
        Ok(())
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
            api::LogStreamLine::Entry(entry) => output::line(&printable(&self.text(entry))),
            api::LogStreamLine::Lost(api::LogLost { lost }) => {
                output::note(&format!("{lost} lines were lost: they came faster than they were read"));
            }
        }
    }

    fn text(&self, entry: &api::LogEntry) -> String {
        let mut text = String::new();
        if self.timestamps {
            text += &format!("{} ", time::exact(time::newer_or(entry.created_ms, entry.at_ms)));
        }
        let call: String = entry.call.to_string().chars().take(CALL_LEN).collect();
        text += &format!("{}::{} {} {call} ", entry.app, entry.function, entry.version);
        text += &match entry.source {
            api::LogSource::Stdout | api::LogSource::Stderr => format!("{}: ", entry.source),
            api::LogSource::Log | api::LogSource::System => format!("{}: ", entry.level),
        };
        text += &entry.message;
        for (key, value) in &entry.fields {
            text += &format!(" {key}={value}");
        }
        text
    }
}

/// Digits of a call id that are shown: the first 12 are its time in milliseconds, the rest tell calls apart.
const CALL_LEN: usize = 18;

fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}
