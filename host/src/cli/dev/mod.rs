//! `bireme dev`: the edit loop. Save, and the answer is there.
//!
//! One task decides what happens next (build, serve, cancel); cargo runs on a thread of its own, and changes and keys come in over
//! channels. The last good version serves until the next one is ready, and a build is cancelled by a newer save.

mod keys;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use self::keys::{Key, Keys};
use self::watch::Watch;
use super::exit::Exit;
use super::given::Given;
use super::log::StderrLog;
use super::serve::StopSignals;
use super::{Global, output, serve, target};
use crate::app::build::{BuildError, Building, Canceller, Profile};
use crate::config::check_listen;
use crate::dispatch::Scheduler;
use crate::http::Serving;
use crate::ids::AppName;
use crate::sandbox::Program;
use crate::sandbox::log::Level;
use crate::server::Host;

/// Serve an app while it is edited: every save is built and swapped in between two requests.
///
/// The last good version answers until then; the header `bireme-version` says which one did. Type r to build again, t to run the
/// app's own tests, q to quit, each with Enter.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme dev examples/hello\n  curl -d '{\"name\": \"Ada\"}' http://127.0.0.1:8080/hello/greet"
)]
pub struct Dev {
    /// The crate's directory.
    app: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR", env = "BIREME_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    given: Given,
}

/// What wakes the loop.
enum Event {
    Changed,
    Key(Key),
    Stop,
}

/// How a build ended.
enum Ended {
    Built(PathBuf),
    Failed(BuildError),
    /// By a newer save, or at the end.
    Cancelled(Event),
}

impl Dev {
    pub async fn run(self, global: &Global) -> Result<(), Exit> {
        let listen = check_listen(self.listen)?;
        if !self.app.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: self.app }.into());
        }
        let mut config = self.given.config(global)?;
        // Each save makes other code: what is compiled here is not worth keeping.
        let artifacts = tempfile::tempdir()?;
        config.directories.artifacts = artifacts.path().to_owned();
        let host = Host::build(config, StderrLog::with_failures(Level::Info))?;
        host.store.open_now()?;
        let mut inputs =
            Inputs { watch: Watch::start(&self.app)?, keys: keys::read(), signals: StopSignals::listen()? };

        let ingress = serve::bind(listen).await?;
        let address = ingress.address();
        host.own_listeners.insert(address);
        let server = Serving::start(ingress, host.backend(false));
        let scheduler = Scheduler::start(host.dispatcher.clone());
        if global.json {
            output::line(&serde_json::json!({ "listening": address.to_string() }).to_string());
        } else {
            output::line(&format!("listening on http://{address}"));
            output::note("r builds again, t runs the tests, q quits");
        }

        let mut live: Option<Arc<Program>> = None;
        let mut event = Event::Changed;
        loop {
            event = match event {
                Event::Stop | Event::Key(Key::Quit) => break,
                Event::Key(Key::Test) => {
                    self.test(&mut inputs.signals).await;
                    inputs.next().await
                }
                Event::Changed | Event::Key(Key::Rebuild) => {
                    inputs.watch.settle().await;
                    let started = Instant::now();
                    match self.build(&mut inputs).await {
                        Ended::Cancelled(event) => event,
                        Ended::Failed(error) => {
                            output::note(&match &live {
                                Some(program) => format!("{error}; version {} goes on serving", program.version()),
                                None => format!("{error}; waiting for a change"),
                            });
                            inputs.next().await
                        }
                        Ended::Built(component) => {
                            let built = started.elapsed();
                            match swap(&host, &component, live.as_ref()).await {
                                Ok(program) => {
                                    announce(&program, address, built, started.elapsed() - built, live.is_none());
                                    live = Some(program);
                                }
                                Err(exit) => output::note(&format!("error[{}]: {}", exit.code, exit.message)),
                            }
                            inputs.next().await
                        }
                    }
                }
            };
        }
        drop(scheduler);
        server.stop().await;
        host.shut_down().await;
        Ok(())
    }

    /// Runs cargo until it ends or something makes its work worthless.
    async fn build(&self, inputs: &mut Inputs) -> Ended {
        let dir = self.app.clone();
        let building = match super::blocking(move || Building::start(&dir, Profile::Edit)).await {
            Ok(building) => building,
            Err(error) => return Ended::Failed(error),
        };
        let cancel = CancelOnDrop(building.canceller());
        let mut finished = std::pin::pin!(super::blocking(move || building.finish()));
        let event = tokio::select! {
            ended = &mut finished => return match ended {
                Ok(component) => Ended::Built(component),
                Err(error) => Ended::Failed(error),
            },
            event = inputs.next() => event,
        };
        drop(cancel);
        let _ = finished.await;
        Ended::Cancelled(event)
    }

    /// Runs the app's own tests; their words go to the terminal.
    async fn test(&self, signals: &mut StopSignals) {
        let run = tokio::process::Command::new("cargo").arg("test").current_dir(&self.app).kill_on_drop(true).status();
        tokio::select! {
            status = run => {
                if let Err(error) = status {
                    output::note(&format!("cannot run cargo: {error}"));
                }
            }
            () = signals.next() => {}
        }
    }
}

struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Everything that wakes the loop.
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

/// Describes and compiles the component and puts it in the place of the last one.
async fn swap(host: &Host, component: &Path, live: Option<&Arc<Program>>) -> Result<Arc<Program>, Exit> {
    let (_, app) = target::of_cargo(component)?.describe(host).await?;
    let program = host.load(&app, &host.config.grants).await?;
    if let Some(old) = live
        && old.name() != program.name()
    {
        host.dispatcher.retire(old.name().as_str());
    }
    Ok(program)
}

fn announce(program: &Program, address: SocketAddr, built: Duration, loaded: Duration, is_first: bool) {
    if is_first {
        let name: &AppName = program.name();
        for function in &program.metadata().functions {
            output::note(&format!("  {}", function.endpoint(&format!("http://{address}"), name)));
        }
    }
    let micros = crate::call::micros;
    output::note(&format!(
        "version {} is live: built in {}, swapped in {}",
        program.version(),
        output::micros(micros(built)),
        output::micros(micros(loaded))
    ));
}
