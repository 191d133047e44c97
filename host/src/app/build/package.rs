//! Package of an app, as cargo reads its manifest: checked before anything is compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use cargo_metadata::{CrateType, Dependency, DependencyKind, Metadata, MetadataCommand, TargetKind};

use super::diagnosis;
use super::error::{BuildError, TARGET};
use super::shared_dir;
use super::toolchain::Toolchain;
use crate::app::sdk::{REGISTRY_INDEX, Sdk};

const SDK: &str = "bireme-sdk";
/// Feature of the SDK that puts its fakes in the place of the host.
const SDK_TESTING: &str = "bireme-sdk/testing";
const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Directories that the builds of all apps share.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildDirs {
    /// SDKs, unpacked. None: an app finds its SDK by itself.
    pub sdk: Option<PathBuf>,
    /// Compiled dependencies. None: in each app's own target directory.
    pub compiled: Option<PathBuf>,
}

impl BuildDirs {
    /// Returns the shared directory of compiled dependencies, unless the user has chosen one for cargo.
    fn compiled(&self) -> Option<&Path> {
        self.compiled.as_deref().filter(|_| !shared_dir::is_overridden())
    }

    /// Returns true for a build that finds nothing compiled in the shared directory.
    pub(crate) fn is_first_build(&self) -> bool {
        let is_empty = |dir: &Path| fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        self.compiled().is_some_and(is_empty)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    dir: PathBuf,
    toolchain: Toolchain,
    /// Shared directory of compiled dependencies, if this package uses it.
    compiled: Option<PathBuf>,
    /// None for a workspace without a package of its own.
    name: Option<String>,
    /// Configuration that leads cargo to the SDK, for an app that names it by version.
    cargo_config: Option<PathBuf>,
    manifest: ManifestStamp,
    has_build_script: bool,
    has_sdk: bool,
}

/// State of a manifest. A change of length or time means that it is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ManifestStamp(Option<(u64, SystemTime)>);

impl ManifestStamp {
    fn of(dir: &Path) -> Self {
        let metadata = fs::metadata(dir.join("Cargo.toml")).ok();
        Self(metadata.and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?))))
    }
}

impl Package {
    /// Reads the manifest in `dir`: a tenth of a second.
    pub(crate) fn open(dir: &Path, dirs: &BuildDirs) -> Result<Self, BuildError> {
        if !dir.join("Cargo.toml").is_file() {
            return Err(BuildError::NoCrate { dir: dir.to_owned() });
        }
        let manifest = ManifestStamp::of(dir);
        let toolchain = Toolchain::of(dir)?;
        let sdk = dirs.sdk.as_ref().map(|sdk| Sdk::embedded().unpack(sdk)).transpose()?;
        let cargo_config = sdk.map(|sdk| sdk.cargo_config);
        let metadata = read(&toolchain, dir, cargo_config.as_deref())?;
        let Checked { name, has_sdk, needs_sdk, has_build_script } = check(&metadata, dir)?;
        let cargo_config = cargo_config.filter(|_| needs_sdk);
        let compiled = dirs.compiled().map(Path::to_owned);
        Ok(Self { dir: dir.to_owned(), toolchain, compiled, name, cargo_config, manifest, has_build_script, has_sdk })
    }

    /// Returns true while the manifest is as it was read.
    pub(crate) fn is_current(&self) -> bool {
        ManifestStamp::of(&self.dir) == self.manifest
    }

    /// Returns true if cargo runs a program of the package's own before each build that may need it.
    pub(crate) fn has_build_script(&self) -> bool {
        self.has_build_script
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the package's name; empty for a workspace.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns a command of cargo for this package, with the shared directories.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.toolchain.cargo(&self.dir);
        command.arg(subcommand);
        if let Some(config) = &self.cargo_config {
            command.arg("--config").arg(config);
        }
        if let Some(compiled) = &self.compiled {
            command.env(shared_dir::VARIABLE, compiled);
        }
        command
    }

    /// Returns the arguments by which the package's own code is built fast, in the profile `release`: dependencies are
    /// the same in every build of every app, and compiled once.
    pub(crate) fn edit_args(&self) -> Vec<String> {
        let mut args = vec!["--release".to_owned(), "--config=profile.release.lto=false".to_owned()];
        if let Some(name) = &self.name {
            // An overflow panics, as in a debug build. Linking debug information would take longer than compiling.
            for setting in [
                "opt-level=0",
                "codegen-units=256",
                "incremental=true",
                "debug-assertions=true",
                "overflow-checks=true",
                "strip=true",
            ] {
                args.push(format!("--config=profile.release.package.{name}.{setting}"));
            }
        }
        args
    }

    /// Returns the command that runs the package's tests.
    pub(crate) fn test(&self) -> Command {
        let mut command = self.cargo("test");
        command.args(self.edit_args());
        command
    }

    /// Returns the command that compiles the package's tests for the sandbox. The SDK's fakes take the host's place.
    pub(super) fn sandboxed_tests(&self) -> Command {
        let mut command = self.test();
        command.args(["--no-run", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
        if self.has_sdk {
            command.args(["--features", SDK_TESTING]);
        }
        command
    }

    /// Returns the shared directory of compiled dependencies, if this package uses it.
    pub(crate) fn compiled_dir(&self) -> Option<&Path> {
        self.compiled.as_deref()
    }
}

fn read(toolchain: &Toolchain, dir: &Path, cargo_config: Option<&Path>) -> Result<Metadata, BuildError> {
    let mut command = toolchain.cargo(dir);
    command.args(["metadata", "--no-deps", "--format-version", "1"]).stdin(Stdio::null());
    if let Some(config) = cargo_config {
        command.arg("--config").arg(config);
    }
    let output = command.output().map_err(|source| BuildError::Program { program: "cargo", source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(diagnosis::diagnose_manifest(&stderr).unwrap_or(BuildError::Manifest { reason: stderr }));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    MetadataCommand::parse(text).map_err(|error| BuildError::Manifest { reason: error.to_string() })
}

/// Facts of a manifest that can be built.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    name: Option<String>,
    /// The package itself depends on the SDK.
    has_sdk: bool,
    /// SDK named by version: cargo must be told where it is.
    needs_sdk: bool,
    has_build_script: bool,
}

/// Checks the package in `dir`. A workspace's packages are for cargo to judge.
fn check(metadata: &Metadata, dir: &Path) -> Result<Checked, BuildError> {
    let manifest = fs::canonicalize(dir.join("Cargo.toml")).unwrap_or_else(|_| dir.join("Cargo.toml"));
    let package = metadata.packages.iter().find(|package| package.manifest_path.as_std_path() == manifest);
    let Some(package) = package else {
        let mut dependencies = metadata.packages.iter().flat_map(|package| &package.dependencies);
        let has_build_script = metadata.packages.iter().any(has_build_script);
        return Ok(Checked {
            name: None,
            has_sdk: false,
            needs_sdk: dependencies.any(is_by_version),
            has_build_script,
        });
    };
    let is_component = package
        .targets
        .iter()
        .any(|target| target.crate_types.contains(&CrateType::CDyLib) || target.kind.contains(&TargetKind::Bin));
    if !is_component {
        return Err(BuildError::NoComponent { dir: dir.to_owned() });
    }
    let is_used = |dependency: &&Dependency| dependency.name == SDK && dependency.kind == DependencyKind::Normal;
    let sdk = package.dependencies.iter().find(is_used);
    match sdk {
        None if names_sdk(package.targets.iter().map(|target| target.src_path.as_std_path())) => {
            return Err(BuildError::NoSdk);
        }
        Some(sdk) if sdk.source.as_ref().is_some_and(|source| source.to_string() == PUBLIC_REGISTRY) => {
            return Err(BuildError::PublicSdk);
        }
        Some(Dependency { path: Some(path), .. }) if !path.join("Cargo.toml").is_file() => {
            return Err(BuildError::SdkMoved);
        }
        _ => {}
    }
    Ok(Checked {
        name: Some(package.name.to_string()),
        has_sdk: sdk.is_some(),
        needs_sdk: sdk.is_some_and(is_by_version),
        has_build_script: has_build_script(package),
    })
}

fn has_build_script(package: &cargo_metadata::Package) -> bool {
    package.targets.iter().any(|target| target.kind.contains(&TargetKind::CustomBuild))
}

fn is_by_version(dependency: &Dependency) -> bool {
    dependency.name == SDK && dependency.registry.as_deref() == Some(REGISTRY_INDEX)
}

/// Returns true if a root file of the package names the SDK.
fn names_sdk<'a>(mut roots: impl Iterator<Item = &'a Path>) -> bool {
    roots.any(|root| fs::read_to_string(root).is_ok_and(|text| text.contains("bireme_sdk")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checks a package with a root file of this text.
    fn checked(crate_type: &str, sdk: Option<serde_json::Value>, source: &str) -> Result<Checked, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::write(root.join("Cargo.toml"), "").unwrap();
        fs::write(root.join("lib.rs"), source).unwrap();
        let package = json!({
            "name": "app",
            "version": "0.1.0",
            "id": "path+file:///app#0.1.0",
            "dependencies": sdk.into_iter().collect::<Vec<_>>(),
            "targets": [{ "name": "app", "kind": [crate_type], "crate_types": [crate_type], "src_path": root.join("lib.rs") }],
            "features": {},
            "manifest_path": root.join("Cargo.toml"),
        });
        let metadata = json!({
            "packages": [package],
            "workspace_members": [],
            "resolve": null,
            "workspace_root": root,
            "target_directory": root.join("target"),
            "version": 1,
        });
        check(&serde_json::from_value(metadata).unwrap(), &root)
    }

    fn dependency(source: Option<&str>, registry: Option<&str>, path: Option<&str>) -> serde_json::Value {
        json!({
            "name": SDK, "source": source, "req": "^0.1", "kind": null, "rename": null, "optional": false,
            "uses_default_features": true, "features": [], "target": null, "registry": registry, "path": path,
        })
    }

    #[test]
    fn a_manifest_is_refused_before_anything_is_compiled() {
        let by_version = || dependency(Some("registry+https://bireme.invalid/"), Some(REGISTRY_INDEX), None);
        let app = |has_sdk| {
            Ok(Checked { name: Some("app".to_owned()), has_sdk, needs_sdk: has_sdk, has_build_script: false })
        };
        let text = |checked: Result<Checked, BuildError>| checked.map_err(|error| format!("{error:?}"));
        let uses = "use bireme_sdk::prelude::*;";
        assert_eq!(text(checked("cdylib", Some(by_version()), uses)), app(true));
        assert_eq!(text(checked("cdylib", None, "fn plain() {}")), app(false));
        let refused = |checked| text(checked).unwrap_err();
        assert!(refused(checked("lib", Some(by_version()), uses)).starts_with("NoComponent"));
        assert_eq!(refused(checked("cdylib", None, uses)), "NoSdk");
        assert_eq!(refused(checked("cdylib", Some(dependency(Some(PUBLIC_REGISTRY), None, None)), uses)), "PublicSdk");
        assert_eq!(refused(checked("cdylib", Some(dependency(None, None, Some("/nowhere"))), uses)), "SdkMoved");
    }
}
