//! Pictures fitted to sizes that follow from their own, and pictures side by side.

use super::basic::{image, pixels, with_channels};
use crate::memory;
use crate::picture::resize::{resize, resize_cropped, round_half_even};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(
        registry,
        "ImageScaleToMaxDimension",
        image_scale_to_max_dimension_schema,
        image_scale_to_max_dimension,
    );
    add(registry, "ImageScaleToTotalPixels", image_scale_to_total_pixels_schema, image_scale_to_total_pixels);
    add(registry, "ResizeAndPadImage", resize_and_pad_image_schema, resize_and_pad_image);
    add(registry, "FluxKontextImageScale", flux_kontext_image_scale_schema, flux_kontext_image_scale);
    add(registry, "ImageStitch", image_stitch_schema, image_stitch);
}

fn image_scale_to_max_dimension_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageScaleToMaxDimension", "image/upscaling", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice(
            "upscale_method",
            ["area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"],
        ))
        .input(int("largest_size", 512, 0, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("IMAGE"))
}
fn image_scale_to_max_dimension(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let largest = inputs.size("largest_size")?;
    let scaled = |short: usize, long: usize| round_half_even(short as f64 / long as f64 * largest as f64);
    let (height, width) = match p.height.cmp(&p.width) {
        std::cmp::Ordering::Greater => (largest, scaled(p.width, p.height)),
        std::cmp::Ordering::Less => (scaled(p.height, p.width), largest),
        std::cmp::Ordering::Equal => (largest, largest),
    };
    image(resize(&p, height, width, Method::parse(inputs.str("upscale_method")?)?)?)
}

fn image_scale_to_total_pixels_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageScaleToTotalPixels", "image/upscaling", "post_processing")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice("upscale_method", IMAGE_RESIZES))
        .input(float("megapixels", 1.0, 0.01, 16.0).step(0.01))
        .input(int("resolution_steps", 1, 1, 256))
        .output(OutputSpec::new("IMAGE"))
}
fn image_scale_to_total_pixels(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let steps = match inputs.present("resolution_steps") {
        Some(_) => inputs.size("resolution_steps")?.max(1),
        None => 1,
    };
    let total = inputs.float("megapixels")? * 1024.0 * 1024.0;
    let by = (total / (p.width * p.height) as f64).sqrt();
    let side = |old: usize| round_half_even(old as f64 * by / steps as f64).saturating_mul(steps);
    image(resize(&p, side(p.height), side(p.width), Method::parse(inputs.str("upscale_method")?)?)?)
}

fn resize_and_pad_image_schema(_: &dyn Host) -> NodeSchema {
    v3("ResizeAndPadImage", "image/transform", "images")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("target_width", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("target_height", 512, 1, MAX_RESOLUTION).step(1))
        .input(choice("padding_color", ["white", "black"]))
        .input(choice("interpolation", ["area", "bicubic", "nearest-exact", "bilinear", "lanczos"]))
        .output(OutputSpec::new("IMAGE"))
}
fn resize_and_pad_image(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let (height, width) = (inputs.size("target_height")?, inputs.size("target_width")?);
    let by = (width as f64 / p.width as f64).min(height as f64 / p.height as f64);
    let (inner_height, inner_width) = ((p.height as f64 * by) as usize, (p.width as f64 * by) as usize);
    let inner = resize(&p, inner_height, inner_width, Method::parse(inputs.str("interpolation")?)?)?;
    let colour = if inputs.str("padding_color")? == "white" { 1.0 } else { 0.0 };
    let mut padded = Pixels::filled(p.batch, height, width, p.channels, colour)?;
    paste(&mut padded, &inner, (height - inner_height) / 2, (width - inner_width) / 2);
    image(padded)
}

/// Puts every picture of `from` into `to` at a place; what does not fit is left out.
pub(crate) fn paste(to: &mut Pixels, from: &Pixels, top: usize, left: usize) {
    let rows = from.height.min(to.height.saturating_sub(top));
    let values = from.width.min(to.width.saturating_sub(left)) * from.channels;
    for picture in 0..from.batch.min(to.batch) {
        for y in 0..rows {
            let source = from.index(picture, y, 0, 0);
            let target = to.index(picture, top + y, left, 0);
            if let (Some(source), Some(target)) =
                (from.data.get(source..source + values), to.data.get_mut(target..target + values))
            {
                target.copy_from_slice(source);
            }
        }
    }
}

/// Sizes that FLUX.1 Kontext was trained on (width, height), as published by its authors.
const KONTEXT_SIZES: [(usize, usize); 17] = [
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
    (1104, 944),
    (1184, 880),
    (1248, 832),
    (1328, 800),
    (1392, 752),
    (1456, 720),
    (1504, 688),
    (1568, 672),
];

fn flux_kontext_image_scale_schema(_: &dyn Host) -> NodeSchema {
    v3("FluxKontextImageScale", "advanced/conditioning/flux", "flux")
        .input(InputSpec::new("image", "IMAGE"))
        .output(OutputSpec::new("IMAGE"))
}
fn flux_kontext_image_scale(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let aspect = p.width as f64 / p.height as f64;
    let distance = |size: &(usize, usize)| (aspect - size.0 as f64 / size.1 as f64).abs();
    let nearest = KONTEXT_SIZES.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let (width, height) = nearest.copied().unwrap_or((1024, 1024));
    image(resize_cropped(&p, height, width, Method::Lanczos, "center")?)
}

/// The middle of a larger picture that is filled with `background`.
fn centred(p: &Pixels, height: usize, width: usize, background: f32) -> Result<Pixels, NodeError> {
    let mut padded = Pixels::filled(p.batch, height, width, p.channels, background)?;
    paste(&mut padded, p, (height - p.height) / 2, (width - p.width) / 2);
    Ok(padded)
}

/// The batch brought to `count` by repeating its last picture.
fn repeat_last(p: &Pixels, count: usize) -> Result<Pixels, NodeError> {
    memory::check_shape("the longer batch", &[count, p.height, p.width, p.channels], size_of::<f32>())?;
    let mut p = p.clone();
    let length = p.picture_len();
    let last = p.data.get(p.data.len().saturating_sub(length)..).unwrap_or(&[]).to_vec();
    while p.batch < count {
        p.data.extend_from_slice(&last);
        p.batch += 1;
    }
    Ok(p)
}

fn image_stitch_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageStitch", "image/transform", "images")
        .display("Image Stitch")
        .extra("display_name", "Image Stitch")
        .input(InputSpec::new("image1", "IMAGE"))
        .input(choice("direction", ["right", "down", "left", "up"]).default("right"))
        .input(boolean("match_image_size", true))
        .input(int("spacing_width", 0, 0, 1024).step(2))
        .input(choice("spacing_color", ["white", "black", "red", "green", "blue"]).default("white"))
        .input(InputSpec::new("image2", "IMAGE").optional())
        .output(OutputSpec::new("IMAGE"))
}
fn image_stitch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let first = pixels(inputs, "image1")?;
    if inputs.present("image2").is_none() {
        return image(first);
    }
    let second = pixels(inputs, "image2")?;
    let direction = inputs.str("direction")?;
    let horizontal = matches!(direction, "left" | "right");
    let count = first.batch.max(second.batch);
    let (mut first, mut second) = (repeat_last(&first, count)?, repeat_last(&second, count)?);
    let spacing_color = inputs.str("spacing_color")?;
    // Beside the smaller picture only white is white; other colours are the gap's alone.
    let background = if spacing_color == "white" { 1.0 } else { 0.0 };
    if inputs.bool("match_image_size")? {
        let (height, width) = if horizontal {
            (first.height, (first.height as f64 * (second.width as f64 / second.height as f64)) as usize)
        } else {
            ((first.width as f64 * (second.height as f64 / second.width as f64)) as usize, first.width)
        };
        second = resize(&second, height, width, Method::Lanczos)?;
    } else if horizontal {
        let height = first.height.max(second.height);
        first = centred(&first, height, first.width, background)?;
        second = centred(&second, height, second.width, background)?;
    } else {
        let width = first.width.max(second.width);
        first = centred(&first, first.height, width, background)?;
        second = centred(&second, second.height, width, background)?;
    }
    let channels = first.channels.max(second.channels);
    let (first, second) = (with_channels(&first, channels)?, with_channels(&second, channels)?);
    // The gap has an even width so that video encoders take the result.
    let spacing = inputs.size("spacing_width")?;
    let spacing = spacing.saturating_add(spacing % 2);
    let (before, after) =
        if matches!(direction, "left" | "up") { (&second, &first) } else { (&first, &second) };
    let (height, width) = if horizontal {
        (before.height, (before.width + after.width).saturating_add(spacing))
    } else {
        ((before.height + after.height).saturating_add(spacing), before.width)
    };
    let colour = match spacing_color {
        "black" => [0.0, 0.0, 0.0],
        "red" => [1.0, 0.0, 0.0],
        "green" => [0.0, 1.0, 0.0],
        "blue" => [0.0, 0.0, 1.0],
        _ => [1.0, 1.0, 1.0],
    };
    let mut stitched =
        Pixels::build(count, height, width, channels, |_, _, _, c| colour.get(c).copied().unwrap_or(1.0))?;
    paste(&mut stitched, before, 0, 0);
    let (top, left) = if horizontal { (0, before.width + spacing) } else { (before.height + spacing, 0) };
    paste(&mut stitched, after, top, left);
    image(stitched)
}
