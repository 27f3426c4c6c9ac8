//! Loaders of diffusion models and text encoders from files of their own.

use rushlight_diffusion::checkpoint::{Checkpoint, checkpoint_from_dict};
use rushlight_diffusion::clip::{Clip, ClipFamily, TextEncoder};
use rushlight_diffusion::weights::{StateDict, layouts};

use super::loaders::options;
use super::objects::{clip_value, engine, model_value};
use super::residency::{Residency, named, open};
use crate::prelude::*;

/// Where a checkpoint keeps its diffusion model.
const PREFIX: &str = "model.diffusion_model.";

/// Schema of the class.
pub(crate) fn unet_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("UNETLoader", "advanced/loaders")
        .display("Load Diffusion Model")
        .input(InputSpec::combo("unet_name", model_names(host, "diffusion_models")).bare())
        .input(
            InputSpec::combo("weight_dtype", ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]).bare(),
        )
        .output(OutputSpec::new("MODEL"))
}
/// Loads a diffusion model.
pub(crate) fn unet_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("unet_name")?;
    let source = ctx.host().model("diffusion_models", name)?;
    let loaded =
        residency.get("diffusion model", &source, ctx.device(), || -> Result<Checkpoint, NodeError> {
            let dict = open(&source, name)?;
            let dict = match dict.has_prefix(PREFIX) {
                true => dict,
                false => dict.rename(|key| Some(format!("{PREFIX}{key}"))),
            };
            checkpoint_from_dict(&dict, name, &options(ctx)).map_err(|error| named(name, engine(error)))
        })?;
    let model =
        loaded.model.clone().ok_or_else(|| named(name, NodeError::value("it holds no diffusion model")))?;
    Ok(NodeOutput::one(model_value(model)))
}

/// A text encoder file in the Hugging Face layout.
fn text_encoder(ctx: &NodeContext, name: &str) -> Result<StateDict, NodeError> {
    let source = ctx.host().model("text_encoders", name)?;
    let dict = open(&source, name)?;
    if dict.has_prefix("text_model.") {
        return Ok(dict);
    }
    if dict.has_prefix("transformer.resblocks.") {
        return Ok(layouts::open_clip_to_hugging_face(&dict));
    }
    Err(named(
        name,
        NodeError::new(
            "NotImplementedError",
            "it is no CLIP text encoder (no text_model.* or transformer.resblocks.* tensors); others are not supported",
        ),
    ))
}

/// Width of a text encoder's states.
fn width(dict: &StateDict) -> usize {
    dict.shape("text_model.final_layer_norm.weight").and_then(|shape| shape.first().copied()).unwrap_or(0)
}

/// Width of CLIP-H; narrower ones are CLIP-L, wider ones CLIP-G.
const WIDTH_H: usize = 1024;

/// Schema of the class.
pub(crate) fn clip_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPLoader", "advanced/loaders")
        .display("Load CLIP")
        .input(InputSpec::combo("clip_name", model_names(host, "text_encoders")).bare())
        .input(
            InputSpec::combo(
                "type",
                [
                    "stable_diffusion",
                    "stable_cascade",
                    "sd3",
                    "stable_audio",
                    "mochi",
                    "ltxv",
                    "pixart",
                    "cosmos",
                    "lumina2",
                    "wan",
                    "hidream",
                    "chroma",
                    "ace",
                    "omnigen2",
                    "qwen_image",
                    "hunyuan_image",
                    "flux2",
                    "ovis",
                ],
            )
            .bare(),
        )
        .input(InputSpec::combo("device", ["default", "cpu"]).opt("advanced", true).optional())
        .output(OutputSpec::new("CLIP"))
}
/// Loads one text encoder.
pub(crate) fn clip_loader(
    _: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let dict = text_encoder(ctx, inputs.str("clip_name")?)?;
    let (width, weights) = (width(&dict), options(ctx).weights(dict));
    let (family, encoder) = match width {
        WIDTH_H => (ClipFamily::StableDiffusion2, TextEncoder::clip_h(weights)),
        wider if wider > WIDTH_H => (ClipFamily::StableDiffusionXlRefiner, TextEncoder::clip_g(weights)),
        _ => (ClipFamily::StableDiffusion1, TextEncoder::clip_l(weights)),
    };
    Ok(NodeOutput::one(clip_value(Clip::new(family, vec![encoder]))))
}

/// Schema of the class.
pub(crate) fn dual_clip_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("DualCLIPLoader", "advanced/loaders")
        .input(InputSpec::combo("clip_name1", model_names(host, "text_encoders")).bare())
        .input(InputSpec::combo("clip_name2", model_names(host, "text_encoders")).bare())
        .input(
            InputSpec::combo(
                "type",
                [
                    "sdxl",
                    "sd3",
                    "flux",
                    "hunyuan_video",
                    "hidream",
                    "hunyuan_image",
                    "hunyuan_video_15",
                    "kandinsky5",
                    "kandinsky5_image",
                    "ltxv",
                    "newbie",
                ],
            )
            .bare(),
        )
        .input(InputSpec::combo("device", ["default", "cpu"]).opt("advanced", true).optional())
        .output(OutputSpec::new("CLIP"))
}
/// Loads the two text encoders of SDXL, in either order.
pub(crate) fn dual_clip_loader(
    _: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let kind = inputs.str("type")?;
    if kind != "sdxl" {
        return Err(NodeError::new(
            "NotImplementedError",
            format!("text encoders of type '{kind}' are not supported"),
        ));
    }
    let mut dicts =
        [text_encoder(ctx, inputs.str("clip_name1")?)?, text_encoder(ctx, inputs.str("clip_name2")?)?];
    dicts.sort_by_key(width);
    let [small, large] = dicts.map(|dict| options(ctx).weights(dict));
    let encoders = vec![TextEncoder::clip_l(small), TextEncoder::clip_g(large)];
    Ok(NodeOutput::one(clip_value(Clip::new(ClipFamily::StableDiffusionXl, encoders))))
}
