//! Euler's method and its relatives: ancestral, CFG++, gradient estimation, consistency, DDPM.

use candle_core::Tensor;

use super::solver::{
    Solver, add_noise, ancestral_step, derivative, flow_ancestral_step, pairs, step_along, weighted_sum,
};
use crate::Result;
use crate::noise::NoiseSource;

/// Algorithm 2 of EDM (arXiv 2206.00364) without its second order; `ddim` is the same function.
pub fn euler(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut churner = Churner::new(solver, &x);
    for (i, sigma, next) in solver.steps() {
        let sigma = churner.churn(&mut x, sigma)?;
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        x = step_along(&x, &derivative(&x, sigma, &denoised)?, next - sigma)?;
    }
    Ok(x)
}

/// EDM's churn: noise added before a step, when asked for.
pub(super) struct Churner {
    noise: crate::noise::GeneratorNoise,
    churn: Option<super::solver::Churn>,
    steps: f64,
    s_noise: f64,
}

impl Churner {
    pub(super) fn new(solver: &Solver<'_>, x: &Tensor) -> Self {
        Self {
            noise: solver.fresh_noise(x),
            churn: solver.options.churn,
            steps: solver.sigmas.len().saturating_sub(1) as f64,
            s_noise: solver.s_noise(),
        }
    }

    /// Raises `x` from `sigma` to the returned sigma.
    pub(super) fn churn(&mut self, x: &mut Tensor, sigma: f64) -> Result<f64> {
        let Some(churn) = self.churn else { return Ok(sigma) };
        if churn.amount <= 0.0 || sigma < churn.sigma_min || sigma > churn.sigma_max {
            return Ok(sigma);
        }
        let gamma = (churn.amount / self.steps).min(std::f64::consts::SQRT_2 - 1.0);
        let raised = sigma * (1.0 + gamma);
        let scale = (raised.powi(2) - sigma.powi(2)).sqrt() * self.s_noise;
        *x = add_noise(x.clone(), &mut self.noise, (sigma, raised), scale)?;
        Ok(raised)
    }
}

/// Euler steps to below the next sigma, then noise up to it.
pub fn euler_ancestral(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        if next == 0.0 {
            x = denoised;
        } else if solver.sampling.is_flow() {
            let (down, rescale, renoise) = flow_ancestral_step(sigma, next, eta);
            x = step_along(&x, &derivative(&x, sigma, &denoised)?, down - sigma)?;
            if eta > 0.0 {
                x = add_noise((x * rescale)?, &mut noise, (sigma, next), renoise * s_noise)?;
            }
        } else {
            let (down, up) = ancestral_step(sigma, next, eta);
            x = step_along(&x, &derivative(&x, sigma, &denoised)?, down - sigma)?;
            x = add_noise(x, &mut noise, (sigma, next), up * s_noise)?;
        }
    }
    Ok(x)
}

/// Euler with CFG++ (arXiv 2406.08070): direction from the unconditional prediction.
pub fn euler_cfg_pp(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(0.0);
    euler_cfg_pp_with(solver, x, eta)
}

/// [`euler_cfg_pp`] with ancestral noise.
pub fn euler_ancestral_cfg_pp(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(1.0);
    euler_cfg_pp_with(solver, x, eta)
}

fn euler_cfg_pp_with(solver: &mut Solver<'_>, mut x: Tensor, eta: f64) -> Result<Tensor> {
    let s_noise = solver.s_noise();
    let mut noise = solver.fresh_noise(&x);
    let sigmas = solver.finite_lambda_sigmas();
    for (i, sigma, next) in pairs(&sigmas) {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        if next == 0.0 {
            x = both.denoised;
            continue;
        }
        let (alpha, alpha_next) = (solver.alpha(sigma), solver.alpha(next));
        let direction = ((&x - (both.uncond * alpha)?)? / sigma)?;
        let (down, up) = ancestral_step(sigma / alpha, next / alpha_next, eta);
        x = weighted_sum(&[(alpha_next, &both.denoised), (alpha_next * down, &direction)])?;
        if eta > 0.0 && s_noise > 0.0 {
            x = add_noise(x, &mut noise, (sigma, next), alpha_next * up * s_noise)?;
        }
    }
    Ok(x)
}

/// Euler with twice the guided prediction less the unconditional one in place of the guided one: an earlier form of
/// CFG++. The last step ends at that, too.
pub fn euler_cfg_pp_alternative(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    for (i, sigma, next) in solver.steps() {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        let part = next / sigma;
        x = weighted_sum(&[(part, &x), (2.0 * (1.0 - part), &both.denoised), (part - 1.0, &both.uncond)])?;
    }
    Ok(x)
}

/// Consistency models whose picture grows during the first steps, see [`Upscale`].
pub fn lcm_upscale(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let Some(upscale) = solver.options.upscale.clone() else { return lcm(solver, x) };
    let count = solver.sigmas.len();
    let steps = upscale.steps.unwrap_or(count / 2).clamp(1, count.max(1));
    let (height, width) = (x.dim(2)?, x.dim(3)?);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        x = denoised;
        if i < steps {
            let factor = 1.0 + (upscale.factor - 1.0) * (i + 1) as f64 / steps as f64;
            let side = |side: usize| ((side as f64 * factor).round_ties_even() as usize).max(1);
            x = (upscale.resize)(&x, side(height), side(width))?;
        }
        if next > 0.0 {
            // Another size at each step, so a generator of its own.
            let seed = solver.seed.wrapping_add(1).wrapping_add(i as u64);
            let fresh = crate::noise::GeneratorNoise::new(&x, seed).sample(sigma, next)?;
            x = solver.sampling.noise_latent(next, &fresh, &x, false)?;
        }
    }
    Ok(x)
}

/// Euler corrected by the change of the direction (arXiv 2306.04848), γ = 2.
pub fn gradient_estimation(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    gradient_estimation_with(solver, x, false)
}

/// [`gradient_estimation`] with CFG++.
pub fn gradient_estimation_cfg_pp(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    gradient_estimation_with(solver, x, true)
}

fn gradient_estimation_with(solver: &mut Solver<'_>, mut x: Tensor, cfg_pp: bool) -> Result<Tensor> {
    const GAMMA: f64 = 2.0;
    let mut old: Option<Tensor> = None;
    for (i, sigma, next) in solver.steps() {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        let d = derivative(&x, sigma, if cfg_pp { &both.uncond } else { &both.denoised })?;
        let dt = next - sigma;
        if next == 0.0 {
            x = both.denoised;
        } else {
            x = if cfg_pp { step_along(&both.denoised, &d, next)? } else { step_along(&x, &d, dt)? };
            if let Some(old) = &old {
                x = step_along(&x, &(&d - old)?, (GAMMA - 1.0) * dt)?;
            }
        }
        old = Some(d);
    }
    Ok(x)
}

/// Consistency models: jump to the prediction, noise it to the next sigma.
pub fn lcm(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        x = denoised;
        if next > 0.0 {
            let fresh = noise.sample(sigma, next)?;
            x = solver.sampling.noise_latent(next, &fresh, &x, false)?;
        }
    }
    Ok(x)
}

/// The posterior of denoising diffusion (arXiv 2006.11239, algorithm 2) on ᾱ = 1/(1 + σ²).
pub fn ddpm(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let bar = 1.0 / (1.0 + sigma.powi(2));
        let bar_next = 1.0 / (1.0 + next.powi(2));
        let alpha = bar / bar_next;
        let epsilon = derivative(&x, sigma, &denoised)?;
        let scale = (1.0 / alpha).sqrt();
        x = weighted_sum(&[
            (scale * bar.sqrt(), &x),
            (-scale * (1.0 - alpha) / (1.0 - bar).sqrt(), &epsilon),
        ])?;
        if next > 0.0 {
            let deviation = ((1.0 - alpha) * (1.0 - bar_next) / (1.0 - bar)).sqrt();
            x = add_noise(x, &mut noise, (sigma, next), deviation)?;
            x = (x / bar_next.sqrt())?;
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device};

    use super::super::solver::Upscale;
    use super::super::{Denoised, Denoiser, SamplerOptions};
    use super::*;
    use crate::sampling::{ModelSampling, Prediction};

    /// Always predicts 3 with guidance and 1 without, and remembers the sizes it was asked at.
    #[derive(Default)]
    struct Constant(Vec<usize>);

    impl Denoiser for Constant {
        fn denoise(&mut self, x: &Tensor, _: f64) -> Result<Denoised> {
            self.0.push(x.dim(2)?);
            Ok(Denoised { denoised: (x.zeros_like()? + 3.0)?, uncond: (x.zeros_like()? + 1.0)? })
        }
    }

    fn run(
        sampler: crate::samplers::SamplerFn,
        sigmas: &[f64],
        options: &SamplerOptions,
    ) -> Result<(Tensor, Vec<usize>)> {
        let mut denoiser = Constant::default();
        let sampling = ModelSampling::stable_diffusion(Prediction::Eps);
        let mut solver = Solver {
            denoiser: &mut denoiser,
            sigmas,
            sampling: &sampling,
            options,
            seed: 1,
            callback: &mut |_| Ok(()),
        };
        let x = Tensor::full(10f32, (1, 4, 16, 16), &Device::Cpu)?;
        let out = sampler(&mut solver, x)?;
        Ok((out, denoiser.0))
    }

    /// From sigma 10 to 3 the original gives 0.3·x + 0.7·(2·guided − unconditional).
    #[test]
    fn the_alternative_of_cfg_pp_steps_as_the_original_does() -> Result<()> {
        let options = SamplerOptions::default();
        let (out, _) = run(euler_cfg_pp_alternative, &[10.0, 3.0], &options)?;
        let value = out.flatten_all()?.to_vec1::<f32>()?[0];
        assert!((value - (0.3 * 10.0 + 0.7 * 5.0)).abs() < 1e-5, "{value}");
        let (out, _) = run(euler_cfg_pp_alternative, &[10.0, 0.0], &options)?;
        assert!((out.flatten_all()?.to_vec1::<f32>()?[0] - 5.0).abs() < 1e-5);
        Ok(())
    }

    /// Sides at each call, as the original was seen to have them.
    #[test]
    fn pictures_grow_over_the_first_steps() -> Result<()> {
        let resize =
            |x: &Tensor, height, width| Ok(x.upsample_nearest2d(height, width)?.to_dtype(DType::F32)?);
        let grown = |sigmas: &[f64], factor, steps| -> Result<(usize, Vec<usize>)> {
            let upscale = Upscale { factor, steps, resize: Arc::new(resize) };
            let options = SamplerOptions { upscale: Some(upscale), ..SamplerOptions::default() };
            let (out, sides) = run(lcm_upscale, sigmas, &options)?;
            Ok((out.dim(2)?, sides))
        };
        assert_eq!(grown(&[10.0, 5.0, 3.0, 0.0], 4.0, None)?, (64, vec![16, 40, 64]));
        assert_eq!(grown(&[10.0, 5.0, 4.0, 3.0, 1.0, 0.0], 4.0, None)?, (64, vec![16, 32, 48, 64, 64]));
        assert_eq!(grown(&[10.0, 5.0, 0.0], 3.0, Some(3))?, (37, vec![16, 27]));
        assert_eq!(grown(&[10.0, 0.0], 3.0, Some(3))?, (32, vec![16]));
        assert_eq!(grown(&[10.0, 5.0, 0.0], 1.7, Some(3))?, (23, vec![16, 20]));
        Ok(())
    }
}
