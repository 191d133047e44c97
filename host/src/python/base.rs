//! The base component: where it is kept, and how it gets there.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::PythonError;
use crate::app::ComponentBytes;

/// Name of the base component, here and in a wheel.
pub(crate) const FILE_NAME: &str = "py-base.wasm";
/// Its directory in a wheel, beside the package's modules.
const WHEEL_DIR: &str = "bireme/_base";
/// Export by which a base is known.
const MARK: &[u8] = b"bireme:python/loader@";

/// A base component.
pub(crate) struct Base {
    pub path: PathBuf,
    pub component: ComponentBytes,
}

impl Base {
    /// Reads the base component: that of the data directory, else that of the environment in which this program is
    /// installed.
    pub(crate) fn find(data: &Path) -> Result<Self, PythonError> {
        let place = kept_in(data);
        let candidates = [Some(place.clone()), beside_program()];
        match candidates.into_iter().flatten().find(|path| path.is_file()) {
            Some(path) => Self::read(path),
            None => Err(PythonError::NoBase { place }),
        }
    }

    fn read(path: PathBuf) -> Result<Self, PythonError> {
        let component = ComponentBytes::read(&path)?;
        check(&path, &component.bytes)?;
        Ok(Self { path, component })
    }

    /// Copies the base component of `from`, itself one or a wheel that has one, into the data directory.
    pub(crate) fn install(from: &Path, data: &Path) -> Result<Self, PythonError> {
        let unreadable = |source| PythonError::Read { path: from.to_owned(), source };
        let bytes = match from.extension().is_some_and(|extension| extension == "whl") {
            true => of_wheel(from).map_err(unreadable)?,
            false => fs::read(from).map_err(unreadable)?,
        };
        let component = ComponentBytes::new(bytes)?;
        check(from, &component.bytes)?;
        let place = kept_in(data);
        let write = || -> io::Result<()> {
            let dir = place.parent().unwrap_or(data);
            fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&component.bytes)?;
            file.as_file().sync_all()?;
            file.persist(&place)?;
            Ok(())
        };
        write().map_err(|source| PythonError::Write { path: place.clone(), source })?;
        Ok(Self { path: place, component })
    }
}

fn kept_in(data: &Path) -> PathBuf {
    data.join("python").join(FILE_NAME)
}

/// Returns the base in `lib/python3.*/site-packages` of the environment whose `bin` has this program.
fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let lib = program.parent()?.parent()?.join("lib");
    let versions = fs::read_dir(lib).ok()?.flatten().map(|entry| entry.path());
    let mut found = versions.map(|version| version.join("site-packages").join(WHEEL_DIR).join(FILE_NAME));
    found.find(|path| path.is_file())
}

fn of_wheel(wheel: &Path) -> io::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(fs::File::open(wheel)?).map_err(io::Error::other)?;
    let file = archive.by_name(&format!("{WHEEL_DIR}/{FILE_NAME}")).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    file.take(crate::limits::COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(path: &Path, bytes: &[u8]) -> Result<(), PythonError> {
    match memchr::memmem::find(bytes, MARK) {
        Some(_) => Ok(()),
        None => {
            let reason = "it exports no loader; `python/base/build.sh` makes one, and so does the wheel".to_owned();
            Err(PythonError::NotABase { path: path.to_owned(), reason })
        }
    }
}
