//! Nodes that multiply the projections of attention layers.

use std::sync::Arc;

use rushlight_diffusion::model::Model;
use rushlight_diffusion::weights::{Patch, PatchSet, Weights};

use super::objects::{clip, clip_value, model, model_value};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "UNetSelfAttentionMultiply", self_attention_schema, |_, inputs| unet(inputs, "attn1"));
    add(registry, "UNetCrossAttentionMultiply", cross_attention_schema, |_, inputs| unet(inputs, "attn2"));
    add(registry, "CLIPAttentionMultiply", clip_attention_multiply_schema, clip_attention_multiply);
}

/// A weight times the strength.
#[derive(Debug)]
struct Times;

impl Patch for Times {
    fn apply(&self, weight: &Tensor, strength: f64) -> rushlight_diffusion::Result<Tensor> {
        Ok((weight * strength)?)
    }
}

/// The patches of `own` with every weight and bias whose module ends with one of `modules` multiplied by its factor.
fn multiplied(own: &Weights, modules: &[(String, f64)]) -> PatchSet {
    let mut patches = own.patches().clone();
    for (name, _) in own.dict().iter() {
        let Some((module, _)) = name.rsplit_once('.') else { continue };
        for (suffix, factor) in modules {
            if module.ends_with(suffix.as_str()) && *factor != 1.0 {
                patches.add(name, *factor, Arc::new(Times));
            }
        }
    }
    patches
}

/// The factors of the inputs for the four projections, by the names that a network gives them.
fn factors(inputs: &Inputs, names: [String; 4]) -> Result<Vec<(String, f64)>, NodeError> {
    names
        .into_iter()
        .zip(["q", "k", "v", "out"])
        .map(|(name, input)| Ok((name, inputs.float(input)?)))
        .collect()
}

fn unet(inputs: &Inputs, attention: &str) -> Result<NodeOutput, NodeError> {
    let unsupported =
        || NodeError::new("NotImplementedError", "this kind of model has no attention layers to multiply");
    let model = model(inputs, "model")?;
    let names = ["to_q", "to_k", "to_v", "to_out.0"].map(|part| format!("{attention}.{part}"));
    let weights = model.network.weights().ok_or_else(unsupported)?;
    let patches = multiplied(weights, &factors(inputs, names)?);
    let network = model.network.with_patches(patches).ok_or_else(unsupported)?;
    Ok(NodeOutput::one(model_value(Model { network, ..model.clone() })))
}

fn with_factors(schema: NodeSchema) -> NodeSchema {
    ["q", "k", "v", "out"]
        .into_iter()
        .fold(schema, |schema, name| schema.input(float(name, 1.0, 0.0, 10.0).step(0.01)))
        .extra("experimental", true)
}

fn self_attention_schema(_: &dyn Host) -> NodeSchema {
    let schema = v3("UNetSelfAttentionMultiply", "_for_testing/attention_experiments", "attention_multiply")
        .input(InputSpec::new("model", "MODEL"))
        .output(OutputSpec::new("MODEL"));
    with_factors(schema)
}

fn cross_attention_schema(_: &dyn Host) -> NodeSchema {
    let schema = v3("UNetCrossAttentionMultiply", "_for_testing/attention_experiments", "attention_multiply")
        .input(InputSpec::new("model", "MODEL"))
        .output(OutputSpec::new("MODEL"));
    with_factors(schema)
}

fn clip_attention_multiply_schema(_: &dyn Host) -> NodeSchema {
    let schema = v3("CLIPAttentionMultiply", "_for_testing/attention_experiments", "attention_multiply")
        .input(InputSpec::new("clip", "CLIP"))
        .output(OutputSpec::new("CLIP"));
    with_factors(schema)
}
fn clip_attention_multiply(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let clip = clip(inputs, "clip")?;
    let names = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| format!("self_attn.{part}"));
    let factors = factors(inputs, names)?;
    let patches = clip.encoders().iter().map(|encoder| multiplied(encoder.weights(), &factors)).collect();
    Ok(NodeOutput::one(clip_value(clip.with_patches(patches))))
}
