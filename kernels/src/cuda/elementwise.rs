//! Ops of which a thread takes 16 bytes at a time, wherever they stand: activations, rotary positions, conversions.

use super::launch::size;
use super::{Argument, DType, Kernel, Launch, LaunchError, Values};
use crate::ShapeError;

/// `x = gelu(x + bias)`, row by row.
#[derive(Debug, Clone, Copy)]
pub struct BiasGelu {
    /// `[rows, width]`
    pub x: Values,
    /// `[width]`
    pub bias: Values,
}

/// `out = silu(gate) · up`.
#[derive(Debug, Clone, Copy)]
pub struct SiluGate {
    /// `[rows, 2 · width]`: in each row the gates, then the ups.
    pub x: Values,
    /// `[rows, width]`
    pub out: Values,
    pub width: usize,
}

/// Turns the first heads of each row by the angles of its position, in place.
#[derive(Debug, Clone, Copy)]
pub struct Rotary {
    /// `[tokens, stride]`
    pub x: Values,
    pub stride: usize,
    /// Heads that are turned: those of queries, then those of keys.
    pub heads: usize,
    /// Values of a head: 32, 64 or 128.
    pub depth: usize,
    /// `[tokens]`, each below the rows of the tables.
    pub positions: Values,
    /// f32 `[positions, depth / 2]`, and so `sines`.
    pub cosines: Values,
    pub sines: Values,
}

/// f32 to a half, or a half to f32.
#[derive(Debug, Clone, Copy)]
pub struct Convert {
    pub from: Values,
    pub to: Values,
}

impl BiasGelu {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, width) = (self.x.dtype, self.bias.len);
        self.x.check_storage("x")?;
        ShapeError::check_size("bias", width)?;
        let rows = self.x.rows("x", width)?;
        self.x.check("x", dtype, rows * width)?;
        self.bias.check("bias", dtype, width)?;
        let arguments = vec![self.x.into(), self.bias.into(), size("rows", rows)?, size("width", width)?];
        Ok(launch_groups(Kernel::new("bias_gelu", dtype), groups(self.x.len, width, dtype), arguments))
    }
}

impl SiluGate {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, width) = (self.out.dtype, self.width);
        self.out.check_storage("out")?;
        ShapeError::check_size("width", width)?;
        let rows = self.out.rows("out", width)?;
        self.out.check("out", dtype, rows * width)?;
        self.x.check("x", dtype, rows * 2 * width)?;
        let arguments = vec![self.x.into(), self.out.into(), size("rows", rows)?, size("width", width)?];
        Ok(launch_groups(Kernel::new("silu_gate", dtype), groups(self.out.len, width, dtype), arguments))
    }
}

impl Rotary {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, tokens) = (self.x.dtype, self.positions.len);
        self.x.check_storage("x")?;
        if !matches!(self.depth, 32 | 64 | 128) {
            return Err(LaunchError::Depth { depth: self.depth });
        }
        // Rows that start at multiples of 16 bytes, and hold the heads.
        ShapeError::check_len("stride", self.stride, self.stride.next_multiple_of(dtype.pack()))?;
        ShapeError::check_len("stride", self.stride, self.stride.max(self.heads * self.depth))?;
        self.x.check("x", dtype, tokens * self.stride)?;
        self.positions.check("positions", DType::U32, tokens)?;
        let angles = self.cosines.rows("cosines", self.depth / 2)? * (self.depth / 2);
        self.cosines.check("cosines", DType::F32, angles)?;
        self.sines.check("sines", DType::F32, angles)?;
        let arguments = vec![
            self.x.into(),
            self.positions.into(),
            self.cosines.into(),
            self.sines.into(),
            size("tokens", tokens)?,
            size("heads", self.heads)?,
            size("depth", self.depth)?,
            size("stride", self.stride)?,
        ];
        let groups = tokens * self.heads * self.depth / 2 / dtype.pack();
        Ok(launch_groups(Kernel::new("rotary", dtype), groups, arguments))
    }
}

impl Convert {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let len = self.from.len;
        let (op, half) = match (self.from.dtype, self.to.dtype) {
            (DType::F32, half @ (DType::F16 | DType::Bf16)) => ("f32_to_{}", half),
            (half @ (DType::F16 | DType::Bf16), DType::F32) => ("{}_to_f32", half),
            (DType::F32, other) => {
                return Err(LaunchError::Type { operand: "to", actual: other, expected: DType::F16 });
            }
            (_, other) => return Err(LaunchError::Type { operand: "to", actual: other, expected: DType::F32 }),
        };
        self.from.check("from", self.from.dtype, len)?;
        self.to.check("to", self.to.dtype, len)?;
        let arguments = vec![self.from.into(), self.to.into(), Argument::U64(len as u64)];
        // The last few values, fewer than 8, are a thread's each.
        Ok(launch_groups(Kernel::new(op, half), len.div_ceil(8), arguments))
    }
}

/// The loads that `len` values in rows of `width` take: of 16 bytes, if rows start at multiples of that.
fn groups(len: usize, width: usize, dtype: DType) -> usize {
    if width.is_multiple_of(dtype.pack()) { len / dtype.pack() } else { len }
}

/// Threads that pass over `groups` in turns. More blocks than any device holds at once would only queue.
fn launch_groups(kernel: Kernel, groups: usize, arguments: Vec<Argument>) -> Launch {
    const THREADS: usize = 256;
    const BLOCKS_MAX: usize = 2048;
    Launch {
        kernel,
        grid: [groups.div_ceil(THREADS).min(BLOCKS_MAX) as u32, 1, 1],
        threads: THREADS as u32,
        shared_bytes: 0,
        arguments,
    }
}
