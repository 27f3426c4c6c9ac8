//! KSampler and KSamplerAdvanced.

use rushlight_diffusion::model::Model;
use rushlight_diffusion::sample::KSampler;

use super::objects::{conditioning, engine, model};
use super::previews::Previewer;
use crate::latent::transform::with_samples;
use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "KSampler", k_sampler_schema, k_sampler);
    add(registry, "KSamplerAdvanced", k_sampler_advanced_schema, k_sampler_advanced);
}

/// Checks that the feature maps of one step can be in memory. What they take at least is three maps of the latent's
/// size in the network's narrowest width: what goes into a block, what comes out, and a skip connection.
pub(crate) fn check_room(model: &Model, samples: &Tensor) -> Result<(), NodeError> {
    if !model.network.device().is_cpu() {
        return Ok(());
    }
    let weights = model.network.weights();
    let shape = weights.and_then(|weights| weights.dict().shape("input_blocks.0.0.weight"));
    let channels = shape.and_then(|shape| shape.first().copied()).unwrap_or(0);
    let planes: Vec<usize> =
        samples.dims().iter().enumerate().filter(|(dim, _)| *dim != 1).map(|(_, n)| *n).collect();
    let places = planes.iter().fold(1u64, |product, side| product.saturating_mul(*side as u64));
    let bytes = places.saturating_mul(channels as u64 * 3 * size_of::<f32>() as u64);
    match memory::is_free(bytes) {
        true => Ok(()),
        false => Err(memory::exhausted(format!(
            "sampling a latent of shape {:?} needs at least {} for the network's feature maps, which is not free",
            samples.dims(),
            memory::gibibytes(bytes)
        ))),
    }
}

fn run(ctx: &NodeContext, latent: &Latent, sampler: &KSampler<'_>) -> Result<NodeOutput, NodeError> {
    check_room(sampler.model, sampler.latent)?;
    let previewer = Previewer::new(ctx, sampler.model.latent_format);
    let samples = sampler.run(&mut |step| previewer.report(ctx, step)).map_err(engine)?;
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
/// What both samplers take from their inputs: a whole schedule from new noise of the input `seed_name`.
fn common<'a>(inputs: &'a Inputs, latent: &'a Latent, seed_name: &str) -> Result<KSampler<'a>, NodeError> {
    Ok(KSampler {
        model: model(inputs, "model")?,
        positive: conditioning(inputs, "positive")?,
        negative: conditioning(inputs, "negative")?,
        cfg: inputs.float("cfg")?,
        sampler: inputs.str("sampler_name")?,
        scheduler: inputs.str("scheduler")?,
        steps: inputs.size("steps")?,
        denoise: 1.0,
        seed: seed(inputs, seed_name)?,
        latent: &latent.samples,
        noise_mask: latent.noise_mask.as_ref(),
        batch_index: latent.batch_index.as_deref(),
        start_step: None,
        last_step: None,
        force_full_denoise: false,
        disable_noise: false,
    })
}

fn k_sampler(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("latent_image")?;
    let sampler = KSampler { denoise: inputs.float("denoise")?, ..common(inputs, latent, "seed")? };
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
        start_step: Some(inputs.size("start_at_step")?),
        last_step: Some(inputs.size("end_at_step")?),
        force_full_denoise: inputs.str("return_with_leftover_noise")? == "disable",
        disable_noise: inputs.str("add_noise")? == "disable",
        ..common(inputs, latent, "noise_seed")?
    };
    run(ctx, latent, &sampler)
}
