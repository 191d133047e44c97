//! `bireme dev` of a component that something else builds: swapped in when its file or its `bireme.toml` is written.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;
use tokio::sync::mpsc;

use super::place;
use super::repeat_call::RepeatCall;
use super::report::{print_functions, report_failure};
use crate::app::manifest;
use crate::call::micros;
use crate::cli::edit_loop::{Key, is_write, read_keys};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::signals::StopSignals;
use crate::cli::target::ComponentFile;
use crate::codes::Code;
use crate::config::{Config, ConfigError};
use crate::limits::DRAIN_DEFAULT;
use crate::sandbox::Program;
use crate::server::{Host, ListenSettings};

/// Help line.
const HELP: &str = "r loads the component again, c calls the last input again (or: c FUNCTION INPUT), q quits";
/// Time without a write after which a file is taken as complete: linkers write in parts.
const SETTLE: Duration = Duration::from_millis(50);

/// Whether `app` is a component rather than a crate.
pub(super) fn is_one(app: &Path) -> Result<bool, Exit> {
    Ok(app.exists() && ComponentFile::find(app)?.is_some())
}

/// Serves the component until Ctrl-C or q. The last good version answers while a new one cannot be loaded.
pub(super) async fn serve(app: &Path, config: Config, listen: Option<SocketAddr>, is_json: bool) -> Result<(), Exit> {
    let mut repeat = RepeatCall::default();
    let settings = || ListenSettings { last_call: Some(repeat.last.clone()), ..ListenSettings::default() };
    let open = place::open(config, settings).await?;
    let (mut watch, mut keys, mut signals) = (Watch::start(app)?, read_keys(), StopSignals::listen()?);
    let running = open.start(place::bind(listen).await?).await?;
    if is_json {
        output::line(&json!({ "listening": running.address.to_string() }).to_string());
    } else {
        output::line(&format!("listening on http://{}", running.address));
        output::note(HELP);
    }
    let mut live: Option<Arc<Program>> = None;
    let mut is_changed = true;
    loop {
        if std::mem::take(&mut is_changed) {
            watch.settle().await;
            let began = Instant::now();
            match load(app, &running.host).await {
                Ok(program) => {
                    announce(&program, live.as_deref(), began.elapsed(), running.address, is_json);
                    if let Some(old) = live.replace(program.clone()).filter(|old| old.name() != program.name()) {
                        running.host.dispatcher.retire(old.name().as_str());
                    }
                }
                Err(exit) => report_failure(&exit, live.as_deref(), is_json),
            }
            // The manifest may name another component now.
            watch.follow(app);
        }
        tokio::select! {
            () = watch.changed() => is_changed = true,
            () = signals.next() => break,
            key = keys.next() => match key {
                Key::Quit => break,
                Key::Rebuild => is_changed = true,
                Key::Call(typed) => match &live {
                    Some(program) => {
                        let called = repeat.call(&running.host.dispatcher, program, &typed);
                        called.unwrap_or_else(|exit| exit.print());
                    }
                    None => output::note("nothing is loaded yet"),
                },
                _ => output::note(HELP),
            },
        }
    }
    drop(repeat);
    running.shut_down(DRAIN_DEFAULT).await;
    Ok(())
}

async fn load(app: &Path, host: &Host) -> Result<Arc<Program>, Exit> {
    let file = ComponentFile::find(app)?.ok_or_else(|| missing(app))?.open()?;
    let grants = host.config.grants.with(&file.grants()).map_err(ConfigError::from)?;
    let (path, app) = file.describe(host).await?;
    let program = host.load(&app, &grants).await;
    program.map_err(|error| Exit::from(error).about(&path.display().to_string()))
}

fn missing(app: &Path) -> Exit {
    Exit::new(Code::UnknownApp, format!("no component is at `{}`", app.display()))
}

fn announce(program: &Program, live: Option<&Program>, took: Duration, address: SocketAddr, is_json: bool) {
    let (version, took) = (program.version(), micros(took));
    if live.is_some_and(|live| live.version() == version) {
        return;
    }
    if is_json {
        output::line(&json!({ "live": version, "swap_us": took }).to_string());
    }
    print_functions(program, &format!("http://{address}"), live.is_none());
    output::note(&format!("version {version} is live: loaded in {}", output::micros(took)));
}

/// Watcher of the component's directory and the manifest's: files are replaced by renaming, so the files themselves
/// are not what is watched.
struct Watch {
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    dirs: Vec<PathBuf>,
}

impl Watch {
    fn start(app: &Path) -> Result<Self, Exit> {
        let (sender, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_change =
                event.is_ok_and(|event| is_write(event.kind) && event.paths.iter().any(|path| is_input(path)));
            if is_change {
                // A full channel already holds a change.
                let _ = sender.try_send(());
            }
        });
        let failed = |error| Exit::new(Code::CannotWatch, format!("cannot watch `{}`: {error}", app.display()));
        let mut watch = Self { watcher: watcher.map_err(failed)?, changes, dirs: Vec::new() };
        watch.follow(app);
        Ok(watch)
    }

    /// Watches the directories of the component and the manifest that `app` has now.
    fn follow(&mut self, app: &Path) {
        let own = if app.is_dir() { app.to_owned() } else { parent(app) };
        let component = ComponentFile::find(app).ok().flatten().map(|file| parent(&file.path));
        for dir in [Some(own), component].into_iter().flatten() {
            if self.dirs.contains(&dir) {
                continue;
            }
            match self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => self.dirs.push(dir),
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "a directory is not watched"),
            }
        }
    }

    async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Discards changes until none arrives within `SETTLE`.
    async fn settle(&mut self) {
        while tokio::time::timeout(SETTLE, self.changed()).await.is_ok() {}
    }
}

fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn is_input(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
        || path.file_name().is_some_and(|name| name == manifest::FILE)
}
