//! Nodes for guidance beyond two predictions, and for masks that change from step to step.

use rushlight_diffusion::guidance::frequencies::scaled_frequencies;
use rushlight_diffusion::guidance::projected::{Projected, projected};
use rushlight_diffusion::guidance::{Guidance, functions};

use super::custom_sampling::guider;
use super::objects::{conditioning, model, model_value};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "PerpNeg", perp_neg_schema, perp_neg);
    add(registry, "PerpNegGuider", perp_neg_guider_schema, perp_neg_guider);
    add(registry, "SelfAttentionGuidance", self_attention_guidance_schema, self_attention_guidance);
    add(registry, "DifferentialDiffusion", differential_diffusion_schema, differential_diffusion);
    add(registry, "APG", apg_schema, apg);
    add(registry, "FreSca", fre_sca_schema, fre_sca);
    add(registry, "RenormCFG", renorm_cfg_schema, renorm_cfg);
}

fn perp_neg_schema(_: &dyn Host) -> NodeSchema {
    v3("PerpNeg", "_for_testing", "perpneg")
        .display("Perp-Neg (DEPRECATED by PerpNegGuider)")
        .extra("display_name", "Perp-Neg (DEPRECATED by PerpNegGuider)")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("empty_conditioning", "CONDITIONING"))
        .input(float("neg_scale", 1.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
        .extra("experimental", true)
        .extra("deprecated", true)
}
fn perp_neg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let empty = conditioning(inputs, "empty_conditioning")?.clone();
    model.guidance.perp_neg = Some((empty, inputs.float("neg_scale")?));
    Ok(NodeOutput::one(model_value(model)))
}

fn perp_neg_guider_schema(_: &dyn Host) -> NodeSchema {
    v3("PerpNegGuider", "_for_testing", "perpneg")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("positive", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(InputSpec::new("empty_conditioning", "CONDITIONING"))
        .input(float("cfg", 8.0, 0.0, 100.0).opt("round", 0.01).step(0.1))
        .input(float("neg_scale", 1.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("GUIDER"))
        .extra("experimental", true)
}
fn perp_neg_guider(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let guidance = Guidance::PerpNeg {
        positive: conditioning(inputs, "positive")?.clone(),
        negative: conditioning(inputs, "negative")?.clone(),
        empty: conditioning(inputs, "empty_conditioning")?.clone(),
        scale: inputs.float("cfg")?,
        negative_scale: inputs.float("neg_scale")?,
    };
    Ok(guider(model(inputs, "model")?, guidance))
}

fn self_attention_guidance_schema(_: &dyn Host) -> NodeSchema {
    v3("SelfAttentionGuidance", "_for_testing", "sag")
        .display("Self-Attention Guidance")
        .extra("display_name", "Self-Attention Guidance")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("scale", 0.5, -2.0, 5.0).step(0.01))
        .input(float("blur_sigma", 2.0, 0.0, 10.0).step(0.1))
        .output(OutputSpec::new("MODEL"))
        .extra("experimental", true)
}
fn self_attention_guidance(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let (scale, sigma) = (inputs.float("scale")?, inputs.float("blur_sigma")?);
    model.guidance.post.push(functions::self_attention(scale, sigma));
    Ok(NodeOutput::one(model_value(model)))
}

fn differential_diffusion_schema(_: &dyn Host) -> NodeSchema {
    v3("DifferentialDiffusion", "_for_testing", "differential_diffusion")
        .display("Differential Diffusion")
        .extra("display_name", "Differential Diffusion")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("strength", 1.0, 0.0, 1.0).step(0.01).optional())
        .output(OutputSpec::new("MODEL"))
        .extra("experimental", true)
}
fn differential_diffusion(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let strength = if inputs.present("strength").is_some() { inputs.float("strength")? } else { 1.0 };
    model.guidance.mask = Some(functions::differential_diffusion(strength));
    Ok(NodeOutput::one(model_value(model)))
}

fn apg_schema(_: &dyn Host) -> NodeSchema {
    v3("APG", "sampling/custom_sampling", "apg")
        .display("Adaptive Projected Guidance")
        .extra("display_name", "Adaptive Projected Guidance")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("eta", 1.0, -10.0, 10.0).step(0.01))
        .input(float("norm_threshold", 5.0, 0.0, 50.0).step(0.1))
        .input(float("momentum", 0.0, -5.0, 1.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn apg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    model.guidance.combine = Some(projected(Projected {
        eta: inputs.float("eta")?,
        norm_threshold: inputs.float("norm_threshold")?,
        momentum: inputs.float("momentum")?,
    }));
    Ok(NodeOutput::one(model_value(model)))
}

fn fre_sca_schema(_: &dyn Host) -> NodeSchema {
    v3("FreSca", "_for_testing", "fresca")
        .display("FreSca")
        .extra("display_name", "FreSca")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("scale_low", 1.0, 0, 10).step(0.01))
        .input(float("scale_high", 1.25, 0, 10).step(0.01))
        .input(int("freq_cutoff", 20, 1, 10000).step(1))
        .output(OutputSpec::new("MODEL"))
        .extra("experimental", true)
}
fn fre_sca(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let (low, high) = (inputs.float("scale_low")?, inputs.float("scale_high")?);
    model.guidance.positive = Some(scaled_frequencies(low, high, inputs.size("freq_cutoff")?));
    Ok(NodeOutput::one(model_value(model)))
}

fn renorm_cfg_schema(_: &dyn Host) -> NodeSchema {
    v3("RenormCFG", "advanced/model", "lumina2")
        .input(InputSpec::new("model", "MODEL"))
        .input(float("cfg_trunc", 100, 0.0, 100.0).step(0.01))
        .input(float("renorm_cfg", 1.0, 0.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn renorm_cfg(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut model = model(inputs, "model")?.clone();
    let (renorm, until) = (inputs.float("renorm_cfg")?, inputs.float("cfg_trunc")?);
    model.guidance.combine = Some(functions::renormed(renorm, until));
    Ok(NodeOutput::one(model_value(model)))
}
