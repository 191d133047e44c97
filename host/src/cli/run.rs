//! `bireme run`: one call, in process, without a server.

use std::borrow::Cow;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};

use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::input::{self, InputFile};
use super::log::StderrLog;
use super::{function_lookup, output, receipt_text, target};
use crate::call::{FailureCode, Principal, Receipt};
use crate::codes::Code;
use crate::config::ConfigError;
use crate::deploy::LoadError;
use crate::dispatch::{Call, find_function};
use crate::ids::CallId;
use crate::logs::Level;
use crate::server::Host;

/// Call one function once: the result to stdout, logs to stderr.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme run examples/hello::greet '{\"name\": \"Ada\"}'\n  bireme run examples/hello::add --a 1 --b 2 --receipt"
)]
pub(crate) struct Run {
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    /// Print the cost of the call to stderr (with --json, in the result).
    #[arg(long)]
    receipt: bool,
    #[command(flatten)]
    file: InputFile,
    /// The function, as APP::FUNCTION; APP is a crate's directory or a `.wasm` file.
    target: String,
    /// The input: one JSON value, `--NAME VALUE` for each parameter, or `@FILE`. Options may follow too; one
    /// whose name is also a parameter's goes before the target.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "INPUT")]
    input: Vec<String>,
}

impl Run {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let (app, name) = target::split(&self.target)?;
        let host = self.host(global)?;
        let (file, (app, grants)) = (app, target::resolve(app, &host).await?);

        let function = function_lookup::find(&app.metadata, name, None)?;
        let (input, trailing) = input::read(function, &self.file, &self.input, &[])?;
        let json = global.json || trailing.json;
        let global = &global.with(trailing.value("data"), trailing.json, trailing.verbose);
        // Options behind the target are known only now, and these are of all that the host is made of.
        let host = if trailing.value("data").is_some() || trailing.verbose { self.host(global)? } else { host };
        trailing.device.into_iter().for_each(|device| host.inference.choose(device));
        host.inference.check_device().await.map_err(|refused| Exit { is_json: json, ..refused.into() })?;
        let config = self.settings.and(&trailing.settings).config(global)?;
        let grants = config.grants.with(&grants).map_err(ConfigError::from)?;
        let program = host.loader.with_settings(config.settings).program(&app, &grants).await;
        let program = program.map_err(|error| Exit::from(error).about(file))?;
        host.dispatcher.deploy(program.clone());
        let function_ref = find_function(&program, name)?;
        function_ref.check_secrets().map_err(|error| Exit::from(LoadError::from(error)).about(file))?;
        let call = Call::new(function_ref, input, Principal::Operator);
        // Before the call has effects.
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
                    output::note(&receipt_text::table_of(&finished.receipt));
                }
            }
            Err(failure) => {
                if (self.receipt || trailing.receipt) && !json {
                    output::note(&receipt_text::table_of(&finished.receipt));
                }
                let is_input = failure.code == FailureCode::InvalidInput;
                let beside = serde_json::to_value(&finished.receipt).ok().map(|receipt| Box::new(("receipt", receipt)));
                let exit = Exit { is_json: json, beside, ..failure.into() };
                return Err(if is_input { exit.hint(input::schema_hint(function)) } else { exit });
            }
        }
        Ok(())
    }

    fn host(&self, global: &Global) -> Result<Host, Exit> {
        let log = StderrLog::new(if global.verbose { Level::Trace } else { Level::Info });
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        Ok(Host::build(config, log)?)
    }
}

/// Output of `--json`. The result is raw JSON text: numbers keep their digits.
#[derive(Serialize)]
struct Envelope<'a> {
    result: Cow<'a, RawValue>,
    call: CallId,
    receipt: &'a Receipt,
}
