//! A component's bytes, checked for size and kind.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::kind::CoreModuleKind;
use super::metadata::Metadata;
use crate::ids::Version;
use crate::limits;

/// A component's bytes, from disk or a request: size and kind are checked, nothing else.
#[derive(Clone)]
pub struct ComponentBytes {
    /// The whole component, at most `COMPONENT_BYTES_MAX` bytes.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`; a prefix of it is the version under which the app is deployed.
    pub digest: [u8; 32],
    code: Code,
}

/// The component without the metadata that `Metadata::attach` appends: what is compiled.
#[derive(Clone)]
struct Code {
    /// Length; the code stands in front.
    bytes: usize,
    /// State after the code, so that its bytes are hashed once, with and without metadata.
    hasher: Sha256,
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
    #[error("this is a core WebAssembly module, {kind}, and Bireme runs components; {}", kind.remedy())]
    CoreModule { kind: CoreModuleKind },
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
            return Err(ComponentError::CoreModule { kind: CoreModuleKind::of(&bytes) });
        }
        let code_bytes = Metadata::strip(&bytes).len();
        let (code, metadata) = bytes.split_at(code_bytes);
        let hasher = Sha256::new_with_prefix(code);
        let digest = hasher.clone().chain_update(metadata).finalize().into();
        Ok(Self { bytes: bytes.into(), digest, code: Code { bytes: code_bytes, hasher } })
    }

    /// Returns the component with `metadata` attached to its code.
    pub(crate) fn with_metadata(&self, metadata: &Metadata) -> Result<Self, ComponentError> {
        let bytes = metadata.attach(self.code());
        if bytes.len() as u64 > limits::COMPONENT_BYTES_MAX {
            return Err(ComponentError::TooLarge { bytes: bytes.len() as u64 });
        }
        let attached = &bytes[self.code.bytes..];
        let digest = self.code.hasher.clone().chain_update(attached).finalize().into();
        Ok(Self { bytes: bytes.into(), digest, code: self.code.clone() })
    }

    /// Returns the component without attached metadata, which do not change what is compiled.
    pub(crate) fn code(&self) -> &[u8] {
        &self.bytes[..self.code.bytes]
    }

    /// Returns `code` as a handle of its own.
    pub(crate) fn code_bytes(&self) -> Bytes {
        self.bytes.slice(..self.code.bytes)
    }

    /// Returns the SHA-256 of `code`.
    pub(crate) fn code_digest(&self) -> [u8; 32] {
        self.code.hasher.clone().finalize().into()
    }

    /// Returns the version under which these bytes are deployed: a prefix of their digest.
    pub(crate) fn version(&self) -> Version {
        Version::of_digest(&self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AppName;

    #[test]
    fn attached_metadata_change_the_version_and_not_the_code() {
        let plain = ComponentBytes::new(b"\0asm\x0d\0\x01\0".to_vec()).unwrap();
        let metadata = Metadata::of_stock_component(AppName::new("x").unwrap());
        let attached = plain.with_metadata(&metadata).unwrap();
        let read = ComponentBytes::new(metadata.attach(&plain.bytes)).unwrap();
        assert_eq!((&attached.bytes, attached.digest), (&read.bytes, read.digest));
        assert_eq!(attached.digest, <[u8; 32]>::from(Sha256::digest(&attached.bytes)));
        assert_ne!(attached.digest, plain.digest);
        for component in [&plain, &attached, &read] {
            assert_eq!((component.code(), component.code_digest()), (&*plain.bytes, plain.digest));
        }
    }
}
