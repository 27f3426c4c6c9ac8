//! Exponential integrators for the reverse SDE in λ: SEEDS (arXiv 2305.14267), exponential Heun and
//! ER-SDE (arXiv 2309.06169).

use candle_core::Tensor;

use super::solver::{Solver, weighted_sum};
use crate::Result;
use crate::noise::{GeneratorNoise, NoiseSource};

/// SEEDS-2 with its middle point at ½.
pub fn seeds_2(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let phi_2 = solver.options.solver_type.as_deref() == Some("phi_2");
    let (eta, r) = (solver.eta(1.0), solver.options.r.unwrap_or(0.5));
    two_stages(solver, x, TwoStages { eta, r, phi_2 })
}

/// Exponential Heun on the ODE, predicting the clean latent.
pub fn exp_heun_2_x0(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    two_stages(solver, x, TwoStages { eta: 0.0, r: 1.0, phi_2: true })
}

/// Exponential Heun on the SDE.
pub fn exp_heun_2_x0_sde(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let eta = solver.eta(1.0);
    two_stages(solver, x, TwoStages { eta, r: 1.0, phi_2: true })
}

struct TwoStages {
    eta: f64,
    /// Place of the second stage.
    r: f64,
    /// Weights from φ₂ rather than from interpolating between the stages.
    phi_2: bool,
}

fn two_stages(solver: &mut Solver<'_>, x: Tensor, TwoStages { eta, r, phi_2 }: TwoStages) -> Result<Tensor> {
    let mut carried = CarriedNoise::new(solver, &x, eta);
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let step = Step::new(solver, sigma, next, eta);
        let (middle, alpha_middle) = step.at(solver, r);
        carried.start();
        let halfway = weighted_sum(&[
            (middle / sigma * (-r * step.h * eta).exp(), &x),
            (-alpha_middle * (-r * step.h_eta).exp_m1(), &denoised),
        ])?;
        let halfway = carried.add(halfway, (sigma, middle), (0.0, r), step.h)?;
        let denoised_2 = solver.denoise(&halfway, middle)?;
        let whole = (-step.h_eta).exp_m1();
        let second = if phi_2 { eh_phi_2(-step.h_eta) / r } else { whole / (2.0 * r) };
        let alpha = solver.alpha(next);
        let moved = weighted_sum(&[
            (next / sigma * (-step.h * eta).exp(), &x),
            (-alpha * (whole - second), &denoised),
            (-alpha * second, &denoised_2),
        ])?;
        carried.add(moved, (middle, next), (r, 1.0), step.h)
    })
}

/// SEEDS-3 with its middle points at ⅓ and ⅔.
pub fn seeds_3(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    const R1: f64 = 1.0 / 3.0;
    const R2: f64 = 2.0 / 3.0;
    let eta = solver.eta(1.0);
    let mut carried = CarriedNoise::new(solver, &x, eta);
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let step = Step::new(solver, sigma, next, eta);
        let decay = |r: f64| (-r * step.h * eta).exp();
        let ((sigma_1, alpha_1), (sigma_2, alpha_2)) = (step.at(solver, R1), step.at(solver, R2));
        carried.start();

        let u = weighted_sum(&[
            (sigma_1 / sigma * decay(R1), &x),
            (-alpha_1 * (-R1 * step.h_eta).exp_m1(), &denoised),
        ])?;
        let u = carried.add(u, (sigma, sigma_1), (0.0, R1), step.h)?;
        let denoised_2 = solver.denoise(&u, sigma_1)?;

        let a_2 = R2 / R1 * eh_phi_2(-R2 * step.h_eta);
        let a_1 = (-R2 * step.h_eta).exp_m1() - a_2;
        let u = weighted_sum(&[
            (sigma_2 / sigma * decay(R2), &x),
            (-alpha_2 * a_1, &denoised),
            (-alpha_2 * a_2, &denoised_2),
        ])?;
        let u = carried.add(u, (sigma_1, sigma_2), (R1, R2), step.h)?;
        let denoised_3 = solver.denoise(&u, sigma_2)?;

        let b_3 = eh_phi_2(-step.h_eta) / R2;
        let b_1 = (-step.h_eta).exp_m1() - b_3;
        let alpha = solver.alpha(next);
        let moved = weighted_sum(&[
            (next / sigma * decay(1.0), &x),
            (-alpha * b_1, &denoised),
            (-alpha * b_3, &denoised_3),
        ])?;
        carried.add(moved, (sigma_2, next), (R2, 1.0), step.h)
    })
}

/// h·φ₂(h) = (e^h − 1 − h)/h.
fn eh_phi_2(h: f64) -> f64 {
    (h.exp_m1() - h) / h
}

struct Step {
    lambda: f64,
    h: f64,
    h_eta: f64,
}

impl Step {
    fn new(solver: &Solver<'_>, sigma: f64, next: f64, eta: f64) -> Self {
        let lambda = solver.lambda(sigma);
        let h = solver.lambda(next) - lambda;
        Self { lambda, h, h_eta: h * (eta + 1.0) }
    }

    /// σ and α at the part `r` of the step.
    fn at(&self, solver: &Solver<'_>, r: f64) -> (f64, f64) {
        let sigma = solver.sigma_of_lambda(self.lambda + r * self.h);
        (sigma, solver.alpha(sigma))
    }
}

/// Noise of a step's stages: each stage keeps the decayed noise of the stage before and adds its own
/// part, so that together they are one path.
struct CarriedNoise {
    source: GeneratorNoise,
    eta: f64,
    s_noise: f64,
    carried: Option<Tensor>,
}

impl CarriedNoise {
    fn new(solver: &Solver<'_>, x: &Tensor, eta: f64) -> Self {
        Self { source: solver.fresh_noise(x), eta, s_noise: solver.s_noise(), carried: None }
    }

    fn start(&mut self) {
        self.carried = None;
    }

    /// Adds the noise of the stage between parts `from` and `to` of a step of length `h`.
    fn add(&mut self, x: Tensor, sigmas: (f64, f64), (from, to): (f64, f64), h: f64) -> Result<Tensor> {
        if self.eta <= 0.0 || self.s_noise <= 0.0 {
            return Ok(x);
        }
        let segment = (from - to) * h * self.eta;
        let own = (self.source.sample(sigmas.0, sigmas.1)? * (-(2.0 * segment).exp_m1()).max(0.0).sqrt())?;
        let noise = match self.carried.take() {
            Some(carried) => ((carried * segment.exp())? + own)?,
            None => own,
        };
        let noisy = (x + (&noise * (sigmas.1 * self.s_noise))?)?;
        self.carried = Some(noise);
        Ok(noisy)
    }
}

/// ER-SDE-Solver, three stages, on λ = σ/α with the noise scaler φ(λ) = λ(e^{λ^0.3} + 10).
pub fn er_sde(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    const POINTS: usize = 200;
    let stages = solver.options.order.unwrap_or(3);
    let ode = solver.options.solver_type.as_deref() == Some("ODE");
    let (eta, s_noise) = (solver.eta(1.0), if ode { 0.0 } else { solver.s_noise() });
    let reverse_time = solver.options.solver_type.as_deref() == Some("Reverse-time SDE");
    let scaler = |lambda: f64| match (ode || eta == 0.0, reverse_time) {
        (true, _) => lambda,
        (_, true) => lambda.powf(eta + 1.0),
        _ => lambda * ((eta * lambda.powf(0.3)).exp() + 10.0),
    };
    let mut noise = solver.fresh_noise(&x);
    // Predictions and first differences of earlier steps, with their λ.
    let mut old: Option<(Tensor, f64)> = None;
    let mut old_difference: Option<(Tensor, f64)> = None;
    solver.integrate(x, |solver, x, denoised, (sigma, next)| {
        let (alpha, alpha_next) = (solver.alpha(sigma), solver.alpha(next));
        let (lambda, lambda_next) = (sigma / alpha, next / alpha_next);
        let r = scaler(lambda_next) / scaler(lambda);
        let mut x = weighted_sum(&[(alpha_next / alpha * r, &x), (alpha_next * (1.0 - r), &denoised)])?;
        let mut difference = None;
        if let Some((old, old_lambda)) = &old
            && stages >= 2
        {
            let dt = lambda_next - lambda;
            let width = -dt / POINTS as f64;
            let places = || (0..POINTS).map(|k| lambda_next + k as f64 * width);
            let area = width * places().map(|l| 1.0 / scaler(l)).sum::<f64>();
            let first = ((&denoised - old)? / (lambda - old_lambda))?;
            x = (x + (&first * (alpha_next * (dt + area * scaler(lambda_next))))?)?;
            if let Some((old_difference, older_lambda)) = &old_difference
                && stages >= 3
            {
                let area = width * places().map(|l| (l - lambda) / scaler(l)).sum::<f64>();
                let second = ((&first - old_difference)? / ((lambda - older_lambda) / 2.0))?;
                let weight = alpha_next * (dt.powi(2) / 2.0 + area * scaler(lambda_next));
                x = (x + (second * weight)?)?;
            }
            difference = Some((first, *old_lambda));
        }
        if s_noise > 0.0 {
            let deviation = (lambda_next.powi(2) - (lambda * r).powi(2)).max(0.0).sqrt();
            x = (x + (noise.sample(sigma, next)? * (alpha_next * deviation * s_noise))?)?;
        }
        old_difference = difference;
        old = Some((denoised, lambda));
        Ok(x)
    })
}
