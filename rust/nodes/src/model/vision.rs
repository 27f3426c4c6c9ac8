//! Picture encoders, and what conditioning takes from them: style models and unCLIP.

use std::sync::Arc;

use candle_core::Device;
use rushlight_diffusion::conditioning::{CondEntry, Conditioning};
use rushlight_diffusion::loaders;
use rushlight_diffusion::models::clip_vision::{ClipVision, EncodedPicture};
use rushlight_diffusion::models::style::StyleModel;
use rushlight_diffusion::unclip::PictureCondition;

use super::conditioning::with_options;
use super::loader::Loaders;
use super::loaders::checkpoint;
use super::objects::{checkpoint_values, conditioning, conditioning_value, engine};
use super::residency::Residency;
use super::resident::Measured;
use crate::picture::resize::resize;
use crate::prelude::*;

/// Registers the classes that load files.
pub(crate) fn register_loaders(loaders: &mut Loaders<'_>) {
    loaders.add("CLIPVisionLoader", clip_vision_loader_schema, clip_vision_loader);
    loaders.add("StyleModelLoader", style_model_loader_schema, style_model_loader);
    loaders.add("unCLIPCheckpointLoader", un_clip_checkpoint_loader_schema, un_clip_checkpoint_loader);
}

/// Registers the classes that load nothing.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "CLIPVisionEncode", clip_vision_encode_schema, clip_vision_encode);
    add(registry, "StyleModelApply", style_model_apply_schema, style_model_apply);
    add(registry, "unCLIPConditioning", un_clip_conditioning_schema, un_clip_conditioning);
}

/// A CLIP_VISION.
type Vision = Arc<Measured<ClipVision>>;
/// A STYLE_MODEL.
type Style = Arc<Measured<StyleModel>>;

fn clip_vision_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPVisionLoader", "loaders")
        .display("Load CLIP Vision")
        .input(InputSpec::combo("clip_name", model_names(host, "clip_vision")).bare())
        .output(OutputSpec::new("CLIP_VISION"))
}
fn clip_vision_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("clip_name")?;
    let vision: Vision = residency.load(ctx, "clip vision", ("clip_vision", name), |dict, options| {
        Ok(Measured::new(loaders::clip_vision(dict, name, options)?, dict))
    })?;
    Ok(NodeOutput::one(Value::object("CLIP_VISION", vision)))
}

/// Means of red, green and blue in the pictures that CLIP was trained on, in 0..1.
const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Their deviations.
const DEVIATION: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

/// Pictures as the encoder takes them: the shorter side brought to `side` and the middle cut out (or, without `crop`, both
/// sides brought to it), rounded to 8 bits, normalised; `[B, 3, side, side]`.
fn prepared(p: &Pixels, side: usize, crop: bool) -> Result<Tensor, NodeError> {
    let p = super::super::image::basic::with_channels(p, 3)?;
    let scaled = |own: usize, shorter: usize| (own * side).div_euclid(shorter.max(1)).max(side);
    let shorter = p.height.min(p.width);
    let (height, width) =
        if crop { (scaled(p.height, shorter), scaled(p.width, shorter)) } else { (side, side) };
    let resized = resize(&p, height, width, Method::BicubicAntialiased)?;
    let cut = resized.crop((height - side) / 2, (width - side) / 2, side, side)?;
    let mut normalised = cut.map(|value| (value.clamp(0.0, 1.0) * 255.0).round_ties_even() / 255.0);
    for pixel in normalised.data.chunks_mut(3) {
        for ((value, mean), deviation) in pixel.iter_mut().zip(MEAN).zip(DEVIATION) {
            *value = (*value - mean) / deviation;
        }
    }
    Ok(normalised.into_image()?.permute((0, 3, 1, 2))?.contiguous()?)
}

fn clip_vision_encode_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("CLIPVisionEncode", "conditioning")
        .display("CLIP Vision Encode")
        .input(InputSpec::new("clip_vision", "CLIP_VISION").bare())
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(InputSpec::combo("crop", ["center", "none"]).bare())
        .output(OutputSpec::new("CLIP_VISION_OUTPUT"))
}
fn clip_vision_encode(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let vision: &Vision = inputs.object("clip_vision", "CLIP_VISION")?;
    let encoder = &vision.value;
    let pixels = Pixels::from_image(inputs.image("image")?)?;
    let pictures = prepared(&pixels, encoder.side(), inputs.str("crop")? == "center")?;
    let encoded = encoder.encode(&pictures.to_device(encoder.device())?).map_err(engine)?;
    Ok(NodeOutput::one(Value::object("CLIP_VISION_OUTPUT", encoded)))
}

fn style_model_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("StyleModelLoader", "loaders")
        .display("Load Style Model")
        .input(InputSpec::combo("style_model_name", model_names(host, "style_models")).bare())
        .output(OutputSpec::new("STYLE_MODEL"))
}
fn style_model_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let file = ("style_models", inputs.str("style_model_name")?);
    let style: Style = residency.load(ctx, "style model", file, |dict, options| {
        Ok(Measured::new(loaders::style_model(dict, options)?, dict))
    })?;
    Ok(NodeOutput::one(Value::object("STYLE_MODEL", style)))
}

fn style_model_apply_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("StyleModelApply", "conditioning/style_model")
        .display("Apply Style Model")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(InputSpec::new("style_model", "STYLE_MODEL").bare())
        .input(InputSpec::new("clip_vision_output", "CLIP_VISION_OUTPUT").bare())
        .input(float("strength", 1.0, 0.0, 10.0).step(0.001))
        .input(InputSpec::combo("strength_type", ["multiply", "attn_bias"]).bare())
        .output(OutputSpec::new("CONDITIONING"))
}
fn style_model_apply(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let style: &Style = inputs.object("style_model", "STYLE_MODEL")?;
    let picture: &EncodedPicture = inputs.object("clip_vision_output", "CLIP_VISION_OUTPUT")?;
    let strength = inputs.float("strength")?;
    let factor = match inputs.str("strength_type")? {
        "multiply" => strength,
        // A bias of 0 on the new tokens' scores.
        "attn_bias" if strength == 1.0 => 1.0,
        other => {
            return Err(NodeError::new(
                "NotImplementedError",
                format!(
                    "strength_type '{other}' other than 1 is not supported by this server: use 'multiply'"
                ),
            ));
        }
    };
    let tokens = style.value.forward(&picture.last).map_err(engine)?.to_device(&Device::Cpu)?;
    // All pictures' tokens behind each other.
    let (count, length, width) = tokens.dims3()?;
    let tokens = (tokens.reshape((1, count * length, width))? * factor)?;
    let entries = conditioning(inputs, "conditioning")?.0.iter().map(|entry| {
        let own = entry.cross_attn.to_device(&Device::Cpu)?.to_dtype(tokens.dtype())?;
        let repeated = tokens.broadcast_as((own.dim(0)?, count * length, width))?.contiguous()?;
        let cross_attn = Tensor::cat(&[&own, &repeated], 1)?;
        Ok(CondEntry { cross_attn, ..entry.clone() })
    });
    let entries = entries.collect::<Result<Vec<_>, NodeError>>()?;
    Ok(NodeOutput::one(conditioning_value(Conditioning(entries))))
}

fn un_clip_conditioning_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("unCLIPConditioning", "conditioning")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(InputSpec::new("clip_vision_output", "CLIP_VISION_OUTPUT").bare())
        .input(float("strength", 1.0, -10.0, 10.0).step(0.01))
        .input(float("noise_augmentation", 0.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
}
fn un_clip_conditioning(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let given = conditioning(inputs, "conditioning")?;
    let strength = inputs.float("strength")?;
    if strength == 0.0 {
        return Ok(NodeOutput::one(conditioning_value(given.clone())));
    }
    let encoded: &EncodedPicture = inputs.object("clip_vision_output", "CLIP_VISION_OUTPUT")?;
    let picture = PictureCondition {
        embedding: encoded.embedding.to_device(&Device::Cpu)?,
        strength,
        noise: inputs.float("noise_augmentation")?,
    };
    let changed = with_options(given, |options| options.pictures.push(picture.clone()));
    Ok(NodeOutput::one(conditioning_value(changed)))
}

fn un_clip_checkpoint_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("unCLIPCheckpointLoader", "loaders")
        .input(InputSpec::combo("ckpt_name", model_names(host, "checkpoints")).bare())
        .output(OutputSpec::new("MODEL"))
        .output(OutputSpec::new("CLIP"))
        .output(OutputSpec::new("VAE"))
        .output(OutputSpec::new("CLIP_VISION"))
}
fn un_clip_checkpoint_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("ckpt_name")?;
    let checkpoint = checkpoint(residency, ctx, name)?;
    let purpose = "clip vision of a checkpoint";
    let vision: Vision = residency.load(ctx, purpose, ("checkpoints", name), |dict, options| {
        loaders::clip_vision(dict, name, options).map(Measured::nothing)
    })?;
    let mut values = checkpoint_values(name, &checkpoint).to_vec();
    values.push(Value::object("CLIP_VISION", vision));
    Ok(NodeOutput::values(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::pixels::values;

    #[test]
    fn pictures_are_prepared_as_transformers_does_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vision/clip_vision.safetensors");
        let file = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let picture = Pixels::from_image(&file["io.picture"]).unwrap();
        let found = values(&prepared(&picture, 42, true).unwrap()).unwrap();
        let expected = values(&file["io.prepared"]).unwrap();
        assert_eq!(found.len(), expected.len());
        // It rounds to 8 bits after each direction, we at the end.
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1.6 / 255.0 / 0.26, "{worst}");
        let mean = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / found.len() as f32;
        assert!(mean < 0.5 / 255.0 / 0.26, "{mean}");
        assert_eq!(prepared(&picture, 42, false).unwrap().dims(), [1, 3, 42, 42]);
    }
}
