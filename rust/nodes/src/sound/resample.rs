//! Another sample rate.

use candle_core::Tensor;
use rushlight_runtime::NodeError;

use crate::memory;
use crate::picture::pixels::{tensor, values};

/// Zero crossings of the filter each way.
const FILTER_WIDTH: f64 = 6.0;
/// Part of the band that is kept.
const ROLLOFF: f64 = 0.99;

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Another sample rate, by a windowed sinc as torchaudio (BSD-2-Clause) does it.
pub(crate) fn resample(waveform: &Tensor, from: u32, to: u32) -> Result<Tensor, NodeError> {
    if from == to {
        return Ok(waveform.clone());
    }
    if from == 0 || to == 0 {
        return Err(NodeError::value("a sample rate is zero"));
    }
    let divisor = common_divisor(from as usize, to as usize);
    let (from, to) = (from as usize / divisor, to as usize / divisor);
    let base = from.min(to) as f64 * ROLLOFF;
    let width = (FILTER_WIDTH * from as f64 / base).ceil() as usize;
    let (batch, channels, length) = waveform.dims3()?;
    let new_length = to.saturating_mul(length).div_ceil(from);
    // Rates without a common divisor have a long kernel for each of many phases.
    memory::check_shape("the filter of the resampling", &[to, 2 * width + from], size_of::<f32>())?;
    let mut data = memory::numbers(&[batch, channels, new_length])?;
    // One kernel for each place of a new sample between old ones.
    let kernels: Vec<Vec<f32>> = (0..to)
        .map(|phase| {
            (0..2 * width + from)
                .map(|i| {
                    let t = (i as f64 - width as f64) / from as f64 - phase as f64 / to as f64;
                    let t = (t * base).clamp(-FILTER_WIDTH, FILTER_WIDTH);
                    let window = (t * std::f64::consts::PI / FILTER_WIDTH / 2.0).cos().powi(2);
                    let t = t * std::f64::consts::PI;
                    let sinc = if t == 0.0 { 1.0 } else { t.sin() / t };
                    (sinc * window * base / from as f64) as f32
                })
                .collect()
        })
        .collect();
    for channel in values(waveform)?.chunks(length.max(1)) {
        for index in 0..new_length {
            let (block, phase) = (index / to, index % to);
            let start = (block * from) as i64 - width as i64;
            let kernel = kernels.get(phase).map(Vec::as_slice).unwrap_or(&[]);
            let sum = kernel.iter().enumerate().map(|(i, weight)| {
                let source = usize::try_from(start + i as i64).ok().and_then(|place| channel.get(place));
                weight * source.copied().unwrap_or(0.0)
            });
            data.push(sum.sum());
        }
    }
    tensor(data, &[batch, channels, new_length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_wave_survives_another_sample_rate() {
        let wave =
            |rate: usize| (0..rate / 10).map(move |i| (i as f32 / rate as f32 * 440.0 * 6.2831855).sin());
        let from = tensor(wave(16000).collect(), &[1, 1, 1600]).unwrap();
        let resampled = values(&resample(&from, 16000, 22050).unwrap()).unwrap();
        assert_eq!(resampled.len(), 2205);
        let worst = resampled.iter().zip(wave(22050)).skip(100).take(2000).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 0.01);
    }
}
