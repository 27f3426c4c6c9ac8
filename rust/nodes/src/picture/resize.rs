//! Resizing of pictures, masks and latents as PyTorch's `interpolate` and PIL do it.

use rayon::prelude::*;
use rushlight_runtime::NodeError;

use super::bislerp::bislerp;
use super::lanczos::lanczos;
use super::pixels::Pixels;
use crate::memory;

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The pixel whose centre is nearest.
    NearestExact,
    /// Linear between the two nearest, in each direction.
    Bilinear,
    /// The mean of the pixels under the new one (adaptive average pooling).
    Area,
    /// A cubic through four, a = -0.75.
    Bicubic,
    /// A cubic, a = -0.5, widened where the picture shrinks: PyTorch's with antialiasing.
    BicubicAntialiased,
    /// PIL's Lanczos over 8-bit values.
    Lanczos,
    /// Spherical interpolation of the channel vector.
    Bislerp,
}

impl Method {
    /// From its name in schemas.
    pub(crate) fn parse(name: &str) -> Result<Self, NodeError> {
        Ok(match name {
            "nearest-exact" => Method::NearestExact,
            "bilinear" => Method::Bilinear,
            "area" => Method::Area,
            "bicubic" => Method::Bicubic,
            "lanczos" => Method::Lanczos,
            "bislerp" => Method::Bislerp,
            other => return Err(NodeError::value(format!("unknown resize method '{other}'"))),
        })
    }
}

/// The source pixels and weights of each new pixel along one direction.
struct Taps {
    /// For each new pixel where its taps begin in `sources`, plus the end.
    starts: Vec<usize>,
    sources: Vec<(usize, f32)>,
}

impl Taps {
    fn new(from: usize, to: usize, method: Method) -> Self {
        let scale = from as f32 / to as f32;
        let last = from.saturating_sub(1);
        let mut starts = vec![0];
        let mut sources = Vec::new();
        for i in 0..to {
            match method {
                Method::Bilinear => {
                    let place = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
                    let left = (place as usize).min(last);
                    let right = (left + 1).min(last);
                    let weight = place - left as f32;
                    sources.push((left, 1.0 - weight));
                    sources.push((right, weight));
                }
                Method::Bicubic => {
                    let place = (i as f32 + 0.5) * scale - 0.5;
                    let floor = place.floor();
                    let t = place - floor;
                    for (k, weight) in cubic_weights(t).into_iter().enumerate() {
                        let source = (floor as i64 + k as i64 - 1).clamp(0, last as i64);
                        sources.push((source as usize, weight));
                    }
                }
                Method::BicubicAntialiased => {
                    let widening = scale.max(1.0);
                    let centre = (i as f32 + 0.5) * scale;
                    let first = ((centre - 2.0 * widening + 0.5) as i64).clamp(0, from as i64) as usize;
                    let end = ((centre + 2.0 * widening + 0.5) as i64).clamp(0, from as i64) as usize;
                    let weight = |x: usize| antialias_cubic((x as f32 - centre + 0.5) / widening);
                    let sum: f32 = (first..end).map(weight).sum();
                    sources.extend((first..end).map(|x| (x, weight(x) / sum)));
                }
                Method::Area => {
                    let start = i * from / to;
                    let end = ((i + 1) * from).div_ceil(to);
                    let weight = 1.0 / (end - start) as f32;
                    sources.extend((start..end).map(|source| (source, weight)));
                }
                _ => {
                    let source = ((i as f32 + 0.5) * scale) as usize;
                    sources.push((source.min(last), 1.0));
                }
            }
            starts.push(sources.len());
        }
        Self { starts, sources }
    }

    fn of(&self, i: usize) -> &[(usize, f32)] {
        let start = self.starts.get(i).copied().unwrap_or(0);
        let end = self.starts.get(i + 1).copied().unwrap_or(start);
        self.sources.get(start..end).unwrap_or(&[])
    }
}

/// Keys' cubic with a = -0.75, for the four pixels around a place `t` behind the second.
fn cubic_weights(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Keys' cubic with a = -0.5 at a distance.
fn antialias_cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    match x {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

/// Resizes every picture.
///
/// # Errors
/// `ValueError` when a side would be zero or the result too large to address.
pub(crate) fn resize(
    pixels: &Pixels,
    height: usize,
    width: usize,
    method: Method,
) -> Result<Pixels, NodeError> {
    if height == 0 || width == 0 || pixels.height == 0 || pixels.width == 0 {
        return Err(NodeError::value(format!(
            "cannot resize {}x{} to {width}x{height}: a side is zero",
            pixels.width, pixels.height
        )));
    }
    // Both directions: the picture between them may be larger than the result.
    for sides in [[pixels.height, width], [height, pixels.width], [height, width]] {
        let [rows, columns] = sides;
        let shape = [pixels.batch, rows, columns, pixels.channels];
        memory::check_shape("the resized picture", &shape, size_of::<f32>())?;
    }
    match method {
        Method::Lanczos => return lanczos(pixels, height, width),
        Method::Bislerp => return bislerp(pixels, height, width),
        _ => {}
    }
    if height == pixels.height && width == pixels.width {
        return Ok(pixels.clone());
    }
    let columns = Taps::new(pixels.width, width, method);
    let rows = Taps::new(pixels.height, height, method);
    let channels = pixels.channels;
    // One direction after the other; the wide pass first keeps the middle small when the height shrinks less.
    let mut middle = Pixels::filled(pixels.batch, pixels.height, width, channels, 0.0)?;
    middle
        .data
        .par_chunks_mut((width * channels).max(1))
        .zip(pixels.data.par_chunks(pixels.width * channels))
        .for_each(|(out, line)| {
            for (x, out) in out.chunks_mut(channels).enumerate() {
                for (source, weight) in columns.of(x) {
                    let from = line.get(source * channels..).unwrap_or(&[]);
                    for (value, from) in out.iter_mut().zip(from) {
                        *value += from * weight;
                    }
                }
            }
        });
    let mut result = Pixels::filled(pixels.batch, height, width, channels, 0.0)?;
    let row_len = width * channels;
    result.data.par_chunks_mut(row_len.max(1)).enumerate().for_each(|(line, out)| {
        let (picture, y) = (line / height, line % height);
        for (source, weight) in rows.of(y) {
            let start = (picture * pixels.height + source) * row_len;
            let from = middle.data.get(start..start + row_len).unwrap_or(&[]);
            for (value, from) in out.iter_mut().zip(from) {
                *value += from * weight;
            }
        }
    });
    Ok(result)
}

/// The rectangle (y, x, height, width) in the middle that has the new aspect ratio; for `center` cropping.
pub(crate) fn centre_crop(old: (usize, usize), new: (usize, usize)) -> (usize, usize, usize, usize) {
    let ((old_height, old_width), (height, width)) = (old, new);
    let old_aspect = old_width as f64 / old_height as f64;
    let new_aspect = width as f64 / height as f64;
    let (mut x, mut y) = (0, 0);
    if old_aspect > new_aspect {
        x = round_half_even((old_width as f64 - old_width as f64 * (new_aspect / old_aspect)) / 2.0);
    } else if old_aspect < new_aspect {
        y = round_half_even((old_height as f64 - old_height as f64 * (old_aspect / new_aspect)) / 2.0);
    }
    (y, x, old_height.saturating_sub(2 * y), old_width.saturating_sub(2 * x))
}

/// Python's `round` of a number that is not negative.
pub(crate) fn round_half_even(value: f64) -> usize {
    value.round_ties_even().max(0.0) as usize
}

/// Resizes every picture after cutting it to the new aspect ratio if `crop` is `center`.
///
/// # Errors
/// As [`resize`].
pub(crate) fn resize_cropped(
    pixels: &Pixels,
    height: usize,
    width: usize,
    method: Method,
    crop: &str,
) -> Result<Pixels, NodeError> {
    if crop != "center" || height == 0 || width == 0 {
        return resize(pixels, height, width, method);
    }
    let (y, x, rows, columns) = centre_crop((pixels.height, pixels.width), (height, width));
    resize(&pixels.crop(y, x, rows, columns)?, height, width, method)
}
