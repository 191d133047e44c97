//! `bireme dev`: live reload. Each save is built and swapped in; the last good version serves until then.

mod browser;
mod component;
mod place;
mod repeat_call;
mod report;
mod source;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use self::repeat_call::RepeatCall;
use self::report::{print_functions, report_failure};
use self::source::Source;
use super::app_settings::AppSettings;
use super::device::OnDevice;
use super::disk_args::DiskArgs;
use super::edit_loop::{EditLoop, Event, Key, Loaded, Turn};
use super::exit::Exit;
use super::global::Global;
use super::memory_args::MemoryArgs;
use super::test::until_stopped;
use super::{output, target};
use crate::app::build::Package;
use crate::config::check_listen;
use crate::limits::DRAIN_DEFAULT;
use crate::sandbox::Program;
use crate::server::{Host, ListenSettings};
use crate::tasks::blocking;

/// Serve an app while it is edited: every save is built and swapped in between two requests.
///
/// The last good version answers until then; the header `bireme-version` names it. A save that changes no input of the
/// build is passed over. Type r to build again, c to repeat the last call, t to run the app's own tests, o to open its
/// first page in a browser, q to quit, each with Enter.
///
/// Beside a running host, the session takes a data directory of its own, `DATA/dev/1`, and the next free port.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bireme dev examples/hello\n  curl -d '{\"name\": \"Ada\"}' http://127.0.0.1:8080/hello/greet"
)]
pub(crate) struct Dev {
    /// The directory of a crate or of a Python app, or a `.py` file; or a component that something else builds, a
    /// `.wasm` file or a directory with a `bireme.toml`.
    app: PathBuf,
    /// Address to listen on; port 0 takes a free one. Default: 127.0.0.1:8080, or the next free port.
    #[arg(long, value_name = "ADDR", env = "BIREME_LISTEN")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    settings: AppSettings,
    #[command(flatten)]
    on: OnDevice,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    disk: DiskArgs,
}

/// Help line, printed once the host listens.
const HELP: &str = "r builds again, c calls the last input again (or: c FUNCTION INPUT), t runs the tests, \
                    o opens the first page in a browser, q quits";

impl Dev {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let listen = self.listen.map(check_listen).transpose()?;
        let mut config = self.settings.config(global)?;
        config.inference.device = self.on.device;
        self.memory.apply(&mut config)?;
        self.disk.apply(&mut config);
        if let Some(source) = Source::open(&self.app, &config)? {
            config.is_for_edits = matches!(source, Source::Python { .. });
            return component::serve(source, config, listen, global.json).await;
        }
        let mut edit = EditLoop::start(self.app, &mut config)?;
        config.is_for_edits = true;
        let mut repeat = RepeatCall::default();
        let settings = || ListenSettings { last_call: Some(repeat.last.clone()), ..ListenSettings::default() };
        let open = place::open(config, settings).await?;
        let data = open.host.config.directories.data.clone();
        let running = open.start(place::bind(listen).await?).await?;
        let (host, address) = (&running.host, running.address);
        if global.json {
            output::line(&json!({ "listening": address.to_string(), "data": data }).to_string());
        } else {
            output::line(&format!("listening on http://{address}"));
            output::note(HELP);
        }

        let mut session = Session { base: format!("http://{address}"), is_json: global.json, live: None };
        let mut event = Event::Changed;
        loop {
            event = match event {
                Event::Stop | Event::Key(Key::Quit) => break,
                Event::Changed => session.turn(host, &mut edit).await,
                Event::Key(Key::Rebuild) => {
                    edit.forget();
                    session.turn(host, &mut edit).await
                }
                Event::Key(key) => {
                    session.act(key, host, &mut edit, &mut repeat).await;
                    edit.next().await
                }
            };
        }
        drop(repeat);
        running.shut_down(DRAIN_DEFAULT).await;
        Ok(())
    }
}

/// One app under edit, as it is served.
struct Session {
    /// URL of the host.
    base: String,
    is_json: bool,
    /// The last good version.
    live: Option<Arc<Program>>,
}

impl Session {
    /// Builds the saved crate and swaps it in. Returns the next event.
    async fn turn(&mut self, host: &Host, edit: &mut EditLoop) -> Event {
        if self.live.is_none() {
            self.announce_build(edit);
        }
        match edit.turn(host).await {
            Turn::Cancelled(event) => return event,
            Turn::Failed(exit) => report_failure(&exit, self.live.as_deref(), self.is_json),
            Turn::Loaded(loaded) => {
                if let Some(old) = &self.live
                    && old.name() != loaded.program.name()
                {
                    host.dispatcher.retire(old.name().as_str());
                }
                self.announce(&loaded);
                self.live = Some(loaded.program);
            }
        }
        edit.next().await
    }

    /// Does what a key stands for that neither builds nor ends the session.
    async fn act(&self, key: Key, host: &Host, edit: &mut EditLoop, repeat: &mut RepeatCall) {
        if key == Key::Test {
            return test(edit).await;
        }
        let Some(program) = &self.live else { return output::note("nothing is built yet") };
        match key {
            Key::Open => browser::open(&browser::page(program.metadata(), &self.base)),
            Key::Call(typed) => {
                repeat.call(&host.dispatcher, program, &typed).unwrap_or_else(|exit| exit.print());
            }
            Key::Rebuild | Key::Test | Key::Quit => {}
        }
    }

    /// Says that the app is not served yet: its first build may take a while.
    fn announce_build(&self, edit: &EditLoop) {
        if self.is_json {
            output::line(&json!({ "building": edit.app() }).to_string());
        }
        output::note(&format!("building {}; requests are answered with 503 until then", edit.app().display()));
        if edit.dirs().is_first_build() {
            output::note(target::FIRST_BUILD);
        }
    }

    fn announce(&self, loaded: &Loaded) {
        if self.is_json {
            output::line(&loaded.to_json().to_string());
        }
        print_functions(&loaded.program, &self.base, self.live.is_none());
        output::note(&loaded.to_line("is live"));
    }
}

/// Runs the app's tests, with their output on the terminal.
async fn test(edit: &mut EditLoop) {
    let (app, dirs) = (edit.app().to_owned(), edit.dirs().clone());
    let cargo = match blocking(move || Package::open(&app, &dirs).map(|package| package.test())).await {
        Ok(cargo) => cargo,
        Err(error) => return Exit::from(error).print(),
    };
    if let Err(error) = until_stopped(cargo, &mut edit.signals).await {
        output::note(&format!("cannot run cargo: {error}"));
    }
}
