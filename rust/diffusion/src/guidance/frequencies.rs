//! FreSca (Huang et al., arXiv 2504.02154): low and high frequencies of guidance scaled apart.

use std::f64::consts::TAU;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::options::{CombineFn, Guided};
use crate::Result;

/// Changes the positive prediction so that the frequencies of its difference from the negative that are less than
/// `cutoff` away from zero are scaled by `low`, all others by `high`.
pub fn scaled_frequencies(low: f64, high: f64, cutoff: usize) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        if !guided.has_negative {
            return Ok(guided.cond.clone());
        }
        let difference = (guided.cond - guided.uncond)?;
        let low_part = low_frequencies(&difference, cutoff)?;
        let scaled = ((difference * high)? + (low_part * (low - high))?)?;
        Ok((guided.uncond + scaled)?)
    })
}

/// What frequencies from −`cutoff` up to `cutoff` − 1, in both directions, make of `x` `[…, H, W]`: the real part of
/// two projections, each a matrix product.
fn low_frequencies(x: &Tensor, cutoff: usize) -> Result<Tensor> {
    let dims = x.dims().to_vec();
    let (height, width) = (x.dim(x.rank() - 2)?, x.dim(x.rank() - 1)?);
    let flat = x.to_dtype(DType::F32)?.reshape(((), height, width))?;
    let (rows_cos, rows_sin) = projection(height, cutoff, x.device())?;
    let (columns_cos, columns_sin) = projection(width, cutoff, x.device())?;
    let project = |rows: &Tensor, columns: &Tensor| -> Result<Tensor> {
        Ok(rows.broadcast_matmul(&flat)?.broadcast_matmul(&columns.t()?)?)
    };
    let real = (project(&rows_cos, &columns_cos)? - project(&rows_sin, &columns_sin)?)?;
    Ok(real.reshape(dims)?.to_dtype(x.dtype())?)
}

/// Real and imaginary part `[n, n]` of the projection of an axis of `n` places on its low frequencies.
fn projection(n: usize, cutoff: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    // Those that an axis of this length has: from −⌊n/2⌋ on.
    let (half, cutoff) = ((n / 2) as i64, i64::try_from(cutoff).unwrap_or(i64::MAX));
    let frequencies: Vec<i64> = (-half..n as i64 - half).filter(|f| (-cutoff..cutoff).contains(f)).collect();
    // By how many places two are apart, with all frequencies summed.
    let by_distance = |wave: fn(f64) -> f64| -> Vec<f32> {
        (0..n as i64)
            .map(|distance| {
                let turns = |f: &i64| (f * distance).rem_euclid(n as i64) as f64 / n as f64;
                (frequencies.iter().map(|f| wave(TAU * turns(f))).sum::<f64>() / n as f64) as f32
            })
            .collect()
    };
    let matrix = |by_distance: Vec<f32>| -> Result<Tensor> {
        let entry = |i: usize| (i / n + n - i % n) % n;
        let entries: Vec<f32> =
            (0..n * n).map(|i| by_distance.get(entry(i)).copied().unwrap_or_default()).collect();
        Ok(Tensor::from_vec(entries, (n, n), device)?)
    };
    Ok((matrix(by_distance(f64::cos))?, matrix(by_distance(f64::sin))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(a: &Tensor, b: &Tensor) -> Result<f32> {
        Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    #[test]
    fn all_frequencies_together_are_the_picture() -> Result<()> {
        let x = crate::noise::prepare_noise(&[2, 3, 6, 7], 1, None)?;
        assert!(error(&low_frequencies(&x, 4)?, &x)? < 1e-5);
        Ok(())
    }

    #[test]
    fn the_lowest_box_holds_the_mean_and_no_checkerboard() -> Result<()> {
        let flat = Tensor::full(2f32, (1, 1, 8, 8), &Device::Cpu)?;
        assert!(error(&low_frequencies(&flat, 1)?, &flat)? < 1e-5);
        let board: Vec<f32> = (0..64).map(|i| if (i / 8 + i % 8) % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let board = Tensor::from_vec(board, (1, 1, 8, 8), &Device::Cpu)?;
        assert!(low_frequencies(&board, 3)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
        Ok(())
    }
}
