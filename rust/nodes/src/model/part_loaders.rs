//! Loaders of diffusion models and text encoders from files of their own.

use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::loaders::{diffusion_model, text_encoders};
use rushlight_diffusion::model::Model;
use rushlight_diffusion::weights::{FileDtype, StateDict};
use rushlight_runtime::host::ModelSource;

use super::loader::Loaders;
use super::objects::{clip_value, engine, model_value};
use super::residency::{Residency, named, open};
use crate::prelude::*;

/// The folder key of text encoders.
const TEXT_ENCODERS: &str = "text_encoders";

/// Registers the family.
pub(crate) fn register(loaders: &mut Loaders<'_>) {
    loaders.add("UNETLoader", unet_loader_schema, unet_loader);
    loaders.add("CLIPLoader", clip_loader_schema, clip_loader);
    loaders.add("DualCLIPLoader", dual_clip_loader_schema, dual_clip_loader);
}

fn unet_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("UNETLoader", "advanced/loaders")
        .display("Load Diffusion Model")
        .input(InputSpec::combo("unet_name", model_names(host, "diffusion_models")).bare())
        .input(
            InputSpec::combo("weight_dtype", ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]).bare(),
        )
        .output(OutputSpec::new("MODEL"))
}
fn unet_loader(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("unet_name")?;
    let weight_dtype = inputs.str("weight_dtype")?;
    let rounding = match weight_dtype {
        "default" => None,
        "fp8_e5m2" => Some(FileDtype::F8E5M2),
        "fp8_e4m3fn" | "fp8_e4m3fn_fast" => Some(FileDtype::F8E4M3),
        other => return Err(NodeError::value(format!("unknown weight_dtype '{other}'"))),
    };
    let purpose = format!("diffusion model {weight_dtype}");
    let model =
        residency.load(ctx, &purpose, ("diffusion_models", name), |dict, options| match rounding {
            Some(dtype) => diffusion_model(&dict.rounded_to(dtype), name, options),
            None => diffusion_model(dict, name, options),
        })?;
    Ok(NodeOutput::one(model_value(Model::clone(&model))))
}

/// The CLIP of some files of a model folder, loaded together.
pub(crate) fn text_encoders_of<S: AsRef<str>>(
    residency: &Residency,
    ctx: &NodeContext,
    folder: &str,
    names: &[S],
) -> Result<Clip, NodeError> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let sources =
        names.iter().map(|name| ctx.host().model(folder, name)).collect::<Result<Vec<ModelSource>, _>>()?;
    let clip = residency.get("text encoders", &sources, ctx.device(), || {
        let files = names
            .iter()
            .zip(&sources)
            .map(|(name, source)| Ok((open(source, name)?, (*name).to_owned())))
            .collect::<Result<Vec<(StateDict, String)>, NodeError>>()?;
        text_encoders(&files, &residency.options(ctx))
            .map_err(|error| named(&names.join("', '"), engine(error)))
    })?;
    Ok(Clip::clone(&clip))
}

fn clip_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPLoader", "advanced/loaders")
        .display("Load CLIP")
        .input(InputSpec::combo("clip_name", model_names(host, TEXT_ENCODERS)).bare())
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
fn clip_loader(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(clip_value(text_encoders_of(
        residency,
        ctx,
        TEXT_ENCODERS,
        &[inputs.str("clip_name")?],
    )?)))
}

fn dual_clip_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("DualCLIPLoader", "advanced/loaders")
        .input(InputSpec::combo("clip_name1", model_names(host, TEXT_ENCODERS)).bare())
        .input(InputSpec::combo("clip_name2", model_names(host, TEXT_ENCODERS)).bare())
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
fn dual_clip_loader(
    residency: &Residency,
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
    let names = [inputs.str("clip_name1")?, inputs.str("clip_name2")?];
    Ok(NodeOutput::one(clip_value(text_encoders_of(residency, ctx, TEXT_ENCODERS, &names)?)))
}
