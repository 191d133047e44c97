//! Errors of a manifest: each names the file, and where it can the line and the key.

use std::path::PathBuf;

use crate::limits::MANIFEST_BYTES_MAX;

/// Name of the file.
pub(crate) const FILE: &str = "bireme.toml";

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ManifestError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is over {MANIFEST_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{}`, line {line}: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    #[error("`{}`, line {line}: unknown key `{key}`; {step}", path.display())]
    UnknownKey { path: PathBuf, line: usize, key: String, step: String },
    #[error("`{}`, line {line}: `{key}`: {reason}", path.display())]
    Value { path: PathBuf, line: usize, key: String, reason: String },
    #[error("`{}`: {reason}", path.display())]
    Attributes { path: PathBuf, reason: String },
    #[error("`{}` names the component `{}`, which is not there; build it first", path.display(), component.display())]
    NoSuchComponent { path: PathBuf, component: PathBuf },
    #[error(
        "`{}` names no component, and {} stand beside it; add `component = \"FILE.wasm\"`",
        path.display(), files(*count)
    )]
    NoComponent { path: PathBuf, count: usize },
    #[error(
        "`{}` sets `{key}`, and the component describes itself: change `{key}` in the code, in the attributes of its \
         functions ({FILE} is for components without Bireme's metadata; `component` and `[grants]` may stay)",
        path.display()
    )]
    InCode { path: PathBuf, key: &'static str },
}

fn files(count: usize) -> String {
    if count == 0 { "no `.wasm` file".to_owned() } else { format!("{count} `.wasm` files") }
}
