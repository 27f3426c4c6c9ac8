//! Arithmetic on latents, and batches of them.

use candle_core::D;

use super::transform::with_samples;
use crate::latent::transform::resize_samples;
use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "LatentAdd", latent_add_schema, latent_add);
    add(registry, "LatentSubtract", latent_subtract_schema, latent_subtract);
    add(registry, "LatentMultiply", latent_multiply_schema, latent_multiply);
    add(registry, "LatentInterpolate", latent_interpolate_schema, latent_interpolate);
    add(registry, "LatentBlend", latent_blend_schema, latent_blend);
    add(registry, "LatentBatch", latent_batch_schema, latent_batch);
    add(registry, "BatchLatentsNode", batch_latents_node_schema, batch_latents_node);
    add(registry, "LatentBatchSeedBehavior", latent_batch_seed_behavior_schema, latent_batch_seed_behavior);
    add(registry, "LatentFromBatch", latent_from_batch_schema, latent_from_batch);
    add(registry, "RepeatLatentBatch", repeat_latent_batch_schema, repeat_latent_batch);
    add(registry, "SetLatentNoiseMask", set_latent_noise_mask_schema, set_latent_noise_mask);
    add(registry, "LatentConcat", latent_concat_schema, latent_concat);
    add(registry, "LatentCut", latent_cut_schema, latent_cut);
    add(registry, "LatentCutToBatch", latent_cut_to_batch_schema, latent_cut_to_batch);
    add(registry, "TrimVideoLatent", trim_video_latent_schema, trim_video_latent);
    add(
        registry,
        "ReplaceVideoLatentFrames",
        replace_video_latent_frames_schema,
        replace_video_latent_frames,
    );
}

/// `second` in the shape of `first`: resized if its sides differ, repeated or cut along the batch.
fn fitted(first: &Tensor, second: &Tensor) -> Result<Tensor, NodeError> {
    let mut second = second.clone();
    if let ([.., height, width], [.., other_height, other_width]) = (first.dims(), second.dims())
        && first.rank() >= 4
        && (height, width) != (other_height, other_width)
    {
        second = resize_samples(&second, *height, *width, Method::Bilinear, "center")?;
    }
    repeat_batch(&second, first.dim(0)?)
}

/// The batch brought to `count`: repeated from the start, or cut.
pub(crate) fn repeat_batch(tensor: &Tensor, count: usize) -> Result<Tensor, NodeError> {
    let batch = tensor.dim(0)?;
    if batch == count || batch == 0 {
        return Ok(tensor.clone());
    }
    let mut shape = tensor.dims().to_vec();
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    memory::check_shape("the repeated batch", &shape, tensor.dtype().size_in_bytes())?;
    let copies = vec![tensor; count.div_ceil(batch)];
    Ok(Tensor::cat(&copies, 0)?.narrow(0, 0, count)?)
}

/// The first latent with samples from both.
fn combine(
    inputs: &Inputs,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor, NodeError>,
) -> Result<NodeOutput, NodeError> {
    let first = inputs.latent("samples1")?;
    let second = fitted(&first.samples, &inputs.latent("samples2")?.samples)?;
    Ok(with_samples(first, f(&first.samples, &second)?))
}

fn latent_add_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentAdd", "latent/advanced", "latent")
        .input(InputSpec::new("samples1", "LATENT"))
        .input(InputSpec::new("samples2", "LATENT"))
        .output(OutputSpec::new("LATENT"))
}
fn latent_add(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    combine(inputs, |a, b| Ok((a + b)?))
}

fn latent_subtract_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentSubtract", "latent/advanced", "latent")
        .input(InputSpec::new("samples1", "LATENT"))
        .input(InputSpec::new("samples2", "LATENT"))
        .output(OutputSpec::new("LATENT"))
}
fn latent_subtract(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    combine(inputs, |a, b| Ok((a - b)?))
}

fn latent_multiply_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentMultiply", "latent/advanced", "latent")
        .input(InputSpec::new("samples", "LATENT"))
        .input(float("multiplier", 1.0, -10.0, 10.0).step(0.01))
        .output(OutputSpec::new("LATENT"))
}
fn latent_multiply(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    Ok(with_samples(latent, (&latent.samples * inputs.float("multiplier")?)?))
}

/// Division with 0 in place of what is not a number.
fn divide(a: &Tensor, b: &Tensor) -> Result<Tensor, NodeError> {
    let zero = b.eq(0.0)?;
    let quotient = a.broadcast_div(b)?;
    let zero = zero.broadcast_as(quotient.shape())?;
    Ok(zero.where_cond(&quotient.zeros_like()?, &quotient)?)
}

fn latent_interpolate_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentInterpolate", "latent/advanced", "latent")
        .input(InputSpec::new("samples1", "LATENT"))
        .input(InputSpec::new("samples2", "LATENT"))
        .input(float("ratio", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("LATENT"))
}
fn latent_interpolate(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let ratio = inputs.float("ratio")?;
    combine(inputs, |a, b| {
        // Directions and lengths of the channel vectors are mixed apart.
        let norm = |t: &Tensor| -> Result<Tensor, NodeError> { Ok(t.sqr()?.sum_keepdim(1)?.sqrt()?) };
        let (norm_a, norm_b) = (norm(a)?, norm(b)?);
        let mixed = ((divide(a, &norm_a)? * ratio)? + (divide(b, &norm_b)? * (1.0 - ratio))?)?;
        let unit = divide(&mixed, &norm(&mixed)?)?;
        let length = ((norm_a * ratio)? + (norm_b * (1.0 - ratio))?)?;
        Ok(unit.broadcast_mul(&length)?)
    })
}

fn latent_blend_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentBlend", "_for_testing")
        .display("Latent Blend")
        .input(InputSpec::new("samples1", "LATENT").bare())
        .input(InputSpec::new("samples2", "LATENT").bare())
        .input(float("blend_factor", 0.5, 0, 1).step(0.01))
        .output(OutputSpec::new("LATENT"))
}
fn latent_blend(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let first = inputs.latent("samples1")?;
    let factor = inputs.float("blend_factor")?;
    let mut second = inputs.latent("samples2")?.samples.clone();
    if let [_, _, height, width] = first.samples.dims()
        && second.dims() != first.samples.dims()
    {
        second = resize_samples(&second, *height, *width, Method::Bicubic, "center")?;
    }
    let blended = (&first.samples * factor)?.broadcast_add(&(second * (1.0 - factor))?)?;
    Ok(with_samples(first, blended))
}

/// The draws of noise that the pictures of a latent take.
fn draws(latent: &Latent) -> Result<Vec<usize>, NodeError> {
    Ok(match &latent.batch_index {
        Some(index) => index.clone(),
        None => (0..latent.samples.dim(0)?).collect(),
    })
}

fn latent_batch_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentBatch", "latent/batch", "latent")
        .input(InputSpec::new("samples1", "LATENT"))
        .input(InputSpec::new("samples2", "LATENT"))
        .output(OutputSpec::new("LATENT"))
        .extra("deprecated", true)
}
fn latent_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (first, second) = (inputs.latent("samples1")?, inputs.latent("samples2")?);
    Ok(NodeOutput::one(Value::latent(join(&[first, second])?)))
}

/// Latents behind each other, resized to the first.
fn join(latents: &[&Latent]) -> Result<Latent, NodeError> {
    let Some(first) = latents.first() else { return Err(NodeError::value("there are no latents to join")) };
    let mut samples = Vec::new();
    let mut index = Vec::new();
    for latent in latents {
        let mut own = latent.samples.clone();
        if let ([.., height, width], [.., h, w]) = (first.samples.dims(), own.dims())
            && (height, width) != (h, w)
        {
            own = resize_samples(&own, *height, *width, Method::Bilinear, "center")?;
        }
        samples.push(own);
        index.extend(draws(latent)?);
    }
    let samples = memory::cat(&samples.iter().collect::<Vec<_>>(), 0)?;
    Ok(Latent { samples, batch_index: Some(index), ..Latent::clone(first) })
}

fn batch_latents_node_schema(_: &dyn Host) -> NodeSchema {
    v3("BatchLatentsNode", "latent", "post_processing").display("Batch Latents").extra("display_name", "Batch Latents")
.input(InputSpec::new("latents", "COMFY_AUTOGROW_V3").opt("template", json!({"input": {"required": {"latent": ["LATENT", {}]}}, "max": 50, "min": 2, "prefix": "latent"})))
.output(OutputSpec::new("LATENT"))
}
fn batch_latents_node(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latents = grown(inputs, "latents")
        .into_iter()
        .map(|value| match value {
            Value::Latent(latent) => Ok(latent.as_ref()),
            other => {
                Err(NodeError::new("TypeError", format!("'latents' must be LATENT, got {}", other.kind())))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(NodeOutput::one(Value::latent(join(&latents)?)))
}

fn latent_batch_seed_behavior_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentBatchSeedBehavior", "latent/advanced", "latent")
        .input(InputSpec::new("samples", "LATENT"))
        .input(choice("seed_behavior", ["random", "fixed"]).default("fixed"))
        .output(OutputSpec::new("LATENT"))
}
fn latent_batch_seed_behavior(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut latent = Latent::clone(inputs.latent("samples")?);
    latent.batch_index = match inputs.str("seed_behavior")? {
        "fixed" => {
            let draw = latent.batch_index.as_ref().and_then(|index| index.first().copied()).unwrap_or(0);
            Some(vec![draw; latent.samples.dim(0)?])
        }
        _ => None,
    };
    Ok(NodeOutput::one(Value::latent(latent)))
}

fn latent_from_batch_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("LatentFromBatch", "latent/batch")
        .display("Latent From Batch")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(int("batch_index", 0, 0, 63))
        .input(int("length", 1, 1, 64))
        .output(OutputSpec::new("LATENT"))
}
fn latent_from_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let batch = latent.samples.dim(0)?;
    let start = inputs.size("batch_index")?.min(batch.saturating_sub(1));
    let length = inputs.size("length")?.min(batch - start);
    let noise_mask = match &latent.noise_mask {
        Some(mask) if mask.dim(0)? == 1 => Some(mask.clone()),
        Some(mask) => Some(repeat_batch(mask, batch)?.narrow(0, start, length)?),
        None => None,
    };
    let index = draws(latent)?.into_iter().skip(start).take(length).collect();
    Ok(NodeOutput::one(Value::latent(Latent {
        samples: latent.samples.narrow(0, start, length)?,
        noise_mask,
        batch_index: Some(index),
        extra: latent.extra.clone(),
    })))
}

fn repeat_latent_batch_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("RepeatLatentBatch", "latent/batch")
        .display("Repeat Latent Batch")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(int("amount", 1, 1, 64))
        .output(OutputSpec::new("LATENT"))
}
fn repeat_latent_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let amount = inputs.size("amount")?;
    let batch = latent.samples.dim(0)?;
    let count = batch.saturating_mul(amount);
    let mut repeated = Latent::clone(latent);
    repeated.samples = repeat_batch(&latent.samples, count)?;
    if let Some(mask) = &latent.noise_mask
        && mask.dim(0)? > 1
    {
        repeated.noise_mask = Some(repeat_batch(&repeat_batch(mask, batch)?, count)?);
    }
    if let Some(index) = &latent.batch_index {
        // Later copies take draws behind those of the earlier ones.
        let least = index.iter().min().copied().unwrap_or(0);
        let span = index.iter().max().copied().unwrap_or(0) - least + 1;
        let copies = (0..amount)
            .flat_map(|copy| index.iter().map(move |draw| draw.saturating_add(copy.saturating_mul(span))));
        repeated.batch_index = Some(copies.collect());
    }
    Ok(NodeOutput::one(Value::latent(repeated)))
}

fn set_latent_noise_mask_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("SetLatentNoiseMask", "latent/inpaint")
        .display("Set Latent Noise Mask")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::new("mask", "MASK").bare())
        .output(OutputSpec::new("LATENT"))
}
fn set_latent_noise_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut latent = Latent::clone(inputs.latent("samples")?);
    let mask = inputs.mask("mask")?;
    let (height, width) = (mask.dim(D::Minus2)?, mask.dim(D::Minus1)?);
    latent.noise_mask = Some(mask.reshape(((), 1, height, width))?);
    Ok(NodeOutput::one(Value::latent(latent)))
}

/// The dimension that a node's `dim` names; `t` is the one before rows, whatever it holds.
fn axis(samples: &Tensor, dim: &str) -> Result<usize, NodeError> {
    let from_end = match dim.trim_start_matches('-') {
        "x" => 1,
        "y" => 2,
        _ => 3,
    };
    samples.rank().checked_sub(from_end).ok_or_else(|| {
        NodeError::value(format!("a latent of shape {:?} has no dimension '{dim}'", samples.dims()))
    })
}

fn latent_concat_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentConcat", "latent/advanced", "latent")
        .input(InputSpec::new("samples1", "LATENT"))
        .input(InputSpec::new("samples2", "LATENT"))
        .input(choice("dim", ["x", "-x", "y", "-y", "t", "-t"]))
        .output(OutputSpec::new("LATENT"))
}
fn latent_concat(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let first = inputs.latent("samples1")?;
    let second = repeat_batch(&inputs.latent("samples2")?.samples, first.samples.dim(0)?)?;
    let dim = inputs.str("dim")?;
    let axis = axis(&first.samples, dim)?;
    let joined = if dim.starts_with('-') {
        memory::cat(&[&second, &first.samples], axis)?
    } else {
        memory::cat(&[&first.samples, &second], axis)?
    };
    Ok(with_samples(first, joined))
}

fn latent_cut_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentCut", "latent/advanced", "latent")
        .input(InputSpec::new("samples", "LATENT"))
        .input(choice("dim", ["x", "y", "t"]))
        .input(int("index", 0, -16384, MAX_RESOLUTION).step(1))
        .input(int("amount", 1, 1, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("LATENT"))
}
fn latent_cut(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let axis = axis(&latent.samples, inputs.str("dim")?)?;
    let length = latent.samples.dim(axis)?;
    let index = inputs.int("index")?;
    let amount = inputs.size("amount")?;
    // Negative indexes count from the end; both stay inside.
    let (start, amount) = if index >= 0 {
        let start = usize::try_from(index).unwrap_or(usize::MAX).min(length.saturating_sub(1));
        (start, amount.min(length - start))
    } else {
        let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX).min(length);
        (length - back, amount.min(back))
    };
    Ok(with_samples(latent, latent.samples.narrow(axis, start, amount)?.contiguous()?))
}

fn latent_cut_to_batch_schema(_: &dyn Host) -> NodeSchema {
    v3("LatentCutToBatch", "latent/advanced", "latent")
        .input(InputSpec::new("samples", "LATENT"))
        .input(choice("dim", ["t", "x", "y"]))
        .input(int("slice_size", 1, 1, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("LATENT"))
}
fn latent_cut_to_batch(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    // Pictures have no time axis to cut.
    if inputs.str("dim")? == "t" && latent.samples.rank() < 5 {
        return Ok(NodeOutput::one(Value::Latent(latent.clone())));
    }
    let axis = axis(&latent.samples, inputs.str("dim")?)?;
    let length = latent.samples.dim(axis)?;
    let size = inputs.size("slice_size")?.clamp(1, length.max(1));
    let slices = length / size;
    let cut = latent.samples.narrow(axis, 0, slices * size)?;
    // [B, …, slices * size, …] to [B * slices, …, size, …].
    let mut shape = cut.dims().to_vec();
    shape.splice(axis..=axis, [slices, size]);
    let mut order: Vec<usize> = (0..shape.len()).filter(|dim| *dim != axis).collect();
    order.insert(usize::from(axis > 0), axis);
    let moved = cut.contiguous()?.reshape(shape)?.permute(order)?.contiguous()?;
    let samples = if axis == 0 { moved } else { moved.flatten(0, 1)? };
    Ok(with_samples(latent, samples))
}

fn trim_video_latent_schema(_: &dyn Host) -> NodeSchema {
    v3("TrimVideoLatent", "latent/video", "wan")
        .input(InputSpec::new("samples", "LATENT"))
        .input(int("trim_amount", 0, 0, 99999))
        .output(OutputSpec::new("LATENT"))
}
fn trim_video_latent(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let latent = inputs.latent("samples")?;
    let length = latent.samples.dim(2)?;
    let trim = inputs.size("trim_amount")?.min(length);
    Ok(with_samples(latent, latent.samples.narrow(2, trim, length - trim)?.contiguous()?))
}

fn replace_video_latent_frames_schema(_: &dyn Host) -> NodeSchema {
    v3("ReplaceVideoLatentFrames", "latent/batch", "latent")
        .input(InputSpec::new("destination", "LATENT"))
        .input(int("index", 0, -16384, MAX_RESOLUTION).step(1))
        .input(InputSpec::new("source", "LATENT").optional())
        .output(OutputSpec::new("LATENT"))
}
fn replace_video_latent_frames(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let destination = inputs.latent("destination")?;
    if inputs.present("source").is_none() {
        return Ok(NodeOutput::one(Value::Latent(destination.clone())));
    }
    let source = &inputs.latent("source")?.samples;
    let (frames, new) = (destination.samples.dim(2)?, source.dim(2)?);
    let index = inputs.int("index")?;
    let start = usize::try_from(if index < 0 { index + frames as i128 } else { index }).ok();
    let Some(start) = start.filter(|start| *start < frames && start + new <= frames) else {
        tracing::warn!(%index, frames, new, "the new frames do not fit, the latent stays as it is");
        return Ok(NodeOutput::one(Value::Latent(destination.clone())));
    };
    let before = destination.samples.narrow(2, 0, start)?;
    let after = destination.samples.narrow(2, start + new, frames - start - new)?;
    Ok(with_samples(destination, Tensor::cat(&[&before, source, &after], 2)?))
}
