//! A component's bytes, checked for size and kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::metadata::Metadata;
use crate::ids::Version;
use crate::limits;

/// A component's bytes, from disk or a request: size and kind are checked, nothing else.
#[derive(Clone)]
pub struct ComponentBytes {
    /// The whole component, at most `COMPONENT_BYTES_MAX` bytes.
    pub bytes: Arc<[u8]>,
    /// SHA-256 of `bytes`; a prefix of it is the version under which the app is deployed.
    pub digest: [u8; 32],
}

/// A component and its metadata.
pub struct DescribedApp {
    /// The component to compile and link.
    pub component: ComponentBytes,
    /// Description of the app: a section of the component, the answer of its `describe`, or that of a stock component.
    pub metadata: Metadata,
}

/// A file that is not an acceptable component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    #[error("cannot read the component `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the component is {bytes} bytes, over the limit of {} bytes", limits::COMPONENT_BYTES_MAX)]
    TooLarge { bytes: u64 },
    #[error("not WebAssembly: the file does not begin with `\\0asm`")]
    NotWasm,
    #[error(
        "this is a core WebAssembly module, not a component; build it with `cargo build --target wasm32-wasip2` (not \
         wasip1 or unknown-unknown)"
    )]
    CoreModule,
}

impl ComponentBytes {
    /// Reads a component file of at most `COMPONENT_BYTES_MAX` bytes.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let read = |source| ComponentError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes });
        }
        Self::new(std::fs::read(path).map_err(read)?)
    }

    /// Checks size and kind of a component's bytes, and hashes them.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, ComponentError> {
        if bytes.len() as u64 > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes: bytes.len() as u64 });
        }
        if !bytes.starts_with(b"\0asm") {
            return Err(ComponentError::NotWasm);
        }
        // Bytes 4 to 7 are version and layer; layer 0 is a core module, 1 a component.
        if bytes.get(6..8) == Some(&[0, 0]) {
            return Err(ComponentError::CoreModule);
        }
        let digest = Sha256::digest(&bytes).into();
        Ok(Self { bytes: bytes.into(), digest })
    }

    /// Returns the version under which these bytes are deployed: a prefix of their digest.
    pub(crate) fn version(&self) -> Version {
        Version::of_digest(&self.digest)
    }
}
