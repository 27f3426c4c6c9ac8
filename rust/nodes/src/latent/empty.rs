//! Empty latents: the starting points of generation, in every model's layout.

use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "EmptyLatentImage", empty_latent_image_schema, empty_latent_image);
    add(registry, "EmptySD3LatentImage", empty_sd3_latent_image_schema, empty_sd3_latent_image);
    add(registry, "EmptyFlux2LatentImage", empty_flux2_latent_image_schema, empty_flux2_latent_image);
    add(registry, "EmptyHunyuanImageLatent", empty_hunyuan_image_latent_schema, empty_hunyuan_image_latent);
    add(registry, "EmptyHunyuanLatentVideo", empty_hunyuan_latent_video_schema, empty_hunyuan_latent_video);
    add(
        registry,
        "EmptyHunyuanVideo15Latent",
        empty_hunyuan_video15_latent_schema,
        empty_hunyuan_video15_latent,
    );
    add(registry, "EmptyMochiLatentVideo", empty_mochi_latent_video_schema, empty_mochi_latent_video);
    add(registry, "EmptyCosmosLatentVideo", empty_cosmos_latent_video_schema, empty_cosmos_latent_video);
    add(registry, "EmptyLTXVLatentVideo", empty_ltxv_latent_video_schema, empty_ltxv_latent_video);
    add(
        registry,
        "EmptyQwenImageLayeredLatentImage",
        empty_qwen_image_layered_latent_image_schema,
        empty_qwen_image_layered_latent_image,
    );
    add(
        registry,
        "EmptyChromaRadianceLatentImage",
        empty_chroma_radiance_latent_image_schema,
        empty_chroma_radiance_latent_image,
    );
    add(registry, "EmptyAceStepLatentAudio", empty_ace_step_latent_audio_schema, empty_ace_step_latent_audio);
    add(registry, "EmptyLatentAudio", empty_latent_audio_schema, empty_latent_audio);
    add(registry, "EmptyLatentHunyuan3Dv2", empty_latent_hunyuan3_dv2_schema, empty_latent_hunyuan3_dv2);
    add(
        registry,
        "StableCascade_EmptyLatentImage",
        stable_cascade_empty_latent_image_schema,
        stable_cascade_empty_latent_image,
    );
}

fn zeros(shape: &[usize]) -> Result<Latent, NodeError> {
    Ok(Latent::new(memory::zeros("a latent", shape)?))
}

fn latent(shape: &[usize]) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::latent(zeros(shape)?)))
}

fn typed(shape: &[usize], kind: &str) -> Result<NodeOutput, NodeError> {
    let mut latent = zeros(shape)?;
    latent.extra.insert("type".into(), kind.into());
    Ok(NodeOutput::one(Value::latent(latent)))
}

/// (batch, height, width) of the inputs, in latent cells of `cell` pixels.
fn sides(inputs: &Inputs, cell: usize) -> Result<(usize, usize, usize), NodeError> {
    Ok((inputs.size("batch_size")?, inputs.size("height")? / cell, inputs.size("width")? / cell))
}

/// Latent frames of `length` frames, `step` in a latent frame after the first.
fn frames(inputs: &Inputs, step: usize) -> Result<usize, NodeError> {
    Ok(inputs.size("length")?.saturating_sub(1) / step + 1)
}

fn empty_latent_image_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("EmptyLatentImage", "latent")
        .display("Empty Latent Image")
        .input(int("width", 512, 16, MAX_RESOLUTION).step(8))
        .input(int("height", 512, 16, MAX_RESOLUTION).step(8))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 4, height, width])
}

fn empty_sd3_latent_image_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptySD3LatentImage", "latent/sd3", "sd3")
        .input(int("width", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_sd3_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 16, height, width])
}

fn empty_flux2_latent_image_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyFlux2LatentImage", "latent", "flux")
        .display("Empty Flux 2 Latent")
        .extra("display_name", "Empty Flux 2 Latent")
        .input(int("width", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_flux2_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 16)?;
    latent(&[batch, 128, height, width])
}

fn empty_hunyuan_image_latent_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyHunyuanImageLatent", "latent", "hunyuan")
        .input(int("width", 2048, 64, MAX_RESOLUTION).step(32))
        .input(int("height", 2048, 64, MAX_RESOLUTION).step(32))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_hunyuan_image_latent(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 32)?;
    latent(&[batch, 64, height, width])
}

fn empty_hunyuan_latent_video_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyHunyuanLatentVideo", "latent/video", "hunyuan")
        .display("Empty HunyuanVideo 1.0 Latent")
        .extra("display_name", "Empty HunyuanVideo 1.0 Latent")
        .input(int("width", 848, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 480, 16, MAX_RESOLUTION).step(16))
        .input(int("length", 25, 1, MAX_RESOLUTION).step(4))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_hunyuan_latent_video(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 16, frames(inputs, 4)?, height, width])
}

fn empty_hunyuan_video15_latent_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyHunyuanVideo15Latent", "latent/video", "hunyuan")
        .display("Empty HunyuanVideo 1.5 Latent")
        .extra("display_name", "Empty HunyuanVideo 1.5 Latent")
        .input(int("width", 848, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 480, 16, MAX_RESOLUTION).step(16))
        .input(int("length", 25, 1, MAX_RESOLUTION).step(4))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_hunyuan_video15_latent(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 16)?;
    latent(&[batch, 32, frames(inputs, 4)?, height, width])
}

fn empty_mochi_latent_video_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyMochiLatentVideo", "latent/video", "mochi")
        .input(int("width", 848, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 480, 16, MAX_RESOLUTION).step(16))
        .input(int("length", 25, 7, MAX_RESOLUTION).step(6))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_mochi_latent_video(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 12, frames(inputs, 6)?, height, width])
}

fn empty_cosmos_latent_video_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyCosmosLatentVideo", "latent/video", "cosmos")
        .input(int("width", 1280, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 704, 16, MAX_RESOLUTION).step(16))
        .input(int("length", 121, 1, MAX_RESOLUTION).step(8))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_cosmos_latent_video(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 16, frames(inputs, 8)?, height, width])
}

fn empty_ltxv_latent_video_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyLTXVLatentVideo", "latent/video/ltxv", "lt")
        .input(int("width", 768, 64, MAX_RESOLUTION).step(32))
        .input(int("height", 512, 64, MAX_RESOLUTION).step(32))
        .input(int("length", 97, 1, MAX_RESOLUTION).step(8))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_ltxv_latent_video(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 32)?;
    latent(&[batch, 128, frames(inputs, 8)?, height, width])
}

fn empty_qwen_image_layered_latent_image_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyQwenImageLayeredLatentImage", "latent/qwen", "qwen")
        .display("Empty Qwen Image Layered Latent")
        .extra("display_name", "Empty Qwen Image Layered Latent")
        .input(int("width", 640, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 640, 16, MAX_RESOLUTION).step(16))
        .input(int("layers", 3, 0, MAX_RESOLUTION).step(1))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_qwen_image_layered_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 8)?;
    latent(&[batch, 16, inputs.size("layers")?.saturating_add(1), height, width])
}

fn empty_chroma_radiance_latent_image_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyChromaRadianceLatentImage", "latent/chroma_radiance", "chroma_radiance")
        .input(int("width", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("height", 1024, 16, MAX_RESOLUTION).step(16))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_chroma_radiance_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = sides(inputs, 1)?;
    latent(&[batch, 3, height, width])
}

fn empty_ace_step_latent_audio_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyAceStepLatentAudio", "latent/audio", "ace")
        .input(float("seconds", 120.0, 1.0, 1000.0).step(0.1))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_ace_step_latent_audio(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // 44,100 samples a second, 512 a spectrogram column, 8 columns a latent one.
    let length = (inputs.float("seconds")? * 44100.0 / 512.0 / 8.0) as usize;
    typed(&[inputs.size("batch_size")?, 8, 16, length], "audio")
}

fn empty_latent_audio_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyLatentAudio", "latent/audio", "audio")
        .display("Empty Latent Audio")
        .extra("display_name", "Empty Latent Audio")
        .input(float("seconds", 47.6, 1.0, 1000.0).step(0.1))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_latent_audio(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    // 44,100 samples a second, 2,048 a latent step, an even number of steps.
    let length = round_even(inputs.float("seconds")? * 44100.0 / 2048.0 / 2.0).saturating_mul(2);
    typed(&[inputs.size("batch_size")?, 64, length], "audio")
}

fn round_even(value: f64) -> usize {
    value.round_ties_even().max(0.0) as usize
}

fn empty_latent_hunyuan3_dv2_schema(_: &dyn Host) -> NodeSchema {
    v3("EmptyLatentHunyuan3Dv2", "latent/3d", "hunyuan3d")
        .input(int("resolution", 3072, 1, 8192))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::new("LATENT"))
}
fn empty_latent_hunyuan3_dv2(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    typed(&[inputs.size("batch_size")?, 64, inputs.size("resolution")?], "hunyuan3dv2")
}

fn stable_cascade_empty_latent_image_schema(_: &dyn Host) -> NodeSchema {
    v3("StableCascade_EmptyLatentImage", "latent/stable_cascade", "stable_cascade")
        .input(int("width", 1024, 256, MAX_RESOLUTION).step(8))
        .input(int("height", 1024, 256, MAX_RESOLUTION).step(8))
        .input(int("compression", 42, 4, 128).step(1))
        .input(int("batch_size", 1, 1, 4096))
        .output(OutputSpec::named("LATENT", "stage_c"))
        .output(OutputSpec::named("LATENT", "stage_b"))
}
fn stable_cascade_empty_latent_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let batch = inputs.size("batch_size")?;
    let (height, width) = (inputs.size("height")?, inputs.size("width")?);
    let compression = inputs.size("compression")?.max(1);
    Ok(NodeOutput::values([
        Value::latent(zeros(&[batch, 16, height / compression, width / compression])?),
        Value::latent(zeros(&[batch, 4, height / 4, width / 4])?),
    ]))
}
