//! Templates of a new app: one source file each, with a passing test and a first call to try.

use std::path::Path;

use clap::ValueEnum;

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
            Self::Embed => "Finds the texts that mean what was asked",
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

/// Returns an app's manifest. `sdk` is the unpacked workspace.
pub(crate) fn manifest(name: &str, template: Template, sdk: &Path) -> Option<String> {
    // TOML strings escape like JSON strings, except that DEL must be escaped too.
    let path = sdk.join("guest-sdk").to_str()?.to_owned();
    let path = serde_json::Value::from(path).to_string().replace('\u{7f}', "\\u007f");
    let (description, version) = (template.description(), env!("CARGO_PKG_RUST_VERSION"));
    Some(format!(
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
# The SDK that came with bireme; on another machine, `bireme new` shows where that one has it.
bireme-sdk = {{ path = {path} }}
schemars = {{ version = "1.2", default-features = false, features = ["derive", "std"] }}
serde = {{ version = "1.0", features = ["derive"] }}

# Guests are built small.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
# "debuginfo" keeps the names of functions, which a crash that is no panic is told with, at a third more bytes.
strip = true

# A workspace of its own, wherever it stands.
[workspace]
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_letters_stays_one_string() {
        let manifest = manifest("a", Template::Transform, Path::new("/d \"x\"/é\\")).unwrap();
        assert!(manifest.contains(r#"bireme-sdk = { path = "/d \"x\"/é\\/guest-sdk" }"#), "{manifest}");
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
