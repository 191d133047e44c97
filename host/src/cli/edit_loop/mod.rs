//! The edit loop: an app is watched, built at each save that changes an input of the build, and loaded. `bireme dev`
//! serves each version, `bireme run --watch` calls it.
//!
//! One task decides the next step (build, load, cancel); cargo runs on its own thread; saves and keys arrive over
//! channels. A newer save cancels a build that has just begun.

mod build_inputs;
mod keys;
mod load;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::build_inputs::{BuildInputs, LOCK_FILE, relative};
use self::keys::Keys;
pub(crate) use self::keys::{Key, read as read_keys};
pub(crate) use self::load::Loaded;
use self::watch::{SavedFiles, Watch};
pub(crate) use self::watch::{Watch as SourceWatch, is_write};
use super::exit::Exit;
use super::signals::StopSignals;
use super::{output, target};
use crate::app::build::{Build, BuildDirs, BuildError, Canceller, Package, Profile};
use crate::config::{Config, ConfigError};
use crate::server::Host;
use crate::tasks::blocking;

/// Age of a build up to which a save cancels it and begins another.
const CANCEL_WITHIN: Duration = Duration::from_secs(3);

/// Wake-up of the loop.
pub(crate) enum Event {
    /// An input of the build has changed.
    Changed,
    Key(Key),
    Stop,
}

/// End of one build.
pub(crate) enum Turn {
    Loaded(Loaded),
    Failed(Exit),
    /// By a newer save, a key or a stop signal.
    Cancelled(Event),
}

enum BuildOutcome {
    Built(PathBuf),
    Failed(BuildError),
    Cancelled(Event),
}

/// One app under edit.
pub(crate) struct EditLoop {
    app: PathBuf,
    dirs: BuildDirs,
    watch: Watch,
    keys: Keys,
    pub signals: StopSignals,
    /// Cached; read again after a failed build, which the toolchain may have caused, and when the manifest has changed.
    package: Option<Package>,
    /// Inputs of the build under way, else of the last one that ended. `None` makes the next event a build.
    inputs: Option<Arc<BuildInputs>>,
    /// Saves since that build began.
    saved: SavedFiles,
    /// `saved` is not compared with `inputs` yet.
    is_unjudged: bool,
    is_building: bool,
}

impl EditLoop {
    /// Watches the crate in `app`, and gives the host of `config` the grants of its manifest.
    pub(crate) fn start(app: PathBuf, config: &mut Config) -> Result<Self, Exit> {
        if !app.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: app }.into());
        }
        config.grants = config.grants.with(&target::grants_of_crate(&app)?).map_err(ConfigError::from)?;
        Ok(Self {
            watch: Watch::start(&app)?,
            keys: read_keys(),
            signals: StopSignals::listen()?,
            app,
            dirs: config.directories.builds(),
            package: None,
            inputs: None,
            saved: SavedFiles::default(),
            is_unjudged: false,
            is_building: false,
        })
    }

    pub(crate) fn app(&self) -> &Path {
        &self.app
    }

    pub(crate) fn dirs(&self) -> &BuildDirs {
        &self.dirs
    }

    /// Makes the next turn build, whatever has changed, with the toolchain looked up again.
    pub(crate) fn forget(&mut self) {
        self.package = None;
        self.inputs = None;
    }

    /// Waits for a key, a signal, or a save that changes an input of the build. Safe to cancel: a save is not lost.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if self.is_unjudged {
                let is_changed = self.judge().await;
                self.is_unjudged = false;
                if is_changed {
                    return Event::Changed;
                }
            }
            tokio::select! {
                () = self.watch.changed() => self.is_unjudged = true,
                key = self.keys.next() => return Event::Key(key),
                () = self.signals.next() => return Event::Stop,
            }
        }
    }

    /// Compares the saved files with what the build read.
    async fn judge(&mut self) -> bool {
        self.watch.settle().await;
        self.saved.extend(self.watch.take());
        if self.is_building {
            self.saved.paths.remove(&self.watch.dir().join(LOCK_FILE));
        }
        let Some(inputs) = self.inputs.clone() else { return true };
        let saved = self.saved.clone();
        let changed = blocking(move || inputs.changed(&saved)).await;
        if changed.is_none() {
            let files = relative(self.watch.dir(), self.saved.paths.iter());
            tracing::debug!(?files, "no input of the build changed");
            self.saved = SavedFiles::default();
        }
        changed.is_some()
    }

    /// Builds the app and loads it into `host`. Nothing of it runs yet.
    pub(crate) async fn turn(&mut self, host: &Host) -> Turn {
        let started = Instant::now();
        self.watch.settle().await;
        self.saved.extend(self.watch.take());
        let (before, saved) = (self.inputs.take(), std::mem::take(&mut self.saved));
        let (dir, earlier, files) = (self.watch.dir().to_owned(), before.clone(), saved.clone());
        let compared = blocking(move || {
            let changed = earlier.as_ref().map(|inputs| inputs.changed(&files).unwrap_or_default());
            (changed.unwrap_or_default(), BuildInputs::before_build(&dir, earlier.as_deref(), &files))
        });
        let (changed, inputs) = compared.await;
        self.inputs = Some(Arc::new(inputs.clone()));
        self.is_unjudged = false;
        let begun = SystemTime::now();

        self.is_building = true;
        let outcome = self.build().await;
        self.is_building = false;
        let component = match outcome {
            BuildOutcome::Cancelled(event) => {
                // The next turn, or the next judgement, compares with the last build that ended.
                self.inputs = before;
                self.saved.extend(saved);
                self.is_unjudged = true;
                return Turn::Cancelled(event);
            }
            BuildOutcome::Failed(error) => {
                self.inputs = Some(Arc::new(inputs.after_failure()));
                return Turn::Failed(error.into());
            }
            BuildOutcome::Built(component) => component,
        };
        let cargo = started.elapsed();
        let has_build_script = self.package.as_ref().is_none_or(Package::has_build_script);
        let built = component.clone();
        let inputs = blocking(move || inputs.after_build(&built, has_build_script, begun)).await;
        self.inputs = Some(Arc::new(inputs));
        match load::load(host, component).await {
            Ok((program, mut times)) => {
                times.cargo = cargo;
                Turn::Loaded(Loaded { program, times, changed: relative(self.watch.dir(), changed.iter()) })
            }
            Err(exit) => Turn::Failed(exit),
        }
    }

    /// Runs cargo until it ends or an event cancels it.
    async fn build(&mut self) -> BuildOutcome {
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
        let mut is_outdated = false;
        loop {
            let event = tokio::select! {
                ended = &mut finished => {
                    // The saves that came meanwhile are compared with what this build has read.
                    self.is_unjudged |= is_outdated;
                    return match ended {
                        Ok(component) => {
                            self.package = Some(package);
                            BuildOutcome::Built(component)
                        }
                        Err(error) => BuildOutcome::Failed(error),
                    };
                }
                event = self.next() => event,
            };
            match event {
                // A long build compiles dependencies: begun anew at every save, it would never end.
                Event::Changed if begun.elapsed() > CANCEL_WITHIN => is_outdated = true,
                Event::Key(Key::Call(_) | Key::Open) => {
                    output::note("a build is under way; type it again once that is done");
                }
                event => {
                    self.package = Some(package);
                    drop(cancel);
                    let _ = finished.await;
                    return BuildOutcome::Cancelled(event);
                }
            }
        }
    }
}

/// Ends a build unless it has ended.
pub(crate) struct CancelOnDrop(pub Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
