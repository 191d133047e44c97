//! Imports that keep a component from linking, each with a remedy.

use wasmtime::component::{Component, Linker};

/// Export of an app with functions.
pub(crate) const HANDLER: &str = "bireme:host/handler@0.1.0";

/// Packages of the host, with their versions; other patch versions link too. The newest version of a package stands
/// first, because errors name the first.
const PACKAGES: [(&str, &str); 11] = [
    ("bireme:host", "0.1.0"),
    ("wasi:cli", "0.2.12"),
    ("wasi:clocks", "0.2.12"),
    ("wasi:filesystem", "0.2.12"),
    ("wasi:http", "0.2.12"),
    ("wasi:io", "0.2.12"),
    ("wasi:keyvalue", "0.2.0-draft2"),
    ("wasi:keyvalue", "0.2.0-draft"),
    ("wasi:nn", "0.2.0-rc-2024-10-28"),
    ("wasi:random", "0.2.12"),
    ("wasi:sockets", "0.2.12"),
];

/// An import that this host lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingImport {
    #[error(
        "it imports `{import}`, which this host does not offer (WASI 0.2, wasi:keyvalue, wasi:nn and bireme:host); \
         build it without that, or compose it with a component that exports it (`wac plug`)"
    )]
    Unknown { import: String },
    #[error(
        "it imports `{import}`, and this host has {package} {has}; build it for WASI 0.2, for instance with `cargo \
         build --target wasm32-wasip2`"
    )]
    Version { import: String, package: String, has: &'static str },
}

/// Returns the import named by `error`, a link error of `component`; `None` for an error about something else.
pub(crate) fn find<T: 'static>(
    component: &Component,
    linker: &Linker<T>,
    error: &wasmtime::Error,
) -> Option<MissingImport> {
    let error = format!("{error:#}");
    let of = component.component_type();
    let mut names = of.imports(component.engine()).map(|(name, _)| name.to_owned());
    let import = names.find(|name| error.contains(&format!("`{name}`")))?;
    let Some((package, has)) = PACKAGES.into_iter().find(|(package, _)| import.starts_with(&format!("{package}/")))
    else {
        return Some(MissingImport::Unknown { import });
    };
    if is_linked(linker, &import) {
        return None;
    }
    let interface = import.split_once('@').map_or(&*import, |(interface, _)| interface);
    match is_linked(linker, &format!("{interface}@{has}")) {
        false => Some(MissingImport::Unknown { import }),
        true => Some(MissingImport::Version { package: package.to_owned(), has, import }),
    }
}

/// Whether the host defines an interface of exactly that name: a taken name cannot be defined again.
fn is_linked<T: 'static>(linker: &Linker<T>, name: &str) -> bool {
    linker.clone().root().func_wrap(name, |_, (): ()| Ok(())).is_err()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::ComponentBytes;
    use crate::app::artifact::ArtifactCache;
    use crate::app::parts::Parts;
    use crate::sandbox::{CodeGenerator, EngineConfig, FunctionCache, Sandbox};

    fn sandbox() -> Sandbox {
        Sandbox::new(&EngineConfig { instances_max: 4, ..EngineConfig::default() }).unwrap()
    }

    /// Links a component with these imports; returns the missing one.
    fn link(imports: &str) -> Result<(), Option<MissingImport>> {
        let sandbox = sandbox();
        let component = wat::parse_str(format!("(component {imports})")).unwrap();
        let native = CodeGenerator::new(Arc::new(FunctionCache::default())).unwrap().compile(&component).unwrap();
        let (dir, component) = (tempfile::tempdir().unwrap(), ComponentBytes::new(component).unwrap());
        let parts = Parts::of(&component.code_bytes(), component.code_digest());
        let cache = ArtifactCache::open(dir.path()).unwrap();
        let compiled = cache.keep(sandbox.engine(), &parts, &[(parts.rest.digest, native)]).unwrap().unwrap();
        let linked = sandbox.linker().instantiate_pre(compiled.component());
        linked.map(drop).map_err(|error| find(compiled.component(), sandbox.linker(), &error))
    }

    #[test]
    fn an_interface_that_nobody_offers_is_named() {
        for import in ["acme:db/query@1.0.0", "wasi:blobstore/container@0.2.0", "wasi:http/push@0.2.12", "log"] {
            let missing = link(&format!(r#"(import "{import}" (instance (export "f" (func))))"#)).unwrap_err();
            assert_eq!(missing, Some(MissingImport::Unknown { import: import.to_owned() }));
        }
    }

    #[test]
    fn a_version_that_is_not_there_is_named_with_the_one_that_is() {
        for (import, package) in [
            ("wasi:http/types@0.3.0", "wasi:http"),
            ("wasi:io/poll@0.2.99", "wasi:io"),
            ("wasi:cli/environment@0.1.0", "wasi:cli"),
        ] {
            let missing = link(&format!(r#"(import "{import}" (instance (export "f" (func))))"#)).unwrap_err();
            let expected =
                MissingImport::Version { import: import.to_owned(), package: package.to_owned(), has: "0.2.12" };
            assert_eq!(missing, Some(expected));
        }
    }

    #[test]
    fn a_newer_patch_version_links_as_long_as_it_asks_for_nothing_new() {
        let now = r#"(instance (export "now" (func (result u64))))"#;
        assert_eq!(link(&format!(r#"(import "wasi:clocks/monotonic-clock@0.2.99" {now})"#)), Ok(()));
    }

    #[test]
    fn both_drafts_of_key_value_link_and_their_atomics_with_them() {
        let atomics = |draft: &str, number: &str| {
            format!(
                r#"(import "wasi:keyvalue/store@{draft}" (instance $store
                    (export "bucket" (type (sub resource)))
                    (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                    (export "error" (type (eq $e)))))
                (alias export $store "bucket" (type $b))
                (alias export $store "error" (type $e))
                (import "wasi:keyvalue/atomics@{draft}" (instance
                    (alias outer 1 $b (type $outer-b))
                    (alias outer 1 $e (type $outer-e))
                    (export "bucket" (type $bucket (eq $outer-b)))
                    (export "error" (type $error (eq $outer-e)))
                    (type $borrow (borrow $bucket))
                    (type $result (result {number} (error $error)))
                    (export "increment" (func (param "bucket" $borrow) (param "key" string)
                        (param "delta" {number}) (result $result)))))"#
            )
        };
        assert_eq!(link(&atomics("0.2.0-draft", "u64")), Ok(()));
        assert_eq!(link(&atomics("0.2.0-draft2", "s64")), Ok(()));
        // A draft is not a patch version of another, and an import with the other draft's types is not a missing one.
        assert_eq!(link(&atomics("0.2.0-draft", "s64")), Err(None));
        let import = "wasi:keyvalue/store@0.2.0-draft3".to_owned();
        let missing = link(&format!(r#"(import "{import}" (instance (export "f" (func))))"#)).unwrap_err();
        let package = "wasi:keyvalue".to_owned();
        assert_eq!(missing, Some(MissingImport::Version { import, package, has: "0.2.0-draft2" }));
    }

    #[test]
    fn the_packages_are_those_that_are_linked() {
        let sandbox = sandbox();
        let interfaces = [
            "host/context",
            "cli/environment",
            "clocks/wall-clock",
            "filesystem/types",
            "http/types",
            "io/poll",
            "keyvalue/atomics",
            "keyvalue/atomics",
            "nn/graph",
            "random/random",
            "sockets/tcp",
        ];
        for ((package, version), interface) in PACKAGES.into_iter().zip(interfaces) {
            let namespace = package.split(':').next().unwrap();
            let name = format!("{namespace}:{interface}@{version}");
            assert!(is_linked(sandbox.linker(), &name), "{name} is not linked");
        }
        assert!(!is_linked(sandbox.linker(), "wasi:http/push@0.2.12"));
    }
}
