//! Models written to files, what was patched folded in: in the types that their files had, under the names that the
//! original gives tensors and files, with the prompt in the metadata.

use rushlight_diffusion::clip::{Clip, ClipFamily};
use rushlight_diffusion::model::Model;
use rushlight_diffusion::sampling::Prediction;
use rushlight_diffusion::vae::Vae;
use rushlight_diffusion::weights::{StateDict, layouts, to_safetensors};
use rushlight_runtime::host::{FileFolder, SaveRequest};

use super::objects::{clip, engine, model, vae};
use crate::image::io::metadata;
use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add_saving(registry, "CheckpointSave", checkpoint_save_schema, checkpoint_save);
    add_saving(registry, "ModelSave", model_save_schema, model_save);
    add_saving(registry, "CLIPSave", clip_save_schema, clip_save);
    add_saving(registry, "VAESave", vae_save_schema, vae_save);
}

/// The tensors under a prefix.
fn under(prefix: &str, dict: &StateDict) -> StateDict {
    dict.rename(|name| Some(format!("{prefix}{name}")))
}

/// The tensors of a diffusion model as a checkpoint has them.
fn model_tensors(model: &Model) -> Result<StateDict, NodeError> {
    let weights = model.network.weights().ok_or_else(|| {
        NodeError::new("NotImplementedError", "this kind of model has no weights that could be saved")
    })?;
    Ok(under("model.diffusion_model.", &weights.export().map_err(engine)?))
}

/// The tensors of text encoders as a checkpoint has them.
fn clip_tensors(clip: &Clip) -> Result<StateDict, NodeError> {
    let mut tensors = StateDict::default();
    for encoder in clip.encoders() {
        let own = encoder.weights().export().map_err(engine)?;
        let own = match (clip.family(), encoder.name) {
            (ClipFamily::StableDiffusion1, _) => under("cond_stage_model.transformer.", &own),
            (ClipFamily::StableDiffusion2, _) => {
                under("cond_stage_model.model.", &layouts::hugging_face_to_open_clip(&own))
            }
            (ClipFamily::StableDiffusionXl, "l") => under("conditioner.embedders.0.transformer.", &own),
            (ClipFamily::StableDiffusionXl, _) => {
                under("conditioner.embedders.1.model.", &layouts::hugging_face_to_open_clip(&own))
            }
            (ClipFamily::StableDiffusionXlRefiner, _) => {
                under("conditioner.embedders.0.model.", &layouts::hugging_face_to_open_clip(&own))
            }
        };
        tensors.extend(&own);
    }
    Ok(tensors)
}

fn vae_tensors(vae: &Vae) -> Result<StateDict, NodeError> {
    vae.weights().export().map_err(engine)
}

/// What a model's prediction is called in the metadata.
fn prediction(model: &Model) -> Option<(String, String)> {
    let name = match model.sampling.prediction() {
        Prediction::Eps => "epsilon",
        Prediction::V => "v",
        _ => return None,
    };
    Some(("modelspec.predict_key".to_owned(), name.to_owned()))
}

/// Writes a file; `about` is said in its metadata beside the prompt.
fn save(
    ctx: &NodeContext,
    inputs: &Inputs,
    suffix: &str,
    dict: &StateDict,
    about: Option<(String, String)>,
) -> Result<(), NodeError> {
    memory::check_bytes("the file", dict.stored_bytes() as u64)?;
    let mut strings = Vec::new();
    if ctx.host().metadata_enabled() {
        strings.extend(about);
        strings.extend(metadata(ctx, inputs));
    }
    let request = SaveRequest {
        folder: FileFolder::Output,
        prefix: inputs.str("filename_prefix")?,
        suffix,
        width: 0,
        height: 0,
        batch_index: 0,
        extension: "safetensors",
    };
    ctx.host().save(&request, &to_safetensors(dict, &strings))?;
    Ok(())
}

fn saving(schema: NodeSchema, prefix: &str) -> NodeSchema {
    schema
        .module("comfy_extras.nodes_model_merging")
        .input(InputSpec::new("filename_prefix", "STRING").default(prefix))
        .input(InputSpec::hidden("prompt", "PROMPT"))
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"))
        .output_node()
}

fn checkpoint_save_schema(_: &dyn Host) -> NodeSchema {
    let schema = NodeSchema::new("CheckpointSave", "advanced/model_merging")
        .display("Save Checkpoint")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(InputSpec::new("clip", "CLIP").bare())
        .input(InputSpec::new("vae", "VAE").bare());
    saving(schema, "checkpoints/ComfyUI")
}
fn checkpoint_save(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let model = model(inputs, "model")?;
    let mut tensors = clip_tensors(clip(inputs, "clip")?)?;
    tensors.extend(&under("first_stage_model.", &vae_tensors(vae(inputs, "vae")?)?));
    tensors.extend(&model_tensors(model)?);
    save(ctx, inputs, "", &tensors, prediction(model))?;
    Ok(NodeOutput::default())
}

fn model_save_schema(_: &dyn Host) -> NodeSchema {
    let schema =
        NodeSchema::new("ModelSave", "advanced/model_merging").input(InputSpec::new("model", "MODEL").bare());
    saving(schema, "diffusion_models/ComfyUI")
}
fn model_save(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let model = model(inputs, "model")?;
    save(ctx, inputs, "", &model_tensors(model)?, prediction(model))?;
    Ok(NodeOutput::default())
}

fn clip_save_schema(_: &dyn Host) -> NodeSchema {
    let schema =
        NodeSchema::new("CLIPSave", "advanced/model_merging").input(InputSpec::new("clip", "CLIP").bare());
    saving(schema, "clip/ComfyUI")
}
fn clip_save(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    for encoder in clip(inputs, "clip")?.encoders() {
        let tensors = encoder.weights().export().map_err(engine)?;
        let suffix = format!("_clip_{}", encoder.name);
        save(ctx, inputs, &suffix, &tensors, Some(("format".into(), "pt".into())))?;
    }
    Ok(NodeOutput::default())
}

fn vae_save_schema(_: &dyn Host) -> NodeSchema {
    let schema =
        NodeSchema::new("VAESave", "advanced/model_merging").input(InputSpec::new("vae", "VAE").bare());
    saving(schema, "vae/ComfyUI_vae")
}
fn vae_save(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    save(ctx, inputs, "", &vae_tensors(vae(inputs, "vae")?)?, None)?;
    Ok(NodeOutput::default())
}
