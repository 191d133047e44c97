//! A component's bytes, checked for size and kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::metadata::Metadata;
use crate::ids::Version;
use crate::limits;

/// A component's bytes, as read from disk or a request: checked for size, not yet for anything else.
#[derive(Clone)]
pub struct ComponentBytes {
    pub bytes: Arc<[u8]>,
    pub digest: [u8; 32],
}

/// A component and what it says of itself.
pub struct DescribedApp {
    pub component: ComponentBytes,
    pub metadata: Metadata,
}

/// A component that cannot be taken in.
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
        "this is a core WebAssembly module, not a component; build it with `cargo build --target wasm32-wasip2` (not wasip1 or unknown-unknown)"
    )]
    CoreModule,
}

impl ComponentBytes {
    /// Reads a component file.
    pub fn read(path: &Path) -> Result<Self, ComponentError> {
        let read = |source| ComponentError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes });
        }
        Self::new(std::fs::read(path).map_err(read)?)
    }

    /// Takes in a component's bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ComponentError> {
        if bytes.len() as u64 > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes: bytes.len() as u64 });
        }
        if !bytes.starts_with(b"\0asm") {
            return Err(ComponentError::NotWasm);
        }
        // The fifth to eighth bytes are version and layer; layer 0 is a core module, 1 a component.
        if bytes.get(6..8) == Some(&[0, 0]) {
            return Err(ComponentError::CoreModule);
        }
        let digest = Sha256::digest(&bytes).into();
        Ok(Self { bytes: bytes.into(), digest })
    }

    /// Returns the version that these bytes are deployed as.
    pub fn version(&self) -> Version {
        Version::of_digest(&self.digest)
    }
}
