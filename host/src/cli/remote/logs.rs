//! `bireme logs`: what functions on a host wrote, and why their calls failed.

use std::io::{BufRead, BufReader};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::client::Client;
use super::{Address, time};
use crate::cli::exit::Exit;
use crate::cli::{Global, output};
use crate::codes::Code;
use crate::ids::AppName;
use crate::logs::printable;

/// Lines that are shown where nothing says how many.
const TAIL: usize = 100;

/// Show what functions wrote, and why their calls failed: the latest lines, or all as they come.
///
/// A host keeps the newest 4 MiB of each app, over restarts, too.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme logs hello -f\n  bireme logs hello --function greet --level warn --since 10m\n  bireme logs --call 0197c0de --timestamps"
)]
pub struct Logs {
    /// The name of an app; without it, all apps.
    app: Option<String>,
    #[command(flatten)]
    address: Address,
    /// Go on with the lines that come, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only of this function.
    #[arg(long)]
    function: Option<String>,
    /// Only of this call; the first digits of its id will do.
    #[arg(long, alias = "function-call", value_name = "ID")]
    call: Option<String>,
    /// Only of this version; its first digits will do.
    #[arg(long)]
    version: Option<String>,
    /// Only from there.
    #[arg(long, short, value_enum)]
    source: Option<From>,
    /// Only of at least this level.
    #[arg(long, value_enum)]
    level: Option<Least>,
    /// Only with this text in the message or a field, in any case.
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

/// Where lines come from.
#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// `log::info!` and its like.
    Log,
    Stdout,
    Stderr,
    /// The host, on why a call failed.
    System,
}

/// How much a line matters.
#[derive(Clone, Copy, ValueEnum)]
enum Least {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Logs {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let lines = client.stream("/api/v1/logs", &self.query()?)?;
        // Ctrl-C ends the process, which is what is wanted: nothing is held here.
        for line in BufReader::new(lines).lines() {
            let line =
                line.map_err(|error| Exit::new(Code::NoHost, format!("the host's answer broke off: {error}")))?;
            if global.json {
                output::line(&line);
            } else {
                self.show(&serde_json::from_str(&line).unwrap_or_default());
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
        let since = self.since.as_deref().map(|text| time::read("--since", text)).transpose()?;
        let until = self.until.as_deref().map(|text| time::read("--until", text)).transpose()?;
        let tail = self.tail.or_else(|| (since.is_none() && until.is_none()).then_some(TAIL));
        add("since_ms", since.map(|ms| ms.to_string()));
        add("until_ms", until.map(|ms| ms.to_string()));
        add("tail", tail.map(|tail| tail.to_string()));
        add("follow", self.follow.then(|| "true".to_owned()));
        Ok(query)
    }

    fn show(&self, line: &Value) {
        if let Some(lost) = line["lost"].as_u64() {
            output::note(&format!("{lost} lines were lost: they came faster than they were read"));
            return;
        }
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let mut shown = String::new();
        if self.timestamps {
            shown += &format!("{} ", time::exact(line["at_ms"].as_u64().unwrap_or_default()));
        }
        let call: String = text("call").chars().take(CALL_LEN).collect();
        shown += &format!("{}::{} {} {call} ", text("app"), text("function"), text("version"));
        shown += &match line["source"].as_str() {
            Some("stdout" | "stderr") => format!("{}: ", text("source")),
            _ => format!("{}: ", text("level")),
        };
        shown += &text("message");
        for (key, value) in line["fields"].as_object().into_iter().flatten() {
            shown += &format!(" {key}={}", value.as_str().unwrap_or_default());
        }
        output::line(&printable(&shown));
    }
}

/// Digits of a call's id that tell it from others of the same minutes: its first 12 are the time to the millisecond.
const CALL_LEN: usize = 18;

fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}
