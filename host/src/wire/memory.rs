//! The memory that a host shares with one worker: bodies too large for the socket, and the worker's heartbeat.
//!
//! It is an anonymous file that the host makes, seals against any change of its size, and hands over with its first
//! frame. Both sides read and write it by `pread` and `pwrite`, never through a mapping: the other side can change
//! bytes before they are copied, but not after they were checked.
//!
//! ```text
//! heartbeat   counter u64, in a page of its own
//! to worker   2 slots of BODY_BYTES_MAX
//! to host     2 slots of BODY_BYTES_MAX
//! ```
//!
//! A frame's body lies in the slot of its number in its direction, modulo 2: no third one is sent before the first of
//! two was answered. Pages exist once they are touched; those of a large body are given back after it was read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

use super::header::BODY_BYTES_MAX;

/// Longest body that goes through the socket.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;

const PAGE: u64 = 4_096;
const SLOTS: u64 = 2;
const LENGTH: u64 = PAGE + 2 * SLOTS * BODY_BYTES_MAX;
/// The pages of bodies up to this length stay, for the next one.
const KEPT_BYTES: u64 = 2 << 20;

/// The direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToWorker,
    ToHost,
}

/// Memory that two processes share.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
}

impl Memory {
    /// Creates the memory.
    pub(crate) fn create() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("bireme-worker", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, LENGTH)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { file: file.into() })
    }

    /// Takes in the memory that the other side created.
    pub(crate) fn receive(file: OwnedFd) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| invalid("the shared memory has no seals"))?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(invalid("the shared memory is not sealed"));
        }
        let file = File::from(file);
        if file.metadata()?.len() != LENGTH {
            return Err(invalid("the shared memory is of another length"));
        }
        Ok(Self { file })
    }

    /// Puts the body of the frame of that number there.
    pub(crate) fn write(&self, direction: Direction, number: u64, body: &[u8]) -> io::Result<()> {
        if body.len() as u64 > BODY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.write_all_at(body, slot(direction, number))
    }

    /// Copies a body into `to`, which is as long as the frame said.
    pub(crate) fn read(&self, direction: Direction, number: u64, to: &mut [u8]) -> io::Result<()> {
        let (at, length) = (slot(direction, number), to.len() as u64);
        if length > BODY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.read_exact_at(to, at)?;
        if length > KEPT_BYTES {
            // Pages that cannot be given back stay until the worker ends.
            let _ = rustix::fs::fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                at + KEPT_BYTES,
                length - KEPT_BYTES,
            );
        }
        Ok(())
    }

    /// Writes the heartbeat.
    pub(crate) fn write_heartbeat(&self, count: u64) -> io::Result<()> {
        self.file.write_all_at(&count.to_le_bytes(), 0)
    }

    /// Returns the last heartbeat; 0 before the first.
    pub(crate) fn heartbeat(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.file.read_exact_at(&mut count, 0)?;
        Ok(u64::from_le_bytes(count))
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn slot(direction: Direction, number: u64) -> u64 {
    let first = match direction {
        Direction::ToWorker => 0,
        Direction::ToHost => SLOTS,
    };
    PAGE + (first + number % SLOTS) * BODY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the file that are there.
    fn pages(memory: &Memory) -> u64 {
        use std::os::unix::fs::MetadataExt;
        memory.file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn a_body_is_read_where_it_was_written_and_nowhere_else() {
        let memory = Memory::create().unwrap();
        memory.write_heartbeat(7).unwrap();
        for (number, direction) in [(0, Direction::ToWorker), (1, Direction::ToWorker), (0, Direction::ToHost)] {
            memory.write(direction, number, &[number as u8 + 1; 100]).unwrap();
        }
        let mut body = [0; 100];
        memory.read(Direction::ToWorker, 2, &mut body).unwrap();
        assert_eq!(body, [1; 100]);
        memory.read(Direction::ToWorker, 1, &mut body).unwrap();
        assert_eq!(body, [2; 100]);
        memory.read(Direction::ToHost, 1, &mut body).unwrap();
        assert_eq!(body, [0; 100]);
        assert_eq!(memory.heartbeat().unwrap(), 7);
    }

    #[test]
    fn a_large_body_gives_its_pages_back() {
        let memory = Memory::create().unwrap();
        let body = vec![1; 16 << 20];
        memory.write(Direction::ToHost, 3, &body).unwrap();
        assert!(pages(&memory) >= 16 << 20);
        let mut read = vec![0; body.len()];
        memory.read(Direction::ToHost, 3, &mut read).unwrap();
        assert!(read == body);
        assert!(pages(&memory) <= KEPT_BYTES + PAGE, "{}", pages(&memory));
    }

    #[test]
    fn what_can_change_its_length_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::ftruncate(&open, LENGTH).unwrap();
        assert_eq!(Memory::receive(open).unwrap_err().to_string(), "the shared memory is not sealed");
        let short = rustix::fs::memfd_create("test", flags).unwrap();
        rustix::fs::fcntl_add_seals(&short, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert_eq!(Memory::receive(short).unwrap_err().to_string(), "the shared memory is of another length");
        let (pipe, _) = std::io::pipe().unwrap();
        assert_eq!(Memory::receive(pipe.into()).unwrap_err().to_string(), "the shared memory has no seals");
        let good = Memory::create().unwrap();
        assert!(
            rustix::fs::ftruncate(&good.file, 0).is_err() && rustix::fs::ftruncate(&good.file, LENGTH * 2).is_err()
        );
        assert!(Memory::receive(good.file.into()).is_ok());
    }
}
