//! Ops of which a warp takes a row: normalisations and softmax.

use super::launch::{GRID_X_MAX, SHARED_BYTES_MAX, WARP, blocks, size};
use super::{DType, Kernel, Launch, LaunchError, Values};
use crate::ShapeError;

/// `out = layer_norm(words[id] + positions[position])`.
#[derive(Debug, Clone, Copy)]
pub struct Embedding {
    /// `[tokens]`, each below the number of words.
    pub ids: Values,
    /// `[tokens]`, each below the number of positions.
    pub positions: Values,
    /// `[words, width]`
    pub word_table: Values,
    /// `[positions, width]`
    pub position_table: Values,
    /// `[width]`, and so `bias`.
    pub weight: Values,
    pub bias: Values,
    /// `[tokens, width]`
    pub out: Values,
    pub epsilon: f32,
}

/// `out = layer_norm(x + residual)`; `out` may be `x` or `residual`.
#[derive(Debug, Clone, Copy)]
pub struct AddLayerNorm {
    /// `[rows, width]`, and so `residual` and `out`.
    pub x: Values,
    pub residual: Option<Values>,
    /// `[width]`, and so `bias`.
    pub weight: Values,
    pub bias: Values,
    pub out: Values,
    pub epsilon: f32,
}

/// `residual += x`, then `out = rms_norm(residual)`; `out` may be `x`.
#[derive(Debug, Clone, Copy)]
pub struct AddRmsNorm {
    /// `[rows, width]`, and so `residual` and `out`. Without it the residual stays as it is.
    pub x: Option<Values>,
    pub residual: Values,
    /// `[width]`
    pub weight: Values,
    pub out: Values,
    pub epsilon: f32,
}

/// `x = softmax(scale · x)`, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Softmax {
    /// `[rows, width]`
    pub x: Values,
    pub width: usize,
    pub scale: f32,
}

impl Embedding {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, width, tokens) = (self.out.dtype, self.weight.len, self.ids.len);
        self.out.check_storage("out")?;
        ShapeError::check_size("width", width)?;
        self.ids.check("ids", DType::U32, tokens)?;
        self.positions.check("positions", DType::U32, tokens)?;
        self.word_table.check("word_table", dtype, self.word_table.rows("word_table", width)? * width)?;
        self.position_table.check(
            "position_table",
            dtype,
            self.position_table.rows("position_table", width)? * width,
        )?;
        self.weight.check("weight", dtype, width)?;
        self.bias.check("bias", dtype, width)?;
        self.out.check("out", dtype, tokens * width)?;
        let arguments = vec![
            self.ids.into(),
            self.positions.into(),
            self.word_table.into(),
            self.position_table.into(),
            self.weight.into(),
            self.bias.into(),
            self.out.into(),
            size("tokens", tokens)?,
            size("width", width)?,
            self.epsilon.into(),
        ];
        launch_rows(Kernel::new("embedding", dtype), tokens, width, arguments)
    }
}

impl AddLayerNorm {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, width) = (self.x.dtype, self.weight.len);
        self.x.check_storage("x")?;
        ShapeError::check_size("width", width)?;
        let rows = self.x.rows("x", width)?;
        self.x.check("x", dtype, rows * width)?;
        if let Some(residual) = self.residual {
            residual.check("residual", dtype, rows * width)?;
        }
        self.weight.check("weight", dtype, width)?;
        self.bias.check("bias", dtype, width)?;
        self.out.check("out", dtype, rows * width)?;
        let arguments = vec![
            self.x.into(),
            self.residual.into(),
            self.weight.into(),
            self.bias.into(),
            self.out.into(),
            size("rows", rows)?,
            size("width", width)?,
            self.epsilon.into(),
        ];
        launch_rows(Kernel::new("add_layer_norm", dtype), rows, width, arguments)
    }
}

impl AddRmsNorm {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        let (dtype, width) = (self.residual.dtype, self.weight.len);
        self.residual.check_storage("residual")?;
        ShapeError::check_size("width", width)?;
        let rows = self.residual.rows("residual", width)?;
        self.residual.check("residual", dtype, rows * width)?;
        if let Some(x) = self.x {
            x.check("x", dtype, rows * width)?;
        }
        self.weight.check("weight", dtype, width)?;
        self.out.check("out", dtype, rows * width)?;
        let arguments = vec![
            self.x.into(),
            self.residual.into(),
            self.weight.into(),
            self.out.into(),
            size("rows", rows)?,
            size("width", width)?,
            self.epsilon.into(),
        ];
        launch_rows(Kernel::new("add_rms_norm", dtype), rows, width, arguments)
    }
}

impl Softmax {
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        self.x.check_storage("x")?;
        ShapeError::check_size("width", self.width)?;
        let rows = self.x.rows("x", self.width)?;
        self.x.check("x", self.x.dtype, rows * self.width)?;
        let arguments = vec![self.x.into(), size("rows", rows)?, size("width", self.width)?, self.scale.into()];
        launch_rows(Kernel::new("softmax", self.x.dtype), rows, self.width, arguments)
    }
}

/// The most warps in a block, which are as many rows.
const WARPS_MAX: usize = 8;

/// The shared memory of a row; refuses one that has no room there.
pub(super) fn row_bytes(width: usize) -> Result<usize, LaunchError> {
    let max = SHARED_BYTES_MAX / 4;
    if width > max {
        return Err(LaunchError::TooLarge { size: "width", actual: width, max });
    }
    // In groups of 32 loads, as the kernels lay it out, of which the largest row has a whole number.
    Ok(width.next_multiple_of(WARP * DType::F16.pack()) * 4)
}

/// A warp a row, whose values it holds in shared memory as f32: as many warps a block as fit.
fn launch_rows(
    kernel: Kernel,
    rows: usize,
    width: usize,
    arguments: Vec<super::Argument>,
) -> Result<Launch, LaunchError> {
    let row_bytes = row_bytes(width)?;
    let warps = (SHARED_BYTES_MAX / row_bytes).min(WARPS_MAX);
    Ok(Launch {
        kernel,
        grid: [blocks("rows", rows.div_ceil(warps), GRID_X_MAX)?, 1, 1],
        threads: (warps * WARP) as u32,
        shared_bytes: (warps * row_bytes) as u32,
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_room_in_shared_memory_or_is_refused() {
        assert_eq!(row_bytes(1), Ok(1024));
        assert_eq!(row_bytes(12_288), Ok(SHARED_BYTES_MAX));
        for width in [12_289, usize::MAX] {
            assert_eq!(row_bytes(width), Err(LaunchError::TooLarge { size: "width", actual: width, max: 12_288 }));
        }
    }
}
