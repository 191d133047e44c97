//! `bireme run`: one call, in process, without a server; with `--watch`, again at each save.

mod printing;
mod watch;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::watch::WatchedCall;
use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::input::{self, InputFile};
use super::log::StderrLog;
use super::{function_lookup, target};
use crate::call::Principal;
use crate::codes::Code;
use crate::config::ConfigError;
use crate::deploy::LoadError;
use crate::dispatch::{Call, find_function};
use crate::logs::Level;
use crate::server::Host;

/// Call one function once: the result to stdout, logs to stderr.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme run examples/hello::greet '{\"name\": \"Ada\"}'\n  bireme run examples/hello::add --a 1 --b 2 --receipt\n  bireme run --watch examples/hello::add --a 1 --b 2"
)]
pub(crate) struct Run {
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    /// Print the cost of the call to stderr (with --json, in the result).
    #[arg(long)]
    receipt: bool,
    /// Build the app, make the call and print the result again at every save, until Ctrl-C, or q and Enter. Options
    /// stand in front of the target.
    #[arg(long)]
    watch: bool,
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
        if self.watch {
            let watched = WatchedCall {
                target: &self.target,
                input: &self.input,
                file: &self.file,
                settings: &self.settings,
                device: self.on.device,
                wants_receipt: self.receipt,
            };
            return watch::run(watched, global).await;
        }
        let (app, name) = target::split(&self.target)?;
        let host = self.host(&self.settings, global)?;
        let (file, (app, grants)) = (app, target::resolve(app, &host).await?);

        let function = function_lookup::find(&app.metadata, name, None)?;
        let (input, trailing) = input::read(function, &self.file, &self.input, &[])?;
        let json = global.json || trailing.json;
        let global = &global.with(trailing.value("data"), trailing.json, trailing.verbose);
        let settings = self.settings.and(&trailing.settings);
        // Options behind the target are known only now, and these are of all that the host is made of.
        let is_other =
            trailing.value("data").is_some() || trailing.verbose || trailing.settings.compile.compile_max.is_some();
        let host = if is_other { self.host(&settings, global)? } else { host };
        trailing.device.into_iter().for_each(|device| host.inference.choose(device));
        host.inference.check_device().await.map_err(|refused| Exit { is_json: json, ..refused.into() })?;
        let config = settings.config(global)?;
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

        printing::print(&finished, function, self.receipt || trailing.receipt, json)
    }

    fn host(&self, settings: &AppSettings, global: &Global) -> Result<Host, Exit> {
        let log = StderrLog::new(if global.verbose { Level::Trace } else { Level::Info });
        let mut config = settings.config(global)?;
        config.inference.device = self.on.device;
        Ok(Host::build(config, log)?)
    }
}
