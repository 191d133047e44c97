//! Bytes in memory files that nobody can change any more: components on their way in, native code on its way out.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Writes bytes to new memory and seals it.
pub(super) fn write(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("bireme-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SEALS | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Reads sealed memory of at most `bytes_max` bytes. Refuses any that its writer can still change.
pub(super) fn read(memory: OwnedFd, bytes_max: u64) -> io::Result<Vec<u8>> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let seals = rustix::fs::fcntl_get_seals(&memory).map_err(|_| invalid("the memory has no seals"))?;
    if !seals.contains(SEALS) {
        return Err(invalid("the memory is not sealed"));
    }
    let file = File::from(memory);
    let length = file.metadata()?.len();
    if length > bytes_max {
        return Err(invalid("the memory is too large"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| invalid("the memory is too large"))?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_are_read_and_cannot_be_changed() {
        let memory = write(b"code").unwrap();
        let file = File::from(memory.try_clone().unwrap());
        assert!(file.write_all_at(b"evil", 0).is_err() && file.set_len(0).is_err() && file.set_len(9).is_err());
        assert_eq!(read(memory, 4).unwrap(), b"code");
    }

    #[test]
    fn memory_that_can_change_or_is_too_large_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::fcntl_add_seals(&open, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert_eq!(read(open, 4).unwrap_err().to_string(), "the memory is not sealed");
        let (pipe, _) = io::pipe().unwrap();
        assert_eq!(read(pipe.into(), 4).unwrap_err().to_string(), "the memory has no seals");
        assert_eq!(read(write(b"code").unwrap(), 3).unwrap_err().to_string(), "the memory is too large");
    }
}
