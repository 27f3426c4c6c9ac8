//! Latent formats: how the latents a user sees relate to the ones a model works on, and the
//! factors that turn a latent into a rough picture.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

mod table;

/// One latent format.
#[derive(Debug, PartialEq)]
pub struct LatentFormat {
    /// Name of the format (`"SD15"`, `"SDXL"`, `"Flux"`, …).
    pub name: &'static str,
    /// Number of channels.
    pub channels: usize,
    /// Spatial dimensions: 1 (audio, 3D), 2 (pictures) or 3 (video: time first).
    pub dims: usize,
    /// Factor into model space.
    pub scale: f64,
    /// Subtracted before scaling.
    pub shift: f64,
    /// Per-channel means, for formats that normalise each channel.
    pub mean: Option<&'static [f64]>,
    /// Per-channel standard deviations.
    pub std: Option<&'static [f64]>,
    /// Linear map from a channel to red, green, blue, in model space. With a quarter of the
    /// channels (Flux 2), the latent is unpacked 2×2 first.
    pub rgb_factors: Option<&'static [[f64; 3]]>,
    /// Added after `rgb_factors`.
    pub rgb_bias: [f64; 3],
    /// File stem of the tiny autoencoder for better previews.
    pub taesd: Option<&'static str>,
}

impl LatentFormat {
    /// Finds a format by name.
    pub fn by_name(name: &str) -> Result<&'static Self> {
        Self::all()
            .iter()
            .find(|format| format.name == name)
            .ok_or_else(|| Error::unknown("latent format", name, Self::all().iter().map(|f| f.name)))
    }

    /// All formats.
    pub fn all() -> &'static [Self] {
        table::FORMATS
    }

    /// From the user's space to the model's: `(x - shift) * scale`, or per channel
    /// `(x - mean) * scale / std`. `latent` is `[B, C, …]`.
    pub fn process_in(&self, latent: &Tensor) -> Result<Tensor> {
        match (self.channel_values(latent, self.mean)?, self.channel_values(latent, self.std)?) {
            (Some(mean), Some(std)) => {
                let centred = latent.broadcast_sub(&mean)?;
                Ok((centred * self.scale)?.broadcast_div(&std)?)
            }
            _ if self.shift == 0.0 => Ok((latent * self.scale)?),
            _ => Ok(((latent - self.shift)? * self.scale)?),
        }
    }

    /// From the model's space to the user's; the inverse of [`Self::process_in`].
    pub fn process_out(&self, latent: &Tensor) -> Result<Tensor> {
        match (self.channel_values(latent, self.mean)?, self.channel_values(latent, self.std)?) {
            (Some(mean), Some(std)) => Ok((latent.broadcast_mul(&std)? / self.scale)?.broadcast_add(&mean)?),
            _ => Ok(((latent / self.scale)? + self.shift)?),
        }
    }

    /// Per-channel values shaped `[1, C, 1, …]` to broadcast over `like`.
    fn channel_values(&self, like: &Tensor, values: Option<&[f64]>) -> Result<Option<Tensor>> {
        let Some(values) = values else { return Ok(None) };
        if like.rank() < 2 || like.dim(1)? != values.len() {
            let expected = format!("[B, {}, …] ({} latent)", values.len(), self.name);
            return Err(Error::shape("latent", expected, like.dims()));
        }
        let mut shape = vec![1; like.rank()];
        if let Some(channels) = shape.get_mut(1) {
            *channels = values.len();
        }
        let tensor = Tensor::new(values, like.device())?.to_dtype(DType::F32)?;
        Ok(Some(tensor.to_dtype(like.dtype())?.reshape(shape)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_format_maps_back_to_where_it_came_from() -> Result<()> {
        for format in LatentFormat::all() {
            let latent = Tensor::arange(0f32, (format.channels * 4) as f32, &Device::Cpu)?
                .affine(0.01, -0.3)?
                .reshape((1, format.channels, 2, 2))?;
            let back = format.process_out(&format.process_in(&latent)?)?;
            let error = (back - &latent)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(error < 1e-4, "{}: {error}", format.name);
        }
        Ok(())
    }

    #[test]
    fn a_wrong_number_of_channels_is_an_error_that_names_the_format() -> Result<()> {
        let latent = Tensor::zeros((1, 4, 2, 2), DType::F32, &Device::Cpu)?;
        let error = LatentFormat::by_name("Wan21")?.process_in(&latent).map(drop);
        assert!(error.is_err_and(|e| e.to_string().contains("Wan21")));
        Ok(())
    }
}
