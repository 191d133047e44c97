//! Templates of a new app: one source file each, with a passing test and a first call to try.

use clap::ValueEnum;

use crate::app::sdk::REGISTRY;

/// Requirement of a new app on its SDK.
const SDK_VERSION: &str = "0.1";

/// A template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Fetch pages over HTTP, from the origins that are declared.
    Scrape,
    /// Data in, data out: needs nothing else.
    Transform,
    /// Answer HTTP requests: a page with a form, a route with JSON.
    Web,
    /// Compare texts by a model's vectors.
    Embed,
}

/// Dependencies of every template: derives name `schemars` and `serde` directly. Sorted, as in a lock file.
pub(crate) const DEPENDENCIES: [&str; 3] = ["bireme-sdk", "schemars", "serde"];

impl Template {
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Scrape => include_str!("../../../templates/scrape.rs"),
            Self::Transform => include_str!("../../../templates/transform.rs"),
            Self::Web => include_str!("../../../templates/web.rs"),
            Self::Embed => include_str!("../../../templates/embed.rs"),
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Scrape => "Fetches pages and takes them apart",
            Self::Transform => "Takes texts apart",
            Self::Web => "Answers HTTP requests",
            Self::Embed => "Finds the texts nearest in meaning to a query",
        }
    }

    /// Returns the first call, to append to `bireme run DIR`; `None` for web functions.
    pub(crate) fn first_call(self) -> Option<&'static str> {
        Some(match self {
            Self::Scrape => "::title --url https://example.com/",
            Self::Transform => "::words --text \"a ship with two decks\"",
            Self::Embed => "::nearest --query \"a boat\" --texts '[\"a galley\", \"a tax form\"]'",
            Self::Web => return None,
        })
    }

    /// Returns the command needed before the first call.
    pub(crate) fn preparation(self) -> Option<&'static str> {
        (self == Self::Embed).then_some("bireme models pull all-minilm-l6-v2")
    }
}

/// Returns an app's manifest.
pub(crate) fn manifest(name: &str, template: Template) -> String {
    let (description, version) = (template.description(), env!("CARGO_PKG_RUST_VERSION"));
    let (sdk_version, registry) = (SDK_VERSION, REGISTRY);
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"
rust-version = "{version}"
description = "{description}"
publish = false

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
# The SDK comes with bireme. For cargo and editors on another machine: `bireme sdk` in this directory.
bireme-sdk = {{ version = "{sdk_version}", registry = "{registry}" }}
schemars = {{ version = "1.2", default-features = false, features = ["derive", "std"] }}
serde = {{ version = "1.0", features = ["derive"] }}

# Built small. The same in every app, so that dependencies are compiled once for all of them.
[profile.release]
opt-level = "s"
panic = "abort"
# "debuginfo" keeps function names for the report of a trap, and makes the component a third larger.
strip = true

# A workspace of its own, wherever it stands.
[workspace]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_no_path_and_takes_any_later_sdk_of_its_line() {
        let manifest = manifest("a", Template::Transform);
        assert!(manifest.contains(r#"bireme-sdk = { version = "0.1", registry = "bireme" }"#), "{manifest}");
        assert!(!manifest.contains("path ="), "{manifest}");
        assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{SDK_VERSION}.")));
    }

    #[test]
    fn templates_fit_a_screen_and_their_first_call_exists() {
        for template in Template::value_variants() {
            let source = template.source();
            assert!(source.lines().count() < 40, "{template:?}");
            let call = template.first_call().unwrap_or("::hello");
            let name = call.split(' ').next().unwrap_or_default();
            let function = format!("pub fn {}(", name.trim_start_matches("::"));
            assert!(source.contains(&function), "{template:?} {function}");
            assert!(source.contains("#[test]"), "{template:?}");
        }
    }
}
