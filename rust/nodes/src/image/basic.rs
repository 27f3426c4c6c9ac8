//! Batches, cuts, turns and other rearrangements of pictures.

use crate::memory;
use crate::picture::resize::resize_cropped;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageInvert", image_invert_schema, image_invert);
    add(registry, "ImageBatch", image_batch_schema, image_batch);
    add(registry, "BatchImagesNode", batch_images_node_schema, batch_images_node);
    add(registry, "RepeatImageBatch", repeat_image_batch_schema, repeat_image_batch);
    add(registry, "ImageFromBatch", image_from_batch_schema, image_from_batch);
    add(registry, "EmptyImage", empty_image_schema, empty_image);
    add(registry, "ImageCrop", image_crop_schema, image_crop);
    add(registry, "ImageFlip", image_flip_schema, image_flip);
    add(registry, "ImageRotate", image_rotate_schema, image_rotate);
    add(registry, "ImagePadForOutpaint", image_pad_for_outpaint_schema, image_pad_for_outpaint);
    add(registry, "GetImageSize", get_image_size_schema, get_image_size);
    add(registry, "ImageToMask", image_to_mask_schema, image_to_mask);
    add(registry, "ImageColorToMask", image_color_to_mask_schema, image_color_to_mask);
    add(registry, "MaskToImage", mask_to_image_schema, mask_to_image);
}

/// The IMAGE of an input as numbers.
pub(crate) fn pixels(inputs: &Inputs, name: &str) -> Result<Pixels, NodeError> {
    Pixels::from_image(inputs.image(name)?)
}

/// One IMAGE.
pub(crate) fn image(pixels: Pixels) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Image(pixels.into_image()?)))
}

/// Pictures behind each other. Those of another size are brought to the first's; missing channels are filled with 1.
pub(crate) fn join_batches(batches: &[Pixels]) -> Result<Pixels, NodeError> {
    let Some(first) = batches.first() else { return Err(NodeError::value("there are no images to join")) };
    let channels = batches.iter().map(|batch| batch.channels).max().unwrap_or(first.channels);
    let pictures = batches.iter().map(|batch| batch.batch).fold(0, usize::saturating_add);
    let mut data = memory::numbers(&[pictures, first.height, first.width, channels])?;
    data.extend(with_channels(first, channels)?.data);
    for batch in batches.iter().skip(1) {
        let batch = resize_cropped(
            &with_channels(batch, channels)?,
            first.height,
            first.width,
            Method::Bilinear,
            "center",
        )?;
        data.extend(batch.data);
    }
    Ok(Pixels { batch: pictures, height: first.height, width: first.width, channels, data })
}

/// The same with further channels of 1, or without the last ones.
pub(crate) fn with_channels(pixels: &Pixels, channels: usize) -> Result<Pixels, NodeError> {
    if pixels.channels == channels {
        return Ok(pixels.clone());
    }
    Pixels::build(pixels.batch, pixels.height, pixels.width, channels, |b, y, x, c| {
        if c < pixels.channels { pixels.at(b, y, x, c) } else { 1.0 }
    })
}

fn image_invert_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ImageInvert", "image")
        .display("Invert Image")
        .input(InputSpec::new("image", "IMAGE").bare())
        .output(OutputSpec::new("IMAGE"))
}
fn image_invert(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    image(pixels(inputs, "image")?.map(|value| 1.0 - value))
}

fn image_batch_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ImageBatch", "image")
        .display("Batch Images")
        .input(InputSpec::new("image1", "IMAGE").bare())
        .input(InputSpec::new("image2", "IMAGE").bare())
        .output(OutputSpec::new("IMAGE"))
        .extra("deprecated", true)
}
fn image_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    image(join_batches(&[pixels(inputs, "image1")?, pixels(inputs, "image2")?])?)
}

fn batch_images_node_schema(_: &dyn Host) -> NodeSchema {
    v3("BatchImagesNode", "image", "post_processing")
        .display("Batch Images")
        .extra("display_name", "Batch Images")
        .input(InputSpec::new("images", "COMFY_AUTOGROW_V3").opt(
            "template",
            json!({"input": {"required": {"image": ["IMAGE", {}]}}, "max": 50, "min": 2, "prefix": "image"}),
        ))
        .output(OutputSpec::new("IMAGE"))
}
fn batch_images_node(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    image(join_grown(inputs, "images", "IMAGE")?)
}

/// The pictures or masks of an input that takes any number of sockets of type `kind`, behind each other.
pub(crate) fn join_grown(inputs: &Inputs, name: &str, kind: &str) -> Result<Pixels, NodeError> {
    let batches = grown(inputs, name)
        .into_iter()
        .map(|value| match value {
            Value::Image(tensor) if kind == "IMAGE" => Pixels::from_image(tensor),
            Value::Mask(tensor) if kind == "MASK" => Pixels::from_mask(tensor),
            other => {
                Err(NodeError::new("TypeError", format!("'{name}' must be {kind}, got {}", other.kind())))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    join_batches(&batches)
}

fn repeat_image_batch_schema(_: &dyn Host) -> NodeSchema {
    v3("RepeatImageBatch", "image/batch", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("amount", 1, 1, 4096))
        .output(OutputSpec::new("IMAGE"))
}
fn repeat_image_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pixels = pixels(inputs, "image")?;
    let count = pixels.batch.saturating_mul(inputs.size("amount")?);
    image(pixels.with_batch(count)?)
}

fn image_from_batch_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageFromBatch", "image/batch", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("batch_index", 0, 0, 4095))
        .input(int("length", 1, 1, 4096))
        .output(OutputSpec::new("IMAGE"))
}
fn image_from_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let image = inputs.image("image")?;
    let batch = image.dim(0)?;
    let start = inputs.size("batch_index")?.min(batch.saturating_sub(1));
    let length = inputs.size("length")?.min(batch - start);
    Ok(NodeOutput::one(Value::Image(image.narrow(0, start, length)?)))
}

fn empty_image_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("EmptyImage", "image")
        .input(int("width", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("height", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("batch_size", 1, 1, 4096))
        .input(int("color", 0, 0, 16777215).opt("display", "color").step(1))
        .output(OutputSpec::new("IMAGE"))
}
fn empty_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width) = (inputs.size("batch_size")?, inputs.size("height")?, inputs.size("width")?);
    image(Pixels::build(batch, height, width, 3, colour(inputs.size("color")?))?)
}

/// A colour as a function of the channel.
fn colour(rgb: usize) -> impl Fn(usize, usize, usize, usize) -> f32 {
    move |_, _, _, channel| {
        let byte = rgb >> (8 * 2usize.saturating_sub(channel)) & 0xff;
        byte as f32 / 255.0
    }
}

fn image_crop_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageCrop", "image/transform", "images")
        .display("Image Crop")
        .extra("display_name", "Image Crop")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("width", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("height", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("IMAGE"))
}
fn image_crop(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let pixels = pixels(inputs, "image")?;
    let x = inputs.size("x")?.min(pixels.width.saturating_sub(1));
    let y = inputs.size("y")?.min(pixels.height.saturating_sub(1));
    image(pixels.crop(y, x, inputs.size("height")?, inputs.size("width")?)?)
}

fn image_flip_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageFlip", "image/transform", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice("flip_method", ["x-axis: vertically", "y-axis: horizontally"]))
        .output(OutputSpec::new("IMAGE"))
}
fn image_flip(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (p, method) = (pixels(inputs, "image")?, inputs.str("flip_method")?);
    let (rows, columns) = (method.starts_with('x'), method.starts_with('y'));
    image(Pixels::build(p.batch, p.height, p.width, p.channels, |b, y, x, c| {
        let y = if rows { p.height - 1 - y } else { y };
        let x = if columns { p.width - 1 - x } else { x };
        p.at(b, y, x, c)
    })?)
}

fn image_rotate_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageRotate", "image/transform", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice("rotation", ["none", "90 degrees", "180 degrees", "270 degrees"]))
        .output(OutputSpec::new("IMAGE"))
}
fn image_rotate(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (p, rotation) = (pixels(inputs, "image")?, inputs.str("rotation")?);
    let sides = if rotation.starts_with("90") || rotation.starts_with("270") {
        (p.width, p.height)
    } else {
        (p.height, p.width)
    };
    image(Pixels::build(p.batch, sides.0, sides.1, p.channels, |b, y, x, c| match rotation {
        r if r.starts_with("90") => p.at(b, p.height - 1 - x, y, c),
        r if r.starts_with("180") => p.at(b, p.height - 1 - y, p.width - 1 - x, c),
        r if r.starts_with("270") => p.at(b, x, p.width - 1 - y, c),
        _ => p.at(b, y, x, c),
    })?)
}

fn image_pad_for_outpaint_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ImagePadForOutpaint", "image")
        .display("Pad Image for Outpainting")
        .input(InputSpec::new("image", "IMAGE").bare())
        .input(int("left", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("top", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("right", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("bottom", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("feathering", 40, 0, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("IMAGE"))
        .output(OutputSpec::new("MASK"))
}
fn image_pad_for_outpaint(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let (left, top) = (inputs.size("left")?, inputs.size("top")?);
    let (right, bottom) = (inputs.size("right")?, inputs.size("bottom")?);
    let feathering = inputs.size("feathering")?;
    let padded =
        |length: usize, before: usize, after: usize| length.saturating_add(before).saturating_add(after);
    let (height, width) = (padded(p.height, top, bottom), padded(p.width, left, right));
    memory::check_shape("the padded image", &[p.batch, height, width, p.channels], size_of::<f32>())?;
    let inside =
        |y: usize, x: usize| (top..top + p.height).contains(&y) && (left..left + p.width).contains(&x);
    let padded = Pixels::build(p.batch, height, width, p.channels, |b, y, x, c| {
        if inside(y, x) { p.at(b, y - top, x - left, c) } else { 0.5 }
    })?;
    let feather = feathering > 0 && feathering * 2 < p.height && feathering * 2 < p.width;
    let mask = Pixels::build(1, height, width, 1, |_, y, x, _| {
        if !inside(y, x) {
            return 1.0;
        }
        if !feather {
            return 0.0;
        }
        // Towards every side that was padded the mask rises quadratically.
        let (row, column) = (y - top, x - left);
        let distances = [
            (top, row, p.height),
            (bottom, p.height - row, p.height),
            (left, column, p.width),
            (right, p.width - column, p.width),
        ];
        let nearest = distances
            .iter()
            .map(|(pad, distance, far)| if *pad == 0 { *far } else { *distance })
            .min()
            .unwrap_or(0);
        if nearest >= feathering {
            return 0.0;
        }
        let v = (feathering - nearest) as f32 / feathering as f32;
        v * v
    })?;
    Ok(NodeOutput::values([Value::Image(padded.into_image()?), Value::Mask(mask.into_mask()?)]))
}

fn get_image_size_schema(_: &dyn Host) -> NodeSchema {
    v3("GetImageSize", "image", "images")
        .display("Get Image Size")
        .extra("display_name", "Get Image Size")
        .input(InputSpec::new("image", "IMAGE"))
        .input(InputSpec::hidden("unique_id", "UNIQUE_ID").bare())
        .output(OutputSpec::named("INT", "width"))
        .output(OutputSpec::named("INT", "height"))
        .output(OutputSpec::named("INT", "batch_size"))
}
fn get_image_size(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (batch, height, width, _) = inputs.image("image")?.dims4()?;
    ctx.progress_text(&format!("width: {width}, height: {height}\n batch size: {batch}"));
    Ok(NodeOutput::values([width, height, batch].map(|size| Value::Int(size as i128))))
}

fn image_to_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageToMask", "mask", "mask")
        .display("Convert Image to Mask")
        .extra("display_name", "Convert Image to Mask")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice("channel", ["red", "green", "blue", "alpha"]))
        .output(OutputSpec::new("MASK"))
}
fn image_to_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let name = inputs.str("channel")?;
    let channel = ["red", "green", "blue", "alpha"].iter().position(|known| *known == name).unwrap_or(0);
    if channel >= p.channels {
        return Err(NodeError::new(
            "IndexError",
            format!("the image has no {name} channel, only {}", p.channels),
        ));
    }
    let mask = Pixels::build(p.batch, p.height, p.width, 1, |b, y, x, _| p.at(b, y, x, channel))?;
    Ok(NodeOutput::one(Value::Mask(mask.into_mask()?)))
}

fn image_color_to_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageColorToMask", "mask", "mask")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("color", 0, 0, 16777215).opt("display", "number").step(1))
        .output(OutputSpec::new("MASK"))
}
fn image_color_to_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let wanted = inputs.int("color")?;
    let byte = |value: f32| i128::from((value * 255.0).clamp(0.0, 255.0).round_ties_even() as u8);
    let mask = Pixels::build(p.batch, p.height, p.width, 1, |b, y, x, _| {
        let [r, g, blue] = [0, 1, 2].map(|channel| byte(p.at(b, y, x, channel)));
        if (r << 16 | g << 8 | blue) == wanted { 1.0 } else { 0.0 }
    })?;
    Ok(NodeOutput::one(Value::Mask(mask.into_mask()?)))
}

fn mask_to_image_schema(_: &dyn Host) -> NodeSchema {
    v3("MaskToImage", "mask", "mask")
        .display("Convert Mask to Image")
        .extra("display_name", "Convert Mask to Image")
        .input(InputSpec::new("mask", "MASK"))
        .output(OutputSpec::new("IMAGE"))
}
fn mask_to_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mask = Pixels::from_mask(inputs.mask("mask")?)?;
    image(Pixels::build(mask.batch, mask.height, mask.width, 3, |b, y, x, _| mask.at(b, y, x, 0))?)
}
