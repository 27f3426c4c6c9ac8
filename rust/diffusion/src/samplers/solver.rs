//! What every sampler works with: the denoiser, the sigmas, the noise, and small pieces of the
//! mathematics that papers share.

use std::sync::Arc;

use candle_core::Tensor;

use crate::Result;
use crate::noise::{BrownianNoise, GeneratorNoise, NoiseSource};
use crate::sampling::ModelSampling;

/// Predictions of the clean latent.
#[derive(Clone)]
pub struct Denoised {
    /// The guided prediction.
    pub denoised: Tensor,
    /// The prediction of the negative conditioning alone (for CFG++).
    pub uncond: Tensor,
}

/// Predicts the clean latent from a noisy one.
pub trait Denoiser {
    /// `x` is the noisy latent at `sigma`, not yet scaled for the network.
    fn denoise(&mut self, x: &Tensor, sigma: f64) -> Result<Denoised>;
}

/// What a callback learns of a step.
pub struct Step<'a> {
    /// Index of the step.
    pub index: usize,
    /// Number of steps.
    pub total: usize,
    /// The step's prediction of the clean latent, in model space.
    pub denoised: &'a Tensor,
    /// The noisy latent the step began with.
    pub x: &'a Tensor,
}

/// Called after each step's first prediction; an error stops the run and is returned from it.
pub type Callback<'a> = &'a mut dyn FnMut(&Step<'_>) -> Result<()>;

/// Numbers that sampler nodes may set. `None` is the sampler's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerOptions {
    /// How much of a step's noise is replaced by new noise.
    pub eta: Option<f64>,
    /// Factor on new noise.
    pub s_noise: Option<f64>,
    /// Churn of EDM's stochastic sampler, with the sigmas it applies between.
    pub churn: Option<Churn>,
    /// Place of a middle point within a step.
    pub r: Option<f64>,
    /// Highest order of a multistep method.
    pub order: Option<usize>,
    /// Variant by name (`"heun"`, `"midpoint"`, `"phi_1"`, …).
    pub solver_type: Option<String>,
    /// Step control of `dpm_adaptive`.
    pub adaptive: Option<super::dpm_solver::AdaptiveOptions>,
    /// Window and orders of `sa_solver`.
    pub sa_solver: Option<super::sa_solver::SaOptions>,
    /// Growth of the picture in `lcm_upscale`.
    pub upscale: Option<Upscale>,
}

/// Resizes a latent `[B, C, H, W]` to a height and a width.
pub type ResizeFn = Arc<dyn Fn(&Tensor, usize, usize) -> Result<Tensor> + Send + Sync>;

/// How a picture grows while it is sampled: evenly over the first steps.
#[derive(Clone)]
pub struct Upscale {
    /// Factor of the sides at the end.
    pub factor: f64,
    /// Steps that it takes, half of the sigmas if not given.
    pub steps: Option<usize>,
    /// How a latent is resized.
    pub resize: ResizeFn,
}

impl std::fmt::Debug for Upscale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upscale({} in {:?} steps)", self.factor, self.steps)
    }
}

impl PartialEq for Upscale {
    fn eq(&self, other: &Self) -> bool {
        (self.factor, self.steps) == (other.factor, other.steps) && Arc::ptr_eq(&self.resize, &other.resize)
    }
}

/// Churn of EDM's stochastic sampler (arXiv 2206.00364, algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// Total amount over all steps.
    pub amount: f64,
    /// Lowest sigma it applies at.
    pub sigma_min: f64,
    /// Highest sigma it applies at.
    pub sigma_max: f64,
}

/// Everything a sampler is given besides the start state.
pub struct Solver<'a> {
    /// The denoiser.
    pub denoiser: &'a mut dyn Denoiser,
    /// Sigmas to go through, from the noisiest down.
    pub sigmas: &'a [f64],
    /// The model's noise levels.
    pub sampling: &'a ModelSampling,
    /// Numbers set by sampler nodes.
    pub options: &'a SamplerOptions,
    /// Seed of the run; noise inside samplers derives from it.
    pub seed: u64,
    /// Told of each step.
    pub callback: Callback<'a>,
}

impl Solver<'_> {
    /// Pairs of neighbouring sigmas with the step's index.
    pub fn steps(&self) -> impl Iterator<Item = (usize, f64, f64)> + use<> {
        let pairs: Vec<_> =
            self.sigmas.iter().zip(self.sigmas.iter().skip(1)).map(|(a, b)| (*a, *b)).collect();
        pairs.into_iter().enumerate().map(|(i, (sigma, next))| (i, sigma, next))
    }

    /// The guided prediction at `sigma`.
    pub fn denoise(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        Ok(self.denoiser.denoise(x, sigma)?.denoised)
    }

    /// Both predictions at `sigma`.
    pub fn denoise_both(&mut self, x: &Tensor, sigma: f64) -> Result<Denoised> {
        self.denoiser.denoise(x, sigma)
    }

    /// Tells the caller of a step.
    pub fn report(&mut self, index: usize, x: &Tensor, denoised: &Tensor) -> Result<()> {
        let total = self.sigmas.len().saturating_sub(1);
        (self.callback)(&Step { index, total, denoised, x })
    }

    /// The steps of an integrator in λ: predicts the clean latent at each sigma and lets `step` go on from there to
    /// the next one, given as (x, prediction, (σ, next σ)). A step to 0 ends in the prediction.
    ///
    /// # Errors
    /// What the denoiser, the callback or `step` say.
    pub fn integrate(
        &mut self,
        mut x: Tensor,
        mut step: impl FnMut(&mut Self, Tensor, Tensor, (f64, f64)) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let sigmas = self.finite_lambda_sigmas();
        for (i, sigma, next) in pairs(&sigmas) {
            let denoised = self.denoise(&x, sigma)?;
            self.report(i, &x, &denoised)?;
            x = if next == 0.0 { denoised } else { step(self, x, denoised, (sigma, next))? };
        }
        Ok(x)
    }

    /// Independent noise for each call, from the seed after the run's.
    pub fn fresh_noise(&self, like: &Tensor) -> GeneratorNoise {
        GeneratorNoise::new(like, self.seed.wrapping_add(1))
    }

    /// Increments of one Brownian path over the run's sigmas.
    pub fn brownian_noise(&self, like: &Tensor) -> BrownianNoise {
        BrownianNoise::new(like, self.sigmas, self.seed)
    }

    /// The option `eta`, or a sampler's default.
    pub fn eta(&self, default: f64) -> f64 {
        self.options.eta.unwrap_or(default)
    }

    /// The option `s_noise`, 1 by default.
    pub fn s_noise(&self) -> f64 {
        self.options.s_noise.unwrap_or(1.0)
    }

    /// λ(σ), half the logarithm of the signal-to-noise ratio.
    pub fn lambda(&self, sigma: f64) -> f64 {
        if self.sampling.is_flow() { ((1.0 - sigma) / sigma).ln() } else { -sigma.ln() }
    }

    /// σ(λ), the inverse of [`Self::lambda`].
    pub fn sigma_of_lambda(&self, lambda: f64) -> f64 {
        if self.sampling.is_flow() { 1.0 / (lambda.exp() + 1.0) } else { (-lambda).exp() }
    }

    /// α(σ), the part of the clean latent in the noisy one.
    pub fn alpha(&self, sigma: f64) -> f64 {
        if self.sampling.is_flow() { 1.0 - sigma } else { 1.0 }
    }

    /// The sigmas with a first one of no signal (flow, σ ≥ 1) moved to where λ is finite.
    pub fn finite_lambda_sigmas(&self) -> Vec<f64> {
        let mut sigmas = self.sigmas.to_vec();
        if self.sampling.is_flow()
            && sigmas.len() > 1
            && let Some(first) = sigmas.first_mut()
            && *first >= 1.0
        {
            *first = self.sampling.percent_to_sigma(1e-4);
        }
        sigmas
    }
}

/// Neighbouring pairs of a list of sigmas with their index.
pub fn pairs(sigmas: &[f64]) -> impl Iterator<Item = (usize, f64, f64)> + '_ {
    sigmas.iter().zip(sigmas.iter().skip(1)).enumerate().map(|(i, (sigma, next))| (i, *sigma, *next))
}

/// The direction of the probability-flow ODE: dx/dσ = (x − denoised)/σ.
///
/// Divided element by element: `tensor / number` multiplies by the number's rounded reciprocal, and with the large
/// sigmas of zero terminal SNR a step takes away nearly all of `x`, so that what is left of the rounding shows.
pub fn derivative(x: &Tensor, sigma: f64, denoised: &Tensor) -> Result<Tensor> {
    let sigma = Tensor::new(sigma as f32, x.device())?.to_dtype(x.dtype())?;
    Ok((x - denoised)?.broadcast_div(&sigma)?)
}

/// `x + d·dt`.
pub fn step_along(x: &Tensor, d: &Tensor, dt: f64) -> Result<Tensor> {
    Ok((x + (d * dt)?)?)
}

/// Σ weight·tensor; there must be a term.
pub fn weighted_sum(terms: &[(f64, &Tensor)]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (weight, tensor) in terms {
        let term = (*tensor * *weight)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    sum.ok_or_else(|| crate::Error::invalid("terms of a sum", 0, "at least one"))
}

/// Splits the way from `sigma` to `next` into a deterministic step down and noise added after it:
/// (`down`, `up`) with down² + up² = next².
pub fn ancestral_step(sigma: f64, next: f64, eta: f64) -> (f64, f64) {
    if eta == 0.0 {
        return (next, 0.0);
    }
    let up = (eta * (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt()).min(next);
    ((next.powi(2) - up.powi(2)).sqrt(), up)
}

/// The ancestral step of flows: (`down`, factor on x, factor on the noise) with the step going to
/// `down` first.
pub fn flow_ancestral_step(sigma: f64, next: f64, eta: f64) -> (f64, f64, f64) {
    let down = next * (1.0 + (next / sigma - 1.0) * eta);
    let rescale = (1.0 - next) / (1.0 - down);
    (down, rescale, (next.powi(2) - (down * rescale).powi(2)).max(0.0).sqrt())
}

/// Adds scaled noise, drawing only what is used.
pub fn add_noise(
    x: Tensor,
    noise: &mut dyn NoiseSource,
    (sigma, next): (f64, f64),
    scale: f64,
) -> Result<Tensor> {
    Ok((x + (noise.sample(sigma, next)? * scale)?)?)
}

/// φ₁(z) = (e^z − 1)/z.
pub fn phi_1(z: f64) -> f64 {
    z.exp_m1() / z
}

/// φ₂(z) = (φ₁(z) − 1)/z.
pub fn phi_2(z: f64) -> f64 {
    (phi_1(z) - 1.0) / z
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_direction_is_rounded_once() -> Result<()> {
        let sigma = 4518.82f32;
        let values: Vec<f32> = (1..100u16).map(|i| f32::from(i) * 37.7).collect();
        let x = Tensor::from_slice(&values, values.len(), &Device::Cpu)?;
        let direction = derivative(&x, f64::from(sigma), &x.zeros_like()?)?.to_vec1::<f32>()?;
        assert_eq!(direction, values.iter().map(|value| value / sigma).collect::<Vec<_>>());
        Ok(())
    }
}
