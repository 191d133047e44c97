//! `bireme schedule`: scheduled functions of a host, their runs, pause and resume.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::address::Address;
use super::client::Client;
use super::time;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, table, target};
use crate::ids::{AppName, FunctionName};
use crate::logs::printable;

/// Show the scheduled functions of a host and their runs; pause, resume, or run one at once.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme schedule list\n  bireme schedule history reports::weekly\n  bireme schedule pause reports::weekly"
)]
pub struct Schedule {
    #[command(subcommand)]
    command: ScheduleCommand,
}

#[derive(Subcommand)]
enum ScheduleCommand {
    /// List the scheduled functions: when each is due, when it is next, how its last run ended.
    #[command(after_help = "Examples:\n  bireme schedule list\n  bireme schedule list reports --json")]
    List {
        /// The name of a deployed app; without it, all apps.
        app: Option<String>,
        #[command(flatten)]
        address: Address,
    },
    /// Pause a schedule until it is resumed. Survives restarts of the host and new versions of the app.
    ///
    /// A run under way goes on. Times missed while paused are not made up for.
    #[command(after_help = "Example:\n  bireme schedule pause reports::weekly")]
    Pause(FunctionArgs),
    /// Resume a paused schedule, from its next time on.
    #[command(after_help = "Example:\n  bireme schedule resume reports::weekly")]
    Resume(FunctionArgs),
    /// Run a scheduled function at once, paused or not. Its next time stays the same.
    ///
    /// Prints the id of the call without waiting for its end, which `bireme schedule history` and `bireme logs` show.
    #[command(after_help = "Example:\n  bireme schedule run-now reports::weekly")]
    RunNow(FunctionArgs),
    /// Show the last 100 runs of a function, newest first.
    #[command(after_help = "Example:\n  bireme schedule history reports::weekly")]
    History(FunctionArgs),
}

#[derive(Args)]
struct FunctionArgs {
    /// The function, as APP::FUNCTION; APP is the name of a deployed app.
    #[arg(value_name = "APP::FUNCTION")]
    target: String,
    #[command(flatten)]
    address: Address,
}

impl Schedule {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        match self.command {
            ScheduleCommand::List { app, address } => list(&address, app, global),
            ScheduleCommand::Pause(function) => {
                function.change("pause", global, |target, _| format!("{target} is paused"))
            }
            ScheduleCommand::Resume(function) => function.change("resume", global, |target, answer| {
                let next = answer["next_ms"].as_u64().map_or_else(|| "never".to_owned(), time::until);
                format!("{target} goes on: next {next}")
            }),
            ScheduleCommand::RunNow(function) => function.change("run", global, |target, answer| {
                let call = text(&answer["call"]);
                let (app, _) = target.split_once("::").unwrap_or((target, ""));
                format!("{target} runs as call {call}; its log: bireme logs {app} --call {call}")
            }),
            ScheduleCommand::History(function) => function.history(global),
        }
    }
}

impl FunctionArgs {
    fn path(&self, rest: &str) -> Result<String, Exit> {
        let (app, function) = target::split(&self.target)?;
        let app = AppName::new(app).map_err(|error| Exit::usage(error.to_string()))?;
        let function = FunctionName::new(function).map_err(|error| Exit::usage(error.to_string()))?;
        Ok(format!("/api/v1/schedules/{app}/{function}{rest}"))
    }

    fn change(self, action: &str, global: &Global, text: impl FnOnce(&str, &Value) -> String) -> Result<(), Exit> {
        let path = self.path(&format!("/{action}"))?;
        let answer = Client::new(&self.address)?.send("POST", &path, &[])?;
        output::line(&if global.json { answer.to_string() } else { text(&self.target, &answer) });
        Ok(())
    }

    fn history(self, global: &Global) -> Result<(), Exit> {
        let path = self.path("")?;
        let answer = Client::new(&self.address)?.send("GET", &path, &[])?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        let runs = answer["history"].as_array().cloned().unwrap_or_default();
        if runs.is_empty() {
            output::note(&format!("{} has not been due yet", self.target));
            return Ok(());
        }
        let head = ["DUE", "STARTED", "TOOK", "OUTCOME", "CALL"].map(str::to_owned).to_vec();
        let rows = runs.iter().map(|run| {
            let due = run["due_ms"].as_u64().map_or_else(|| "by hand".to_owned(), time::local);
            let (started, ended) = (run["started_ms"].as_u64(), run["ended_ms"].as_u64());
            let took = started.zip(ended).map(|(started, ended)| output::micros(ended.saturating_sub(started) * 1_000));
            let started = started.map(time::local).unwrap_or_default();
            vec![due, started, took.unwrap_or_default(), outcome(run), text(&run["call"])]
        });
        output::line(&table::plain(std::iter::once(head).chain(rows)));
        Ok(())
    }
}

fn list(address: &Address, app: Option<String>, global: &Global) -> Result<(), Exit> {
    let client = Client::new(address)?;
    if let Some(app) = &app {
        AppName::new(app).map_err(|error| Exit::usage(error.to_string()))?;
    }
    let query: Vec<(&str, String)> = app.into_iter().map(|app| ("app", app)).collect();
    let answer = client.send("GET", "/api/v1/schedules", &query)?;
    if global.json {
        output::line(&answer.to_string());
        return Ok(());
    }
    let schedules = answer["schedules"].as_array().cloned().unwrap_or_default();
    if schedules.is_empty() {
        let of = query.first().map(|(_, app)| format!(" of {app}")).unwrap_or_default();
        output::note(&format!(
            "no function{of} on {} is scheduled; `#[function(schedule = period(\"15m\"))]` schedules one",
            client.base()
        ));
        return Ok(());
    }
    let head = ["FUNCTION", "RUNS", "NEXT", "LAST"].map(str::to_owned).to_vec();
    let rows = schedules.iter().map(row);
    output::line(&table::plain(std::iter::once(head).chain(rows)));
    Ok(())
}

fn row(schedule: &Value) -> Vec<String> {
    let next = match schedule["next_ms"].as_u64() {
        _ if schedule["paused"] == true => "paused".to_owned(),
        Some(next) => time::until(next),
        None => "never".to_owned(),
    };
    let last = &schedule["last"];
    let at = ["ended_ms", "started_ms", "due_ms"].iter().find_map(|key| last[*key].as_u64());
    let last = at.map(|at| format!("{}, {}", outcome(last), time::ago(at)));
    vec![
        format!("{}::{}", text(&schedule["app"]), text(&schedule["function"])),
        text(&schedule["words"]),
        next,
        last.unwrap_or_else(|| "not yet".to_owned()),
    ]
}

/// Returns the outcome of a run in words.
fn outcome(run: &Value) -> String {
    let times = run["times"].as_u64().unwrap_or(1);
    match run["outcome"].as_str() {
        Some("failed") => format!("failed [{}]", text(&run["code"])),
        Some("skipped") if times > 1 => format!("skipped {} times: {}", output::count(times), text(&run["why"])),
        Some("skipped") => format!("skipped: {}", text(&run["why"])),
        _ if times > 1 => format!("{}, for {} times", text(&run["outcome"]), output::count(times)),
        _ => text(&run["outcome"]),
    }
}

/// Returns a string of the answer, safe for a terminal.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outcome_is_told_with_what_it_stands_for() {
        let check = |run: Value| outcome(&run);
        assert_eq!(check(json!({ "outcome": "done" })), "done");
        assert_eq!(check(json!({ "outcome": "done", "times": 3 })), "done, for 3 times");
        assert_eq!(check(json!({ "outcome": "failed", "code": "timeout", "times": 1 })), "failed [timeout]");
        assert_eq!(check(json!({ "outcome": "skipped", "why": "overlap", "times": 1 })), "skipped: overlap");
        let missed = json!({ "outcome": "skipped", "why": "missed", "times": 1_000 });
        assert_eq!(check(missed), "skipped 1,000 times: missed");
    }

    #[test]
    fn a_row_tells_a_pause_before_a_time() {
        let schedule =
            json!({ "app": "a", "function": "f", "words": "every 15m", "paused": true, "next_ms": null, "last": null });
        assert_eq!(row(&schedule), ["a::f", "every 15m", "paused", "not yet"]);
    }
}
