//! `bireme spawn`, `get`, `cancel`: durable calls on a host.

use std::time::{Duration, Instant};

use clap::Args;

use super::address::Address;
use super::call_or_map::{is_terminal, send_to_either, whole_id};
use super::call_request::CallRequest;
use super::client::{self, Answer, Client};
use super::reconnect::Reconnect;
use super::state_text::{self, map_line, of_live_call};
use crate::api::{self, CallList, CallOrMap, CallState};
use crate::cli::app_settings::AppSettings;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::InputFile;
use crate::cli::{output, receipt_text};
use crate::codes::Code;
use crate::ids::CallId;

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
    /// The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`. Options may follow too; one
    /// whose name is also a parameter's goes before the target.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "INPUT")]
    input: Vec<String>,
}

/// Print the result of a spawned call, or its state while it has none; for a map, its state.
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

/// Cancel calls or maps, and everything that they spawned. Those that have ended stay as they are.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme cancel 0199c0de-0000-7000-8000-000000000000")]
pub(crate) struct Cancel {
    #[command(flatten)]
    address: Address,
    /// The id that `bireme spawn` or `bireme map` printed; a unique prefix of at least 8 digits is enough.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Spawn {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let own = &["priority", "idempotency_key"];
        let request = CallRequest::open(&self.address, global, &self.target, &self.file, &self.input, own)?;
        let CallRequest { client, app, name, input, trailing } = request;
        if trailing.settings != AppSettings::default() || trailing.receipt {
            return Err(Exit::usage(
                "a spawned call takes no grants, secrets, configuration or --receipt; \
                 `bireme get ID --receipt` prints its cost",
            ));
        }
        let priority = trailing.value("priority").or(self.priority.as_deref());
        let query: Vec<_> = priority.iter().map(|priority| ("priority", (*priority).to_owned())).collect();
        let route = format!("/api/v1/apps/{app}/functions/{name}/calls");
        let key = trailing.value("idempotency_key").or(self.idempotency_key.as_deref());
        let headers: Vec<_> = key.iter().map(|key| ("idempotency-key", *key)).collect();
        let response = client.post_with(&route, &query, &headers, &input.content_type, &input.data)?;
        let is_json = global.json || trailing.json;
        let call: Answer<api::Call> = client::answer(response).map_err(|exit| Exit { is_json, ..exit })?;
        output::line(&if is_json { call.text } else { call.document.id.to_string() });
        Ok(())
    }
}

impl Get {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
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
                self.note_receipt(|| receipt_text::table_of_map(&map.receipt), global);
                return Ok(());
            }
        };
        if global.json {
            output::line(&answer.text);
        }
        self.note_receipt(|| receipt_text::table_of(&call.receipt), global);
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
            CallState::Accepted | CallState::Leased | CallState::Waiting if self.wait.is_none() => {
                if !global.json {
                    output::line(&of_live_call(&call, running_ms(&client, call.id)));
                }
                Ok(())
            }
            CallState::Accepted | CallState::Leased | CallState::Waiting => {
                let state = of_live_call(&call, running_ms(&client, call.id));
                let exit = Exit::new(Code::Timeout, format!("it has not ended: {state}"));
                Err(exit.hint(format!("bireme get {id} --wait")))
            }
        }
    }

    fn note_receipt(&self, table: impl FnOnce() -> String, global: &Global) {
        if self.receipt && !global.json {
            output::note(&table());
        }
    }
}

/// Returns the time that a call's attempt has run, if one is under way.
fn running_ms(client: &Client, id: CallId) -> Option<u64> {
    let list = client.send::<CallList>("GET", "/api/v1/calls", &[("limit", "1".to_owned())]).ok()?;
    list.document.live.iter().find(|live| live.id == id).map(|live| live.since_ms)
}

impl Cancel {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        for id in &self.ids {
            let ended = send_to_either(&client, "DELETE", &whole_id(&client, id)?, &[])?;
            output::line(&match ended.document {
                _ if global.json => ended.text,
                CallOrMap::Map(map) => map_line(&map),
                CallOrMap::Call(call) if call.state == CallState::Cancelled => "cancelled".to_owned(),
                CallOrMap::Call(call) => format!("it had ended before: {}", state_text::short(&CallOrMap::Call(call))),
            });
        }
        Ok(())
    }
}
