//! Attention over packed sequences.

use super::launch::{GRID_X_MAX, GRID_YZ_MAX, blocks, size};
use super::{DType, Kernel, Launch, LaunchError, TensorCores, Values};
use crate::ShapeError;

/// Every token's heads over the tokens of its own sequence; with `is_causal`, over those up to itself.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// `[tokens, (heads + 2 · kv_heads) · depth]`: in each row the queries, then the keys, then the values.
    pub qkv: Values,
    /// `[sequences + 1]`, from 0 to the number of tokens, as `Sequences` checks them.
    pub cu_seqlens: Values,
    /// `[tokens, heads · depth]`
    pub out: Values,
    /// The tokens of the longest sequence.
    pub length_max: usize,
    pub heads: usize,
    /// A divisor of `heads`: each serves `heads / kv_heads` heads of queries beside each other.
    pub kv_heads: usize,
    /// Values of a head: 32, 64 or 128.
    pub depth: usize,
    pub is_causal: bool,
}

impl Attention {
    /// The launch for any device.
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        self.launch_on(TensorCores::Unused)
    }

    /// The launch for a device with these tensor cores, which take halves.
    pub fn launch_on(&self, tensor_cores: TensorCores) -> Result<Launch, LaunchError> {
        let Self { qkv, cu_seqlens, out, length_max, heads, kv_heads, depth, is_causal } = *self;
        let dtype = qkv.dtype;
        qkv.check_storage("qkv")?;
        ShapeError::check_size("heads", heads)?;
        ShapeError::check_size("kv_heads", kv_heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(ShapeError::KvHeads { heads, kv_heads }.into());
        }
        let are_used = tensor_cores == TensorCores::Used && matches!(dtype, DType::F16 | DType::Bf16);
        let (kernel, queries) = match (are_used, depth) {
            (false, 32) => (Kernel::new("attention_32", dtype), 64),
            (false, 64) => (Kernel::new("attention_64", dtype), 64),
            (false, 128) => (Kernel::new("attention_128", dtype), 32),
            (true, 32) => (Kernel::on_tensor_cores("attention_mma_32", dtype), 64),
            (true, 64) => (Kernel::on_tensor_cores("attention_mma_64", dtype), 64),
            (true, 128) => (Kernel::on_tensor_cores("attention_mma_128", dtype), 64),
            _ => return Err(LaunchError::Depth { depth }),
        };
        ShapeError::check_size("cu_seqlens", cu_seqlens.len)?;
        cu_seqlens.check("cu_seqlens", DType::U32, cu_seqlens.len)?;
        let tokens = out.rows("out", heads * depth)?;
        out.check("out", dtype, tokens * heads * depth)?;
        qkv.check("qkv", dtype, tokens * (heads + 2 * kv_heads) * depth)?;
        let sequences = blocks("sequences", cu_seqlens.len - 1, GRID_YZ_MAX)?;
        Ok(Launch {
            kernel,
            grid: [
                blocks("length_max", length_max.div_ceil(queries), GRID_X_MAX)?,
                blocks("heads", heads, GRID_YZ_MAX)?,
                sequences,
            ],
            threads: 128,
            shared_bytes: 0,
            arguments: vec![
                qkv.into(),
                cu_seqlens.into(),
                out.into(),
                size("heads", heads)?,
                size("kv_heads", kv_heads)?,
                is_causal.into(),
            ],
        })
    }
}
