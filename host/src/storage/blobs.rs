//! Blobs: bytes under their SHA-256, written before the record that names them.

use std::collections::HashSet;

use bytes::Bytes;

use super::Answer;

/// Blobs of an engine.
pub(crate) trait Blobs: Send + Sync {
    /// Keeps bytes under their SHA-256. Keeping them again changes nothing.
    fn put<'a>(&'a self, digest: &'a [u8; 32], bytes: Bytes) -> Answer<'a, ()>;

    /// Returns the bytes of a digest, verified; refused as [`super::ErrorKind::Gone`] where there are none.
    fn get<'a>(&'a self, digest: &'a [u8; 32]) -> Answer<'a, Bytes>;

    /// Removes blobs that are not in `kept`. One that cannot be removed is left for the next sweep.
    fn sweep<'a>(&'a self, kept: &'a HashSet<[u8; 32]>) -> Answer<'a, ()>;
}
