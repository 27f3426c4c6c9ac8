//! Pictures blended with and put onto each other.

use super::basic::{image, pixels, with_channels};
use crate::picture::resize::{resize, resize_cropped};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageBlend", image_blend_schema, image_blend);
    add(registry, "ImageCompositeMasked", image_composite_masked_schema, image_composite_masked);
    add(registry, "JoinImageWithAlpha", join_image_with_alpha_schema, join_image_with_alpha);
    add(registry, "SplitImageWithAlpha", split_image_with_alpha_schema, split_image_with_alpha);
    add(
        registry,
        "PorterDuffImageComposite",
        porter_duff_image_composite_schema,
        porter_duff_image_composite,
    );
}

fn image_blend_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageBlend", "image/postprocessing", "post_processing")
        .input(InputSpec::new("image1", "IMAGE"))
        .input(InputSpec::new("image2", "IMAGE"))
        .input(float("blend_factor", 0.5, 0.0, 1.0).step(0.01))
        .input(choice("blend_mode", ["normal", "multiply", "screen", "overlay", "soft_light", "difference"]))
        .output(OutputSpec::new("IMAGE"))
}
fn image_blend(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let first = pixels(inputs, "image1")?;
    let mut second = with_channels(&pixels(inputs, "image2")?, first.channels)?;
    if (first.height, first.width) != (second.height, second.width) {
        second = resize_cropped(&second, first.height, first.width, Method::Bicubic, "center")?;
    }
    let count = first.batch.max(second.batch);
    let (mut first, second) = (first.with_batch(count)?, second.with_batch(count)?);
    let factor = inputs.float("blend_factor")? as f32;
    let mode = inputs.str("blend_mode")?;
    let blend: fn(f32, f32) -> f32 = match mode {
        "normal" => |_, b| b,
        "multiply" => |a, b| a * b,
        "screen" => |a, b| 1.0 - (1.0 - a) * (1.0 - b),
        "overlay" => |a, b| if a <= 0.5 { 2.0 * a * b } else { 1.0 - 2.0 * (1.0 - a) * (1.0 - b) },
        "soft_light" => soft_light,
        "difference" => |a, b| a - b,
        other => return Err(NodeError::value(format!("unsupported blend mode '{other}'"))),
    };
    for (a, b) in first.data.iter_mut().zip(&second.data) {
        *a = (*a * (1.0 - factor) + blend(*a, *b) * factor).clamp(0.0, 1.0);
    }
    image(first)
}

/// The W3C's soft light.
fn soft_light(a: f32, b: f32) -> f32 {
    let root = if a <= 0.25 { ((16.0 * a - 12.0) * a + 4.0) * a } else { a.sqrt() };
    if b <= 0.5 { a - (1.0 - 2.0 * b) * a * (1.0 - a) } else { a + (2.0 * b - 1.0) * (root - a) }
}

/// What is put where: shared by pictures and latents.
pub(crate) struct Placement {
    /// Left edge in pixels of `destination`; may lie outside.
    pub(crate) x: i64,
    /// Top edge.
    pub(crate) y: i64,
    /// Bring the source to the destination's size first.
    pub(crate) resize_source: bool,
}

/// Puts `source` onto `destination` where `mask` (any size, 1 where the source shows) says so.
pub(crate) fn composite(
    destination: &Pixels,
    source: &Pixels,
    mask: Option<&Pixels>,
    placement: &Placement,
) -> Result<Pixels, NodeError> {
    let mut result = destination.clone();
    let mut source = source.clone();
    if placement.resize_source {
        source = resize(&source, destination.height, destination.width, Method::Bilinear)?;
    }
    let source = source.with_batch(destination.batch)?;
    let mask = match mask {
        Some(mask) => {
            Some(resize(mask, source.height, source.width, Method::Bilinear)?.with_batch(source.batch)?)
        }
        None => None,
    };
    let x = placement.x.clamp(-(source.width as i64), destination.width as i64);
    let y = placement.y.clamp(-(source.height as i64), destination.height as i64);
    for b in 0..destination.batch {
        for row in 0..source.height {
            let Ok(to_y) = usize::try_from(y + row as i64) else { continue };
            for column in 0..source.width {
                let Ok(to_x) = usize::try_from(x + column as i64) else { continue };
                if to_y >= destination.height || to_x >= destination.width {
                    continue;
                }
                let m = mask.as_ref().map_or(1.0, |mask| mask.at(b, row, column, 0));
                for c in 0..destination.channels {
                    let index = result.index(b, to_y, to_x, c);
                    if let Some(value) = result.data.get_mut(index) {
                        *value = m * source.at(b, row, column, c) + (1.0 - m) * *value;
                    }
                }
            }
        }
    }
    Ok(result)
}

/// The mask of an input, if there is one.
pub(crate) fn optional_mask(inputs: &Inputs, name: &str) -> Result<Option<Pixels>, NodeError> {
    match inputs.present(name) {
        Some(_) => Pixels::from_mask(inputs.mask(name)?).map(Some),
        None => Ok(None),
    }
}

fn offset(inputs: &Inputs, name: &str) -> Result<i64, NodeError> {
    i64::try_from(inputs.int(name)?).map_err(|_| NodeError::value(format!("'{name}' is out of range")))
}

impl Placement {
    /// From inputs `x`, `y` (in pixels; `cell` of them are one place) and `resize_source`.
    pub(crate) fn from_inputs(inputs: &Inputs, cell: i64) -> Result<Self, NodeError> {
        Ok(Self {
            x: offset(inputs, "x")?.div_euclid(cell),
            y: offset(inputs, "y")?.div_euclid(cell),
            resize_source: inputs.present("resize_source").is_some() && inputs.bool("resize_source")?,
        })
    }
}

fn image_composite_masked_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageCompositeMasked", "image", "mask")
        .input(InputSpec::new("destination", "IMAGE"))
        .input(InputSpec::new("source", "IMAGE"))
        .input(int("x", 0, 0, MAX_RESOLUTION).step(1))
        .input(int("y", 0, 0, MAX_RESOLUTION).step(1))
        .input(boolean("resize_source", false))
        .input(InputSpec::new("mask", "MASK").optional())
        .output(OutputSpec::new("IMAGE"))
}
fn image_composite_masked(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let destination = pixels(inputs, "destination")?;
    let source = with_channels(&pixels(inputs, "source")?, destination.channels)?;
    let mask = optional_mask(inputs, "mask")?;
    image(composite(&destination, &source, mask.as_ref(), &Placement::from_inputs(inputs, 1)?)?)
}

fn join_image_with_alpha_schema(_: &dyn Host) -> NodeSchema {
    v3("JoinImageWithAlpha", "mask/compositing", "compositing")
        .display("Join Image with Alpha")
        .extra("display_name", "Join Image with Alpha")
        .input(InputSpec::new("image", "IMAGE"))
        .input(InputSpec::new("alpha", "MASK"))
        .output(OutputSpec::new("IMAGE"))
}
fn join_image_with_alpha(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let alpha = Pixels::from_mask(inputs.mask("alpha")?)?;
    let alpha = resize(&alpha, p.height, p.width, Method::Bilinear)?;
    // What has no partner is left out.
    let count = p.batch.min(alpha.batch);
    image(Pixels::build(count, p.height, p.width, 4, |b, y, x, c| match c {
        3 => 1.0 - alpha.at(b, y, x, 0),
        c => p.at(b, y, x, c),
    })?)
}

fn split_image_with_alpha_schema(_: &dyn Host) -> NodeSchema {
    v3("SplitImageWithAlpha", "mask/compositing", "compositing")
        .display("Split Image with Alpha")
        .extra("display_name", "Split Image with Alpha")
        .input(InputSpec::new("image", "IMAGE"))
        .output(OutputSpec::new("IMAGE"))
        .output(OutputSpec::new("MASK"))
}
fn split_image_with_alpha(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let alpha = Pixels::build(p.batch, p.height, p.width, 1, |b, y, x, _| {
        if p.channels > 3 { 1.0 - p.at(b, y, x, 3) } else { 0.0 }
    })?;
    let colours = with_channels(&p, p.channels.min(3))?;
    Ok(NodeOutput::values([Value::Image(colours.into_image()?), Value::Mask(alpha.into_mask()?)]))
}

fn porter_duff_image_composite_schema(_: &dyn Host) -> NodeSchema {
    v3("PorterDuffImageComposite", "mask/compositing", "compositing")
        .display("Porter-Duff Image Composite")
        .extra("display_name", "Porter-Duff Image Composite")
        .input(InputSpec::new("source", "IMAGE"))
        .input(InputSpec::new("source_alpha", "MASK"))
        .input(InputSpec::new("destination", "IMAGE"))
        .input(InputSpec::new("destination_alpha", "MASK"))
        .input(
            choice(
                "mode",
                [
                    "ADD", "CLEAR", "DARKEN", "DST", "DST_ATOP", "DST_IN", "DST_OUT", "DST_OVER", "LIGHTEN",
                    "MULTIPLY", "OVERLAY", "SCREEN", "SRC", "SRC_ATOP", "SRC_IN", "SRC_OUT", "SRC_OVER",
                    "XOR",
                ],
            )
            .default("DST"),
        )
        .output(OutputSpec::new("IMAGE"))
        .output(OutputSpec::new("MASK"))
}
fn porter_duff_image_composite(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (mut source, destination) = (pixels(inputs, "source")?, pixels(inputs, "destination")?);
    let mut source_alpha = Pixels::from_mask(inputs.mask("source_alpha")?)?;
    let mut destination_alpha = Pixels::from_mask(inputs.mask("destination_alpha")?)?;
    let (height, width) = (destination.height, destination.width);
    destination_alpha = resize_cropped(&destination_alpha, height, width, Method::Bicubic, "center")?;
    source = resize_cropped(&source, height, width, Method::Bicubic, "center")?;
    source_alpha = resize_cropped(&source_alpha, height, width, Method::Bicubic, "center")?;
    let count = [source.batch, destination.batch, source_alpha.batch, destination_alpha.batch]
        .into_iter()
        .min()
        .unwrap_or(0);
    let mode = Mode::parse(inputs.str("mode")?)?;
    let mut alpha = Pixels::filled(count, height, width, 1, 0.0)?;
    let colours = Pixels::build(count, height, width, destination.channels, |b, y, x, c| {
        let (s, d) = (source.at(b, y, x, c.min(source.channels - 1)), destination.at(b, y, x, c));
        // Masks are 1 where nothing shows.
        let (sa, da) = (1.0 - source_alpha.at(b, y, x, 0), 1.0 - destination_alpha.at(b, y, x, 0));
        let (value, a) = mode.compose(s * sa, sa, d * da, da);
        let index = alpha.index(b, y, x, 0);
        if let Some(slot) = alpha.data.get_mut(index) {
            *slot = 1.0 - a;
        }
        if a > 1e-5 { (value / a).clamp(0.0, 1.0) } else { 0.0 }
    })?;
    Ok(NodeOutput::values([Value::Image(colours.into_image()?), Value::Mask(alpha.into_mask()?)]))
}

/// The operators of Porter and Duff, with Android's additions.
#[derive(Clone, Copy)]
enum Mode {
    Add,
    Clear,
    Darken,
    Dst,
    DstAtop,
    DstIn,
    DstOut,
    DstOver,
    Lighten,
    Multiply,
    Overlay,
    Screen,
    Src,
    SrcAtop,
    SrcIn,
    SrcOut,
    SrcOver,
    Xor,
}

impl Mode {
    fn parse(name: &str) -> Result<Self, NodeError> {
        Ok(match name {
            "ADD" => Mode::Add,
            "CLEAR" => Mode::Clear,
            "DARKEN" => Mode::Darken,
            "DST" => Mode::Dst,
            "DST_ATOP" => Mode::DstAtop,
            "DST_IN" => Mode::DstIn,
            "DST_OUT" => Mode::DstOut,
            "DST_OVER" => Mode::DstOver,
            "LIGHTEN" => Mode::Lighten,
            "MULTIPLY" => Mode::Multiply,
            "OVERLAY" => Mode::Overlay,
            "SCREEN" => Mode::Screen,
            "SRC" => Mode::Src,
            "SRC_ATOP" => Mode::SrcAtop,
            "SRC_IN" => Mode::SrcIn,
            "SRC_OUT" => Mode::SrcOut,
            "SRC_OVER" => Mode::SrcOver,
            "XOR" => Mode::Xor,
            other => return Err(NodeError::value(format!("unknown mode '{other}'"))),
        })
    }

    /// (colour, alpha) from the source's and the destination's; colours are multiplied by their alpha.
    fn compose(self, s: f32, sa: f32, d: f32, da: f32) -> (f32, f32) {
        let union = sa + da - sa * da;
        let both = (1.0 - da) * s + (1.0 - sa) * d;
        match self {
            Mode::Add => ((s + d).clamp(0.0, 1.0), (sa + da).clamp(0.0, 1.0)),
            Mode::Clear => (0.0, 0.0),
            Mode::Darken => (both + s.min(d), union),
            Mode::Dst => (d, da),
            Mode::DstAtop => (sa * d + (1.0 - da) * s, sa),
            Mode::DstIn => (d * sa, sa * da),
            Mode::DstOut => ((1.0 - sa) * d, (1.0 - sa) * da),
            Mode::DstOver => (d + (1.0 - da) * s, da + (1.0 - da) * sa),
            Mode::Lighten => (both + s.max(d), union),
            Mode::Multiply => (s * d, sa * da),
            // The original's, where the usual formula has s and d the other way round.
            Mode::Overlay => {
                let value = if 2.0 * d < da { 2.0 * s * d } else { sa * da - 2.0 * (da - s) * (sa - d) };
                (value, union)
            }
            Mode::Screen => (s + d - s * d, union),
            Mode::Src => (s, sa),
            Mode::SrcAtop => (da * s + (1.0 - sa) * d, da),
            Mode::SrcIn => (s * da, sa * da),
            Mode::SrcOut => ((1.0 - da) * s, (1.0 - da) * sa),
            Mode::SrcOver => (s + (1.0 - sa) * d, sa + (1.0 - sa) * da),
            Mode::Xor => (both, (1.0 - da) * sa + (1.0 - sa) * da),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded eight-bit answers: source, destination, their alphas, and the colour, which was cut off downwards.
    #[test]
    fn overlay_is_as_recorded() {
        let rows = [
            (199.0, 221.0, 0.2, 1.0, 255),
            (228.0, 136.0, 0.75, 1.0, 154),
            (235.0, 148.0, 1.0, 0.0, 255),
            (139.0, 150.0, 0.0, 0.4, 120),
            (119.0, 176.0, 0.75, 0.7, 93),
            (201.0, 87.0, 0.75, 0.7, 77),
        ];
        for (source, destination, sa, da, expected) in rows {
            let (s, d) = (source / 255.0 * sa, destination / 255.0 * da);
            let (colour, alpha) = Mode::Overlay.compose(s, sa, d, da);
            let shown = ((colour / alpha).clamp(0.0, 1.0) * 255.0) as u8;
            assert_eq!(shown, expected, "{source} {destination} {sa} {da}");
        }
    }
}
