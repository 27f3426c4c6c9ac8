//! Style models: the states of a picture encoder turned into tokens beside the text's.
//!
//! Two kinds are in use: the style adapter of T2I-Adapter (Mou et al., arXiv 2302.08453, Apache-2.0), a transformer whose
//! learned last tokens gather what the others know, and FLUX.1 Redux, a gated pair of linear layers (diffusers, Apache-2.0).

use candle_core::{DType, Device, Tensor};

use super::clip::{Layer, MlpActivation};
use super::layers::{LayerNorm, Linear};
use crate::error::{Error, Result};
use crate::ops::Mask;
use crate::weights::{StateDict, Weights, layouts};

/// A style model.
#[derive(Debug)]
pub struct StyleModel {
    kind: Kind,
    dtype: DType,
    device: Device,
}

#[derive(Debug)]
enum Kind {
    Adapter {
        /// `[1, tokens, C]`
        style: Tensor,
        pre_norm: LayerNorm,
        layers: Vec<Layer>,
        post_norm: LayerNorm,
        projection: Linear,
    },
    Redux {
        up: Linear,
        down: Linear,
    },
}

/// The tensors of a style model with its transformer in the Hugging Face layout; other tensors as they are.
pub fn canonical(dict: &StateDict) -> StateDict {
    dict.flat_map(|name, entry| {
        let block = name.strip_prefix("transformer_layes.").and_then(|rest| rest.split_once('.'));
        match block {
            Some((index, rest)) => layouts::block_tensors(&format!("layers.{index}."), rest, entry),
            None => vec![(name.to_string(), entry.clone())],
        }
    })
}

impl StyleModel {
    /// Reads a style model from tensors that went through [`canonical`].
    ///
    /// # Errors
    /// When the tensors are of neither kind, or one is missing.
    pub fn new(weights: &Weights) -> Result<Self> {
        let kind = if weights.contains("style_embedding") {
            let layers = (0..weights.count("layers"))
                // Eight heads, as the published ones have.
                .map(|i| Layer::new(&weights.sub(format_args!("layers.{i}")), 8, MlpActivation::QuickGelu))
                .collect::<Result<Vec<_>>>()?;
            Kind::Adapter {
                style: weights.get("style_embedding")?,
                pre_norm: LayerNorm::new(&weights.sub("ln_pre"))?,
                layers,
                post_norm: LayerNorm::new(&weights.sub("ln_post"))?,
                // Stored `[C, D]`.
                projection: Linear::from_tensors(weights.get("proj")?.t()?.contiguous()?, None),
            }
        } else if weights.contains("redux_down.weight") {
            let linear = |name: &str| Linear::new(&weights.sub(name));
            Kind::Redux { up: linear("redux_up")?, down: linear("redux_down")? }
        } else {
            let key = "style_embedding".to_string();
            return Err(Error::MissingTensor { key, what: "the style model".to_string() });
        };
        Ok(Self { kind, dtype: weights.dtype(), device: weights.device().clone() })
    }

    /// Tokens `[B, T, D]` from the last states of a picture encoder `[B, S, C]`.
    ///
    /// # Errors
    /// When the states are of another width than the model was made for.
    pub fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let states = states.to_device(&self.device)?.to_dtype(self.dtype)?;
        let tokens = match &self.kind {
            Kind::Adapter { style, pre_norm, layers, post_norm, projection } => {
                let (batch, _, width) = states.dims3()?;
                let (_, count, own) = style.dims3()?;
                if width != own {
                    return Err(Error::shape(
                        "states for the style model",
                        format!("[B, S, {own}]"),
                        states.dims(),
                    ));
                }
                let style = style.broadcast_as((batch, count, width))?.contiguous()?;
                let mut x = pre_norm.forward(&Tensor::cat(&[&states, &style], 1)?)?;
                for layer in layers {
                    x = layer.forward(&x, Mask::None)?;
                }
                let last = x.narrow(1, x.dim(1)? - count, count)?.contiguous()?;
                projection.forward(&post_norm.forward(&last)?)?
            }
            Kind::Redux { up, down } => down.forward(&up.forward(&states)?.silu()?)?,
        };
        Ok(tokens.to_dtype(DType::F32)?)
    }
}
