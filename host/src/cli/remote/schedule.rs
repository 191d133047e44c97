//! `bireme schedule`: scheduled functions of a host, their runs, pause and resume.

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::address::Address;
use super::client::{Answer, Client};
use super::{short_id, time};
use crate::api::{self, RunOutcome, RunStarted, ScheduleList, ScheduleRun};
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
pub(crate) struct Schedule {
    #[command(subcommand)]
    command: ScheduleCommand,
}

#[derive(Subcommand)]
enum ScheduleCommand {
    /// List the scheduled functions: timetable, next time, outcome of the last run.
    #[command(after_help = "Examples:\n  bireme schedule list\n  bireme schedule list reports --json")]
    List {
        /// The name of a deployed app; without it, all apps.
        app: Option<String>,
        #[command(flatten)]
        address: Address,
    },
    /// Pause a schedule until it is resumed. Survives restarts of the host and new versions of the app.
    ///
    /// A run that has begun continues. Times that pass while the schedule is paused are not made up for.
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
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        match self.command {
            ScheduleCommand::List { app, address } => list(&address, app, global),
            ScheduleCommand::Pause(function) => {
                function.change("pause", global, |target, _: &api::Schedule| format!("{target} is paused"))
            }
            ScheduleCommand::Resume(function) => {
                function.change("resume", global, |target, schedule: &api::Schedule| {
                    let next = schedule.next_ms.map_or_else(|| "never".to_owned(), time::until);
                    format!("{target} goes on: next {next}")
                })
            }
            ScheduleCommand::RunNow(function) => {
                function.change("run", global, |target, RunStarted { app, call, .. }: &RunStarted| {
                    format!("{target} runs as call {call}; its log: bireme logs {app} --call {call}")
                })
            }
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

    fn change<T: DeserializeOwned>(
        self,
        action: &str,
        global: &Global,
        text: impl FnOnce(&str, &T) -> String,
    ) -> Result<(), Exit> {
        let path = self.path(&format!("/{action}"))?;
        let answer = Client::new(&self.address, global)?.send("POST", &path, &[])?;
        output::line(&if global.json { answer.text } else { text(&self.target, &answer.document) });
        Ok(())
    }

    fn history(self, global: &Global) -> Result<(), Exit> {
        let path = self.path("")?;
        let answer: Answer<api::Schedule> = Client::new(&self.address, global)?.send("GET", &path, &[])?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let runs = answer.document.history.unwrap_or_default();
        if runs.is_empty() {
            output::note(&format!("{} has not been due yet", self.target));
            return Ok(());
        }
        let head = ["DUE", "STARTED", "TOOK", "OUTCOME", "CALL"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(runs.iter().map(run_row)).collect();
        output::line(&table::fitted(&rows, &[3]));
        Ok(())
    }
}

fn list(address: &Address, app: Option<String>, global: &Global) -> Result<(), Exit> {
    let client = Client::new(address, global)?;
    if let Some(app) = &app {
        AppName::new(app).map_err(|error| Exit::usage(error.to_string()))?;
    }
    let query: Vec<(&str, String)> = app.into_iter().map(|app| ("app", app)).collect();
    let answer: Answer<ScheduleList> = client.send("GET", "/api/v1/schedules", &query)?;
    if global.json {
        output::line(&answer.text);
        return Ok(());
    }
    let schedules = answer.document.schedules;
    if schedules.is_empty() {
        let of = query.first().map(|(_, app)| format!(" of {app}")).unwrap_or_default();
        output::note(&format!(
            "no function{of} on {} is scheduled; `#[function(schedule = period(\"15m\"))]` schedules one",
            client.base()
        ));
        return Ok(());
    }
    let head = ["FUNCTION", "RUNS", "NEXT", "LAST"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(schedules.iter().map(row)).collect();
    output::line(&table::fitted(&rows, &[1, 3, 0]));
    Ok(())
}

fn row(schedule: &api::Schedule) -> Vec<String> {
    let next = match schedule.next_ms {
        _ if schedule.paused => "paused".to_owned(),
        Some(next) => time::until(next),
        None => "never".to_owned(),
    };
    let last = schedule.last.as_ref().and_then(|run| {
        let at = run.ended_ms.or(run.started_ms).or(run.due_ms)?;
        Some(format!("{}, {}", outcome(run), time::ago(at)))
    });
    vec![
        format!("{}::{}", schedule.app, schedule.function),
        schedule.words.as_deref().map(printable).unwrap_or_default(),
        next,
        last.unwrap_or_else(|| "not yet".to_owned()),
    ]
}

fn run_row(run: &ScheduleRun) -> Vec<String> {
    let due = run.due_ms.map_or_else(|| "by hand".to_owned(), time::local);
    let started = run.started_ms.map(time::local).unwrap_or_default();
    let took = run.started_ms.zip(run.ended_ms).map(|(started, ended)| {
        let ms = u64::try_from(ended.saturating_sub(started)).unwrap_or(0);
        output::micros(ms.saturating_mul(1_000))
    });
    let call = run.call.map(|call| short_id::short(&call.to_string()).to_owned()).unwrap_or_default();
    vec![due, started, took.unwrap_or_default(), outcome(run), call]
}

/// Returns the outcome of a run in words.
fn outcome(run: &ScheduleRun) -> String {
    let times = run.times.unwrap_or(1);
    let reason = || run.why.map(|why| why.to_string()).unwrap_or_default();
    match run.outcome {
        RunOutcome::Failed => format!("failed [{}]", printable(run.code.as_deref().unwrap_or_default())),
        RunOutcome::Skipped if times > 1 => format!("skipped {} times: {}", output::count(times), reason()),
        RunOutcome::Skipped => format!("skipped: {}", reason()),
        other if times > 1 => format!("{other}, for {} times", output::count(times)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_outcome_is_told_with_what_it_stands_for() {
        let check = |mut run: Value| {
            run["number"] = 1.into();
            outcome(&serde_json::from_value(run).unwrap())
        };
        assert_eq!(check(json!({ "outcome": "done" })), "done");
        assert_eq!(check(json!({ "outcome": "done", "times": 3 })), "done, for 3 times");
        assert_eq!(check(json!({ "outcome": "failed", "code": "timeout", "times": 1 })), "failed [timeout]");
        assert_eq!(check(json!({ "outcome": "skipped", "why": "overlap", "times": 1 })), "skipped: overlap");
        let missed = json!({ "outcome": "skipped", "why": "missed", "times": 1_000 });
        assert_eq!(check(missed), "skipped 1,000 times: missed");
    }

    #[test]
    fn a_row_tells_a_pause_before_a_time() {
        let schedule = json!({
            "app": "a", "function": "f", "schedule": { "period_ms": 900_000 }, "words": "every 15m", "paused": true,
            "next_ms": null, "running": 0, "waiting": false, "last": null,
        });
        assert_eq!(row(&serde_json::from_value(schedule).unwrap()), ["a::f", "every 15m", "paused", "not yet"]);
    }
}
