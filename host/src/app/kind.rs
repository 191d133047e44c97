//! Kind of a component, by its exports: an app, or something else by name and with the way to an app.
//!
//! Read from the sections, without compilation.

use std::fmt;

use wasmparser::{ExternalKind, Parser, Payload};

use super::metadata::MetadataError;
use super::sections::TopLevel;

/// Import of a component that is made from source files.
pub(crate) const FILES: &str = "bireme:host/files@0.1.0";
/// Export of an app that describes itself.
pub(crate) const METADATA: &str = "bireme:host/metadata@0.1.0";
/// Export of an app with web functions.
pub(crate) const WEB_HANDLER: &str = "wasi:http/incoming-handler@0.2.12";

/// Things that a host runs, for messages.
const RUNS: &str = "a host runs functions of Bireme's SDK and handlers of HTTP (an export of \
                    `wasi:http/incoming-handler@0.2`)";
/// Exports named in a message.
const EXPORTS_MAX: usize = 3;

/// Kind of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppKind {
    /// It describes itself: the SDK's.
    Described,
    /// A plain handler of HTTP, of any toolchain.
    Stock,
}

/// A component that is no app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnApp {
    /// A program that runs once.
    #[error(
        "this is a command (it exports `{export}`): a program that runs once, from its start to its exit, with \
         arguments and files; {RUNS}. Move its work to a function (`bireme new`), or run it with a command-line \
         runtime, such as `wasmtime run`"
    )]
    Command {
        /// Its export.
        export: String,
    },
    /// A handler of HTTP for a version of WASI that this host does not have.
    #[error(
        "this is a handler of HTTP for another version of WASI (it exports `{export}`), and {RUNS}; build it again \
         with a current toolchain for WASI 0.2"
    )]
    OtherPreview {
        /// Its export.
        export: String,
    },
    /// A library, for other components.
    #[error(
        "this is a library (a reactor: it exports {exports}), for other components to call, and {RUNS}; compose it \
         with a component that exports one of these (`wac plug`), or call it from an app"
    )]
    Library {
        /// The first of its exports.
        exports: String,
    },
    /// A component that nobody can call.
    #[error("this component exports nothing that could be called, and {RUNS}")]
    Nothing,
}

impl AppKind {
    /// Finds the kind of a component; an error for one that is no app.
    pub(crate) fn of(component: &[u8]) -> Result<Result<Self, NotAnApp>, MetadataError> {
        let mut exports = Vec::new();
        for payload in TopLevel::of(component) {
            if let Payload::ComponentExportSection(section) = payload? {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
        }
        Ok(Self::by_exports(exports))
    }

    fn by_exports(exports: Vec<String>) -> Result<Self, NotAnApp> {
        let has = |wanted: &str| exports.iter().any(|name| is_compatible(name, wanted));
        if has(METADATA) {
            return Ok(Self::Described);
        }
        if has(WEB_HANDLER) {
            return Ok(Self::Stock);
        }
        let find = |interface: &str| exports.iter().find(|name| name.split('@').next() == Some(interface)).cloned();
        if let Some(export) = find("wasi:http/incoming-handler").or_else(|| find("wasi:http/handler")) {
            return Err(NotAnApp::OtherPreview { export });
        }
        if let Some(export) = find("wasi:cli/run") {
            return Err(NotAnApp::Command { export });
        }
        if exports.is_empty() {
            return Err(NotAnApp::Nothing);
        }
        let more = exports.len().saturating_sub(EXPORTS_MAX);
        let first: Vec<_> = exports.iter().take(EXPORTS_MAX).map(|name| format!("`{name}`")).collect();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Err(NotAnApp::Library { exports: first.join(", ") + &more })
    }
}

/// Whether two interface names differ at most in their patch versions. A pre-release is compatible with itself alone.
pub(crate) fn is_compatible(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let minor = |name: &str| name.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let is_release = |name: &str| name.split_once('@').is_some_and(|(_, version)| !version.contains('-'));
    is_release(one) && is_release(other) && minor(one) == minor(other)
}

/// Kind of a core module, which no host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreModuleKind {
    /// A program for WASI preview 1.
    Preview1Command,
    /// A library for WASI preview 1.
    Preview1Reactor,
    /// A module without WASI, for a web page or another embedding.
    Plain,
}

impl CoreModuleKind {
    /// Finds the kind of a module, as far as it can be read.
    pub(super) fn of(module: &[u8]) -> Self {
        let (mut is_preview1, mut is_command) = (false, false);
        for payload in Parser::new(0).parse_all(module).map_while(Result::ok) {
            match payload {
                Payload::ImportSection(section) => {
                    let names = section.into_imports().map_while(Result::ok);
                    is_preview1 |= { names }.any(|import| import.module.starts_with("wasi_"));
                }
                Payload::ExportSection(section) => {
                    is_command |= { section.into_iter().map_while(Result::ok) }
                        .any(|export| export.name == "_start" && export.kind == ExternalKind::Func);
                }
                // Its code has no more to say.
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        match (is_command, is_preview1) {
            (true, _) => Self::Preview1Command,
            (false, true) => Self::Preview1Reactor,
            (false, false) => Self::Plain,
        }
    }

    /// Returns the next step.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Preview1Command | Self::Preview1Reactor => {
                "build it for WASI 0.2: with Rust for the target wasm32-wasip2 (not wasip1), elsewhere with the \
                 toolchain's option for components, or `wasm-tools component new --adapt`"
            }
            Self::Plain => {
                "build it with `cargo build --target wasm32-wasip2` (not wasip1 or unknown-unknown), or wrap it with \
                 `wasm-tools component new`"
            }
        }
    }
}

impl fmt::Display for CoreModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preview1Command => "a command for WASI preview 1",
            Self::Preview1Reactor => "a library (reactor) for WASI preview 1",
            Self::Plain => "not a component",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(exports: &[&str]) -> Result<AppKind, NotAnApp> {
        let instances: String = exports.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
        let component = wat::parse_str(format!("(component (instance $i) {instances})")).unwrap();
        AppKind::of(&component).unwrap()
    }

    #[test]
    fn an_app_is_known_by_its_exports_in_any_patch_version() {
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.0"]), Ok(AppKind::Stock));
        assert_eq!(kind(&["wasi:http/incoming-handler@0.2.99", "wasi:cli/run@0.2.3"]), Ok(AppKind::Stock));
        assert_eq!(kind(&["bireme:host/metadata@0.1.7", "wasi:http/incoming-handler@0.2.0"]), Ok(AppKind::Described));
    }

    #[test]
    fn what_is_no_app_is_told_by_name() {
        let refused = |exports: &[&str]| kind(exports).unwrap_err().to_string();
        assert!(refused(&["wasi:cli/run@0.2.3"]).starts_with("this is a command (it exports `wasi:cli/run@0.2.3`)"));
        for old in ["wasi:http/incoming-handler@0.2.0-rc-2023-11-10", "wasi:http/handler@0.3.0"] {
            let refused = refused(&[old]);
            assert!(refused.contains("for another version of WASI") && refused.contains(old), "{refused}");
        }
        let library = refused(&["a:b/c", "a:b/d", "a:b/e", "a:b/f"]);
        assert!(library.contains("it exports `a:b/c`, `a:b/d`, `a:b/e` and 1 more"), "{library}");
        assert!(refused(&[]).starts_with("this component exports nothing"));
    }

    #[test]
    fn core_modules_are_told_apart() {
        let kind = |text: &str| CoreModuleKind::of(&wat::parse_str(text).unwrap());
        let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
        assert_eq!(kind(&format!(r#"(module {import} (func (export "_start")))"#)), CoreModuleKind::Preview1Command);
        assert_eq!(kind(&format!("(module {import})")), CoreModuleKind::Preview1Reactor);
        assert_eq!(kind(r#"(module (func (export "add")))"#), CoreModuleKind::Plain);
    }
}
