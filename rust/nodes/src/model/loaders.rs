//! Loaders of checkpoints and VAEs.

use std::sync::Arc;

use rushlight_diffusion::checkpoint::{Checkpoint, checkpoint_from_dict};
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::loaders::vae as vae_from;
use rushlight_diffusion::lora::Lora;
use rushlight_diffusion::vae::Vae;
use rushlight_diffusion::weights::StateDict;
use rushlight_runtime::Node;

use super::objects::{checkpoint_values, clip, clip_value, engine, model, model_value, vae_value};
use super::previews::approximation;
use super::residency::{Residency, named, open};
use super::resident::Measured;
use super::{control, part_loaders, vision};
use crate::prelude::*;
use crate::settings::Settings;

type LoadFn = fn(&Residency, &NodeContext, &Inputs) -> Result<NodeOutput, NodeError>;

/// A loader class: it shares what it loads with the others.
struct Loader {
    residency: Arc<Residency>,
    schema: fn(&dyn Host) -> NodeSchema,
    run: LoadFn,
}

impl Node for Loader {
    fn schema(&self, host: &dyn Host) -> NodeSchema {
        (self.schema)(host)
    }

    fn execute(&self, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
        (self.run)(&self.residency, ctx, inputs)
    }

    fn release(&self) {
        self.residency.release();
    }
}

/// Registers the family.
pub(crate) fn register(registry: &mut Registry, settings: &Settings) {
    let residency = Arc::new(Residency::new(settings));
    let mut add = |name: &str, schema: fn(&dyn Host) -> NodeSchema, run: LoadFn| {
        registry.register(name, Arc::new(Loader { residency: residency.clone(), schema, run }));
    };
    add("CheckpointLoaderSimple", checkpoint_loader_simple_schema, checkpoint_loader_simple);
    add("VAELoader", vae_loader_schema, vae_loader);
    add("LoraLoader", lora_loader_schema, lora_loader);
    add("LoraLoaderModelOnly", lora_loader_model_only_schema, lora_loader_model_only);
    add("UNETLoader", part_loaders::unet_loader_schema, part_loaders::unet_loader);
    add("CLIPLoader", part_loaders::clip_loader_schema, part_loaders::clip_loader);
    add("DualCLIPLoader", part_loaders::dual_clip_loader_schema, part_loaders::dual_clip_loader);
    add("ControlNetLoader", control::control_net_loader_schema, control::control_net_loader);
    add("CLIPVisionLoader", vision::clip_vision_loader_schema, vision::clip_vision_loader);
    add("StyleModelLoader", vision::style_model_loader_schema, vision::style_model_loader);
    add(
        "unCLIPCheckpointLoader",
        vision::un_clip_checkpoint_loader_schema,
        vision::un_clip_checkpoint_loader,
    );
    add("UpscaleModelLoader", control::upscale_model_loader_schema, control::upscale_model_loader);
}

fn checkpoint(residency: &Residency, ctx: &NodeContext, name: &str) -> Result<Arc<Checkpoint>, NodeError> {
    let source = ctx.host().model("checkpoints", name)?;
    residency.get("checkpoint", std::slice::from_ref(&source), ctx.device(), || {
        let dict = open(&source, name)?;
        checkpoint_from_dict(&dict, name, &residency.options(ctx)).map_err(|error| named(name, engine(error)))
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
    let mut halves = StateDict::default();
    for (file, half) in files.iter().zip(["encoder", "decoder"]) {
        let dict = open(&ctx.host().model("vae_approx", file)?, file)?;
        halves.extend(&dict.rename(|key| Some(format!("{half}.{key}"))));
    }
    let format = LatentFormat::by_name(format).map_err(engine)?;
    Ok(Vae::tiny(residency.options(ctx).vae_weights(halves), format))
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
    let source = ctx.host().model("vae", name)?;
    let vae = residency.get("vae", std::slice::from_ref(&source), ctx.device(), || {
        vae_from(&open(&source, name)?, name, &residency.options(ctx))
            .map_err(|error| named(name, engine(error)))
    })?;
    Ok(NodeOutput::one(vae_value(Vae::clone(&vae))))
}

fn lora(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<Arc<Measured<Lora>>, NodeError> {
    let name = inputs.str("lora_name")?;
    let source = ctx.host().model("loras", name)?;
    residency.get("lora", std::slice::from_ref(&source), ctx.device(), || {
        let dict = open(&source, name)?;
        Lora::from_dict(&dict)
            .map(|value| Measured { value, bytes: dict.stored_bytes() })
            .map_err(|error| named(name, engine(error)))
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
