//! Pictures in few colours.

use super::basic::{image, pixels};
use crate::picture::palette::{Nearest, Rgb, diffuse, median_cut};
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageQuantize", image_quantize_schema, image_quantize);
}

/// Pixels with Bayer's ordered thresholds (1973) laid over them, from a square of so many places a side: the fewer
/// `colors`, the further apart. How far was found by running the original.
fn ordered(pixels: &[Rgb], width: usize, side: usize, colors: usize) -> Vec<Rgb> {
    let count = (side * side) as f32;
    let spread = 512.0 / colors as f32;
    let middle = (count - 1.0) / 2.0;
    let offsets: Vec<f32> = (0..side * side)
        .map(|place| (threshold(side, place / side, place % side) as f32 - middle) / count * spread)
        .collect();
    let shifted =
        |value: u8, offset: f32| (f32::from(value) + offset).round_ties_even().clamp(0.0, 255.0) as u8;
    let width = width.max(1);
    pixels
        .iter()
        .enumerate()
        .map(|(index, pixel)| {
            let place = index / width % side * side + index % width % side;
            let offset = offsets.get(place).copied().unwrap_or(0.0);
            pixel.map(|value| shifted(value, offset))
        })
        .collect()
}

/// The rank of a place in Bayer's square: each quarter is the square of half the side, in turn.
fn threshold(side: usize, y: usize, x: usize) -> usize {
    let half = side / 2;
    if half == 0 {
        return 0;
    }
    let turn = match (y >= half, x >= half) {
        (false, false) => 0,
        (true, true) => 1,
        (false, true) => 2,
        (true, false) => 3,
    };
    4 * threshold(half, y % half, x % half) + turn
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
                let side = other.strip_prefix("bayer-").and_then(|side| side.parse().ok());
                let Some(side @ (2 | 4 | 8 | 16)) = side else {
                    return Err(NodeError::value(format!("unknown dithering '{other}'")));
                };
                let mut nearest = Nearest::new(&palette);
                ordered(&colours, p.width, side, colors)
                    .into_iter()
                    .map(|colour| nearest.colour(colour))
                    .collect()
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
    fn ordered_dithers_are_the_originals() {
        // The original's formula, which its pictures were seen to follow to the pixel, with Pillow's quantize.
        for (side, sum) in ORDERED {
            assert_eq!(checksum(&quantized(4, &format!("bayer-{side}")).unwrap()), sum, "bayer-{side}");
        }
        assert!(quantized(4, "bayer-3").unwrap_err().to_string().contains("bayer-3"));
    }

    /// Sum of bytes times their places, which tells orders apart.
    fn checksum(bytes: &[u8]) -> u64 {
        bytes.iter().zip(1u64..).map(|(byte, place)| u64::from(*byte) * place).sum()
    }

    const NONE: u64 = 1_016_673;
    const ORDERED: [(usize, u64); 4] = [(2, 1_031_721), (4, 1_003_905), (8, 1_003_905), (16, 1_003_905)];
    const DIFFUSED: u64 = 1_007_541;
}
