//! Pictures to latents and back.

use super::objects::{engine, vae};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "VAEDecode", vae_decode_schema, vae_decode);
    add(registry, "VAEEncode", vae_encode_schema, vae_encode);
}

fn vae_decode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEDecode", "latent")
        .display("VAE Decode")
        .input(InputSpec::new("samples", "LATENT"))
        .input(InputSpec::new("vae", "VAE"))
        .output(OutputSpec::new("IMAGE"))
}
fn vae_decode(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    Ok(NodeOutput::one(Value::Image(vae(inputs, "vae")?.decode(&latent.samples).map_err(engine)?)))
}

fn vae_encode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEEncode", "latent")
        .display("VAE Encode")
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .output(OutputSpec::new("LATENT"))
}
fn vae_encode(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = vae(inputs, "vae")?.encode(inputs.image("pixels")?).map_err(engine)?;
    Ok(NodeOutput::one(Value::latent(Latent::new(samples.to_device(&candle_core::Device::Cpu)?))))
}
