//! Published ways to combine predictions, as hooks for [`GuidanceOptions`](super::GuidanceOptions).

use std::sync::Arc;

use candle_core::Tensor;

use super::options::{CombineFn, Guided};
use crate::Result;
use crate::model::ForwardOptions;

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

/// CFG-Zero* (arXiv 2503.18886): the negative is first scaled to lie nearest the positive. Directions
/// are those from the noisy latent to the predictions.
pub fn cfg_zero_star() -> CombineFn {
    Arc::new(|guided: &Guided<'_>| {
        let (cond, uncond) = ((guided.x - guided.cond)?, (guided.x - guided.uncond)?);
        let dot = per_picture(&(&cond * &uncond)?)?;
        let alpha = dot.broadcast_div(&(per_picture(&uncond.sqr()?)? + 1e-8)?)?;
        let uncond = uncond.broadcast_mul(&alpha)?;
        let direction = (&uncond + ((cond - &uncond)? * guided.scale)?)?;
        Ok((guided.x - direction)?)
    })
}

/// Sum over each picture, shaped to broadcast.
fn per_picture(tensor: &Tensor) -> Result<Tensor> {
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
        let guided = Guided {
            x: &x,
            sigma: 2.0,
            cond: &cond,
            uncond: &uncond,
            scale: 5.0,
            denoised: &cond,
            again: &again,
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
}
