//! SDK and WIT files embedded in this binary, unpacked for apps to build with.
//!
//! The folder is content-addressed, `<data>/sdk/<version>-<hash>`. Apps name the SDK by version and by a registry,
//! [`REGISTRY`], that is nobody's: a file of cargo's configuration beside the folder puts the folder in its place, so a
//! manifest has no path of this machine and cargo asks no server for the name.
//!
//! Invariants: a folder appears atomically, by a rename; a folder that differs from the binary's files (crash, edit) is
//! replaced before use. The comparison reads all files (2 ms) and trusts no time stamp.
//!
//! Not here: templates of apps (`new`).

mod lock;
mod manifest;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) use self::lock::Lock;

// FILES, ROOT_MANIFEST and EXAMPLES_LOCK, written by the build script.
include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// Name of the registry in manifests of apps.
pub(crate) const REGISTRY: &str = "bireme";
/// Index of that registry: cargo wants one, and no server can have this name (RFC 6761).
pub(crate) const REGISTRY_INDEX: &str = "https://bireme.invalid/";

/// First line of cargo's configuration for the SDK: a file that begins otherwise is not ours.
pub(crate) const CONFIG_HEAD: &str = "# Written by bireme: the place of the SDK, for cargo.";

/// SDK on disk.
pub(crate) struct UnpackedSdk {
    /// Root of its workspace.
    pub folder: PathBuf,
    /// File for `cargo --config`, by which cargo finds the SDK of an app.
    pub cargo_config: PathBuf,
}

/// Files of the SDK.
pub(crate) struct Sdk {
    /// Sorted paths with `/`, and contents, including the root manifest.
    files: Vec<(&'static str, Vec<u8>)>,
}

/// An SDK that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("the SDK cannot be unpacked to `{}`", path.display())]
pub struct SdkError {
    path: PathBuf,
    source: io::Error,
}

impl Sdk {
    /// Returns the SDK of this binary.
    pub(crate) fn embedded() -> Self {
        let mut files: Vec<_> = FILES.iter().map(|(path, bytes)| (*path, bytes.to_vec())).collect();
        let members: Vec<&str> = FILES
            .iter()
            .filter(|(path, _)| path.ends_with("/Cargo.toml"))
            .filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok())
            .collect();
        let root = manifest::of_workspace(ROOT_MANIFEST, &members);
        files.push(("Cargo.toml", root.into_bytes()));
        files.sort_unstable();
        Self { files }
    }

    /// Returns the lock file that the SDK is tested with.
    pub(crate) fn lock() -> Lock {
        Lock::parse(EXAMPLES_LOCK)
    }

    /// Unpacks the SDK under `sdk_dir` if needed.
    pub(crate) fn unpack(&self, sdk_dir: &Path) -> Result<UnpackedSdk, SdkError> {
        let folder = sdk_dir.join(self.folder_name());
        let unpacked = self.unpack_to(sdk_dir, &folder).and_then(|()| configure(sdk_dir, &folder));
        unpacked.map_err(|source| SdkError { path: folder, source })
    }

    fn unpack_to(&self, sdk_dir: &Path, folder: &Path) -> io::Result<()> {
        // This may create the data directory, whose later contents are private.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(sdk_dir)?;
        // Concurrent commands would replace each other's folder. The lock ends with the file handle.
        let lock = File::create(sdk_dir.join("lock"))?;
        lock.lock()?;
        if self.is_at(folder) {
            return Ok(());
        }
        let fresh = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(sdk_dir)?;
        let new = fresh.path().join("new");
        for (path, bytes) in &self.files {
            let file = new.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&new))?;
            fs::write(&file, bytes)?;
        }
        // The old folder is deleted with the temporary one.
        match fs::rename(folder, fresh.path().join("old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(&new, folder),
        }
    }

    fn is_at(&self, folder: &Path) -> bool {
        self.files.iter().all(|(path, bytes)| fs::read(folder.join(path)).is_ok_and(|found| found == *bytes))
    }

    fn folder_name(&self) -> String {
        let mut hash = Sha256::new();
        for (path, bytes) in &self.files {
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let digest = hash.finalize();
        let hash = hex::encode(&digest[..6]);
        format!("{}-{hash}", env!("CARGO_PKG_VERSION"))
    }
}

/// Writes the configuration by which cargo takes the SDK from `folder`.
fn configure(sdk_dir: &Path, folder: &Path) -> io::Result<UnpackedSdk> {
    // Absolute: cargo runs in any directory.
    let (sdk_dir, folder) = (fs::canonicalize(sdk_dir)?, fs::canonicalize(folder)?);
    let nothing = sdk_dir.join("no-registry");
    fs::create_dir_all(&nothing)?;
    let cargo_config = folder.with_added_extension("toml");
    let text = cargo_config_of(&folder.join("guest-sdk"), &nothing).ok_or_else(|| {
        let reason = format!("`{}` is not UTF-8, as cargo's configuration must be", folder.display());
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })?;
    if fs::read(&cargo_config).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(UnpackedSdk { folder, cargo_config });
    }
    let mut file = tempfile::NamedTempFile::new_in(&sdk_dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(&cargo_config).map_err(|error| error.error)?;
    Ok(UnpackedSdk { folder, cargo_config })
}

/// Returns the text of the configuration. `nothing` is an empty directory in place of the registry: a search for
/// another version ends there, not at a server.
fn cargo_config_of(sdk: &Path, nothing: &Path) -> Option<String> {
    // TOML strings escape like JSON strings, except that DEL must be escaped too.
    let quoted = |path: &Path| Some(serde_json::Value::from(path.to_str()?).to_string().replace('\u{7f}', "\\u007f"));
    let (sdk, nothing) = (quoted(sdk)?, quoted(nothing)?);
    Some(format!(
        r#"{CONFIG_HEAD}
[registries.{REGISTRY}]
index = "{REGISTRY_INDEX}"

[source.{REGISTRY}]
registry = "{REGISTRY_INDEX}"
replace-with = "{REGISTRY}-unpacked"

[source.{REGISTRY}-unpacked]
directory = {nothing}

[patch.{REGISTRY}]
bireme-sdk = {{ path = {sdk} }}
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_letters_stays_one_string() {
        let config = cargo_config_of(Path::new("/d \"x\"/é\\"), Path::new("/n")).unwrap();
        assert!(config.contains(r#"bireme-sdk = { path = "/d \"x\"/é\\" }"#), "{config}");
    }

    #[test]
    fn the_binary_carries_the_sdk_the_macros_and_the_contract() {
        let sdk = Sdk::embedded();
        let paths: Vec<&str> = sdk.files.iter().map(|(path, _)| *path).collect();
        for path in [
            "Cargo.toml",
            "LICENSE-MIT",
            "guest-sdk/Cargo.toml",
            "guest-sdk/src/lib.rs",
            "guest-sdk/macros/src/lib.rs",
            "wit/worlds.wit",
            "wit/deps/keyvalue/store.wit",
        ] {
            assert!(paths.contains(&path), "{path} is missing of {paths:?}");
        }
    }

    #[test]
    fn what_is_unpacked_once_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = Sdk::embedded();
        let folder = sdk.unpack(dir.path()).unwrap().folder;
        let file = folder.join("guest-sdk/src/lib.rs");
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(sdk.unpack(dir.path()).unwrap().folder, folder);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        assert_eq!(left_over(dir.path()), 0);
    }

    #[test]
    fn a_folder_that_is_not_whole_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = Sdk::embedded();
        let folder = sdk.unpack(dir.path()).unwrap().folder;
        fs::remove_file(folder.join("wit/worlds.wit")).unwrap();
        fs::write(folder.join("guest-sdk/src/lib.rs"), "").unwrap();
        assert!(!sdk.is_at(&folder));
        sdk.unpack(dir.path()).unwrap();
        assert!(sdk.is_at(&folder));
        assert_eq!(left_over(dir.path()), 0);
    }

    #[test]
    fn another_content_has_another_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut sdk = Sdk::embedded();
        let before = sdk.unpack(dir.path()).unwrap().folder;
        sdk.files[0].1.push(b'\n');
        assert_ne!(sdk.unpack(dir.path()).unwrap().folder, before);
        assert!(Sdk::embedded().is_at(&before));
    }

    fn left_over(sdk_dir: &Path) -> usize {
        let entries = fs::read_dir(sdk_dir).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".unpacking")).count()
    }
}
