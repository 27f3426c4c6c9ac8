//! ControlNet (Zhang et al., arXiv 2302.05543): a copy of a UNet's first half that also sees a control
//! picture, with a 1×1 convolution on every output. Union networks (ControlNet++, xinsir, Apache-2.0) take any of
//! several kinds of control picture: a small transformer tells the picture's kind to the network.

use candle_core::Tensor;

use super::clip::{Layer, MlpActivation};
use super::layers::{Conv2d, Linear, timestep_embedding};
use super::unet::{Call, Encoder};
use crate::conditioning::{ControlInput, ControlModel};
use crate::error::Result;
use crate::model::{ControlResiduals, ForwardOptions};
use crate::ops::Mask;
use crate::weights::Weights;

/// The network.
#[derive(Debug)]
pub struct ControlNet {
    encoder: Encoder,
    /// Convolutions with SiLU in between: pixels to the latent's size.
    input_hint_block: Vec<Conv2d>,
    zero_convs: Vec<Conv2d>,
    middle_block_out: Conv2d,
    union: Option<Union>,
}

impl ControlNet {
    /// Reads the network whose keys are directly under `weights` (`input_hint_block`, `zero_convs`, …).
    ///
    /// # Errors
    /// When a tensor is missing or has an impossible shape.
    pub fn new(weights: &Weights) -> Result<Self> {
        let encoder = Encoder::new(weights)?;
        let input_hint_block = (0..)
            .step_by(2)
            .map(|index| weights.sub(format_args!("input_hint_block.{index}")))
            .take_while(|part| part.contains("weight"))
            .enumerate()
            // The third, fifth and seventh convolution halve the size: 8 pixels a latent place.
            .map(|(i, part)| Conv2d::new(&part, if matches!(i, 2 | 4 | 6) { 2 } else { 1 }, 1))
            .collect::<Result<Vec<_>>>()?;
        let zero_convs = (0..encoder.input_blocks.len())
            .map(|i| Conv2d::same(&weights.sub(format_args!("zero_convs.{i}.0"))))
            .collect::<Result<Vec<_>>>()?;
        let middle_block_out = Conv2d::same(&weights.sub("middle_block_out.0"))?;
        let union = match weights.contains("task_embedding") {
            true => Some(Union::new(weights)?),
            false => None,
        };
        Ok(Self { encoder, input_hint_block, zero_convs, middle_block_out, union })
    }

    fn hint(&self, hint: &Tensor) -> Result<Tensor> {
        let mut h = hint.to_dtype(self.encoder.dtype)?;
        for (index, conv) in self.input_hint_block.iter().enumerate() {
            if index > 0 {
                h = h.silu()?;
            }
            h = conv.forward(&h)?;
        }
        Ok(h)
    }
}

impl ControlModel for ControlNet {
    fn forward(&self, input: &ControlInput<'_>) -> Result<ControlResiduals> {
        let dtype = self.encoder.dtype;
        let original = input.x.dtype();
        let control_kind = match &self.union {
            Some(union) => Some(union.kind_embedding(input.union_type, input.timestep)?),
            None => None,
        };
        let emb = self.encoder.embed(input.timestep, input.y, control_kind.as_ref())?;
        let context = input.context.map(|c| c.to_dtype(dtype)).transpose()?;
        let options = ForwardOptions::default();
        let x = input.x.to_dtype(dtype)?;
        let call = Call::new(&x, &emb, context.as_ref(), &options)?;
        let mut h = x.clone();
        let mut output = Vec::with_capacity(self.zero_convs.len());
        for (index, (block, zero)) in self.encoder.input_blocks.iter().zip(&self.zero_convs).enumerate() {
            h = block.forward(&h, &call, None)?;
            if index == 0 {
                let hint = self.hint(input.hint)?;
                h = match &self.union {
                    Some(union) => union.add(&h, &hint, input.union_type)?,
                    None => h.broadcast_add(&hint)?,
                };
            }
            output.push(Some(zero.forward(&h)?.to_dtype(original)?));
        }
        let h = self.encoder.middle_block.forward(&h, &call, None)?;
        let middle = vec![Some(self.middle_block_out.forward(&h)?.to_dtype(original)?)];
        Ok(ControlResiduals { input: Vec::new(), middle, output })
    }
}

/// Heads of the small transformer.
const HEADS: usize = 8;

/// What tells a union network which kind its control picture is of.
#[derive(Debug)]
struct Union {
    /// A vector for every kind, `[kinds, C]`.
    task_embedding: Tensor,
    /// Width of the sinusoidal embedding of each kind.
    kind_width: usize,
    /// Blocks over the two tokens of control picture and latent.
    layers: Vec<Layer>,
    spatial_ch_projs: Linear,
    control_add_embedding: (Linear, Linear),
}

impl Union {
    fn new(weights: &Weights) -> Result<Self> {
        let linear = |name: &str| Linear::new(&weights.sub(name));
        let kinds = weights.dim("task_embedding", 0)?.max(1);
        Ok(Self {
            task_embedding: weights.get("task_embedding")?,
            kind_width: weights.dim("control_add_embedding.linear_1.weight", 1)? / kinds,
            // The name is misspelt in the published files.
            layers: (0..weights.count("transformer_layes"))
                .map(|i| {
                    let layer = weights.sub(format_args!("transformer_layes.{i}"));
                    Layer::new(&layer, HEADS, MlpActivation::QuickGelu)
                })
                .collect::<Result<Vec<_>>>()?,
            spatial_ch_projs: linear("spatial_ch_projs")?,
            control_add_embedding: (
                linear("control_add_embedding.linear_1")?,
                linear("control_add_embedding.linear_2")?,
            ),
        })
    }

    /// What is added to the time embedding: `[B, E]`. Kinds that are not in use count 0, the one that is 1.
    fn kind_embedding(&self, kind: Option<usize>, like: &Tensor) -> Result<Tensor> {
        let kinds = self.task_embedding.dim(0)?;
        let flags: Vec<f32> = (0..kinds).map(|i| f32::from(u8::from(kind == Some(i)))).collect();
        let flags = Tensor::from_vec(flags, kinds, like.device())?;
        let embedding = timestep_embedding(&flags, self.kind_width)?.flatten_all()?.unsqueeze(0)?;
        let embedding = embedding.to_dtype(self.task_embedding.dtype())?;
        let (first, second) = &self.control_add_embedding;
        let embedding = second.forward(&first.forward(&embedding)?.silu()?)?;
        Ok(embedding.broadcast_as((like.dim(0)?, embedding.dim(1)?))?.contiguous()?)
    }

    /// Adds the control picture's features `hint` `[1 | B, C, H, W]` to `h`.
    fn add(&self, h: &Tensor, hint: &Tensor, kind: Option<usize>) -> Result<Tensor> {
        let hint = hint.broadcast_as(h.shape())?.contiguous()?;
        let mean = |t: &Tensor| -> Result<Tensor> { Ok(t.flatten_from(2)?.mean(2)?) };
        let mut feature = mean(&hint)?;
        let kinds = self.task_embedding.dim(0)?;
        if let Some(kind) = kind.filter(|kind| *kind < kinds) {
            feature = feature.broadcast_add(&self.task_embedding.narrow(0, kind, 1)?)?;
        }
        let mut tokens = Tensor::stack(&[feature, mean(h)?], 1)?;
        for layer in &self.layers {
            tokens = layer.forward(&tokens, Mask::None)?;
        }
        let shift = self.spatial_ch_projs.forward(&tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?;
        let (batch, channels) = shift.dims2()?;
        Ok((h + hint.broadcast_add(&shift.reshape((batch, channels, 1, 1))?)?)?)
    }
}
