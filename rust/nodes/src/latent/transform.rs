//! Latents scaled, flipped, rotated, cropped and put onto each other.

use crate::prelude::*;
use candle_core::Tensor;

use crate::picture::resize::{resize_cropped, round_half_even};

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "LatentUpscale", latent_upscale_schema, latent_upscale);
    add(registry, "LatentUpscaleBy", latent_upscale_by_schema, latent_upscale_by);
}

/// The same latent with other samples.
pub(crate) fn with_samples(latent: &Latent, samples: Tensor) -> NodeOutput {
    NodeOutput::one(Value::latent(Latent { samples, ..latent.clone() }))
}

/// (height, width) of the samples.
fn plane(samples: &Tensor) -> Result<(usize, usize), NodeError> {
    match samples.dims() {
        [.., height, width] => Ok((*height, *width)),
        dims => Err(NodeError::value(format!("a latent of shape {dims:?} has no height and width"))),
    }
}

/// Resizes `[B, C, H, W]` or `[B, C, T, H, W]`.
pub(crate) fn resize_samples(
    samples: &Tensor,
    height: usize,
    width: usize,
    method: Method,
    crop: &str,
) -> Result<Tensor, NodeError> {
    let last = match samples.rank() {
        4 => samples.permute((0, 2, 3, 1))?,
        5 => samples.permute((0, 2, 3, 4, 1))?.flatten(0, 1)?,
        _ => return Err(NodeError::value(format!("cannot resize a latent of shape {:?}", samples.dims()))),
    };
    let pixels = Pixels::from_image(&last.contiguous()?)?;
    let resized = resize_cropped(&pixels, height, width, method, crop)?.into_image()?;
    Ok(match samples.dims() {
        [batch, channels, frames, ..] if samples.rank() == 5 => resized
            .reshape((*batch, *frames, height, width, *channels))?
            .permute((0, 4, 1, 2, 3))?
            .contiguous()?,
        _ => resized.permute((0, 3, 1, 2))?.contiguous()?,
    })
}

fn latent_upscale_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentUpscale", "latent")
        .display("Upscale Latent")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::combo("upscale_method", LATENT_RESIZES).bare())
        .input(int("width", 512, 0, MAX_RESOLUTION).step(8))
        .input(int("height", 512, 0, MAX_RESOLUTION).step(8))
        .input(InputSpec::combo("crop", CROPS).bare())
        .output(OutputSpec::new("LATENT"))
}
fn latent_upscale(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let (mut width, mut height) = (inputs.size("width")?, inputs.size("height")?);
    if width == 0 && height == 0 {
        return Ok(NodeOutput::one(Value::Latent(latent.clone())));
    }
    let (old_height, old_width) = plane(&latent.samples)?;
    // A zero side keeps the aspect ratio; no side is below 64 pixels.
    if width == 0 {
        height = height.max(64);
        width = round_half_even(old_width as f64 * height as f64 / old_height as f64).max(64);
    } else if height == 0 {
        width = width.max(64);
        height = round_half_even(old_height as f64 * width as f64 / old_width as f64).max(64);
    } else {
        width = width.max(64);
        height = height.max(64);
    }
    let method = Method::parse(inputs.str("upscale_method")?)?;
    let samples = resize_samples(&latent.samples, height / 8, width / 8, method, inputs.str("crop")?)?;
    Ok(with_samples(latent, samples))
}

fn latent_upscale_by_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentUpscaleBy", "latent")
        .display("Upscale Latent By")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::combo("upscale_method", LATENT_RESIZES).bare())
        .input(float("scale_by", 1.5, 0.01, 8.0).step(0.01))
        .output(OutputSpec::new("LATENT"))
}
fn latent_upscale_by(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let by = inputs.float("scale_by")?;
    let (height, width) = plane(&latent.samples)?;
    let (height, width) = (round_half_even(height as f64 * by), round_half_even(width as f64 * by));
    let method = Method::parse(inputs.str("upscale_method")?)?;
    Ok(with_samples(latent, resize_samples(&latent.samples, height, width, method, "disabled")?))
}
