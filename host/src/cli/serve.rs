//! `bireme serve`: a host that listens.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use serde_json::json;
use tokio::signal::unix::{self, SignalKind, signal};

use super::device::OnDevice;
use super::exit::Exit;
use super::given::Given;
use super::log::StderrLog;
use super::sharing::Sharing;
use super::{Global, output, target};
use crate::codes::Code;
use crate::config::check_listen;
use crate::http::Ingress;
use crate::ids::AppName;
use crate::logs::Level;
use crate::server::{Host, ListenSettings, Resumed};
use crate::store::StoreError;

/// Serve apps over HTTP: each function at POST /APP/FUNCTION, each web function at its route below /APP. Ends on Ctrl-C or
/// SIGTERM, after calls under way.
///
/// Apps that were deployed here (`bireme deploy`) are there again; those named on the command line are served besides,
/// or in their place, until the host ends. One that cannot be loaded is reported on stderr and left out; the host ends
/// only if none can be.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme serve examples/hello\n  curl -d '{\"name\": \"Ada\"}' http://127.0.0.1:8080/hello/greet"
)]
pub struct Serve {
    /// Crates' directories or `.wasm` files.
    apps: Vec<String>,
    /// Where to listen; port 0 takes a free one. Loopback only: this version has no access control.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR", env = "BIREME_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    on: OnDevice,
    #[command(flatten)]
    sharing: Sharing,
    /// How long durable calls and maps are kept after they have ended: 90s, 30m, 12h, 7d. With APP= in front, those of that app.
    #[arg(long = "keep", value_name = "[APP=]TIME", env = "BIREME_KEEP", value_delimiter = ',')]
    keep: Vec<String>,
    /// How long the host takes to end after Ctrl-C or SIGTERM: 8s, 1m. Longer: more calls under way finish. Keep it
    /// below the time after which a supervisor kills (Docker: 10 s, Kubernetes: 30 s, systemd: 90 s).
    #[arg(long, value_name = "TIME", env = "BIREME_DRAIN", default_value = "8s", value_parser = drain)]
    drain: Duration,
}

impl Serve {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        let listen = check_listen(self.listen)?;
        let retention = super::keep::read(&self.keep)?;
        let mut config = self.given.config(global)?;
        config.inference.device = self.on.device;
        self.sharing.apply(&mut config.inference);
        let host = Host::build(config, StderrLog::of_server(Level::Info))?;
        // Whatever can fail at start fails before the port opens.
        host.inference.check_device().await?;
        take_file_size_signal()?;
        host.store.open_now()?;
        host.logs.keep_in(&host.config.directories.data)?;
        host.deployments.restore().await?;
        self.load_named(&host, global.json).await?;
        // Before anybody is told that it listens.
        let mut signals = StopSignals::listen()?;
        let ingress = bind(listen).await?;
        let settings = ListenSettings { retention, takes_deployments: true, last_call: None };
        let running = host.start(ingress, settings).await?;
        let (host, address) = (&running.host, running.address);
        let Resumed { calls, maps } = running.resumed;
        if calls + maps > 0 {
            output::note(&format!(
                "  going on with {} and {}",
                output::counted(calls, "call"),
                output::counted(maps, "map")
            ));
        }

        if global.json {
            output::line(&json!({ "listening": address.to_string() }).to_string());
        } else {
            for program in host.dispatcher.programs() {
                for function in &program.metadata().functions {
                    output::note(&format!("  {}", function.endpoint(&format!("http://{address}"), program.name())));
                }
            }
            if host.dispatcher.programs().is_empty() {
                output::note(&format!("  no app yet: bireme deploy APP --host http://{address}"));
            }
            output::line(&format!("listening on http://{address}"));
        }
        let stopped = tokio::select! {
            () = signals.next() => None,
            // What it accepted could not be kept any more.
            error = host.store.failed() => Some(error),
        };
        // A second signal does not wait for calls under way.
        tokio::select! {
            () = running.shut_down(self.drain) => stopped.map_or(Ok(()), |error| Err(store_failed(error))),
            () = signals.next() => Err(Exit::new(Code::Interrupted, "stopped at once; calls under way were cut off")),
        }
    }
}

/// The longest `--drain`: longer than any call may run.
const DRAIN_MAX: Duration = Duration::from_secs(2 * 3_600);

fn drain(text: &str) -> Result<Duration, String> {
    let drain = super::keep::time(text)?;
    if drain <= DRAIN_MAX { Ok(drain) } else { Err(format!("`{text}` is over the longest drain, {DRAIN_MAX:?}")) }
}

/// Takes SIGXFSZ over from the system, which would end the process at a write beyond a limit on the file's size. Then
/// the write fails, which is a full disk.
pub fn take_file_size_signal() -> io::Result<()> {
    // Handled until the process ends, though nothing reads it.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

impl Serve {
    /// Makes the named apps callable. One that cannot be is reported and left out; if that is so of all, the last one's
    /// error is returned.
    async fn load_named(&self, host: &Host, is_json: bool) -> Result<(), Exit> {
        let mut names = HashSet::new();
        let mut left_out: Option<Exit> = None;
        let mut is_any_loaded = false;
        for path in &self.apps {
            left_out.take().into_iter().for_each(|exit| exit.note(is_json));
            match load(path, host, &mut names).await {
                Ok(()) => is_any_loaded = true,
                Err(exit) if exit.code == Code::Usage => return Err(exit),
                Err(exit) => left_out = Some(exit.about(path)),
            }
        }
        match left_out {
            Some(exit) if !is_any_loaded => return Err(exit),
            Some(exit) => exit.note(is_json),
            None => {}
        }
        Ok(())
    }
}

async fn load(path: &str, host: &Host, names: &mut HashSet<AppName>) -> Result<(), Exit> {
    let app = target::resolve(path, host).await?;
    let name = &app.metadata.app.name;
    if names.contains(name) {
        return Err(Exit::usage(format!("`{path}` is a second app named `{name}`; rename one of the crates")));
    }
    let program = host.loader.program(&app, &host.config.grants).await?;
    if host.dispatcher.program(name.as_str()).is_some() {
        output::note(&format!("`{path}` is served in the place of the deployed `{name}` until this host ends"));
    }
    names.insert(name.clone());
    host.dispatcher.deploy(program);
    Ok(())
}

/// Says why a host ended by itself, and what to do.
fn store_failed(error: StoreError) -> Exit {
    output::note("the host stops: its database met an error of the disk");
    Exit::from(error).hint(
        "what was acknowledged before is kept; look for the disk's errors in the kernel's log (`dmesg`), mend or replace it, \
         and start bireme again",
    )
}

/// Binds, or says what to do about a port that is taken.
pub async fn bind(listen: SocketAddr) -> Result<Ingress, Exit> {
    Ingress::bind(listen).await.map_err(|error| {
        let exit = Exit::new(Code::CannotListen, format!("cannot listen on {listen}: {error}"));
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                exit.hint("another process has the port; choose one with --listen, or port 0 for any")
            }
            io::ErrorKind::PermissionDenied => {
                exit.hint("ports below 1024 need privileges; choose a higher one with --listen")
            }
            _ => exit,
        }
    })
}

/// Ctrl-C and SIGTERM, heard from the moment that this is made.
pub struct StopSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl StopSignals {
    /// Takes the signals over from the system, which would end the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
