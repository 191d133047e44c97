//! Cache of native code on disk: each part of a component is compiled once for an engine, later starts load its code.
//!
//! Not here: the compiler (`compiler`).
//!
//! Invariant: native code is loaded only if this install wrote it. Each file carries an HMAC-SHA256 under a key that is
//! created with the cache (mode 0600); the tag is checked on the very bytes that are then loaded, so nothing can be
//! swapped in between. A file that fails a check is treated as absent and written anew.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::compiled::{Compiled, CompiledModule, LoadedModules};
use super::parts::{Part, Parts};

/// Bytes of the tag in front of each file.
const TAG_BYTES: usize = 32;

/// Contents of a file that this install wrote: tag and code.
struct Verified(Vec<u8>);

impl Verified {
    fn component(&self, engine: &Engine) -> Option<Component> {
        // SAFETY: the tag, computed under a key that only this install has, covers these very bytes and their name, so
        // `write` had them from the compiler process; wasmtime itself checks version, settings and kind.
        #[expect(unsafe_code, reason = "the only way to load what Cranelift produced")]
        unsafe { Component::deserialize(engine, &self.0[TAG_BYTES..]) }.ok()
    }

    fn module(&self, engine: &Engine) -> Option<Module> {
        // SAFETY: as in `component`.
        #[expect(unsafe_code, reason = "the only way to load what Cranelift produced")]
        unsafe { Module::deserialize(engine, &self.0[TAG_BYTES..]) }.ok()
    }
}

/// A directory of native code.
pub(crate) struct ArtifactCache {
    dir: PathBuf,
    key: [u8; 32],
    modules: LoadedModules,
    /// Keeps modules alone: the next version of the app has the same ones, and another rest.
    is_for_edits: bool,
}

/// A component that does not compile, or a cache that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    #[error("cannot prepare the cache directory `{}`", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("the compiled component does not fit this engine: {0:#}")]
    Load(wasmtime::Error),
}

impl ArtifactCache {
    /// Opens the cache in `dir`, creating it and its key if missing. An error if others can write to it.
    pub(crate) fn open(dir: &Path) -> Result<Self, ArtifactError> {
        let prepare = || -> io::Result<Self> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // The target of a link is what was checked, and stays it.
            let dir = fs::canonicalize(dir)?;
            check_owner(&dir)?;
            let key = read_or_create_key(&dir.join("key"))?;
            Ok(Self { dir, key, modules: LoadedModules::default(), is_for_edits: false })
        };
        prepare().map_err(|source| ArtifactError::Directory { dir: dir.to_owned(), source })
    }

    /// Returns a cache for an app under edit: every save makes another rest, which is not worth a file.
    pub(crate) fn for_edits(self) -> Self {
        Self { is_for_edits: true, ..self }
    }

    /// Returns the compiled component, if the cache has every part of it. Blocks for a read of the disk.
    pub(crate) fn load(&self, engine: &Engine, parts: &Parts) -> Option<Compiled> {
        let modules = parts.modules.iter().map(|module| self.load_module(engine, &module.part));
        let modules: Vec<_> = modules.collect::<Option<_>>()?;
        let component = self.read(&self.path(engine, &parts.rest))?.component(engine)?;
        Some(Compiled::new(component, parts, modules))
    }

    /// Whether the cache has a file for a part. `keep` may still refuse its contents.
    pub(crate) fn has(&self, engine: &Engine, part: &Part) -> bool {
        self.modules.get(&part.digest).is_some() || self.path(engine, part).exists()
    }

    /// Returns the compiled component; `fresh` has the code of parts that were compiled just now, by their digests.
    /// `None` if a part is in neither. Blocks for the disk.
    pub(crate) fn keep(
        &self,
        engine: &Engine,
        parts: &Parts,
        fresh: &[([u8; 32], Vec<u8>)],
    ) -> Result<Option<Compiled>, ArtifactError> {
        let fresh_of = |part: &Part| fresh.iter().find(|(digest, _)| *digest == part.digest).map(|(_, code)| code);
        let mut modules = Vec::with_capacity(parts.modules.len());
        for module in &parts.modules {
            let loaded = match fresh_of(&module.part) {
                None => self.load_module(engine, &module.part),
                Some(native) => {
                    self.write(&self.path(engine, &module.part), native);
                    // SAFETY: as in `keep_component`, of `precompile_module`.
                    #[expect(unsafe_code, reason = "the only way to load what Cranelift produced")]
                    let loaded = unsafe { Module::deserialize(engine, native) };
                    Some(self.modules.insert(module.part.digest, loaded.map_err(ArtifactError::Load)?))
                }
            };
            let Some(loaded) = loaded else { return Ok(None) };
            modules.push(loaded);
        }
        let component = match fresh_of(&parts.rest) {
            None => self.read(&self.path(engine, &parts.rest)).and_then(|kept| kept.component(engine)),
            Some(native) => Some(self.keep_component(engine, &parts.rest, native)?),
        };
        Ok(component.map(|component| Compiled::new(component, parts, modules)))
    }

    fn keep_component(&self, engine: &Engine, part: &Part, native: &[u8]) -> Result<Component, ArtifactError> {
        if !self.is_for_edits {
            self.write(&self.path(engine, part), native);
        }
        // SAFETY: `native` is the output of `precompile_component` in the compiler process, a fork of this binary that
        // reached this one over a private socket in sealed memory; wasmtime itself checks version and settings.
        #[expect(unsafe_code, reason = "the only way to load what Cranelift produced")]
        let loaded = unsafe { Component::deserialize(engine, native) };
        loaded.map_err(ArtifactError::Load)
    }

    fn load_module(&self, engine: &Engine, part: &Part) -> Option<CompiledModule> {
        if let Some(loaded) = self.modules.get(&part.digest) {
            return Some(loaded);
        }
        let module = self.read(&self.path(engine, part))?.module(engine)?;
        Some(self.modules.insert(part.digest, module))
    }

    /// Reads a file, if this install wrote it.
    fn read(&self, path: &Path) -> Option<Verified> {
        let bytes = fs::read(path).ok()?;
        let (tag, native) = bytes.split_at_checked(TAG_BYTES)?;
        if self.mac(path, native).verify_slice(tag).is_err() {
            let path = path.display();
            tracing::warn!(%path, "compiled code was not written by this install; compiling it again");
            return None;
        }
        Some(Verified(bytes))
    }

    /// Writes code for later starts. A full or read-only disk costs the next start a second, not this one its result.
    fn write(&self, path: &Path, native: &[u8]) {
        if let Err(error) = self.try_write(path, native) {
            tracing::warn!(path = %path.display(), %error, "cannot keep compiled code");
        }
    }

    fn try_write(&self, path: &Path, native: &[u8]) -> io::Result<()> {
        let tag = self.mac(path, native).finalize().into_bytes();
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&tag)?;
        file.write_all(native)?;
        file.persist(path)?;
        Ok(())
    }

    /// The tag covers the file's name too, so that one app's code cannot stand in for another's.
    fn mac(&self, path: &Path, native: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(&[0]);
        mac.update(native);
        mac
    }

    fn path(&self, engine: &Engine, part: &Part) -> PathBuf {
        use std::hash::{DefaultHasher, Hash, Hasher};
        // The hash lacks the processor's features, which wasmtime checks.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let digest = hex::encode(part.digest);
        self.dir.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }
}

/// Refuses a path that others can write to: its contents are loaded as native code.
fn check_owner(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if ours && metadata.mode() & 0o022 == 0 && !metadata.is_symlink() {
        return Ok(());
    }
    let message = format!(
        "`{}` can be written by others; compiled code is loaded only from a place that is ours",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

fn read_or_create_key(path: &Path) -> io::Result<[u8; 32]> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // Two processes may start at once: the one that finds the key reads the other's.
    for _ in 0..2 {
        match fs::read(path) {
            Ok(bytes) => {
                check_owner(path)?;
                return bytes.try_into().map_err(|_| {
                    let message = format!("`{}` is not a key of 32 bytes; remove it", path.display());
                    io::Error::new(io::ErrorKind::InvalidData, message)
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        // Created with mode 0600, under a temporary name.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&key)?;
        match file.persist_noclobber(path) {
            Ok(_) => return Ok(key),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error.error),
        }
    }
    Err(io::Error::other("the key keeps appearing and disappearing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> wasmtime::Engine {
        wasmtime::Engine::default()
    }

    fn parts() -> Parts {
        Parts::of(&b"\0asm\x0d\0\x01\0"[..].into(), [7; 32])
    }

    fn keep(cache: &ArtifactCache, engine: &wasmtime::Engine) {
        let rest = parts().rest;
        let native = engine.precompile_component(&rest.bytes).unwrap();
        cache.keep(engine, &parts(), &[(rest.digest, native)]).unwrap().unwrap();
    }

    fn load(cache: &ArtifactCache, engine: &wasmtime::Engine, path: &Path) -> Option<Component> {
        cache.read(path)?.component(engine)
    }

    #[test]
    fn a_kept_component_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine();
        let path = {
            let cache = ArtifactCache::open(dir.path()).unwrap();
            keep(&cache, &engine);
            cache.path(&engine, &parts().rest)
        };
        let cache = ArtifactCache::open(dir.path()).unwrap();
        assert!(cache.load(&engine, &parts()).is_some());
        assert_eq!(cache.path(&engine, &parts().rest), path);
    }

    #[test]
    fn a_changed_bit_or_another_name_is_never_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine();
        let cache = ArtifactCache::open(dir.path()).unwrap();
        keep(&cache, &engine);
        let path = cache.path(&engine, &parts().rest);
        let good = fs::read(&path).unwrap();

        for position in (0..good.len()).step_by(good.len() / 200 + 1) {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(load(&cache, &engine, &path).is_none(), "bit at {position}");
        }
        for len in [0, 1, TAG_BYTES, good.len() - 1] {
            fs::write(&path, &good[..len]).unwrap();
            assert!(load(&cache, &engine, &path).is_none(), "cut at {len}");
        }
        let other = dir.path().join("other.cwasm");
        fs::write(&other, &good).unwrap();
        assert!(load(&cache, &engine, &other).is_none());

        // The app still starts.
        keep(&cache, &engine);
        assert_eq!(fs::read(&path).unwrap(), good);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(ArtifactCache::open(dir.path()), Err(ArtifactError::Directory { .. })));
    }

    #[test]
    fn another_install_refuses_the_file() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let engine = engine();
        let cache = ArtifactCache::open(theirs.path()).unwrap();
        keep(&cache, &engine);
        let name = cache.path(&engine, &parts().rest);
        let here = ours.path().join(name.file_name().unwrap());
        fs::copy(&name, &here).unwrap();
        assert!(load(&ArtifactCache::open(ours.path()).unwrap(), &engine, &here).is_none());
    }
}
