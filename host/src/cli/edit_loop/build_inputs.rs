//! Inputs of a build, with what they held: a save that leaves them as they were needs no build.
//!
//! The inputs are those of cargo: the manifest, the lock file, and the files in the dep-info that cargo writes beside
//! the component (sources, included files, sources of path dependencies). Times alone do not decide, because editors
//! and version control write files with the same bytes. Where the inputs are not known (before the first build, after a
//! failed one, with a build script, whose own inputs only cargo knows), every file counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::watch::SavedFiles;

/// Name of the file that cargo itself writes during a build.
pub(super) const LOCK_FILE: &str = "Cargo.lock";
/// Files of the crate's own directory that cargo and rustup read besides the sources.
const MANIFESTS: [&str; 4] = ["Cargo.toml", LOCK_FILE, "rust-toolchain.toml", "rust-toolchain"];
/// Largest dep-info that is read.
const DEP_INFO_BYTES_MAX: u64 = 16 << 20;
/// Coarseness of a file system's times: two writes within it may leave the same time.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// State of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// Not a file, or not readable.
    Missing,
    /// May have changed while the build read it.
    Unknown,
    File {
        bytes: u64,
        modified: Option<SystemTime>,
        digest: [u8; 32],
        is_settled: bool,
    },
}

/// Inputs of one build.
#[derive(Clone, Debug)]
pub(super) struct BuildInputs {
    dir: PathBuf,
    /// `None`: every file.
    known: Option<BTreeSet<PathBuf>>,
    states: BTreeMap<PathBuf, FileState>,
}

impl BuildInputs {
    /// Reads the state of the files that a build is about to read: the inputs of the earlier build, and saved files.
    pub(super) fn before_build(dir: &Path, earlier: Option<&Self>, saved: &SavedFiles) -> Self {
        let known = earlier.and_then(|earlier| earlier.known.clone());
        let manifests = MANIFESTS.iter().map(|name| dir.join(name));
        let earlier_files = earlier.iter().flat_map(|earlier| earlier.states.keys().cloned());
        let files: BTreeSet<PathBuf> = manifests.chain(earlier_files).chain(saved.paths.iter().cloned()).collect();
        let states = files.into_iter().map(|file| {
            let state = FileState::of(&file, earlier.and_then(|earlier| earlier.states.get(&file)));
            (file, state)
        });
        Self { dir: dir.to_owned(), known, states: states.collect() }
    }

    /// Returns the inputs after a build that failed: a file of any name may be the one that was missing.
    pub(super) fn after_failure(self) -> Self {
        Self { known: None, ..self }
    }

    /// Returns the inputs after a build of `component` that began at `begun`.
    pub(super) fn after_build(mut self, component: &Path, has_build_script: bool, begun: SystemTime) -> Self {
        let inputs = read_dep_info(&component.with_extension("d"));
        for file in inputs.iter().flatten() {
            self.states.entry(file.clone()).or_insert_with(|| match FileState::of(file, None) {
                FileState::File { modified: Some(modified), .. } if modified + CLOCK_SLACK >= begun => {
                    FileState::Unknown
                }
                state => state,
            });
        }
        // Cargo wrote it itself.
        let lock = self.dir.join(LOCK_FILE);
        self.states.insert(lock.clone(), FileState::of(&lock, self.states.get(&lock)));
        self.known = inputs.filter(|_| !has_build_script);
        if let Some(known) = &self.known {
            let (dir, manifests) = (&self.dir, MANIFESTS.map(|name| self.dir.join(name)));
            self.states.retain(|file, _| known.contains(file) || manifests.contains(file) || !file.starts_with(dir));
        }
        self
    }

    /// Returns the saved files by which a build would differ from this one; none if there would be no difference. A
    /// lost event is a difference without a name.
    pub(super) fn changed(&self, saved: &SavedFiles) -> Option<Vec<PathBuf>> {
        let changed = |file: &PathBuf| {
            if self.reads(file) {
                return self.differs(file);
            }
            // A folder that was moved or removed, with inputs in it.
            self.known.iter().flatten().filter(|input| input.starts_with(file)).any(|input| self.differs(input))
        };
        let files: Vec<PathBuf> = saved.paths.iter().filter(|file| changed(file)).cloned().collect();
        (saved.is_lossy || !files.is_empty()).then_some(files)
    }

    /// Whether the build reads the file, or the directory that it is in as a whole.
    fn reads(&self, file: &Path) -> bool {
        let is_manifest = MANIFESTS.iter().any(|name| self.dir.join(name) == file);
        let Some(known) = &self.known else { return true };
        is_manifest || file.ancestors().take_while(|at| *at != self.dir).any(|at| known.contains(at))
    }

    fn differs(&self, file: &Path) -> bool {
        match self.states.get(file) {
            None | Some(FileState::Unknown) => true,
            Some(state) => !state.is_same(FileState::of(file, Some(state))),
        }
    }
}

impl FileState {
    /// Reads the state of a file. The contents are read only if size or time differ from an earlier state.
    fn of(file: &Path, earlier: Option<&Self>) -> Self {
        let Some(metadata) = fs::metadata(file).ok().filter(fs::Metadata::is_file) else { return Self::Missing };
        let (bytes, modified) = (metadata.len(), metadata.modified().ok());
        if let Some(same @ Self::File { bytes: of_earlier, modified: at, is_settled: true, .. }) = earlier
            && (*of_earlier, *at) == (bytes, modified)
        {
            return *same;
        }
        // A file that is written again within one tick of the clock may keep size and time.
        let is_settled = modified.is_some_and(|modified| modified + CLOCK_SLACK < SystemTime::now());
        match digest(file) {
            Ok(digest) => Self::File { bytes, modified, digest, is_settled },
            Err(_) => Self::Missing,
        }
    }

    /// Whether two states have the same contents.
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::File { digest, .. }, Self::File { digest: of_other, .. }) => digest == of_other,
            (Self::Missing, Self::Missing) => true,
            _ => false,
        }
    }
}

fn digest(file: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut fs::File::open(file)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// Reads the inputs in a dep-info file of cargo: `OUTPUT: INPUT INPUT …`, with spaces in names escaped. None if it is
/// not there, or names files by paths that are relative to an unknown directory.
fn read_dep_info(path: &Path) -> Option<BTreeSet<PathBuf>> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(DEP_INFO_BYTES_MAX).read_to_string(&mut text).ok()?;
    parse_dep_info(&text)
}

fn parse_dep_info(text: &str) -> Option<BTreeSet<PathBuf>> {
    let (_, inputs) = text.lines().next()?.split_once(": ")?;
    let mut files = BTreeSet::new();
    let mut name = String::new();
    let mut characters = inputs.chars().chain([' ']);
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.extend(characters.next()),
            ' ' if name.is_empty() => {}
            ' ' => {
                let file = PathBuf::from(std::mem::take(&mut name));
                if !file.is_absolute() {
                    return None;
                }
                files.insert(file);
            }
            character => name.push(character),
        }
    }
    (!files.is_empty()).then_some(files)
}

/// Returns files as text, relative to `dir` where they are in it.
pub(super) fn relative<'a>(dir: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    files.map(|file| file.strip_prefix(dir).unwrap_or(file).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate with a source, a page that the source includes, and a README, as built.
    struct Crate {
        dir: tempfile::TempDir,
        inputs: BuildInputs,
    }

    impl Crate {
        fn built() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            fs::create_dir(at("src")).unwrap();
            for file in ["Cargo.toml", "README.md", "src/lib.rs", "src/a page.html"] {
                fs::write(at(file), file).unwrap();
            }
            let (root, page) = (dir.path().display(), r"src/a\ page.html");
            fs::write(at("app.d"), format!("{root}/app.wasm: {root}/src/lib.rs {root}/{page}\n")).unwrap();
            let before = BuildInputs::before_build(dir.path(), None, &SavedFiles::default());
            let later = SystemTime::now() + 2 * CLOCK_SLACK;
            let inputs = before.after_build(&at("app.wasm"), false, later);
            Self { dir, inputs }
        }

        fn saved(&self, files: &[&str]) -> SavedFiles {
            SavedFiles { paths: files.iter().map(|file| self.dir.path().join(file)).collect(), is_lossy: false }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.dir.path().join(file), text).unwrap();
        }

        /// Saves files and returns those by which a build would differ.
        fn changed(&self, files: &[&str]) -> Vec<String> {
            relative(self.dir.path(), self.inputs.changed(&self.saved(files)).unwrap_or_default().iter())
        }
    }

    #[test]
    fn a_save_with_the_same_bytes_or_of_another_file_changes_no_input() {
        let app = Crate::built();
        app.write("src/lib.rs", "src/lib.rs");
        app.write("README.md", "more words");
        app.write("src/notes.txt", "new");
        assert_eq!(app.changed(&["src/lib.rs", "README.md", "src/notes.txt"]), Vec::<String>::new());
        app.write("src/lib.rs", "other bytes");
        app.write("src/a page.html", "other bytes");
        app.write("Cargo.toml", "other bytes");
        let all = ["Cargo.toml", "README.md", "src/a page.html", "src/lib.rs"];
        assert_eq!(app.changed(&all), ["Cargo.toml", "src/a page.html", "src/lib.rs"]);
    }

    #[test]
    fn an_input_that_is_gone_or_whose_folder_is_gone_is_changed() {
        let app = Crate::built();
        fs::remove_file(app.dir.path().join("src/lib.rs")).unwrap();
        assert_eq!(app.changed(&["src/lib.rs"]), ["src/lib.rs"]);
        assert_eq!(app.changed(&["src"]), ["src"]);
    }

    #[test]
    fn after_a_failed_build_any_other_contents_are_a_change() {
        let mut app = Crate::built();
        app.write("src/lib.rs", "mod missing;");
        let saved = app.saved(&["src/lib.rs"]);
        app.inputs = BuildInputs::before_build(app.dir.path(), Some(&app.inputs), &saved).after_failure();
        assert_eq!(app.changed(&["src/lib.rs"]), Vec::<String>::new());
        app.write("src/missing.rs", "");
        assert_eq!(app.changed(&["src/missing.rs"]), ["src/missing.rs"]);
    }

    #[test]
    fn a_lost_event_is_a_change_without_a_name() {
        let app = Crate::built();
        let lost = SavedFiles { is_lossy: true, ..SavedFiles::default() };
        assert_eq!(app.inputs.changed(&lost), Some(Vec::new()));
        assert_eq!(app.inputs.changed(&SavedFiles::default()), None);
    }

    #[test]
    fn a_file_written_while_the_build_began_may_not_have_been_read() {
        let app = Crate::built();
        let before = BuildInputs::before_build(app.dir.path(), None, &SavedFiles::default());
        let earlier = SystemTime::now() - Duration::from_secs(60);
        let inputs = before.after_build(&app.dir.path().join("app.wasm"), false, earlier);
        assert_eq!(inputs.changed(&app.saved(&["src/lib.rs"])).map(|files| files.len()), Some(1));
    }

    #[test]
    fn with_a_build_script_every_file_is_an_input() {
        let app = Crate::built();
        let before = BuildInputs::before_build(app.dir.path(), None, &SavedFiles::default());
        let inputs = before.after_build(&app.dir.path().join("app.wasm"), true, SystemTime::now());
        app.write("README.md", "more words");
        assert_eq!(inputs.changed(&app.saved(&["README.md"])).map(|files| files.len()), Some(1));
    }

    #[test]
    fn relative_paths_of_a_dep_info_are_not_known_inputs() {
        assert_eq!(parse_dep_info("/t/a.wasm: src/lib.rs\n"), None);
        assert_eq!(parse_dep_info("/t/a.wasm:\n"), None);
    }
}
