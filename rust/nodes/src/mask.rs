//! Nodes that take and give masks.

use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "SolidMask", solid_mask_schema, solid_mask);
    add(registry, "InvertMask", invert_mask_schema, invert_mask);
    add(registry, "CropMask", crop_mask_schema, crop_mask);
    add(registry, "ThresholdMask", threshold_mask_schema, threshold_mask);
    add(registry, "FeatherMask", feather_mask_schema, feather_mask);
    add(registry, "GrowMask", grow_mask_schema, grow_mask);
    add(registry, "MaskComposite", mask_composite_schema, mask_composite);
    add(registry, "BatchMasksNode", batch_masks_node_schema, batch_masks_node);
}

fn mask(inputs: &Inputs, name: &str) -> Result<Pixels, NodeError> {
    Pixels::from_mask(inputs.mask(name)?)
}

fn output(mask: Pixels) -> Result<NodeOutput, NodeError> {
    Ok(NodeOutput::one(Value::Mask(mask.into_mask()?)))
}

fn solid_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("SolidMask", "mask", "mask")
        .input(float("value", 1.0, 0.0, 1.0).step(0.01))
        .input(int("width", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("height", 512, 1, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("MASK"))
}
fn solid_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (height, width) = (inputs.size("height")?, inputs.size("width")?);
    output(Pixels::filled(1, height, width, 1, inputs.float("value")? as f32)?)
}

fn invert_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("InvertMask", "mask", "mask").input(InputSpec::new("mask", "MASK")).output(OutputSpec::new("MASK"))
}
fn invert_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(mask(inputs, "mask")?.map(|value| 1.0 - value))
}

fn crop_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("CropMask", "mask", "mask")
        .input(InputSpec::new("mask", "MASK"))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("width", 512, 1, MAX_RESOLUTION).step(1))
        .input(int("height", 512, 1, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("MASK"))
}
fn crop_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (x, y) = (inputs.size("x")?, inputs.size("y")?);
    output(mask(inputs, "mask")?.crop(y, x, inputs.size("height")?, inputs.size("width")?)?)
}

fn threshold_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("ThresholdMask", "mask", "mask")
        .input(InputSpec::new("mask", "MASK"))
        .input(float("value", 0.5, 0.0, 1.0).step(0.01))
        .output(OutputSpec::new("MASK"))
}
fn threshold_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let threshold = inputs.float("value")? as f32;
    output(mask(inputs, "mask")?.map(|value| if value > threshold { 1.0 } else { 0.0 }))
}

fn feather_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("FeatherMask", "mask", "mask")
        .input(InputSpec::new("mask", "MASK"))
        .input(int("left", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("top", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("right", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("bottom", 0, 0, MAX_RESOLUTION).step(1))
        .output(OutputSpec::new("MASK"))
}
fn feather_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let m = mask(inputs, "mask")?;
    let (left, right) = (inputs.size("left")?.min(m.width), inputs.size("right")?.min(m.width));
    let (top, bottom) = (inputs.size("top")?.min(m.height), inputs.size("bottom")?.min(m.height));
    // At the far sides upstream counts from -0, which is the first row or column again.
    let near =
        |place: usize, depth: usize| if place < depth { (place + 1) as f32 / depth as f32 } else { 1.0 };
    let far = |place: usize, length: usize, depth: usize| {
        let from_end = if place == 0 { 0 } else { length - place };
        near(from_end, depth)
    };
    output(Pixels::build(m.batch, m.height, m.width, 1, |b, y, x, _| {
        m.at(b, y, x, 0) * near(x, left) * far(x, m.width, right) * near(y, top) * far(y, m.height, bottom)
    })?)
}

fn grow_mask_schema(_: &dyn Host) -> NodeSchema {
    v3("GrowMask", "mask", "mask")
        .display("Grow Mask")
        .extra("display_name", "Grow Mask")
        .input(InputSpec::new("mask", "MASK"))
        .input(int("expand", 0, -16384, MAX_RESOLUTION).step(1))
        .input(boolean("tapered_corners", true))
        .output(OutputSpec::new("MASK"))
}
fn grow_mask(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let tapered = inputs.bool("tapered_corners")?;
    output(grow(mask(inputs, "mask")?, inputs.int("expand")?, tapered)?)
}

/// Grows (or, below 0, shrinks) what is set by so many pixels; tapered corners leave the diagonals out of each step.
pub(crate) fn grow(mut m: Pixels, expand: i128, tapered: bool) -> Result<Pixels, NodeError> {
    let pick = |a: f32, b: f32| if expand > 0 { a.max(b) } else { a.min(b) };
    for _ in 0..expand.unsigned_abs() {
        let next = Pixels::build(m.batch, m.height, m.width, 1, |b, y, x, _| {
            let mut best = m.at(b, y, x, 0);
            for row in y.saturating_sub(1)..(y + 2).min(m.height) {
                for column in x.saturating_sub(1)..(x + 2).min(m.width) {
                    if !tapered || row == y || column == x {
                        best = pick(best, m.at(b, row, column, 0));
                    }
                }
            }
            best
        })?;
        // Once nothing changes, further steps change nothing either.
        if next == m {
            break;
        }
        m = next;
    }
    Ok(m)
}

fn mask_composite_schema(_: &dyn Host) -> NodeSchema {
    v3("MaskComposite", "mask", "mask")
        .input(InputSpec::new("destination", "MASK"))
        .input(InputSpec::new("source", "MASK"))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(1))
        .input(choice("operation", ["multiply", "add", "subtract", "and", "or", "xor"]))
        .output(OutputSpec::new("MASK"))
}
fn mask_composite(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (mut destination, source) = (mask(inputs, "destination")?, mask(inputs, "source")?);
    let (left, top) = (inputs.size("x")?, inputs.size("y")?);
    let both = |d: f32, s: f32| (d.round_ties_even() != 0.0, s.round_ties_even() != 0.0);
    let truth = |value: bool| if value { 1.0 } else { 0.0 };
    let operation = inputs.str("operation")?;
    let combine = |d: f32, s: f32| match operation {
        "multiply" => d * s,
        "add" => d + s,
        "subtract" => d - s,
        "and" => truth(both(d, s).0 & both(d, s).1),
        "or" => truth(both(d, s).0 | both(d, s).1),
        "xor" => truth(both(d, s).0 ^ both(d, s).1),
        _ => d,
    };
    let source = source.with_batch(destination.batch)?;
    for b in 0..destination.batch {
        for y in top..destination.height.min(top.saturating_add(source.height)) {
            for x in left..destination.width.min(left.saturating_add(source.width)) {
                let index = destination.index(b, y, x, 0);
                let s = source.at(b, y - top, x - left, 0);
                if let Some(value) = destination.data.get_mut(index) {
                    *value = combine(*value, s);
                }
            }
        }
    }
    output(destination.map(|value| value.clamp(0.0, 1.0)))
}

fn batch_masks_node_schema(_: &dyn Host) -> NodeSchema {
    v3("BatchMasksNode", "mask", "post_processing")
        .display("Batch Masks")
        .extra("display_name", "Batch Masks")
        .input(InputSpec::new("masks", "COMFY_AUTOGROW_V3").opt(
            "template",
            json!({"input": {"required": {"mask": ["MASK", {}]}}, "max": 50, "min": 2, "prefix": "mask"}),
        ))
        .output(OutputSpec::new("MASK"))
}
fn batch_masks_node(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    output(crate::image::basic::join_grown(inputs, "masks", "MASK")?)
}
