//! The convolutional autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752), in the
//! original layout: `encoder.down.N.block.M`, `mid`, `decoder.up.N`, `quant_conv`, …
//!
//! Base width, multipliers, blocks a level and latent channels come from the tensors.

use candle_core::{DType, Device, Tensor};

use super::layers::{Conv2d, GroupNorm, Linear};
use super::resnet::{ResBlock, Upsample};
use crate::error::Result;
use crate::ops::{Mask, attention};
use crate::weights::Weights;

/// Encoder and decoder.
#[derive(Debug)]
pub struct AutoEncoder {
    /// Missing in decoder-only files.
    encoder: Option<Encoder>,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    dtype: DType,
    device: Device,
}

impl AutoEncoder {
    /// Reads the autoencoder whose keys are directly under `weights`.
    ///
    /// # Errors
    /// When a tensor is missing or has an impossible shape.
    pub fn new(weights: &Weights) -> Result<Self> {
        let optional_conv = |name: &str| match weights.has(name) {
            true => Conv2d::same(&weights.sub(name)).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            encoder: match weights.has("encoder") {
                true => Some(Encoder::new(&weights.sub("encoder"))?),
                false => None,
            },
            decoder: Decoder::new(&weights.sub("decoder"))?,
            quant_conv: optional_conv("quant_conv")?,
            post_quant_conv: optional_conv("post_quant_conv")?,
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    /// Mean and log-variance of the latent: pixels `[B, 3, H, W]` in −1..1 to `[B, 2·C, H/f, W/f]`.
    ///
    /// # Errors
    /// When the file has no encoder or the shapes do not match.
    pub fn moments(&self, pixels: &Tensor) -> Result<Tensor> {
        let Some(encoder) = &self.encoder else {
            let key = "encoder.conv_in.weight".to_string();
            return Err(crate::Error::MissingTensor {
                key,
                what: "the VAE (it has only a decoder)".to_string(),
            });
        };
        let moments = encoder.forward(&pixels.to_dtype(self.dtype)?)?;
        match &self.quant_conv {
            Some(conv) => conv.forward(&moments),
            None => Ok(moments),
        }
    }

    /// Latent `[B, C, h, w]` (not scaled) to pixels `[B, 3, h·f, w·f]`, about −1..1.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let latent = latent.to_dtype(self.dtype)?;
        let latent = match &self.post_quant_conv {
            Some(conv) => conv.forward(&latent)?,
            None => latent,
        };
        self.decoder.forward(&latent)
    }

    /// Pixels a latent place stands for, each way.
    pub fn factor(&self) -> usize {
        1 << self.decoder.up.iter().filter(|level| level.upsample.is_some()).count()
    }

    /// Channels of a latent.
    pub fn latent_channels(&self) -> usize {
        self.decoder.latent_channels
    }

    /// Dtype the autoencoder computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownLevel>,
    mid: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Debug)]
struct DownLevel {
    blocks: Vec<ResBlock>,
    downsample: Option<Conv2d>,
}

impl Encoder {
    fn new(weights: &Weights) -> Result<Self> {
        let down = (0..weights.count("down"))
            .map(|i| {
                let level = weights.sub(format_args!("down.{i}"));
                Ok(DownLevel {
                    blocks: blocks(&level)?,
                    downsample: match level.has("downsample") {
                        true => Some(Conv2d::new(&level.sub("downsample.conv"), 2, 0)?),
                        false => None,
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            conv_in: Conv2d::same(&weights.sub("conv_in"))?,
            down,
            mid: Middle::new(&weights.sub("mid"))?,
            norm_out: GroupNorm::new(&weights.sub("norm_out"), 1e-6)?,
            conv_out: Conv2d::same(&weights.sub("conv_out"))?,
        })
    }

    fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(pixels)?;
        for level in &self.down {
            for block in &level.blocks {
                x = block.forward(&x)?;
            }
            if let Some(downsample) = &level.downsample {
                // Padding on the right and at the bottom only.
                x = downsample.forward(&x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)?;
            }
        }
        x = self.mid.forward(&x)?;
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid: Middle,
    /// From the finest level (0) to the coarsest, as in the file; run in reverse.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    latent_channels: usize,
}

#[derive(Debug)]
struct UpLevel {
    blocks: Vec<ResBlock>,
    upsample: Option<Upsample>,
}

impl Decoder {
    fn new(weights: &Weights) -> Result<Self> {
        let up = (0..weights.count("up"))
            .map(|i| {
                let level = weights.sub(format_args!("up.{i}"));
                Ok(UpLevel {
                    blocks: blocks(&level)?,
                    upsample: match level.has("upsample") {
                        true => Some(Upsample::new(&level.sub("upsample"))?),
                        false => None,
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            conv_in: Conv2d::same(&weights.sub("conv_in"))?,
            mid: Middle::new(&weights.sub("mid"))?,
            up,
            norm_out: GroupNorm::new(&weights.sub("norm_out"), 1e-6)?,
            conv_out: Conv2d::same(&weights.sub("conv_out"))?,
            latent_channels: weights.dim("conv_in.weight", 1)?,
        })
    }

    fn forward(&self, latent: &Tensor) -> Result<Tensor> {
        let mut x = self.mid.forward(&self.conv_in.forward(latent)?)?;
        for level in self.up.iter().rev() {
            for block in &level.blocks {
                x = block.forward(&x)?;
            }
            if let Some(upsample) = &level.upsample {
                x = upsample.forward(&x, None)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}

fn blocks(level: &Weights) -> Result<Vec<ResBlock>> {
    (0..level.count("block")).map(|i| ResBlock::new(&level.sub(format_args!("block.{i}")))).collect()
}

/// Two residual blocks around a self-attention with one head.
#[derive(Debug)]
struct Middle {
    block_1: ResBlock,
    attn_1: Option<AttentionBlock>,
    block_2: ResBlock,
}

impl Middle {
    fn new(weights: &Weights) -> Result<Self> {
        Ok(Self {
            block_1: ResBlock::new(&weights.sub("block_1"))?,
            attn_1: match weights.has("attn_1") {
                true => Some(AttentionBlock::new(&weights.sub("attn_1"))?),
                false => None,
            },
            block_2: ResBlock::new(&weights.sub("block_2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.block_1.forward(x)?;
        if let Some(attn) = &self.attn_1 {
            x = attn.forward(&x)?;
        }
        self.block_2.forward(&x)
    }
}

#[derive(Debug)]
struct AttentionBlock {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    proj_out: Linear,
}

impl AttentionBlock {
    fn new(weights: &Weights) -> Result<Self> {
        let linear = |name: &str| Linear::new(&weights.sub(name));
        Ok(Self {
            norm: GroupNorm::new(&weights.sub("norm"), 1e-6)?,
            q: linear("q")?,
            k: linear("k")?,
            v: linear("v")?,
            proj_out: linear("proj_out")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let tokens = self.norm.forward(x)?.reshape((batch, channels, height * width))?;
        let tokens = tokens.transpose(1, 2)?.contiguous()?;
        let (q, k, v) = (self.q.forward(&tokens)?, self.k.forward(&tokens)?, self.v.forward(&tokens)?);
        let out = self.proj_out.forward(&attention(&q, &k, &v, 1, Mask::None)?)?;
        let out = out.transpose(1, 2)?.contiguous()?.reshape((batch, channels, height, width))?;
        Ok((x + out)?)
    }
}
