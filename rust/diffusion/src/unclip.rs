//! unCLIP: models that take the embedding of a picture as their vector input (Ramesh et al., arXiv 2204.06125), with noise
//! laid over it so that the picture is followed more or less closely. As in Stable unCLIP (diffusers, Apache-2.0): the
//! embedding is normalised, noised along the squared cosine schedule, denormalised, and followed by the sinusoidal
//! embedding of the noise level.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::models::layers::timestep_embedding;
use crate::rng::TorchGenerator;
use crate::sampling::squared_cosine_alpha_bars;
use crate::weights::StateDict;

/// The mean and deviation of the embeddings that a model was trained on.
#[derive(Debug, Clone)]
pub struct NoiseAugmentor {
    /// `[1, C]`
    mean: Tensor,
    /// `[1, C]`
    deviation: Tensor,
    alpha_bars: Vec<f64>,
}

/// A picture that a conditioning entry carries.
#[derive(Debug, Clone)]
pub struct PictureCondition {
    /// Its embedding `[1 | B, C]`.
    pub embedding: Tensor,
    /// Factor on the embedding.
    pub strength: f64,
    /// How much noise is laid over it, 0 to 1.
    pub noise: f64,
}

impl NoiseAugmentor {
    /// From the tensors `data_mean` and `data_std` of a checkpoint, `None` if it has none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn from_dict(dict: &StateDict) -> Result<Option<Self>> {
        let get = |name: &str| -> Result<Option<Tensor>> {
            let entry = dict.get(&format!("noise_augmentor.{name}"));
            entry.map(|entry| Ok(entry.tensor(DType::F32, &Device::Cpu)?.reshape((1, ()))?)).transpose()
        };
        let (Some(mean), Some(deviation)) = (get("data_mean")?, get("data_std")?) else { return Ok(None) };
        Ok(Some(Self { mean, deviation, alpha_bars: squared_cosine_alpha_bars() }))
    }

    /// Width of the vector: the embedding and that of its noise level.
    pub fn width(&self) -> usize {
        self.mean.elem_count() * 2
    }

    /// The vector `[1 | B, 2·C]` of a picture. `seed` is of the noise.
    ///
    /// # Errors
    /// When the embedding is of another width.
    pub fn vector(&self, picture: &PictureCondition, seed: u64) -> Result<Tensor> {
        let last = self.alpha_bars.len().saturating_sub(1);
        let level = (picture.noise.clamp(0.0, 1.0) * last as f64).round_ties_even() as usize;
        let bar = self.alpha_bars.get(level).copied().unwrap_or(1.0);
        let embedding = picture.embedding.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let (batch, width) = embedding.dims2()?;
        let scaled = embedding.broadcast_sub(&self.mean)?.broadcast_div(&self.deviation)?;
        let noise = TorchGenerator::new(seed).randn(batch * width);
        let noise = Tensor::from_vec(noise, (batch, width), &Device::Cpu)?;
        let noisy = ((scaled * bar.sqrt())? + (noise * (1.0 - bar).sqrt())?)?;
        let noisy = noisy.broadcast_mul(&self.deviation)?.broadcast_add(&self.mean)?;
        let levels = Tensor::full(level as f32, batch, &Device::Cpu)?;
        let vector = Tensor::cat(&[&noisy, &timestep_embedding(&levels, width)?], 1)?;
        Ok((vector * picture.strength)?)
    }

    /// The vector of several pictures: their mean, weighted by their strengths' sizes; of none, zeros.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub fn merged(&self, pictures: &[PictureCondition], seed: u64) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        let mut weight = 0.0;
        for picture in pictures {
            let vector = self.vector(picture, seed)?;
            weight += picture.strength.abs();
            sum = Some(match sum {
                Some(sum) => sum.broadcast_add(&vector)?,
                None => vector,
            });
        }
        match sum {
            Some(sum) if pictures.len() == 1 || weight == 0.0 => Ok(sum),
            Some(sum) => Ok((sum / weight)?),
            None => Ok(Tensor::zeros((1, self.width()), DType::F32, &Device::Cpu)?),
        }
    }
}
