//! Sampling from parts: noise, guiders, samplers, sigmas.

use rushlight_diffusion::guidance::Guidance;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::noise::prepare_noise;
use rushlight_diffusion::sample::{Run, fit_latent, sample};
use rushlight_diffusion::samplers::{Sampler, SamplerOptions};

use super::objects::{conditioning, engine, model};
use super::previews::Previewer;
use super::sampling::{check_room, seed};
use crate::latent::transform::with_samples;
use crate::prelude::*;
use crate::sigmas::sigmas;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "RandomNoise", random_noise_schema, random_noise);
    add(registry, "DisableNoise", disable_noise_schema, disable_noise);
    add(registry, "BasicGuider", basic_guider_schema, basic_guider);
    add(registry, "CFGGuider", cfg_guider_schema, cfg_guider);
    add(registry, "DualCFGGuider", dual_cfg_guider_schema, dual_cfg_guider);
    add(registry, "SamplerCustom", sampler_custom_schema, sampler_custom);
    add(registry, "SamplerCustomAdvanced", sampler_custom_advanced_schema, sampler_custom_advanced);
    add(registry, "AddNoise", add_noise_schema, add_noise);
}

/// A SAMPLER: which one, and the numbers set on it.
#[derive(Debug, Clone)]
pub(crate) struct SamplerChoice {
    /// The sampler.
    pub(crate) sampler: &'static Sampler,
    /// Its numbers.
    pub(crate) options: SamplerOptions,
}

impl SamplerChoice {
    /// A SAMPLER value.
    pub(crate) fn value(name: &str, options: SamplerOptions) -> Result<Value, NodeError> {
        let sampler = Sampler::by_name(name).map_err(engine)?;
        Ok(Value::object("SAMPLER", Self { sampler, options }))
    }
}

/// A NOISE: of a seed, or none.
#[derive(Debug, Clone, Copy)]
enum Noise {
    Seed(u64),
    None,
}

/// A GUIDER.
#[derive(Clone)]
struct GuiderParts {
    model: Model,
    guidance: Guidance,
}

/// Wraps a GUIDER.
pub(crate) fn guider(model: &Model, guidance: Guidance) -> NodeOutput {
    NodeOutput::one(Value::object("GUIDER", GuiderParts { model: model.clone(), guidance }))
}

fn random_noise_schema(_: &dyn Host) -> NodeSchema {
    v3("RandomNoise", "sampling/custom_sampling/noise", "custom_sampler")
        .input(int("noise_seed", 0, 0, u64::MAX).opt("control_after_generate", true))
        .output(OutputSpec::new("NOISE"))
}
fn random_noise(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::object("NOISE", Noise::Seed(seed(inputs, "noise_seed")?))))
}

fn disable_noise_schema(_: &dyn Host) -> NodeSchema {
    v3("DisableNoise", "sampling/custom_sampling/noise", "custom_sampler").output(OutputSpec::new("NOISE"))
}
fn disable_noise(_: &NodeContext, _: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::object("NOISE", Noise::None)))
}

fn basic_guider_schema(_: &dyn Host) -> NodeSchema {
    v3("BasicGuider", "sampling/custom_sampling/guiders", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("conditioning", "CONDITIONING"))
        .output(OutputSpec::new("GUIDER"))
}
fn basic_guider(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let positive = conditioning(inputs, "conditioning")?.clone();
    Ok(guider(model(inputs, "model")?, Guidance::Basic { positive }))
}

fn cfg_guider_schema(_: &dyn Host) -> NodeSchema {
    v3("CFGGuider", "sampling/custom_sampling/guiders", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("positive", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(float("cfg", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .output(OutputSpec::new("GUIDER"))
}
fn cfg_guider(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let guidance = Guidance::Cfg {
        positive: conditioning(inputs, "positive")?.clone(),
        negative: conditioning(inputs, "negative")?.clone(),
        scale: inputs.float("cfg")?,
    };
    Ok(guider(model(inputs, "model")?, guidance))
}

fn dual_cfg_guider_schema(_: &dyn Host) -> NodeSchema {
    v3("DualCFGGuider", "sampling/custom_sampling/guiders", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("cond1", "CONDITIONING"))
        .input(InputSpec::new("cond2", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(float("cfg_conds", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(float("cfg_cond2_negative", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(choice("style", ["regular", "nested"]))
        .output(OutputSpec::new("GUIDER"))
}
fn dual_cfg_guider(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let guidance = Guidance::Dual {
        first: conditioning(inputs, "cond1")?.clone(),
        second: conditioning(inputs, "cond2")?.clone(),
        negative: conditioning(inputs, "negative")?.clone(),
        first_scale: inputs.float("cfg_conds")?,
        second_scale: inputs.float("cfg_cond2_negative")?,
        nested: inputs.present("style").is_some() && inputs.str("style")? == "nested",
    };
    Ok(guider(model(inputs, "model")?, guidance))
}

/// Runs a sampler; the finished latent, and the last step's prediction of it.
fn run(
    ctx: &NodeContext,
    inputs: &Inputs,
    parts: &GuiderParts,
    noise: Noise,
) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("latent_image")?;
    let choice: &SamplerChoice = inputs.object("sampler", "SAMPLER")?;
    let sigmas = sigmas(inputs, "sigmas")?;
    let model = &parts.model;
    check_room(model, &latent.samples)?;
    let samples = fit_latent(&latent.samples, model).map_err(engine)?;
    if sigmas.is_empty() {
        let same = with_samples(latent, samples);
        let values: Vec<Value> = same.values.iter().cycle().take(2).cloned().collect();
        return Ok(NodeOutput::values(values));
    }
    let (seed, noise) = match noise {
        Noise::Seed(seed) => {
            (seed, prepare_noise(samples.dims(), seed, latent.batch_index.as_deref()).map_err(engine)?)
        }
        Noise::None => (0, samples.zeros_like()?),
    };
    let run = Run {
        model,
        guidance: &parts.guidance,
        sampler: choice.sampler,
        options: &choice.options,
        sigmas: &sigmas,
        seed,
        noise: &noise,
        latent: &samples,
        noise_mask: latent.noise_mask.as_ref(),
    };
    let previewer = Previewer::new(ctx, model.latent_format);
    let mut predicted = None;
    let finished = sample(&run, &mut |step| {
        predicted = Some(step.denoised.clone());
        previewer.report(ctx, step)
    })
    .map_err(engine)?;
    let predicted = match predicted {
        Some(predicted) => model.latent_format.process_out(&predicted).map_err(engine)?,
        None => finished.clone(),
    };
    let cpu = candle_core::Device::Cpu;
    let mut values = with_samples(latent, finished.to_device(&cpu)?).values;
    values.extend(with_samples(latent, predicted.to_device(&cpu)?).values);
    Ok(NodeOutput::values(values))
}

fn sampler_custom_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerCustom", "sampling/custom_sampling", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(boolean("add_noise", true))
        .input(int("noise_seed", 0, 0, u64::MAX).opt("control_after_generate", true))
        .input(float("cfg", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(InputSpec::new("positive", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(InputSpec::new("sampler", "SAMPLER"))
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(InputSpec::new("latent_image", "LATENT"))
        .output(OutputSpec::named("LATENT", "output"))
        .output(OutputSpec::named("LATENT", "denoised_output"))
}
fn sampler_custom(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let guidance = Guidance::Cfg {
        positive: conditioning(inputs, "positive")?.clone(),
        negative: conditioning(inputs, "negative")?.clone(),
        scale: inputs.float("cfg")?,
    };
    let parts = GuiderParts { model: model(inputs, "model")?.clone(), guidance };
    let noise =
        if inputs.bool("add_noise")? { Noise::Seed(seed(inputs, "noise_seed")?) } else { Noise::None };
    run(ctx, inputs, &parts, noise)
}

fn sampler_custom_advanced_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerCustomAdvanced", "sampling/custom_sampling", "custom_sampler")
        .input(InputSpec::new("noise", "NOISE"))
        .input(InputSpec::new("guider", "GUIDER"))
        .input(InputSpec::new("sampler", "SAMPLER"))
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(InputSpec::new("latent_image", "LATENT"))
        .output(OutputSpec::named("LATENT", "output"))
        .output(OutputSpec::named("LATENT", "denoised_output"))
}
fn sampler_custom_advanced(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let parts: &GuiderParts = inputs.object("guider", "GUIDER")?;
    let noise: &Noise = inputs.object("noise", "NOISE")?;
    run(ctx, inputs, parts, *noise)
}

fn add_noise_schema(_: &dyn Host) -> NodeSchema {
    v3("AddNoise", "_for_testing/custom_sampling/noise", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("noise", "NOISE"))
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(InputSpec::new("latent_image", "LATENT"))
        .output(OutputSpec::new("LATENT"))
        .extra("experimental", true)
}
fn add_noise(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("latent_image")?;
    let sigmas = sigmas(inputs, "sigmas")?;
    let (Some(first), Some(last)) = (sigmas.first(), sigmas.last()) else {
        return Ok(NodeOutput::one(Value::Latent(latent.clone())));
    };
    let model = model(inputs, "model")?;
    let noise = match inputs.object("noise", "NOISE")? {
        Noise::Seed(seed) => {
            prepare_noise(latent.samples.dims(), *seed, latent.batch_index.as_deref()).map_err(engine)?
        }
        Noise::None => latent.samples.zeros_like()?,
    };
    // From one level to another the variance of what is added is the difference; to 0 all of the first.
    let scale = if sigmas.len() > 1 { (first - last).abs() } else { *first };
    let format = model.latent_format;
    let samples = if latent.samples.abs()?.max_all()?.to_scalar::<f32>()? == 0.0 {
        latent.samples.clone()
    } else {
        format.process_in(&latent.samples).map_err(engine)?
    };
    let noised = model.sampling.noise_latent(scale, &noise, &samples, false).map_err(engine)?;
    Ok(with_samples(latent, format.process_out(&noised).map_err(engine)?))
}
