//! PIL's Lanczos resize: 8-bit values, fixed-point weights, one direction after the other.
//!
//! Follows Pillow's `Resample.c` (MIT-CMU licence) in its rounding, so that results are equal to the bit.

use rayon::prelude::*;
use rushlight_runtime::NodeError;

use super::pixels::{Pixels, to_byte};
use crate::memory;

const SUPPORT: f64 = 3.0;
const PRECISION_BITS: u32 = 32 - 8 - 2;

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

fn filter(x: f64) -> f64 {
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

/// For each new pixel: the first source pixel and the fixed-point weights from there on.
fn coefficients(from: usize, to: usize) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = SUPPORT * filter_scale;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as i64).clamp(0, from as i64) as usize;
            let mut weights: Vec<f64> =
                (first..end).map(|x| filter((x as f64 - center + 0.5) * (1.0 / filter_scale))).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let fixed = weights
                .into_iter()
                .map(|weight| {
                    let scaled = weight * f64::from(1 << PRECISION_BITS);
                    if weight < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
                })
                .collect();
            (first, fixed)
        })
        .collect()
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Half of a unit of the fixed-point sums.
const ROUNDING: i32 = 1 << (PRECISION_BITS - 1);

/// Brings every row of `from` pixels to `to` pixels.
fn resize_rows(bytes: &[u8], from: usize, to: usize, channels: usize) -> Vec<u8> {
    let taps = coefficients(from, to);
    let rows = bytes.len() / (from * channels).max(1);
    let mut out = vec![0u8; rows * to * channels];
    out.par_chunks_mut(to * channels).zip(bytes.par_chunks(from * channels)).for_each(|(out, line)| {
        for ((first, weights), out) in taps.iter().zip(out.chunks_mut(channels)) {
            for (channel, out) in out.iter_mut().enumerate() {
                let sources = line.iter().skip(first * channels + channel).step_by(channels);
                let sum: i32 = weights.iter().zip(sources).map(|(w, s)| w * i32::from(*s)).sum();
                *out = clip(sum + ROUNDING);
            }
        }
    });
    out
}

/// Brings every column of `from` pixels to `to` pixels; `row` is the length of a row in bytes.
fn resize_columns(bytes: &[u8], from: usize, to: usize, row: usize) -> Vec<u8> {
    let taps = coefficients(from, to);
    let mut out = vec![0u8; to * row];
    out.par_chunks_mut(row).zip(taps.par_iter()).for_each(|(out, (first, weights))| {
        let mut sums = vec![ROUNDING; row];
        for (weight, line) in weights.iter().zip(bytes.chunks(row).skip(*first)) {
            for (sum, source) in sums.iter_mut().zip(line) {
                *sum += weight * i32::from(*source);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = clip(sum);
        }
    });
    out
}

/// Resizes one 8-bit picture of `channels` channels.
pub(crate) fn lanczos_bytes(
    bytes: &[u8],
    (from_height, from_width): (usize, usize),
    (height, width): (usize, usize),
    channels: usize,
) -> Vec<u8> {
    let rows = |bytes: &[u8]| match width == from_width {
        true => bytes.to_vec(),
        false => resize_rows(bytes, from_width, width, channels),
    };
    let columns = |bytes: &[u8], width: usize| match height == from_height {
        true => bytes.to_vec(),
        false => resize_columns(bytes, from_height, height, width * channels),
    };
    // Pillow begins with the columns where that leaves clearly less to do; each direction rounds to 8 bits, so the
    // order shows. The rule is read off its results.
    let columns_first =
        height < from_height && from_height - height > (2 * from_width).saturating_sub(2 * width);
    if columns_first { rows(&columns(bytes, from_width)) } else { columns(&rows(bytes), width) }
}

/// `a * b / 255`, rounded as Pillow does.
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Colours times alpha, for every RGBA pixel.
fn premultiply(bytes: &mut [u8]) {
    for pixel in bytes.chunks_exact_mut(4) {
        if let [r, g, b, a] = pixel {
            *r = multiply_255(*r, *a);
            *g = multiply_255(*g, *a);
            *b = multiply_255(*b, *a);
        }
    }
}

/// Undoes [`premultiply`].
fn unpremultiply(bytes: &mut [u8]) {
    for pixel in bytes.chunks_exact_mut(4) {
        if let [r, g, b, a] = pixel
            && *a != 0
            && *a != 255
        {
            for colour in [r, g, b] {
                *colour = (255 * u32::from(*colour) / u32::from(*a)).min(255) as u8;
            }
        }
    }
}

/// Resizes every picture; values go through 8 bits.
pub(crate) fn lanczos(pixels: &Pixels, height: usize, width: usize) -> Result<Pixels, NodeError> {
    let mut data = memory::numbers(&[pixels.batch, height, width, pixels.channels])?;
    let old = (pixels.height, pixels.width);
    for picture in pixels.pictures() {
        let mut bytes: Vec<u8> = picture.iter().map(|value| to_byte(*value)).collect();
        // Pillow weighs colours by alpha where there is one.
        let alpha = pixels.channels == 4 && old != (height, width);
        if alpha {
            premultiply(&mut bytes);
        }
        let mut resized = lanczos_bytes(&bytes, old, (height, width), pixels.channels);
        if alpha {
            unpremultiply(&mut resized);
        }
        data.extend(resized.iter().map(|byte| f32::from(*byte) / 255.0));
    }
    Ok(Pixels { batch: pixels.batch, height, width, channels: pixels.channels, data })
}
