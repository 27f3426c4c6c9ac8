//! Stochastic DPM-Solver++ (k-diffusion, MIT), in λ and α so that flows are covered: a flow is the
//! variance-exploding process on x/α at σ/α. Noise is a Brownian path's.

use candle_core::Tensor;

use super::solver::{Solver, add_noise, ancestral_step, weighted_sum};
use crate::Result;

/// DPM-Solver++ (stochastic), with a noisy middle point at `r` of the way.
pub fn dpmpp_sde(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let (eta, s_noise, r) = (solver.eta(1.0), solver.s_noise(), solver.options.r.unwrap_or(0.5));
    let mut noise = solver.brownian_noise(&x);
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let (lambda, lambda_next) = (solver.lambda(sigma), solver.lambda(next));
        let alpha = solver.alpha(sigma);
        // A step towards `prediction`, down to less noise than wanted and up again.
        let mut step = |x: &Tensor, prediction: &Tensor, (to, lambda_to, alpha_to): (f64, f64, f64)| {
            let (down, up) = ancestral_step((-lambda).exp(), (-lambda_to).exp(), eta);
            let decay = down * lambda.exp();
            let moved =
                weighted_sum(&[(alpha_to / alpha * decay, x), (alpha_to * (1.0 - decay), prediction)])?;
            if eta > 0.0 && s_noise > 0.0 {
                add_noise(moved, &mut noise, (sigma, to), alpha_to * up * s_noise)
            } else {
                Ok(moved)
            }
        };
        let lambda_middle = lambda + r * (lambda_next - lambda);
        let middle = solver.sigma_of_lambda(lambda_middle);
        let halfway = step(&x, &denoised, (middle, lambda_middle, solver.alpha(middle)))?;
        let denoised_2 = solver.denoiser.denoise(&halfway, middle)?.denoised;
        let factor = 1.0 / (2.0 * r);
        let mixed = weighted_sum(&[(1.0 - factor, &denoised), (factor, &denoised_2)])?;
        step(&x, &mixed, (next, lambda_next, solver.alpha(next)))
    })
}

/// DPM-Solver++(2M) SDE, midpoint unless the options say `heun`.
pub fn dpmpp_2m_sde(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let heun = solver.options.solver_type.as_deref() == Some("heun");
    dpmpp_2m_sde_with(solver, x, heun)
}

/// DPM-Solver++(2M) SDE, Heun.
pub fn dpmpp_2m_sde_heun(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    dpmpp_2m_sde_with(solver, x, true)
}

fn dpmpp_2m_sde_with(solver: &mut Solver<'_>, x: Tensor, heun: bool) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let mut noise = solver.brownian_noise(&x);
    let mut old: Option<(Tensor, f64)> = None;
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let h = solver.lambda(next) - solver.lambda(sigma);
        let h_eta = h * (eta + 1.0);
        let alpha_next = solver.alpha(next);
        let rest = -(-h_eta).exp_m1();
        let mut x = weighted_sum(&[(next / sigma * (-h * eta).exp(), &x), (alpha_next * rest, &denoised)])?;
        if let Some((old, h_last)) = &old {
            let r = h_last / h;
            let weight = if heun { 1.0 - rest / h_eta } else { 0.5 * rest };
            x = (x + ((&denoised - old)? * (alpha_next * weight / r))?)?;
        }
        if eta > 0.0 && s_noise > 0.0 {
            let scale = next * (-(-2.0 * h * eta).exp_m1()).sqrt() * s_noise;
            x = add_noise(x, &mut noise, (sigma, next), scale)?;
        }
        old = Some((denoised, h));
        Ok(x)
    })
}

/// DPM-Solver++(3M) SDE.
pub fn dpmpp_3m_sde(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let mut noise = solver.brownian_noise(&x);
    let mut old: Option<(Tensor, f64)> = None;
    let mut older: Option<(Tensor, f64)> = None;
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let h = solver.lambda(next) - solver.lambda(sigma);
        let h_eta = h * (eta + 1.0);
        let alpha_next = solver.alpha(next);
        let mut x = weighted_sum(&[
            (next / sigma * (-h * eta).exp(), &x),
            (-alpha_next * (-h_eta).exp_m1(), &denoised),
        ])?;
        let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
        if let Some((denoised_1, h_1)) = &old {
            let r_0 = h_1 / h;
            let d_0 = ((&denoised - denoised_1)? / r_0)?;
            if let Some((denoised_2, h_2)) = &older {
                let r_1 = h_2 / h;
                let d_1 = ((denoised_1 - denoised_2)? / r_1)?;
                let change = (&d_0 - d_1)?;
                let phi_3 = phi_2 / h_eta - 0.5;
                let second = phi_2 * r_0 / (r_0 + r_1) - phi_3 / (r_0 + r_1);
                x = weighted_sum(&[(1.0, &x), (alpha_next * phi_2, &d_0), (alpha_next * second, &change)])?;
            } else {
                x = (x + (d_0 * (alpha_next * phi_2))?)?;
            }
        }
        if eta > 0.0 && s_noise > 0.0 {
            let scale = next * (-(-2.0 * h * eta).exp_m1()).sqrt() * s_noise;
            x = add_noise(x, &mut noise, (sigma, next), scale)?;
        }
        older = old.replace((denoised, h));
        Ok(x)
    })
}
