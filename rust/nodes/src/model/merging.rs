//! Models and text encoders mixed with each other.

use std::sync::Arc;

use candle_core::{DType, Device};
use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::weights::{Patch, PatchSet, Weights};

use super::objects::{clip, clip_value, model, model_value};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ModelMergeSimple", model_merge_simple_schema, model_merge_simple);
    add(registry, "ModelMergeAdd", model_merge_add_schema, model_merge_add);
    add(registry, "ModelMergeSubtract", model_merge_subtract_schema, model_merge_subtract);
    add(registry, "CLIPMergeSimple", clip_merge_simple_schema, clip_merge_simple);
}

/// A weight times one factor plus the same weight of another model times another.
#[derive(Debug)]
struct Mix {
    other: Weights,
    name: String,
    own_factor: f64,
    other_factor: f64,
}

impl Patch for Mix {
    fn apply(&self, weight: &Tensor, strength: f64) -> rushlight_diffusion::Result<Tensor> {
        let other = self.other.get(&self.name)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        Ok(((weight * self.own_factor)? + (other * (self.other_factor * strength))?)?)
    }
}

/// The patches of `own` followed by a mix with every weight that `other` has in the same shape.
fn mixed(own: &Weights, other: &Weights, factors: impl Fn(&str) -> (f64, f64)) -> PatchSet {
    let mut patches = own.patches().clone();
    for (name, entry) in own.dict().iter() {
        if other.dict().shape(name) != Some(entry.shape()) || !other.contains(name) {
            continue;
        }
        let (own_factor, other_factor) = factors(name);
        if (own_factor, other_factor) != (1.0, 0.0) {
            let mix = Mix { other: other.clone(), name: name.to_owned(), own_factor, other_factor };
            patches.add(name, 1.0, Arc::new(mix));
        }
    }
    patches
}

fn merge_models(inputs: &Inputs, factors: impl Fn(&str) -> (f64, f64)) -> Result<NodeOutput, NodeError> {
    let (first, second) = (model(inputs, "model1")?, model(inputs, "model2")?);
    let unsupported =
        || NodeError::new("NotImplementedError", "merging is not supported for this kind of model");
    let own = first.network.weights().ok_or_else(unsupported)?;
    let other = second.network.weights().ok_or_else(unsupported)?;
    let network = first.network.with_patches(mixed(own, other, factors)).ok_or_else(unsupported)?;
    Ok(NodeOutput::one(model_value(Model { network, ..first.clone() })))
}

fn merge_clips(inputs: &Inputs, factors: impl Fn(&str) -> (f64, f64)) -> Result<NodeOutput, NodeError> {
    let (first, second): (&Clip, &Clip) = (clip(inputs, "clip1")?, clip(inputs, "clip2")?);
    let pairs = first.encoders().iter().zip(second.encoders());
    let patches = pairs.map(|(own, other)| mixed(own.weights(), other.weights(), &factors)).collect();
    Ok(NodeOutput::one(clip_value(first.with_patches(patches))))
}

fn model_merge_simple_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelMergeSimple", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("model1", "MODEL").bare())
        .input(InputSpec::new("model2", "MODEL").bare())
        .input(float("ratio", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_merge_simple(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let ratio = inputs.float("ratio")?;
    merge_models(inputs, |_| (ratio, 1.0 - ratio))
}

fn model_merge_add_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelMergeAdd", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("model1", "MODEL").bare())
        .input(InputSpec::new("model2", "MODEL").bare())
        .output(OutputSpec::new("MODEL"))
}
fn model_merge_add(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    merge_models(inputs, |_| (1.0, 1.0))
}

fn model_merge_subtract_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelMergeSubtract", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("model1", "MODEL").bare())
        .input(InputSpec::new("model2", "MODEL").bare())
        .input(float("multiplier", 1.0, -10.0, 10.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_merge_subtract(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let multiplier = inputs.float("multiplier")?;
    merge_models(inputs, |_| (multiplier, -multiplier))
}

fn clip_merge_simple_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPMergeSimple", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("clip1", "CLIP").bare())
        .input(InputSpec::new("clip2", "CLIP").bare())
        .input(float("ratio", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("CLIP"))
}
fn clip_merge_simple(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let ratio = inputs.float("ratio")?;
    merge_clips(inputs, |_| (ratio, 1.0 - ratio))
}
