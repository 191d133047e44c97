//! The frames between the host and a worker: plain data, checked on both sides.
//!
//! A conversation is strictly request and reply: the host sends one frame and the worker answers with one. Numbers are
//! little-endian, as on every machine that this runs on.
//!
//! ```text
//! header   magic u32 | kind u32 | job u64 | body length u64
//! Load     model u32 | path (rest)
//! Loaded   model u32 | dimension u32 | output u32 | device (rest)
//! Unload   model u32
//! Unloaded model u32 | device bytes still in use u64
//! Batch    model u32 | rows u32 | pairs u32 | cumulative lengths u32 × (rows + 1) | first segments u32 × (rows · pairs)
//!          | token ids u32 × total
//! Vectors  model u32 | rows u32 | dimension u32 | 0 u32 | device ns u64 | f32 × rows × dimension
//! Failed   kind u32 | message (rest)
//! ```
//!
//! Invariants: a frame that is cut off, too long, of another version or inconsistent is an error, and the side that finds
//! it hangs up. Limit: `BODY_BYTES_MAX`.

use std::fmt;

/// Begins each frame; the last byte is the version.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BRM\x02");
/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;
/// Longest body: 65,536 vectors of 1,024 dimensions.
pub const BODY_BYTES_MAX: u64 = 256 << 20;

/// The path that stands for the built-in no-op model.
pub const NOOP_PATH: &str = "bireme:noop";

const LOAD: u32 = 1;
const LOADED: u32 = 2;
const BATCH: u32 = 3;
const VECTORS: u32 = 4;
const FAILED: u32 = 5;
const UNLOAD: u32 = 6;
const UNLOADED: u32 = 7;

/// A model of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(pub u32);

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u32,
    /// Chosen by the host; the reply carries it back.
    pub job: u64,
    pub body_bytes: usize,
}

/// Why a worker could not do what it was asked, and lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FailureKind {
    /// The model's files cannot be used.
    Load = 1,
    /// The batch does not fit the model.
    BadBatch = 2,
    /// The device has no room for a batch of one text.
    OutOfMemory = 3,
    /// The device failed, for a reason that is no lost context and no fault of the batch.
    Device = 4,
}

/// What a model makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Output {
    /// A vector of length 1.
    Vector = 1,
    /// A score for each label.
    Scores = 2,
}

/// A frame's body.
#[derive(Debug, PartialEq)]
pub enum Frame {
    Load {
        model: ModelId,
        path: String,
    },
    Loaded {
        model: ModelId,
        dimension: u32,
        output: Output,
        device: String,
    },
    Unload {
        model: ModelId,
    },
    Unloaded {
        model: ModelId,
        in_use: u64,
    },
    /// `first_segments` is empty, or for each row the tokens of its first segment.
    Batch {
        model: ModelId,
        cu_seqlens: Vec<u32>,
        first_segments: Vec<u32>,
        ids: Vec<u32>,
    },
    Vectors {
        model: ModelId,
        rows: u32,
        dimension: u32,
        device_ns: u64,
        values: Vec<f32>,
    },
    Failed {
        kind: FailureKind,
        message: String,
    },
}

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    #[error("the frame begins with {found:#010x}, not {MAGIC:#010x}: not a worker of this version")]
    Magic { found: u32 },
    #[error("the frame's body is {bytes} bytes, over the limit of {BODY_BYTES_MAX}")]
    TooLong { bytes: u64 },
    #[error("the frame is of an unknown kind {found}")]
    Kind { found: u32 },
    #[error("the frame's body is cut off or inconsistent: {what}")]
    Body { what: &'static str },
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(0) != MAGIC {
            return Err(WireError::Magic { found: u32_at(0) });
        }
        let body_bytes = u64_at(16);
        if body_bytes > BODY_BYTES_MAX {
            return Err(WireError::TooLong { bytes: body_bytes });
        }
        Ok(Self { kind: u32_at(4), job: u64_at(8), body_bytes: body_bytes as usize })
    }
}

impl Frame {
    fn kind(&self) -> u32 {
        match self {
            Frame::Load { .. } => LOAD,
            Frame::Loaded { .. } => LOADED,
            Frame::Batch { .. } => BATCH,
            Frame::Vectors { .. } => VECTORS,
            Frame::Failed { .. } => FAILED,
            Frame::Unload { .. } => UNLOAD,
            Frame::Unloaded { .. } => UNLOADED,
        }
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, job: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let mut word = |value: u32| out.extend_from_slice(&value.to_le_bytes());
        match self {
            Frame::Load { model, path } => {
                word(model.0);
                out.extend_from_slice(path.as_bytes());
            }
            Frame::Unload { model } => word(model.0),
            Frame::Unloaded { model, in_use } => {
                word(model.0);
                out.extend_from_slice(&in_use.to_le_bytes());
            }
            Frame::Loaded { model, dimension, output, device } => {
                word(model.0);
                word(*dimension);
                word(*output as u32);
                out.extend_from_slice(device.as_bytes());
            }
            Frame::Batch { model, cu_seqlens, first_segments, ids } => {
                word(model.0);
                word(u32::try_from(cu_seqlens.len().saturating_sub(1)).expect("a batch's rows are bounded"));
                word(u32::from(!first_segments.is_empty()));
                out.extend_from_slice(bytemuck::cast_slice(cu_seqlens));
                out.extend_from_slice(bytemuck::cast_slice(first_segments));
                out.extend_from_slice(bytemuck::cast_slice(ids));
            }
            Frame::Vectors { model, rows, dimension, device_ns, values } => {
                word(model.0);
                word(*rows);
                word(*dimension);
                word(0);
                out.extend_from_slice(&device_ns.to_le_bytes());
                out.extend_from_slice(bytemuck::cast_slice(values));
            }
            Frame::Failed { kind, message } => {
                word(*kind as u32);
                out.extend_from_slice(message.as_bytes());
            }
        }
        let body = (out.len() - start - HEADER_BYTES) as u64;
        let header = &mut out[start..start + HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&self.kind().to_le_bytes());
        header[8..16].copy_from_slice(&job.to_le_bytes());
        header[16..24].copy_from_slice(&body.to_le_bytes());
    }

    /// Reads a body.
    pub fn decode(kind: u32, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader { rest: body };
        let frame = match kind {
            LOAD => Frame::Load { model: ModelId(reader.word()?), path: reader.text()? },
            LOADED => {
                let (model, dimension) = (ModelId(reader.word()?), reader.word()?);
                let output = match reader.word()? {
                    1 => Output::Vector,
                    2 => Output::Scores,
                    _ => return Err(WireError::Body { what: "an unknown kind of output" }),
                };
                Frame::Loaded { model, dimension, output, device: reader.text()? }
            }
            UNLOAD => Frame::Unload { model: ModelId(reader.word()?) },
            UNLOADED => {
                let model = ModelId(reader.word()?);
                Frame::Unloaded { model, in_use: u64::from(reader.word()?) | u64::from(reader.word()?) << 32 }
            }
            BATCH => {
                let model = ModelId(reader.word()?);
                let rows = reader.word()? as usize;
                let pairs = match reader.word()? {
                    pairs @ (0 | 1) => pairs as usize,
                    _ => return Err(WireError::Body { what: "pairs that are neither there nor not" }),
                };
                let cu_seqlens: Vec<u32> =
                    reader.array(rows.checked_add(1).ok_or(WireError::Body { what: "rows" })?)?;
                let rising = cu_seqlens.first() == Some(&0) && cu_seqlens.windows(2).all(|pair| pair[0] < pair[1]);
                if !rising {
                    return Err(WireError::Body { what: "the cumulative lengths do not rise from 0" });
                }
                let total = *cu_seqlens.last().expect("at least one, by the count") as usize;
                let first_segments = reader.array(rows * pairs)?;
                Frame::Batch { model, ids: reader.array(total)?, first_segments, cu_seqlens }
            }
            VECTORS => {
                let model = ModelId(reader.word()?);
                let (rows, dimension) = (reader.word()?, reader.word()?);
                reader.word()?;
                let device_ns = u64::from(reader.word()?) | u64::from(reader.word()?) << 32;
                let count =
                    (rows as usize).checked_mul(dimension as usize).ok_or(WireError::Body { what: "values" })?;
                Frame::Vectors { model, rows, dimension, device_ns, values: reader.array(count)? }
            }
            FAILED => {
                let kind = match reader.word()? {
                    1 => FailureKind::Load,
                    2 => FailureKind::BadBatch,
                    3 => FailureKind::OutOfMemory,
                    4 => FailureKind::Device,
                    _ => {
                        return Err(WireError::Body { what: "an unknown kind of failure" });
                    }
                };
                Frame::Failed { kind, message: reader.text()? }
            }
            found => return Err(WireError::Kind { found }),
        };
        if reader.rest.is_empty() { Ok(frame) } else { Err(WireError::Body { what: "bytes after its end" }) }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(WireError::Body { what: "too short" })?;
        self.rest = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    /// Copies `count` numbers out. Nothing is allocated before the bytes are known to be there.
    fn array<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(&mut self, count: usize) -> Result<Vec<T>, WireError> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(WireError::Body { what: "too many numbers" })?;
        Ok(bytemuck::pod_collect_to_vec(self.take(bytes)?))
    }

    fn text(&mut self) -> Result<String, WireError> {
        let bytes = std::mem::take(&mut self.rest);
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Body { what: "text that is not UTF-8" })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(target_endian = "big")]
compile_error!("the wire copies numbers as they lie in memory and is little-endian");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Load { model: ModelId(1), path: "models/ä".into() },
            Frame::Loaded { model: ModelId(1), dimension: 384, output: Output::Vector, device: "cpu".into() },
            Frame::Loaded { model: ModelId(1), dimension: 1, output: Output::Scores, device: "cuda:1".into() },
            Frame::Unload { model: ModelId(1) },
            Frame::Unloaded { model: ModelId(1), in_use: 1 << 40 },
            Frame::Batch { model: ModelId(1), cu_seqlens: vec![0, 2, 3], first_segments: vec![], ids: vec![7, 8, 9] },
            Frame::Batch {
                model: ModelId(1),
                cu_seqlens: vec![0, 2, 3],
                first_segments: vec![1, 1],
                ids: vec![7, 8, 9],
            },
            Frame::Vectors {
                model: ModelId(1),
                rows: 2,
                dimension: 2,
                device_ns: 1 << 40,
                values: vec![1.0, -2.0, 0.5, 3.0],
            },
            Frame::Failed { kind: FailureKind::BadBatch, message: "no".into() },
        ]
    }

    fn parts(bytes: &[u8]) -> (Header, &[u8]) {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        (Header::parse(header).unwrap(), body)
    }

    #[test]
    fn every_frame_survives_the_wire() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(42, &mut bytes);
            let (header, body) = parts(&bytes);
            assert_eq!((header.job, header.body_bytes), (42, body.len()));
            assert_eq!(Frame::decode(header.kind, body).unwrap(), frame);
        }
    }

    #[test]
    fn a_body_cut_anywhere_or_followed_by_more_is_refused_or_still_consistent() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(0, &mut bytes);
            let (header, body) = parts(&bytes);
            for len in 0..body.len() {
                // Text has no length of its own, so a cut one is a shorter text; everything else must be refused.
                if let Ok(cut) = Frame::decode(header.kind, &body[..len]) {
                    assert!(matches!(cut, Frame::Load { .. } | Frame::Loaded { .. } | Frame::Failed { .. }), "{cut:?}");
                }
            }
        }
    }

    #[test]
    fn a_foreign_header_is_refused() {
        assert_eq!(Header::parse(&[0; HEADER_BYTES]), Err(WireError::Magic { found: 0 }));
        let mut long = [0; HEADER_BYTES];
        long[..4].copy_from_slice(&MAGIC.to_le_bytes());
        long[16..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Header::parse(&long), Err(WireError::TooLong { bytes: u64::MAX }));
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic_nor_allocate_beyond_themselves(kind in 0u32..9, body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Frame::decode(kind, &body);
        }
    }
}
