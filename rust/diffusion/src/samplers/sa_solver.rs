//! SA-Solver (arXiv 2309.05019): stochastic Adams predictor and corrector, data prediction.

use candle_core::Tensor;

use super::multistep::{integrate, lagrange};
use super::solver::{Solver, pairs, weighted_sum};
use crate::Result;
use crate::noise::NoiseSource;

/// Window and orders of the method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SaOptions {
    /// Stochasticity starts at this percent of the way.
    pub start_percent: f64,
    /// And ends at this.
    pub end_percent: f64,
    /// Order of the predictor.
    pub predictor_order: usize,
    /// Order of the corrector; 0 leaves it out.
    pub corrector_order: usize,
    /// Evaluate again after correcting.
    pub pece: bool,
    /// Steps of order 2 by the authors' simplification for few steps: an integral is replaced by the first term of its
    /// expansion.
    pub simple_order_2: bool,
}

impl Default for SaOptions {
    fn default() -> Self {
        Self {
            start_percent: 0.2,
            end_percent: 0.8,
            predictor_order: 3,
            corrector_order: 4,
            pece: false,
            simple_order_2: false,
        }
    }
}

/// Predict, evaluate, correct.
pub fn sa_solver(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let options = solver.options.sa_solver.unwrap_or_default();
    run(solver, x, options)
}

/// Predict, evaluate, correct, evaluate.
pub fn sa_solver_pece(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let options = SaOptions { pece: true, ..solver.options.sa_solver.unwrap_or_default() };
    run(solver, x, options)
}

/// A step that was predicted and may be corrected: its start, noise, length and stochasticity.
struct Predicted {
    start: Tensor,
    noise: Option<Tensor>,
    from: f64,
    lambda_from: f64,
    tau: f64,
}

fn run(solver: &mut Solver<'_>, mut x: Tensor, options: SaOptions) -> Result<Tensor> {
    let (eta, s_noise) = (solver.eta(1.0), solver.s_noise());
    let window = solver.sampling.percent_to_sigma(options.end_percent)
        ..=solver.sampling.percent_to_sigma(options.start_percent);
    let tau_at = |sigma: f64| if window.contains(&sigma) { eta } else { 0.0 };
    let mut noise = solver.fresh_noise(&x);
    let sigmas = solver.finite_lambda_sigmas();
    let count = sigmas.len();
    // Newest first.
    let mut predictions: Vec<Tensor> = Vec::new();
    let mut lambdas: Vec<f64> = Vec::new();
    let mut predicted: Option<Predicted> = None;

    for (i, sigma, next) in pairs(&sigmas) {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        let lambda = solver.lambda(sigma);
        predictions.insert(0, denoised);
        lambdas.insert(0, lambda);
        let keep = options.predictor_order.max(options.corrector_order).max(1);
        predictions.truncate(keep);
        lambdas.truncate(keep);

        let corrects = options.corrector_order > 0 && (next != 0.0 || options.pece);
        if let Some(step) = predicted.take().filter(|_| corrects) {
            let order = options.corrector_order.min(predictions.len()).min(count - 1 - i);
            x = advance(
                solver,
                &step,
                (sigma, lambda),
                (&predictions, &lambdas),
                (order, options.simple_order_2),
            )?;
            if options.pece {
                let denoised = solver.denoise(&x, sigma)?;
                if let Some(newest) = predictions.first_mut() {
                    *newest = denoised;
                }
            }
        }

        if next == 0.0 {
            x = predictions.first().cloned().unwrap_or(x);
            continue;
        }
        let order = options.predictor_order.min(predictions.len()).min(count.saturating_sub(2 + i)).max(1);
        let (tau, lambda_next) = (tau_at(next), solver.lambda(next));
        let mut step = Predicted { start: x, noise: None, from: sigma, lambda_from: lambda, tau };
        if tau > 0.0 && s_noise > 0.0 {
            let h = lambda_next - lambda;
            let scale = next * (-(-2.0 * tau.powi(2) * h).exp_m1()).sqrt() * s_noise;
            step.noise = Some((noise.sample(sigma, next)? * scale)?);
        }
        x = advance(
            solver,
            &step,
            (next, lambda_next),
            (&predictions, &lambdas),
            (order, options.simple_order_2),
        )?;
        predicted = Some(step);
    }
    Ok(x)
}

/// Solves the step exactly for the polynomial through the newest `order` predictions.
fn advance(
    solver: &Solver<'_>,
    step: &Predicted,
    (to, lambda_to): (f64, f64),
    (predictions, lambdas): (&[Tensor], &[f64]),
    (order, simple): (usize, bool),
) -> Result<Tensor> {
    let speed = 1.0 + step.tau.powi(2);
    let nodes = lambdas.get(..order).unwrap_or(lambdas);
    let h = lambda_to - step.lambda_from;
    let alpha = solver.alpha(to);
    let mut terms = vec![(to / step.from * (-step.tau.powi(2) * h).exp(), &step.start)];
    for (j, prediction) in predictions.iter().take(order).enumerate() {
        let weight = match (simple, nodes) {
            (true, [newest, oldest]) => simple_weight(step.lambda_from, h, speed, (*newest, *oldest), j),
            _ => smooth_integral(step.lambda_from, lambda_to, |lambda| {
                speed * (speed * (lambda - lambda_to)).exp() * lagrange(nodes, j, lambda)
            }),
        };
        terms.push((alpha * weight, prediction));
    }
    let moved = weighted_sum(&terms)?;
    match &step.noise {
        Some(noise) => Ok((moved + noise)?),
        None => Ok(moved),
    }
}

/// Weight of the newest (`j` 0) or the older of two predictions, where the integral of the way from `from` times the
/// exponential is h²/2.
fn simple_weight(from: f64, h: f64, speed: f64, (newest, oldest): (f64, f64), j: usize) -> f64 {
    let slope = speed * h * h / 2.0 / (newest - oldest);
    let whole = -(-speed * h).exp_m1();
    // The line through both starts at the prediction that the step starts from.
    let (at_newest, at_oldest) =
        if from == oldest { (slope, whole - slope) } else { (whole + slope, -slope) };
    if j == 0 { at_newest } else { at_oldest }
}

/// Integral of a polynomial times an exponential, over parts short enough to be exact.
fn smooth_integral(from: f64, to: f64, function: impl Fn(f64) -> f64) -> f64 {
    const PARTS: usize = 16;
    let width = (to - from) / PARTS as f64;
    (0..PARTS)
        .map(|part| {
            let start = from + width * part as f64;
            integrate(start, start + width, &function)
        })
        .sum()
}
