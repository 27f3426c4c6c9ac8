//! KSampler and KSamplerAdvanced.

use bytes::Bytes;
use rushlight_diffusion::Error;
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::preview::latent_to_rgb;
use rushlight_diffusion::sample::KSampler;
use rushlight_diffusion::samplers::Step;
use rushlight_protocol::frame::ImageFormat;
use rushlight_runtime::context::PreviewMethod;

use super::objects::{conditioning, engine, model};
use crate::latent::transform::with_samples;
use crate::picture::encode::jpeg;
use crate::picture::resize::resize;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "KSampler", k_sampler_schema, k_sampler);
    add(registry, "KSamplerAdvanced", k_sampler_advanced_schema, k_sampler_advanced);
}

/// Quality of preview JPEGs.
const PREVIEW_QUALITY: u8 = 95;

/// A JPEG of the first picture of a latent in model space, as large as previews may be.
fn preview(ctx: &NodeContext, latent: &Tensor, format: &LatentFormat) -> Result<Option<Bytes>, NodeError> {
    if ctx.run.preview_method == PreviewMethod::None {
        return Ok(None);
    }
    let Some(small) = latent_to_rgb(latent, format).map_err(engine)? else { return Ok(None) };
    let longest = small.width.max(small.height).max(1);
    let by = f64::from(ctx.run.preview_size) / longest as f64;
    let side = |pixels: usize| ((pixels as f64 * by).round() as usize).max(1);
    let pixels = Pixels {
        batch: 1,
        height: small.height,
        width: small.width,
        channels: 3,
        data: small.rgb.iter().map(|byte| f32::from(*byte) / 255.0).collect(),
    };
    let pixels = resize(&pixels, side(small.height), side(small.width), Method::Bilinear)?;
    let bytes: Vec<u8> =
        pixels.data.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect();
    Ok(Some(jpeg(&bytes, (pixels.height, pixels.width), PREVIEW_QUALITY)?.into()))
}

/// Tells of a step: progress with a preview; ends the run if it was interrupted.
pub(crate) fn report(ctx: &NodeContext, step: &Step<'_>, format: &LatentFormat) -> Result<(), Error> {
    // A preview that cannot be made is no reason to end a run.
    let picture = preview(ctx, step.denoised, format).unwrap_or_else(|error| {
        tracing::debug!(%error, "no preview");
        None
    });
    let picture = picture.map(|bytes| (ImageFormat::Jpeg, bytes));
    ctx.progress(step.index as u64 + 1, step.total as u64, picture).map_err(|_| Error::Cancelled)
}

fn run(ctx: &NodeContext, latent: &Latent, sampler: &KSampler<'_>) -> Result<NodeOutput, NodeError> {
    let format = sampler.model.latent_format;
    let samples = sampler.run(&mut |step| report(ctx, step, format)).map_err(engine)?;
    Ok(with_samples(latent, samples.to_device(&candle_core::Device::Cpu)?))
}

/// A seed as the generator takes it: negative ones wrap around.
pub(crate) fn seed(inputs: &Inputs, name: &str) -> Result<u64, NodeError> {
    Ok(inputs.int(name)? as u64)
}

fn k_sampler_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("KSampler", "sampling")
        .input(InputSpec::new("model", "MODEL"))
        .input(int("seed", 0, 0, u64::MAX).opt("control_after_generate", true))
        .input(int("steps", 20, 1, 10000))
        .input(float("cfg", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(InputSpec::combo("sampler_name", SAMPLERS))
        .input(InputSpec::combo("scheduler", SCHEDULERS))
        .input(InputSpec::new("positive", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(InputSpec::new("latent_image", "LATENT"))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("LATENT"))
}
fn k_sampler(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("latent_image")?;
    let sampler = KSampler {
        model: model(inputs, "model")?,
        positive: conditioning(inputs, "positive")?,
        negative: conditioning(inputs, "negative")?,
        cfg: inputs.float("cfg")?,
        sampler: inputs.str("sampler_name")?,
        scheduler: inputs.str("scheduler")?,
        steps: inputs.size("steps")?,
        denoise: inputs.float("denoise")?,
        seed: seed(inputs, "seed")?,
        latent: &latent.samples,
        noise_mask: latent.noise_mask.as_ref(),
        batch_index: latent.batch_index.as_deref(),
        start_step: None,
        last_step: None,
        force_full_denoise: false,
        disable_noise: false,
    };
    run(ctx, latent, &sampler)
}

fn k_sampler_advanced_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("KSamplerAdvanced", "sampling")
        .display("KSampler (Advanced)")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(InputSpec::combo("add_noise", ["enable", "disable"]).bare())
        .input(int("noise_seed", 0, 0, u64::MAX).opt("control_after_generate", true))
        .input(int("steps", 20, 1, 10000))
        .input(float("cfg", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(InputSpec::combo("sampler_name", SAMPLERS).bare())
        .input(InputSpec::combo("scheduler", SCHEDULERS).bare())
        .input(InputSpec::new("positive", "CONDITIONING").bare())
        .input(InputSpec::new("negative", "CONDITIONING").bare())
        .input(InputSpec::new("latent_image", "LATENT").bare())
        .input(int("start_at_step", 0, 0, 10000))
        .input(int("end_at_step", 10000, 0, 10000))
        .input(InputSpec::combo("return_with_leftover_noise", ["disable", "enable"]).bare())
        .output(OutputSpec::new("LATENT"))
}
fn k_sampler_advanced(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("latent_image")?;
    let sampler = KSampler {
        model: model(inputs, "model")?,
        positive: conditioning(inputs, "positive")?,
        negative: conditioning(inputs, "negative")?,
        cfg: inputs.float("cfg")?,
        sampler: inputs.str("sampler_name")?,
        scheduler: inputs.str("scheduler")?,
        steps: inputs.size("steps")?,
        denoise: 1.0,
        seed: seed(inputs, "noise_seed")?,
        latent: &latent.samples,
        noise_mask: latent.noise_mask.as_ref(),
        batch_index: latent.batch_index.as_deref(),
        start_step: Some(inputs.size("start_at_step")?),
        last_step: Some(inputs.size("end_at_step")?),
        force_full_denoise: inputs.str("return_with_leftover_noise")? == "disable",
        disable_noise: inputs.str("add_noise")? == "disable",
    };
    run(ctx, latent, &sampler)
}
