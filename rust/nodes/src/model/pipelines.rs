//! Models in folders of diffusers' layout: a file for each part.

use rushlight_diffusion::loaders::{diffusion_model, vae as vae_from};
use rushlight_diffusion::model::Model;
use rushlight_diffusion::vae::Vae;
use rushlight_runtime::host::HostError;

use super::loader::Loaders;
use super::objects::{clip_value, model_value, vae_value};
use super::part_loaders::text_encoders_of;
use super::residency::Residency;
use crate::prelude::*;

/// The folder key.
const FOLDER: &str = "diffusers";
/// Names that the file of a UNet or a VAE may have; the first that is there is taken.
const DIFFUSERS_FILES: [&str; 4] = [
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.bin",
    "diffusion_pytorch_model.bin",
];
/// Names that the file of a text encoder may have.
const TRANSFORMERS_FILES: [&str; 4] =
    ["model.fp16.safetensors", "model.safetensors", "pytorch_model.fp16.bin", "pytorch_model.bin"];

/// Registers the family.
pub(crate) fn register(loaders: &mut Loaders<'_>) {
    loaders.add("DiffusersLoader", diffusers_loader_schema, diffusers_loader);
}

/// The name of a part's file in the pipeline `name`, if there is one.
///
/// # Errors
/// When the name leaves its folder.
fn part(
    host: &dyn Host,
    name: &str,
    part: &str,
    files: [&'static str; 4],
) -> Result<Option<String>, NodeError> {
    for file in files {
        let path = format!("{name}/{part}/{file}");
        match host.model(FOLDER, &path) {
            Ok(_) => return Ok(Some(path)),
            Err(HostError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The name of a file that has to be there.
fn needed(host: &dyn Host, name: &str, of: &str, files: [&'static str; 4]) -> Result<String, NodeError> {
    part(host, name, of, files)?.ok_or_else(|| {
        NodeError::new(
            "FileNotFoundError",
            format!("the folder '{name}' has no file of its '{of}': it may be {}", files.join(", ")),
        )
    })
}

fn diffusers_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("DiffusersLoader", "advanced/loaders/deprecated")
        .input(InputSpec::combo("model_path", model_names(host, FOLDER)).bare())
        .output(OutputSpec::new("MODEL"))
        .output(OutputSpec::new("CLIP"))
        .output(OutputSpec::new("VAE"))
}
fn diffusers_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("model_path")?;
    let host = ctx.host();
    let unet = needed(host, name, "unet", DIFFUSERS_FILES)?;
    let vae = needed(host, name, "vae", DIFFUSERS_FILES)?;
    let mut encoders = vec![needed(host, name, "text_encoder", TRANSFORMERS_FILES)?];
    encoders.extend(part(host, name, "text_encoder_2", TRANSFORMERS_FILES)?);
    let model = residency.load(ctx, "diffusion model default", (FOLDER, &unet), |dict, options| {
        diffusion_model(dict, &unet, options)
    })?;
    let clip = text_encoders_of(residency, ctx, FOLDER, &encoders)?;
    let vae = residency.load(ctx, "vae", (FOLDER, &vae), |dict, options| vae_from(dict, &vae, options))?;
    Ok(NodeOutput::values([model_value(Model::clone(&model)), clip_value(clip), vae_value(Vae::clone(&vae))]))
}
