//! The bodies of frames.

use bytes::Bytes;

use super::codec::{Reader, count, long, text, word};
use super::header::{DESCRIBED, FailureKind, HEADER_BYTES, ITEMS_MAX, MAGIC, ModelId, TENSORS_MAX, WireError};
use super::manifest::Manifest;
use super::tensor::{Datatype, NAME_BYTES_MAX, RANK_MAX, Tensor, TensorSpec};

/// The path that stands for the built-in no-op model.
pub(crate) const NOOP_PATH: &str = "bireme:noop";

const LOAD: u32 = 1;
const LOADED: u32 = 2;
const BATCH: u32 = 3;
const VECTORS: u32 = 4;
const FAILED: u32 = 5;
const UNLOAD: u32 = 6;
const UNLOADED: u32 = 7;
const INFER: u32 = 8;
const INFERRED: u32 = 9;
const CHECK: u32 = 10;
const CHECKED: u32 = 11;
const DESCRIBE: u32 = 12;

const VECTOR: u32 = 1;
const SCORES: u32 = 2;
const TENSORS: u32 = 3;

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The inputs and the output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Token ids to a vector of length 1.
    Vector {
        /// Length of the vector in values, at least 1.
        dimension: u32,
    },
    /// Token ids to a score for each label.
    Scores {
        /// Number of labels, at least 1; a reranker has 1.
        labels: u32,
    },
    /// Named tensors to named tensors.
    Tensors {
        /// Declarations of the inputs, 256 at most.
        inputs: Vec<TensorSpec>,
        /// Declarations of the outputs, 256 at most.
        outputs: Vec<TensorSpec>,
    },
}

impl Signature {
    /// Returns the values in one row's result; none for a model of tensors.
    pub(crate) fn width(&self) -> Option<u32> {
        match self {
            Self::Vector { dimension: width } | Self::Scores { labels: width } => Some(*width),
            Self::Tensors { .. } => None,
        }
    }
}

/// A frame's body.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// Request to load a model.
    Load {
        /// Id given by the host, for all later frames about the model.
        model: ModelId,
        /// Directory of the model on disk, or `bireme:noop`.
        path: String,
    },
    /// Answer to `Load`: the model takes requests now.
    Loaded {
        /// Model of the `Load`.
        model: ModelId,
        /// Inputs and output of the model, read from its files.
        signature: Signature,
        /// Bytes of the device that the model takes.
        memory: u64,
        /// Device that runs the model, `cpu` or `cuda:N`; the host refuses more than 64 bytes.
        device: String,
    },
    /// Request to free the memory of a model.
    Unload {
        /// Model to unload.
        model: ModelId,
    },
    /// Answer to `Unload`; also for a model that was not loaded.
    Unloaded {
        /// Model of the `Unload`.
        model: ModelId,
        /// Bytes of the device that the worker still holds; 0 on the CPU.
        in_use: u64,
    },
    /// `first_segments` is empty, or for each row the tokens of its first segment.
    Batch {
        /// Loaded model that runs the batch.
        model: ModelId,
        /// Ends of the rows in `ids`, after a leading 0: rows + 1 values, each above the one before.
        cu_seqlens: Vec<u32>,
        /// Tokens of each row's first segment; empty if no row is a pair.
        first_segments: Vec<u32>,
        /// Token ids of all rows, concatenated.
        ids: Vec<u32>,
    },
    /// Answer to `Batch`: a vector, or scores, for each row.
    Vectors {
        /// Model of the `Batch`.
        model: ModelId,
        /// Number of rows, as in the batch.
        rows: u32,
        /// Values of one row: the length of its vector, or the number of labels.
        dimension: u32,
        /// [`checksum`] of the batch.
        checksum: u32,
        /// Time of the batch on the device, in nanoseconds.
        device_ns: u64,
        /// Values of all rows, in the order of the batch: `rows` × `dimension`.
        values: Vec<f32>,
    },
    /// Requests that run together where the model can, each with its tensors.
    Infer {
        /// Loaded model that runs the requests.
        model: ModelId,
        /// Input tensors of each request: 4,096 requests at most, of 256 tensors each.
        items: Vec<Vec<Tensor>>,
    },
    /// For each item its tensors, or the error.
    Inferred {
        /// Model of the `Infer`.
        model: ModelId,
        /// Wall-clock time of all items together, in nanoseconds.
        device_ns: u64,
        /// Output tensors or error of each request, in the order of the `Infer`.
        items: Vec<Result<Vec<Tensor>, String>>,
    },
    /// Compute something on the device and look at the result.
    Check,
    /// Answer to `Check`: the device computed the right result.
    Checked {
        /// Bytes of the device that the worker holds; 0 on the CPU.
        in_use: u64,
    },
    /// Request to read the JSON files of a model, to a worker that does nothing else and may die of it.
    Describe {
        /// Directory of the model on disk.
        path: String,
    },
    /// Answer to `Describe`.
    Described {
        /// The text side of the model.
        manifest: Box<Manifest>,
    },
    /// Answer of a surviving worker to a frame that failed.
    Failed {
        /// Part at fault: the model's files, the batch, the device's memory or the device.
        kind: FailureKind,
        /// Explanation for people, cut at 4 KiB.
        message: String,
    },
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
            Frame::Infer { .. } => INFER,
            Frame::Inferred { .. } => INFERRED,
            Frame::Check => CHECK,
            Frame::Checked { .. } => CHECKED,
            Frame::Describe { .. } => DESCRIBE,
            Frame::Described { .. } => DESCRIBED,
        }
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, job: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        self.encode_body(out);
        let body = (out.len() - start - HEADER_BYTES) as u64;
        let header = &mut out[start..start + HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&self.kind().to_le_bytes());
        header[8..16].copy_from_slice(&job.to_le_bytes());
        header[16..24].copy_from_slice(&body.to_le_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Load { model, path } => {
                word(out, model.0);
                text(out, path);
            }
            Frame::Loaded { model, signature, memory, device } => {
                word(out, model.0);
                loaded(out, signature, *memory, device);
            }
            Frame::Unload { model } => word(out, model.0),
            Frame::Unloaded { model, in_use } => {
                word(out, model.0);
                long(out, *in_use);
            }
            Frame::Batch { model, cu_seqlens, first_segments, ids } => {
                word(out, model.0);
                count(out, cu_seqlens.len().saturating_sub(1));
                word(out, u32::from(!first_segments.is_empty()));
                out.extend_from_slice(bytemuck::cast_slice(cu_seqlens));
                out.extend_from_slice(bytemuck::cast_slice(first_segments));
                out.extend_from_slice(bytemuck::cast_slice(ids));
            }
            Frame::Vectors { model, rows, dimension, checksum, device_ns, values } => {
                word(out, model.0);
                word(out, *rows);
                word(out, *dimension);
                word(out, *checksum);
                long(out, *device_ns);
                out.extend_from_slice(bytemuck::cast_slice(values));
            }
            Frame::Infer { model, items } => {
                word(out, model.0);
                count(out, items.len());
                items.iter().for_each(|item| tensors(out, item));
            }
            Frame::Inferred { model, device_ns, items } => {
                word(out, model.0);
                count(out, items.len());
                long(out, *device_ns);
                items.iter().for_each(|item| outcome(out, item));
            }
            Frame::Check => {}
            Frame::Checked { in_use } => long(out, *in_use),
            Frame::Describe { path } => text(out, path),
            Frame::Described { manifest } => manifest.encode(out),
            Frame::Failed { kind, message } => {
                word(out, *kind as u32);
                text(out, cut(message));
            }
        }
    }

    /// Reads a body.
    pub fn decode(kind: u32, body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let frame = match kind {
            LOAD => Frame::Load { model: reader.model()?, path: reader.text()? },
            LOADED => reader.loaded()?,
            UNLOAD => Frame::Unload { model: reader.model()? },
            UNLOADED => Frame::Unloaded { model: reader.model()?, in_use: reader.long()? },
            BATCH => reader.batch()?,
            VECTORS => reader.vectors()?,
            INFER => {
                let model = reader.model()?;
                let items = reader.items()?;
                Frame::Infer { model, items: (0..items).map(|_| reader.tensors()).collect::<Result<_, _>>()? }
            }
            INFERRED => {
                let model = reader.model()?;
                let (items, device_ns) = (reader.items()?, reader.long()?);
                let items = (0..items).map(|_| reader.outcome()).collect::<Result<_, _>>()?;
                Frame::Inferred { model, device_ns, items }
            }
            CHECK => Frame::Check,
            CHECKED => Frame::Checked { in_use: reader.long()? },
            DESCRIBE => Frame::Describe { path: reader.text()? },
            DESCRIBED => Frame::Described { manifest: Box::new(Manifest::decode(&mut reader)?) },
            FAILED => Frame::Failed { kind: reader.failure()?, message: reader.message()? },
            found => return Err(WireError::Kind { found }),
        };
        if reader.is_empty() { Ok(frame) } else { Err(WireError::Body { what: "bytes after its end" }) }
    }
}

/// Returns a checksum of a batch. A worker sends back that of the batch it ran, so that the answer to another one is
/// detected. A guard against mix-ups, not against a malicious worker.
pub(crate) fn checksum(cu_seqlens: &[u32], ids: &[u32]) -> u32 {
    // FNV-1a, a word at a time, with its 64-bit prime.
    let step = |hash: u64, &word: &u32| (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    let hash = ids.iter().fold(cu_seqlens.iter().fold(0xcbf2_9ce4_8422_2325, step), step);
    (hash ^ (hash >> 32)) as u32
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

fn tensors(out: &mut Vec<u8>, tensors: &[Tensor]) {
    count(out, tensors.len());
    for tensor in tensors {
        text(out, &tensor.name);
        word(out, tensor.datatype as u32);
        count(out, tensor.shape.len());
        out.extend_from_slice(bytemuck::cast_slice(&tensor.shape));
        long(out, tensor.data.len() as u64);
        out.extend_from_slice(&tensor.data);
    }
}

/// Writes `Loaded` behind its model.
fn loaded(out: &mut Vec<u8>, signature: &Signature, memory: u64, device: &str) {
    let (output, dimension) = match signature {
        Signature::Vector { dimension } => (VECTOR, *dimension),
        Signature::Scores { labels } => (SCORES, *labels),
        Signature::Tensors { .. } => (TENSORS, 0),
    };
    word(out, output);
    word(out, dimension);
    long(out, memory);
    text(out, device);
    let (inputs, outputs) = match signature {
        Signature::Tensors { inputs, outputs } => (inputs.as_slice(), outputs.as_slice()),
        _ => Default::default(),
    };
    for specs in [inputs, outputs] {
        count(out, specs.len());
        for spec in specs {
            text(out, &spec.name);
            word(out, spec.datatype as u32);
            count(out, spec.shape.len());
            out.extend_from_slice(bytemuck::cast_slice(&spec.shape));
        }
    }
}

/// Writes the tensors of an item, or its error.
fn outcome(out: &mut Vec<u8>, item: &Result<Vec<Tensor>, String>) {
    match item {
        Ok(item) => {
            word(out, 0);
            tensors(out, item);
        }
        Err(message) => {
            word(out, 1);
            text(out, cut(message));
        }
    }
}

impl Reader<'_> {
    /// Reads a message for users, of a page at most.
    fn message(&mut self) -> Result<String, WireError> {
        let message = self.text()?;
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(WireError::Body { what: "a message that is too long" });
        }
        Ok(message)
    }

    fn model(&mut self) -> Result<ModelId, WireError> {
        self.word().map(ModelId)
    }

    fn loaded(&mut self) -> Result<Frame, WireError> {
        let model = self.model()?;
        let (output, dimension) = (self.word()?, self.word()?);
        let (memory, device) = (self.long()?, self.text()?);
        let (inputs, outputs) = (self.specs()?, self.specs()?);
        let is_rows = inputs.is_empty() && outputs.is_empty();
        let signature = match (output, dimension) {
            (VECTOR, 1..) if is_rows => Signature::Vector { dimension },
            (SCORES, 1..) if is_rows => Signature::Scores { labels: dimension },
            (TENSORS, 0) => Signature::Tensors { inputs, outputs },
            _ => return Err(WireError::Body { what: "an unknown kind of output" }),
        };
        Ok(Frame::Loaded { model, signature, memory, device })
    }

    fn batch(&mut self) -> Result<Frame, WireError> {
        let model = self.model()?;
        let rows = match self.word()? as usize {
            0 => return Err(WireError::Body { what: "a batch of no rows" }),
            rows => rows,
        };
        let pairs = match self.word()? {
            pairs @ (0 | 1) => pairs as usize,
            _ => return Err(WireError::Body { what: "pairs that are neither there nor not" }),
        };
        let cu_seqlens: Vec<u32> = self.array(rows.checked_add(1).ok_or(WireError::Body { what: "rows" })?)?;
        let rising = cu_seqlens.first() == Some(&0) && cu_seqlens.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising {
            return Err(WireError::Body { what: "the cumulative lengths do not rise from 0" });
        }
        let total = *cu_seqlens.last().expect("at least one, by the count") as usize;
        let first_segments = self.array(rows * pairs)?;
        Ok(Frame::Batch { model, ids: self.array(total)?, first_segments, cu_seqlens })
    }

    fn vectors(&mut self) -> Result<Frame, WireError> {
        let model = self.model()?;
        let (rows, dimension) = (self.word()?, self.word()?);
        let (checksum, device_ns) = (self.word()?, self.long()?);
        let count = (rows as usize).checked_mul(dimension as usize).ok_or(WireError::Body { what: "values" })?;
        Ok(Frame::Vectors { model, rows, dimension, checksum, device_ns, values: self.array(count)? })
    }

    fn outcome(&mut self) -> Result<Result<Vec<Tensor>, String>, WireError> {
        match self.word()? {
            0 => self.tensors().map(Ok),
            1 => self.message().map(Err),
            _ => Err(WireError::Body { what: "an item that is neither there nor not" }),
        }
    }

    fn failure(&mut self) -> Result<FailureKind, WireError> {
        match self.word()? {
            1 => Ok(FailureKind::Load),
            2 => Ok(FailureKind::BadBatch),
            3 => Ok(FailureKind::OutOfMemory),
            4 => Ok(FailureKind::Device),
            _ => Err(WireError::Body { what: "an unknown kind of failure" }),
        }
    }

    fn items(&mut self) -> Result<usize, WireError> {
        match self.word()? as usize {
            items if items > ITEMS_MAX => Err(WireError::Body { what: "too many items" }),
            items => Ok(items),
        }
    }

    fn count(&mut self) -> Result<usize, WireError> {
        match self.word()? as usize {
            count if count > TENSORS_MAX => Err(WireError::Body { what: "too many tensors" }),
            count => Ok(count),
        }
    }

    fn specs(&mut self) -> Result<Vec<TensorSpec>, WireError> {
        let count = self.count()?;
        (0..count)
            .map(|_| {
                let (name, datatype, rank) = self.head()?;
                Ok(TensorSpec { name, datatype, shape: self.array(rank)? })
            })
            .collect()
    }

    /// Reads tensors whose data is as long as their shapes say.
    fn tensors(&mut self) -> Result<Vec<Tensor>, WireError> {
        let count = self.count()?;
        (0..count)
            .map(|_| {
                let (name, datatype, rank) = self.head()?;
                let shape = self.array(rank)?;
                let bytes = usize::try_from(self.long()?).map_err(|_| WireError::Body { what: "a tensor's length" })?;
                let tensor = Tensor { name, datatype, shape, data: Bytes::copy_from_slice(self.take(bytes)?) };
                tensor.check().map_err(|_| WireError::Body { what: "a tensor that is not as long as its shape" })?;
                Ok(tensor)
            })
            .collect()
    }

    fn head(&mut self) -> Result<(String, Datatype, usize), WireError> {
        let name = self.text()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(WireError::Body { what: "a tensor's name" });
        }
        let datatype = Datatype::of(self.word()?).ok_or(WireError::Body { what: "an unknown datatype" })?;
        match self.word()? as usize {
            rank if rank > RANK_MAX => Err(WireError::Body { what: "too many dimensions" }),
            rank => Ok((name, datatype, rank)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::super::samples::frames;
    use super::*;
    use crate::wire::Header;

    fn parts(bytes: &[u8]) -> (Header, &[u8]) {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
        (Header::parse(header).unwrap(), body)
    }

    #[test]
    fn a_checksum_tells_batches_apart() {
        let one = checksum(&[0, 2, 3], &[7, 8, 9]);
        for (cu_seqlens, ids) in [([0, 1, 3], [7, 8, 9]), ([0, 2, 3], [8, 7, 9]), ([0, 2, 3], [7, 8, 10])] {
            assert_ne!(checksum(&cu_seqlens, &ids), one);
        }
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

    /// By a digest that was computed apart from this code, from the format in the module's docs.
    #[test]
    fn the_bytes_of_a_frame_stay_as_they_are() {
        let check = |frames: &[Frame], length: usize, digest: [u8; 8]| {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(42, &mut bytes));
            assert_eq!(bytes.len(), length);
            assert_eq!(Sha256::digest(&bytes)[..8], digest);
        };
        let frames = frames();
        check(&frames[..14], 864, [0x79, 0x7f, 0xb8, 0x45, 0x11, 0x92, 0x0d, 0x34]);
        check(&frames[14..], 358, [0xbe, 0x57, 0x39, 0x93, 0x3b, 0x71, 0x98, 0x42]);
    }

    #[test]
    fn a_body_cut_anywhere_or_followed_by_more_is_refused() {
        for frame in frames() {
            let mut bytes = Vec::new();
            frame.encode(0, &mut bytes);
            let (header, body) = parts(&bytes);
            for len in 0..body.len() {
                Frame::decode(header.kind, &body[..len]).unwrap_err();
            }
            Frame::decode(header.kind, &[body, &[0]].concat()).unwrap_err();
        }
    }

    #[test]
    fn counts_beyond_the_limits_are_refused_before_anything_is_read() {
        let refused = |kind, words: &[u32]| Frame::decode(kind, bytemuck::cast_slice(words)).unwrap_err().to_string();
        assert!(refused(INFER, &[1, 4_097]).ends_with("too many items"));
        assert!(refused(INFER, &[1, 1, 257]).ends_with("too many tensors"));
        assert!(refused(INFER, &[1, 1, 1, 0, 12, 17]).ends_with("too many dimensions"));
        assert!(refused(INFER, &[1, 1, 1, 0, 15, 1]).ends_with("an unknown datatype"));
        assert!(refused(INFER, &[1, 1, 1, 0, 12, 1, 2, 0, 4, 0, 0]).ends_with("not as long as its shape"));
        assert!(refused(LOADED, &[1, VECTOR, 0, 0, 0, 0, 0, 0]).ends_with("an unknown kind of output"));
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic_nor_allocate_beyond_themselves(kind in 0u32..15, body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Frame::decode(kind, &body);
        }

        /// A good frame with one byte changed is refused or is another good frame.
        #[test]
        fn a_changed_byte_never_panics(which in 0usize..17, at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = Vec::new();
            frames()[which].encode(0, &mut bytes);
            let (header, body) = bytes.split_at_mut(HEADER_BYTES);
            if !body.is_empty() {
                body[at.index(body.len())] = byte;
            }
            let kind = Header::parse(header.first_chunk().unwrap()).unwrap().kind;
            if let Ok(frame) = Frame::decode(kind, body) {
                let mut again = Vec::new();
                frame.encode(0, &mut again);
                prop_assert_eq!(&again[HEADER_BYTES..], &body[..]);
            }
        }
    }
}
