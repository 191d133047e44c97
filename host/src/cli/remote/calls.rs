//! `bireme spawn`, `get`, `cancel`, `ps`: durable calls on a host.

use std::time::{Duration, Instant};

use clap::Args;

use super::address::Address;
use super::client::{self, Answer, Client};
use super::events::{self, FeedItem};
use super::paths;
use super::reconnect::Reconnect;
use super::time;
use crate::api::{self, CallList, CallOrMap, CallState};
use crate::call::Receipt;
use crate::cli::app_settings::AppSettings;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{self, InputFile};
use crate::cli::{function_lookup, output, receipt_text, table, target};
use crate::codes::Code;
use crate::ids::CallId;
use crate::logs::printable;

/// Longest wait of one request (long polling).
const WAIT_STEP: Duration = Duration::from_secs(30);
/// Pause after an answer that came before the end of the wait: of a host that shuts down.
const EARLY_ANSWER_PAUSE: Duration = Duration::from_millis(250);

/// Start a durable call on a host and return at once, with its id on stdout. The call outlives this command and a
/// restart of the host.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme spawn hello::greet '{\"name\": \"Ada\"}'\n  bireme get $(bireme spawn hello::add --a 1 --b 2) --wait"
)]
pub(crate) struct Spawn {
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
pub(crate) struct Get {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme spawn` or `bireme map` printed; a unique prefix of at least 8 digits is enough.
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
pub(crate) struct Cancel {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme spawn` or `bireme map` printed; a unique prefix of at least 8 digits is enough.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// List durable calls and maps, newest first, with state and cost.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme ps\n  bireme ps --app hello --state live\n  bireme ps --function hello::greet --state dead\n  bireme ps --follow --json | jq -c '[.id, .state]'"
)]
pub(crate) struct Ps {
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
    /// Only older than this one; a unique prefix of at least 8 digits is enough.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Then print each change of a call or map as it happens, until Ctrl-C; with --json, an entry a line.
    #[arg(long, short, conflicts_with = "before")]
    follow: bool,
}

impl Spawn {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
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
        let is_json = global.json || trailing.json;
        let call: Answer<api::Call> = client::answer(response).map_err(|exit| Exit { is_json, ..exit })?;
        output::line(&if is_json { call.text } else { call.document.id.to_string() });
        Ok(())
    }
}

impl Get {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        let started = Instant::now();
        let wait = match self.wait {
            Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
                return Err(Exit::usage("--wait takes a number of seconds, or nothing"));
            }
            Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            None => Duration::ZERO,
        };
        let id = whole_id(&client, &self.id)?;
        let mut reconnect = Reconnect::default();
        let answer = loop {
            let step = wait.saturating_sub(started.elapsed()).min(WAIT_STEP);
            let asked = Instant::now();
            let answer = match send_to_either(&client, "GET", &id, &[("wait", step.as_secs_f64().to_string())]) {
                // The next host resumes the call, so keep waiting for it.
                Err(exit) if matches!(exit.code, Code::NoHost | Code::Unavailable) && !step.is_zero() => {
                    reconnect.wait(exit)?;
                    continue;
                }
                answer => answer?,
            };
            reconnect = Reconnect::default();
            if is_terminal(&answer.document) || started.elapsed() >= wait {
                break answer;
            }
            if asked.elapsed() < step {
                std::thread::sleep(EARLY_ANSWER_PAUSE);
            }
        };
        let call = match answer.document {
            CallOrMap::Call(call) => call,
            CallOrMap::Map(map) => {
                output::line(&if global.json { answer.text } else { map_line(&map) });
                self.note_receipt(&map.receipt, global);
                return Ok(());
            }
        };
        if global.json {
            output::line(&answer.text);
        }
        self.note_receipt(&call.receipt, global);
        match call.state {
            CallState::Done if global.json => Ok(()),
            CallState::Done => {
                output::result(&client.bytes_of(&format!("/api/v1/calls/{id}/result"))?);
                Ok(())
            }
            CallState::Failed | CallState::Dead | CallState::Cancelled => {
                let exit = call.failure.map_or_else(|| Exit::new(Code::Failed, "the call failed"), Exit::from);
                Err(exit.hint(format!("its log: bireme logs {} --call {id}", call.app)))
            }
            CallState::Accepted | CallState::Leased | CallState::Waiting => {
                let exit = Exit::new(Code::Timeout, format!("it has not ended: {}", state_text(&call)));
                Err(exit.hint(format!("bireme get {id} --wait")))
            }
        }
    }

    fn note_receipt(&self, receipt: &Receipt, global: &Global) {
        if self.receipt && !global.json {
            output::note(&receipt_text::table_of(receipt));
        }
    }
}

fn is_terminal(entry: &CallOrMap) -> bool {
    match entry {
        CallOrMap::Call(call) => call.state.is_terminal(),
        CallOrMap::Map(map) => map.state.is_terminal(),
    }
}

/// Returns the whole id of the call or map that `id` names. The host looks for a prefix among calls or among maps; one
/// that both have is refused here, because it would name the call where the map is meant.
fn whole_id(client: &Client, id: &str) -> Result<String, Exit> {
    if id.parse::<CallId>().is_ok() {
        return Ok(id.to_owned());
    }
    let call = client.send::<api::Call>("GET", &paths::call(id)?, &[]).map(|call| call.document.id.to_string());
    let map = client.send::<api::Map>("GET", &paths::map(id, "")?, &[]).map(|map| map.document.id.to_string());
    match (call, map) {
        (Ok(call), Ok(map)) => {
            Err(Exit::usage(format!("call {call} and map {map} have an id that begins with `{id}`; give more of it")))
        }
        (Ok(found), Err(exit)) if exit.code == Code::UnknownMap => Ok(found),
        (Err(exit), Ok(found)) if exit.code == Code::UnknownCall => Ok(found),
        (Err(exit), Err(other)) if exit.code == Code::UnknownCall && other.code != Code::UnknownMap => Err(other),
        (Err(exit), _) | (_, Err(exit)) => Err(exit),
    }
}

/// Sends a request to the call of that id, else to the map.
fn send_to_either(
    client: &Client,
    method: &str,
    id: &str,
    query: client::Query<'_>,
) -> Result<Answer<CallOrMap>, Exit> {
    match client.send(method, &paths::call(id)?, query) {
        Err(exit) if exit.code == Code::UnknownCall => match client.send(method, &paths::map(id, "")?, query) {
            Err(map) if map.code == Code::UnknownMap => Err(exit),
            map => map.map(|map| map.map(|map| CallOrMap::Map(Box::new(map)))),
        },
        call => call.map(|call| call.map(|call| CallOrMap::Call(Box::new(call)))),
    }
}

/// Returns the state of a call in words.
fn state_text(call: &api::Call) -> String {
    let attempts = call.attempts;
    match call.state {
        CallState::Accepted => "accepted, not begun".to_owned(),
        CallState::Leased => format!("attempt {attempts} runs"),
        CallState::Waiting => {
            let next = call.next_ms.unwrap_or(0).saturating_sub(crate::clock::unix_ms());
            let why = call.failed_attempts.last().map(|attempt| format!(": {}", printable(&attempt.failure.message)));
            let why = why.unwrap_or_default();
            format!("{attempts} attempts failed, the next in {:.1} s{why}", next as f64 / 1e3)
        }
        state => state.to_string(),
    }
}

/// Returns the progress of a map in one line.
pub(crate) fn map_line(map: &api::Map) -> String {
    let api::MapCounts { accepted, done, failed, dead, cancelled, retried } = map.counts;
    let mut line = format!("{}: {} of {} done", map.state, output::count(done), output::count(accepted));
    for (count, name) in [(failed, "failed"), (dead, "dead"), (cancelled, "cancelled"), (retried, "retried")] {
        if count > 0 {
            line += &format!(", {} {name}", output::count(count));
        }
    }
    line + &format!("; cpu {}", output::micros(map.receipt.cpu_us))
}

impl Cancel {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        for id in &self.ids {
            let ended = send_to_either(&client, "DELETE", &whole_id(&client, id)?, &[])?;
            output::line(&match ended.document {
                _ if global.json => ended.text,
                CallOrMap::Map(map) => map_line(&map),
                CallOrMap::Call(call) if call.state == CallState::Cancelled => "cancelled".to_owned(),
                CallOrMap::Call(call) => format!("it had ended before: {}", call.state),
            });
        }
        Ok(())
    }
}

impl Ps {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address)?;
        if self.follow {
            return self.follow(&client, global.json);
        }
        let answer = self.list(&client)?;
        if global.json {
            output::line(&answer.text);
            return Ok(());
        }
        let CallList { calls, next, .. } = answer.document;
        if calls.is_empty() {
            output::note("no durable call or map; `bireme spawn` and `bireme map --host URL` make some");
            return Ok(());
        }
        let mut rows = vec![["ID", "FUNCTION", "STATE", "ATTEMPTS", "CPU", "WALL", "MADE"].map(str::to_owned).to_vec()];
        let mut sum = Receipt::default();
        for entry in &calls {
            let (row, receipt) = row(entry);
            rows.push(row);
            sum.add(receipt);
        }
        output::line(&table::plain(rows));
        output::note(&format!(
            "{} listed: cpu {}, wall {}, {} attempts",
            calls.len(),
            output::micros(sum.cpu_us),
            output::micros(sum.wall_us),
            output::count(u64::from(sum.attempts))
        ));
        if let Some(next) = next {
            output::note(&format!("more: bireme ps --before {next}"));
        }
        Ok(())
    }
}

/// The list of `ps`, and its changes.
impl Ps {
    fn list(&self, client: &Client) -> Result<Answer<CallList>, Exit> {
        let mut query = vec![("limit", self.limit.to_string())];
        let before = self.before.as_deref().map(|before| whole_id(client, before)).transpose()?;
        let filters = [
            ("app", self.app.clone()),
            ("function", self.function.clone()),
            ("state", self.state.clone()),
            ("kind", self.kind.clone()),
            ("before", before),
        ];
        query.extend(filters.into_iter().filter_map(|(name, value)| Some((name, value?))));
        client.send("GET", "/api/v1/calls", &query)
    }

    /// Prints the list, oldest first, then changes. Both come over the same filters; a change between the two comes
    /// twice rather than never.
    fn follow(&self, client: &Client, is_json: bool) -> Result<(), Exit> {
        // The feed ends at an app; a function is one of an app's.
        let app = self.app.as_deref().or(self.function.as_deref().and_then(|function| function.split("::").next()));
        let mut query = vec![("kind", "call".to_owned()), ("kind", "map".to_owned())];
        query.extend(app.map(|app| ("app", app.to_owned())));
        let print = |entry: &CallOrMap| match is_json {
            true => output::line(&serde_json::to_string(entry).expect("documents have string keys only")),
            false => output::line(&change_line(entry)),
        };
        let print_list = || -> Result<bool, Exit> {
            self.list(client)?.document.calls.iter().rev().for_each(print);
            Ok(true)
        };
        let mut is_first = true;
        events::follow(client, &query, |item| {
            let entry = match item {
                FeedItem::Opened if std::mem::take(&mut is_first) => return print_list(),
                FeedItem::Opened => return Ok(true),
                FeedItem::Event(event) => match *event {
                    api::Event::Call(call) => CallOrMap::Call(call),
                    api::Event::Map(map) => CallOrMap::Map(map),
                    api::Event::Lost(_) => {
                        output::note("changes were missed; this is the list as it is now");
                        return print_list();
                    }
                    _ => return Ok(true),
                },
            };
            if self.matches(&entry) {
                print(&entry);
            }
            Ok(true)
        })
    }

    /// Returns true if an entry passes the filters of the list.
    fn matches(&self, entry: &CallOrMap) -> bool {
        let (kind, function, state) = match entry {
            CallOrMap::Call(call) => ("call", &call.function, call.state.to_string()),
            CallOrMap::Map(map) => ("map", &map.function, map.state.to_string()),
        };
        let is_wanted = |wanted: &str| wanted == state || (wanted == "live" && !is_terminal(entry));
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.function.as_deref().is_none_or(|wanted| wanted == function)
            && self.state.as_deref().is_none_or(is_wanted)
    }
}

/// Returns a changed call or map in one line, in columns that most names fit.
fn change_line(entry: &CallOrMap) -> String {
    let (row, _) = row(entry);
    let [id, function, state, attempts, cpu, wall, _] = row.as_slice() else { return row.join("  ") };
    format!("{id}  {function:<28}  {state:<9}  {attempts:>12}  {cpu:>9}  {wall:>9}")
}

/// Returns the row of a call or map, and its receipt.
fn row(entry: &CallOrMap) -> (Vec<String>, &Receipt) {
    let (id, function, state, attempts, receipt, created_ms) = match entry {
        CallOrMap::Call(call) => {
            let created_ms = time::newer_or(call.created_ms, call.accepted_ms);
            let (id, state, attempts) = (call.id.to_string(), call.state.to_string(), call.attempts.to_string());
            (id, &call.function, state, attempts, &call.receipt, created_ms)
        }
        CallOrMap::Map(map) => {
            let api::MapCounts { accepted, done, failed, dead, cancelled, .. } = map.counts;
            let settled = done + failed + dead + cancelled;
            let inputs = format!("{} of {}", output::count(settled), output::count(accepted));
            (map.id.to_string(), &map.function, map.state.to_string(), inputs, &map.receipt, map.created_ms)
        }
    };
    let (cpu, wall) = (output::micros(receipt.cpu_us), output::micros(receipt.wall_us));
    (vec![id, printable(function), state, attempts, cpu, wall, time::ago(created_ms)], receipt)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(document: Value) -> CallOrMap {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_call_of_an_older_host_has_its_row() {
        let accepted_ms = crate::clock::unix_ms() - 90_000;
        let call = entry(json!({
            "id": "0199c0de-0000-7000-8000-000000000000", "kind": "call", "app": "hello", "function": "hello::add",
            "state": "waiting", "principal": "operator", "priority": "normal", "accepted_ms": accepted_ms,
            "attempts": 2, "receipt": { "attempts": 2, "cpu_us": 7, "wall_us": 2_000 },
        }));
        let (row, receipt) = row(&call);
        assert_eq!(row[1..], ["hello::add", "waiting", "2", "7 µs", "2.0 ms", "1 min ago"]);
        assert_eq!(receipt.attempts, 2);
        assert!(!is_terminal(&call));
    }

    #[test]
    fn a_map_is_told_from_a_call_and_has_its_inputs_in_a_row() {
        let map = entry(json!({
            "id": "0199c0de-0000-7000-8000-000000000000", "kind": "map", "app": "hello", "function": "hello::add",
            "state": "done", "principal": "operator", "priority": "normal", "created_ms": 1, "closed": true,
            "counts": { "accepted": 1_200, "done": 1_000, "failed": 1, "dead": 0, "cancelled": 0, "retried": 3 },
            "receipt": { "cpu_us": 7 },
        }));
        assert!(is_terminal(&map));
        assert_eq!(row(&map).0[2..4], ["done", "1,001 of 1,200"]);
        let CallOrMap::Map(map) = map else { panic!("it is a map") };
        assert_eq!(map_line(&map), "done: 1,000 of 1,200 done, 1 failed, 3 retried; cpu 7 µs");
    }
}
