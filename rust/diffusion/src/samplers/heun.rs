//! Second-order single-step methods of EDM and DPM-Solver-2, and Heun++.

use candle_core::Tensor;

use super::euler::Churner;
use super::solver::{
    Solver, add_noise, ancestral_step, derivative, flow_ancestral_step, step_along, weighted_sum,
};
use crate::Result;

/// Algorithm 2 of EDM (arXiv 2206.00364).
pub fn heun(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut churner = Churner::new(solver, &x);
    for (i, sigma, next) in solver.steps() {
        let sigma = churner.churn(&mut x, sigma)?;
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let d = derivative(&x, sigma, &denoised)?;
        let dt = next - sigma;
        let ahead = step_along(&x, &d, dt)?;
        if next == 0.0 {
            x = ahead;
        } else {
            let denoised = solver.denoise(&ahead, next)?;
            let d_ahead = derivative(&ahead, next, &denoised)?;
            x = step_along(&x, &((d + d_ahead)? / 2.0)?, dt)?;
        }
    }
    Ok(x)
}

/// DPM-Solver-2: the direction at the middle of ln σ.
pub fn dpm_2(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut churner = Churner::new(solver, &x);
    for (i, sigma, next) in solver.steps() {
        let sigma = churner.churn(&mut x, sigma)?;
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        x = dpm_2_step(solver, x, sigma, next, &denoised)?;
    }
    Ok(x)
}

/// One step to `next`; to 0 it is Euler's.
fn dpm_2_step(
    solver: &mut Solver<'_>,
    x: Tensor,
    sigma: f64,
    next: f64,
    denoised: &Tensor,
) -> Result<Tensor> {
    let d = derivative(&x, sigma, denoised)?;
    if next == 0.0 {
        return step_along(&x, &d, next - sigma);
    }
    let middle = (0.5 * (sigma.ln() + next.ln())).exp();
    let halfway = step_along(&x, &d, middle - sigma)?;
    let denoised = solver.denoise(&halfway, middle)?;
    step_along(&x, &derivative(&halfway, middle, &denoised)?, next - sigma)
}

/// DPM-Solver-2 to below the next sigma, then noise up to it.
pub fn dpm_2_ancestral(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let mut noise = solver.fresh_noise(&x);
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let (down, rescale, up) = if solver.sampling.is_flow() {
            flow_ancestral_step(sigma, next, eta)
        } else {
            let (down, up) = ancestral_step(sigma, next, eta);
            (down, 1.0, up)
        };
        x = dpm_2_step(solver, x, sigma, down, &denoised)?;
        if down > 0.0 {
            x = add_noise((x * rescale)?, &mut noise, (sigma, next), up * s_noise)?;
        }
    }
    Ok(x)
}

/// Heun++ (arXiv 2311.14768): directions of up to three sigmas, weighted by them.
pub fn heunpp2(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut churner = Churner::new(solver, &x);
    let top = solver.sigmas.first().copied().unwrap_or(0.0);
    let end = solver.sigmas.last().copied().unwrap_or(0.0);
    for (i, sigma, next) in solver.steps() {
        let after_next = solver.sigmas.get(i + 2).copied();
        let sigma = churner.churn(&mut x, sigma)?;
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let d = derivative(&x, sigma, &denoised)?;
        let dt = next - sigma;
        let ahead = step_along(&x, &d, dt)?;
        let Some(after_next) = after_next.filter(|_| next != end) else {
            x = ahead;
            continue;
        };
        let denoised = solver.denoise(&ahead, next)?;
        let d_2 = derivative(&ahead, next, &denoised)?;
        let direction = if after_next == end {
            let w_2 = next / (2.0 * top);
            weighted_sum(&[(1.0 - w_2, &d), (w_2, &d_2)])?
        } else {
            let further = step_along(&ahead, &d_2, after_next - next)?;
            let denoised = solver.denoise(&further, after_next)?;
            let d_3 = derivative(&further, after_next, &denoised)?;
            let (w_2, w_3) = (next / (3.0 * top), after_next / (3.0 * top));
            weighted_sum(&[(1.0 - w_2 - w_3, &d), (w_2, &d_2), (w_3, &d_3)])?
        };
        x = step_along(&x, &direction, dt)?;
    }
    Ok(x)
}
