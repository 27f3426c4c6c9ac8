//! DPM-Solver++ (arXiv 2211.01095) on the ODE or with ancestral noise, plain and with CFG++.

use candle_core::Tensor;

use super::solver::{Solver, add_noise, ancestral_step, flow_ancestral_step, weighted_sum};
use crate::Result;

/// DPM-Solver++(2S) with ancestral noise.
pub fn dpmpp_2s_ancestral(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let flow = solver.sampling.is_flow();
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let (down, rescale, up) = if flow {
            flow_ancestral_step(sigma, next, eta)
        } else {
            let (down, up) = ancestral_step(sigma, next, eta);
            (down, 1.0, up)
        };
        if down == 0.0 {
            x = denoised;
        } else {
            // At σ = 1 a flow's λ is infinite: the middle is taken just below.
            let middle = if flow && sigma == 1.0 {
                0.9999
            } else {
                solver.sigma_of_lambda(0.5 * (solver.lambda(sigma) + solver.lambda(down)))
            };
            let halfway = toward(&x, &denoised, middle / sigma)?;
            let denoised = solver.denoise(&halfway, middle)?;
            x = toward(&x, &denoised, down / sigma)?;
        }
        if next > 0.0 && eta > 0.0 {
            x = add_noise((x * rescale)?, &mut noise, (sigma, next), up * s_noise)?;
        }
    }
    Ok(x)
}

/// `ratio` of `x` and the rest of `denoised`: the exact step for a constant prediction.
fn toward(x: &Tensor, denoised: &Tensor, ratio: f64) -> Result<Tensor> {
    weighted_sum(&[(ratio, x), (1.0 - ratio, denoised)])
}

/// [`dpmpp_2s_ancestral`] with CFG++.
pub fn dpmpp_2s_ancestral_cfg_pp(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        let (down, up) = ancestral_step(sigma, next, eta);
        if down == 0.0 {
            x = both.denoised;
        } else {
            let middle = (sigma * down).sqrt();
            let guided = (&x + &both.denoised)?;
            let halfway = toward(&(&guided - &both.uncond)?, &both.denoised, middle / sigma)?;
            let ahead = solver.denoise_both(&halfway, middle)?;
            x = toward(&(guided - &ahead.uncond)?, &ahead.denoised, down / sigma)?;
        }
        if next > 0.0 {
            x = add_noise(x, &mut noise, (sigma, next), up * s_noise)?;
        }
    }
    Ok(x)
}

/// DPM-Solver++(2M); the last step is first order.
pub fn dpmpp_2m(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut old: Option<(Tensor, f64)> = None;
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let ratio = next / sigma;
        x = match &old {
            Some((old, old_sigma)) if next != 0.0 => {
                let h = (sigma / next).ln();
                let r = (old_sigma / sigma).ln() / h;
                let rest = 1.0 - ratio;
                weighted_sum(&[
                    (ratio, &x),
                    (rest * (1.0 + 1.0 / (2.0 * r)), &denoised),
                    (-rest / (2.0 * r), old),
                ])?
            }
            _ => toward(&x, &denoised, ratio)?,
        };
        old = Some((denoised, sigma));
    }
    Ok(x)
}

/// [`dpmpp_2m`] with CFG++.
pub fn dpmpp_2m_cfg_pp(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut old: Option<(Tensor, f64)> = None;
    for (i, sigma, next) in solver.steps() {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        let ratio = next / sigma;
        let first_order = weighted_sum(&[(1.0, &both.denoised), (-ratio, &both.uncond), (ratio, &x)])?;
        x = match &old {
            Some((old, old_sigma)) if next != 0.0 => {
                let h = (sigma / next).ln();
                let r = (old_sigma / sigma).ln() / h;
                let change = (&both.denoised - old)?;
                (first_order + (change * ((1.0 - ratio) / (2.0 * r)))?)?
            }
            _ => first_order,
        };
        old = Some((both.uncond, sigma));
    }
    Ok(x)
}
