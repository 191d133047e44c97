//! Apps that cargo does not build: how they are watched and loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::app::manifest;
use crate::cli::edit_loop::{SourceWatch, is_write};
use crate::cli::exit::Exit;
use crate::cli::target::{self, ComponentFile};
use crate::codes::Code;
use crate::config::{Config, ConfigError};
use crate::python::{Builder, Project};
use crate::sandbox::Program;
use crate::server::Host;

/// Time without a write after which a file is taken as complete: linkers write in parts.
const SETTLE: Duration = Duration::from_millis(50);

/// An app under edit.
pub(super) enum Source {
    /// A component that something else builds.
    Component { app: PathBuf, watch: Watch },
    /// A Python app, which is built here.
    Python { app: PathBuf, builder: Builder, watch: SourceWatch },
}

impl Source {
    /// Watches the app; `None` for a crate.
    pub(super) fn open(app: &Path, config: &Config) -> Result<Option<Self>, Exit> {
        let app = app.to_owned();
        if let Some(project) = Project::find(&app)? {
            let directories = &config.directories;
            let builder = Builder::new(&directories.data, &directories.artifacts, config.compiler.clone());
            return Ok(Some(Self::Python { watch: SourceWatch::start(&project.dir)?, app, builder }));
        }
        if app.exists() && ComponentFile::find(&app)?.is_some() {
            return Ok(Some(Self::Component { watch: Watch::start(&app)?, app }));
        }
        Ok(None)
    }

    /// Builds the app where needed, and makes it the live version.
    pub(super) async fn load(&mut self, host: &Host) -> Result<Arc<Program>, Exit> {
        let file = match self {
            Self::Component { app, .. } => ComponentFile::find(app)?.ok_or_else(|| missing(app))?.open()?,
            Self::Python { app, builder, .. } => {
                let project = Project::find(app)?.ok_or_else(|| missing(app))?;
                target::of_python(builder, project).await?
            }
        };
        let grants = host.config.grants.with(&file.grants()).map_err(ConfigError::from)?;
        let (path, app) = file.describe(host).await?;
        let program = host.load(&app, &grants).await;
        let program = program.map_err(|error| Exit::from(error).about(&path.display().to_string()));
        if let Self::Component { app, watch } = self {
            // The manifest may name another component now.
            watch.follow(app);
        }
        program
    }

    /// Waits for a write.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Component { watch, .. } => watch.changed().await,
            Self::Python { watch, .. } => watch.changed().await,
        }
    }

    /// Waits until the files are complete.
    pub(super) async fn settle(&mut self) {
        match self {
            Self::Component { watch, .. } => watch.settle().await,
            Self::Python { watch, .. } => watch.settle().await,
        }
    }
}

fn missing(app: &Path) -> Exit {
    Exit::new(Code::UnknownApp, format!("no app is at `{}`", app.display()))
}

/// Watcher of the component's directory and the manifest's: files are replaced by renaming, so the files themselves
/// are not what is watched.
pub(super) struct Watch {
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
