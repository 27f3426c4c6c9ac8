//! Models and text encoders mixed with each other.

use std::sync::Arc;

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
    add(registry, "ModelMergeBlocks", model_merge_blocks_schema, model_merge_blocks);
    add(registry, "ModelMergeSD1", |_| by_block_schema("ModelMergeSD1", (12, 12)), merge_by_block);
    add(registry, "ModelMergeSD2", |_| by_block_schema("ModelMergeSD2", (12, 12)), merge_by_block);
    add(registry, "ModelMergeSDXL", |_| by_block_schema("ModelMergeSDXL", (9, 9)), merge_by_block);
    add(registry, "CLIPMergeSimple", clip_merge_simple_schema, clip_merge_simple);
    add(registry, "CLIPMergeAdd", clip_merge_add_schema, clip_merge_add);
    add(registry, "CLIPMergeSubtract", clip_merge_subtract_schema, clip_merge_subtract);
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
        let other = self.other.numbers(&self.name)?;
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

fn clip_merge_add_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPMergeAdd", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("clip1", "CLIP").bare())
        .input(InputSpec::new("clip2", "CLIP").bare())
        .output(OutputSpec::new("CLIP"))
}
fn clip_merge_add(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    merge_clips(inputs, |_| (1.0, 1.0))
}

fn clip_merge_subtract_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPMergeSubtract", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("clip1", "CLIP").bare())
        .input(InputSpec::new("clip2", "CLIP").bare())
        .input(float("multiplier", 1.0, -10.0, 10.0).step(0.01))
        .output(OutputSpec::new("CLIP"))
}
fn clip_merge_subtract(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let multiplier = inputs.float("multiplier")?;
    merge_clips(inputs, |_| (multiplier, -multiplier))
}

/// The ratio of the input whose name is the longest that a weight's name starts with; the first input's for all others.
fn ratio_of(ratios: &[(String, f64)], name: &str) -> f64 {
    let fitting = ratios.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
    let longest = fitting.max_by_key(|(prefix, _)| prefix.len());
    longest.or_else(|| ratios.first()).map_or(1.0, |(_, ratio)| *ratio)
}

/// Merges by ratios whose inputs are named like the beginnings of weights' names.
fn merge_by_block(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let names = inputs.iter().map(|(name, _)| name.to_string());
    let ratios = names
        .filter(|name| !name.starts_with("model"))
        .map(|name| Ok((name.clone(), inputs.float(&name)?)))
        .collect::<Result<Vec<_>, NodeError>>()?;
    merge_models(inputs, |name| {
        let ratio = ratio_of(&ratios, name);
        (ratio, 1.0 - ratio)
    })
}

fn model_merge_blocks_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ModelMergeBlocks", "advanced/model_merging")
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("model1", "MODEL").bare())
        .input(InputSpec::new("model2", "MODEL").bare())
        .input(float("input", 1.0, 0.0, 1.0).step(0.01))
        .input(float("middle", 1.0, 0.0, 1.0).step(0.01))
        .input(float("out", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn model_merge_blocks(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    merge_by_block(ctx, inputs)
}

/// A ratio for every block of a UNet with so many input and output blocks.
fn by_block_schema(class: &str, (before, after): (usize, usize)) -> NodeSchema {
    let mut blocks = vec!["time_embed.".to_owned(), "label_emb.".to_owned()];
    blocks.extend((0..before).map(|i| format!("input_blocks.{i}")));
    blocks.extend((0..3).map(|i| format!("middle_block.{i}")));
    blocks.extend((0..after).map(|i| format!("output_blocks.{i}")));
    // All but SDXL's names end with a dot, so that 1 is no beginning of 10.
    let dotted = class != "ModelMergeSDXL";
    let named = |block: String| if dotted && !block.ends_with('.') { block + "." } else { block };
    let schema = NodeSchema::new(class, "advanced/model_merging/model_specific")
        .module("comfy_extras.nodes_model_merging_model_specific")
        .input(InputSpec::new("model1", "MODEL").bare())
        .input(InputSpec::new("model2", "MODEL").bare());
    blocks
        .into_iter()
        .map(named)
        .chain(["out.".to_owned()])
        .fold(schema, |schema, block| schema.input(float(&block, 1.0, 0.0, 1.0).step(0.01)))
        .output(OutputSpec::new("MODEL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_of_a_name_decides_its_ratio() {
        let ratios: Vec<(String, f64)> =
            [("time_embed.", 0.1), ("input_blocks.1.", 0.2), ("input_blocks.", 0.3), ("out.", 0.4)]
                .map(|(name, ratio)| (name.to_owned(), ratio))
                .to_vec();
        assert_eq!(ratio_of(&ratios, "input_blocks.1.0.weight"), 0.2);
        assert_eq!(ratio_of(&ratios, "input_blocks.10.0.weight"), 0.3);
        assert_eq!(ratio_of(&ratios, "out.2.bias"), 0.4);
        assert_eq!(ratio_of(&ratios, "elsewhere"), 0.1);
    }
}
