//! TAESD (Ollin Boer Bohan, MIT): a tiny autoencoder for previews, as a numbered sequence of layers.

use candle_core::Tensor;

use super::layers::Conv2d;
use crate::error::{Error, Result};
use crate::weights::{StateDict, Weights};

/// A half of the autoencoder.
#[derive(Debug)]
pub struct Taesd {
    layers: Vec<Layer>,
}

#[derive(Debug)]
enum Layer {
    /// Soft clamp of the latent to −3..3.
    Clamp,
    Relu,
    Upsample,
    Conv(Conv2d),
    Block {
        convs: [Conv2d; 3],
        skip: Option<Conv2d>,
    },
}

impl Taesd {
    /// The decoder: numbers without a tensor are the clamp (first), the activation (third) and the
    /// upsamplings.
    ///
    /// # Errors
    /// When the tensors are not such a sequence.
    pub fn decoder(weights: &Weights) -> Result<Self> {
        Self::new(weights, |index| match index {
            0 => Layer::Clamp,
            2 => Layer::Relu,
            _ => Layer::Upsample,
        })
    }

    /// The encoder: convolutions without bias halve the size.
    ///
    /// # Errors
    /// When the tensors are not such a sequence.
    pub fn encoder(weights: &Weights) -> Result<Self> {
        Self::new(weights, |_| Layer::Relu)
    }

    fn new(weights: &Weights, gap: impl Fn(usize) -> Layer) -> Result<Self> {
        let numbers = weights.dict().iter().filter_map(|(name, _)| {
            name.strip_prefix(&weights.full_name(""))?.split('.').next()?.parse::<usize>().ok()
        });
        // A hundred layers are five times as many as any published file has.
        let Some(last) = numbers.max().filter(|&last| last < 100) else {
            let (key, what) = ("1.weight".to_string(), "the tiny autoencoder".to_string());
            return Err(Error::MissingTensor { key, what });
        };
        let halves = weights.contains("0.weight");
        let layers = (0..=last)
            .map(|index| {
                let part = weights.sub(index);
                if part.has("conv") {
                    let conv = |i: usize| Conv2d::same(&part.sub(format_args!("conv.{i}")));
                    let skip = match part.has("skip") {
                        true => Some(Conv2d::same(&part.sub("skip"))?),
                        false => None,
                    };
                    Ok(Layer::Block { convs: [conv(0)?, conv(2)?, conv(4)?], skip })
                } else if part.contains("weight") {
                    let stride = if halves && !part.contains("bias") { 2 } else { 1 };
                    Ok(Layer::Conv(Conv2d::new(&part, stride, 1)?))
                } else {
                    Ok(gap(index))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers })
    }

    /// Runs the sequence. Decoder: latent in model space `[B, C, h, w]` to pixels `[B, 3, 8h, 8w]` in
    /// 0..1; encoder: the other way round.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            x = match layer {
                Layer::Clamp => ((x / 3.0)?.tanh()? * 3.0)?,
                Layer::Relu => x.relu()?,
                Layer::Upsample => {
                    let (_, _, height, width) = x.dims4()?;
                    x.upsample_nearest2d(height * 2, width * 2)?
                }
                Layer::Conv(conv) => conv.forward(&x)?,
                Layer::Block { convs: [first, second, third], skip } => {
                    let h = second.forward(&first.forward(&x)?.relu()?)?.relu()?;
                    let skip = match skip {
                        Some(skip) => skip.forward(&x)?,
                        None => x,
                    };
                    (third.forward(&h)? + skip)?.relu()?
                }
            };
        }
        Ok(x)
    }
}

/// Numbers of the published files: diffusers counts the decoder's layers without the clamp.
pub fn from_diffusers(dict: &StateDict) -> (StateDict, StateDict) {
    let half = |prefix: &str, shift: usize| {
        dict.rename(|name| {
            let (index, rest) = name.strip_prefix(prefix)?.split_once('.')?;
            Some(format!("{}.{rest}", index.parse::<usize>().ok()?.checked_add(shift)?))
        })
    };
    (half("encoder.layers.", 0), half("decoder.layers.", 1))
}
