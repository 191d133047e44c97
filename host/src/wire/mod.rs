//! Wire format between the host and a worker: frames of plain data, checked on both sides.
//!
//! The host sends frames, up to two ahead of their answers; the worker answers each with one, in order. Numbers are
//! little-endian, as on every machine that this runs on.
//!
//! ```text
//! header   magic u32 | kind u32 | job u64 | body length u64 (highest bit: in the shared memory)
//! text     length u32 | UTF-8
//! tensor   name text | datatype u32 | rank u32 | dimensions u64 × rank | length u64 | data
//! spec     name text | datatype u32 | rank u32 | dimensions i64 × rank
//!
//! Load     model u32 | path text
//! Loaded   model u32 | output u32 | dimension u32 | memory u64 | device text
//!          | inputs u32 | spec … | outputs u32 | spec …
//! Unload   model u32
//! Unloaded model u32 | device bytes still in use u64
//! Batch    model u32 | rows u32 | pairs u32 | cumulative lengths u32 × (rows + 1)
//!          | first segments u32 × (rows · pairs) | token ids u32 × total
//! Vectors  model u32 | rows u32 | dimension u32 | checksum of the batch u32 | device ns u64 | f32 × rows × dimension
//! Infer    model u32 | items u32 | (tensors u32 | tensor …) …
//! Inferred model u32 | items u32 | device ns u64 | (0 u32 | tensors u32 | tensor …, or 1 u32 | message text) …
//! Check
//! Checked  device bytes in use u64
//! Describe path text
//! Described tokenizer flag u32 | (table) | labels u32 × (place u32 | name text) | several labels flag u32
//!          | keep flag u32 | (flag u32 | setting u64) × 4
//! table    tokens u32 × (id u32 | text) | added tokens u32 × (id u32 | text | flags u32)
//!          | unknown token text | prefix text | characters of a word u32 | normalizer u32
//!          | (pieces u32 × (kind u32 | token u32 | segment u32)) × 2 | tokens of a text u32
//! Failed   kind u32 | message text
//! ```
//!
//! Invariants: a frame that is cut off, too long, of another version or inconsistent is an error, and the side that
//! finds it hangs up. Limits: `BODY_BYTES_MAX`, `ITEMS_MAX`, `TENSORS_MAX`.

mod codec;
mod frame;
mod header;
mod manifest;
pub(crate) mod memory;
#[cfg(any(test, feature = "fuzzing"))]
pub mod samples;
mod tensor;

pub use self::frame::{Frame, Signature};
pub(crate) use self::frame::{NOOP_PATH, checksum};
pub(crate) use self::header::{BODY_BYTES_MAX, ITEMS_MAX, TENSORS_MAX, mark_placed};
pub use self::header::{FailureKind, HEADER_BYTES, Header, MAGIC, ModelId};
pub(crate) use self::manifest::{LABEL_BYTES_MAX, LABELS_MAX};
pub use self::manifest::{Manifest, ServingSettings};
pub use self::tensor::{Datatype, Tensor, TensorSpec};
pub(crate) use self::tensor::{NAME_BYTES_MAX, RANK_MAX, TensorError};

/// Environment variable of a worker: the directory of the models that it may read.
pub(crate) const MODELS_DIR_VARIABLE: &str = "BIREME_MODELS_DIR";

#[cfg(target_endian = "big")]
compile_error!("the wire copies numbers as they lie in memory and is little-endian");
