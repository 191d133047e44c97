//! `bireme run`: one call, in process, without a server.

use std::borrow::Cow;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};

use super::device::OnDevice;
use super::exit::Exit;
use super::given::Given;
use super::input::{self, InputFile};
use super::log::StderrLog;
use super::{Global, output, target};
use crate::app::metadata::{FunctionInfo, Metadata};
use crate::call::{FailureCode, Principal, Receipt};
use crate::codes::Code;
use crate::dispatch::{Call, find_function};
use crate::ids::CallId;
use crate::sandbox::log::Level;
use crate::server::Host;

/// Call one function once: the result to stdout, logs to stderr.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme run examples/hello::greet '{\"name\": \"Ada\"}'\n  bireme run examples/hello::add --a 1 --b 2 --receipt"
)]
pub struct Run {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    on: OnDevice,
    /// Print what the call cost, to stderr (with --json, in the result).
    #[arg(long)]
    receipt: bool,
    #[command(flatten)]
    file: InputFile,
    /// The function, as APP::FUNCTION; APP is a crate's directory or a `.wasm` file.
    target: String,
    /// The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "INPUT")]
    input: Vec<String>,
}

impl Run {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        let (app, name) = target::split(&self.target)?;
        let log = StderrLog::new(if global.verbose { Level::Trace } else { Level::Info });
        let mut config = self.given.config(global)?;
        config.inference.device = self.on.device;
        let host = Host::build(config, log)?;
        let (file, app) = (app, target::resolve(app, &host).await?);

        let function = by_name(&app.metadata, name, None)?;
        let (input, trailing) = input::read(function, &self.file, &self.input)?;
        let json = global.json || trailing.json;
        trailing.device.into_iter().for_each(|device| host.inference.choose(device));
        host.inference.check_device().await.map_err(|refused| Exit { is_json: json, ..refused.into() })?;
        let config = self.given.and(&trailing.given).config(global)?;
        let program = host.loader.giving(config.provisions).program(&app, &config.grants).await;
        let program = program.map_err(|error| Exit::from(error).about(file))?;
        host.dispatcher.deploy(program.clone());
        let call = Call::new(find_function(&program, name)?, input, Principal::Operator);
        // Before the function does anything that shows.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let finished = tokio::select! {
            finished = host.dispatcher.call(call) => finished,
            _ = interrupt.recv() => return Err(Exit::new(Code::Interrupted, "interrupted; the call was cancelled")),
        };
        host.inference.shut_down().await;

        match finished.result {
            Ok(payload) if json => {
                let result = output::json(&payload)?;
                let envelope = Envelope { result, call: finished.id, receipt: &finished.receipt };
                output::line(&serde_json::to_string(&envelope).expect("string keys only"));
            }
            Ok(payload) => {
                output::result(&payload);
                if self.receipt || trailing.receipt {
                    output::note(&receipt(&finished.receipt));
                }
            }
            Err(failure) => {
                if (self.receipt || trailing.receipt) && !json {
                    output::note(&receipt(&finished.receipt));
                }
                let is_input = failure.code == FailureCode::InvalidInput;
                let beside = serde_json::to_value(&finished.receipt).ok().map(|receipt| Box::new(("receipt", receipt)));
                let exit = Exit { is_json: json, beside, ..failure.into() };
                return Err(if is_input { exit.hint(input::shape_hint(function)) } else { exit });
            }
        }
        Ok(())
    }
}

/// What `--json` prints. The result passes as it is: numbers keep their digits.
#[derive(Serialize)]
struct Envelope<'a> {
    result: Cow<'a, RawValue>,
    call: CallId,
    receipt: &'a Receipt,
}

/// Finds the function that is to be called, on the host at `base` if on one.
pub(super) fn by_name<'a>(metadata: &'a Metadata, name: &str, base: Option<&str>) -> Result<&'a FunctionInfo, Exit> {
    let function = metadata.function(name).ok_or_else(|| unknown(metadata, name))?;
    let Some(route) = &function.attributes.route else {
        return Ok(function);
    };
    let message =
        format!("`{name}` is a web function: it answers `{route}` over HTTP and has neither input nor result");
    let curl = route.curl(base.unwrap_or("http://127.0.0.1:8080"), &metadata.app.name);
    let first = if base.is_none() { "serve the app with `bireme serve APP`, then" } else { "ask for it with" };
    Err(Exit::new(Code::WebFunction, message).hint(format!("{first} `{curl}`")))
}

fn unknown(metadata: &Metadata, name: &str) -> Exit {
    let names: Vec<&str> = metadata.functions.iter().map(|function| function.name.as_str()).collect();
    let app = &metadata.app.name;
    let message = match crate::dispatch::closest(name, names.iter().copied()) {
        Some(near) => format!("`{app}` has no function `{name}`; did you mean `{near}`?"),
        None => format!("`{app}` has no function `{name}`"),
    };
    Exit::new(Code::UnknownFunction, message).hint(format!("it has {}", names.join(", ")))
}

/// Returns a receipt as lines for people.
pub fn receipt(receipt: &Receipt) -> String {
    let mut rows = vec![
        ("attempts", receipt.attempts.to_string()),
        ("queue", output::micros(receipt.queue_us)),
        ("wall", output::micros(receipt.wall_us)),
        ("instantiate", output::micros(receipt.instantiate_us)),
        ("cpu", output::micros(receipt.cpu_us)),
        ("memory peak", output::bytes(receipt.memory_peak_bytes)),
    ];
    rows.extend(receipt.host_calls.kinds().into_iter().filter(|(_, calls)| calls.count > 0).map(|(kind, calls)| {
        let wall = if calls.wall_us > 0 { format!(", {}", output::micros(calls.wall_us)) } else { String::new() };
        (kind, format!("{}{wall}", output::count(calls.count)))
    }));
    let inference = &receipt.inference;
    if inference.requests > 0 {
        rows.push(("inference", format!("{} requests, {} tokens", inference.requests, inference.tokens)));
        rows.push(("batch wait", output::micros(inference.wait_us)));
        let mean = inference.batch_rows as f64 / inference.batches.max(1) as f64;
        rows.push(("batch size", format!("{mean:.1} rows in the mean of {}", inference.batches)));
        let device = inference.device.as_deref().unwrap_or("?");
        rows.push(("device", format!("{device}, {} of its time", output::micros(inference.device_us))));
    }
    super::table::plain(rows.into_iter().map(|(name, value)| vec![format!("  {name}"), value]))
}
