//! Errors of declarations and grants, and the checks that both share.

use super::origin::OriginError;

/// Entries of one list, declared or granted.
pub(crate) const ENTRIES_MAX: usize = 256;

/// Reason why a declared entry or a grant is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A declared entry is malformed. The author corrects it.
    #[error("the outbound entry `{entry}` is not possible: {source}")]
    Declared {
        /// The entry.
        entry: String,
        /// The reason.
        source: OriginError,
    },
    /// A wildcard stands elsewhere than in the first label, or before a bare suffix.
    #[error("the outbound entry `{entry}` has its wildcard in the wrong place; write `https://*.example.com` or `*`")]
    Wildcard {
        /// The entry.
        entry: String,
    },
    /// A grant's value is malformed. The operator corrects it.
    #[error("the grant `{grant}` is not possible: {source}")]
    Grant {
        /// The grant.
        grant: String,
        /// The reason.
        source: OriginError,
    },
    /// A grant names an address that stands for no single machine.
    #[error("the grant `{grant}` leads to a {network} address; name the one address meant, such as 127.0.0.1")]
    GrantAddress {
        /// The grant.
        grant: String,
        /// The registry's name of its block.
        network: &'static str,
    },
    /// A grant of a model names none.
    #[error("the grant `{grant}` names no model; write `model:NAME`, such as `model:all-minilm-l6-v2`")]
    GrantModel {
        /// The grant.
        grant: String,
    },
    /// A name is not made of letters, digits, `-` and `_`.
    #[error("`{name}` cannot name a grant; use 1 to 64 letters, digits, `-` or `_`")]
    Name {
        /// The name.
        name: String,
    },
    /// A list is too long.
    #[error(
        "{len} outbound entries or grants are over the limit of {ENTRIES_MAX}; use a wildcard such as \
         `https://*.example.com`"
    )]
    TooMany {
        /// The entries given.
        len: usize,
    },
}

/// Refuses a list with too many entries.
pub(super) fn check_len(list: &[String]) -> Result<(), PolicyError> {
    if list.len() > ENTRIES_MAX {
        return Err(PolicyError::TooMany { len: list.len() });
    }
    Ok(())
}

/// Checks the name of a `$name`, or of its grant.
pub(super) fn check_name(text: &str) -> Result<Box<str>, PolicyError> {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_name_byte) {
        return Err(PolicyError::Name { name: text.into() });
    }
    Ok(text.into())
}
