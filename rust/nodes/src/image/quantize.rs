//! Pictures in few colours.

use super::basic::{image, pixels};
use crate::picture::palette::{Nearest, Rgb, diffuse, median_cut};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageQuantize", image_quantize_schema, image_quantize);
}

fn image_quantize_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageQuantize", "image/postprocessing", "post_processing")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("colors", 256, 1, 256).step(1))
        .input(choice("dither", ["none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"]))
        .output(OutputSpec::new("IMAGE"))
}
fn image_quantize(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    if p.channels < 3 {
        return Err(NodeError::value(format!("an image of 3 channels is needed, not {}", p.channels)));
    }
    let colors = inputs.size("colors")?.clamp(1, 256);
    let dither = inputs.str("dither")?;
    let mut quantized = Vec::with_capacity(p.batch * p.height * p.width * 3);
    for picture in p.to_bytes().chunks(p.picture_len().max(1)) {
        let colours: Vec<Rgb> = picture
            .chunks(p.channels)
            .map(|pixel| match pixel {
                [r, g, b, ..] => [*r, *g, *b],
                _ => [0; 3],
            })
            .collect();
        let palette = median_cut(&colours, colors);
        let found = match dither {
            "none" => {
                let mut nearest = Nearest::new(&palette);
                colours.iter().map(|colour| nearest.colour(*colour)).collect()
            }
            "floyd-steinberg" => diffuse(&colours, p.width, &palette),
            other => {
                return Err(NodeError::new(
                    "NotImplementedError",
                    format!(
                        "dithering '{other}' is not supported by this server: choose none or floyd-steinberg"
                    ),
                ));
            }
        };
        quantized.extend(found.iter().flatten().map(|value| f32::from(*value) / 255.0));
    }
    image(Pixels { channels: 3, data: quantized, ..p })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a small picture with a pattern, quantized.
    fn quantized(colors: i128, dither: &str) -> Result<Vec<u8>, NodeError> {
        let p = Pixels::build(1, 6, 7, 3, |_, y, x, c| ((y * 83 + x * 37 + c * 59) % 256) as f32 / 255.0)?;
        let mut inputs = Inputs::new();
        inputs.insert("image", Value::Image(p.into_image()?));
        inputs.insert("colors", Value::Int(colors));
        inputs.insert("dither", Value::String(dither.into()));
        let (ctx, _) = crate::testing::context(Default::default());
        match image_quantize(&ctx, &inputs)?.values.first() {
            Some(Value::Image(image)) => {
                let values = crate::picture::pixels::values(image)?;
                Ok(values.iter().map(|value| (value * 255.0).round() as u8).collect())
            }
            _ => Err(NodeError::value("no image")),
        }
    }

    #[test]
    fn results_are_pillows() {
        // Image.quantize(4) and a second quantize to that palette, without and with Floyd-Steinberg.
        assert_eq!(checksum(&quantized(4, "none").unwrap()), NONE);
        assert_eq!(checksum(&quantized(4, "floyd-steinberg").unwrap()), DIFFUSED);
    }

    #[test]
    fn other_dithers_are_named_in_the_error() {
        assert!(quantized(4, "bayer-4").unwrap_err().to_string().contains("bayer-4"));
    }

    /// Sum of bytes times their places, which tells orders apart.
    fn checksum(bytes: &[u8]) -> u64 {
        bytes.iter().zip(1u64..).map(|(byte, place)| u64::from(*byte) * place).sum()
    }

    const NONE: u64 = 1_016_673;
    const DIFFUSED: u64 = 1_007_541;
}
