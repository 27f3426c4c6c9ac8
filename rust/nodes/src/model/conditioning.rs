//! Conditioning: where, when, how strongly, and together with what.

use rushlight_diffusion::conditioning::{Area, CondEntry, CondOptions, Conditioning};

use super::objects::{conditioning, conditioning_value};
use super::vae::encode;
use crate::memory;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ConditioningCombine", conditioning_combine_schema, conditioning_combine);
    add(registry, "ConditioningConcat", conditioning_concat_schema, conditioning_concat);
    add(registry, "ConditioningAverage", conditioning_average_schema, conditioning_average);
    add(registry, "ConditioningZeroOut", conditioning_zero_out_schema, conditioning_zero_out);
    add(registry, "ConditioningSetArea", conditioning_set_area_schema, conditioning_set_area);
    add(
        registry,
        "ConditioningSetAreaPercentage",
        conditioning_set_area_percentage_schema,
        conditioning_set_area_percentage,
    );
    add(
        registry,
        "ConditioningSetAreaStrength",
        conditioning_set_area_strength_schema,
        conditioning_set_area_strength,
    );
    add(registry, "ConditioningSetMask", conditioning_set_mask_schema, conditioning_set_mask);
    add(
        registry,
        "ConditioningSetTimestepRange",
        conditioning_set_timestep_range_schema,
        conditioning_set_timestep_range,
    );
    add(registry, "FluxGuidance", flux_guidance_schema, flux_guidance);
    add(registry, "FluxDisableGuidance", flux_disable_guidance_schema, flux_disable_guidance);
    add(registry, "ReferenceLatent", reference_latent_schema, reference_latent);
    add(registry, "VAEEncodeForInpaint", vae_encode_for_inpaint_schema, vae_encode_for_inpaint);
    add(registry, "PairConditioningCombine", pair_conditioning_combine_schema, pair_conditioning_combine);
    add(
        registry,
        "InstructPixToPixConditioning",
        instruct_pix_to_pix_conditioning_schema,
        instruct_pix_to_pix_conditioning,
    );
    add(registry, "InpaintModelConditioning", inpaint_model_conditioning_schema, inpaint_model_conditioning);
}

fn output(entries: Vec<CondEntry>) -> NodeOutput {
    NodeOutput::one(conditioning_value(Conditioning(entries)))
}

/// Every entry with changed options.
pub(crate) fn with_options(conditioning: &Conditioning, change: impl Fn(&mut CondOptions)) -> Conditioning {
    let entries = conditioning.0.iter().cloned().map(|mut entry| {
        change(&mut entry.options);
        entry
    });
    Conditioning(entries.collect())
}

fn changed(inputs: &Inputs, change: impl Fn(&mut CondOptions)) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(conditioning_value(with_options(conditioning(inputs, "conditioning")?, change))))
}

fn conditioning_combine_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningCombine", "conditioning")
        .display("Conditioning (Combine)")
        .input(InputSpec::new("conditioning_1", "CONDITIONING").bare())
        .input(InputSpec::new("conditioning_2", "CONDITIONING").bare())
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_combine(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mut entries = conditioning(inputs, "conditioning_1")?.0.clone();
    entries.extend(conditioning(inputs, "conditioning_2")?.0.iter().cloned());
    Ok(output(entries))
}

/// The first entry of the conditioning that is mixed in.
fn source(inputs: &Inputs) -> Result<CondEntry, NodeError> {
    let from = conditioning(inputs, "conditioning_from")?;
    if from.0.len() > 1 {
        tracing::warn!("conditioning_from has several entries, only the first is used");
    }
    from.0.first().cloned().ok_or_else(|| NodeError::value("conditioning_from is empty"))
}

fn conditioning_concat_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningConcat", "conditioning")
        .display("Conditioning (Concat)")
        .input(InputSpec::new("conditioning_to", "CONDITIONING").bare())
        .input(InputSpec::new("conditioning_from", "CONDITIONING").bare())
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_concat(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let from = source(inputs)?;
    let entries = conditioning(inputs, "conditioning_to")?.0.iter().map(|entry| {
        let cross_attn = Tensor::cat(&[&entry.cross_attn, &from.cross_attn], 1)?;
        Ok(CondEntry { cross_attn, ..entry.clone() })
    });
    Ok(output(entries.collect::<Result<_, NodeError>>()?))
}

fn conditioning_average_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningAverage", "conditioning")
        .input(InputSpec::new("conditioning_to", "CONDITIONING").bare())
        .input(InputSpec::new("conditioning_from", "CONDITIONING").bare())
        .input(float("conditioning_to_strength", 1.0, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_average(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let from = source(inputs)?;
    let strength = inputs.float("conditioning_to_strength")?;
    let mix = |to: &Tensor, from: &Tensor| -> Result<Tensor, NodeError> {
        Ok(((to * strength)? + (from * (1.0 - strength))?)?)
    };
    let entries = conditioning(inputs, "conditioning_to")?.0.iter().map(|entry| {
        let (batch, length, width) = entry.cross_attn.dims3()?;
        // The mixed-in text is cut, or filled with zeros, to the length of the other.
        let mut other = from.cross_attn.narrow(1, 0, from.cross_attn.dim(1)?.min(length))?;
        let missing = length - other.dim(1)?;
        if missing > 0 {
            other = Tensor::cat(
                &[&other, &Tensor::zeros((batch, missing, width), other.dtype(), other.device())?],
                1,
            )?;
        }
        let pooled = match (&entry.pooled, &from.pooled) {
            (Some(to), Some(from)) => Some(mix(to, from)?),
            (to, from) => to.clone().or_else(|| from.clone()),
        };
        Ok(CondEntry { cross_attn: mix(&entry.cross_attn, &other)?, pooled, options: entry.options.clone() })
    });
    Ok(output(entries.collect::<Result<_, NodeError>>()?))
}

fn conditioning_zero_out_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningZeroOut", "advanced/conditioning")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_zero_out(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let entries = conditioning(inputs, "conditioning")?.0.iter().map(|entry| {
        let pooled = entry.pooled.as_ref().map(Tensor::zeros_like).transpose()?;
        Ok(CondEntry { cross_attn: entry.cross_attn.zeros_like()?, pooled, options: entry.options.clone() })
    });
    Ok(output(entries.collect::<Result<_, NodeError>>()?))
}

fn conditioning_set_area_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningSetArea", "conditioning")
        .display("Conditioning (Set Area)")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(int("width", 64, 64, MAX_RESOLUTION).step(8))
        .input(int("height", 64, 64, MAX_RESOLUTION).step(8))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(8))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(8))
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_set_area(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let cells = |name: &str| inputs.size(name).map(|pixels| pixels / 8);
    let area =
        Area::Latent { height: cells("height")?, width: cells("width")?, y: cells("y")?, x: cells("x")? };
    let strength = inputs.float("strength")?;
    changed(inputs, |options| {
        options.area = Some(area);
        options.strength = strength;
        options.set_area_to_bounds = false;
    })
}

fn conditioning_set_area_percentage_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningSetAreaPercentage", "conditioning")
        .display("Conditioning (Set Area with Percentage)")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(float("width", 1.0, 0, 1.0).step(0.01))
        .input(float("height", 1.0, 0, 1.0).step(0.01))
        .input(float("x", 0, 0, 1.0).step(0.01))
        .input(float("y", 0, 0, 1.0).step(0.01))
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_set_area_percentage(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let area = Area::Percent {
        height: inputs.float("height")?,
        width: inputs.float("width")?,
        y: inputs.float("y")?,
        x: inputs.float("x")?,
    };
    let strength = inputs.float("strength")?;
    changed(inputs, |options| {
        options.area = Some(area);
        options.strength = strength;
        options.set_area_to_bounds = false;
    })
}

fn conditioning_set_area_strength_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningSetAreaStrength", "conditioning")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_set_area_strength(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let strength = inputs.float("strength")?;
    changed(inputs, |options| options.strength = strength)
}

fn conditioning_set_mask_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningSetMask", "conditioning")
        .display("Conditioning (Set Mask)")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(InputSpec::new("mask", "MASK").bare())
        .input(float("strength", 1.0, 0.0, 10.0).step(0.01))
        .input(InputSpec::combo("set_cond_area", ["default", "mask bounds"]).bare())
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_set_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let mask = inputs.mask("mask")?;
    let mask = if mask.rank() < 3 { mask.unsqueeze(0)? } else { mask.clone() };
    let strength = inputs.float("strength")?;
    let bounds = inputs.str("set_cond_area")? != "default";
    changed(inputs, |options| {
        options.mask = Some(mask.clone());
        options.mask_strength = strength;
        options.set_area_to_bounds = bounds;
    })
}

fn conditioning_set_timestep_range_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("ConditioningSetTimestepRange", "advanced/conditioning")
        .input(InputSpec::new("conditioning", "CONDITIONING").bare())
        .input(float("start", 0.0, 0.0, 1.0).step(0.001))
        .input(float("end", 1.0, 0.0, 1.0).step(0.001))
        .output(OutputSpec::new("CONDITIONING"))
}
fn conditioning_set_timestep_range(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (start, end) = (inputs.float("start")?, inputs.float("end")?);
    changed(inputs, |options| {
        options.start_percent = start;
        options.end_percent = end;
    })
}

fn flux_guidance_schema(_: &dyn Host) -> NodeSchema {
    v3("FluxGuidance", "advanced/conditioning/flux", "flux")
        .input(InputSpec::new("conditioning", "CONDITIONING"))
        .input(float("guidance", 3.5, 0.0, 100.0).step(0.1))
        .output(OutputSpec::new("CONDITIONING"))
}
fn flux_guidance(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let guidance = inputs.float("guidance")?;
    changed(inputs, |options| options.guidance = Some(guidance))
}

fn flux_disable_guidance_schema(_: &dyn Host) -> NodeSchema {
    v3("FluxDisableGuidance", "advanced/conditioning/flux", "flux")
        .input(InputSpec::new("conditioning", "CONDITIONING"))
        .output(OutputSpec::new("CONDITIONING"))
}
fn flux_disable_guidance(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    changed(inputs, |options| options.guidance = None)
}

fn reference_latent_schema(_: &dyn Host) -> NodeSchema {
    v3("ReferenceLatent", "advanced/conditioning/edit_models", "edit_model")
        .input(InputSpec::new("conditioning", "CONDITIONING"))
        .input(InputSpec::new("latent", "LATENT").optional())
        .output(OutputSpec::new("CONDITIONING"))
}
fn reference_latent(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = match inputs.present("latent") {
        Some(_) => Some(inputs.latent("latent")?.samples.clone()),
        None => None,
    };
    changed(inputs, |options| options.reference_latents.extend(samples.clone()))
}

/// Pictures cut, from the top left corner's centre, to sides that are multiples of 8, and the mask likewise.
fn to_multiple_of_8(p: &Pixels) -> Result<Pixels, NodeError> {
    let (height, width) = (p.height / 8 * 8, p.width / 8 * 8);
    p.crop((p.height - height) / 2, (p.width - width) / 2, height, width)
}

/// The mask of an input in the size of a picture.
fn fitted_mask(inputs: &Inputs, p: &Pixels) -> Result<Pixels, NodeError> {
    let mask = Pixels::from_mask(inputs.mask("mask")?)?;
    crate::picture::resize::resize(&mask, p.height, p.width, Method::Bilinear)
}

/// Pictures with what is under the mask (rounded) set to grey.
fn greyed(p: &Pixels, mask: &Pixels) -> Result<Pixels, NodeError> {
    let mask = mask.with_batch(p.batch)?;
    Pixels::build(p.batch, p.height, p.width, p.channels, |b, y, x, c| {
        let keep = 1.0 - mask.at(b, y, x, 0).round_ties_even();
        (p.at(b, y, x, c) - 0.5) * keep + 0.5
    })
}

fn mask_tensor(mask: &Pixels) -> Result<Tensor, NodeError> {
    crate::picture::pixels::tensor(mask.data.clone(), &[mask.batch, 1, mask.height, mask.width])
}

fn vae_encode_for_inpaint_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("VAEEncodeForInpaint", "latent/inpaint")
        .display("VAE Encode (for Inpainting)")
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .input(InputSpec::new("mask", "MASK").bare())
        .input(int("grow_mask_by", 6, 0, 64).step(1))
        .output(OutputSpec::new("LATENT"))
}
fn vae_encode_for_inpaint(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let whole = Pixels::from_image(inputs.image("pixels")?)?;
    let mask = to_multiple_of_8(&fitted_mask(inputs, &whole)?)?;
    let pixels = to_multiple_of_8(&whole)?;
    let grown = grow_square(&mask, inputs.size("grow_mask_by")?)?;
    let vae = super::objects::vae(inputs, "vae")?;
    let samples = encode(ctx, vae, &greyed(&pixels, &mask)?.into_image()?, memory::is_free)?;
    let latent = Latent { noise_mask: Some(mask_tensor(&grown)?), ..Latent::new(samples) };
    Ok(NodeOutput::one(Value::latent(latent)))
}

/// The rounded mask spread by a square of `by` pixels.
fn grow_square(mask: &Pixels, by: usize) -> Result<Pixels, NodeError> {
    let rounded = mask.clone().map(f32::round_ties_even);
    if by == 0 {
        return Ok(rounded);
    }
    // An even square reaches one further towards the start.
    let (before, after) = (by / 2, (by - 1) / 2);
    let rows = Pixels::build(mask.batch, mask.height, mask.width, 1, |b, y, x, _| {
        let span = x.saturating_sub(before)..x.saturating_add(after).saturating_add(1).min(mask.width);
        span.map(|x| rounded.at(b, y, x, 0)).fold(0.0, f32::max)
    })?;
    Pixels::build(mask.batch, mask.height, mask.width, 1, |b, y, x, _| {
        let span = y.saturating_sub(before)..y.saturating_add(after).saturating_add(1).min(mask.height);
        span.map(|y| rows.at(b, y, x, 0)).fold(0.0, f32::max)
    })
}

fn pair_conditioning_combine_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("PairConditioningCombine", "advanced/hooks/cond pair")
        .module("comfy_extras.nodes_hooks")
        .display("Cond Pair Combine")
        .input(InputSpec::new("positive_A", "CONDITIONING").bare())
        .input(InputSpec::new("negative_A", "CONDITIONING").bare())
        .input(InputSpec::new("positive_B", "CONDITIONING").bare())
        .input(InputSpec::new("negative_B", "CONDITIONING").bare())
        .output(OutputSpec::named("CONDITIONING", "positive"))
        .output(OutputSpec::named("CONDITIONING", "negative"))
        .extra("experimental", true)
}
fn pair_conditioning_combine(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let both = |side: &str| -> Result<Value, NodeError> {
        let mut entries = conditioning(inputs, &format!("{side}_A"))?.0.clone();
        entries.extend(conditioning(inputs, &format!("{side}_B"))?.0.iter().cloned());
        Ok(conditioning_value(Conditioning(entries)))
    };
    Ok(NodeOutput::values([both("positive")?, both("negative")?]))
}

fn instruct_pix_to_pix_conditioning_schema(_: &dyn Host) -> NodeSchema {
    v3("InstructPixToPixConditioning", "conditioning/instructpix2pix", "ip2p")
        .input(InputSpec::new("positive", "CONDITIONING"))
        .input(InputSpec::new("negative", "CONDITIONING"))
        .input(InputSpec::new("vae", "VAE"))
        .input(InputSpec::new("pixels", "IMAGE"))
        .output(OutputSpec::named("CONDITIONING", "positive"))
        .output(OutputSpec::named("CONDITIONING", "negative"))
        .output(OutputSpec::named("LATENT", "latent"))
}
fn instruct_pix_to_pix_conditioning(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = encode(ctx, super::objects::vae(inputs, "vae")?, inputs.image("pixels")?, memory::is_free)?;
    let with_picture = |name: &str| -> Result<Value, NodeError> {
        let changed = with_options(conditioning(inputs, name)?, |options| {
            options.concat_latent = Some(samples.clone());
        });
        Ok(conditioning_value(changed))
    };
    Ok(NodeOutput::values([
        with_picture("positive")?,
        with_picture("negative")?,
        Value::latent(Latent::new(samples.zeros_like()?)),
    ]))
}

fn inpaint_model_conditioning_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("InpaintModelConditioning", "conditioning/inpaint")
        .input(InputSpec::new("positive", "CONDITIONING").bare())
        .input(InputSpec::new("negative", "CONDITIONING").bare())
        .input(InputSpec::new("vae", "VAE").bare())
        .input(InputSpec::new("pixels", "IMAGE").bare())
        .input(InputSpec::new("mask", "MASK").bare())
        .input(boolean("noise_mask", true))
        .output(OutputSpec::named("CONDITIONING", "positive"))
        .output(OutputSpec::named("CONDITIONING", "negative"))
        .output(OutputSpec::named("LATENT", "latent"))
}
fn inpaint_model_conditioning(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let whole = Pixels::from_image(inputs.image("pixels")?)?;
    let mask = to_multiple_of_8(&fitted_mask(inputs, &whole)?)?;
    let pixels = to_multiple_of_8(&whole)?;
    let vae = super::objects::vae(inputs, "vae")?;
    let encoded = |pixels: Pixels| -> Result<Tensor, NodeError> {
        encode(ctx, vae, &pixels.into_image()?, memory::is_free)
    };
    let masked = encoded(greyed(&pixels, &mask)?)?;
    let mask = mask_tensor(&mask)?;
    let apply = |name: &str| -> Result<Value, NodeError> {
        Ok(conditioning_value(with_options(conditioning(inputs, name)?, |options| {
            options.concat_latent = Some(masked.clone());
            options.concat_mask = Some(mask.clone());
        })))
    };
    let (positive, negative) = (apply("positive")?, apply("negative")?);
    let mut latent = Latent::new(encoded(pixels)?);
    if inputs.bool("noise_mask")? {
        latent.noise_mask = Some(mask.clone());
    }
    Ok(NodeOutput::values([positive, negative, Value::latent(latent)]))
}
