//! Blur, sharpening, morphology, edges, colour spaces and noise.

use rayon::prelude::*;

use super::basic::{image, pixels};
use super::canny;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add(registry, "ImageBlur", image_blur_schema, image_blur);
    add(registry, "ImageSharpen", image_sharpen_schema, image_sharpen);
    add(registry, "Morphology", morphology_schema, morphology);
    add(registry, "Canny", canny_schema, canny);
    add(registry, "ImageRGBToYUV", image_rgb_to_yuv_schema, image_rgb_to_yuv);
    add(registry, "ImageYUVToRGB", image_yuv_to_rgb_schema, image_yuv_to_rgb);
}

/// Largest radius that a kernel is made for.
const MAX_RADIUS: usize = 1024;

/// A Gaussian along one direction over `2 * radius + 1` places whose coordinates go from -1 to 1. Over a square it is the
/// product of two of them.
fn gaussian(radius: usize, sigma: f64) -> Vec<f64> {
    let size = 2 * radius + 1;
    // Coordinates in f32 as PyTorch computes them: sharpening multiplies what rounding leaves by up to 50.
    let step = 2.0 / (2 * radius).max(1) as f32;
    let place =
        |i: usize| if i <= radius { -1.0 + step * i as f32 } else { 1.0 - step * (size - 1 - i) as f32 };
    let width = 2.0 * sigma * sigma;
    let weights: Vec<f64> = (0..size).map(|i| (-f64::from(place(i)).powi(2) / width).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// An index mirrored at both ends, without repeating the edge.
fn mirror(index: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last <= 0 {
        return 0;
    }
    let folded = index.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

/// Every channel under a Gaussian, mirrored at the borders: along rows, then along columns.
pub(crate) fn blur(p: &Pixels, radius: usize, sigma: f64) -> Result<Pixels, NodeError> {
    if radius >= p.height || radius >= p.width || radius > MAX_RADIUS {
        return Err(NodeError::new(
            "RuntimeError",
            format!("a radius of {radius} is too large for a picture of {}x{}", p.width, p.height),
        ));
    }
    let kernel = gaussian(radius, sigma);
    let row_len = p.width * p.channels;
    let source =
        |place: usize, offset: usize, length: usize| mirror((place + offset) as i64 - radius as i64, length);
    let mut rows = Pixels::filled(p.batch, p.height, p.width, p.channels, 0.0)?;
    rows.data.par_chunks_mut(row_len).zip(p.data.par_chunks(row_len)).for_each(|(out, line)| {
        let mut sums = vec![0f64; row_len];
        for (offset, weight) in kernel.iter().enumerate() {
            for (x, sums) in sums.chunks_mut(p.channels).enumerate() {
                let from = line.get(source(x, offset, p.width) * p.channels..).unwrap_or(&[]);
                sums.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
    });
    let mut out = Pixels::filled(p.batch, p.height, p.width, p.channels, 0.0)?;
    out.data.par_chunks_mut(row_len).enumerate().for_each(|(line, out)| {
        let (picture, y) = (line / p.height, line % p.height);
        let mut sums = vec![0f64; row_len];
        for (offset, weight) in kernel.iter().enumerate() {
            let start = rows.index(picture, source(y, offset, p.height), 0, 0);
            let from = rows.data.get(start..start + row_len).unwrap_or(&[]);
            sums.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
    });
    Ok(out)
}

fn image_blur_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageBlur", "image/postprocessing", "post_processing")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("blur_radius", 1, 1, 31).step(1))
        .input(float("sigma", 1.0, 0.1, 10.0).step(0.1))
        .output(OutputSpec::new("IMAGE"))
}
fn image_blur(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let radius = inputs.size("blur_radius")?;
    if radius == 0 {
        return image(p);
    }
    image(blur(&p, radius, inputs.float("sigma")?)?)
}

fn image_sharpen_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageSharpen", "image/postprocessing", "post_processing")
        .input(InputSpec::new("image", "IMAGE"))
        .input(int("sharpen_radius", 1, 1, 31).step(1))
        .input(float("sigma", 1.0, 0.1, 10.0).step(0.01))
        .input(float("alpha", 1.0, 0.0, 5.0).step(0.01))
        .output(OutputSpec::new("IMAGE"))
}
fn image_sharpen(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let radius = inputs.size("sharpen_radius")?;
    if radius == 0 {
        return image(p);
    }
    let strength = inputs.float("alpha")? as f32 * 10.0;
    // What a blur takes away is added `strength` times; even areas stay as they are.
    let mut sharp = blur(&p, radius, inputs.float("sigma")?)?;
    for (sharp, value) in sharp.data.iter_mut().zip(&p.data) {
        *sharp = (value + strength * (value - *sharp)).clamp(0.0, 1.0);
    }
    image(sharp)
}

/// The least (or greatest) value under a square; places outside the picture do not count.
fn extreme(p: &Pixels, size: usize, greatest: bool) -> Result<Pixels, NodeError> {
    let pick = |a: f32, b: f32| if greatest { a.max(b) } else { a.min(b) };
    let start = if greatest { f32::NEG_INFINITY } else { f32::INFINITY };
    // An even square reaches one further to the start; a dilation turns it around (Minkowski).
    let (long, short) = (size / 2, size - 1 - size / 2);
    let (before, after) = if greatest { (short, long) } else { (long, short) };
    let rows = Pixels::build(p.batch, p.height, p.width, p.channels, |b, y, x, c| {
        (x.saturating_sub(before)..x.saturating_add(after).saturating_add(1).min(p.width))
            .fold(start, |best, x| pick(best, p.at(b, y, x, c)))
    })?;
    Pixels::build(p.batch, p.height, p.width, p.channels, |b, y, x, c| {
        (y.saturating_sub(before)..y.saturating_add(after).saturating_add(1).min(p.height))
            .fold(start, |best, y| pick(best, rows.at(b, y, x, c)))
    })
}

fn minus(mut a: Pixels, b: &Pixels) -> Pixels {
    for (a, b) in a.data.iter_mut().zip(&b.data) {
        *a -= b;
    }
    a
}

fn morphology_schema(_: &dyn Host) -> NodeSchema {
    v3("Morphology", "image/postprocessing", "morphology")
        .display("ImageMorphology")
        .extra("display_name", "ImageMorphology")
        .input(InputSpec::new("image", "IMAGE"))
        .input(choice("operation", ["erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"]))
        .input(int("kernel_size", 3, 3, 999).step(1))
        .output(OutputSpec::new("IMAGE"))
}
fn morphology(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let size = inputs.size("kernel_size")?.max(1);
    let dilate = |p: &Pixels| extreme(p, size, true);
    let erode = |p: &Pixels| extreme(p, size, false);
    image(match inputs.str("operation")? {
        "erode" => erode(&p)?,
        "dilate" => dilate(&p)?,
        "open" => dilate(&erode(&p)?)?,
        "close" => erode(&dilate(&p)?)?,
        "gradient" => minus(dilate(&p)?, &erode(&p)?),
        "top_hat" => minus(p.clone(), &dilate(&erode(&p)?)?),
        "bottom_hat" => minus(erode(&dilate(&p)?)?, &p),
        other => return Err(NodeError::value(format!("invalid operation '{other}'"))),
    })
}

fn canny_schema(_: &dyn Host) -> NodeSchema {
    v3("Canny", "image/preprocessors", "canny")
        .input(InputSpec::new("image", "IMAGE"))
        .input(float("low_threshold", 0.4, 0.01, 0.99).step(0.01))
        .input(float("high_threshold", 0.8, 0.01, 0.99).step(0.01))
        .output(OutputSpec::new("IMAGE"))
}
fn canny(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let (low, high) = (inputs.float("low_threshold")? as f32, inputs.float("high_threshold")? as f32);
    image(canny::edges(&p, low, high)?)
}

fn image_rgb_to_yuv_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageRGBToYUV", "image/batch", "morphology")
        .input(InputSpec::new("image", "IMAGE"))
        .output(OutputSpec::named("IMAGE", "Y"))
        .output(OutputSpec::named("IMAGE", "U"))
        .output(OutputSpec::named("IMAGE", "V"))
}
fn image_rgb_to_yuv(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let p = pixels(inputs, "image")?;
    let plane = |value: fn(f32, f32, f32) -> f32| {
        let grey = Pixels::build(p.batch, p.height, p.width, 3, |b, y, x, _| {
            value(p.at(b, y, x, 0), p.at(b, y, x, 1), p.at(b, y, x, 2))
        })?;
        grey.into_image().map(Value::Image)
    };
    let luma = |r: f32, g: f32, b: f32| 0.299 * r + 0.587 * g + 0.114 * b;
    fn cb(r: f32, g: f32, b: f32) -> f32 {
        (b - (0.299 * r + 0.587 * g + 0.114 * b)) * 0.564 + 0.5
    }
    fn cr(r: f32, g: f32, b: f32) -> f32 {
        (r - (0.299 * r + 0.587 * g + 0.114 * b)) * 0.713 + 0.5
    }
    Ok(NodeOutput::values([plane(luma)?, plane(cb)?, plane(cr)?]))
}

fn image_yuv_to_rgb_schema(_: &dyn Host) -> NodeSchema {
    v3("ImageYUVToRGB", "image/batch", "morphology")
        .input(InputSpec::new("Y", "IMAGE"))
        .input(InputSpec::new("U", "IMAGE"))
        .input(InputSpec::new("V", "IMAGE"))
        .output(OutputSpec::new("IMAGE"))
}
fn image_yuv_to_rgb(_: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let (luma, u, v) = (pixels(inputs, "Y")?, pixels(inputs, "U")?, pixels(inputs, "V")?);
    let mean = |p: &Pixels, b, y, x| {
        (0..p.channels).map(|c| p.at(b, y, x, c)).sum::<f32>() / p.channels.max(1) as f32
    };
    let rgb = Pixels::build(luma.batch, luma.height, luma.width, 3, |b, y, x, c| {
        let (luma, cb, cr) = (mean(&luma, b, y, x), mean(&u, b, y, x) - 0.5, mean(&v, b, y, x) - 0.5);
        match c {
            // The inverse of the factors above.
            0 => luma + 1.402525 * cr,
            1 => luma - 0.714403 * cr - 0.34434 * cb,
            _ => luma + 1.77305 * cb,
        }
    })?;
    image(rgb.map(|value| value.clamp(0.0, 1.0)))
}
