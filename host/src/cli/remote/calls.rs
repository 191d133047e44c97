//! `bireme spawn`, `get`, `cancel`, `ps`: durable calls on a host.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::address::Address;
use super::client::{self, Client};
use super::paths;
use super::reconnect::Reconnect;
use super::time;
use crate::call::{Failure, Receipt};
use crate::cli::app_settings::AppSettings;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{self, InputFile};
use crate::cli::{function_lookup, output, receipt_text, table, target};
use crate::codes::Code;
use crate::logs::printable;

/// Longest wait of one request (long polling).
const WAIT_STEP: Duration = Duration::from_secs(30);

/// Start a durable call on a host and return at once, with its id on stdout. The call outlives this command and a
/// restart of the host.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme spawn hello::greet '{\"name\": \"Ada\"}'\n  bireme get $(bireme spawn hello::add --a 1 --b 2) --wait"
)]
pub struct Spawn {
    #[command(flatten)]
    address: Address,
    /// Priority among the app's calls: high, normal or low.
    #[arg(long, value_name = "PRIORITY", value_parser = ["high", "normal", "low"])]
    priority: Option<String>,
    /// Idempotency key: requests with the same key start one call.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    file: InputFile,
    /// The function, as APP::FUNCTION; APP is the name of a deployed app.
    target: String,
    /// The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "INPUT")]
    input: Vec<String>,
}

/// Print the result of a spawned call, or its state; of a map, its state.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme get 0199c0de-0000-7000-8000-000000000000 --wait\n  bireme get ID --wait 10"
)]
pub struct Get {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme spawn` or `bireme map` printed.
    id: String,
    /// Wait until it has ended, or at most SECONDS.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "inf")]
    wait: Option<f64>,
    /// Print what the call cost, to stderr (with --json, in the result).
    #[arg(long)]
    receipt: bool,
}

/// Cancel calls or maps, and everything that they spawned. One that has ended stays as it was.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme cancel 0199c0de-0000-7000-8000-000000000000")]
pub struct Cancel {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme spawn` or `bireme map` printed.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// List durable calls and maps, newest first, with state and cost.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme ps\n  bireme ps --app hello --state live\n  bireme ps --function hello::greet --state dead"
)]
pub struct Ps {
    #[command(flatten)]
    address: Address,
    /// Only of one app.
    #[arg(long)]
    app: Option<String>,
    /// Only of one function, as APP::FUNCTION.
    #[arg(long, value_name = "APP::FUNCTION")]
    function: Option<String>,
    /// Only in one state: live (not ended), accepted, leased, waiting, done, failed, dead, cancelled; for maps also
    /// open, running.
    #[arg(long)]
    state: Option<String>,
    /// Only calls, or only maps.
    #[arg(long, value_parser = ["call", "map"])]
    kind: Option<String>,
    /// At most N.
    #[arg(long, short = 'n', default_value = "20", value_name = "N")]
    limit: usize,
    /// Only older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

impl Spawn {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let (app, name) = target::split(&self.target)?;
        let metadata = client.metadata(app)?;
        let function = function_lookup::find(&metadata, name, Some(client.base()))?;
        let (input, trailing) = input::read(function, &self.file, &self.input)?;
        if trailing.settings != AppSettings::default() || trailing.receipt {
            return Err(Exit::usage(
                "a spawned call takes no grants, secrets, configuration or --receipt; \
                 `bireme get ID --receipt` prints what it cost",
            ));
        }
        let query: Vec<_> = self.priority.iter().map(|priority| ("priority", priority.clone())).collect();
        let route = format!("/api/v1/apps/{app}/functions/{name}/calls");
        let headers: Vec<_> = self.idempotency_key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
        let response = client.post_with(&route, &query, &headers, &input.content_type, &input.data)?;
        if !response.status().is_success() {
            return Err(Exit { is_json: global.json || trailing.json, ..client::problem(response) });
        }
        let call = client::json(response)?;
        if global.json || trailing.json {
            output::line(&call.to_string());
        } else {
            output::line(call["id"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}

/// Whether a call or a map has ended.
fn is_terminal(call: &Value) -> bool {
    !matches!(call["state"].as_str(), Some("accepted" | "leased" | "waiting" | "open" | "running"))
}

impl Get {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let started = std::time::Instant::now();
        let wait = match self.wait {
            Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
                return Err(Exit::usage("--wait takes a number of seconds, or nothing"));
            }
            Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            None => Duration::ZERO,
        };
        let mut reconnect = Reconnect::default();
        let call = loop {
            let left = wait.saturating_sub(started.elapsed());
            let step = left.min(WAIT_STEP).as_secs_f64();
            let answer = match send_to_either(&client, "GET", &self.id, &[("wait", step.to_string())]) {
                // A restarted host resumes the call, so keep waiting.
                Err(exit) if exit.code == Code::NoHost && !left.is_zero() => {
                    reconnect.wait(exit)?;
                    continue;
                }
                answer => answer?,
            };
            // The host long-polls calls; maps are polled.
            let is_over = if answer["kind"] == "map" { left.is_zero() } else { left <= WAIT_STEP };
            if is_terminal(&answer) || is_over {
                break answer;
            }
            if answer["kind"] == "map" {
                std::thread::sleep(Duration::from_millis(500));
            }
        };
        if global.json {
            output::line(&call.to_string());
        } else if call["kind"] == "map" {
            output::line(&map_line(&call));
        }
        if self.receipt && !global.json {
            let receipt: Option<Receipt> = serde_json::from_value(call["receipt"].clone()).ok();
            receipt.iter().for_each(|receipt| output::note(&receipt_text::table_of(receipt)));
        }
        if call["kind"] == "map" {
            return Ok(());
        }
        match call["state"].as_str() {
            Some("done") if global.json => Ok(()),
            Some("done") => {
                let output = client.bytes_of(&format!("/api/v1/calls/{}/result", self.id))?;
                output::result(&output);
                Ok(())
            }
            Some("failed" | "dead" | "cancelled") => {
                let failure: Result<Failure, _> = serde_json::from_value(call["failure"].clone());
                let exit = failure.map_or_else(|_| Exit::new(Code::Failed, "the call failed"), Exit::from);
                let app = call["app"].as_str().unwrap_or("APP");
                Err(exit.hint(format!("its log: bireme logs {app} --call {}", printable(&self.id))))
            }
            _ => {
                let exit = Exit::new(Code::Timeout, format!("it has not ended: {}", state_text(&call)));
                Err(exit.hint(format!("bireme get {} --wait", printable(&self.id))))
            }
        }
    }
}

/// Sends a request to the call of that id, else to the map.
fn send_to_either(client: &Client, method: &str, id: &str, query: client::Query<'_>) -> Result<Value, Exit> {
    match client.send(method, &paths::call(id)?, query) {
        Err(exit) if exit.code == Code::UnknownCall => client
            .send(method, &paths::map(id, "")?, &[])
            .map_err(|map| if map.code == Code::UnknownMap { exit } else { map }),
        answer => answer,
    }
}

/// Returns the state of a call in words.
fn state_text(call: &Value) -> String {
    let attempts = call["attempts"].as_u64().unwrap_or(0);
    match call["state"].as_str().unwrap_or("?") {
        "accepted" => "accepted, not begun".to_owned(),
        "leased" => format!("attempt {attempts} runs"),
        "waiting" => {
            let next = call["next_ms"].as_u64().unwrap_or(0).saturating_sub(crate::clock::unix_ms());
            let why = call["failed_attempts"].as_array().and_then(|attempts| attempts.last());
            let why = why.and_then(|attempt| attempt["failure"]["message"].as_str()).map(printable);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("{attempts} attempts failed, the next in {:.1} s{why}", next as f64 / 1e3)
        }
        state => state.to_owned(),
    }
}

/// Returns the progress of a map in one line.
pub fn map_line(map: &Value) -> String {
    let counts = &map["counts"];
    let count = |name: &str| counts[name].as_u64().unwrap_or(0);
    let mut line = format!(
        "{}: {} of {} done",
        map["state"].as_str().unwrap_or("?"),
        output::count(count("done")),
        output::count(count("accepted"))
    );
    for name in ["failed", "dead", "cancelled", "retried"] {
        if count(name) > 0 {
            line += &format!(", {} {name}", output::count(count(name)));
        }
    }
    let receipt: Receipt = serde_json::from_value(map["receipt"].clone()).unwrap_or_default();
    line + &format!("; cpu {}", output::micros(receipt.cpu_us))
}

impl Cancel {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        for id in &self.ids {
            let ended = send_to_either(&client, "DELETE", id, &[])?;
            if global.json {
                output::line(&ended.to_string());
            } else if ended["kind"] == "map" {
                output::line(&map_line(&ended));
            } else {
                let state = ended["state"].as_str().unwrap_or("?");
                output::line(
                    if state == "cancelled" { "cancelled".to_owned() } else { format!("it had ended before: {state}") }
                        .as_str(),
                );
            }
        }
        Ok(())
    }
}

impl Ps {
    pub fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let mut query = vec![("limit", self.limit.to_string())];
        let filters = [
            ("app", self.app),
            ("function", self.function),
            ("state", self.state),
            ("kind", self.kind),
            ("before", self.before),
        ];
        query.extend(filters.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let answer = client.send("GET", "/api/v1/calls", &query)?;
        if global.json {
            output::line(&answer.to_string());
            return Ok(());
        }
        let calls = answer["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        if calls.is_empty() {
            output::note("no durable call or map; `bireme spawn` and `bireme map --host URL` make some");
            return Ok(());
        }
        let mut rows = vec![["ID", "FUNCTION", "STATE", "ATTEMPTS", "CPU", "WALL", "MADE"].map(str::to_owned).to_vec()];
        let mut sum = Receipt::default();
        for call in calls {
            let receipt: Receipt = serde_json::from_value(call["receipt"].clone()).unwrap_or_default();
            let made = call["accepted_ms"].as_u64().or(call["created_ms"].as_u64()).unwrap_or(0);
            let attempts = match call["kind"].as_str() {
                Some("map") => {
                    let count = |name: &str| call["counts"][name].as_u64().unwrap_or(0);
                    let settled = count("done") + count("failed") + count("dead") + count("cancelled");
                    format!("{} of {}", output::count(settled), output::count(count("accepted")))
                }
                _ => call["attempts"].as_u64().unwrap_or(0).to_string(),
            };
            let text = |name: &str| printable(call[name].as_str().unwrap_or("?"));
            rows.push(vec![
                text("id"),
                text("function"),
                text("state"),
                attempts,
                output::micros(receipt.cpu_us),
                output::micros(receipt.wall_us),
                time::ago(made),
            ]);
            sum.add(&receipt);
        }
        output::line(&table::plain(rows));
        output::note(&format!(
            "{} listed: cpu {}, wall {}, {} attempts",
            calls.len(),
            output::micros(sum.cpu_us),
            output::micros(sum.wall_us),
            output::count(u64::from(sum.attempts))
        ));
        if let Some(next) = answer["next"].as_str() {
            output::note(&format!("more: bireme ps --before {}", printable(next)));
        }
        Ok(())
    }
}

/// Returns a failed input as `bireme map` prints it.
pub fn failed_line(line: &Value) -> Value {
    let mut error = line["error"].clone();
    error["index"] = line["index"].clone();
    json!({ "error": error })
}
