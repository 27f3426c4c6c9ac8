//! What a network takes besides tokens, from the options of a conditioning entry.

use candle_core::{DType, Device, Tensor};

use super::mask::{repeat_to_batch, resize_bilinear};
use super::prepare::{Canvas, Side};
use crate::Result;
use crate::conditioning::{CondEntry, SizeConditioning};
use crate::model::{ConcatKind, Model, VectorKind};
use crate::models::layers::timestep_embedding;

/// Width of the sinusoidal embedding of each size number.
const SIZE_EMBEDDING: usize = 256;
/// Pixels to a latent pixel, for size conditioning that was not given.
const PIXELS: usize = 8;

/// The vector `y` `[B, A]` of an entry.
pub(super) fn vector(
    entry: &CondEntry,
    side: Side,
    model: &Model,
    canvas: &Canvas,
) -> Result<Option<Tensor>> {
    let pooled_width = 1280;
    let device = model.network.device();
    if let (VectorKind::UnClip, Some(augmentor)) = (model.vector, &model.noise_augmentor) {
        let vector = augmentor.merged(&entry.options.pictures, canvas.seed)?;
        return Ok(Some(repeat_to_batch(&vector.to_device(device)?, canvas.batch)?));
    }
    let pooled = match (&entry.pooled, model.vector) {
        (_, VectorKind::None | VectorKind::UnClip) => return Ok(None),
        (Some(pooled), _) => {
            repeat_to_batch(&pooled.to_device(device)?, canvas.batch)?.to_dtype(DType::F32)?
        }
        (None, VectorKind::Pooled) => return Ok(None),
        (None, _) => Tensor::zeros((canvas.batch, pooled_width), DType::F32, device)?,
    };
    let default = || {
        let (height, width) = ((canvas.height * PIXELS) as f64, (canvas.width * PIXELS) as f64);
        SizeConditioning {
            height,
            width,
            crop_y: 0.0,
            crop_x: 0.0,
            target_height: height,
            target_width: width,
        }
    };
    let size = entry.options.size.unwrap_or_else(default);
    let numbers = match model.vector {
        VectorKind::None | VectorKind::Pooled | VectorKind::UnClip => return Ok(Some(pooled)),
        VectorKind::Sdxl => {
            vec![size.height, size.width, size.crop_y, size.crop_x, size.target_height, size.target_width]
        }
        VectorKind::SdxlRefiner => {
            let usual = if side == Side::Positive { 6.0 } else { 2.5 };
            let score = entry.options.aesthetic_score.unwrap_or(usual);
            vec![size.height, size.width, size.crop_y, size.crop_x, score]
        }
    };
    let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
    let numbers = Tensor::new(numbers, device)?;
    let embedding = timestep_embedding(&numbers, SIZE_EMBEDDING)?.flatten_all()?.unsqueeze(0)?;
    Ok(Some(Tensor::cat(&[pooled, repeat_to_batch(&embedding, canvas.batch)?], 1)?))
}

/// What inpainting models see of a picture that is nowhere given: a flat latent of Stable Diffusion's autoencoder,
/// measured.
const BLANK_PICTURE: [f32; 4] = [0.8223, -0.6876, 0.6364, 0.1380];

/// The extra channels `[B, K, H, W]` of an entry.
pub(super) fn concat(entry: &CondEntry, model: &Model, canvas: &Canvas) -> Result<Option<Tensor>> {
    let device = model.network.device();
    let given = |latent: &Tensor| -> Result<Tensor> {
        let latent = latent.to_device(device)?.to_dtype(DType::F32)?;
        repeat_to_batch(&resize_bilinear(&latent, canvas.height, canvas.width)?, canvas.batch)
    };
    let latent = entry.options.concat_latent.as_ref();
    match model.concat {
        ConcatKind::None => Ok(None),
        ConcatKind::InstructPix2Pix => match latent {
            Some(latent) => Ok(Some(given(latent)?)),
            None => {
                let shape = (canvas.batch, model.latent_format.channels, canvas.height, canvas.width);
                Ok(Some(Tensor::zeros(shape, DType::F32, device)?))
            }
        },
        ConcatKind::Inpaint => {
            let mask = match (&entry.options.concat_mask, &canvas.noise_mask) {
                (Some(mask), _) => {
                    let (rows, columns) = (mask.dim(mask.rank() - 2)?, mask.dim(mask.rank() - 1)?);
                    let mask =
                        mask.to_device(device)?.to_dtype(DType::F32)?.reshape(((), 1, rows, columns))?;
                    let mask = resize_bilinear(&mask, canvas.height, canvas.width)?.round()?;
                    repeat_to_batch(&mask, canvas.batch)?
                }
                (None, Some(mask)) => repeat_to_batch(&mask.to_device(device)?, canvas.batch)?.round()?,
                (None, None) => {
                    Tensor::ones((canvas.batch, 1, canvas.height, canvas.width), DType::F32, device)?
                }
            };
            let latent = match (latent, &canvas.noise_mask) {
                (Some(latent), _) => given(&model.latent_format.process_in(latent)?)?,
                // With a mask the latent that is sampled is the picture, its masked part too.
                (None, Some(_)) => repeat_to_batch(&canvas.latent.to_device(device)?, canvas.batch)?,
                (None, None) => blank_picture(model.latent_format.channels, canvas, device)?,
            };
            Ok(Some(Tensor::cat(&[mask, latent], 1)?))
        }
    }
}

/// [`BLANK_PICTURE`] all over a canvas, zero in channels that it does not have: `[B, channels, H, W]`.
fn blank_picture(channels: usize, canvas: &Canvas, device: &Device) -> Result<Tensor> {
    let values = BLANK_PICTURE.into_iter().chain(std::iter::repeat(0.0)).take(channels);
    let values = Tensor::from_iter(values, device)?.reshape((1, channels, 1, 1))?;
    Ok(values.broadcast_as((canvas.batch, channels, canvas.height, canvas.width))?.contiguous()?)
}

/// Reference latents of an entry in model space.
pub(super) fn reference_latents(entry: &CondEntry, model: &Model, canvas: &Canvas) -> Result<Vec<Tensor>> {
    let bring = |latent: &Tensor| {
        let latent = latent.to_device(model.network.device())?.to_dtype(DType::F32)?;
        repeat_to_batch(&model.latent_format.process_in(&latent)?, canvas.batch)
    };
    entry.options.reference_latents.iter().map(bring).collect()
}
