//! Nodes that change how a model is guided and run.

use std::sync::Arc;

use rushlight_diffusion::guidance::{CombineFn, Guided, functions};
use rushlight_diffusion::model::{FreeU, Hypertile, Model, Shrink};

use super::objects::{model, model_value};
use super::sampler_nodes::resizing;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "PatchModelAddDownscale", patch_model_add_downscale_schema, patch_model_add_downscale);
    add(registry, "FreeU", free_u_schema, free_u);
    add(registry, "FreeU_V2", free_u_v2_schema, free_u_v2);
    add(registry, "RescaleCFG", rescale_cfg_schema, rescale_cfg);
    add(registry, "CFGZeroStar", cfg_zero_star_schema, cfg_zero_star);
    add(registry, "CFGNorm", cfg_norm_schema, cfg_norm);
    add(registry, "TCFG", tcfg_schema, tcfg);
    add(registry, "Mahiro", mahiro_schema, mahiro);
    add(registry, "Epsilon Scaling", epsilon_scaling_schema, epsilon_scaling);
    add(registry, "TemporalScoreRescaling", temporal_score_rescaling_schema, temporal_score_rescaling);
    add(registry, "HyperTile", hyper_tile_schema, hyper_tile);
    add(
        registry,
        "PerturbedAttentionGuidance",
        perturbed_attention_guidance_schema,
        perturbed_attention_guidance,
    );
}

fn output(model: Model) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(model_value(model)))
}

fn patch_model_add_downscale_schema(_: &dyn Host) -> NodeSchema {
    let methods = ["bicubic", "nearest-exact", "bilinear", "area", "bislerp"];
    v3("PatchModelAddDownscale", "model_patches/unet", "model_downscale")
        .display("PatchModelAddDownscale (Kohya Deep Shrink)")
        .extra("display_name", "PatchModelAddDownscale (Kohya Deep Shrink)")
        .input(InputSpec::new("model", "MODEL"))
        .input(int("block_number", 3, 1, 32).step(1))
        .input(float("downscale_factor", 2.0, 0.1, 9.0).step(0.001))
        .input(float("start_percent", 0.0, 0.0, 1.0).step(0.001))
        .input(float("end_percent", 0.35, 0.0, 1.0).step(0.001))
        .input(boolean("downscale_after_skip", true))
        .input(choice("downscale_method", methods))
        .input(choice("upscale_method", methods))
        .output(OutputSpec::new("MODEL"))
}
fn patch_model_add_downscale(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let factor = inputs.float("downscale_factor")?;
    // Not zero, and nothing that would make a map of another order of size.
    if !(0.1..=1000.0).contains(&factor) {
        return Err(NodeError::value(format!("downscale_factor {factor} is not between 0.1 and 1000")));
    }
    model.forward.shrink = Some(Shrink {
        block: inputs.size("block_number")?,
        factor,
        after_skip: inputs.bool("downscale_after_skip")?,
        start_sigma: model.sampling.percent_to_sigma(inputs.float("start_percent")?),
        end_sigma: model.sampling.percent_to_sigma(inputs.float("end_percent")?),
        down: resizing(Method::parse(inputs.str("downscale_method")?)?),
        up: resizing(Method::parse(inputs.str("upscale_method")?)?),
    });
    output(model)
}

fn freeu(inputs: &Inputs, version2: bool) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    model.forward.freeu = Some(FreeU {
        b1: inputs.float("b1")?,
        b2: inputs.float("b2")?,
        s1: inputs.float("s1")?,
        s2: inputs.float("s2")?,
        version2,
    });
    output(model)
}

fn free_u_schema(_: &dyn Host) -> NodeSchema {
    v3("FreeU", "model_patches/unet", "freelunch")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("b1", 1.1, 0.0, 10.0).step(0.01))
        .input(float("b2", 1.2, 0.0, 10.0).step(0.01))
        .input(float("s1", 0.9, 0.0, 10.0).step(0.01))
        .input(float("s2", 0.2, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn free_u(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    freeu(inputs, false)
}

fn free_u_v2_schema(_: &dyn Host) -> NodeSchema {
    v3("FreeU_V2", "model_patches/unet", "freelunch")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("b1", 1.3, 0.0, 10.0).step(0.01))
        .input(float("b2", 1.4, 0.0, 10.0).step(0.01))
        .input(float("s1", 0.9, 0.0, 10.0).step(0.01))
        .input(float("s2", 0.2, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn free_u_v2(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    freeu(inputs, true)
}

/// The model with another way to combine its two predictions.
fn combined(inputs: &Inputs, combine: CombineFn) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    model.guidance.combine = Some(combine);
    output(model)
}

/// The model with one more step after guidance.
fn followed(inputs: &Inputs, post: CombineFn) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    model.guidance.post.push(post);
    output(model)
}

type Outcome = rushlight_diffusion::Result<Tensor>;

fn rescale_cfg_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("RescaleCFG", "advanced/model")
        .module("comfy_extras.nodes_model_advanced")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(float("multiplier", 0.7, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn rescale_cfg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let multiplier = inputs.float("multiplier")?;
    combined(inputs, functions::rescale_cfg(multiplier))
}

fn cfg_zero_star_schema(_: &dyn Host) -> NodeSchema {
    v3("CFGZeroStar", "advanced/guidance", "cfg")
        .input(InputSpec::new("model", "MODEL"))
        .output(OutputSpec::named("MODEL", "patched_model"))
}
fn cfg_zero_star(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    combined(inputs, functions::cfg_zero_star())
}

fn tcfg_schema(_: &dyn Host) -> NodeSchema {
    v3("TCFG", "advanced/guidance", "tcfg")
        .display("Tangential Damping CFG")
        .extra("display_name", "Tangential Damping CFG")
        .input(InputSpec::new("model", "MODEL"))
        .output(OutputSpec::named("MODEL", "patched_model"))
}
fn tcfg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    combined(inputs, functions::tangential_damping())
}

fn mahiro_schema(_: &dyn Host) -> NodeSchema {
    v3("Mahiro", "_for_testing", "mahiro")
        .display("Mahiro CFG")
        .extra("display_name", "Mahiro CFG")
        .input(InputSpec::new("model", "MODEL"))
        .output(OutputSpec::named("MODEL", "patched_model"))
        .extra("experimental", true)
}
fn mahiro(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    combined(inputs, functions::towards_positive())
}

fn epsilon_scaling_schema(_: &dyn Host) -> NodeSchema {
    v3("Epsilon Scaling", "model_patches/unet", "eps")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("scaling_factor", 1.005, 0.5, 1.5).opt("display", "number").step(0.001))
        .output(OutputSpec::new("MODEL"))
}
fn epsilon_scaling(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // Ning et al., arXiv 2308.15321.
    let divisor = inputs.float("scaling_factor")?;
    if divisor == 0.0 {
        return Err(NodeError::value("scaling_factor is 0"));
    }
    followed(inputs, functions::scaled_noise(move |_| 1.0 / divisor))
}

fn temporal_score_rescaling_schema(_: &dyn Host) -> NodeSchema {
    v3("TemporalScoreRescaling", "model_patches/unet", "eps")
        .display("TSR - Temporal Score Rescaling")
        .extra("display_name", "TSR - Temporal Score Rescaling")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("tsr_k", 0.95, 0.01, 100.0).opt("display", "number").step(0.001))
        .input(float("tsr_sigma", 1.0, 0.01, 100.0).opt("display", "number").step(0.001))
        .output(OutputSpec::named("MODEL", "patched_model"))
}
fn temporal_score_rescaling(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (k, deviation) = (inputs.float("tsr_k")?, inputs.float("tsr_sigma")?);
    let flow = model(inputs, "model")?.sampling.is_flow();
    // Temporal Score Rescaling: by the ratio of two signal-to-noise ratios.
    let factor = move |sigma: f64| {
        let alpha = if flow { 1.0 - sigma } else { 1.0 };
        let signal = (alpha / sigma.max(1e-12)).powi(2) * deviation.powi(2);
        (signal + 1.0) / (signal / k + 1.0)
    };
    followed(inputs, functions::scaled_noise(factor))
}

fn cfg_norm_schema(_: &dyn Host) -> NodeSchema {
    v3("CFGNorm", "advanced/guidance", "cfg")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("strength", 1.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::named("MODEL", "patched_model"))
        .extra("experimental", true)
}
fn cfg_norm(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let strength = inputs.float("strength")?;
    // The guided prediction is never longer than the positive one, place by place.
    let post = move |guided: &Guided<'_>| -> Outcome {
        let norm = |t: &Tensor| -> Outcome { Ok(t.sqr()?.sum_keepdim(1)?.sqrt()?) };
        let ratio = norm(guided.cond)?.div(&(norm(guided.denoised)? + 1e-8)?)?.clamp(0f32, 1f32)?;
        Ok((guided.denoised.broadcast_mul(&ratio)? * strength)?)
    };
    followed(inputs, Arc::new(post))
}

fn hyper_tile_schema(_: &dyn Host) -> NodeSchema {
    v3("HyperTile", "model_patches/unet", "hypertile")
        .input(InputSpec::new("model", "MODEL"))
        .input(int("tile_size", 256, 1, 2048))
        .input(int("swap_size", 2, 1, 128))
        .input(int("max_depth", 0, 0, 10))
        .input(boolean("scale_depth", false))
        .output(OutputSpec::new("MODEL"))
}
fn hyper_tile(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    model.forward.hypertile = Some(Hypertile {
        tile_size: inputs.size("tile_size")?,
        swap_size: inputs.size("swap_size")?,
        max_depth: inputs.size("max_depth")?,
        scale_depth: inputs.bool("scale_depth")?,
    });
    output(model)
}

fn perturbed_attention_guidance_schema(_: &dyn Host) -> NodeSchema {
    v3("PerturbedAttentionGuidance", "model_patches/unet", "pag")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("scale", 3.0, 0.0, 100.0).opt("round", 0.01).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn perturbed_attention_guidance(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    followed(inputs, functions::perturbed_attention(inputs.float("scale")?))
}
