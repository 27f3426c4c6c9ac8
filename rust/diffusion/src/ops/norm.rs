//! Group and layer normalisation.

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use super::{Activation, cpu};
use crate::error::{Error, Result};

/// `x` `[B, C, …]` normalised over each of `groups` groups of channels together with all places, then
/// scaled and shifted by channel.
///
/// # Errors
/// When the shapes do not go together.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    let shape = x.dims();
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    if groups == 0 || !channels.is_multiple_of(groups) || weight.elem_count() != channels {
        let expected = format!("[B, {}, …] in {groups} groups", weight.elem_count());
        return Err(Error::shape("input of a group norm", expected, shape));
    }
    if cpu::is_f32_on_cpu(&[x, weight, bias]) && x.elem_count() > 0 {
        let x = x.contiguous()?;
        let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
        let places = x.elem_count() / (batch * channels);
        let per_group = channels / groups;
        let out = cpu::with_slices([&x, &weight, &bias], |[x, weight, bias]| {
            let mut out = vec![0.0; x.len()];
            let size = per_group * places;
            out.par_chunks_mut(size).zip(x.par_chunks(size)).enumerate().for_each(|(index, (out, x))| {
                let first = index % groups * per_group;
                let gains = weight.get(first..first + per_group).unwrap_or_default();
                let shifts = bias.get(first..first + per_group).unwrap_or_default();
                normalise_group(x, out, gains, shifts, eps, activation == Activation::Silu);
            });
            Ok(out)
        })?;
        return Ok(Tensor::from_vec(out, shape, &Device::Cpu)?);
    }
    let grouped =
        x.to_dtype(DType::F32)?.reshape((batch, groups, x.elem_count() / (batch * groups).max(1)))?;
    let normed = normalise(&grouped, eps)?.to_dtype(x.dtype())?.reshape(shape)?;
    let mut by_channel = vec![1; shape.len()];
    if let Some(dimension) = by_channel.get_mut(1) {
        *dimension = channels;
    }
    let y = normed
        .broadcast_mul(&weight.reshape(by_channel.as_slice())?)?
        .broadcast_add(&bias.reshape(by_channel.as_slice())?)?;
    Ok(match activation {
        Activation::None => y,
        Activation::Silu => y.silu()?,
    })
}

/// `x` `[…, C]` normalised over the last dimension, then scaled and shifted.
///
/// # Errors
/// When the shapes do not go together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.elem_count();
    if width > 0 && cpu::is_f32_on_cpu(&[x, weight, bias]) && x.dim(D::Minus1)? == width {
        let x = x.contiguous()?;
        let (weight, bias) = (weight.contiguous()?, bias.contiguous()?);
        let out = cpu::with_slices([&x, &weight, &bias], |[x, weight, bias]| {
            let mut out = vec![0.0; x.len()];
            // Sixty-four rows at a time: a row alone is too little work to hand to a thread.
            out.par_chunks_mut(width * 64)
                .zip(x.par_chunks(width * 64))
                .for_each(|(out, x)| layer_norm_rows(x, out, weight, bias, eps));
            Ok(out)
        })?;
        return Ok(Tensor::from_vec(out, x.dims(), &Device::Cpu)?);
    }
    let normed = normalise(&x.to_dtype(DType::F32)?, eps)?.to_dtype(x.dtype())?;
    Ok(normed.broadcast_mul(weight)?.broadcast_add(bias)?)
}

fn normalise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.mean_keepdim(D::Minus1)?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?)
}

/// Mean and 1/√(variance + eps). Sums are kept in eight lanes and short blocks, so that they are both
/// fast and accurate.
#[inline(always)]
fn moments(x: &[f32], eps: f64) -> (f32, f32) {
    #[inline(always)]
    fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
        let mut total = 0.0;
        for block in x.chunks(4096) {
            let mut lanes = [0.0f32; 8];
            let (eights, rest) = block.as_chunks::<8>();
            for eight in eights {
                for (lane, value) in lanes.iter_mut().zip(eight) {
                    *lane += f(*value);
                }
            }
            let tail: f32 = rest.iter().map(|v| f(*v)).sum();
            total += f64::from(lanes.iter().sum::<f32>() + tail);
        }
        total
    }
    let n = x.len().max(1) as f64;
    let mean = (sum(x, |v| v) / n) as f32;
    let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
    (mean, (1.0 / (variance + eps).sqrt()) as f32)
}

#[inline(always)]
fn normalise_group_body(x: &[f32], out: &mut [f32], gains: &[f32], shifts: &[f32], eps: f64, silu: bool) {
    let (mean, factor) = moments(x, eps);
    let places = x.len() / gains.len().max(1);
    let channels = x.chunks(places.max(1)).zip(out.chunks_mut(places.max(1)));
    for ((x, out), (gain, shift)) in channels.zip(gains.iter().zip(shifts)) {
        let (scale, shift) = (gain * factor, shift - mean * gain * factor);
        for (x, out) in x.iter().zip(out) {
            let y = x * scale + shift;
            *out = if silu { cpu::silu(y) } else { y };
        }
    }
}

#[inline(always)]
fn layer_norm_rows_body(x: &[f32], out: &mut [f32], weight: &[f32], bias: &[f32], eps: f64) {
    let width = weight.len();
    for (x, out) in x.chunks(width).zip(out.chunks_mut(width)) {
        let (mean, factor) = moments(x, eps);
        for (((x, out), gain), shift) in x.iter().zip(out).zip(weight).zip(bias) {
            *out = (x - mean) * factor * gain + shift;
        }
    }
}

cpu::vectorised! {
    /// One group of one picture: `x` and `out` `[channels of the group, places]`.
    fn normalise_group(x: &[f32], out: &mut [f32], gains: &[f32], shifts: &[f32], eps: f64, silu: bool)
        = normalise_group_body
}

cpu::vectorised! {
    /// Rows of the width of `weight`.
    fn layer_norm_rows(x: &[f32], out: &mut [f32], weight: &[f32], bias: &[f32], eps: f64)
        = layer_norm_rows_body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a.to_dtype(DType::F32).unwrap() - b.to_dtype(DType::F32).unwrap()).unwrap();
        difference.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_cpu_path_agrees_with_the_general_one() {
        // The general path is taken for f64.
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let x = Tensor::randn(0.3f32, 2.0, (2, 12, 5, 7), &Device::Cpu).unwrap();
        let (w, b) = (
            Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap(),
            Tensor::arange(1f32, 13.0, &Device::Cpu).unwrap(),
        );
        for activation in [Activation::None, Activation::Silu] {
            let fast = group_norm(&x, &w, &b, 4, 1e-5, activation).unwrap();
            let general = group_norm(&wide(&x), &wide(&w), &wide(&b), 4, 1e-5, activation).unwrap();
            assert!(worst(&fast, &general) < 1e-4);
        }
        let x = Tensor::randn(0.3f32, 2.0, (3, 5, 12), &Device::Cpu).unwrap();
        let fast = layer_norm(&x, &w, &b, 1e-5).unwrap();
        assert!(worst(&fast, &layer_norm(&wide(&x), &wide(&w), &wide(&b), 1e-5).unwrap()) < 1e-4);
    }
}
