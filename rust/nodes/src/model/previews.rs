//! Pictures of steps: from the latent's colours, or by a tiny decoder.

use bytes::Bytes;
use rushlight_diffusion::Error;
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::models::taesd::Taesd;
use rushlight_diffusion::preview::latent_to_rgb;
use rushlight_diffusion::samplers::Step;
use rushlight_diffusion::weights::Weights;
use rushlight_protocol::frame::ImageFormat;
use rushlight_runtime::context::PreviewMethod;

use super::objects::engine;
use super::residency::open;
use crate::picture::encode::jpeg;
use crate::picture::resize::resize;
use crate::prelude::*;

/// Quality of preview JPEGs.
const PREVIEW_QUALITY: u8 = 95;

/// What makes the pictures of one run.
pub(crate) struct Previewer {
    format: &'static LatentFormat,
    decoder: Option<Taesd>,
}

impl Previewer {
    /// For latents of a format. Where a tiny decoder is asked for and there is none, the latent's colours are used.
    pub(crate) fn new(ctx: &NodeContext, format: &'static LatentFormat) -> Self {
        let decoder = match ctx.run.preview_method {
            PreviewMethod::Taesd => tiny_decoder(ctx, format).unwrap_or_else(|error| {
                tracing::warn!(%error, "the preview decoder cannot be used");
                None
            }),
            _ => None,
        };
        Self { format, decoder }
    }

    /// Tells of a step: progress with a preview; ends the run if it was interrupted.
    pub(crate) fn report(&self, ctx: &NodeContext, step: &Step<'_>) -> Result<(), Error> {
        // A preview that cannot be made is no reason to end a run.
        let picture = self.picture(ctx, step.denoised).unwrap_or_else(|error| {
            tracing::debug!(%error, "no preview");
            None
        });
        let picture = picture.map(|bytes| (ImageFormat::Jpeg, bytes));
        ctx.progress(step.index as u64 + 1, step.total as u64, picture).map_err(|_| Error::Cancelled)
    }

    /// A JPEG of the first picture of a latent in model space, as large as previews may be.
    fn picture(&self, ctx: &NodeContext, latent: &Tensor) -> Result<Option<Bytes>, NodeError> {
        if ctx.run.preview_method == PreviewMethod::None {
            return Ok(None);
        }
        let pixels = match &self.decoder {
            Some(decoder) => decoded(decoder, latent)?,
            None => {
                let Some(small) = latent_to_rgb(latent, self.format).map_err(engine)? else {
                    return Ok(None);
                };
                Pixels {
                    batch: 1,
                    height: small.height,
                    width: small.width,
                    channels: 3,
                    data: small.rgb.iter().map(|byte| f32::from(*byte) / 255.0).collect(),
                }
            }
        };
        let longest = pixels.width.max(pixels.height).max(1);
        let by = f64::from(ctx.run.preview_size) / longest as f64;
        let side = |pixels: usize| ((pixels as f64 * by).round() as usize).max(1);
        let pixels = resize(&pixels, side(pixels.height), side(pixels.width), Method::Bilinear)?;
        let bytes: Vec<u8> =
            pixels.data.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
        Ok(Some(jpeg(&bytes, (pixels.height, pixels.width), PREVIEW_QUALITY)?.into()))
    }
}

/// The first picture of a latent `[B, C, h, w]` by a tiny decoder.
fn decoded(decoder: &Taesd, latent: &Tensor) -> Result<Pixels, NodeError> {
    let first = latent.narrow(0, 0, 1)?.to_dtype(candle_core::DType::F32)?.contiguous()?;
    let pixels = decoder.forward(&first).map_err(engine)?.permute((0, 2, 3, 1))?.contiguous()?;
    Ok(Pixels::from_image(&pixels)?.map(|value| value.clamp(0.0, 1.0)))
}

/// The file of a list whose name begins with `stem`.
pub(crate) fn approximation(host: &dyn Host, stem: &str) -> Option<String> {
    host.model_names("vae_approx").into_iter().find(|name| {
        let file = name.rsplit('/').next().unwrap_or(name);
        file.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The tiny decoder of a format from the `vae_approx` folder, `None` when there is none.
fn tiny_decoder(ctx: &NodeContext, format: &LatentFormat) -> Result<Option<Taesd>, NodeError> {
    let Some(name) = format.taesd.and_then(|stem| approximation(ctx.host(), stem)) else { return Ok(None) };
    let dict = open(&ctx.host().model("vae_approx", &name)?, &name)?;
    let weights = Weights::new(dict, candle_core::DType::F32, ctx.device());
    Taesd::decoder(&weights).map(Some).map_err(engine)
}
