//! ControlNet (Zhang et al., arXiv 2302.05543): a copy of a UNet's first half that also sees a control
//! picture, with a 1×1 convolution on every output.

use candle_core::Tensor;

use super::layers::Conv2d;
use super::unet::Encoder;
use crate::conditioning::{ControlInput, ControlModel};
use crate::error::Result;
use crate::model::{ControlResiduals, ForwardOptions};
use crate::weights::Weights;

/// The network.
#[derive(Debug)]
pub struct ControlNet {
    encoder: Encoder,
    /// Convolutions with SiLU in between: pixels to the latent's size.
    input_hint_block: Vec<Conv2d>,
    zero_convs: Vec<Conv2d>,
    middle_block_out: Conv2d,
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
        Ok(Self { encoder, input_hint_block, zero_convs, middle_block_out })
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
        let emb = self.encoder.embed(input.timestep, input.y)?;
        let context = input.context.map(|c| c.to_dtype(dtype)).transpose()?;
        let context = context.as_ref();
        let options = ForwardOptions::default();
        let mut h = input.x.to_dtype(dtype)?;
        let mut output = Vec::with_capacity(self.zero_convs.len());
        for (index, (block, zero)) in self.encoder.input_blocks.iter().zip(&self.zero_convs).enumerate() {
            h = block.forward(&h, &emb, context, &options, None, false)?;
            if index == 0 {
                h = h.broadcast_add(&self.hint(input.hint)?)?;
            }
            output.push(Some(zero.forward(&h)?.to_dtype(original)?));
        }
        let h = self.encoder.middle_block.forward(&h, &emb, context, &options, None, false)?;
        let middle = vec![Some(self.middle_block_out.forward(&h)?.to_dtype(original)?)];
        Ok(ControlResiduals { input: Vec::new(), middle, output })
    }
}
