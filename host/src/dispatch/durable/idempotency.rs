//! Idempotency keys: a second request with one key and one function gets the call or map of the first.

use sha2::{Digest, Sha256};

use super::error::DurableError;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::storage::Idempotency;

/// Returns the identity of a request of these parts, if its client gave it a key.
pub(crate) fn identity(key: Option<&str>, parts: &[&[u8]]) -> Result<Option<Idempotency>, DurableError> {
    let Some(key) = key else { return Ok(None) };
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(DurableError::KeyLength { bytes: key.len() });
    }
    Ok(Some(Idempotency { key: key.to_owned(), fingerprint: fingerprint(parts) }))
}

/// Returns the fingerprint of a request: SHA-256 over its parts and their lengths.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_where_one_part_ends_and_the_next_begins() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }

    #[test]
    fn a_key_has_at_least_one_byte_and_no_more_than_a_row_takes() {
        let long = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
        for key in ["", &long] {
            let refused = identity(Some(key), &[]).unwrap_err();
            assert!(matches!(refused, DurableError::KeyLength { bytes } if bytes == key.len()), "{refused}");
        }
        assert_eq!(identity(Some(&long[1..]), &[]).unwrap().map(|identity| identity.key), Some(long[1..].to_owned()));
        assert_eq!(identity(None, &[]).unwrap(), None);
    }
}
