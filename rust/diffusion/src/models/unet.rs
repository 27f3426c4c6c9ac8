//! The UNet of Stable Diffusion 1.x, 2.x and XL (Rombach et al., arXiv 2112.10752; Podell et al.,
//! arXiv 2307.01952) in the original checkpoint layout: `time_embed`, `label_emb`, `input_blocks`,
//! `middle_block`, `output_blocks`, `out`.
//!
//! Levels, residual blocks a level and transformer depths are read from which keys are there.

use candle_core::{DType, Device, Tensor};

use super::hypertile::Tiling;
use super::layers::{Conv2d, GroupNorm, Linear, timestep_embedding};
use super::resnet::{TimeResBlock, Upsample};
use super::transformer::{AttentionOptions, Heads, SpatialTransformer};
use crate::error::Result;
use crate::model::{DiffusionModel, ForwardOptions, ModelInput};
use crate::weights::Weights;

mod patches;

/// The network.
#[derive(Debug)]
pub struct UNet {
    /// Time embedding, input blocks and middle block.
    pub(crate) encoder: Encoder,
    output_blocks: Vec<Sequence>,
    out_norm: GroupNorm,
    out_conv: Conv2d,
}

impl UNet {
    /// Reads the network whose keys are directly under `weights`.
    ///
    /// # Errors
    /// When a tensor is missing or has an impossible shape.
    pub fn new(weights: &Weights) -> Result<Self> {
        let encoder = Encoder::new(weights)?;
        let output_blocks = (0..weights.count("output_blocks"))
            .map(|i| Sequence::new(&weights.sub(format_args!("output_blocks.{i}")), encoder.heads))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            encoder,
            output_blocks,
            out_norm: GroupNorm::new(&weights.sub("out.0"), 1e-5)?,
            out_conv: Conv2d::same(&weights.sub("out.2"))?,
        })
    }
}

impl DiffusionModel for UNet {
    fn forward(&self, x: &Tensor, timestep: &Tensor, input: &ModelInput) -> Result<Tensor> {
        let original_dtype = x.dtype();
        let x = match &input.concat {
            Some(concat) => Tensor::cat(&[x, &concat.to_dtype(x.dtype())?], 1)?,
            None => x.clone(),
        };
        let x = x.to_dtype(self.dtype())?;
        let emb = self.encoder.embed(timestep, input.y.as_ref(), None)?;
        let context = input.context.as_ref().map(|c| c.to_dtype(self.dtype())).transpose()?;
        let context = context.as_ref();
        let control = input.control.as_ref();

        let call = Call::new(&x, &emb, context, &input.options)?;
        let mut skips = Vec::with_capacity(self.encoder.input_blocks.len());
        let mut h = x;
        for (index, block) in self.encoder.input_blocks.iter().enumerate() {
            h = block.forward(&h, &call, None)?;
            if let Some(Some(residual)) = control.and_then(|c| c.input.get(index)) {
                h = add_residual(&h, residual)?;
            }
            let shrink = input.options.shrink.as_ref().filter(|shrink| shrink.block == index);
            let shrunk = shrink.map(|shrink| patches::shrink(shrink, &h)).transpose()?;
            match (shrink, shrunk) {
                (Some(shrink), Some(small)) => {
                    skips.push(if shrink.after_skip { h } else { small.clone() });
                    h = small;
                }
                _ => skips.push(h.clone()),
            }
        }
        h = self.encoder.middle_block.forward(&h, &Call { middle: true, ..call }, None)?;
        for residual in control.iter().flat_map(|c| c.middle.iter().flatten()) {
            h = add_residual(&h, residual)?;
        }
        // The last residual belongs to the last skip connection, which is used first.
        let mut residuals = control.map(|c| c.output.iter().rev()).into_iter().flatten();
        for block in &self.output_blocks {
            let Some(mut skip) = skips.pop() else { break };
            if let Some(Some(residual)) = residuals.next() {
                skip = add_residual(&skip, residual)?;
            }
            if let Some(shrink) = &input.options.shrink
                && (h.dim(2)?, h.dim(3)?) != (skip.dim(2)?, skip.dim(3)?)
            {
                h = (shrink.up)(&h, skip.dim(2)?, skip.dim(3)?)?;
            }
            if let Some(freeu) = &input.options.freeu {
                (h, skip) = patches::freeu(freeu, self.encoder.model_channels, h, skip)?;
            }
            h = Tensor::cat(&[&h, &skip], 1)?;
            drop(skip);
            let size = skips.last().map(|next| next.dims4().map(|(_, _, h, w)| (h, w))).transpose()?;
            h = block.forward(&h, &call, size)?;
        }
        let out = self.out_conv.forward(&self.out_norm.forward_silu(&h)?)?;
        Ok(out.to_dtype(original_dtype)?)
    }

    fn dtype(&self) -> DType {
        self.encoder.dtype
    }

    fn device(&self) -> &Device {
        &self.encoder.device
    }
}

fn add_residual(h: &Tensor, residual: &Tensor) -> Result<Tensor> {
    Ok(h.broadcast_add(&residual.to_dtype(h.dtype())?)?)
}

/// The half of a UNet that a control network copies.
#[derive(Debug)]
pub(crate) struct Encoder {
    time_embed: (Linear, Linear),
    label_emb: Option<(Linear, Linear)>,
    pub(crate) input_blocks: Vec<Sequence>,
    pub(crate) middle_block: Sequence,
    pub(crate) model_channels: usize,
    pub(crate) heads: Heads,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
}

impl Encoder {
    pub(crate) fn new(weights: &Weights) -> Result<Self> {
        let heads = heads(weights);
        let linear = |name: &str| Linear::new(&weights.sub(name));
        let input_blocks = (0..weights.count("input_blocks"))
            .map(|i| Sequence::new(&weights.sub(format_args!("input_blocks.{i}")), heads))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            time_embed: (linear("time_embed.0")?, linear("time_embed.2")?),
            label_emb: match weights.has("label_emb") {
                true => Some((linear("label_emb.0.0")?, linear("label_emb.0.2")?)),
                false => None,
            },
            input_blocks,
            middle_block: Sequence::new(&weights.sub("middle_block"), heads)?,
            model_channels: weights.dim("time_embed.0.weight", 1)?,
            heads,
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    /// Time and vector embedding after SiLU, `[B, E]`: every residual block starts with that SiLU. `extra` is added
    /// before it.
    pub(crate) fn embed(
        &self,
        timestep: &Tensor,
        y: Option<&Tensor>,
        extra: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mlp = |(first, second): &(Linear, Linear), x: &Tensor| second.forward(&first.forward(x)?.silu()?);
        let sines = timestep_embedding(timestep, self.model_channels)?.to_dtype(self.dtype)?;
        let mut emb = mlp(&self.time_embed, &sines)?;
        if let (Some(label_emb), Some(y)) = (&self.label_emb, y) {
            emb = emb.broadcast_add(&mlp(label_emb, &y.to_dtype(self.dtype)?)?)?;
        }
        if let Some(extra) = extra {
            emb = emb.broadcast_add(extra)?;
        }
        Ok(emb.silu()?)
    }
}

/// SD 1.x has eight heads and projects into its transformers with 1×1 convolutions; SD 2.x and XL
/// have heads of 64 and project with matrices. So the rank of `proj_in` tells them apart.
fn heads(weights: &Weights) -> Heads {
    let is_matrix = weights.dict().iter().any(|(name, entry)| {
        name.starts_with(&weights.full_name(""))
            && name.ends_with(".proj_in.weight")
            && entry.shape().len() == 2
    });
    if is_matrix { Heads::Size(64) } else { Heads::Count(8) }
}

/// What one numbered block is made of, in order.
#[derive(Debug)]
pub(crate) struct Sequence(Vec<Part>);

#[derive(Debug)]
enum Part {
    Conv(Conv2d),
    ResBlock(TimeResBlock),
    Transformer(SpatialTransformer),
    Upsample(Upsample),
}

impl Sequence {
    pub(crate) fn new(weights: &Weights, heads: Heads) -> Result<Self> {
        let mut parts = Vec::new();
        for index in 0.. {
            let part = weights.sub(index);
            parts.push(if part.contains("in_layers.0.weight") {
                Part::ResBlock(TimeResBlock::new(&part)?)
            } else if part.contains("proj_in.weight") {
                Part::Transformer(SpatialTransformer::new(&part, heads)?)
            } else if part.contains("op.weight") {
                Part::Conv(Conv2d::new(&part.sub("op"), 2, 1)?)
            } else if part.contains("conv.weight") {
                Part::Upsample(Upsample::new(&part)?)
            } else if part.contains("weight") {
                Part::Conv(Conv2d::same(&part)?)
            } else {
                break;
            });
        }
        Ok(Self(parts))
    }

    /// `size` is what an upsampling has to come out as.
    pub(crate) fn forward(&self, x: &Tensor, call: &Call, size: Option<(usize, usize)>) -> Result<Tensor> {
        let mut x = x.clone();
        for part in &self.0 {
            x = match part {
                Part::Conv(conv) => conv.forward(&x)?,
                Part::ResBlock(block) => block.forward(&x, call.emb)?,
                Part::Transformer(transformer) => {
                    let (_, _, height, width) = x.dims4()?;
                    transformer.forward(&x, call.context, call.attention((height, width)))?
                }
                Part::Upsample(upsample) => upsample.forward(&x, size)?,
            };
        }
        Ok(x)
    }
}

/// What every block of one forward pass sees.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Time and vector embedding after SiLU, `[B, E]`.
    pub(crate) emb: &'a Tensor,
    /// Tokens `[B, T, C]`.
    pub(crate) context: Option<&'a Tensor>,
    options: &'a ForwardOptions,
    /// Height and width of the latent.
    latent: (usize, usize),
    /// Whether this is the middle block.
    middle: bool,
}

impl<'a> Call<'a> {
    /// `x` `[B, C, H, W]` is what goes into the first block.
    pub(crate) fn new(
        x: &Tensor,
        emb: &'a Tensor,
        context: Option<&'a Tensor>,
        options: &'a ForwardOptions,
    ) -> Result<Self> {
        let (_, _, height, width) = x.dims4()?;
        Ok(Self { emb, context, options, latent: (height, width), middle: false })
    }

    /// How a transformer over a map of `size` attends.
    fn attention(&self, size: (usize, usize)) -> AttentionOptions<'a> {
        AttentionOptions {
            identity: self.middle && self.options.identity_middle_attention,
            tiling: self.options.hypertile.as_ref().and_then(|hypertile| {
                Tiling::new(hypertile, self.options.tile_draws.as_ref(), self.latent, size)
            }),
            record: self.options.record_middle_attention.as_ref().filter(|_| self.middle),
        }
    }
}
