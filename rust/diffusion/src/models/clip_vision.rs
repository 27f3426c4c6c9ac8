//! The picture encoder of CLIP (Radford et al., arXiv 2103.00020): a transformer over patches of a picture, named as in
//! the Hugging Face layout. OpenCLIP files are renamed into it first (see `weights::layouts`).

use candle_core::{DType, Device, Tensor};

use super::clip::{Layer, MlpActivation};
use super::layers::{Conv2d, LayerNorm, Linear};
use crate::error::{Error, Result};
use crate::ops::Mask;
use crate::weights::Weights;

/// What the encoder makes of pictures.
#[derive(Debug, Clone)]
pub struct EncodedPicture {
    /// States of the last layer, not normed, `[B, 1 + patches, C]`.
    pub last: Tensor,
    /// States of the layer before it.
    pub penultimate: Tensor,
    /// The first state of the last layer, normed and projected, `[B, P]`.
    pub embedding: Tensor,
}

/// A CLIP picture encoder.
#[derive(Debug)]
pub struct ClipVision {
    patch_embedding: Conv2d,
    /// `[C]`
    class_embedding: Tensor,
    /// `[1 + patches, C]`
    position_embedding: Tensor,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    post_norm: LayerNorm,
    projection: Linear,
    patch: usize,
    dtype: DType,
    device: Device,
}

impl ClipVision {
    /// Reads the tensors under `vision_model.` and `visual_projection.`.
    ///
    /// # Errors
    /// When a tensor is missing or the shapes do not go together.
    pub fn new(weights: &Weights) -> Result<Self> {
        let model = weights.sub("vision_model");
        let embeddings = model.sub("embeddings");
        let (width, patch) =
            (embeddings.dim("patch_embedding.weight", 0)?, embeddings.dim("patch_embedding.weight", 3)?);
        // OpenAI's models have heads of 64 and the quick gelu; OpenCLIP's larger ones sixteen heads and the exact one.
        let (heads, activation) = match width {
            ..=1024 => ((width / 64).max(1), MlpActivation::QuickGelu),
            _ => (16, MlpActivation::Gelu),
        };
        let layers = (0..model.count("encoder.layers"))
            .map(|i| Layer::new(&model.sub(format_args!("encoder.layers.{i}")), heads, activation))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            patch_embedding: Conv2d::new(&embeddings.sub("patch_embedding"), patch, 0)?,
            class_embedding: embeddings.get("class_embedding")?.flatten_all()?,
            position_embedding: embeddings.get("position_embedding.weight")?,
            // Misspelt in every published file.
            pre_norm: LayerNorm::new(&model.sub("pre_layrnorm"))?,
            layers,
            post_norm: LayerNorm::new(&model.sub("post_layernorm"))?,
            projection: Linear::new(&weights.sub("visual_projection"))?,
            patch,
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    /// Side of the pictures it was trained on, in pixels.
    pub fn side(&self) -> usize {
        let patches = self.position_embedding.dim(0).unwrap_or(1).saturating_sub(1);
        patches.isqrt() * self.patch
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Encodes pictures `[B, 3, side, side]`, normalised.
    ///
    /// # Errors
    /// When the pictures have another size.
    pub fn encode(&self, pictures: &Tensor) -> Result<EncodedPicture> {
        let patches = self.patch_embedding.forward(&pictures.to_dtype(self.dtype)?)?.flatten_from(2)?;
        let patches = patches.transpose(1, 2)?.contiguous()?;
        let (batch, count, width) = patches.dims3()?;
        if count + 1 != self.position_embedding.dim(0)? {
            let expected = format!("[B, 3, {0}, {0}]", self.side());
            return Err(Error::shape("picture for CLIP", expected, pictures.dims()));
        }
        let class = self.class_embedding.reshape((1, 1, width))?.broadcast_as((batch, 1, width))?;
        let x = Tensor::cat(&[&class.contiguous()?, &patches], 1)?;
        let x = x.broadcast_add(&self.position_embedding)?;
        let mut x = self.pre_norm.forward(&x)?;
        let mut penultimate = x.clone();
        for (done, layer) in self.layers.iter().enumerate() {
            if done + 1 == self.layers.len() {
                penultimate = x.clone();
            }
            x = layer.forward(&x, Mask::None)?;
        }
        let first = self.post_norm.forward(&x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?;
        Ok(EncodedPicture { embedding: self.projection.forward(&first)?, last: x, penultimate })
    }
}
