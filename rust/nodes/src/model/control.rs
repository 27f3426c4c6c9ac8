//! Control networks and picture upscalers.

use std::sync::Arc;

use rushlight_diffusion::Error;
use rushlight_diffusion::conditioning::{CondOptions, ControlApply, ControlModel};
use rushlight_diffusion::loaders::{Upscaler, control_net};
use rushlight_diffusion::tiled::TileSize;

use super::conditioning::with_options;
use super::loader::Loaders;
use super::objects::{conditioning, conditioning_value, engine};
use super::residency::Residency;
use super::resident::Measured;
use crate::memory;
use crate::prelude::*;

/// Registers the classes that load files.
pub(crate) fn register_loaders(loaders: &mut Loaders<'_>) {
    loaders.add("ControlNetLoader", control_net_loader_schema, control_net_loader);
    loaders.add("UpscaleModelLoader", upscale_model_loader_schema, upscale_model_loader);
}

/// Registers the classes that load nothing.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ControlNetApply", control_net_apply_schema, control_net_apply);
    add(registry, "ControlNetApplyAdvanced", control_net_apply_advanced_schema, control_net_apply_advanced);
    add(registry, "SetUnionControlNetType", set_union_control_net_type_schema, set_union_control_net_type);
    add(registry, "ImageUpscaleWithModel", image_upscale_with_model_schema, image_upscale_with_model);
}

/// A CONTROL_NET: the network, and which control a union network is to be.
#[derive(Clone)]
struct Control {
    network: Arc<dyn ControlModel>,
    union_type: Option<usize>,
}

fn control_net_loader_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("ControlNetLoader", "loaders")
        .display("Load ControlNet Model")
        .input(InputSpec::combo("control_net_name", model_names(host, "controlnet")).bare())
        .output(OutputSpec::new("CONTROL_NET"))
}
fn control_net_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("control_net_name")?;
    let network = residency.load(ctx, "controlnet", ("controlnet", name), |dict, options| {
        Ok(Measured::new(control_net(dict, name, options)?, dict))
    })?;
    let network = network.value.clone();
    Ok(NodeOutput::one(Value::object("CONTROL_NET", Control { network, union_type: None })))
}

/// An IMAGE as a control picture `[B, 3, H, W]` on the device.
fn hint(ctx: &NodeContext, inputs: &Inputs) -> Result<Tensor, NodeError> {
    let image = inputs.image("image")?;
    let channels = image.dim(3)?.min(3);
    Ok(image.narrow(3, 0, channels)?.permute((0, 3, 1, 2))?.contiguous()?.to_device(ctx.device())?)
}

fn apply(options: &mut CondOptions, control: &ControlApply) {
    options.controls.push(control.clone());
}

fn control_net_apply_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ControlNetApply", "conditioning/controlnet")
        .display("Apply ControlNet (OLD)")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(InputSpec::new("control_net", "CONTROL_NET").bare())
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
        .extra("deprecated", true)
}
fn control_net_apply(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let positive = conditioning(inputs, "conditioning")?;
    let strength = inputs.float("strength")?;
    if strength == 0.0 {
        return Ok(NodeOutput::one(conditioning_value(positive.clone())));
    }
    let Control { network, union_type } = inputs.object::<Control>("control_net", "CONTROL_NET")?.clone();
    let control = ControlApply {
        network,
        hint: hint(ctx, inputs)?,
        strength,
        start_percent: 0.0,
        end_percent: 1.0,
        union_type,
    };
    Ok(NodeOutput::one(conditioning_value(with_options(positive, |options| {
        apply(options, &control);
        options.control_apply_to_uncond = true;
    }))))
}

fn control_net_apply_advanced_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ControlNetApplyAdvanced", "conditioning/controlnet")
        .display("Apply ControlNet")
        .input(InputSpec::new("positive", "CONDITIONING").bare())
        .input(InputSpec::new("negative", "CONDITIONING").bare())
        .input(InputSpec::new("control_net", "CONTROL_NET").bare())
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .input(float("start_percent", 0.0, 0.0, 1.0).step(0.001))
        .input(float("end_percent", 1.0, 0.0, 1.0).step(0.001))
        .input(InputSpec::new("vae", "VAE").bare().optional())
        .output(OutputSpec::named("CONDITIONING", "positive"))
        .output(OutputSpec::named("CONDITIONING", "negative"))
}
fn control_net_apply_advanced(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (positive, negative) = (conditioning(inputs, "positive")?, conditioning(inputs, "negative")?);
    let strength = inputs.float("strength")?;
    if strength == 0.0 {
        return Ok(NodeOutput::values([
            conditioning_value(positive.clone()),
            conditioning_value(negative.clone()),
        ]));
    }
    let Control { network, union_type } = inputs.object::<Control>("control_net", "CONTROL_NET")?.clone();
    let control = ControlApply {
        network,
        hint: hint(ctx, inputs)?,
        strength,
        start_percent: inputs.float("start_percent")?,
        end_percent: inputs.float("end_percent")?,
        union_type,
    };
    let both = [positive, negative].map(|list| {
        conditioning_value(with_options(list, |options| {
            apply(options, &control);
            options.control_apply_to_uncond = false;
        }))
    });
    Ok(NodeOutput::values(both))
}

/// Kinds of control picture in the order that union networks number them.
const UNION_TYPES: [&str; 8] = [
    "openpose",
    "depth",
    "hed/pidi/scribble/ted",
    "canny/lineart/anime_lineart/mlsd",
    "normal",
    "segment",
    "tile",
    "repaint",
];

fn set_union_control_net_type_schema(_: &dyn Host) -> NodeSchema {
    v3("SetUnionControlNetType", "conditioning/controlnet", "controlnet")
        .input(InputSpec::new("control_net", "CONTROL_NET"))
        .input(choice("type", std::iter::once("auto").chain(UNION_TYPES)))
        .output(OutputSpec::new("CONTROL_NET"))
}
fn set_union_control_net_type(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut control = inputs.object::<Control>("control_net", "CONTROL_NET")?.clone();
    let kind = inputs.str("type")?;
    control.union_type = UNION_TYPES.iter().position(|known| *known == kind);
    Ok(NodeOutput::one(Value::object("CONTROL_NET", control)))
}

fn upscale_model_loader_schema(host: &dyn Host) -> NodeSchema {
    v3("UpscaleModelLoader", "loaders", "upscale_model")
        .display("Load Upscale Model")
        .extra("display_name", "Load Upscale Model")
        .input(choice("model_name", model_names(host, "upscale_models")))
        .output(OutputSpec::new("UPSCALE_MODEL"))
}
fn upscale_model_loader(
    residency: &Residency,
    ctx: &NodeContext,
    inputs: &Inputs,
) -> Result<NodeOutput, NodeError> {
    let upscaler =
        residency.load(ctx, "upscaler", ("upscale_models", inputs.str("model_name")?), Upscaler::new)?;
    Ok(NodeOutput::one(Value::object("UPSCALE_MODEL", Upscaler::clone(&upscaler))))
}

/// Sides of the tiles that pictures are upscaled in, and what neighbours share.
const TILES: TileSize = TileSize { height: 512, width: 512, overlap: 32 };

fn image_upscale_with_model_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageUpscaleWithModel", "image/upscaling", "upscale_model")
        .display("Upscale Image (using Model)")
        .extra("display_name", "Upscale Image (using Model)")
        .input(InputSpec::new("upscale_model", "UPSCALE_MODEL"))
        .input(InputSpec::new("image", "IMAGE"))
        .output(OutputSpec::new("IMAGE"))
}
fn image_upscale_with_model(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let upscaler: &Upscaler = inputs.object("upscale_model", "UPSCALE_MODEL")?;
    let image = inputs.image("image")?;
    let (batch, height, width, _) = image.dims4()?;
    let scaled = |side: usize| -> Result<usize, NodeError> {
        Ok((side as f64 * upscaler.scale().map_err(engine)?).ceil() as usize)
    };
    memory::check_shape(
        "the upscaled image",
        &[batch, scaled(height)?, scaled(width)?, 3],
        size_of::<f32>(),
    )?;
    let upscaled = upscaler
        .upscale(image, TILES, |done, total| {
            ctx.progress(done as u64, total as u64, None).map_err(|_| Error::Cancelled)
        })
        .map_err(engine)?;
    Ok(NodeOutput::one(Value::Image(upscaled)))
}
