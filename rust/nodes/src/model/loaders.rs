//! Loaders of checkpoints and VAEs.

use std::sync::Arc;

use rushlight_diffusion::checkpoint::{Checkpoint, LoadOptions, checkpoint_from_dict};
use rushlight_diffusion::vae::Vae;
use rushlight_runtime::Node;

use super::objects::{checkpoint_values, engine, vae_value};
use super::residency::{Residency, named, open};
use crate::prelude::*;

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
pub(crate) fn register(registry: &mut Registry) {
    let residency = Arc::new(Residency::default());
    let mut add = |name: &str, schema: fn(&dyn Host) -> NodeSchema, run: LoadFn| {
        registry.register(name, Arc::new(Loader { residency: residency.clone(), schema, run }));
    };
    add("CheckpointLoaderSimple", checkpoint_loader_simple_schema, checkpoint_loader_simple);
    add("VAELoader", vae_loader_schema, vae_loader);
}

/// How models are loaded for this run.
pub(crate) fn options(ctx: &NodeContext) -> LoadOptions {
    LoadOptions { device: ctx.device().clone(), ..LoadOptions::default() }
}

fn checkpoint(residency: &Residency, ctx: &NodeContext, name: &str) -> Result<Arc<Checkpoint>, NodeError> {
    let source = ctx.host().model("checkpoints", name)?;
    residency.get("checkpoint", &source, ctx.device(), || {
        let dict = open(&source, name)?;
        checkpoint_from_dict(&dict, name, &options(ctx)).map_err(|error| named(name, engine(error)))
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

/// What VAE loaders offer: the files, and pictures as their own latents.
fn vae_names(host: &dyn Host) -> Vec<String> {
    let mut names = host.model_names("vae");
    names.push("pixel_space".into());
    names
}

fn vae_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAELoader", "loaders")
        .display("Load VAE")
        .input(InputSpec::combo("vae_name", vae_names(host)).bare())
        .output(OutputSpec::new("VAE"))
}
fn vae_loader(residency: &Residency, ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("vae_name")?;
    let source = ctx.host().model("vae", name)?;
    let vae = residency.get("vae", &source, ctx.device(), || {
        let dict = open(&source, name)?;
        // A VAE in its own file, or the one of a whole checkpoint.
        let dict = if dict.has_prefix("first_stage_model.") { dict.view("first_stage_model.") } else { dict };
        if !dict.has_prefix("decoder.") {
            return Err(named(name, NodeError::value("it holds no VAE: there are no decoder.* tensors")));
        }
        Ok(Vae::new(options(ctx).vae_weights(dict)))
    })?;
    Ok(NodeOutput::one(vae_value(Vae::clone(&vae))))
}
