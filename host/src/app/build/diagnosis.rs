//! Hints for cargo errors that users commonly misread.
//!
//! The user has seen the output of cargo and the compiler already; a hint adds what they leave out: that the failed
//! crate does not support WebAssembly, or that the missing part is ours.

use super::error::BuildError;

/// Crates that do not build for wasm, with alternatives.
const ALTERNATIVES: &[(&[&str], &str)] = &[
    (
        &["mio", "socket2", "reqwest", "hyper-util", "curl-sys", "async-io", "polling"],
        "a function has no sockets: send requests with `bireme_sdk::http`",
    ),
    (
        &["tokio"],
        "a function has no sockets or threads: send requests with `bireme_sdk::http`, or give tokio only the \
         features `sync`, `macros`, `io-util`, `rt` and `time`",
    ),
    (
        &["openssl-sys", "native-tls", "security-framework", "rustls-native-certs"],
        "the host does TLS: send requests with `bireme_sdk::http`, and leave default features with `native-tls` off",
    ),
    (
        &["ring", "aws-lc-sys", "aws-lc-rs"],
        "the host does TLS; for hashes and signatures use the RustCrypto crates (`sha2`, `hmac`, `ed25519-dalek`)",
    ),
    (&["libsqlite3-sys", "rusqlite", "librocksdb-sys", "lmdb-sys"], "keep data with `bireme_sdk::kv`"),
    (&["zstd-sys"], "use `ruzstd`, which is all Rust"),
    (&["bzip2-sys"], "use `bzip2` with its feature `libbz2-rs-sys`, which is all Rust"),
    (&["libz-sys", "libz-ng-sys", "cloudflare-zlib-sys"], "use `flate2` with its default features, which are all Rust"),
    (&["lzma-sys"], "use `lzma-rs`, which is all Rust"),
    (&["onig_sys"], "use `fancy-regex`, which is all Rust"),
    (&["tikv-jemalloc-sys", "libmimalloc-sys"], "leave the allocator away on wasm: it has one"),
    (
        &["nix", "rustix", "inotify", "signal-hook-registry"],
        "a function has no operating system below it; leave the dependency away",
    ),
];

/// Finds a known cause in cargo's stderr, given without colours. `own` is the name of the app's package.
pub(crate) fn diagnose(stderr: &str, own: &str) -> Option<BuildError> {
    let has = |words: &str| stderr.contains(words);
    if has("failed to load manifest for dependency `bireme-sdk`")
        || (has("failed to get `bireme-sdk` as a dependency") && has("Cargo.toml"))
    {
        return Some(BuildError::SdkMoved);
    }
    if has("requires rustc ")
        || has("feature `edition2024` is required")
        || has("cannot be built because it requires rustc")
    {
        return Some(BuildError::OldToolchain { reason: line_with(stderr, &["requires rustc", "edition2024"])? });
    }
    if has("can't find crate for `core`") || has("can't find crate for `std`") {
        return Some(BuildError::Target { reason: "the toolchain's own library for it cannot be found".to_owned() });
    }
    if has("`bireme_sdk`") && (has("unresolved import") || has("unlinked crate") || has("undeclared crate")) {
        return Some(BuildError::NoSdk);
    }
    let failed = failed_crate(stderr)?;
    let instead = alternative(failed);
    // A path dependency is the author's own, and the compiler explains its errors.
    if failed == own || (instead.is_none() && is_of_a_path(stderr, failed)) {
        return None;
    }
    Some(BuildError::NotForWasm { name: failed.to_owned(), instead })
}

/// Finds a known cause in the stderr of cargo for a manifest that it cannot read.
pub(crate) fn diagnose_manifest(stderr: &str) -> Option<BuildError> {
    if stderr.contains("current package believes it's in a workspace when it's not") {
        return Some(BuildError::Workspace { reason: line_with(stderr, &["workspace:"])? });
    }
    diagnose(stderr, "").filter(|found| matches!(found, BuildError::OldToolchain { .. } | BuildError::SdkMoved))
}

/// Returns the alternative to a crate that is known not to build.
fn alternative(name: &str) -> Option<&'static str> {
    ALTERNATIVES.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| *instead)
}

/// Returns the first crate that failed, in its build script or in the compiler.
fn failed_crate(stderr: &str) -> Option<&str> {
    stderr.lines().find_map(|line| {
        let line = line.strip_prefix("error: ")?;
        let rest = line
            .strip_prefix("failed to run custom build command for `")
            .or_else(|| line.strip_prefix("could not compile `"))?;
        rest.split([' ', '`']).next().filter(|name| !name.is_empty())
    })
}

/// Whether cargo printed a directory after the crate: `Compiling helper v0.1.0 (/home/ada/helper)`.
fn is_of_a_path(stderr: &str, name: &str) -> bool {
    let compiling = format!("Compiling {name} v");
    stderr.lines().any(|line| line.trim_start().starts_with(&compiling) && line.ends_with(')') && line.contains(" ("))
}

fn line_with(text: &str, words: &[&str]) -> Option<String> {
    let line = text.lines().find(|line| words.iter().any(|word| line.contains(word)))?;
    Some(line.trim().trim_start_matches("error: ").to_owned())
}

/// Removes terminal colours from a text.
pub(crate) fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |end| end + 1);
        rest = &after[end..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stderr: &str) -> Option<String> {
        diagnose(stderr, "app").map(|error| error.to_string())
    }

    #[test]
    fn a_crate_that_is_not_for_wasm_is_named_with_what_there_is_instead() {
        let mio = "   Compiling mio v1.0.4\nerror: This wasm target is unsupported by mio. If using Tokio, disable the net feature.\n\nerror: could not compile `mio` (lib) due to 44 previous errors\nwarning: build failed\n";
        let said = check(mio).unwrap();
        assert!(said.contains("`mio`") && said.contains("bireme_sdk::http"), "{said}");
        let ring = "error: failed to run custom build command for `ring v0.17.14`\n\nCaused by: …";
        assert!(check(ring).unwrap().contains("RustCrypto"));
        let unheard = "   Compiling libwhatever-sys v0.1.0\nerror: failed to run custom build command for `libwhatever-sys v0.1.0`\n";
        assert!(check(unheard).unwrap().contains("`libwhatever-sys`"));
    }

    #[test]
    fn mistakes_in_the_authors_own_crates_are_the_compilers_to_explain() {
        assert_eq!(
            check("error[E0308]: mismatched types\nerror: could not compile `app` (lib) due to 1 previous error\n"),
            None
        );
        let helper = "   Compiling helper v0.1.0 (/src/helper)\nerror: could not compile `helper` (lib) due to 1 previous error\n";
        assert_eq!(check(helper), None);
        assert_eq!(check("error: no matching package named `nothing` found\n"), None);
    }

    #[test]
    fn colours_do_not_hide_the_words() {
        let coloured = "\x1b[0m\x1b[1m\x1b[38;5;9merror\x1b[0m\x1b[1m: could not compile\x1b[0m `mio` \x1b[";
        assert_eq!(without_colours(coloured), "error: could not compile `mio` ");
    }

    #[test]
    fn no_crate_stands_twice() {
        let mut names: Vec<&str> = ALTERNATIVES.iter().flat_map(|(names, _)| *names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
