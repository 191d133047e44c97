//! `bireme apps`, `history`, `rollback`, `stop`, `start`: apps of a host and their versions.

use clap::Args;
use console::style;

use super::address::Address;
use super::client::{Answer, Client};
use super::{app_lookup, paths, time};
use crate::api::{App, AppHistory, AppList, AppState, AppStopped, Deployment, DeploymentAction, DeploymentRecord};
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, table};
use crate::logs::printable;

/// List the apps of a host.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme apps --host http://127.0.0.1:8080")]
pub(crate) struct Apps {
    #[command(flatten)]
    address: Address,
}

/// List the versions of an app in the host's history, newest first.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme history hello")]
pub(crate) struct History {
    /// The name of a deployed app.
    app: String,
    #[command(flatten)]
    address: Address,
}

/// Return to the previous version of an app, or to any version in its history. Starts a stopped app again.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme rollback hello\n  bireme rollback hello --to 3f2a90")]
pub(crate) struct Rollback {
    /// The name of a deployed app.
    app: String,
    /// The version, or its first digits.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    address: Address,
}

/// Start a stopped app again, in the version that was live.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme start hello")]
pub(crate) struct Start {
    /// The name of a stopped app.
    app: String,
    #[command(flatten)]
    address: Address,
}

/// Stop an app. Running calls finish; its versions and its data stay.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme stop hello")]
pub(crate) struct Stop {
    /// The name of a deployed app.
    app: String,
    #[command(flatten)]
    address: Address,
}

impl Apps {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let answer: Answer<AppList> = client.send("GET", "/api/v1/apps", &[])?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let apps = &answer.document.apps;
        if apps.is_empty() {
            output::note(&format!("no app is on {}; `bireme deploy APP` deploys one", client.base()));
            return Ok(());
        }
        let head = ["APP", "VERSION", "STATE", "FUNCTIONS", "DEPLOYED"].map(str::to_owned).to_vec();
        show(head, apps.iter().map(app_row), &[2]);
        Ok(())
    }
}

impl History {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let answer: Answer<AppHistory> = client.send("GET", &paths::app(&self.app, "/history")?, &[])?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let head = ["VERSION", "ACTION", "WHEN", "SIZE", "NEW PERMISSIONS", "MESSAGE"].map(str::to_owned).to_vec();
        let records = answer.document.records.iter().enumerate();
        show(head, records.map(|(i, record)| record_row(record, i == 0)), &[5, 4]);
        Ok(())
    }
}

impl Rollback {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let query: Vec<(&str, String)> = self.to.into_iter().map(|to| ("to", to)).collect();
        let answer: Answer<Deployment> = client.send("POST", &paths::app(&self.app, "/rollback")?, &query)?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let Deployment { version, previous, .. } = answer.document;
        let before = previous.map_or_else(String::new, |previous| format!(" (before: {previous})"));
        output::line(&format!("{} {version} is live again on {}{before}", self.app, client.base()));
        Ok(())
    }
}

impl Start {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let app = app_lookup::find(&client, &self.app)?;
        if app.state == AppState::Live {
            let exit = Exit::usage(format!("{} {} is live already", self.app, app.version));
            return Err(exit.hint(format!("`bireme rollback {}` returns to the version before", self.app)));
        }
        let query = [("to", app.version.to_string())];
        let answer: Answer<Deployment> = client.send("POST", &paths::app(&self.app, "/rollback")?, &query)?;
        let version = answer.document.version;
        output::line(&match global.json {
            true => answer.text,
            false => format!("{} {version} is live again on {}", self.app, client.base()),
        });
        Ok(())
    }
}

impl Stop {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        let answer: Answer<AppStopped> = client.send("DELETE", &paths::app(&self.app, "")?, &[])?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let version = answer.document.stopped;
        output::line(&format!("{} is stopped; `bireme start {0}` starts {version} again", self.app));
        Ok(())
    }
}

fn app_row(app: &App) -> Vec<String> {
    let state = match &app.reason {
        Some(reason) => style(format!("failed: {}", printable(reason))).red().to_string(),
        None if app.state == AppState::Live => style("live").green().to_string(),
        None => app.state.to_string(),
    };
    let functions = app.functions.as_ref().map(|functions| functions.len().to_string());
    let given = || if app.state == AppState::Live { "given at start" } else { "" }.to_owned();
    let deployed = app.created_ms.or(app.deployed_at_ms).map_or_else(given, time::ago);
    vec![app.name.to_string(), app.version.to_string(), state, functions.unwrap_or_default(), deployed]
}

fn record_row(record: &DeploymentRecord, is_newest: bool) -> Vec<String> {
    let is_live = is_newest && record.action != DeploymentAction::Stop;
    let version = format!("{}{}", record.version, if is_live { style(" (live)").green() } else { style("") });
    let when = time::ago(time::newer_or(record.created_ms, record.at_ms));
    let added: Vec<String> = record.added.iter().map(|capability| printable(&capability.to_string())).collect();
    let message = record.message.as_deref().map(printable).unwrap_or_default();
    vec![version, record.action.to_string(), when, output::bytes(record.bytes), added.join(", "), message]
}

fn show(head: Vec<String>, lines: impl Iterator<Item = Vec<String>>, flexible: &[usize]) {
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    output::line(&table::fitted(&rows, flexible));
}
