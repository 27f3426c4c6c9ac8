//! Nodes that choose a sampler and set its numbers.

use std::sync::Arc;

use rushlight_diffusion::Error;
use rushlight_diffusion::samplers::SamplerOptions;
use rushlight_diffusion::samplers::dpm_solver::AdaptiveOptions;
use rushlight_diffusion::samplers::sa_solver::SaOptions;
use rushlight_diffusion::samplers::solver::{ResizeFn, Upscale};

use super::custom_sampling::SamplerChoice;
use crate::latent::transform::resize_samples;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "KSamplerSelect", k_sampler_select_schema, k_sampler_select);
    add(registry, "SamplerEulerAncestral", sampler_euler_ancestral_schema, sampler_euler_ancestral);
    add(
        registry,
        "SamplerEulerAncestralCFGPP",
        sampler_euler_ancestral_cfgpp_schema,
        sampler_euler_ancestral_cfgpp,
    );
    add(registry, "SamplerLMS", sampler_lms_schema, sampler_lms);
    add(
        registry,
        "SamplerDPMPP_2S_Ancestral",
        sampler_dpmpp_2_s_ancestral_schema,
        sampler_dpmpp_2_s_ancestral,
    );
    add(registry, "SamplerDPMPP_SDE", sampler_dpmpp_sde_schema, sampler_dpmpp_sde);
    add(registry, "SamplerDPMPP_2M_SDE", sampler_dpmpp_2_m_sde_schema, sampler_dpmpp_2_m_sde);
    add(registry, "SamplerDPMPP_3M_SDE", sampler_dpmpp_3_m_sde_schema, sampler_dpmpp_3_m_sde);
    add(registry, "SamplerDPMAdaptative", sampler_dpm_adaptative_schema, sampler_dpm_adaptative);
    add(registry, "SamplerER_SDE", sampler_er_sde_schema, sampler_er_sde);
    add(registry, "SamplerSEEDS2", sampler_seeds2_schema, sampler_seeds2);
    add(registry, "SamplerEulerCFGpp", sampler_euler_cf_gpp_schema, sampler_euler_cf_gpp);
    add(registry, "SamplerLCMUpscale", sampler_lcm_upscale_schema, sampler_lcm_upscale);
    add(registry, "SamplerSASolver", sampler_sa_solver_schema, sampler_sa_solver);
}

fn choose(name: &str, options: SamplerOptions) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(SamplerChoice::value(name, options)?))
}

/// Options with `eta` and `s_noise` from the inputs.
fn stochastic(inputs: &Inputs) -> Result<SamplerOptions, NodeError> {
    Ok(SamplerOptions {
        eta: Some(inputs.float("eta")?),
        s_noise: Some(inputs.float("s_noise")?),
        ..SamplerOptions::default()
    })
}

fn k_sampler_select_schema(_: &dyn Host) -> NodeSchema {
    v3("KSamplerSelect", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(choice("sampler_name", SAMPLERS))
        .output(OutputSpec::new("SAMPLER"))
}
fn k_sampler_select(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose(inputs.str("sampler_name")?, SamplerOptions::default())
}

fn sampler_euler_ancestral_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerEulerAncestral", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_euler_ancestral(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("euler_ancestral", stochastic(inputs)?)
}

fn sampler_euler_ancestral_cfgpp_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerEulerAncestralCFGPP", "sampling/custom_sampling/samplers", "custom_sampler")
        .display("SamplerEulerAncestralCFG++")
        .extra("display_name", "SamplerEulerAncestralCFG++")
        .input(float("eta", 1.0, 0.0, 1.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 10.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_euler_ancestral_cfgpp(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("euler_ancestral_cfg_pp", stochastic(inputs)?)
}

fn sampler_euler_cf_gpp_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerEulerCFGpp", "_for_testing", "advanced_samplers")
        .display("SamplerEulerCFG++")
        .extra("display_name", "SamplerEulerCFG++")
        .input(choice("version", ["regular", "alternative"]))
        .output(OutputSpec::new("SAMPLER"))
        .extra("experimental", true)
}
fn sampler_euler_cf_gpp(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = match inputs.str("version")? {
        "alternative" => "euler_cfg_pp_alternative",
        _ => "euler_cfg_pp",
    };
    choose(name, SamplerOptions::default())
}

/// A method as a function on latents and feature maps, on whichever device they are.
pub(crate) fn resizing(method: Method) -> ResizeFn {
    Arc::new(move |samples: &Tensor, height: usize, width: usize| {
        resize_samples(samples, height, width, method, "disabled")
            .and_then(|resized| Ok(resized.to_device(samples.device())?.to_dtype(samples.dtype())?))
            .map_err(|error| Error::Format { what: "resized latent".into(), reason: error.to_string() })
    })
}

fn sampler_lcm_upscale_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerLCMUpscale", "sampling/custom_sampling/samplers", "advanced_samplers")
        .input(float("scale_ratio", 1.0, 0.1, 20.0).step(0.01))
        .input(int("scale_steps", -1, -1, 1000).step(1))
        .input(choice("upscale_method", ["bislerp", "nearest-exact", "bilinear", "area", "bicubic"]))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_lcm_upscale(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let method = Method::parse(inputs.str("upscale_method")?)?;
    let upscale = Upscale {
        factor: inputs.float("scale_ratio")?,
        // Below 0 the sampler chooses.
        steps: usize::try_from(inputs.int("scale_steps")?).ok(),
        resize: resizing(method),
    };
    choose("lcm_upscale", SamplerOptions { upscale: Some(upscale), ..SamplerOptions::default() })
}

fn sampler_lms_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerLMS", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(int("order", 4, 1, 100))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_lms(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("lms", SamplerOptions { order: Some(inputs.size("order")?), ..SamplerOptions::default() })
}

fn sampler_dpmpp_2_s_ancestral_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerDPMPP_2S_Ancestral", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_dpmpp_2_s_ancestral(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("dpmpp_2s_ancestral", stochastic(inputs)?)
}

fn sampler_dpmpp_sde_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerDPMPP_SDE", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("r", 0.5, 0.0, 100.0).opt("round", false).step(0.01))
        .input(choice("noise_device", ["gpu", "cpu"]))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_dpmpp_sde(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("dpmpp_sde", SamplerOptions { r: Some(inputs.float("r")?), ..stochastic(inputs)? })
}

fn sampler_dpmpp_2_m_sde_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerDPMPP_2M_SDE", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(choice("solver_type", ["midpoint", "heun"]))
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(choice("noise_device", ["gpu", "cpu"]))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_dpmpp_2_m_sde(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let solver_type = Some(inputs.str("solver_type")?.to_owned());
    choose("dpmpp_2m_sde", SamplerOptions { solver_type, ..stochastic(inputs)? })
}

fn sampler_dpmpp_3_m_sde_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerDPMPP_3M_SDE", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(choice("noise_device", ["gpu", "cpu"]))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_dpmpp_3_m_sde(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    choose("dpmpp_3m_sde", stochastic(inputs)?)
}

fn sampler_dpm_adaptative_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerDPMAdaptative", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(int("order", 3, 2, 3))
        .input(float("rtol", 0.05, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("atol", 0.0078, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("h_init", 0.05, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("pcoeff", 0.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("icoeff", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("dcoeff", 0.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("accept_safety", 0.81, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("eta", 0.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_dpm_adaptative(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let adaptive = AdaptiveOptions {
        order: inputs.size("order")?,
        rtol: inputs.float("rtol")?,
        atol: inputs.float("atol")?,
        h_init: inputs.float("h_init")?,
        pcoeff: inputs.float("pcoeff")?,
        icoeff: inputs.float("icoeff")?,
        dcoeff: inputs.float("dcoeff")?,
        accept_safety: inputs.float("accept_safety")?,
    };
    choose("dpm_adaptive", SamplerOptions { adaptive: Some(adaptive), ..stochastic(inputs)? })
}

fn sampler_er_sde_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerER_SDE", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(choice("solver_type", ["ER-SDE", "Reverse-time SDE", "ODE"]))
        .input(int("max_stage", 3, 1, 3))
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_er_sde(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut options = stochastic(inputs)?;
    let solver = inputs.str("solver_type")?;
    // Without noise both stochastic forms are the same ordinary equation.
    if solver == "ODE" || (solver == "Reverse-time SDE" && options.eta == Some(0.0)) {
        options.eta = Some(0.0);
        options.s_noise = Some(0.0);
    }
    options.solver_type = Some(solver.to_owned());
    options.order = Some(inputs.size("max_stage")?);
    choose("er_sde", options)
}

fn sampler_seeds2_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerSEEDS2", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(choice("solver_type", ["phi_1", "phi_2"]))
        .input(float("eta", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(float("r", 0.5, 0.01, 1.0).opt("round", false).step(0.01))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_seeds2(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let options = SamplerOptions {
        r: Some(inputs.float("r")?),
        solver_type: Some(inputs.str("solver_type")?.to_owned()),
        ..stochastic(inputs)?
    };
    choose("seeds_2", options)
}

fn sampler_sa_solver_schema(_: &dyn Host) -> NodeSchema {
    v3("SamplerSASolver", "sampling/custom_sampling/samplers", "custom_sampler")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("eta", 1.0, 0.0, 10.0).opt("round", false).step(0.01))
        .input(float("sde_start_percent", 0.2, 0.0, 1.0).step(0.001))
        .input(float("sde_end_percent", 0.8, 0.0, 1.0).step(0.001))
        .input(float("s_noise", 1.0, 0.0, 100.0).opt("round", false).step(0.01))
        .input(int("predictor_order", 3, 1, 6))
        .input(int("corrector_order", 4, 0, 6))
        .input(InputSpec::new("use_pece", "BOOLEAN"))
        .input(InputSpec::new("simple_order_2", "BOOLEAN"))
        .output(OutputSpec::new("SAMPLER"))
}
fn sampler_sa_solver(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let sa_solver = SaOptions {
        start_percent: inputs.float("sde_start_percent")?,
        end_percent: inputs.float("sde_end_percent")?,
        predictor_order: inputs.size("predictor_order")?,
        corrector_order: inputs.size("corrector_order")?,
        pece: inputs.bool("use_pece")?,
        simple_order_2: inputs.bool("simple_order_2")?,
    };
    choose("sa_solver", SamplerOptions { sa_solver: Some(sa_solver), ..stochastic(inputs)? })
}
