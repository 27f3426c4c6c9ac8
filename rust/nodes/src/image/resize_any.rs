//! One node that resizes pictures or masks in any of several ways.

use crate::picture::resize::{resize_cropped, round_half_even};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ResizeImageMaskNode", resize_image_mask_node_schema, resize_image_mask_node);
}

/// (height, width, cropping) that the chosen way asks for.
fn wanted(p: &Pixels, inputs: &Inputs) -> Result<(usize, usize, String), NodeError> {
    let size = |name: &str| inputs.size(&format!("resize_type.{name}"));
    let (height, width) = (p.height as f64, p.width as f64);
    let by = |scale: f64| (round_half_even(height * scale), round_half_even(width * scale));
    let crop = || -> Result<String, NodeError> { Ok(inputs.str("resize_type.crop")?.to_owned()) };
    let plain = |(height, width): (usize, usize)| (height.max(1), width.max(1), "disabled".to_owned());
    Ok(match inputs.str("resize_type")? {
        "scale by multiplier" => plain(by(inputs.float("resize_type.multiplier")?)),
        "scale dimensions" => match (size("height")?, size("width")?) {
            (0, 0) => plain((p.height, p.width)),
            (0, wide) => plain((round_half_even(height * wide as f64 / width), wide)),
            (high, 0) => plain((high, round_half_even(width * high as f64 / height))),
            (high, wide) => (high, wide, crop()?),
        },
        "scale longer dimension" => plain(by(size("longer_size")? as f64 / height.max(width))),
        "scale shorter dimension" => plain(by(size("shorter_size")? as f64 / height.min(width))),
        "scale width" => plain((by(size("width")? as f64 / width).0, size("width")?)),
        "scale height" => plain((size("height")?, by(size("height")? as f64 / height).1)),
        "scale total pixels" => {
            let total = inputs.float("resize_type.megapixels")? * 1024.0 * 1024.0;
            plain(by((total / (height * width)).sqrt()))
        }
        "match size" => {
            let other = either(inputs.value("resize_type.match")?)?;
            (other.height, other.width, crop()?)
        }
        other => return Err(NodeError::value(format!("unknown way to resize: '{other}'"))),
    })
}

/// A picture or a mask.
fn either(value: &Value) -> Result<Pixels, NodeError> {
    match value {
        Value::Image(tensor) => Pixels::from_image(tensor),
        Value::Mask(tensor) => Pixels::from_mask(tensor),
        other => Err(NodeError::new("TypeError", format!("must be IMAGE or MASK, got {}", other.kind()))),
    }
}

fn resize_image_mask_node_schema(_: &dyn Host) -> NodeSchema {
    v3("ResizeImageMaskNode", "transform", "post_processing").display("Resize Image/Mask").extra("display_name", "Resize Image/Mask")
.input(InputSpec::new("input", "COMFY_MATCHTYPE_V3").opt("template", json!({"allowed_types": "IMAGE,MASK", "template_id": "input_type"})))
.input(InputSpec::new("resize_type", "COMFY_DYNAMICCOMBO_V3").opt("options", json!([{"inputs": {"required": {"multiplier": ["FLOAT", {"default": 1.0, "max": 8.0, "min": 0.01, "step": 0.01}]}}, "key": "scale by multiplier"}, {"inputs": {"required": {"crop": ["COMBO", {"default": "center", "multiselect": false, "options": ["disabled", "center"]}], "height": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}], "width": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}]}}, "key": "scale dimensions"}, {"inputs": {"required": {"longer_size": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}]}}, "key": "scale longer dimension"}, {"inputs": {"required": {"shorter_size": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}]}}, "key": "scale shorter dimension"}, {"inputs": {"required": {"width": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}]}}, "key": "scale width"}, {"inputs": {"required": {"height": ["INT", {"default": 512, "max": 16384, "min": 0, "step": 1}]}}, "key": "scale height"}, {"inputs": {"required": {"megapixels": ["FLOAT", {"default": 1.0, "max": 16.0, "min": 0.01, "step": 0.01}]}}, "key": "scale total pixels"}, {"inputs": {"required": {"crop": ["COMBO", {"default": "center", "multiselect": false, "options": ["disabled", "center"]}], "match": ["IMAGE,MASK", {}]}}, "key": "match size"}])))
.input(choice("scale_method", IMAGE_RESIZES).default("area"))
.output(OutputSpec::named("COMFY_MATCHTYPE_V3", "resized")).extra("output_matchtypes", json!(["input_type"]))
}
fn resize_image_mask_node(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let input = inputs.value("input")?;
    let p = either(input)?;
    let (height, width, crop) = wanted(&p, inputs)?;
    let resized = resize_cropped(&p, height, width, Method::parse(inputs.str("scale_method")?)?, &crop)?;
    Ok(NodeOutput::one(match input {
        Value::Mask(_) => Value::Mask(resized.into_mask()?),
        _ => Value::Image(resized.into_image()?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(kind: &str, options: &[(&str, Value)]) -> Vec<usize> {
        let mut inputs = Inputs::new();
        inputs.insert("input", Value::Mask(Pixels::filled(1, 40, 80, 1, 0.5).unwrap().into_mask().unwrap()));
        inputs.insert("resize_type", Value::String(kind.into()));
        inputs.insert("scale_method", Value::String("area".into()));
        for (name, value) in options {
            inputs.insert(format!("resize_type.{name}"), value.clone());
        }
        let (ctx, _) = crate::testing::context(Default::default());
        match &resize_image_mask_node(&ctx, &inputs).unwrap().values[0] {
            Value::Mask(mask) => mask.dims().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_way_keeps_what_it_promises() {
        assert_eq!(sides("scale by multiplier", &[("multiplier", Value::Float(0.5))]), [1, 20, 40]);
        assert_eq!(sides("scale longer dimension", &[("longer_size", Value::Int(20))]), [1, 10, 20]);
        assert_eq!(sides("scale shorter dimension", &[("shorter_size", Value::Int(20))]), [1, 20, 40]);
        assert_eq!(sides("scale width", &[("width", Value::Int(8))]), [1, 4, 8]);
        assert_eq!(sides("scale height", &[("height", Value::Int(8))]), [1, 8, 16]);
        let both =
            [("width", Value::Int(7)), ("height", Value::Int(9)), ("crop", Value::String("center".into()))];
        assert_eq!(sides("scale dimensions", &both), [1, 9, 7]);
    }
}
