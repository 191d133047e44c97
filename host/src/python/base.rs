//! The base: a component, and the part of the standard library that it does not hold. Where both are kept, and how they
//! get there.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::PythonError;
use super::source::StandardLibrary;
use crate::app::ComponentBytes;
use crate::limits::COMPONENT_BYTES_MAX;

/// Name of the base component, here and in a wheel.
const COMPONENT: &str = "py-base.wasm";
/// Name of the standard library.
const LIBRARY: &str = "py-std.zip";
/// Their directory in a wheel, beside the package's modules.
const WHEEL_DIR: &str = "bireme/_base";
/// Export by which a base component is known.
const MARK: &[u8] = b"bireme:host/loader@";

/// A base.
pub(crate) struct Base {
    /// Path of the component.
    pub path: PathBuf,
    pub component: ComponentBytes,
    pub library: Arc<StandardLibrary>,
}

impl Base {
    /// Reads the base: that of the data directory, else that of the environment in which this program is installed.
    pub(crate) fn find(data: &Path) -> Result<Self, PythonError> {
        let dir = Self::place(data).ok_or_else(|| PythonError::NoBase { place: kept_in(data) })?;
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| PythonError::Read { path, source })
        };
        Self::new(&dir.join(COMPONENT), read(COMPONENT)?, read(LIBRARY)?.into())
    }

    /// Returns the directory of the base that `find` reads.
    pub(crate) fn place(data: &Path) -> Option<PathBuf> {
        let candidates = [Some(kept_in(data)), beside_program()];
        candidates.into_iter().flatten().find(|dir| dir.join(COMPONENT).is_file())
    }

    /// Checks a base from `path`.
    fn new(path: &Path, component: Vec<u8>, library: Bytes) -> Result<Self, PythonError> {
        let not_a_base = |reason: String| PythonError::NotABase { path: path.to_owned(), reason };
        let component = ComponentBytes::new(component)?;
        if memchr::memmem::find(&component.bytes, MARK).is_none() {
            return Err(not_a_base(
                "it exports no loader; `python/base/build.sh` makes one, and so does the wheel".into(),
            ));
        }
        let library = StandardLibrary::open(library).map_err(|error| not_a_base(format!("{LIBRARY}: {error}")))?;
        Ok(Self { path: path.to_owned(), component, library: Arc::new(library) })
    }

    /// Copies a base into the data directory: that of `from`, a wheel, or a component beside its library.
    pub(crate) fn install(from: &Path, data: &Path) -> Result<Self, PythonError> {
        let (component, library) = match from.extension().is_some_and(|extension| extension == "whl") {
            true => of_wheel(from),
            false => fs::read(from).and_then(|component| Ok((component, fs::read(from.with_file_name(LIBRARY))?))),
        }
        .map_err(|source| PythonError::Read { path: from.to_owned(), source })?;
        let library = Bytes::from(library);
        let base = Self::new(from, component, library.clone())?;
        let dir = kept_in(data);
        // The component last: it is what `find` looks for.
        for (name, bytes) in [(LIBRARY, &library), (COMPONENT, &base.component.bytes)] {
            let path = dir.join(name);
            write(&path, bytes).map_err(|source| PythonError::Write { path, source })?;
        }
        Ok(Self { path: dir.join(COMPONENT), ..base })
    }
}

/// Writes a file as a whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn kept_in(data: &Path) -> PathBuf {
    data.join("python")
}

/// Returns the base in `lib/python3.*/site-packages` of the environment whose `bin` has this program.
fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let lib = program.parent()?.parent()?.join("lib");
    let versions = fs::read_dir(lib).ok()?.flatten().map(|entry| entry.path());
    let mut found = versions.map(|version| version.join("site-packages").join(WHEEL_DIR));
    found.find(|dir| dir.join(COMPONENT).is_file())
}

fn of_wheel(wheel: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(fs::File::open(wheel)?).map_err(io::Error::other)?;
    let mut read = |name: &str| {
        let file = archive.by_name(&format!("{WHEEL_DIR}/{name}")).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    Ok((read(COMPONENT)?, read(LIBRARY)?))
}
