//! The catalogue of models on this machine's disk.
//!
//! A model is a directory with `config.json`, `model.safetensors` and `tokenizer.json`; `sentence_bert_config.json` and
//! `1_Pooling/config.json` refine the description. Or it is a directory with `model.onnx`, which only a worker reads.
//!
//! Not here: fetching (`pull`), loading onto a device (`worker`).
//!
//! Invariants: a name is 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-` and starts with a letter or digit, so that no name
//! leaves the models' directory; a model under a built-in name has the built-in's exact files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::builtin_models::{BUILTIN_MODELS, BuiltinModel};
use super::serving::SERVING_FILE;
use super::staging::{self, Staging, StagingError, WriteError};
use crate::suggest::closest;

/// The files that every model has.
const REQUIRED: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];
/// The files that are copied if they exist; `modules.json` reveals a model with layers after the pooling.
const OPTIONAL: [&str; 4] = ["sentence_bert_config.json", "modules.json", "1_Pooling/config.json", SERVING_FILE];
/// The file of an ONNX model.
const ONNX: &str = "model.onnx";
/// The longest JSON file that is read to describe a model.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A model that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstalledModel {
    /// The name that functions use.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The length of all its files.
    pub bytes: u64,
    /// Its kind.
    pub kind: ModelKind,
}

/// The kind of a model, by its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelKind {
    /// A transformer over tokens.
    Encoder {
        /// The architecture's name in `config.json`, such as `BertModel`.
        architecture: String,
        /// The length of the hidden vectors.
        dimension: u32,
        /// The most tokens of one input.
        max_tokens: u32,
    },
    /// A graph over named tensors, which are known once it is loaded.
    Onnx,
}

/// A model by its files, of which none was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocatedModel {
    /// The name that functions use.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The length of all its files.
    pub bytes: u64,
}

/// Identity of a model's files at one time: for each its inode, length, and last changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilesStamp(Vec<Option<[i64; 6]>>);

impl LocatedModel {
    /// Returns the stamp of its files now.
    pub(crate) fn stamp(&self) -> FilesStamp {
        let of = |file: &str| {
            let data = fs::metadata(self.path.join(file)).ok()?;
            let (inode, length) = (data.ino() as i64, data.size() as i64);
            Some([inode, length, data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()])
        };
        FilesStamp(REQUIRED.into_iter().chain(OPTIONAL).chain([ONNX]).map(of).collect())
    }
}

/// A listing of the models' directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The models that can be loaded, by name.
    pub installed: Vec<InstalledModel>,
    /// Directories that are no models, by name, with the reason.
    pub broken: Vec<(String, CatalogueError)>,
    /// Built-in models that are not installed.
    pub available: Vec<&'static BuiltinModel>,
}

/// An error of the catalogue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CatalogueError {
    /// There is no such model. The user pulls or adds it.
    #[error("unknown model `{name}`; {}", hint(name, installed, known))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names that would work.
        installed: Vec<String>,
        /// The names that can be pulled.
        known: Vec<&'static str>,
    },
    /// The name is malformed.
    #[error("`{name}` cannot name a model; use 1 to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first")]
    Name {
        /// The name.
        name: String,
    },
    /// A directory lacks a file.
    #[error("`{}` is no model: it has no `{file}`{}", dir.display(), beside(file))]
    MissingFile {
        /// The directory.
        dir: PathBuf,
        /// The missing file.
        file: &'static str,
    },
    /// A file is not the built-in model's.
    #[error("`{}` is not the file that `{name}` is known by (sha256 {actual}); add the model under another name", path.display())]
    BuiltinMismatch {
        /// The built-in name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its SHA-256.
        actual: String,
    },
    /// A configuration file lacks a key or has a wrong value.
    #[error("`{}` does not describe a model: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file or directory cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The models' directory cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// The models under one directory. It caches nothing: each query reads the disk.
#[derive(Clone, Debug)]
pub struct Catalogue {
    models_dir: PathBuf,
    known: &'static [BuiltinModel],
}

impl Catalogue {
    /// Creates the catalogue of `models_dir`, which need not exist yet.
    pub fn new(models_dir: impl Into<PathBuf>) -> Self {
        Self::with(models_dir, BUILTIN_MODELS)
    }

    /// Creates a catalogue with other built-in models.
    pub(crate) fn with(models_dir: impl Into<PathBuf>, known: &'static [BuiltinModel]) -> Self {
        Self { models_dir: models_dir.into(), known }
    }

    /// Returns the directory that holds the models.
    pub(crate) fn models_dir(&self) -> &Path {
        &self.models_dir
    }

    /// Returns the built-in model of this name.
    pub fn known(&self, name: &str) -> Option<&'static BuiltinModel> {
        self.known.iter().find(|known| known.name == name)
    }

    /// Lists installed and broken models, and those that could be pulled.
    pub(crate) fn list(&self) -> Result<Listing, CatalogueError> {
        let mut listing = Listing::default();
        for name in self.names()? {
            match describe(&name, &self.models_dir.join(&name)) {
                Ok(model) => listing.installed.push(model),
                Err(error) => listing.broken.push((name, error)),
            }
        }
        let is_there = |known: &&BuiltinModel| listing.installed.iter().any(|m| m.name == known.name);
        listing.available = self.known.iter().filter(|known| !is_there(known)).collect();
        Ok(listing)
    }

    /// Returns an installed model.
    pub(crate) fn get(&self, name: &str) -> Result<InstalledModel, CatalogueError> {
        check_name(name)?;
        let dir = self.models_dir.join(name);
        if !dir.is_dir() {
            return Err(self.unknown(name));
        }
        describe(name, &dir)
    }

    /// Returns a model by its files. A host reads none of them: they are anyone's.
    pub(crate) fn locate(&self, name: &str) -> Result<LocatedModel, CatalogueError> {
        check_name(name)?;
        let path = self.models_dir.join(name);
        if !path.is_dir() {
            return Err(self.unknown(name));
        }
        let bytes = measure(&path)?;
        Ok(LocatedModel { name: name.into(), path, bytes })
    }

    /// Returns all models by their files, and the names of directories that lack one.
    pub(crate) fn located(&self) -> Result<(Vec<LocatedModel>, Vec<String>), CatalogueError> {
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match self.locate(&name) {
                Ok(model) => found.push(model),
                Err(_) => broken.push(name),
            }
        }
        Ok((found, broken))
    }

    /// Copies the model at `source`, a directory or an ONNX file, under `name`, in place of one that has this name
    /// already.
    pub(crate) fn add(&self, name: &str, source: &Path) -> Result<InstalledModel, CatalogueError> {
        check_name(name)?;
        let known = self.known(name);
        let staging = Staging::begin(&self.models_dir)?;
        for (file, path) in files_of(source)? {
            let pinned = known.and_then(|known| known.files.iter().find(|f| f.path == file));
            let written = staging.write(file, File::open(&path).map_err(unreadable(&path))?, u64::MAX, &mut |_| {});
            let written = written.map_err(|error| match error {
                WriteError::Source { source, .. } => unreadable(&path)(source),
                WriteError::Staging(error) => error.into(),
            })?;
            if known.is_some() && pinned.is_none_or(|pinned| pinned.sha256 != written.sha256) {
                return Err(CatalogueError::BuiltinMismatch { name: name.into(), path, actual: written.sha256 });
            }
        }
        if let Some(missing) = known.iter().flat_map(|known| known.files).find(|file| !staging.has(file.path)) {
            return Err(CatalogueError::MissingFile { dir: source.to_owned(), file: missing.path });
        }
        let path = staging.commit(name)?;
        describe(name, &path)
    }

    /// Removes a model; a worker that has it open keeps its files until it closes them.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CatalogueError> {
        check_name(name)?;
        if !self.models_dir.join(name).is_dir() {
            return Err(self.unknown(name));
        }
        Ok(staging::remove(&self.models_dir, name)?)
    }

    /// Returns the error for a model that is not installed.
    pub(super) fn unknown(&self, name: &str) -> CatalogueError {
        CatalogueError::UnknownModel {
            name: name.into(),
            installed: self.names().unwrap_or_default(),
            known: self.known.iter().map(|known| known.name).collect(),
        }
    }

    fn names(&self) -> Result<Vec<String>, CatalogueError> {
        let entries = match fs::read_dir(&self.models_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(unreadable(&self.models_dir)(source)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// Returns an error unless `name` can name a model.
pub(super) fn check_name(name: &str) -> Result<(), CatalogueError> {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_good = (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(is_alphanumeric)
        && name.bytes().all(|b| is_alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'));
    if is_good { Ok(()) } else { Err(CatalogueError::Name { name: name.into() }) }
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
    hidden_size: Option<u32>,
    max_position_embeddings: Option<u32>,
}

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<u32>,
}

/// Whether a directory holds an ONNX model. With weights beside it, it is an encoder with an ONNX export.
fn is_onnx(dir: &Path) -> bool {
    dir.join(ONNX).is_file() && !dir.join("model.safetensors").is_file()
}

/// Returns the files of the model at `source`, by their names in a model's directory.
fn files_of(source: &Path) -> Result<Vec<(&'static str, PathBuf)>, CatalogueError> {
    if source.is_file() && source.extension().is_some_and(|extension| extension == "onnx") {
        return Ok(vec![(ONNX, source.to_owned())]);
    }
    if is_onnx(source) {
        return Ok(vec![(ONNX, source.join(ONNX))]);
    }
    describe("", source)?;
    let files = REQUIRED.into_iter().chain(OPTIONAL).map(|file| (file, source.join(file)));
    Ok(files.filter(|(_, path)| path.is_file()).collect())
}

/// Returns the length of a model's files; refuses a directory that lacks one.
fn measure(dir: &Path) -> Result<u64, CatalogueError> {
    if is_onnx(dir) {
        let path = dir.join(ONNX);
        return Ok(fs::metadata(&path).map_err(unreadable(&path))?.len());
    }
    let mut bytes = 0;
    for file in REQUIRED.into_iter().chain(OPTIONAL) {
        match fs::metadata(dir.join(file)) {
            Ok(metadata) if metadata.is_file() => bytes += metadata.len(),
            _ if OPTIONAL.contains(&file) => {}
            _ => {
                let dir = dir.to_owned();
                return Err(CatalogueError::MissingFile { dir, file });
            }
        }
    }
    Ok(bytes)
}

/// Reads a model's description, for commands that show it.
fn describe(name: &str, dir: &Path) -> Result<InstalledModel, CatalogueError> {
    let bytes = measure(dir)?;
    let described = |bytes, kind| InstalledModel { name: name.into(), path: dir.to_owned(), bytes, kind };
    if is_onnx(dir) {
        return Ok(described(bytes, ModelKind::Onnx));
    }
    let path = dir.join("config.json");
    let config: Config = read_json(&path)?;
    let lacks = |key: &str| CatalogueError::Config { path: path.clone(), reason: format!("it has no `{key}`") };
    let sentence = dir.join("sentence_bert_config.json");
    let max_seq_length = if sentence.is_file() { read_json::<SentenceConfig>(&sentence)?.max_seq_length } else { None };
    let architecture = config.architectures.into_iter().next().or(config.model_type);
    let kind = ModelKind::Encoder {
        architecture: architecture.ok_or_else(|| lacks("architectures"))?,
        dimension: config.hidden_size.ok_or_else(|| lacks("hidden_size"))?,
        max_tokens: max_seq_length
            .or(config.max_position_embeddings)
            .ok_or_else(|| lacks("max_position_embeddings"))?,
    };
    Ok(described(bytes, kind))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, CatalogueError> {
    let invalid = |reason: String| CatalogueError::Config { path: path.to_owned(), reason };
    let bytes = fs::metadata(path).map_err(unreadable(path))?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(invalid(format!("{bytes} bytes are over the limit of {CONFIG_BYTES_MAX}")));
    }
    let text = fs::read(path).map_err(unreadable(path))?;
    serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> CatalogueError + use<'_> {
    |source| CatalogueError::Unreadable { path: path.to_owned(), source }
}

fn beside(file: &str) -> &'static str {
    if file == REQUIRED[0] { "; or give the directory or file of an ONNX model, `model.onnx`" } else { "" }
}

fn hint(name: &str, installed: &[String], known: &[&str]) -> String {
    let names = installed.iter().map(String::as_str).chain(known.iter().copied());
    match closest(name, names) {
        Some(near) if near == name => format!("run `bireme models pull {name}`"),
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "`bireme models` lists those that are installed, `bireme models available` those that can be pulled; \
             `bireme models add {name} DIR` adds your own"
        ),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn model(dir: &Path) {
        fs::create_dir_all(dir.join("1_Pooling")).expect("made");
        let config = r#"{"architectures":["BertModel"],"hidden_size":8,"max_position_embeddings":512}"#;
        for (file, text) in [
            ("config.json", config),
            ("model.safetensors", "weights"),
            ("tokenizer.json", "{}"),
            ("sentence_bert_config.json", r#"{"max_seq_length":256}"#),
            ("1_Pooling/config.json", "{}"),
            ("README.md", "not copied"),
        ] {
            fs::write(dir.join(file), text).expect("written");
        }
    }

    fn catalogue() -> (TempDir, Catalogue, PathBuf) {
        let home = TempDir::new().expect("a directory");
        let source = home.path().join("source");
        model(&source);
        let catalogue = Catalogue::new(home.path().join("models"));
        (home, catalogue, source)
    }

    #[test]
    fn an_added_model_is_listed_with_what_it_says_of_itself() {
        let (_home, catalogue, source) = catalogue();
        assert!(catalogue.list().expect("readable").installed.is_empty());
        let added = catalogue.add("mine-1.0", &source).expect("added");
        let kind = ModelKind::Encoder { architecture: "BertModel".into(), dimension: 8, max_tokens: 256 };
        assert_eq!(added.kind, kind);
        assert!(!added.path.join("README.md").exists());
        let listing = catalogue.list().expect("readable");
        assert_eq!(listing.installed, [catalogue.get("mine-1.0").expect("there")]);
        assert_eq!(listing.available.len(), BUILTIN_MODELS.len());
        catalogue.remove("mine-1.0").expect("removed");
        assert!(catalogue.list().expect("readable").installed.is_empty());
        assert!(matches!(catalogue.remove("mine-1.0"), Err(CatalogueError::UnknownModel { .. })));
    }

    #[test]
    fn an_unknown_model_comes_with_the_command_that_mends_it() {
        let (_home, catalogue, source) = catalogue();
        catalogue.add("mine", &source).expect("added");
        let error = |name: &str| catalogue.get(name).expect_err("unknown").to_string();
        assert_eq!(
            error("all-minilm-l6-v2"),
            "unknown model `all-minilm-l6-v2`; run `bireme models pull all-minilm-l6-v2`"
        );
        assert_eq!(
            error("yours"),
            "unknown model `yours`; `bireme models` lists those that are installed, `bireme models available` those that \
             can be pulled; `bireme models add yours DIR` adds your own"
        );
        assert_eq!(error("silero-vda"), "unknown model `silero-vda`; did you mean `silero-vad`?");
        assert_eq!(error("mime"), "unknown model `mime`; did you mean `mine`?");
    }

    #[test]
    fn an_onnx_model_is_added_from_its_directory_or_its_file() {
        let (home, catalogue, source) = catalogue();
        let (dir, file) = (home.path().join("graph"), home.path().join("other.onnx"));
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("model.onnx"), "graph").expect("written");
        fs::write(&file, "a graph").expect("written");
        let of_dir = catalogue.add("of-dir", &dir).expect("added");
        assert_eq!((of_dir.kind, of_dir.bytes), (ModelKind::Onnx, 5));
        let of_file = catalogue.add("of-file", &file).expect("added");
        assert_eq!((of_file.kind, of_file.bytes), (ModelKind::Onnx, 7));
        assert_eq!(fs::read(of_file.path.join("model.onnx")).expect("there"), b"a graph");
        assert_eq!(catalogue.list().expect("readable").installed.len(), 2);
        // Weights beside it make it an encoder.
        fs::write(source.join("model.onnx"), "graph").expect("written");
        let both = catalogue.add("both", &source).expect("added");
        assert!(matches!(both.kind, ModelKind::Encoder { .. }) && !both.path.join("model.onnx").exists());
        let refused = catalogue.add("silero-vad", &file);
        assert!(matches!(refused, Err(CatalogueError::BuiltinMismatch { .. })), "{refused:?}");
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        let (_home, catalogue, source) = catalogue();
        let long = "a".repeat(65);
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "A", "a b", "ä", &long] {
            let added = catalogue.add(name, &source);
            assert!(matches!(added, Err(CatalogueError::Name { .. })), "{name}");
            assert!(matches!(catalogue.get(name), Err(CatalogueError::Name { .. })), "{name}");
            assert!(matches!(catalogue.remove(name), Err(CatalogueError::Name { .. })), "{name}");
        }
    }

    #[test]
    fn a_built_in_name_is_kept_for_the_built_in_files() {
        let (_home, catalogue, source) = catalogue();
        let refused = catalogue.add("all-minilm-l6-v2", &source);
        assert!(matches!(refused, Err(CatalogueError::BuiltinMismatch { .. })));
        assert!(catalogue.list().expect("readable").installed.is_empty());
    }

    #[test]
    fn a_broken_directory_does_not_hide_the_others() {
        let (_home, catalogue, source) = catalogue();
        catalogue.add("good", &source).expect("added");
        fs::create_dir(catalogue.models_dir().join("empty")).expect("made");
        fs::create_dir(catalogue.models_dir().join(".hidden")).expect("made");
        let listing = catalogue.list().expect("readable");
        assert_eq!(listing.installed.len(), 1);
        assert!(matches!(
            &listing.broken[..],
            [(name, CatalogueError::MissingFile { file: "config.json", .. })] if name == "empty"
        ));
        fs::write(source.join("config.json"), "{").expect("written");
        assert!(matches!(catalogue.add("bad", &source), Err(CatalogueError::Config { .. })));
    }
}
