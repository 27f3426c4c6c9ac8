//! RES (arXiv 2308.02157): a second-order exponential multistep method in t = −ln σ.

use candle_core::Tensor;

use super::solver::{Solver, add_noise, ancestral_step, derivative, phi_1, phi_2, step_along, weighted_sum};
use crate::Result;

/// Deterministic RES.
pub fn res_multistep(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(0.0);
    run(solver, x, eta, false)
}

/// Deterministic RES with CFG++.
pub fn res_multistep_cfg_pp(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(0.0);
    run(solver, x, eta, true)
}

/// RES with ancestral noise.
pub fn res_multistep_ancestral(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(1.0);
    run(solver, x, eta, false)
}

/// RES with ancestral noise and CFG++.
pub fn res_multistep_ancestral_cfg_pp(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(1.0);
    run(solver, x, eta, true)
}

/// What is remembered of a step: its prediction, its sigma and the sigma it went down to.
struct Previous {
    prediction: Tensor,
    sigma: f64,
    down: f64,
}

fn run(solver: &mut Solver<'_>, mut x: Tensor, eta: f64, cfg_pp: bool) -> Result<Tensor> {
    let s_noise = solver.s_noise();
    let mut noise = solver.fresh_noise(&x);
    let mut previous: Option<Previous> = None;
    for (i, sigma, next) in solver.steps() {
        let both = solver.denoise_both(&x, sigma)?;
        solver.report(i, &x, &both.denoised)?;
        let (down, up) = ancestral_step(sigma, next, eta);
        let prediction = if cfg_pp { &both.uncond } else { &both.denoised };
        x = match &previous {
            Some(previous) if down != 0.0 => {
                let h = (sigma / down).ln();
                let c_2 = (previous.down / previous.sigma).ln() / h;
                let (p_1, p_2) = (phi_1(-h), phi_2(-h));
                // Without a distance between the two predictions the second one has no say.
                let finite = |weight: f64| if weight.is_finite() { weight } else { 0.0 };
                let (b_1, b_2) = (finite(p_1 - p_2 / c_2), finite(p_2 / c_2));
                let base = if cfg_pp { ((&x + &both.denoised)? - &both.uncond)? } else { x };
                weighted_sum(&[((-h).exp(), &base), (h * b_1, prediction), (h * b_2, &previous.prediction)])?
            }
            _ => {
                let d = derivative(&x, sigma, prediction)?;
                if cfg_pp { step_along(&both.denoised, &d, down)? } else { step_along(&x, &d, down - sigma)? }
            }
        };
        if next > 0.0 && up > 0.0 {
            x = add_noise(x, &mut noise, (sigma, next), up * s_noise)?;
        }
        let prediction = if cfg_pp { both.uncond } else { both.denoised };
        previous = Some(Previous { prediction, sigma, down });
    }
    Ok(x)
}
