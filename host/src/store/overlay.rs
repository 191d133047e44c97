//! Overlay over a file that is only read: writes stay in memory, in blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;
use redb::StorageBackend;

const BLOCK_BYTES: u64 = 4_096;

/// A file as redb may change it, without changing it.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    state: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    file_len: u64,
    len: u64,
    blocks: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_len = file.metadata()?.len();
        let state = Mutex::new(Changes { file_len, len: file_len, blocks: HashMap::new() });
        Ok(Self { file, state })
    }

    /// Returns a block of the file as it is on disk; zeros behind its end.
    fn read_block(&self, block: u64, file_len: u64) -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
        let start = block * BLOCK_BYTES;
        let there = file_len.saturating_sub(start).min(BLOCK_BYTES) as usize;
        self.file.read_exact_at(&mut bytes[..there], start)?;
        Ok(bytes)
    }
}

/// Cuts `len` bytes from `offset` on into parts of blocks: the block, the part's start in it, and its length.
fn parts(mut offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    std::iter::from_fn(move || {
        let (block, start) = (offset / BLOCK_BYTES, offset % BLOCK_BYTES);
        let len = (BLOCK_BYTES - start).min(end - offset);
        offset += len;
        (len > 0).then_some((block, start as usize, len as usize))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let mut filled = 0;
        for (block, start, len) in parts(offset, out.len()) {
            let part = &mut out[filled..filled + len];
            match state.blocks.get(&block) {
                Some(bytes) => part.copy_from_slice(&bytes[start..start + len]),
                None => part.copy_from_slice(&self.read_block(block, state.file_len)?[start..start + len]),
            }
            filled += len;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.len = len;
        state.file_len = state.file_len.min(len);
        state.blocks.retain(|block, _| block * BLOCK_BYTES < len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut written = 0;
        for (block, start, len) in parts(offset, data.len()) {
            let file_len = state.file_len;
            let bytes = match state.blocks.entry(block) {
                std::collections::hash_map::Entry::Occupied(bytes) => bytes.into_mut(),
                std::collections::hash_map::Entry::Vacant(vacant) => vacant.insert(self.read_block(block, file_len)?),
            };
            bytes[start..start + len].copy_from_slice(&data[written..written + len]);
            written += len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_back_and_the_file_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let overlay = Overlay::open(&path).unwrap();
        overlay.set_len(12_000).unwrap();
        overlay.write(4_000, &[7; 200]).unwrap();
        let mut expected = bytes.clone();
        expected.resize(12_000, 0);
        expected[4_000..4_200].fill(7);
        let mut read = vec![0; 12_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read == expected);
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}
