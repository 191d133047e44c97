//! Files for the loader: those of the app, of its requirements and of the standard library, each below a root of its
//! own. Plain files beneath a directory, whatever links say.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirEntry};
use parking_lot::Mutex;
use zip::ZipArchive;

use super::error::PythonError;
use crate::limits::{SOURCE_BYTES_MAX, SOURCE_NAMES_MAX, SOURCES_BYTES_MAX};
use crate::sandbox::SourceFiles;

/// Roots, as the loader names them.
const APP: &str = "app";
const STANDARD: &str = "std";
const PACKAGES: &str = "lib";

/// Standard library: what the base does not hold of it.
pub(crate) struct StandardLibrary(Mutex<ZipArchive<Cursor<Bytes>>>);

impl StandardLibrary {
    /// Opens an archive of the library.
    pub(super) fn open(archive: Bytes) -> zip::result::ZipResult<Self> {
        Ok(Self(Mutex::new(ZipArchive::new(Cursor::new(archive))?)))
    }

    fn read(&self, path: &str) -> Option<Bytes> {
        let mut archive = self.0.lock();
        let file = archive.by_name(path).ok()?;
        read_bounded(file)
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let archive = self.0.lock();
        let within =
            archive.file_names().filter_map(|name| Some(name.ok()?.strip_prefix(path)?.strip_prefix('/')?.to_owned()));
        let names: BTreeSet<String> = within
            .map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest,
            })
            .collect();
        (!names.is_empty()).then(|| names.into_iter().collect())
    }
}

/// Files of one build, at most `SOURCES_BYTES_MAX` bytes in all.
pub(super) struct Files {
    app: Option<Dir>,
    packages: Option<Dir>,
    standard: Arc<StandardLibrary>,
    room: AtomicU64,
}

impl Files {
    /// Opens the files of an app in `dir`, and of its requirements in `packages`.
    pub(super) fn open(
        dir: Option<&Path>,
        packages: Option<&Path>,
        standard: Arc<StandardLibrary>,
    ) -> Result<Self, PythonError> {
        let open = |dir: &Path| {
            let opened = Dir::open_ambient_dir(dir, ambient_authority());
            opened.map_err(|source| PythonError::Read { path: dir.to_owned(), source })
        };
        let (app, packages) = (dir.map(open).transpose()?, packages.map(open).transpose()?);
        Ok(Self { app, packages, standard, room: AtomicU64::new(SOURCES_BYTES_MAX) })
    }

    /// Returns the directory with the files of a root.
    fn dir(&self, root: &str) -> Option<&Dir> {
        match root {
            APP => self.app.as_ref(),
            PACKAGES => self.packages.as_ref(),
            _ => None,
        }
    }

    fn take_room(&self, bytes: usize) -> bool {
        let left = |left: u64| left.checked_sub(bytes as u64);
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

impl SourceFiles for Files {
    fn read(&self, path: &str) -> Option<Bytes> {
        let (root, path) = path.split_once('/')?;
        let file = if root == STANDARD {
            self.standard.read(path)?
        } else {
            let file = self.dir(root)?.open(path).ok()?;
            if !file.metadata().ok()?.is_file() {
                return None;
            }
            read_bounded(file)?
        };
        self.take_room(file.len()).then_some(file)
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let (root, path) = path.split_once('/').unwrap_or((path, ""));
        if root == STANDARD {
            return self.standard.list(path);
        }
        let entries = self.dir(root)?.read_dir(if path.is_empty() { "." } else { path }).ok()?;
        let name = |entry: io::Result<DirEntry>| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some(if entry.file_type().ok()?.is_dir() { name + "/" } else { name })
        };
        let mut names: Vec<String> = entries.take(SOURCE_NAMES_MAX).filter_map(name).collect();
        names.sort_unstable();
        Some(names)
    }
}

/// Reads a file of at most `SOURCE_BYTES_MAX` bytes.
fn read_bounded(file: impl Read) -> Option<Bytes> {
    let mut bytes = Vec::new();
    file.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= SOURCE_BYTES_MAX).then(|| bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn library() -> Arc<StandardLibrary> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["json/__init__.py", "json/tool/x.py", "this.py"] {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(name.as_bytes()).unwrap();
        }
        Arc::new(StandardLibrary::open(archive.finish().unwrap().into_inner().into()).unwrap())
    }

    #[test]
    fn files_beneath_the_roots_are_read_and_no_others() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.py"), "x").unwrap();
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join("a.py"), "app").unwrap();
        std::fs::create_dir(app.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.py"), app.path().join("link.py")).unwrap();
        let files = Files::open(Some(app.path()), None, library()).unwrap();
        assert_eq!(files.read("app/a.py").unwrap(), "app");
        assert_eq!(files.read("std/json/tool/x.py").unwrap(), "json/tool/x.py");
        let up = format!("app/../{}/secret.py", outside.path().file_name().unwrap().to_string_lossy());
        for path in [
            "app/b.py",
            "a.py",
            "",
            "app",
            "app/",
            "app/.",
            "app/folder",
            "app/link.py",
            "app//etc/passwd",
            "lib/a",
            &up,
        ] {
            assert!(files.read(path).is_none(), "{path}");
        }
    }

    #[test]
    fn directories_are_listed_in_order_with_a_slash_behind_folders() {
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join("b.py"), "").unwrap();
        std::fs::create_dir(app.path().join("a")).unwrap();
        let files = Files::open(Some(app.path()), None, library()).unwrap();
        assert_eq!(files.list("app").unwrap(), ["a/", "b.py"]);
        assert_eq!(files.list("app/a").unwrap(), [""; 0]);
        assert_eq!(files.list("std/json").unwrap(), ["__init__.py", "tool/"]);
        for path in ["app/../..", "app/none", "std/this.py", "lib", ""] {
            assert_eq!(files.list(path), None, "{path}");
        }
    }

    #[test]
    fn a_build_reads_a_bounded_number_of_bytes() {
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join("large"), vec![0; SOURCE_BYTES_MAX as usize]).unwrap();
        std::fs::write(app.path().join("too-large"), vec![0; SOURCE_BYTES_MAX as usize + 1]).unwrap();
        let files = Files::open(Some(app.path()), None, library()).unwrap();
        assert!(files.read("app/too-large").is_none());
        let reads = (0..20).filter(|_| files.read("app/large").is_some()).count() as u64;
        assert_eq!(reads, SOURCES_BYTES_MAX / SOURCE_BYTES_MAX);
    }
}
