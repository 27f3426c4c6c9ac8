//! Linear multistep methods on the probability-flow ODE: the direction of the next step is a
//! combination of the directions so far.

use candle_core::Tensor;

use super::solver::{Solver, derivative, weighted_sum};
use crate::Result;

/// Coefficients of a step on the directions, newest first. Arguments: sigmas, the step's index and
/// the order that history allows.
type Coefficients<'a> = &'a dyn Fn(&[f64], usize, usize) -> Vec<f64>;

/// Runs a multistep method of up to `order` directions; a step to 0 ends in the prediction if
/// `end_in_prediction`, else it is a step like the others.
fn run(
    solver: &mut Solver<'_>,
    mut x: Tensor,
    order: usize,
    end_in_prediction: bool,
    coefficients: Coefficients<'_>,
) -> Result<Tensor> {
    let mut directions: Vec<Tensor> = Vec::new();
    for (i, sigma, next) in solver.steps() {
        let denoised = solver.denoise(&x, sigma)?;
        solver.report(i, &x, &denoised)?;
        directions.insert(0, derivative(&x, sigma, &denoised)?);
        directions.truncate(order.max(1));
        if next == 0.0 && end_in_prediction {
            x = denoised;
            continue;
        }
        let weights = coefficients(solver.sigmas, i, directions.len());
        let terms: Vec<_> = weights.into_iter().zip(&directions).collect();
        x = (x + weighted_sum(&terms)?)?;
    }
    Ok(x)
}

/// Adams–Bashforth with exact integrals over uneven steps (Karras's LMS).
pub fn lms(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    let order = solver.options.order.unwrap_or(4);
    run(solver, x, order, true, &|sigmas, i, order| {
        let nodes = history(sigmas, i, order);
        let (from, to) = span(sigmas, i);
        (0..order).map(|j| integrate(from, to, |tau| lagrange(&nodes, j, tau))).collect()
    })
}

/// Adams–Bashforth with the coefficients of even steps (arXiv 2204.13902), order 4.
pub fn ipndm(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    run(solver, x, 4, true, &|sigmas, i, order| {
        let (from, to) = span(sigmas, i);
        let weights: &[f64] = match order {
            1 => &[1.0],
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        weights.iter().map(|weight| weight * (to - from)).collect()
    })
}

/// iPNDM for uneven steps as published by zju-pi/diff-sampler (Apache-2.0), order 4.
pub fn ipndm_v(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    run(solver, x, 4, true, &|sigmas, i, order| {
        let (from, to) = span(sigmas, i);
        let nodes = history(sigmas, i, order);
        let gap = |k: usize| match (nodes.get(k), nodes.get(k + 1)) {
            (Some(later), Some(earlier)) => later - earlier,
            _ => 1.0,
        };
        let weights = ipndm_v_weights(order, to - from, [gap(0), gap(1), gap(2)]);
        weights.into_iter().map(|weight| weight * (to - from)).collect()
    })
}

/// Weights for a step of length `h` after steps of lengths `h1` (the last), `h2`, `h3`. The
/// grouping of `temp` is the published code's, not that of the exact integral.
fn ipndm_v_weights(order: usize, h: f64, [h1, h2, h3]: [f64; 3]) -> Vec<f64> {
    let ratio = h / h1;
    let temp = (1.0 - h / (3.0 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2.0;
    match order {
        1 => vec![1.0],
        2 => vec![(2.0 + ratio) / 2.0, -ratio / 2.0],
        3 => vec![(2.0 + ratio) / 2.0 + temp, -ratio / 2.0 - (1.0 + h1 / h2) * temp, temp * h1 / h2],
        _ => {
            let outer = h1 * (h1 + h2) / (h2 * (h2 + h3));
            let temp2 = ((1.0 - h / (3.0 * (h + h1))) / 2.0
                + (1.0 - h / (2.0 * (h + h1))) * h / (6.0 * (h + h1 + h2)))
                * (h * (h + h1) * (h + h1 + h2))
                / (h1 * (h1 + h2) * (h1 + h2 + h3));
            vec![
                (2.0 + ratio) / 2.0 + temp + temp2,
                -ratio / 2.0 - (1.0 + h1 / h2) * temp - (1.0 + h1 / h2 + outer) * temp2,
                temp * h1 / h2 + (h1 / h2 + outer * (1.0 + h2 / h3)) * temp2,
                -temp2 * outer * h1 / h2,
            ]
        }
    }
}

/// DEIS (arXiv 2204.13902), tabulated coefficients, order 3, as published by zju-pi/diff-sampler:
/// polynomials in the time of the variance-preserving process rather than in σ.
pub fn deis(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    run(solver, x, 3, true, &|sigmas, i, order| {
        let (from, to) = span(sigmas, i);
        if order == 1 || to <= 0.0 {
            return vec![to - from];
        }
        let process = VpProcess::EDM;
        let nodes: Vec<f64> = history(sigmas, i, order).into_iter().map(|s| process.time(s)).collect();
        let (from, to) = (process.time(from), process.time(to));
        // The published rectangle sum: both ends are points, so it is 10,000 points over 9,999 gaps.
        const POINTS: usize = 10_000;
        let width = (to - from) / POINTS as f64;
        let spacing = (to - from) / (POINTS - 1) as f64;
        let mut sums = vec![0.0; order];
        for point in 0..POINTS {
            let tau = from + spacing * point as f64;
            let slope = process.sigma_slope(tau);
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum += slope * lagrange(&nodes, j, tau);
            }
        }
        sums.into_iter().map(|sum| sum * width).collect()
    })
}

/// The variance-preserving process of EDM's table 1: σ² + 1 = exp(β_d·t²/2 + β_min·t).
struct VpProcess {
    beta_d: f64,
    beta_min: f64,
}

impl VpProcess {
    /// β for σ from 0.002 at t = 0.001 to 80 at t = 1: solves the equation at both ends.
    const EDM: Self = Self { beta_d: 17.537_956_987_271_453, beta_min: -0.004_768_986_493_722_593 };

    fn time(&self, sigma: f64) -> f64 {
        let log = sigma.powi(2).ln_1p();
        ((self.beta_min.powi(2) + 2.0 * self.beta_d * log).sqrt() - self.beta_min) / self.beta_d
    }

    /// dσ/dt.
    fn sigma_slope(&self, t: f64) -> f64 {
        let exponent = 0.5 * self.beta_d * t * t + self.beta_min * t;
        let sigma = exponent.exp_m1().sqrt();
        0.5 * exponent.exp() * (self.beta_d * t + self.beta_min) / sigma
    }
}

/// The sigma of step `i` and the next.
fn span(sigmas: &[f64], i: usize) -> (f64, f64) {
    (sigmas.get(i).copied().unwrap_or(0.0), sigmas.get(i + 1).copied().unwrap_or(0.0))
}

/// The sigmas of the last `order` steps, newest first.
fn history(sigmas: &[f64], i: usize, order: usize) -> Vec<f64> {
    sigmas.iter().take(i + 1).rev().take(order).copied().collect()
}

/// The j-th Lagrange polynomial over `nodes` at `tau`.
pub(super) fn lagrange(nodes: &[f64], j: usize, tau: f64) -> f64 {
    let own = nodes.get(j).copied().unwrap_or(0.0);
    let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
    others.fold(1.0, |product, (_, node)| product * (tau - node) / (own - node))
}

/// Integral of a polynomial of degree up to 9, or a good approximation of a smooth function:
/// Gauss–Legendre with five points.
pub(super) fn integrate(from: f64, to: f64, function: impl Fn(f64) -> f64) -> f64 {
    const RULE: [(f64, f64); 5] = [
        (0.0, 0.568_888_888_888_888_9),
        (0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
        (-0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
        (0.906_179_845_938_664, 0.236_926_885_056_189_08),
        (-0.906_179_845_938_664, 0.236_926_885_056_189_08),
    ];
    let (half, middle) = (0.5 * (to - from), 0.5 * (to + from));
    half * RULE.iter().map(|(point, weight)| weight * function(middle + half * point)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_of_even_steps_are_adams_bashforths() {
        let nodes = [3.0, 2.0, 1.0, 0.0];
        let exact = [55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0];
        for (j, expected) in exact.iter().enumerate() {
            assert!((integrate(3.0, 4.0, |tau| lagrange(&nodes, j, tau)) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_vp_process_is_edms_at_both_ends() {
        let process = VpProcess::EDM;
        assert!((process.time(80.0) - 1.0).abs() < 1e-6);
        assert!((process.time(0.002) - 0.001).abs() < 1e-6);
    }
}
