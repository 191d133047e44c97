//! The product of our own, for machines without cuBLASLt.

use super::launch::{GRID_X_MAX, GRID_YZ_MAX, blocks, size};
use super::{Kernel, Launch, LaunchError, Values};
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
    pub fn launch(&self) -> Result<Launch, LaunchError> {
        const TILE: usize = 64;
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
        Ok(Launch {
            kernel: Kernel::new("gemm", dtype),
            grid: [
                blocks("outputs", outputs.div_ceil(TILE), GRID_X_MAX)?,
                blocks("rows", rows.div_ceil(TILE), GRID_YZ_MAX)?,
                1,
            ],
            threads: 128,
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
