//! Errors of a build.

use std::path::PathBuf;

use crate::app::sdk::SdkError;
use crate::codes::Code;

/// Rust target of every guest.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Advice for a crate without a known alternative.
const UNKNOWN_ALTERNATIVE: &str = "look for a crate that is all Rust and needs no operating system";

/// Line of a manifest, for an app without the SDK.
const SDK_LINE: &str =
    "under `[dependencies]` its Cargo.toml needs `bireme-sdk = { version = \"0.1\", registry = \"bireme\" }`";

/// A build that gave no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error("`{}` is no crate: it has no Cargo.toml", dir.display())]
    NoCrate { dir: PathBuf },
    #[error("cannot run `{program}`; install Rust from https://rustup.rs")]
    Program { program: &'static str, source: std::io::Error },
    #[error("the target {TARGET} is missing and could not be added; run `rustup target add {TARGET}`: {reason}")]
    Target { reason: String },
    #[error("cargo could not build the app (its words are above)")]
    Cargo,
    #[error(
        "cargo could not build the app, and no C compiler `cc` is installed, which Rust needs to link; on Debian or \
         Ubuntu: `apt-get install build-essential`"
    )]
    NoLinker,
    #[error("the dependency `{name}` does not build for {TARGET}; {}", instead.unwrap_or(UNKNOWN_ALTERNATIVE))]
    NotForWasm { name: String, instead: Option<&'static str> },
    #[error("the app does not find its SDK: the path of `bireme-sdk` in its Cargo.toml leads nowhere; {SDK_LINE}")]
    SdkMoved,
    #[error("the app uses `bireme_sdk` and does not depend on it; {SDK_LINE}")]
    NoSdk,
    #[error("`bireme-sdk` of the public registry is not the SDK, which comes with bireme; {SDK_LINE}")]
    PublicSdk,
    #[error(transparent)]
    Sdk(#[from] SdkError),
    #[error("cargo cannot read the app's Cargo.toml: {reason}")]
    Manifest { reason: String },
    #[error(
        "the app stands in the directory of a workspace that does not list it; add an empty `[workspace]` to its \
         Cargo.toml, or its directory to `members` of that workspace: {reason}"
    )]
    Workspace { reason: String },
    #[error("this Rust is too old for the app: {reason}; run `rustup update`")]
    OldToolchain { reason: String },
    #[error(
        "the crate in `{}` builds no component; its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`",
        dir.display()
    )]
    NoComponent { dir: PathBuf },
    #[error(
        "the workspace of `{}` builds {} components ({names}); name one of their directories",
        dir.display(), found.len(), names = names(found)
    )]
    Several { dir: PathBuf, found: Vec<PathBuf> },
}

fn names(paths: &[PathBuf]) -> String {
    let stems = paths.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy());
    stems.collect::<Vec<_>>().join(", ")
}

impl BuildError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoCrate { .. } => Code::NoCrate,
            Self::Program { .. } | Self::OldToolchain { .. } | Self::NoLinker => Code::Toolchain,
            Self::Target { .. } => Code::NoTarget,
            Self::Cargo | Self::Manifest { .. } | Self::Workspace { .. } => Code::BuildFailed,
            Self::NotForWasm { .. } => Code::NotForWasm,
            Self::SdkMoved | Self::NoSdk | Self::PublicSdk => Code::NoSdk,
            Self::Sdk(_) => Code::Io,
            Self::NoComponent { .. } | Self::Several { .. } => Code::NoComponent,
        }
    }
}
