//! Rough pictures of a latent on its way: a linear map from channels to colours.

use candle_core::{DType, Tensor};

use crate::latent_format::LatentFormat;
use crate::{Error, Result};

/// A picture of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Width in pixels: one a latent pixel.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Red, green, blue of each pixel, row by row.
    pub rgb: Vec<u8>,
}

/// A preview of the first picture (and first frame) of a latent `[B, C, H, W]` or `[B, C, T, H, W]`
/// in model space; `None` if the format has no colours.
pub fn latent_to_rgb(latent: &Tensor, format: &LatentFormat) -> Result<Option<Preview>> {
    let Some(factors) = format.rgb_factors else { return Ok(None) };
    let picture = latent.get(0)?.to_dtype(DType::F32)?;
    let picture = if picture.rank() == 4 { picture.narrow(1, 0, 1)?.squeeze(1)? } else { picture };
    let picture = unpack(picture, factors.len())?;
    let (channels, height, width) = picture.dims3()?;
    if channels != factors.len() {
        let expected = format!("[B, {}, …] ({})", factors.len(), format.name);
        return Err(Error::shape("latent to preview", expected, latent.dims()));
    }
    let colours: Vec<f32> = (0..3).flat_map(|c| factors.iter().map(move |row| colour(row, c))).collect();
    let map = Tensor::from_vec(colours, (3, channels), picture.device())?;
    let bias = format.rgb_bias.map(|b| b as f32);
    let bias = Tensor::new(&bias, picture.device())?.reshape((3, 1))?;
    let rgb = map.matmul(&picture.reshape((channels, height * width))?)?.broadcast_add(&bias)?;
    let bytes = rgb.affine(0.5, 0.5)?.clamp(0f32, 1f32)?.affine(255.0, 0.0)?.t()?;
    let rgb = bytes.contiguous()?.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|v| v as u8).collect();
    Ok(Some(Preview { width, height, rgb }))
}

fn colour(row: &[f64; 3], index: usize) -> f32 {
    row.get(index).copied().unwrap_or(0.0) as f32
}

/// A latent with four times the channels that colours are known for is a 2×2 packing of one with as
/// many.
fn unpack(picture: Tensor, channels: usize) -> Result<Tensor> {
    let (packed, height, width) = picture.dims3()?;
    if packed != channels * 4 {
        return Ok(picture);
    }
    let spread = picture.reshape((channels, 2, 2, height, width))?.permute((0, 3, 1, 4, 2))?;
    Ok(spread.contiguous()?.reshape((channels, height * 2, width * 2))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn an_empty_latent_is_the_middle_of_its_bias() -> Result<()> {
        let format = LatentFormat::by_name("SD15")?;
        let latent = Tensor::zeros((2, 4, 3, 5), DType::F32, &Device::Cpu)?;
        let preview = latent_to_rgb(&latent, format)?;
        assert_eq!(preview, Some(Preview { width: 5, height: 3, rgb: vec![127; 45] }));
        Ok(())
    }

    #[test]
    fn packed_latents_are_unpacked_and_video_shows_its_first_frame() -> Result<()> {
        let latent = Tensor::zeros((1, 128, 2, 2), DType::F32, &Device::Cpu)?;
        let preview = latent_to_rgb(&latent, LatentFormat::by_name("Flux2")?)?;
        assert!(preview.is_some_and(|p| (p.width, p.height) == (4, 4)));
        let latent = Tensor::zeros((1, 16, 3, 2, 2), DType::F32, &Device::Cpu)?;
        let preview = latent_to_rgb(&latent, LatentFormat::by_name("Wan21")?)?;
        assert!(preview.is_some_and(|p| (p.width, p.height) == (2, 2)));
        Ok(())
    }

    #[test]
    fn formats_without_colours_have_no_preview() -> Result<()> {
        let latent = Tensor::zeros((1, 64, 10), DType::F32, &Device::Cpu)?;
        assert_eq!(latent_to_rgb(&latent, LatentFormat::by_name("StableAudio1")?)?, None);
        Ok(())
    }
}
