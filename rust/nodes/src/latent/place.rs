//! Latents flipped, turned, cut, and put onto each other.

use super::ops::repeat_batch;
use super::transform::with_samples;
use crate::image::compose::{Placement, composite, optional_mask};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "LatentFlip", latent_flip_schema, latent_flip);
    add(registry, "LatentRotate", latent_rotate_schema, latent_rotate);
    add(registry, "LatentCrop", latent_crop_schema, latent_crop);
    add(registry, "LatentComposite", latent_composite_schema, latent_composite);
    add(registry, "LatentCompositeMasked", latent_composite_masked_schema, latent_composite_masked);
}

/// Samples `[B, C, H, W]` with every plane's places taken from elsewhere: `from(y, x)` of a plane of the new size.
fn rearranged(
    samples: &Tensor,
    (height, width): (usize, usize),
    from: impl Fn(usize, usize) -> (usize, usize),
) -> Result<Tensor, NodeError> {
    let planes = Pixels::from_mask(samples)?;
    let placed = Pixels::build(planes.batch, height, width, 1, |b, y, x, _| {
        let (y, x) = from(y, x);
        planes.at(b, y, x, 0)
    })?;
    let mut shape = samples.dims().to_vec();
    shape.truncate(shape.len().saturating_sub(2));
    shape.extend([height, width]);
    crate::picture::pixels::tensor(placed.data, &shape)
}

fn sides(samples: &Tensor) -> Result<(usize, usize), NodeError> {
    let planes = samples.dims();
    match planes {
        [.., height, width] => Ok((*height, *width)),
        _ => Err(NodeError::value(format!("a latent of shape {planes:?} has no height and width"))),
    }
}

fn latent_flip_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentFlip", "latent/transform")
        .display("Flip Latent")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::combo("flip_method", ["x-axis: vertically", "y-axis: horizontally"]).bare())
        .output(OutputSpec::new("LATENT"))
}
fn latent_flip(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let (height, width) = sides(&latent.samples)?;
    let method = inputs.str("flip_method")?;
    let flipped = if method.starts_with('x') {
        rearranged(&latent.samples, (height, width), |y, x| (height - 1 - y, x))?
    } else {
        rearranged(&latent.samples, (height, width), |y, x| (y, width - 1 - x))?
    };
    Ok(with_samples(latent, flipped))
}

fn latent_rotate_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentRotate", "latent/transform")
        .display("Rotate Latent")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::combo("rotation", ["none", "90 degrees", "180 degrees", "270 degrees"]).bare())
        .output(OutputSpec::new("LATENT"))
}
fn latent_rotate(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let (height, width) = sides(&latent.samples)?;
    let rotated = match inputs.str("rotation")? {
        r if r.starts_with("90") => rearranged(&latent.samples, (width, height), |y, x| (height - 1 - x, y))?,
        r if r.starts_with("180") => {
            rearranged(&latent.samples, (height, width), |y, x| (height - 1 - y, width - 1 - x))?
        }
        r if r.starts_with("270") => rearranged(&latent.samples, (width, height), |y, x| (x, width - 1 - y))?,
        _ => latent.samples.clone(),
    };
    Ok(with_samples(latent, rotated))
}

fn latent_crop_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentCrop", "latent/transform")
        .display("Crop Latent")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(int("width", 512, 64, MAX_RESOLUTION).step(8))
        .input(int("height", 512, 64, MAX_RESOLUTION).step(8))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(8))
        .output(OutputSpec::new("LATENT"))
}
fn latent_crop(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let (height, width) = sides(&latent.samples)?;
    // At least 8 places stay to the right of and below the corner; in a smaller latent the corner counts from the end.
    let span = |place: &str, size: &str, length: usize| -> Result<(usize, usize), NodeError> {
        let length = length as i64;
        let start = (inputs.size(place)? as i64 / 8).min(length - 8);
        let end = start + inputs.size(size)? as i64 / 8;
        let inside = |index: i64| (if index < 0 { index + length } else { index }).clamp(0, length);
        let (start, end) = (inside(start), inside(end));
        Ok((start as usize, (end - start).max(0) as usize))
    };
    let (y, new_height) = span("y", "height", height)?;
    let (x, new_width) = span("x", "width", width)?;
    let cropped = rearranged(&latent.samples, (new_height, new_width), |row, column| (y + row, x + column))?;
    Ok(with_samples(latent, cropped))
}

fn latent_composite_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentComposite", "latent")
        .display("Latent Composite")
        .input(InputSpec::new("samples_to", "LATENT").bare())
        .input(InputSpec::new("samples_from", "LATENT").bare())
        .input(int("x", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("feather", 0, 0, MAX_RESOLUTION).step(8))
        .output(OutputSpec::new("LATENT"))
}
fn latent_composite(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let to = inputs.latent("samples_to")?;
    let from = repeat_batch(&inputs.latent("samples_from")?.samples, to.samples.dim(0)?)?;
    let (x, y, feather) = (inputs.size("x")? / 8, inputs.size("y")? / 8, inputs.size("feather")? / 8);
    let ((height, width), (from_height, from_width)) = (sides(&to.samples)?, sides(&from)?);
    let (mut target, source) = (Pixels::from_mask(&to.samples)?, Pixels::from_mask(&from)?);
    // Edges that are not on the picture's border fade in.
    let fade = |place: usize, length: usize, at_start: bool, at_end: bool| {
        let step = |distance: usize| ((distance + 1) as f32 / feather as f32).min(1.0);
        let start = if at_start || feather == 0 { 1.0 } else { step(place) };
        let end = if at_end || feather == 0 { 1.0 } else { step(length - 1 - place) };
        start * end
    };
    for b in 0..target.batch {
        for row in 0..from_height.min(height.saturating_sub(y)) {
            for column in 0..from_width.min(width.saturating_sub(x)) {
                let weight = fade(row, from_height, y == 0, y + from_height >= height)
                    * fade(column, from_width, x == 0, x + from_width >= width);
                let index = target.index(b, y + row, x + column, 0);
                if let Some(value) = target.data.get_mut(index) {
                    *value = source.at(b, row, column, 0) * weight + *value * (1.0 - weight);
                }
            }
        }
    }
    Ok(with_samples(to, crate::picture::pixels::tensor(target.data, to.samples.dims())?))
}

fn latent_composite_masked_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentCompositeMasked", "latent", "mask")
        .input(InputSpec::new("destination", "LATENT"))
        .input(InputSpec::new("source", "LATENT"))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(8))
        .input(boolean("resize_source", false))
        .input(InputSpec::new("mask", "MASK").optional())
        .output(OutputSpec::new("LATENT"))
}
fn latent_composite_masked(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let destination = inputs.latent("destination")?;
    let source = &inputs.latent("source")?.samples;
    let last = |samples: &Tensor| -> Result<Pixels, NodeError> {
        Pixels::from_image(&samples.permute((0, 2, 3, 1))?.contiguous()?)
    };
    let mask = optional_mask(inputs, "mask")?;
    let placed = composite(
        &last(&destination.samples)?,
        &last(source)?,
        mask.as_ref(),
        &Placement::from_inputs(inputs, 8)?,
    )?;
    Ok(with_samples(destination, placed.into_image()?.permute((0, 3, 1, 2))?.contiguous()?))
}
