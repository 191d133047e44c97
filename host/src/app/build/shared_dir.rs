//! Directory of compiled dependencies that all apps of a user share: the SDK is compiled once, not once for each app.
//!
//! Cargo's build directory (stable since 1.91; an older cargo passes it over). Components stay in each app's own target
//! directory. Cargo locks the directory for the time of a build; a second file tells who holds it.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Cargo's setting for the directory.
pub(crate) const VARIABLE: &str = "CARGO_BUILD_BUILD_DIR";
/// Settings by which a user has chosen directories for cargo.
const CHOSEN: [&str; 4] = ["BIREME_GUEST_TARGET_DIR", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", VARIABLE];

/// Bytes of a holder's name that are read back.
const HOLDER_BYTES_MAX: u64 = 4 << 10;

/// Returns true if the user has chosen another directory.
pub(crate) fn is_overridden() -> bool {
    CHOSEN.iter().any(|name| std::env::var_os(name).is_some())
}

/// Name of a build under way, for another that waits for it. Cargo's own lock keeps the two apart.
#[derive(Debug)]
pub(crate) struct Holder {
    /// Locked as long as the build runs.
    _file: File,
}

impl Holder {
    /// Takes note of the build of `app`; if another build is under way, says which.
    pub(crate) fn announce(dir: &Path, app: &Path) -> Option<Self> {
        // A build goes on without a name.
        fs::create_dir_all(dir).ok()?;
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(dir.join("holder")).ok()?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            let _ = (&file).take(HOLDER_BYTES_MAX).read_to_string(&mut holder);
            tracing::warn!("waiting for the build of {}", if holder.is_empty() { "another app" } else { &holder });
            return None;
        }
        let app = fs::canonicalize(app).unwrap_or_else(|_| app.to_owned());
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| write!(file, "`{}` (process {})", app.display(), std::process::id())).ok()?;
        Some(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_its_name_on_the_directory_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let compiled = dir.path().join("compiled");
        let first = Holder::announce(&compiled, dir.path()).unwrap();
        let name = fs::read_to_string(compiled.join("holder")).unwrap();
        assert!(name.ends_with(&format!("(process {})", std::process::id())), "{name}");
        assert!(Holder::announce(&compiled, dir.path()).is_none());
        drop(first);
        assert!(Holder::announce(&compiled, Path::new("/other")).is_some());
        assert!(fs::read_to_string(compiled.join("holder")).unwrap().starts_with("`/other`"));
    }
}
