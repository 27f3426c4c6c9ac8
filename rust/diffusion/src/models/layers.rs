//! The layers that every model is made of. Each reads its sizes from its tensors.

use candle_core::{D, DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::ops::{self, Weight};
use crate::weights::Weights;

/// `x · Wᵀ + b` over the last dimension.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`
    weight: Weight,
    /// `[out]`
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` (a 1×1 convolution's `[out, in, 1, 1]` is taken as a matrix) and, if it is
    /// there, `bias`.
    ///
    /// # Errors
    /// When `weight` is missing or the shapes do not go together.
    pub fn new(weights: &Weights) -> Result<Self> {
        let shape = weights.shape("weight")?;
        let weight = match shape.as_slice() {
            [_, _] => weights.get_stored("weight")?,
            [out, input, rest @ ..] if rest.iter().all(|&d| d == 1) => {
                weights.get_stored("weight")?.reshape(&[*out, *input])?
            }
            _ => return Err(wrong_shape(weights, shape, "a matrix")),
        };
        let bias = optional_bias(weights, weight.dim(0))?;
        Ok(Self { weight, bias })
    }

    /// A layer from its tensors, `weight` `[out, in]`.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: weight.into(), bias }
    }

    /// Width of what comes out.
    pub fn out_features(&self) -> usize {
        self.weight.dim(0)
    }

    /// `[…, in]` to `[…, out]`.
    ///
    /// # Errors
    /// When the last dimension of `x` is not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Two-dimensional convolution.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[out, in, kh, kw]`
    weight: Weight,
    /// `[out]`
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// Stride 1 and the padding that keeps the size (odd kernels).
    ///
    /// # Errors
    /// When `weight` is missing or has another rank.
    pub fn same(weights: &Weights) -> Result<Self> {
        let padding = weights.dim("weight", 3)? / 2;
        Self::new(weights, 1, padding)
    }

    /// Any stride and padding.
    ///
    /// # Errors
    /// When `weight` is missing or has another rank.
    pub fn new(weights: &Weights, stride: usize, padding: usize) -> Result<Self> {
        let shape = weights.shape("weight")?;
        let weight = match shape.as_slice() {
            [_, _, _, _] => weights.get_stored("weight")?,
            // Some files keep 1×1 convolutions as matrices.
            [out, input] => weights.get_stored("weight")?.reshape(&[*out, *input, 1, 1])?,
            _ => return Err(wrong_shape(weights, shape, "four dimensions")),
        };
        let bias = optional_bias(weights, weight.dim(0))?;
        Ok(Self { weight, bias, stride, padding })
    }

    /// Number of channels that come out.
    pub fn out_channels(&self) -> usize {
        self.weight.dim(0)
    }

    /// `[B, in, H, W]` to `[B, out, H', W']`.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// Normalisation over groups of channels and all places.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Thirty-two groups, as everywhere in Stable Diffusion.
    ///
    /// # Errors
    /// When the tensors are missing or the channels do not divide into groups.
    pub fn new(weights: &Weights, eps: f64) -> Result<Self> {
        Self::with_groups(weights, 32, eps)
    }

    /// Any number of groups.
    ///
    /// # Errors
    /// When the tensors are missing or the channels do not divide into groups.
    pub fn with_groups(weights: &Weights, groups: usize, eps: f64) -> Result<Self> {
        let channels = weights.dim("weight", 0)?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(wrong_shape(weights, vec![channels], &format!("a multiple of {groups} channels")));
        }
        Ok(Self {
            weight: weights.get_shaped("weight", &[channels])?,
            bias: weights.get_shaped("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// `[B, C, …]` to the same shape.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, &self.weight, &self.bias, self.groups, self.eps, ops::Activation::None)
    }

    /// The same followed by SiLU, in one pass where the device allows it.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, &self.weight, &self.bias, self.groups, self.eps, ops::Activation::Silu)
    }
}

/// Normalisation over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Epsilon 1e-5.
    ///
    /// # Errors
    /// When the tensors are missing.
    pub fn new(weights: &Weights) -> Result<Self> {
        let width = weights.dim("weight", 0)?;
        let weight = weights.get_shaped("weight", &[width])?;
        let bias = match weights.contains("bias") {
            true => weights.get_shaped("bias", &[width])?,
            false => weight.zeros_like()?,
        };
        Ok(Self { weight, bias, eps: 1e-5 })
    }

    /// `[…, C]` to the same shape.
    ///
    /// # Errors
    /// When the width does not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Rows of a table by id.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[rows, C]`
    table: Weight,
    /// What rows are computed with; the table may be kept in fewer bits.
    dtype: DType,
}

impl Embedding {
    /// Reads `weight`, `[rows, C]`.
    ///
    /// # Errors
    /// When it is missing or no table.
    pub fn new(weights: &Weights) -> Result<Self> {
        let table = weights.get_stored("weight")?;
        match table.dims() {
            [_, _] => Ok(Self { table, dtype: weights.dtype() }),
            _ => Err(wrong_shape(weights, table.dims().to_vec(), "a matrix")),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.table.dim(0)
    }

    /// Width of a row, `C`.
    pub fn width(&self) -> usize {
        self.table.dim(1)
    }

    /// Where the table is.
    pub fn device(&self) -> &Device {
        self.table.device()
    }

    /// `[…]` of `u32` to `[…, C]`.
    ///
    /// # Errors
    /// When an id is beyond the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut shape = ids.dims().to_vec();
        shape.push(self.width());
        Ok(self.table.rows(&ids.flatten_all()?)?.wide(self.dtype)?.reshape(shape)?)
    }
}

/// Sinusoidal embedding of numbers: `[B]` to `[B, width]`, cosines first, periods up to 10,000.
///
/// # Errors
/// When the device fails.
pub fn timestep_embedding(t: &Tensor, width: usize) -> Result<Tensor> {
    let half = width / 2;
    let device = t.device();
    let frequencies: Vec<f32> =
        (0..half).map(|i| (-(10000f32.ln()) * i as f32 / half as f32).exp()).collect();
    let frequencies = Tensor::from_vec(frequencies, (1, half), device)?;
    let angles = t.to_dtype(DType::F32)?.unsqueeze(1)?.broadcast_mul(&frequencies)?;
    let embedding = Tensor::cat(&[angles.cos()?, angles.sin()?], D::Minus1)?;
    Ok(if width % 2 == 1 { embedding.pad_with_zeros(D::Minus1, 0, 1)? } else { embedding })
}

/// `factor × factor` pixels into channels; sides are first repeated at the edge to a multiple.
///
/// # Errors
/// When `x` is not `[B, C, H, W]`.
pub fn pack_pixels(x: &Tensor, factor: usize) -> Result<Tensor> {
    if factor == 1 {
        return Ok(x.clone());
    }
    let (_, _, height, width) = x.dims4()?;
    let missing = |side: usize| side.next_multiple_of(factor) - side;
    let x = x.pad_with_same(2, 0, missing(height))?.pad_with_same(D::Minus1, 0, missing(width))?;
    let (batch, channels, height, width) = x.dims4()?;
    let (h, w) = (height / factor, width / factor);
    let x = x.reshape(&[batch, channels, h, factor, w, factor][..])?.permute((0, 1, 3, 5, 2, 4))?;
    Ok(x.contiguous()?.reshape((batch, channels * factor * factor, h, w))?)
}

fn optional_bias(weights: &Weights, out: usize) -> Result<Option<Tensor>> {
    match weights.contains("bias") {
        true => weights.get_shaped("bias", &[out]).map(Some),
        false => Ok(None),
    }
}

fn wrong_shape(weights: &Weights, shape: Vec<usize>, expected: &str) -> Error {
    Error::shape(format!("tensor {:?}", weights.full_name("weight")), expected, &shape)
}
