//! The matrix product of our own kernels, for machines without cuBLASLt.

use super::launch::{GRID_X_MAX, GRID_YZ_MAX, blocks, size};
use super::{DType, Kernel, Launch, LaunchError, TensorCores, Values};
use crate::ShapeError;
use crate::cpu::Activation;

/// `out = activation(a · weightᵀ + bias)`, summed in f32.
#[derive(Debug, Clone, Copy)]
pub struct Gemm {
    /// `[rows, inputs]`
    pub a: Values,
    /// `[outputs, inputs]`, as model files hold it.
    pub weight: Values,
    /// `[outputs]`
    pub bias: Option<Values>,
    /// `[rows, outputs]`; not the memory of `a`.
    pub out: Values,
    pub inputs: usize,
    pub activation: Activation,
}

impl Gemm {
    /// The launch for any device.
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        self.launch_on(TensorCores::Unused)
    }

    /// The launch for a device with these tensor cores. They take halves, if `inputs` is a multiple of 8: rows of whole
    /// 16 bytes.
    pub fn launch_on(&self, tensor_cores: TensorCores) -> Result<Launch, LaunchError> {
        let Self { a, weight, bias, out, inputs, activation } = *self;
        let dtype = a.dtype;
        a.check_storage("a")?;
        ShapeError::check_size("inputs", inputs)?;
        ShapeError::check_size("weight", weight.len)?;
        let (rows, outputs) = (a.rows("a", inputs)?, weight.rows("weight", inputs)?);
        a.check("a", dtype, rows * inputs)?;
        weight.check("weight", dtype, outputs * inputs)?;
        if let Some(bias) = bias {
            bias.check("bias", dtype, outputs)?;
        }
        out.check("out", dtype, rows * outputs)?;
        let is_half = matches!(dtype, DType::F16 | DType::Bf16);
        let (kernel, tile, threads) =
            if tensor_cores == TensorCores::Unused || !is_half || !inputs.is_multiple_of(dtype.pack()) {
                (Kernel::new("gemm", dtype), 64, 128)
            } else if rows.div_ceil(128) * outputs.div_ceil(128) < WAVE_BLOCKS {
                (Kernel::on_tensor_cores("gemm_mma_64", dtype), 64, 128)
            } else {
                (Kernel::on_tensor_cores("gemm_mma_128", dtype), 128, 256)
            };
        Ok(Launch {
            kernel,
            grid: [
                blocks("outputs", outputs.div_ceil(tile), GRID_X_MAX)?,
                blocks("rows", rows.div_ceil(tile), GRID_YZ_MAX)?,
                1,
            ],
            threads,
            shared_bytes: 0,
            arguments: vec![
                a.into(),
                weight.into(),
                bias.into(),
                out.into(),
                size("rows", rows)?,
                size("outputs", outputs)?,
                size("inputs", inputs)?,
                (activation == Activation::Gelu).into(),
            ],
        })
    }
}

/// Fewer large tiles than this leave multiprocessors idle, so small ones are made instead, four for each: an A100 has
/// 108 multiprocessors, an H100 132.
const WAVE_BLOCKS: usize = 128;
