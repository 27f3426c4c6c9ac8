//! Changes of the forward pass that nodes ask for.

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::model::{FreeU, Shrink};

/// A feature map with its sides divided by the factor.
pub(super) fn shrink(shrink: &Shrink, h: &Tensor) -> Result<Tensor> {
    let side = |side: usize| ((side as f64 / shrink.factor).round_ties_even() as usize).max(1);
    (shrink.down)(h, side(h.dim(2)?), side(h.dim(3)?))
}

/// FreeU (Si et al., arXiv 2309.11497): at the two deepest widths, half of the backbone's channels
/// are amplified and the low frequencies of the skip connection damped.
pub(super) fn freeu(
    freeu: &FreeU,
    model_channels: usize,
    h: Tensor,
    skip: Tensor,
) -> Result<(Tensor, Tensor)> {
    let channels = h.dim(1)?;
    let (backbone, damping) = match channels / model_channels.max(1) {
        4 => (freeu.b1, freeu.s1),
        2 => (freeu.b2, freeu.s2),
        _ => return Ok((h, skip)),
    };
    let half = channels / 2;
    let first = h.narrow(1, 0, half)?;
    let scaled = match freeu.version2 {
        false => (first * backbone)?,
        true => {
            let mean = h.mean_keepdim(1)?;
            let flat = mean.flatten_from(1)?;
            let (low, high) = (flat.min_keepdim(1)?, flat.max_keepdim(1)?);
            let range = (high - &low)?.unsqueeze(2)?.unsqueeze(3)?;
            let mean = mean.broadcast_sub(&low.unsqueeze(2)?.unsqueeze(3)?)?.broadcast_div(&range)?;
            first.broadcast_mul(&((mean * (backbone - 1.0))? + 1.0)?)?
        }
    };
    let h = Tensor::cat(&[&scaled, &h.narrow(1, half, channels - half)?], 1)?;
    Ok((h, scale_low_frequencies(&skip, damping)?))
}

/// Multiplies the four frequencies around zero (0 and −1 in each direction) by `scale`. Only four of
/// the terms of the discrete Fourier transform are needed, so they are two small matrix products.
fn scale_low_frequencies(x: &Tensor, scale: f64) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let places = height * width;
    // Rows: cosine and sine of each of the four waves over the places. A frequency of an axis of one
    // place is the zero frequency again and must not be counted twice.
    let waves: Vec<(f64, f64)> = frequencies(height)
        .into_iter()
        .flat_map(|fy| frequencies(width).into_iter().map(move |fx| (fy, fx)))
        .collect();
    let mut basis = Vec::with_capacity(waves.len() * 2 * places);
    for (fy, fx) in &waves {
        for wave in [f64::cos, f64::sin] {
            for y in 0..height {
                for x in 0..width {
                    let angle = fy * y as f64 / height as f64 + fx * x as f64 / width as f64;
                    basis.push(wave(std::f64::consts::TAU * angle) as f32);
                }
            }
        }
    }
    let basis = Tensor::from_vec(basis, (waves.len() * 2, places), x.device())?;
    let flat = x.to_dtype(DType::F32)?.reshape((batch * channels, places))?;
    let low = (flat.matmul(&basis.t()?)?.matmul(&basis)? / places as f64)?;
    let out = (flat + (low * (scale - 1.0))?)?;
    Ok(out.reshape((batch, channels, height, width))?.to_dtype(x.dtype())?)
}

fn frequencies(size: usize) -> Vec<f64> {
    if size > 1 { vec![-1.0, 0.0] } else { vec![0.0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_constant_skip_connection_is_scaled_as_a_whole() {
        let x = Tensor::full(2f32, (1, 1, 4, 4), &Device::Cpu).unwrap();
        let y = scale_low_frequencies(&x, 0.25).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|v| (v - 0.5).abs() < 1e-5), "{y:?}");
    }

    #[test]
    fn high_frequencies_are_left_alone() {
        let values: Vec<f32> = (0..16).map(|i| if (i / 4 + i % 4) % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let x = Tensor::from_vec(values.clone(), (1, 1, 4, 4), &Device::Cpu).unwrap();
        let y = scale_low_frequencies(&x, 0.0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
    }
}
