//! Residual convolution blocks and the changes of resolution between them.

use candle_core::Tensor;

use super::layers::{Conv2d, GroupNorm, Linear};
use crate::error::Result;
use crate::weights::Weights;

/// The UNet's residual block: two normed convolutions with the time embedding added in between.
/// Tensor names are those of the original Stable Diffusion code (`in_layers.2`, …).
#[derive(Debug)]
pub struct TimeResBlock {
    in_norm: GroupNorm,
    in_conv: Conv2d,
    emb: Linear,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    skip: Option<Conv2d>,
}

impl TimeResBlock {
    /// Reads the block.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn new(weights: &Weights) -> Result<Self> {
        Ok(Self {
            in_norm: GroupNorm::new(&weights.sub("in_layers.0"), 1e-5)?,
            in_conv: Conv2d::same(&weights.sub("in_layers.2"))?,
            emb: Linear::new(&weights.sub("emb_layers.1"))?,
            out_norm: GroupNorm::new(&weights.sub("out_layers.0"), 1e-5)?,
            out_conv: Conv2d::same(&weights.sub("out_layers.3"))?,
            skip: match weights.has("skip_connection") {
                true => Some(Conv2d::same(&weights.sub("skip_connection"))?),
                false => None,
            },
        })
    }

    /// `x` `[B, C, H, W]`; `emb` `[B, E]`, the time embedding after SiLU.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn forward(&self, x: &Tensor, emb: &Tensor) -> Result<Tensor> {
        let h = self.in_conv.forward(&self.in_norm.forward_silu(x)?)?;
        let emb = self.emb.forward(emb)?;
        let h = h.broadcast_add(&emb.reshape((emb.dim(0)?, emb.dim(1)?, 1, 1))?)?;
        let normed = self.out_norm.forward_silu(&h)?;
        // Maps are large: none is kept longer than it is needed.
        drop(h);
        let h = self.out_conv.forward(&normed)?;
        drop(normed);
        add_skip(x, self.skip.as_ref(), &h)
    }
}

/// The autoencoder's residual block, without a time embedding (`norm1`, `conv1`, …).
#[derive(Debug)]
pub struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResBlock {
    /// Reads the block.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn new(weights: &Weights) -> Result<Self> {
        Ok(Self {
            norm1: GroupNorm::new(&weights.sub("norm1"), 1e-6)?,
            conv1: Conv2d::same(&weights.sub("conv1"))?,
            norm2: GroupNorm::new(&weights.sub("norm2"), 1e-6)?,
            conv2: Conv2d::same(&weights.sub("conv2"))?,
            nin_shortcut: match weights.has("nin_shortcut") {
                true => Some(Conv2d::same(&weights.sub("nin_shortcut"))?),
                false => None,
            },
        })
    }

    /// `[B, C, H, W]` to `[B, C', H, W]`.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        let normed = self.norm2.forward_silu(&h)?;
        // Maps are large: none is kept longer than it is needed.
        drop(h);
        let h = self.conv2.forward(&normed)?;
        drop(normed);
        add_skip(x, self.nin_shortcut.as_ref(), &h)
    }
}

fn add_skip(x: &Tensor, projection: Option<&Conv2d>, h: &Tensor) -> Result<Tensor> {
    Ok(match projection {
        Some(projection) => (projection.forward(x)? + h)?,
        None => (x + h)?,
    })
}

/// Twice the size by repeating pixels, then a convolution.
#[derive(Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    /// Reads `conv`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn new(weights: &Weights) -> Result<Self> {
        Ok(Self { conv: Conv2d::same(&weights.sub("conv"))? })
    }

    /// `[B, C, H, W]` to `[B, C, height, width]`; twice the size unless a skip connection of an odd
    /// size asks for less.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn forward(&self, x: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (height, width) = size.unwrap_or((height * 2, width * 2));
        self.conv.forward(&x.upsample_nearest2d(height, width)?)
    }
}
