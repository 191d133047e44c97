//! Error of an engine: a kind that every engine has, and the engine's own message.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytesize::ByteSize;

use crate::codes::Code;
use crate::ids::AppName;

/// Kind of a failure; a caller decides by it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Nothing was done, and the same request may be refused again.
    Refused,
    /// Nothing was done for want of room; there may be room later.
    Full,
    /// The answer was lost: the write is whole or not there at all. Sending it again is safe.
    Unknown,
    /// Another start of this host, or another host, has taken its place. Nothing was done, and nothing will be.
    Fenced,
    /// The record was deleted, is about to be, or cannot be read.
    Gone,
}

/// Write that would take an app over its quota on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "app `{app}` keeps {} on disk, and this would take it over its quota of {}; delete values of it, let ended calls \
     and maps expire (`--keep`), or raise the quota (`--app-disk`)",
    ByteSize::b(*used_bytes),
    ByteSize::b(*quota_bytes)
)]
pub struct OverQuota {
    /// App that writes.
    pub app: AppName,
    /// Bytes that it keeps.
    pub used_bytes: u64,
    /// Bytes that it may keep.
    pub quota_bytes: u64,
}

/// Operation that an engine did not do, or did without an answer.
#[derive(Clone, Debug)]
pub struct StorageError {
    kind: ErrorKind,
    code: Code,
    /// Message without paths and names of the host, for guests.
    public: Option<Arc<str>>,
    source: Arc<dyn Error + Send + Sync>,
}

impl StorageError {
    /// Makes an error of `kind` that shows as `source`.
    pub(crate) fn new(kind: ErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        let code = if kind == ErrorKind::Full { Code::Overloaded } else { Code::Store };
        Self { kind, code, public: None, source: Arc::new(source) }
    }

    /// Returns it with the error code that users see.
    #[must_use]
    pub(crate) fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Returns it with a message for guests.
    #[must_use]
    pub(crate) fn with_public(self, message: &str) -> Self {
        Self { public: Some(message.into()), ..self }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Returns the message for guests; none if only the operator may read why.
    pub(crate) fn public(&self) -> Option<&str> {
        self.public.as_deref()
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}
