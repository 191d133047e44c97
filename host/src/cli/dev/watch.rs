//! Tells when a crate's files change; its own outputs and editors' temporary files are none of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::cli::exit::Exit;
use crate::codes::Code;

/// Editors write a file in several steps, and a tool many files: what comes within this time is one change.
const SETTLE: Duration = Duration::from_millis(30);

/// A watched crate.
pub struct Watch {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches the crate in `dir`: what lies in it, and its folders but for hidden ones and `target`.
    pub fn start(dir: &Path) -> Result<Self, Exit> {
        let dir = dir.canonicalize()?;
        let (sender, changes) = mpsc::channel(1);
        let root = dir.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_change = match event {
                Ok(event) => is_write(event.kind) && event.paths.iter().any(|path| is_source(&root, path)),
                // Events were lost; better one build too many.
                Err(_) => true,
            };
            if is_change {
                // A full channel holds a change already.
                let _ = sender.try_send(());
            }
        });
        let failed = |error: notify::Error| {
            let exit = Exit::new(Code::CannotWatch, format!("cannot watch `{}`: {error}", dir.display()));
            exit.hint("the kernel's limit is fs.inotify.max_user_watches")
        };
        let mut watcher = watcher.map_err(failed)?;
        watcher.watch(&dir, RecursiveMode::NonRecursive).map_err(failed)?;
        for folder in folders(&dir)? {
            watcher.watch(&folder, RecursiveMode::Recursive).map_err(failed)?;
        }
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits for a change.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Waits until no change follows another within `SETTLE`, and forgets them.
    pub async fn settle(&mut self) {
        while tokio::time::timeout(SETTLE, self.changed()).await.is_ok() {}
    }
}

fn folders(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && is_source(dir, &path) {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn is_write(kind: EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, ModifyKind};
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Any => true,
        EventKind::Other => false,
    }
}

/// Whether a build could read the path: not below `target` or a hidden folder, no editor's backup, swap file or lock.
fn is_source(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy());
    let first_is_target = inside.components().next().is_some_and(|part| part.as_os_str() == "target");
    let is_temporary = parts.clone().next_back().is_some_and(|name| {
        name.ends_with('~')
            || name.ends_with(".swp")
            || name.ends_with(".tmp")
            || name.bytes().all(|b| b.is_ascii_digit())
    });
    !first_is_target && !is_temporary && !parts.any(|part| part.starts_with(['.', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_and_temporary_files_are_no_sources() {
        let check = |path: &str| is_source(Path::new("/app"), &Path::new("/app").join(path));
        for source in ["Cargo.toml", "Cargo.lock", "src/lib.rs", "src/page/target.rs", "assets/target/x.html"] {
            assert!(check(source), "{source}");
        }
        for other in
            ["target", "target/x.rs", ".git/HEAD", "src/.lib.rs.swp", "src/lib.rs~", "src/4913", "src/#lib.rs#"]
        {
            assert!(!check(other), "{other}");
        }
        assert!(!is_source(Path::new("/app"), Path::new("/other/src/lib.rs")));
    }
}
