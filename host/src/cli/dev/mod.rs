//! `bireme dev`: live reload. Each save is built and swapped in.
//!
//! One task decides the next step (build, serve, cancel); cargo runs on its own thread; file changes and keys arrive
//! over channels. The last good version serves until the next one is ready, and a newer save cancels a build.

mod component;
mod keys;
mod repeat_call;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use self::keys::{Key, Keys};
use self::repeat_call::RepeatCall;
use self::watch::Watch;
use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use super::log::StderrLog;
use super::signals::StopSignals;
use super::test::until_stopped;
use super::{listen, output, secrets_note, target};
use crate::app::build::{Build, BuildDirs, BuildError, Canceller, Package, Profile};
use crate::call::micros;
use crate::config::{ConfigError, check_listen};
use crate::limits::DRAIN_DEFAULT;
use crate::logs::Level;
use crate::sandbox::Program;
use crate::server::{Host, ListenSettings};
use crate::tasks::blocking;

/// Serve an app while it is edited: every save is built and swapped in between two requests.
///
/// The last good version answers until then; the header `bireme-version` names it. Type r to build again, c to repeat
/// the last call, t to run the app's own tests, q to quit, each with Enter.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme dev examples/hello\n  curl -d '{\"name\": \"Ada\"}' http://127.0.0.1:8080/hello/greet"
)]
pub(crate) struct Dev {
    /// The crate's directory; or a component that something else builds, a `.wasm` file or a directory with a
    /// `bireme.toml`.
    app: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR", env = "BIREME_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
}

/// Age of a build up to which a save cancels it and begins another.
const CANCEL_WITHIN: Duration = Duration::from_secs(3);

/// Wake-up of the loop.
enum Event {
    Changed,
    Key(Key),
    Stop,
}

enum BuildOutcome {
    Built(PathBuf),
    Failed(BuildError),
    /// By a newer save, a key or a stop signal.
    Cancelled(Event),
}

impl Dev {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let address = check_listen(self.listen)?;
        let is_component = component::is_one(&self.app)?;
        if !is_component && !self.app.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: self.app }.into());
        }
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        if is_component {
            return component::serve(&self.app, config, address, global.json).await;
        }
        config.grants = config.grants.with(&target::grants_of_crate(&self.app)?).map_err(ConfigError::from)?;
        let dirs = config.directories.builds();
        // Every save compiles other code, so the cache is not worth keeping.
        let artifacts = tempfile::tempdir()?;
        config.directories.artifacts = artifacts.path().to_owned();
        config.engine.is_incremental = true;
        let mut repeat = RepeatCall::default();
        let settings = ListenSettings { last_call: Some(repeat.last.clone()), ..ListenSettings::default() };
        let open = Host::build(config, StderrLog::of_server(Level::Info))?.open(settings).await?;
        let mut inputs =
            Inputs { watch: Watch::start(&self.app)?, keys: keys::read(), signals: StopSignals::listen()? };

        let running = open.start(listen::bind(address).await?).await?;
        let (host, address) = (&running.host, running.address);
        if global.json {
            output::line(&json!({ "listening": address.to_string() }).to_string());
        } else {
            output::line(&format!("listening on http://{address}"));
            output::note(keys::HELP);
        }

        let mut session = Session {
            app: self.app,
            address,
            is_json: global.json,
            package: None,
            live: None,
            is_outdated: false,
            dirs,
        };
        let mut event = Event::Changed;
        loop {
            event = match event {
                Event::Stop | Event::Key(Key::Quit) => break,
                Event::Key(Key::Test) => {
                    session.test(&mut inputs.signals).await;
                    inputs.next().await
                }
                Event::Key(Key::Call(typed)) => {
                    match &session.live {
                        Some(program) => {
                            repeat.call(&host.dispatcher, program, &typed).unwrap_or_else(|exit| exit.print());
                        }
                        None => output::note("nothing is built yet"),
                    }
                    inputs.next().await
                }
                Event::Key(Key::Rebuild) => {
                    session.package = None;
                    session.turn(host, &mut inputs).await
                }
                Event::Changed => session.turn(host, &mut inputs).await,
            };
        }
        drop(repeat);
        running.shut_down(DRAIN_DEFAULT).await;
        Ok(())
    }
}

/// One app under edit.
struct Session {
    app: PathBuf,
    dirs: BuildDirs,
    address: SocketAddr,
    is_json: bool,
    /// Cached; read again after a failed build, which the toolchain may have caused, and when the manifest has changed.
    package: Option<Package>,
    /// The last good version.
    live: Option<Arc<Program>>,
    /// A save came during a build that went on: another build follows it.
    is_outdated: bool,
}

impl Session {
    /// Builds the saved crate and swaps it in. Returns the next event.
    async fn turn(&mut self, host: &Host, inputs: &mut Inputs) -> Event {
        inputs.watch.settle().await;
        let started = Instant::now();
        if self.live.is_none() {
            self.announce_build();
        }
        match self.build(inputs).await {
            BuildOutcome::Cancelled(event) => return event,
            BuildOutcome::Failed(error) => self.report_failure(error.into()),
            BuildOutcome::Built(component) => {
                let built = started.elapsed();
                match swap(host, &component, self.live.as_ref()).await {
                    Ok(program) => self.announce(program, built, started.elapsed() - built),
                    Err(exit) => self.report_failure(exit),
                }
            }
        }
        if std::mem::take(&mut self.is_outdated) {
            return Event::Changed;
        }
        inputs.next().await
    }

    /// Runs cargo until it ends or an event cancels it.
    async fn build(&mut self, inputs: &mut Inputs) -> BuildOutcome {
        let (dir, dirs, package) = (self.app.clone(), self.dirs.clone(), self.package.take());
        let started = blocking(move || {
            let package = package.filter(Package::is_current).map_or_else(|| Package::open(&dir, &dirs), Ok)?;
            Ok((Build::start(&package, Profile::Edit)?, package))
        });
        let (building, package) = match started.await {
            Ok(started) => started,
            Err(error) => return BuildOutcome::Failed(error),
        };
        let begun = Instant::now();
        let cancel = CancelOnDrop(building.canceller());
        let mut finished = std::pin::pin!(blocking(move || building.finish()));
        loop {
            let event = tokio::select! {
                ended = &mut finished => return match ended {
                    Ok(component) => {
                        self.package = Some(package);
                        BuildOutcome::Built(component)
                    }
                    Err(error) => BuildOutcome::Failed(error),
                },
                event = inputs.next() => event,
            };
            // A long build compiles dependencies: begun anew at every save, it would never end.
            if matches!(event, Event::Changed) && begun.elapsed() > CANCEL_WITHIN {
                self.is_outdated = true;
                continue;
            }
            // A call does not cancel the build.
            if let Event::Key(Key::Call(_)) = event {
                output::note("a build is under way; type c again once it is done");
                continue;
            }
            self.package = Some(package);
            drop(cancel);
            let _ = finished.await;
            return BuildOutcome::Cancelled(event);
        }
    }

    /// Runs the app's tests, with their output on the terminal.
    async fn test(&self, signals: &mut StopSignals) {
        let (app, dirs) = (self.app.clone(), self.dirs.clone());
        let cargo = match blocking(move || Package::open(&app, &dirs).map(|package| package.test())).await {
            Ok(cargo) => cargo,
            Err(error) => return Exit::from(error).print(),
        };
        if let Err(error) = until_stopped(cargo, signals).await {
            output::note(&format!("cannot run cargo: {error}"));
        }
    }

    fn report_failure(&self, exit: Exit) {
        exit.print();
        let version = self.live.as_ref().map(|program| program.version());
        if self.is_json {
            let error = json!({ "code": exit.code, "message": exit.message });
            output::line(&json!({ "error": error, "live": version }).to_string());
        }
        output::note(&match version {
            Some(version) => format!("version {version} keeps serving"),
            None => "waiting for a change".to_owned(),
        });
    }

    /// Says that the app is not served yet: its first build may take a while.
    fn announce_build(&self) {
        if self.is_json {
            output::line(&json!({ "building": self.app }).to_string());
        }
        output::note(&format!("building {}; requests are answered with 503 until then", self.app.display()));
        if self.dirs.is_first_build() {
            output::note(target::FIRST_BUILD);
        }
    }

    fn announce(&mut self, program: Arc<Program>, built: Duration, swapped: Duration) {
        let version = program.version();
        if self.is_json {
            let event = json!({ "live": version, "build_us": micros(built), "swap_us": micros(swapped) });
            output::line(&event.to_string());
        }
        if self.live.is_none() {
            let base = format!("http://{}", self.address);
            for function in &program.metadata().functions {
                output::note(&format!("  {}", function.endpoint(&base, program.name())));
            }
        }
        output::note(&format!(
            "version {version} is live: built in {}, swapped in {}",
            output::micros(micros(built)),
            output::micros(micros(swapped))
        ));
        self.live = Some(program);
    }
}

struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Sources of events.
struct Inputs {
    watch: Watch,
    keys: Keys,
    signals: StopSignals,
}

impl Inputs {
    async fn next(&mut self) -> Event {
        tokio::select! {
            () = self.watch.changed() => Event::Changed,
            key = self.keys.next() => Event::Key(key),
            () = self.signals.next() => Event::Stop,
        }
    }
}

/// Describes, compiles and loads the component in place of the live one.
async fn swap(host: &Host, component: &Path, live: Option<&Arc<Program>>) -> Result<Arc<Program>, Exit> {
    let (_, app) = target::of_cargo(component)?.describe(host).await?;
    let program = host.load(&app, &host.config.grants).await?;
    secrets_note::print(&program);
    if let Some(old) = live
        && old.name() != program.name()
    {
        host.dispatcher.retire(old.name().as_str());
    }
    Ok(program)
}
