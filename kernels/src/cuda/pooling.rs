//! One vector for each sequence.

use super::launch::{GRID_X_MAX, SHARED_BYTES_MAX, WARP, blocks, size};
use super::{DType, Kernel, Launch, LaunchError, Values};
use crate::ShapeError;
use crate::cpu;

/// The mean of each sequence's tokens, or its first token. A vector of zeros stays one.
#[derive(Debug, Clone, Copy)]
pub struct Pooling {
    pub method: cpu::Pooling,
    /// `[tokens, width]`
    pub rows: Values,
    /// `[sequences + 1]`, from 0 to the number of tokens, as `Sequences` checks them.
    pub cu_seqlens: Values,
    pub width: usize,
    /// Normalisation: each vector is divided by its length.
    pub is_normalised: bool,
    /// f32 `[sequences, width]`
    pub out: Values,
}

impl Pooling {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let Self { method, rows, cu_seqlens, width, is_normalised, out } = *self;
        rows.check_storage("rows")?;
        ShapeError::check_size("width", width)?;
        ShapeError::check_size("cu_seqlens", cu_seqlens.len)?;
        let sequences = cu_seqlens.len - 1;
        rows.check("rows", rows.dtype, rows.rows("rows", width)? * width)?;
        cu_seqlens.check("cu_seqlens", DType::U32, sequences + 1)?;
        out.check("out", DType::F32, sequences * width)?;
        let row_bytes = width * 4;
        if row_bytes > SHARED_BYTES_MAX - RESERVED_BYTES {
            let max = (SHARED_BYTES_MAX - RESERVED_BYTES) / 4;
            return Err(LaunchError::TooLarge { size: "width", actual: width, max });
        }
        let warps = ((SHARED_BYTES_MAX - RESERVED_BYTES) / row_bytes).min(8);
        Ok(Launch {
            kernel: Kernel::new("pooling", rows.dtype),
            grid: [blocks("sequences", sequences, GRID_X_MAX)?, 1, 1],
            threads: (warps * WARP) as u32,
            shared_bytes: (warps * row_bytes) as u32,
            arguments: vec![
                rows.into(),
                cu_seqlens.into(),
                out.into(),
                size("width", width)?,
                (method == cpu::Pooling::Mean).into(),
                is_normalised.into(),
            ],
        })
    }
}

/// Shared memory of the kernel: a square for each warp.
const RESERVED_BYTES: usize = 128;
