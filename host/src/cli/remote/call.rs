//! `bireme call`: one call of a function on a host.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::address::Address;
use super::call_request::CallRequest;
use super::client;
use crate::call::{Payload, Receipt};
use crate::cli::app_settings::AppSettings;
use crate::cli::case_file::Case;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{InputFile, SAVE_CASE};
use crate::cli::{output, receipt_text};
use crate::codes::Code;
use crate::logs::printable;

/// Call a function on a host and print its result. `bireme logs` shows its log.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme call hello::greet '{\"name\": \"Ada\"}'\n  bireme call hello::add --a 1 --b 2\n  bireme call --save-case hello::add --a 1 --b 2"
)]
pub(crate) struct Call {
    #[command(flatten)]
    address: Address,
    /// Print what the call cost, to stderr (with --json, in the result).
    #[arg(long)]
    receipt: bool,
    /// Keep the call, with its input and its output or error, as a case that `bireme test` replays: in FILE, else in
    /// the first free `cases/FUNCTION-N.json` of this directory.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    save_case: Option<String>,
    #[command(flatten)]
    file: InputFile,
    /// The function, as APP::FUNCTION; APP is the name of a deployed app.
    target: String,
    /// The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`. Options may follow too; one
    /// whose name is also a parameter's goes before the target.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "INPUT")]
    input: Vec<String>,
}

impl Call {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let request = CallRequest::open(&self.address, global, &self.target, &self.file, &self.input, &[SAVE_CASE])?;
        let CallRequest { client, app, name, input, trailing } = request;
        if trailing.settings != AppSettings::default() {
            return Err(Exit::usage(
                "grants, secrets and configuration are given to an app or its host, not to a call",
            ));
        }
        let json = global.json || trailing.json;

        let case = self.save_case.as_deref().or(trailing.value(SAVE_CASE));

        let route = format!("/{app}/{name}");
        let response = client.post(&route, &[], &input.content_type, &input.data)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (call, version, receipt) = (header("bireme-call"), header("bireme-version"), header("bireme-receipt"));
        let receipt: Option<Receipt> = receipt.and_then(|text| serde_json::from_str(&text).ok());
        if !json && (self.receipt || trailing.receipt) {
            let id = |value: &Option<String>| printable(value.as_deref().unwrap_or("?"));
            output::note(&format!("call {} of version {}", id(&call), id(&version)));
            receipt.iter().for_each(|receipt| output::note(&receipt_text::table_of(receipt)));
        }
        let beside = json!({ "call": call, "version": version, "receipt": receipt });
        if !response.status().is_success() {
            let exit = client::problem(response);
            // Not the answer of a host, so no outcome of the call.
            if exit.code != Code::NoHost
                && let Some(file) = case
            {
                // The call's own error is what the command ends with.
                let kept = Case::of_call(&name, &input, Err((exit.code, exit.message.as_str())));
                kept.and_then(|kept| keep(&kept, file)).unwrap_or_else(|exit| exit.note(json));
            }
            let exit = match &call {
                Some(call) => exit.hint(format!("its log: bireme logs {app} --call {call}")),
                None => exit,
            };
            return Err(Exit { is_json: json, beside: Some(Box::new(("call", beside))), ..exit });
        }
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let payload = Payload { content_type, data: client::bytes(response)?.into() };
        if let Some(file) = case {
            keep(&Case::of_call(&name, &input, Ok(&payload))?, file)?;
        }
        if json {
            let result = output::json(&payload)?;
            let beside = beside.to_string();
            // Raw JSON text of the result: numbers keep their digits.
            output::line(&format!("{{\"result\":{result},{}", &beside[1..]));
        } else {
            output::result(&payload);
        }
        Ok(())
    }
}

/// Writes a case to a file, or to one of its own where none is named.
fn keep(case: &Case, file: &str) -> Result<(), Exit> {
    let path = case.write(Some(Path::new(file)).filter(|_| !file.is_empty()))?;
    output::note(&format!("kept as {}", printable(&path.display().to_string())));
    Ok(())
}
