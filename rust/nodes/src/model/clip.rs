//! Prompts to conditioning.

use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::conditioning::{CondEntry, Conditioning, SizeConditioning};

use super::embeddings::Folder;
use super::loader::Loaders;
use super::objects::{clip, clip_value, conditioning_value, engine};
use super::residency::Residency;
use crate::prelude::*;

/// Registers the classes that may need textual inversions.
pub(crate) fn register_loaders(loaders: &mut Loaders<'_>) {
    loaders.add("CLIPTextEncode", clip_text_encode_schema, clip_text_encode);
    loaders.add("CLIPTextEncodeSDXL", clip_text_encode_sdxl_schema, clip_text_encode_sdxl);
    loaders.add(
        "CLIPTextEncodeSDXLRefiner",
        clip_text_encode_sdxl_refiner_schema,
        clip_text_encode_sdxl_refiner,
    );
}

/// Registers the classes that load nothing.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "CLIPSetLastLayer", clip_set_last_layer_schema, clip_set_last_layer);
}

/// Encodes prompts, one for each encoder (the last one for all further encoders).
fn encode(
    residency: &Residency,
    ctx: &NodeContext,
    clip: &Clip,
    prompts: &[&str],
) -> Result<CondEntry, NodeError> {
    let embeddings = Folder::new(residency, ctx);
    let tokens = match prompts {
        [prompt] => clip.tokenize(prompt, &embeddings),
        prompts => clip.tokenize_each(prompts, &embeddings),
    };
    let encoded = clip.encode(&tokens).map_err(engine)?;
    Ok(CondEntry::new(encoded.cond, encoded.pooled))
}

fn entry(entry: CondEntry) -> NodeOutput {
    NodeOutput::one(conditioning_value(Conditioning(vec![entry])))
}

fn clip_text_encode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPTextEncode", "conditioning")
        .display("CLIP Text Encode (Prompt)")
        .input(InputSpec::new("text", "STRING").opt("dynamicPrompts", true).opt("multiline", true))
        .input(InputSpec::new("clip", "CLIP"))
        .output(OutputSpec::new("CONDITIONING"))
}
fn clip_text_encode(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    Ok(entry(encode(residency, ctx, clip(inputs, "clip")?, &[inputs.str("text")?])?))
}

fn clip_text_encode_sdxl_schema(_: &dyn Host) -> NodeSchema {
    v3("CLIPTextEncodeSDXL", "advanced/conditioning", "clip_sdxl")
        .input(InputSpec::new("clip", "CLIP"))
        .input(int("width", 1024, 0, MAX_RESOLUTION))
        .input(int("height", 1024, 0, MAX_RESOLUTION))
        .input(int("crop_w", 0, 0, MAX_RESOLUTION))
        .input(int("crop_h", 0, 0, MAX_RESOLUTION))
        .input(int("target_width", 1024, 0, MAX_RESOLUTION))
        .input(int("target_height", 1024, 0, MAX_RESOLUTION))
        .input(InputSpec::new("text_g", "STRING").opt("dynamicPrompts", true).opt("multiline", true))
        .input(InputSpec::new("text_l", "STRING").opt("dynamicPrompts", true).opt("multiline", true))
        .output(OutputSpec::new("CONDITIONING"))
}
fn clip_text_encode_sdxl(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let prompts = [inputs.str("text_l")?, inputs.str("text_g")?];
    let mut encoded = encode(residency, ctx, clip(inputs, "clip")?, &prompts)?;
    encoded.options.size = Some(SizeConditioning {
        height: inputs.float("height")?,
        width: inputs.float("width")?,
        crop_y: inputs.float("crop_h")?,
        crop_x: inputs.float("crop_w")?,
        target_height: inputs.float("target_height")?,
        target_width: inputs.float("target_width")?,
    });
    Ok(entry(encoded))
}

fn clip_text_encode_sdxl_refiner_schema(_: &dyn Host) -> NodeSchema {
    v3("CLIPTextEncodeSDXLRefiner", "advanced/conditioning", "clip_sdxl")
        .input(float("ascore", 6.0, 0.0, 1000.0).step(0.01))
        .input(int("width", 1024, 0, MAX_RESOLUTION))
        .input(int("height", 1024, 0, MAX_RESOLUTION))
        .input(InputSpec::new("text", "STRING").opt("dynamicPrompts", true).opt("multiline", true))
        .input(InputSpec::new("clip", "CLIP"))
        .output(OutputSpec::new("CONDITIONING"))
}
fn clip_text_encode_sdxl_refiner(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let mut encoded = encode(residency, ctx, clip(inputs, "clip")?, &[inputs.str("text")?])?;
    let (height, width) = (inputs.float("height")?, inputs.float("width")?);
    encoded.options.aesthetic_score = Some(inputs.float("ascore")?);
    encoded.options.size = Some(SizeConditioning {
        height,
        width,
        crop_y: 0.0,
        crop_x: 0.0,
        target_height: height,
        target_width: width,
    });
    Ok(entry(encoded))
}

fn clip_set_last_layer_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPSetLastLayer", "conditioning")
        .display("CLIP Set Last Layer")
        .input(InputSpec::new("clip", "CLIP").bare())
        .input(int("stop_at_clip_layer", -1, -24, -1).step(1))
        .output(OutputSpec::new("CLIP"))
}
fn clip_set_last_layer(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let layer = i64::try_from(inputs.int("stop_at_clip_layer")?)
        .map_err(|_| NodeError::value("stop_at_clip_layer is out of range"))?;
    Ok(NodeOutput::one(clip_value(clip(inputs, "clip")?.stop_at_layer(layer).map_err(engine)?)))
}
