//! Schedules and what is done to them.

use rushlight_diffusion::sampling::{scheduler_nodes as nodes, schedulers};

use crate::model::objects::{engine, model};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "BasicScheduler", basic_scheduler_schema, basic_scheduler);
    add(registry, "KarrasScheduler", karras_scheduler_schema, karras_scheduler);
    add(registry, "ExponentialScheduler", exponential_scheduler_schema, exponential_scheduler);
    add(registry, "PolyexponentialScheduler", polyexponential_scheduler_schema, polyexponential_scheduler);
    add(registry, "LaplaceScheduler", laplace_scheduler_schema, laplace_scheduler);
    add(registry, "VPScheduler", vp_scheduler_schema, vp_scheduler);
    add(registry, "BetaSamplingScheduler", beta_sampling_scheduler_schema, beta_sampling_scheduler);
    add(registry, "SDTurboScheduler", sd_turbo_scheduler_schema, sd_turbo_scheduler);
    add(registry, "AlignYourStepsScheduler", align_your_steps_scheduler_schema, align_your_steps_scheduler);
    add(registry, "GITSScheduler", gits_scheduler_schema, gits_scheduler);
    add(registry, "OptimalStepsScheduler", optimal_steps_scheduler_schema, optimal_steps_scheduler);
    add(registry, "LTXVScheduler", ltxv_scheduler_schema, ltxv_scheduler);
    add(registry, "Flux2Scheduler", flux2_scheduler_schema, flux2_scheduler);
    add(registry, "ManualSigmas", manual_sigmas_schema, manual_sigmas);
    add(registry, "SplitSigmas", split_sigmas_schema, split_sigmas);
    add(registry, "SplitSigmasDenoise", split_sigmas_denoise_schema, split_sigmas_denoise);
    add(registry, "FlipSigmas", flip_sigmas_schema, flip_sigmas);
    add(registry, "SetFirstSigma", set_first_sigma_schema, set_first_sigma);
    add(registry, "ExtendIntermediateSigmas", extend_intermediate_sigmas_schema, extend_intermediate_sigmas);
    add(registry, "SamplingPercentToSigma", sampling_percent_to_sigma_schema, sampling_percent_to_sigma);
}

/// Sigmas that a schedule may be extended to.
const MAX_SIGMAS: usize = 1_000_000;

/// The SIGMAS of an input.
pub(crate) fn sigmas(inputs: &Inputs, name: &str) -> Result<Vec<f64>, NodeError> {
    let values = crate::picture::pixels::values(inputs.sigmas(name)?)?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The number of steps of a schedule.
fn steps(inputs: &Inputs) -> Result<usize, NodeError> {
    let steps = inputs.size("steps")?;
    schedulers::check_steps(steps).map_err(engine)?;
    Ok(steps)
}

fn value(sigmas: Vec<f64>) -> Result<Value, NodeError> {
    let sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
    let length = sigmas.len();
    Ok(Value::Sigmas(crate::picture::pixels::tensor(sigmas, &[length])?))
}

fn output(sigmas: Vec<f64>) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(value(sigmas)?))
}

fn basic_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("BasicScheduler", "sampling/custom_sampling/schedulers", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(choice("scheduler", SCHEDULERS))
        .input(int("steps", 20, 1, 10000))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn basic_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (count, denoise) = (steps(inputs)?, inputs.float("denoise")?);
    if denoise <= 0.0 {
        return output(Vec::new());
    }
    // A part of the way is the end of a longer schedule.
    let total = if denoise < 1.0 { (count as f64 / denoise) as usize } else { count };
    let model = model(inputs, "model")?;
    let schedule = schedulers::schedule(&model.sampling, inputs.str("scheduler")?, total).map_err(engine)?;
    let start = schedule.len().saturating_sub(count + 1);
    output(schedule.get(start..).unwrap_or(&[]).to_vec())
}

/// The start of a schema of schedules between two levels.
fn between_levels(name: &str) -> NodeSchema {
    v3(name, "sampling/custom_sampling/schedulers", "custom_sampler")
        .input(int("steps", 20, 1, 10000))
        .input(float("sigma_max", 14.614642, 0.0, 5000.0).opt("round", false).step(0.01))
        .input(float("sigma_min", 0.0291675, 0.0, 5000.0).opt("round", false).step(0.01))
}

fn karras_scheduler_schema(_: &dyn Host) -> NodeSchema {
    between_levels("KarrasScheduler")
        .input(float("rho", 7.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn karras_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (min, max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    output(schedulers::karras(steps(inputs)?, min, max, inputs.float("rho")?))
}

fn exponential_scheduler_schema(_: &dyn Host) -> NodeSchema {
    between_levels("ExponentialScheduler").output(OutputSpec::new("SIGMAS"))
}
fn exponential_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(schedulers::exponential(steps(inputs)?, inputs.float("sigma_min")?, inputs.float("sigma_max")?))
}

fn polyexponential_scheduler_schema(_: &dyn Host) -> NodeSchema {
    between_levels("PolyexponentialScheduler")
        .input(float("rho", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn polyexponential_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (min, max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    output(nodes::polyexponential(steps(inputs)?, min, max, inputs.float("rho")?))
}

fn laplace_scheduler_schema(_: &dyn Host) -> NodeSchema {
    between_levels("LaplaceScheduler")
        .input(float("mu", 0.0, -10.0, 10.0).opt("round", false).step(0.1))
        .input(float("beta", 0.5, 0.0, 10.0).opt("round", false).step(0.1))
        .output(OutputSpec::new("SIGMAS"))
}
fn laplace_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (min, max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    output(nodes::laplace(steps(inputs)?, min, max, inputs.float("mu")?, inputs.float("beta")?))
}

fn vp_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("VPScheduler", "sampling/custom_sampling/schedulers", "custom_sampler")
        .input(int("steps", 20, 1, 10000))
        .input(float("beta_d", 19.9, 0.0, 5000.0).opt("round", false).step(0.01))
        .input(float("beta_min", 0.1, 0.0, 5000.0).opt("round", false).step(0.01))
        .input(float("eps_s", 0.001, 0.0, 1.0).opt("round", false).step(0.0001))
        .output(OutputSpec::new("SIGMAS"))
}
fn vp_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (beta_d, beta_min) = (inputs.float("beta_d")?, inputs.float("beta_min")?);
    output(nodes::variance_preserving(steps(inputs)?, beta_d, beta_min, inputs.float("eps_s")?))
}

fn beta_sampling_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("BetaSamplingScheduler", "sampling/custom_sampling/schedulers", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(int("steps", 20, 1, 10000))
        .input(float("alpha", 0.6, 0.0, 50.0).opt("round", false).step(0.01))
        .input(float("beta", 0.6, 0.0, 50.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn beta_sampling_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let model = model(inputs, "model")?;
    let (alpha, beta) = (inputs.float("alpha")?, inputs.float("beta")?);
    output(schedulers::beta(&model.sampling, steps(inputs)?, alpha, beta))
}

fn sd_turbo_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("SDTurboScheduler", "sampling/custom_sampling/schedulers", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(int("steps", 1, 1, 10))
        .input(float("denoise", 1.0, 0, 1.0).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn sd_turbo_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let model = model(inputs, "model")?;
    output(nodes::sd_turbo(&model.sampling, steps(inputs)?, inputs.float("denoise")?))
}

fn align_your_steps_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("AlignYourStepsScheduler", "sampling/custom_sampling/schedulers", "align_your_steps")
        .input(choice("model_type", ["SD1", "SDXL", "SVD"]))
        .input(int("steps", 10, 1, 10000))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn align_your_steps_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (count, denoise) = (steps(inputs)?, inputs.float("denoise")?);
    output(nodes::align_your_steps(inputs.str("model_type")?, count, denoise).map_err(engine)?)
}

fn gits_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("GITSScheduler", "sampling/custom_sampling/schedulers", "gits")
        .input(float("coeff", 1.2, 0.8, 1.5).step(0.05))
        .input(int("steps", 10, 2, 1000))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn gits_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let coefficient = inputs.float("coeff")?;
    output(nodes::gits(coefficient, steps(inputs)?, inputs.float("denoise")?).map_err(engine)?)
}

fn optimal_steps_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("OptimalStepsScheduler", "sampling/custom_sampling/schedulers", "optimalsteps")
        .input(choice("model_type", ["FLUX", "Wan", "Chroma"]))
        .input(int("steps", 20, 3, 1000))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("SIGMAS"))
}
fn optimal_steps_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (count, denoise) = (steps(inputs)?, inputs.float("denoise")?);
    output(nodes::optimal_steps(inputs.str("model_type")?, count, denoise).map_err(engine)?)
}

fn ltxv_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("LTXVScheduler", "sampling/custom_sampling/schedulers", "lt")
        .input(int("steps", 20, 1, 10000))
        .input(float("max_shift", 2.05, 0.0, 100.0).step(0.01))
        .input(float("base_shift", 0.95, 0.0, 100.0).step(0.01))
        .input(boolean("stretch", true))
        .input(float("terminal", 0.1, 0.0, 0.99).step(0.01))
        .input(InputSpec::new("latent", "LATENT").optional())
        .output(OutputSpec::new("SIGMAS"))
}
fn ltxv_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // Tokens of the latent, or of a usual one.
    let tokens = match inputs.present("latent") {
        Some(_) => Some(inputs.latent("latent")?.samples.dims().iter().skip(2).product()),
        None => None,
    };
    output(nodes::ltxv(
        steps(inputs)?,
        inputs.float("max_shift")?,
        inputs.float("base_shift")?,
        inputs.bool("stretch")?,
        inputs.float("terminal")?,
        tokens,
    ))
}

fn flux2_scheduler_schema(_: &dyn Host) -> NodeSchema {
    v3("Flux2Scheduler", "sampling/custom_sampling/schedulers", "flux")
        .input(int("steps", 20, 1, 4096))
        .input(int("width", 1024, 16, MAX_RESOLUTION).step(1))
        .input(int("height", 1024, 16, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("SIGMAS"))
}
fn flux2_scheduler(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(nodes::flux2(steps(inputs)?, inputs.size("width")?, inputs.size("height")?))
}

fn manual_sigmas_schema(_: &dyn Host) -> NodeSchema {
    v3("ManualSigmas", "_for_testing/custom_sampling", "custom_sampler")
        .input(line("sigmas", "1, 0.5"))
        .output(OutputSpec::new("SIGMAS"))
        .extra("experimental", true)
}
fn manual_sigmas(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(nodes::manual(inputs.str("sigmas")?))
}

fn split_sigmas_schema(_: &dyn Host) -> NodeSchema {
    v3("SplitSigmas", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(int("step", 0, 0, 10000))
        .output(OutputSpec::named("SIGMAS", "high_sigmas"))
        .output(OutputSpec::named("SIGMAS", "low_sigmas"))
}
fn split_sigmas(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (high, low) = nodes::split(&sigmas(inputs, "sigmas")?, inputs.size("step")?);
    Ok(NodeOutput::values([value(high)?, value(low)?]))
}

fn split_sigmas_denoise_schema(_: &dyn Host) -> NodeSchema {
    v3("SplitSigmasDenoise", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(float("denoise", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::named("SIGMAS", "high_sigmas"))
        .output(OutputSpec::named("SIGMAS", "low_sigmas"))
}
fn split_sigmas_denoise(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (high, low) = nodes::split_denoise(&sigmas(inputs, "sigmas")?, inputs.float("denoise")?);
    Ok(NodeOutput::values([value(high)?, value(low)?]))
}

fn flip_sigmas_schema(_: &dyn Host) -> NodeSchema {
    v3("FlipSigmas", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .output(OutputSpec::new("SIGMAS"))
}
fn flip_sigmas(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(nodes::flip(&sigmas(inputs, "sigmas")?))
}

fn set_first_sigma_schema(_: &dyn Host) -> NodeSchema {
    v3("SetFirstSigma", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(float("sigma", 136.0, 0.0, 20000.0).opt("round", false).step(0.001))
        .output(OutputSpec::new("SIGMAS"))
}
fn set_first_sigma(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(nodes::set_first(&sigmas(inputs, "sigmas")?, inputs.float("sigma")?))
}

fn extend_intermediate_sigmas_schema(_: &dyn Host) -> NodeSchema {
    v3("ExtendIntermediateSigmas", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("sigmas", "SIGMAS"))
        .input(int("steps", 2, 1, 100))
        .input(float("start_at_sigma", -1.0, -1.0, 20000.0).opt("round", false).step(0.01))
        .input(float("end_at_sigma", 12.0, 0.0, 20000.0).opt("round", false).step(0.01))
        .input(choice("spacing", ["linear", "cosine", "sine"]))
        .output(OutputSpec::new("SIGMAS"))
}
fn extend_intermediate_sigmas(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let sigmas = sigmas(inputs, "sigmas")?;
    // Each of a chain of these nodes multiplies their number.
    if sigmas.len().saturating_mul(steps(inputs)?) > MAX_SIGMAS {
        return Err(NodeError::value(format!("more than {MAX_SIGMAS} sigmas are too many")));
    }
    let extended = nodes::extend_intermediate(
        &sigmas,
        steps(inputs)?,
        inputs.float("start_at_sigma")?,
        inputs.float("end_at_sigma")?,
        inputs.str("spacing")?,
    );
    output(extended.map_err(engine)?)
}

fn sampling_percent_to_sigma_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplingPercentToSigma", "sampling/custom_sampling/sigmas", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("sampling_percent", 0.0, 0.0, 1.0).step(0.0001))
        .input(boolean("return_actual_sigma", false))
        .output(OutputSpec::named("FLOAT", "sigma_value"))
}
fn sampling_percent_to_sigma(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let sampling = &model(inputs, "model")?.sampling;
    let percent = inputs.float("sampling_percent")?;
    let sigma = match (inputs.bool("return_actual_sigma")?, percent) {
        // The ends are bounds of comparisons; these are the levels that a schedule has there.
        (true, 0.0) => sampling.sigma_max(),
        (true, 1.0) => sampling.sigma_min(),
        _ => sampling.percent_to_sigma(percent),
    };
    Ok(NodeOutput::one(Value::Float(sigma)))
}
