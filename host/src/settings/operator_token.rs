//! Token of the operator: a secret in a file that only its owner can read, or in `BIREME_TOKEN`.
//!
//! Loopback has no users: every program of the machine can connect. The token tells the operator from the others.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Environment variable that takes the place of the file.
const TOKEN_VARIABLE: &str = "BIREME_TOKEN";
/// Random bytes of a new token.
const RANDOM_BYTES: usize = 32;
/// Characters of a token that somebody else chose.
const LEN_MIN: usize = 16;
const LEN_MAX: usize = 256;
const MODE: u32 = 0o600;

/// Secret that the control API asks for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OperatorToken(String);

/// A token that cannot be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Value that is too short, too long or not of visible ASCII characters.
    #[error("{place} holds no token: {LEN_MIN} to {LEN_MAX} visible ASCII characters")]
    Malformed {
        /// File or variable.
        place: String,
    },
    /// File that cannot be read or written.
    #[error("the token's file `{path}` cannot be used")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl TokenError {
    /// Whether the file is another user's.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl OperatorToken {
    /// Returns the token of the environment, if it has one.
    pub(crate) fn of_environment() -> Result<Option<Self>, TokenError> {
        match std::env::var_os(TOKEN_VARIABLE).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => Self::parse(&value.to_string_lossy(), || TOKEN_VARIABLE.to_owned()).map(Some),
        }
    }

    /// Returns the token in a file; `None` if there is no file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, TokenError> {
        let at = |source| TokenError::File { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        // One that was copied, or restored from a backup.
        let permissions = fs::metadata(path).map_err(at)?.permissions();
        if permissions.mode() & 0o077 != 0 {
            fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(at)?;
        }
        Self::parse(text.trim_end(), || format!("`{}`", path.display())).map(Some)
    }

    /// Returns the token in a file, which is made if there is none. It stays the same from then on.
    pub(crate) fn read_or_make(path: &Path) -> Result<Self, TokenError> {
        let at = |source| TokenError::File { path: path.to_owned(), source };
        if let Some(token) = Self::read(path)? {
            return Ok(token);
        }
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| at(error.into()))?;
        let token = Self(hex::encode(random));
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(at)?;
        // Made under another name, which nobody else can read, so that no reader meets half of it.
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(at)?;
        writeln!(file, "{}", token.0).map_err(at)?;
        file.as_file().sync_all().map_err(at)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(token),
            // Another host was first.
            Err(_) => Self::read(path)?.ok_or_else(|| at(io::ErrorKind::NotFound.into())),
        }
    }

    fn parse(text: &str, place: impl FnOnce() -> String) -> Result<Self, TokenError> {
        let is_token = (LEN_MIN..=LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Self(text.to_owned())) } else { Err(TokenError::Malformed { place: place() }) }
    }

    /// Returns the secret.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token. Compares digests, so the time tells nothing of the token's characters.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(given) == Sha256::digest(&self.0)
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data").join("token");
        assert_eq!(OperatorToken::read(&path).unwrap(), None);
        let token = OperatorToken::read_or_make(&path).unwrap();
        assert_eq!(token.expose().len(), 2 * RANDOM_BYTES);
        assert_eq!(OperatorToken::read_or_make(&path).unwrap(), token);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(OperatorToken::read(&path).unwrap(), Some(token.clone()));
        assert_eq!(mode(), MODE);
        assert!(token.is(token.expose().as_bytes()));
        assert!(!token.is(b"") && !token.is(&token.expose().as_bytes()[1..]));
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn a_file_without_a_token_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for text in ["", "short", "with a space in the middle of it", "läänge genug, aber kein ASCII"] {
            fs::write(&path, text).unwrap();
            let error = OperatorToken::read_or_make(&path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
