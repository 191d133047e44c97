//! `bireme apps`, `history`, `rollback`, `stop`: apps of a host and their versions.

use clap::Args;
use serde_json::Value;

use super::address::Address;
use super::client::Client;
use super::paths;
use super::time;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, table};
use crate::logs::printable;

/// List the apps of a host.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme apps --host http://127.0.0.1:8080")]
pub struct Apps {
    #[command(flatten)]
    address: Address,
}

/// List the kept versions of an app, the newest change first.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme history hello")]
pub struct History {
    /// The name of a deployed app.
    app: String,
    #[command(flatten)]
    address: Address,
}

/// Return to the version of an app before this one, or to any that is kept. Starts a stopped app again.
#[derive(Args)]
#[command(after_help = "Examples:\n  bireme rollback hello\n  bireme rollback hello --to 3f2a90")]
pub struct Rollback {
    /// The name of a deployed app.
    app: String,
    /// The version, or its first digits.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    address: Address,
}

/// Take an app off a host. Calls under way finish; its versions and its data are kept.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme stop hello")]
pub struct Stop {
    /// The name of a deployed app.
    app: String,
    #[command(flatten)]
    address: Address,
}

impl Apps {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let answer = client.send("GET", "/api/v1/apps", &[])?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        let apps = rows(&answer["apps"]);
        if apps.is_empty() {
            output::note(&format!("no app is on {}; `bireme deploy APP` deploys one", client.base()));
            return Ok(());
        }
        let head = ["APP", "VERSION", "STATE", "FUNCTIONS", "DEPLOYED"].map(str::to_owned).to_vec();
        let lines = apps.iter().map(|app| {
            let functions = app["functions"].as_array().map(|functions| functions.len().to_string());
            let deployed = app["deployed_at_ms"].as_u64().map(time::ago);
            let state = match app["reason"].as_str() {
                Some(reason) => format!("failed: {reason}"),
                None => text(&app["state"]),
            };
            let given = || if app["state"] == "live" { "given at start" } else { "" }.to_owned();
            vec![
                text(&app["name"]),
                text(&app["version"]),
                state,
                functions.unwrap_or_default(),
                deployed.unwrap_or_else(given),
            ]
        });
        show(head, lines);
        Ok(())
    }
}

impl History {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let answer = client.send("GET", &paths::app(&self.app, "/history")?, &[])?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        let head = ["VERSION", "ACTION", "WHEN", "SIZE", "NEWLY MAY USE", "MESSAGE"].map(str::to_owned).to_vec();
        let records = rows(&answer["records"]);
        let lines = records.iter().enumerate().map(|(i, record)| {
            let is_live = i == 0 && record["action"] != "stop";
            let version = format!("{}{}", text(&record["version"]), if is_live { " (live)" } else { "" });
            let added: Vec<String> = rows(&record["added"]).iter().map(text).collect();
            let when = record["at_ms"].as_u64().map(time::ago).unwrap_or_default();
            let size = record["bytes"].as_u64().map(output::bytes).unwrap_or_default();
            vec![version, text(&record["action"]), when, size, added.join(", "), text(&record["message"])]
        });
        show(head, lines);
        Ok(())
    }
}

impl Rollback {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let query: Vec<(&str, String)> = self.to.into_iter().map(|to| ("to", to)).collect();
        let answer = client.send("POST", &paths::app(&self.app, "/rollback")?, &query)?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        let before = match answer["previous"].as_str() {
            Some(previous) => format!(" (before: {previous})"),
            None => String::new(),
        };
        output::line(&format!("{} {} is live again on {}{before}", self.app, text(&answer["version"]), client.base()));
        Ok(())
    }
}

impl Stop {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let answer = client.send("DELETE", &paths::app(&self.app, "")?, &[])?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        output::line(&format!(
            "{} is stopped; `bireme rollback {0}` starts {} again",
            self.app,
            text(&answer["stopped"])
        ));
        Ok(())
    }
}

fn rows(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Returns a string of the answer, safe for a terminal.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn show(head: Vec<String>, lines: impl Iterator<Item = Vec<String>>) {
    output::line(&table::plain(std::iter::once(head).chain(lines)));
}
