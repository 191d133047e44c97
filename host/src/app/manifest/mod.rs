//! Manifest of an app whose component carries no metadata: `bireme.toml`, beside the component.
//!
//! Its keys are the attributes of the SDK, with the same words and values. They become the component's metadata, so a
//! host that it is deployed to needs no manifest. `[grants]` alone stays here: it is for commands on this machine.

mod document;
mod error;
mod units;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::document::Document;
pub(crate) use self::error::{FILE, ManifestError};
use super::metadata::{Metadata, MetadataError};
use crate::ids::AppName;
use crate::limits::{Ceilings, MANIFEST_BYTES_MAX};

/// A manifest, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    path: PathBuf,
    document: Document,
}

impl Manifest {
    /// Reads the manifest in `dir`; `None` if there is none.
    pub(crate) fn in_dir(dir: &Path) -> Result<Option<Self>, ManifestError> {
        let path = dir.join(FILE);
        let unreadable = |source| ManifestError::Read { path: path.clone(), source };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut text = String::new();
        file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { path });
        }
        let document = Document::parse(&text, &path)?;
        Ok(Some(Self { path, document }))
    }

    /// Reads the manifest of a component file: the one beside it, unless that names another component.
    pub(crate) fn of_component(component: &Path) -> Result<Option<Self>, ManifestError> {
        let dir = component.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let manifest = Self::in_dir(dir)?;
        Ok(manifest.filter(|manifest| {
            let Some(named) = &manifest.document.component else { return true };
            let same = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            same(&dir.join(named)) == same(component)
        }))
    }

    /// Whether it names a component.
    pub(crate) fn names_component(&self) -> bool {
        self.document.component.is_some()
    }

    /// Returns the path of the component: the one that it names, or the only `.wasm` file beside it.
    pub(crate) fn component(&self) -> Result<PathBuf, ManifestError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if let Some(named) = &self.document.component {
            let component = dir.join(named);
            if component.is_file() {
                return Ok(component);
            }
            return Err(ManifestError::NoSuchComponent { path: self.path.clone(), component });
        }
        let unreadable = |source| ManifestError::Read { path: dir.to_owned(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_file() && path.extension().is_some_and(|extension| extension == "wasm") {
                found.push(path);
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            count => Err(ManifestError::NoComponent { path: self.path.clone(), count }),
        }
    }

    /// Returns the name of the app, if it is given.
    pub(crate) fn name(&self) -> Option<&AppName> {
        self.document.name.as_ref()
    }

    /// Returns the grants for commands on this machine, as values of `--grant`.
    pub(crate) fn grants(&self) -> Vec<String> {
        let grants = self.document.grants.iter();
        grants.flat_map(|(name, origins)| origins.iter().map(move |origin| format!("{name}={origin}"))).collect()
    }

    /// Adds its attributes to the metadata of a component without metadata of its own.
    pub(crate) fn complete(&self, metadata: &mut Metadata) -> Result<(), ManifestError> {
        for function in &mut metadata.functions {
            let route = function.attributes.route.take();
            function.attributes = self.document.attributes();
            function.attributes.route = route;
            function.check().and_then(|()| function.limits(&Ceilings::default()).map(drop)).map_err(|error| {
                let reason = match error {
                    MetadataError::Attribute { attribute, reason, .. } => format!("`{attribute}`: {reason}"),
                    MetadataError::Ceiling { attribute, asked, ceiling, .. } => {
                        format!("`{attribute}` is {asked}, over this host's ceiling of {ceiling}")
                    }
                    other => other.to_string(),
                };
                ManifestError::Attributes { path: self.path.clone(), reason }
            })?;
        }
        Ok(())
    }

    /// Refuses a manifest with attributes beside a component that has them in its code.
    pub(crate) fn check_empty(&self) -> Result<(), ManifestError> {
        match self.document.declared() {
            Some(key) => Err(ManifestError::InCode { path: self.path.clone(), key }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        let manifest = Manifest::in_dir(dir.path()).map(|manifest| manifest.unwrap());
        manifest.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    fn metadata(text: &str) -> Result<Metadata, String> {
        let mut metadata = Metadata::of_stock_component(AppName::new("x").unwrap());
        read(text)?.complete(&mut metadata).map_err(|error| error.to_string())?;
        Ok(metadata)
    }

    #[test]
    fn every_key_is_read_and_becomes_metadata() {
        let text = r#"
            component = "x.wasm"
            name = "shop"
            timeout = "2m"
            memory = "512 MiB"
            output = "16MiB"
            concurrency = 4
            outbound = ["https://api.example.com", "$db"]
            models = ["all-minilm-l6-v2"]
            tokens = 1000
            tokens_per_day = 100000
            secrets = ["API_KEY"]
            config = ["greeting"]

            [grants]
            db = "http://127.0.0.1:5984"
            mirrors = ["http://10.0.0.1", "http://10.0.0.2"]
        "#;
        let manifest = read(text).unwrap();
        assert_eq!(manifest.name().unwrap().as_str(), "shop");
        assert_eq!(
            manifest.grants(),
            ["db=http://127.0.0.1:5984", "mirrors=http://10.0.0.1", "mirrors=http://10.0.0.2"]
        );
        let metadata = metadata(text).unwrap();
        let attributes = serde_json::to_value(&metadata.functions[0].attributes).unwrap();
        assert_eq!(
            attributes,
            serde_json::json!({
                "route": "* /{*path}",
                "timeout_ms": 120_000,
                "memory_bytes": 512 << 20,
                "output_bytes": 16 << 20,
                "concurrency": 4,
                "outbound": ["https://api.example.com", "$db"],
                "models": ["all-minilm-l6-v2"],
                "tokens": 1_000,
                "tokens_per_day": 100_000,
                "secrets": ["API_KEY"],
                "config": ["greeting"],
            })
        );
        assert!(metadata.is_stock());
        // No key is missing from the suggestions.
        for key in document::KEYS {
            assert!(text.contains(&format!("{key} =")) || text.contains(&format!("[{key}]")), "{key}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_its_key() {
        for (text, expected) in [
            ("name = \"x\"\nmemroy = \"1MiB\"", "`bireme.toml`, line 2: unknown key `memroy`; did you mean `memory`?"),
            (
                "colour = 1",
                "`bireme.toml`, line 1: unknown key `colour`; there are `component`, `name`, `timeout`, `memory`, \
                 `output`, `concurrency`, `outbound`, `models`, `tokens`, `tokens_per_day`, `secrets`, `config`, \
                 `grants`",
            ),
            (
                "\ntimeout = \"10\"",
                "`bireme.toml`, line 2: `timeout`: `10` has no unit; the units are `ms`, `s`, `m`, `h`",
            ),
            ("memory = 64", "`bireme.toml`, line 1: `memory`: invalid type: integer `64`, expected a string"),
            (
                "outbound = [\"api.example.com\"]",
                "`bireme.toml`, line 1: `outbound`: `api.example.com` is no origin; write `https://api.example.com`, \
                 or `$name` for one that the operator grants",
            ),
            ("secrets = [\"A\",\n \"1B\"]", "`bireme.toml`, line 1: `secrets`: `1B` cannot be a secret's name"),
            (
                "name = \"a b\"",
                "`bireme.toml`, line 1: `name`: the name `a b` holds ' '; letters, digits, `-` and `_` are allowed",
            ),
        ] {
            assert_eq!(read(text).map(drop).unwrap_err(), expected, "{text}");
        }
        assert!(read("timeout 3").map(drop).unwrap_err().starts_with("`bireme.toml`, line 1: "), "syntax");
        assert!(read("[grants]\ndb = 1").map(drop).unwrap_err().contains("line 2: `grants.db`: "));
    }

    #[test]
    fn a_limit_over_the_hosts_ceiling_is_refused() {
        let error = metadata("memory = \"2GiB\"").unwrap_err();
        assert!(error.ends_with("`memory` is 2048 MiB, over this host's ceiling of 1024 MiB"), "{error}");
    }

    #[test]
    fn a_manifest_that_names_another_component_does_not_apply() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.wasm", "y.wasm"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let of = |name: &str| Manifest::of_component(&dir.path().join(name)).unwrap().is_some();
        assert!(!of("x.wasm"), "there is none");
        fs::write(dir.path().join(FILE), "component = \"./x.wasm\"").unwrap();
        assert!(of("x.wasm") && !of("y.wasm"));
        fs::write(dir.path().join(FILE), "").unwrap();
        assert!(of("x.wasm") && of("y.wasm"));
        let manifest = Manifest::in_dir(dir.path()).unwrap().unwrap();
        assert!(matches!(manifest.component(), Err(ManifestError::NoComponent { count: 2, .. })));
        fs::remove_file(dir.path().join("y.wasm")).unwrap();
        assert!(manifest.component().unwrap().ends_with("x.wasm"));
    }

    #[test]
    fn attributes_beside_code_that_declares_them_are_refused() {
        assert!(matches!(read("concurrency = 1").unwrap().check_empty(), Err(ManifestError::InCode { key, .. })
            if key == "concurrency"));
        assert!(read("component = \"x.wasm\"\n[grants]\nsite = \"http://127.0.0.1:1\"").unwrap().check_empty().is_ok());
    }
}
