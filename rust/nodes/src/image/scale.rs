//! Nodes that change the size of pictures.

use crate::picture::resize::{resize, resize_cropped, round_half_even};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageScale", image_scale_schema, image_scale);
    add(registry, "ImageScaleBy", image_scale_by_schema, image_scale_by);
}

fn image(pixels: Pixels) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Image(pixels.into_image()?)))
}

fn method(inputs: &Inputs, name: &str) -> Result<Method, NodeError> {
    Method::parse(inputs.str(name)?)
}

fn image_scale_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ImageScale", "image/upscaling")
        .display("Upscale Image")
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(InputSpec::combo("upscale_method", IMAGE_RESIZES).bare())
        .input(int("width", 512, 0, MAX_RESOLUTION).step(1))
        .input(int("height", 512, 0, MAX_RESOLUTION).step(1))
        .input(InputSpec::combo("crop", CROPS).bare())
        .output(OutputSpec::new("IMAGE"))
}
fn image_scale(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let tensor = inputs.image("image")?;
    let (mut width, mut height) = (inputs.size("width")?, inputs.size("height")?);
    if width == 0 && height == 0 {
        return Ok(NodeOutput::one(Value::Image(tensor.clone())));
    }
    let pixels = Pixels::from_image(tensor)?;
    let (old_width, old_height) = (pixels.width as f64, pixels.height as f64);
    // A zero side keeps the aspect ratio.
    if width == 0 {
        width = round_half_even(old_width * height as f64 / old_height).max(1);
    } else if height == 0 {
        height = round_half_even(old_height * width as f64 / old_width).max(1);
    }
    image(resize_cropped(&pixels, height, width, method(inputs, "upscale_method")?, inputs.str("crop")?)?)
}

fn image_scale_by_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ImageScaleBy", "image/upscaling")
        .display("Upscale Image By")
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(InputSpec::combo("upscale_method", IMAGE_RESIZES).bare())
        .input(float("scale_by", 1.0, 0.01, 8.0).step(0.01))
        .output(OutputSpec::new("IMAGE"))
}
fn image_scale_by(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pixels = Pixels::from_image(inputs.image("image")?)?;
    let by = inputs.float("scale_by")?;
    let (height, width) =
        (round_half_even(pixels.height as f64 * by), round_half_even(pixels.width as f64 * by));
    image(resize(&pixels, height, width, method(inputs, "upscale_method")?)?)
}
