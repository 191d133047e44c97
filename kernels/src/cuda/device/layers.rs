//! The layers of a model on a device: weights that stay there, and what runs over a batch's tensors.
//!
//! The twins of `cpu`'s layers. Weights come as f32 and are rounded once to the storage, f16 or bf16; sums are f32.

use super::DeviceError;
use super::batch::Batch;
use super::blas::Blas;
use super::context::Device;
use super::memory::Tensor;
use crate::cpu::{self, Activation};
use crate::cuda::{self, DType, TensorCores};
use crate::{ShapeError, Vocabulary};

/// The tables of words and positions, and the normalisation of their sum.
#[derive(Debug)]
pub struct Embedding {
    words: Tensor,
    places: Tensor,
    vocabulary: Vocabulary,
    norm: LayerNorm,
}

/// A normalisation's scale and shift.
#[derive(Debug)]
pub struct LayerNorm {
    device: Device,
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

/// A layer's weights, `[outputs, inputs]`, and its bias.
#[derive(Debug)]
pub struct Linear {
    device: Device,
    weight: Tensor,
    bias: Tensor,
    inputs: usize,
    activation: Activation,
}

impl Embedding {
    /// Takes tables of `[words, width]`, `[positions, width]` and `[types, width]`. A batch's positions are rows of
    /// `[types, positions]`.
    pub fn new(words: &[f32], positions: &[f32], types: &[f32], norm: LayerNorm) -> Result<Self, DeviceError> {
        let (device, dtype) = (&norm.device, norm.weight.dtype());
        let width = norm.width();
        let table = cpu::places(positions, types, width)?;
        ShapeError::check_len("words", words.len(), words.len() / width * width)?;
        let vocabulary =
            Vocabulary { words: words.len() / width, positions: positions.len() / width, types: types.len() / width };
        let (words, places) = (device.upload(dtype, words)?, device.upload(dtype, &table)?);
        Ok(Self { words, places, vocabulary, norm })
    }

    /// Writes `[tokens, width]`: for each id its word plus its position, normalised.
    pub fn run(&self, batch: &Batch<'_>, out: &Tensor) -> Result<(), DeviceError> {
        let (norm, tokens) = (&self.norm, batch.shape().tokens);
        // The batch was checked against tables; these must be no smaller.
        if batch.vocabulary() != self.vocabulary {
            let (actual, expected) = (batch.vocabulary().words, self.vocabulary.words);
            return Err(ShapeError::Length { operand: "vocabulary", actual, expected }.into());
        }
        let device = &norm.device;
        let op = cuda::Embedding {
            ids: batch.ids(device)?,
            positions: batch.places(device)?,
            word_table: device.all(&self.words)?,
            position_table: device.all(&self.places)?,
            weight: device.all(&norm.weight)?,
            bias: device.all(&norm.bias)?,
            out: device.values(out, tokens * norm.width())?,
            epsilon: norm.epsilon,
        };
        device.launch(op.launch())
    }
}

impl LayerNorm {
    /// Takes a weight and a bias of `[width]`.
    pub fn new(device: &Device, dtype: DType, weight: &[f32], bias: &[f32], epsilon: f32) -> Result<Self, DeviceError> {
        ShapeError::check_size("width", weight.len())?;
        // Here rather than at each batch.
        cuda::row_bytes(weight.len())?;
        ShapeError::check_len("bias", bias.len(), weight.len())?;
        let (weight, bias) = (device.upload(dtype, weight)?, device.upload(dtype, bias)?);
        Ok(Self { device: device.clone(), weight, bias, epsilon })
    }

    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Replaces `x` by the normalisation of `x + residual`, for the first `rows` rows.
    pub fn add_residual(&self, x: &Tensor, residual: &Tensor, rows: usize) -> Result<(), DeviceError> {
        let device = &self.device;
        let values = device.values(x, rows * self.width())?;
        let op = cuda::AddLayerNorm {
            x: values,
            residual: Some(device.values(residual, rows * self.width())?),
            weight: device.all(&self.weight)?,
            bias: device.all(&self.bias)?,
            out: values,
            epsilon: self.epsilon,
        };
        device.launch(op.launch())
    }
}

impl Linear {
    /// Takes a weight of `[outputs, inputs]` and a bias of `[outputs]`.
    pub fn new(
        device: &Device,
        dtype: DType,
        weight: &[f32],
        bias: &[f32],
        inputs: usize,
        activation: Activation,
    ) -> Result<Self, DeviceError> {
        ShapeError::check_size("inputs", inputs)?;
        ShapeError::check_size("outputs", bias.len())?;
        ShapeError::check_len("weight", weight.len(), bias.len().saturating_mul(inputs))?;
        let (weight, bias) = (device.upload(dtype, weight)?, device.upload(dtype, bias)?);
        Ok(Self { device: device.clone(), weight, bias, inputs, activation })
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Computes the first `rows` rows of `[rows, outputs]` from `[rows, inputs]`.
    pub fn run(&self, x: &Tensor, rows: usize, out: &Tensor) -> Result<(), DeviceError> {
        let device = &self.device;
        let op = cuda::Gemm {
            a: device.values(x, rows * self.inputs)?,
            weight: device.all(&self.weight)?,
            bias: Some(device.all(&self.bias)?),
            out: device.values(out, rows * self.outputs())?,
            inputs: self.inputs,
            activation: self.activation,
        };
        device.gemm(&op)
    }
}

impl Device {
    /// Queues a product: to cuBLASLt where it is there and does all of it, else to the kernel.
    pub(super) fn gemm(&self, op: &cuda::Gemm) -> Result<(), DeviceError> {
        let launch = op.launch_on(self.tensor_cores())?;
        if let Some(blas) = &self.inner.blas
            && Blas::takes(op)
        {
            self.inner.is_idle.set(false);
            match blas.run(op, self.inner.stream.raw) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    // Its status says little; if the context is lost, the driver says so. A capture cannot be waited
                    // for.
                    if !self.is_capturing() {
                        self.synchronize()?;
                    }
                    return Err(error);
                }
            }
        }
        self.launch(Ok(launch))
    }

    /// Queues attention of every token over its own sequence: `[tokens, heads · depth]` from `[tokens, 3 · heads ·
    /// depth]`.
    pub fn attention(
        &self,
        qkv: &Tensor,
        batch: &Batch<'_>,
        heads: usize,
        depth: usize,
        out: &Tensor,
    ) -> Result<(), DeviceError> {
        let tokens = batch.shape().tokens;
        let op = cuda::Attention {
            qkv: self.values(qkv, tokens * 3 * heads * depth)?,
            cu_seqlens: batch.cu_seqlens(self)?,
            out: self.values(out, tokens * heads * depth)?,
            length_max: batch.shape().length_max,
            heads,
            kv_heads: heads,
            depth,
            is_causal: false,
        };
        self.launch(op.launch_on(self.tensor_cores()))
    }

    fn tensor_cores(&self) -> TensorCores {
        TensorCores::of(self.info().compute_capability)
    }

    /// Queues one f32 vector for each sequence: `[sequences, width]` from `[tokens, width]`.
    pub fn pool(
        &self,
        method: cpu::Pooling,
        rows: &Tensor,
        batch: &Batch<'_>,
        width: usize,
        is_normalised: bool,
        out: &Tensor,
    ) -> Result<(), DeviceError> {
        let op = cuda::Pooling {
            method,
            rows: self.values(rows, batch.shape().tokens * width)?,
            cu_seqlens: batch.cu_seqlens(self)?,
            width,
            is_normalised,
            out: self.values(out, batch.shape().sequences * width)?,
        };
        self.launch(op.launch())
    }

    /// Runs a kernel and checks its result: a device that answers may still be broken.
    pub fn self_check(&self) -> Result<(), DeviceError> {
        const WIDTH: usize = 64;
        let values: Vec<f32> = (0..4 * WIDTH).map(|index| (index % 7) as f32 - 3.0).collect();
        let tensor = self.upload(DType::F32, &values)?;
        let op = cuda::Softmax { x: self.all(&tensor)?, width: WIDTH, scale: 1.0 };
        self.launch(op.launch())?;
        let computed = self.download(&tensor)?;
        for (row, (values, computed)) in values.chunks(WIDTH).zip(computed.chunks(WIDTH)).enumerate() {
            let sum: f64 = values.iter().map(|&value| f64::from(value).exp()).sum();
            for (column, (&value, &actual)) in values.iter().zip(computed).enumerate() {
                let expected = (f64::from(value).exp() / sum) as f32;
                // A NaN is no less wrong than a number.
                if actual.is_nan() || (actual - expected).abs() > 1e-5 {
                    return Err(DeviceError::SelfCheck { index: row * WIDTH + column, actual, expected });
                }
            }
        }
        Ok(())
    }
}
