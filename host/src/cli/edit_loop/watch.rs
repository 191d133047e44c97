//! File watcher of a crate. Ignores build outputs and editors' temporary files.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cli::exit::Exit;
use crate::codes::Code;

/// Debounce: some editors save by two renames, and tools write many files. A longer wait would delay every save; a
/// later change cancels the build that started too early.
const SETTLE: Duration = Duration::from_millis(8);

/// Names of saved files between two builds. More are a lost event.
const SAVED_LEN_MAX: usize = 4_096;

/// Files saved since they were last taken.
#[derive(Clone, Debug, Default)]
pub(super) struct SavedFiles {
    pub paths: BTreeSet<PathBuf>,
    /// Events were lost, so other files may have been saved too.
    pub is_lossy: bool,
}

impl SavedFiles {
    pub(super) fn extend(&mut self, more: Self) {
        self.is_lossy |= more.is_lossy;
        self.paths.extend(more.paths);
        if self.paths.len() > SAVED_LEN_MAX {
            self.paths.clear();
            self.is_lossy = true;
        }
    }
}

/// Saves as the watcher's thread hands them over.
#[derive(Default)]
struct Saves {
    files: Mutex<SavedFiles>,
    changed: Notify,
}

/// A watched crate.
pub(crate) struct Watch {
    dir: PathBuf,
    saves: Arc<Saves>,
    watcher: RecommendedWatcher,
    /// Watched folders by inode, since a folder may be deleted and created again.
    folders: BTreeMap<PathBuf, u64>,
}

impl Watch {
    /// Watches the crate in `dir`: its files, and its folders except hidden ones and `target`.
    pub(crate) fn start(dir: &Path) -> Result<Self, Exit> {
        let dir = dir.canonicalize()?;
        let saves = Arc::new(Saves::default());
        let (root, seen) = (dir.clone(), saves.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let saved = match event {
                // Events were lost: one build too many is better than one too few.
                Ok(event) if event.need_rescan() => SavedFiles { is_lossy: true, ..SavedFiles::default() },
                Ok(event) if is_write(event.kind) => {
                    let sources = event.paths.into_iter().filter(|path| is_source(&root, path));
                    SavedFiles { paths: sources.collect(), is_lossy: event.kind == EventKind::Any }
                }
                Ok(_) => return,
                Err(_) => SavedFiles { is_lossy: true, ..SavedFiles::default() },
            };
            if saved.is_lossy || !saved.paths.is_empty() {
                seen.files.lock().extend(saved);
                seen.changed.notify_one();
            }
        });
        let mut watcher = watcher.map_err(|error| failed(&dir, &error))?;
        watcher.watch(&dir, RecursiveMode::NonRecursive).map_err(|error| failed(&dir, &error))?;
        let mut watch = Self { dir, saves, watcher, folders: BTreeMap::new() };
        watch.follow_folders()?;
        Ok(watch)
    }

    /// Watches new folders.
    fn follow_folders(&mut self) -> Result<(), Exit> {
        let now = folders(&self.dir)?;
        for (folder, inode) in &now {
            if self.folders.get(folder) != Some(inode) {
                self.watcher.watch(folder, RecursiveMode::Recursive).map_err(|error| failed(&self.dir, &error))?;
            }
        }
        self.folders = now;
        Ok(())
    }

    /// Returns the watched directory, without links.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits for a save.
    pub(crate) async fn changed(&mut self) {
        self.saves.changed.notified().await;
    }

    /// Waits until no save arrives within `SETTLE`.
    pub(crate) async fn settle(&mut self) {
        while tokio::time::timeout(SETTLE, self.changed()).await.is_ok() {}
        if let Err(exit) = self.follow_folders() {
            tracing::warn!(error = exit.message, "some folders are not watched");
        }
    }

    /// Returns the files saved since the last time.
    pub(super) fn take(&mut self) -> SavedFiles {
        std::mem::take(&mut self.saves.files.lock())
    }
}

fn failed(dir: &Path, error: &notify::Error) -> Exit {
    let exit = Exit::new(Code::CannotWatch, format!("cannot watch `{}`: {error}", dir.display()));
    exit.hint("the kernel's limit is fs.inotify.max_user_watches")
}

fn folders(dir: &Path) -> std::io::Result<BTreeMap<PathBuf, u64>> {
    let mut folders = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if is_source(dir, &path)
            && let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_dir()
        {
            folders.insert(path, metadata.ino());
        }
    }
    Ok(folders)
}

/// Whether a file is changed and complete: files are created empty, written in parts, then closed.
pub(crate) fn is_write(kind: EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(kind) => matches!(kind, ModifyKind::Name(_)),
        EventKind::Create(kind) => kind == CreateKind::Folder,
        EventKind::Remove(_) | EventKind::Any => true,
        EventKind::Other => false,
    }
}

/// Whether a build may read the path: not under `target` or a hidden folder, not an editor's backup, swap or lock file.
fn is_source(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy());
    let first_is_target = inside.components().next().is_some_and(|part| part.as_os_str() == "target");
    let is_temporary = parts.clone().next_back().is_some_and(|name| {
        name.ends_with('~')
            || name.ends_with(".swp")
            || name.ends_with(".tmp")
            || name.ends_with(".bireme.wasm")
            || name.ends_with("___jb_tmp___")
            || name.ends_with("___jb_old___")
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
        for other in [
            "target",
            "target/x.rs",
            ".git/HEAD",
            "src/.lib.rs.swp",
            "src/lib.rs~",
            "src/4913",
            "src/#lib.rs#",
            "app.bireme.wasm",
            "src/lib.rs___jb_tmp___",
        ] {
            assert!(!check(other), "{other}");
        }
        assert!(!is_source(Path::new("/app"), Path::new("/other/src/lib.rs")));
    }
}
