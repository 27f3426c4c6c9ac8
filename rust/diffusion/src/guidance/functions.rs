//! Published ways to combine predictions, as hooks for [`GuidanceOptions`](super::GuidanceOptions).

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::options::{CombineFn, Guided, MaskFn, MaskStep};
use crate::Result;
use crate::model::ForwardOptions;
use crate::models::transformer::AttentionRecord;

/// Rescaled guidance (arXiv 2305.08891, section 3.4): the guided velocity is brought to the standard
/// deviation of the positive one and mixed in by `multiplier`.
pub fn rescale_cfg(multiplier: f64) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        let total = guided.sigma.powi(2) + 1.0;
        let factor = guided.sigma / total.sqrt();
        // Velocity of the variance-preserving process and back; see `ModelSampling::denoised`.
        let skip = (guided.x / total)?;
        let velocity = |denoised: &Tensor| -> Result<Tensor> { Ok(((&skip - denoised)? / factor)?) };
        let (cond, uncond) = (velocity(guided.cond)?, velocity(guided.uncond)?);
        let plain = (&uncond + ((&cond - &uncond)? * guided.scale)?)?;
        let ratio = deviation(&cond)?.broadcast_div(&deviation(&plain)?)?;
        let rescaled = plain.broadcast_mul(&ratio)?;
        let mixed = ((rescaled * multiplier)? + (plain * (1.0 - multiplier))?)?;
        Ok((&skip - (mixed * factor)?)?)
    })
}

/// Standard deviation of each picture, shaped to broadcast.
fn deviation(tensor: &Tensor) -> Result<Tensor> {
    let batch = tensor.dim(0)?;
    let mut shape = vec![1; tensor.rank()];
    if let Some(first) = shape.first_mut() {
        *first = batch;
    }
    Ok(tensor.reshape((batch, ()))?.var(1)?.sqrt()?.reshape(shape)?)
}

/// CFG-Zero* (arXiv 2503.18886): the negative is scaled to lie nearest the positive. The factor is that of the
/// directions from the noisy latent, as in the paper; what it scales is the clean latent.
pub fn cfg_zero_star() -> CombineFn {
    Arc::new(|guided: &Guided<'_>| {
        let (cond, uncond) = ((guided.x - guided.cond)?, (guided.x - guided.uncond)?);
        let dot = per_picture(&(&cond * &uncond)?)?;
        let alpha = dot.broadcast_div(&(per_picture(&uncond.sqr()?)? + 1e-8)?)?;
        let uncond = guided.uncond.broadcast_mul(&alpha)?;
        Ok((&uncond + ((guided.cond - &uncond)? * guided.scale)?)?)
    })
}

/// Tangential damping (arXiv 2503.18137): of the negative only what lies along the direction that both predictions of
/// noise share, the first right singular vector of the two.
pub fn tangential_damping() -> CombineFn {
    Arc::new(|guided: &Guided<'_>| {
        let (cond, uncond) = ((guided.x - guided.cond)?, (guided.x - guided.uncond)?);
        // The larger eigenvalue of the products of both, and its vector, are those of the singular value.
        let (aa, bb) = (per_picture(&cond.sqr()?)?, per_picture(&uncond.sqr()?)?);
        let ab = per_picture(&(&cond * &uncond)?)?;
        let half = ((&aa - &bb)? / 2.0)?;
        let root = (half.sqr()? + ab.sqr()?)?.sqrt()?;
        let (first, second) = match half.mean_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()? >= 0.0 {
            true => ((&root + &half)?, ab),
            false => (ab, (&root - &half)?),
        };
        let shared = (cond.broadcast_mul(&first)? + uncond.broadcast_mul(&second)?)?;
        let along =
            per_picture(&(&uncond * &shared)?)?.broadcast_div(&(per_picture(&shared.sqr()?)? + 1e-30)?)?;
        let uncond = shared.broadcast_mul(&along)?;
        Ok((guided.x - (&uncond + ((cond - &uncond)? * guided.scale)?)?)?)
    })
}

/// Guidance between the plain one and the positive prediction times the scale, by how alike their mean and the negative
/// are: cosines over channels of signed square roots, averaged. Fitted to recorded answers; nothing is published.
pub fn towards_positive() -> CombineFn {
    Arc::new(|guided: &Guided<'_>| {
        let plain = (guided.uncond + ((guided.cond - guided.uncond)? * guided.scale)?)?;
        let leap = (guided.cond * guided.scale)?;
        let rooted = |t: &Tensor| -> Result<Tensor> { Ok((t.abs()?.sqrt()? * t.sign()?)?) };
        let (a, b) = (rooted(guided.uncond)?, rooted(&((&plain + &leap)? / 2.0)?)?);
        let norm = |t: &Tensor| -> Result<Tensor> { Ok((t.sqr()?.sum_keepdim(1)? + 1e-16)?.sqrt()?) };
        let cosines = ((&a * &b)?.sum_keepdim(1)? / (norm(&a)? * norm(&b)?)?)?;
        let alike = f64::from(cosines.mean_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        let weight = (alike + 1.0) / 2.0;
        Ok(((plain * weight)? + (leap * (1.0 - weight))?)?)
    })
}

/// Every prediction of noise times a factor that depends on sigma. Runs after the combination.
pub fn scaled_noise(factor: impl Fn(f64) -> f64 + Send + Sync + 'static) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        let noise = ((guided.x - guided.denoised)? * factor(guided.sigma))?;
        Ok((guided.x - noise)?)
    })
}

/// Guidance at sigmas below `until`, the positive prediction alone at higher ones; no
/// picture gets longer than `renorm` times its positive prediction (0: as long as it gets). Known as the guidance of
/// Lumina 2 (arXiv 2503.21758, section 3.4); norms and limits are measured.
pub fn renormed(renorm: f64, until: f64) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        if guided.sigma >= until {
            return Ok(guided.cond.clone());
        }
        let plain = (guided.uncond + ((guided.cond - guided.uncond)? * guided.scale)?)?;
        if renorm <= 0.0 {
            return Ok(plain);
        }
        let length = |t: &Tensor| -> Result<Tensor> { Ok(per_picture(&t.sqr()?)?.sqrt()?) };
        let longest = (length(guided.cond)? * renorm)?;
        let factor = (longest / (length(&plain)? + 1e-30)?)?.minimum(1.0)?;
        Ok(plain.broadcast_mul(&factor)?)
    })
}

/// Sum over each picture, shaped to broadcast.
pub(super) fn per_picture(tensor: &Tensor) -> Result<Tensor> {
    let batch = tensor.dim(0)?;
    let mut shape = vec![1; tensor.rank()];
    if let Some(first) = shape.first_mut() {
        *first = batch;
    }
    Ok(tensor.reshape((batch, ()))?.sum(1)?.reshape(shape)?)
}

/// Perturbed-attention guidance (arXiv 2403.17377): away from what the network predicts when its
/// middle self-attention is the identity. Runs after the combination.
pub fn perturbed_attention(scale: f64) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        if scale == 0.0 {
            return Ok(guided.denoised.clone());
        }
        let options = ForwardOptions { identity_middle_attention: true, ..guided.forward.clone() };
        let perturbed = (guided.again)(&options)?;
        Ok((guided.denoised + ((guided.cond - perturbed)? * scale)?)?)
    })
}

/// Differential diffusion (arXiv 2306.00950): a place is made anew in the steps whose remaining part of the way is not
/// above its value in the mask. `strength` mixes that with the soft mask.
pub fn differential_diffusion(strength: f64) -> MaskFn {
    Arc::new(move |mask: &Tensor, step: MaskStep| {
        let left = if step.from == step.to { 0.0 } else { (step.now - step.to) / (step.from - step.to) };
        let hard = mask.ge(left as f32)?.to_dtype(mask.dtype())?;
        if strength >= 1.0 {
            return Ok(hard);
        }
        Ok(((hard * strength)? + (mask * (1.0 - strength))?)?)
    })
}

/// Self-attention guidance (arXiv 2210.00939): away from what the network predicts, without text, where its most
/// looked-at places are blurred. `sigma` is the blur's, over nine places.
pub fn self_attention(scale: f64, sigma: f64) -> CombineFn {
    Arc::new(move |guided: &Guided<'_>| {
        let record = AttentionRecord::default();
        let options =
            ForwardOptions { record_middle_attention: Some(record.clone()), ..guided.forward.clone() };
        let negative = (guided.negative_at)(guided.x, &options)?;
        let (_, _, height, width) = guided.x.dims4()?;
        // With several entries in the list, those of the first are what is there to go by.
        let batch = guided.x.dim(0)?;
        let Some(looked_at) = record.take().filter(|map| map.dim(0).is_ok_and(|count| count >= batch)) else {
            return Ok(guided.denoised.clone());
        };
        let mask = looked_at.narrow(0, 0, batch)?.gt(1f32)?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let mask = mask.upsample_nearest2d(height, width)?.broadcast_as(negative.shape())?;
        let blurred = blur(&negative, sigma)?;
        let mixed = ((&blurred * &mask)? + (&negative * mask.affine(-1.0, 1.0)?)?)?;
        // The same noise laid over the blurred picture.
        let degraded = ((guided.x - &negative)? + mixed)?;
        let predicted = (guided.negative_at)(&degraded, guided.forward)?;
        // The difference of the two predictions of noise, times sigma.
        let noise = ((guided.x - &negative)? - (&degraded - &predicted)?)?;
        Ok((guided.denoised - (noise * scale)?)?)
    })
}

/// A Gaussian blur over nine places, mirrored at the borders.
fn blur(x: &Tensor, sigma: f64) -> Result<Tensor> {
    const RADIUS: i64 = 4;
    if sigma <= 0.0 {
        return Ok(x.clone());
    }
    let weights: Vec<f64> =
        (-RADIUS..=RADIUS).map(|i| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut blurred = x.clone();
    for dim in [2, 3] {
        let length = x.dim(dim)? as i64;
        let period = (2 * (length - 1)).max(1);
        let mut total: Option<Tensor> = None;
        for (weight, offset) in weights.iter().zip(-RADIUS..) {
            let places: Vec<u32> = (0..length)
                .map(|i| {
                    let folded = (i + offset).rem_euclid(period);
                    folded.min(period - folded).min(length - 1) as u32
                })
                .collect();
            let places = Tensor::from_vec(places, length as usize, x.device())?;
            let part = (blurred.index_select(&places, dim)? * (weight / sum))?;
            total = Some(match total {
                Some(total) => (total + part)?,
                None => part,
            });
        }
        blurred = total.unwrap_or(blurred);
    }
    Ok(blurred)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_multiplier_of_zero_is_plain_guidance() -> Result<()> {
        let draw = |seed| -> Result<Tensor> { crate::noise::prepare_noise(&[2, 4, 5, 5], seed, None) };
        let (x, cond, uncond) = (draw(1)?, draw(2)?, draw(3)?);
        let forward = ForwardOptions::default();
        let again = |_: &ForwardOptions| -> Result<Tensor> { draw(4) };
        let negative_at = |_: &Tensor, _: &ForwardOptions| -> Result<Tensor> { draw(5) };
        let guided = Guided {
            x: &x,
            sigma: 2.0,
            cond: &cond,
            uncond: &uncond,
            has_negative: true,
            scale: 5.0,
            denoised: &cond,
            again: &again,
            negative_at: &negative_at,
            forward: &forward,
        };
        let plain = (&uncond + ((&cond - &uncond)? * 5.0)?)?;
        let error = (rescale_cfg(0.0)(&guided)? - &plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-4, "{error}");

        let same = Guided { uncond: &cond, ..guided };
        let error = (cfg_zero_star()(&same)? - &cond)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-4, "{error}");
        let guided = same;

        let perturbed = (&cond + ((&cond - draw(4)?)? * 3.0)?)?;
        let error = (perturbed_attention(3.0)(&guided)? - perturbed)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-6 && x.device().same_device(&Device::Cpu), "{error}");
        Ok(())
    }

    #[test]
    fn a_place_is_made_anew_once_its_value_is_reached() -> Result<()> {
        let mask = Tensor::new(&[0.0f32, 0.3, 0.6, 1.0], &Device::Cpu)?;
        let hook = differential_diffusion(1.0);
        let at =
            |now| -> Result<Vec<f32>> { Ok(hook(&mask, MaskStep { now, from: 999.0, to: 0.0 })?.to_vec1()?) };
        assert_eq!(at(999.0)?, [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(at(500.0)?, [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(at(0.0)?, [1.0, 1.0, 1.0, 1.0]);
        let soft = differential_diffusion(0.5)(&mask, MaskStep { now: 500.0, from: 999.0, to: 0.0 })?;
        assert_eq!(soft.to_vec1::<f32>()?, [0.0, 0.15, 0.8, 1.0]);
        Ok(())
    }

    #[test]
    fn a_blur_keeps_even_areas_and_the_mean() -> Result<()> {
        let even = Tensor::full(0.7f32, (1, 2, 12, 9), &Device::Cpu)?;
        let error = (blur(&even, 2.0)? - &even)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-6, "{error}");
        let point = Tensor::zeros((1, 1, 21, 21), DType::F32, &Device::Cpu)?;
        let point = point.slice_assign(
            &[0..1, 0..1, 10..11, 10..11],
            &Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?,
        )?;
        let sum = blur(&point, 2.0)?.sum_all()?.to_scalar::<f32>()?;
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        Ok(())
    }
}
