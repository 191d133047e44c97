//! The worker's end of the socket: frames in, frames out, and the shared memory that came with the first.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::wire::memory::{Direction, INLINE_BYTES_MAX, Memory};
use crate::wire::{Frame, HEADER_BYTES, Header, mark_placed};

pub(super) struct Connection {
    stream: UnixStream,
    memory: Option<Arc<Memory>>,
    /// Frames received, which is the number of the next one in both directions.
    number: u64,
    body: Vec<u8>,
    out: Vec<u8>,
}

/// A buffer that grew beyond this is shrunk after its frame.
const KEPT_BYTES: usize = 4 << 20;

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, memory: None, number: 0, body: Vec::new(), out: Vec::new() }
    }

    /// The memory, once the host has handed it over.
    pub(crate) fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.as_ref()
    }

    /// Waits for the next frame; none if the host hung up.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Frame)>> {
        let mut header = [0; HEADER_BYTES];
        // The memory comes with the first bytes, or not at all.
        let read = if self.number == 0 { self.receive(&mut header)? } else { 0 };
        match self.stream.read_exact(&mut header[read..]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && read == 0 => return Ok(None),
            Err(error) => return Err(error),
        }
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let header = Header::parse(&header).map_err(invalid)?;
        self.body.clear();
        self.body.resize(header.body_bytes, 0);
        if header.is_placed {
            let memory = self.memory.as_ref().ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a body is in the shared memory, and there is none")
            })?;
            memory.read(Direction::ToWorker, self.number, &mut self.body)?;
        } else {
            self.stream.read_exact(&mut self.body)?;
        }
        let frame = Frame::decode(header.kind, &self.body).map_err(invalid)?;
        self.body.shrink_to(KEPT_BYTES);
        Ok(Some((header.job, frame)))
    }

    /// Answers the last frame.
    pub(crate) fn reply(&mut self, job: u64, reply: &Frame) -> io::Result<()> {
        self.out.clear();
        reply.encode(job, &mut self.out);
        match (&self.memory, self.out.split_first_chunk_mut::<HEADER_BYTES>()) {
            (Some(memory), Some((header, body))) if body.len() > INLINE_BYTES_MAX => {
                memory.write(Direction::ToHost, self.number, body)?;
                mark_placed(header);
                self.stream.write_all(header)?;
            }
            _ => self.stream.write_all(&self.out)?,
        }
        self.number += 1;
        self.out.shrink_to(KEPT_BYTES);
        Ok(())
    }

    /// Reads the first bytes, and the memory if it comes with them.
    fn receive(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(&self.stream, &mut [IoSliceMut::new(to)], &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                for file in files {
                    self.memory = Some(Arc::new(Memory::receive(file)?));
                }
            }
        }
        Ok(received.bytes)
    }
}
