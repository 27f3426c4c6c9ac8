//! Nodes that change a model's noise levels and what its output means.

use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::sampling::{ModelSampling, Prediction};

use super::objects::{engine, model, model_value};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ModelSamplingDiscrete", model_sampling_discrete_schema, model_sampling_discrete);
    add(
        registry,
        "ModelSamplingContinuousEDM",
        model_sampling_continuous_edm_schema,
        model_sampling_continuous_edm,
    );
    add(
        registry,
        "ModelSamplingContinuousV",
        model_sampling_continuous_v_schema,
        model_sampling_continuous_v,
    );
    add(
        registry,
        "ModelSamplingStableCascade",
        model_sampling_stable_cascade_schema,
        model_sampling_stable_cascade,
    );
    add(registry, "ModelSamplingSD3", model_sampling_sd3_schema, model_sampling_sd3);
    add(registry, "ModelSamplingAuraFlow", model_sampling_aura_flow_schema, model_sampling_aura_flow);
    add(registry, "ModelSamplingFlux", model_sampling_flux_schema, model_sampling_flux);
    add(registry, "ModelSamplingLTXV", model_sampling_ltxv_schema, model_sampling_ltxv);
}

fn resampled(inputs: &Inputs, sampling: ModelSampling) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(model_value(Model { sampling, ..model(inputs, "model")?.clone() })))
}

fn unsupported(what: &str) -> NodeError {
    NodeError::new("NotImplementedError", format!("sampling '{what}' is not supported by this server"))
}

fn model_sampling_discrete_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingDiscrete", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(InputSpec::combo("sampling", ["eps", "v_prediction", "lcm", "x0", "img_to_img"]).bare())
        .input(boolean("zsnr", false))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_discrete(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let prediction = match inputs.str("sampling")? {
        "eps" => Prediction::Eps,
        "v_prediction" => Prediction::V,
        "lcm" => Prediction::Lcm,
        "x0" => Prediction::X0,
        other => return Err(unsupported(other)),
    };
    let mut sampling = match inputs.bool("zsnr")? {
        true => ModelSampling::stable_diffusion_zero_snr(prediction),
        false => ModelSampling::stable_diffusion(prediction),
    };
    if matches!(prediction, Prediction::Lcm) {
        // Latent consistency models were distilled on every twentieth timestep.
        sampling = sampling.distilled(50);
    }
    resampled(inputs, sampling)
}

fn model_sampling_continuous_edm_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingContinuousEDM", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(
            InputSpec::combo(
                "sampling",
                ["v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow"],
            )
            .bare(),
        )
        .input(float("sigma_max", 120.0, 0.0, 1000.0).opt("round", false).step(0.001))
        .input(float("sigma_min", 0.002, 0.0, 1000.0).opt("round", false).step(0.001))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_continuous_edm(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (prediction, sigma_data) = match inputs.str("sampling")? {
        "eps" => (Prediction::Eps, 1.0),
        "v_prediction" => (Prediction::V, 1.0),
        "edm" | "edm_playground_v2.5" => (Prediction::Edm, 0.5),
        "cosmos_rflow" => (Prediction::ScaledFlow, 1.0),
        other => return Err(unsupported(other)),
    };
    let (min, max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    if prediction == Prediction::ScaledFlow {
        return resampled(inputs, ModelSampling::continuous_flow(min, max));
    }
    if inputs.str("sampling")? == "edm_playground_v2.5" {
        // Its latents are normalised a channel.
        let sampling = ModelSampling::continuous_edm(prediction, min, max, sigma_data);
        let latent_format = LatentFormat::by_name("SDXL_Playground_2_5").map_err(engine)?;
        let model = Model { sampling, latent_format, ..model(inputs, "model")?.clone() };
        return Ok(NodeOutput::one(model_value(model)));
    }
    resampled(inputs, ModelSampling::continuous_edm(prediction, min, max, sigma_data))
}

fn model_sampling_continuous_v_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingContinuousV", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(InputSpec::combo("sampling", ["v_prediction"]).bare())
        .input(float("sigma_max", 500.0, 0.0, 1000.0).opt("round", false).step(0.001))
        .input(float("sigma_min", 0.03, 0.0, 1000.0).opt("round", false).step(0.001))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_continuous_v(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (min, max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    resampled(inputs, ModelSampling::continuous_v(Prediction::V, min, max, 1.0))
}

fn model_sampling_stable_cascade_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingStableCascade", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(float("shift", 2.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_stable_cascade(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    resampled(inputs, ModelSampling::cosine(Prediction::Eps, inputs.float("shift")?))
}

fn model_sampling_sd3_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingSD3", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(float("shift", 3.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_sd3(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    resampled(inputs, ModelSampling::flow(inputs.float("shift")?, 1000.0))
}

fn model_sampling_aura_flow_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingAuraFlow", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(float("shift", 1.73, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_aura_flow(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    resampled(inputs, ModelSampling::flow(inputs.float("shift")?, 1.0))
}

fn model_sampling_flux_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelSamplingFlux", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(float("max_shift", 1.15, 0.0, 100.0).step(0.01))
        .input(float("base_shift", 0.5, 0.0, 100.0).step(0.01))
        .input(int("width", 1024, 16, MAX_RESOLUTION).step(8))
        .input(int("height", 1024, 16, MAX_RESOLUTION).step(8))
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_flux(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // Tokens of 16x16 pixels; the shift grows linearly with their number.
    let tokens = (inputs.float("width")? * inputs.float("height")?) / 256.0;
    resampled(inputs, ModelSampling::flux(shift_for(inputs, tokens, 256.0)?))
}

fn model_sampling_ltxv_schema(_: &dyn Host) -> NodeSchema {
    v3("ModelSamplingLTXV", "advanced/model", "lt")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("max_shift", 2.05, 0.0, 100.0).step(0.01))
        .input(float("base_shift", 0.95, 0.0, 100.0).step(0.01))
        .input(InputSpec::new("latent", "LATENT").optional())
        .output(OutputSpec::new("MODEL"))
}
fn model_sampling_ltxv(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let tokens = match inputs.present("latent") {
        Some(_) => inputs.latent("latent")?.samples.dims().iter().skip(2).product(),
        None => 4096,
    };
    resampled(inputs, ModelSampling::flux(shift_for(inputs, tokens as f64, 1024.0)?))
}

/// The shift on the line through `base_shift` at `least` tokens and `max_shift` at 4,096.
fn shift_for(inputs: &Inputs, tokens: f64, least: f64) -> Result<f64, NodeError> {
    let (base, max) = (inputs.float("base_shift")?, inputs.float("max_shift")?);
    Ok((tokens - least) * (max - base) / (4096.0 - least) + base)
}
