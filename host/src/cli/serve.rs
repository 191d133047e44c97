//! `bireme serve`: a host that listens.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::runtime::Builder;

use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::disk_args::DiskArgs;
use super::exit::Exit;
use super::fairness_args::FairnessArgs;
use super::global::Global;
use super::log::StderrLog;
use super::memory_args::MemoryArgs;
use super::service_manager::ServiceManager;
use super::signals::StopSignals;
use super::target::AppFile;
use super::{listen, output, retention, runtime, secrets_note, target};
use crate::codes::Code;
use crate::config::{Config, ConfigError, check_listen};
use crate::dispatch::Retention;
use crate::ids::AppName;
use crate::logs::Level;
use crate::server::{Host, ListenSettings, Resumed, RunningHost, confine};
use crate::spawner::Spawner;
use crate::storage::StorageError;
use crate::unix_socket::UnboundSocket;
use crate::{descriptors, telemetry};

/// Serve apps over HTTP: each function at POST /APP/FUNCTION, each web function at its route below /APP. On Ctrl-C or
/// SIGTERM, running calls finish first.
///
/// Deployed apps are served again. An app on the command line is served until the host ends, and replaces a deployed
/// app of the same name. An app that fails to load is reported on stderr and skipped; the host ends only if all of them
/// fail.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme serve examples/hello\n  curl -d '{\"name\": \"Ada\"}' http://127.0.0.1:8080/hello/greet"
)]
pub(crate) struct Serve {
    /// Crates' directories, `.wasm` files, or directories with a `bireme.toml`.
    apps: Vec<String>,
    /// Address to listen on; port 0 takes a free one. Loopback only: this version has no access control.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR", env = "BIREME_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    fairness: FairnessArgs,
    #[command(flatten)]
    disk: DiskArgs,
    /// Delete durable calls and maps this long after their end: 90s, 30m, 12h, 7d (the default). APP=TIME sets it for
    /// one app.
    #[arg(long = "keep", value_name = "[APP=]TIME", env = "BIREME_KEEP", value_delimiter = ',')]
    keep: Vec<String>,
    /// Time for running calls to finish after Ctrl-C or SIGTERM: 8s, 1m. Keep it below the kill timeout of your
    /// supervisor (Docker: 10 s, Kubernetes: 30 s); a systemd unit with Type=notify waits as long as this.
    #[arg(long, value_name = "TIME", env = "BIREME_DRAIN", default_value = "8s", value_parser = drain)]
    drain: Duration,
}

/// An app on the command line, or why it cannot be served.
type Located = Result<AppFile, Exit>;

impl Serve {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let address = check_listen(self.listen)?;
        let retention = retention::parse(&self.keep)?;
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        self.memory.apply(&mut config)?;
        self.fairness.apply(&mut config.inference);
        self.disk.apply(&mut config);
        descriptors::raise_limit();
        let apps = self.locate(&config)?;
        config.directories = config.directories.of_confined();
        config.inference.spawner = Spawner::start_process(&config.directories.models)?;
        let service_manager = ServiceManager::of_this_process();
        let control = UnboundSocket::new().ok();
        confine(&config.directories, address.port())?;
        telemetry::start_thread();
        runtime::block_on(self.serve(config, apps, address, (retention, control), service_manager, global.json))
    }

    /// Opens the apps on the command line, and builds those that are crates: a confined host reads no such file.
    fn locate(&self, config: &Config) -> Result<Vec<Located>, Exit> {
        if self.apps.is_empty() {
            return Ok(Vec::new());
        }
        let (runtime, dirs) = (Builder::new_current_thread().build()?, config.directories.clone());
        let located = self.apps.iter().map(|path| runtime.block_on(target::locate(path, &dirs)));
        Ok(located.collect())
    }

    async fn serve(
        self,
        config: Config,
        apps: Vec<Located>,
        address: SocketAddr,
        (retention, control): (Retention, Option<UnboundSocket>),
        service_manager: ServiceManager,
        is_json: bool,
    ) -> Result<(), Exit> {
        let settings = ListenSettings { retention, serves_deployments: true, last_call: None, control };
        let open = Host::build(config, StderrLog::of_server(Level::Info))?.open(settings).await?;
        self.load_named(apps, &open.host, is_json).await?;
        // Before the port accepts: a supervisor may stop the host from then on.
        let mut signals = StopSignals::listen()?;
        let running = open.start(listen::bind(address).await?).await?;
        announce(&running, is_json);
        service_manager.ready(&format!("listening on http://{}", running.address));
        let host = &running.host;
        let failed = tokio::select! {
            () = signals.next() => None,
            // Accepted durable work can no longer be kept.
            error = host.store.failed() => Some(store_failed(error)),
            error = host.durable.is_fenced() => Some(fenced(error)),
        };
        service_manager.stopping(self.drain);
        // A second signal does not wait for calls under way.
        tokio::select! {
            () = running.shut_down(self.drain) => failed.map_or(Ok(()), Err),
            () = signals.next() => Err(Exit::new(Code::Interrupted, "stopped at once; calls under way were cut off")),
        }
    }

    /// Loads the apps on the command line. One that fails is reported and left out; if all fail, returns the last
    /// error.
    async fn load_named(&self, apps: Vec<Located>, host: &Host, is_json: bool) -> Result<(), Exit> {
        let mut names = HashSet::new();
        let mut failed: Option<Exit> = None;
        let mut is_any_loaded = false;
        for (path, app) in self.apps.iter().zip(apps) {
            failed.take().into_iter().for_each(|exit| exit.note(is_json));
            match load(path, app, host, &mut names).await {
                Ok(()) => is_any_loaded = true,
                Err(exit) if exit.code == Code::Usage => return Err(exit),
                Err(exit) => failed = Some(exit.about(path)),
            }
        }
        match failed {
            Some(exit) if !is_any_loaded => return Err(exit),
            Some(exit) => exit.note(is_json),
            None => {}
        }
        Ok(())
    }
}

/// Prints resumed work, endpoints and the address.
fn announce(running: &RunningHost, is_json: bool) {
    let (host, address) = (&running.host, running.address);
    let Resumed { calls, maps } = running.resumed;
    if calls + maps > 0 {
        output::note(&format!(
            "  going on with {} and {}",
            output::counted(calls, "call"),
            output::counted(maps, "map")
        ));
    }
    if is_json {
        output::line(&json!({ "listening": address.to_string(), "socket": running.control_socket }).to_string());
        return;
    }
    for program in host.dispatcher.programs() {
        for function in &program.metadata().functions {
            output::note(&format!("  {}", function.endpoint(&format!("http://{address}"), program.name())));
        }
    }
    if host.dispatcher.programs().is_empty() {
        output::note(&format!("  no app yet: bireme deploy APP --host http://{address}"));
    }
    if let Some(socket) = &running.control_socket {
        output::note(&format!("  control socket for this user and root: {}", socket.display()));
    }
    output::line(&format!("listening on http://{address}"));
}

/// Longest `--drain`: longer than any call may run.
const DRAIN_MAX: Duration = Duration::from_secs(2 * 3_600);

fn drain(text: &str) -> Result<Duration, String> {
    let drain = retention::parse_duration(text)?;
    if drain <= DRAIN_MAX { Ok(drain) } else { Err(format!("`{text}` is over the longest drain, {DRAIN_MAX:?}")) }
}

async fn load(path: &str, app: Located, host: &Host, names: &mut HashSet<AppName>) -> Result<(), Exit> {
    let app = app?;
    let grants = app.grants();
    let app = app.describe_unsaved(host).await?;
    let name = &app.metadata.app.name;
    if names.contains(name) {
        return Err(Exit::usage(format!("`{path}` is a second app named `{name}`; rename one of the crates")));
    }
    let grants = host.config.grants.with(&grants).map_err(ConfigError::from)?;
    let program = host.loader.program(&app, &grants).await?;
    secrets_note::print(&program);
    if host.dispatcher.program(name.as_str()).is_some() {
        output::note(&format!("`{path}` is served in the place of the deployed `{name}` until this host ends"));
    }
    names.insert(name.clone());
    host.dispatcher.deploy(program);
    Ok(())
}

/// Returns the error of a host that stopped by itself, with the next step.
fn fenced(error: StorageError) -> Exit {
    output::note("the host stops: another host has taken its place");
    Exit::from(error).hint(
        "its calls and maps go on there; give each host a data directory of its own (`--data`), or start this one \
         again once the other has stopped",
    )
}

fn store_failed(error: StorageError) -> Exit {
    output::note("the host stops: its database met an error of the disk");
    Exit::from(error).hint(
        "what was acknowledged before is kept; look for the disk's errors in the kernel's log (`dmesg`), \
         mend or replace it, and start bireme again",
    )
}
