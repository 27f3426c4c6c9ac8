//! Loaders of checkpoints and VAEs.

use std::sync::Arc;

use rushlight_diffusion::checkpoint::{Checkpoint, checkpoint_from_dict};
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::loaders::vae as vae_from;
use rushlight_diffusion::lora::Lora;
use rushlight_diffusion::vae::Vae;
use rushlight_diffusion::weights::StateDict;

use super::loader::Loaders;
use super::objects::{checkpoint_values, clip, clip_value, engine, model, model_value, vae_value};
use super::previews::approximation;
use super::residency::{Residency, open};
use super::resident::Measured;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(loaders: &mut Loaders<'_>) {
    loaders.add("CheckpointLoaderSimple", checkpoint_loader_simple_schema, checkpoint_loader_simple);
    loaders.add("VAELoader", vae_loader_schema, vae_loader);
    loaders.add("LoraLoader", lora_loader_schema, lora_loader);
    loaders.add("LoraLoaderModelOnly", lora_loader_model_only_schema, lora_loader_model_only);
}

/// The parts of a checkpoint.
pub(crate) fn checkpoint(
    residency: &Residency,
    ctx: &NodeContext,
    name: &str,
) -> Result<Arc<Checkpoint>, NodeError> {
    residency.load(ctx, "checkpoint", ("checkpoints", name), |dict, options| {
        checkpoint_from_dict(dict, name, options)
    })
}

fn checkpoint_loader_simple_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("CheckpointLoaderSimple", "loaders")
        .display("Load Checkpoint")
        .input(InputSpec::combo("ckpt_name", model_names(host, "checkpoints")))
        .output(OutputSpec::new("MODEL"))
        .output(OutputSpec::new("CLIP"))
        .output(OutputSpec::new("VAE"))
}
fn checkpoint_loader_simple(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("ckpt_name")?;
    Ok(NodeOutput::values(checkpoint_values(name, &*checkpoint(residency, ctx, name)?)))
}

/// Tiny autoencoders: the name that loaders offer, and the latent format they are for.
const TINY: [(&str, &str); 4] =
    [("taesd", "SD15"), ("taesdxl", "SDXL"), ("taesd3", "SD3"), ("taef1", "Flux")];

/// The files of a tiny autoencoder's halves, if both are there.
fn tiny_files(host: &dyn Host, name: &str) -> Option<[String; 2]> {
    Some([approximation(host, &format!("{name}_encoder"))?, approximation(host, &format!("{name}_decoder"))?])
}

/// What VAE loaders offer: the files, the tiny autoencoders, and pictures as their own latents.
fn vae_names(host: &dyn Host) -> Vec<String> {
    let mut names = host.model_names("vae");
    names.extend(
        TINY.iter().filter(|(name, _)| tiny_files(host, name).is_some()).map(|(name, _)| (*name).into()),
    );
    names.push("pixel_space".into());
    names
}

/// A tiny autoencoder from its two files.
fn tiny_vae(residency: &Residency, ctx: &NodeContext, name: &str, format: &str) -> Result<Vae, NodeError> {
    let files = tiny_files(ctx.host(), name)
        .ok_or_else(|| NodeError::value(format!("the files of '{name}' are not in the vae_approx folder")))?;
    let [encoder, decoder] = &files;
    let sources = [ctx.host().model("vae_approx", encoder)?, ctx.host().model("vae_approx", decoder)?];
    let vae = residency.get("tiny vae", &sources, ctx.device(), || {
        let mut halves = StateDict::default();
        for ((source, file), half) in sources.iter().zip(&files).zip(["encoder", "decoder"]) {
            halves.extend(&open(source, file)?.rename(|key| Some(format!("{half}.{key}"))));
        }
        let format = LatentFormat::by_name(format).map_err(engine)?;
        Ok(Vae::tiny(residency.options(ctx).vae_weights(halves), format))
    })?;
    Ok(Vae::clone(&vae))
}

fn vae_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAELoader", "loaders")
        .display("Load VAE")
        .input(InputSpec::combo("vae_name", vae_names(host)).bare())
        .output(OutputSpec::new("VAE"))
}
fn vae_loader(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("vae_name")?;
    if let Some((_, format)) = TINY.iter().find(|(tiny, _)| *tiny == name) {
        return Ok(NodeOutput::one(vae_value(tiny_vae(residency, ctx, name, format)?)));
    }
    let vae = residency.load(ctx, "vae", ("vae", name), |dict, options| vae_from(dict, name, options))?;
    Ok(NodeOutput::one(vae_value(Vae::clone(&vae))))
}

fn lora(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<Arc<Measured<Lora>>, NodeError> {
    residency.load(ctx, "lora", ("loras", inputs.str("lora_name")?), |dict, _| {
        Ok(Measured::new(Lora::from_dict(dict)?, dict))
    })
}

/// Names the parts of a LoRA that found no place, once, in the log.
fn warn(name: &str, unmatched: &[String]) {
    if !unmatched.is_empty() {
        let some: Vec<_> = unmatched.iter().take(5).collect();
        tracing::warn!(name, count = unmatched.len(), ?some, "parts of the LoRA do not belong to this model");
    }
}

fn lora_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoraLoader", "loaders")
        .display("Load LoRA")
        .input(InputSpec::new("model", "MODEL"))
        .input(InputSpec::new("clip", "CLIP"))
        .input(InputSpec::combo("lora_name", model_names(host, "loras")))
        .input(float("strength_model", 1.0, -100.0, 100.0).step(0.01))
        .input(float("strength_clip", 1.0, -100.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
        .output(OutputSpec::new("CLIP"))
}
fn lora_loader(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (for_model, for_clip) = (inputs.float("strength_model")?, inputs.float("strength_clip")?);
    let name = inputs.str("lora_name")?;
    let mut values = [inputs.value("model")?.clone(), inputs.value("clip")?.clone()];
    let [model_slot, clip_slot] = &mut values;
    if for_model != 0.0 {
        let applied = lora(residency, ctx, inputs)?.value.apply_to_model(model(inputs, "model")?, for_model);
        let applied = applied.map_err(engine)?;
        warn(name, &applied.unmatched);
        *model_slot = model_value(applied.patched);
    }
    if for_clip != 0.0 {
        let lora = lora(residency, ctx, inputs)?;
        let applied = lora.value.apply_to_clip(clip(inputs, "clip")?, for_clip).map_err(engine)?;
        warn(name, &applied.unmatched);
        *clip_slot = clip_value(applied.patched);
    }
    Ok(NodeOutput::values(values))
}

fn lora_loader_model_only_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoraLoaderModelOnly", "loaders")
        .input(InputSpec::new("model", "MODEL").bare())
        .input(InputSpec::combo("lora_name", model_names(host, "loras")).bare())
        .input(float("strength_model", 1.0, -100.0, 100.0).step(0.01))
        .output(OutputSpec::new("MODEL"))
}
fn lora_loader_model_only(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let strength = inputs.float("strength_model")?;
    if strength == 0.0 {
        return Ok(NodeOutput::one(inputs.value("model")?.clone()));
    }
    let lora = lora(residency, ctx, inputs)?;
    let applied = lora.value.apply_to_model(model(inputs, "model")?, strength).map_err(engine)?;
    warn(inputs.str("lora_name")?, &applied.unmatched);
    Ok(NodeOutput::one(model_value(applied.patched)))
}
