//! UniPC (arXiv 2302.04867): unified predictor–corrector, multistep, data prediction.
//!
//! Written for x/α, on which the method is the same with σ/α for σ and 1 for α; given sigmas are
//! already that ratio for variance-preserving models.

use candle_core::Tensor;

use super::solver::{Solver, weighted_sum};
use crate::Result;

/// Sigma that stands for 0, where λ is finite.
const LAST_SIGMA: f64 = 0.001;

/// The function B(h) of the method.
#[derive(Clone, Copy)]
enum Variant {
    /// B(h) = h.
    Bh1,
    /// B(h) = e^h − 1.
    Bh2,
}

/// Variant bh1.
pub fn uni_pc(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    run(solver, x, Variant::Bh1)
}

/// Variant bh2.
pub fn uni_pc_bh2(solver: &mut Solver<'_>, x: Tensor) -> Result<Tensor> {
    run(solver, x, Variant::Bh2)
}

fn run(solver: &mut Solver<'_>, mut x: Tensor, variant: Variant) -> Result<Tensor> {
    let mut sigmas = solver.sigmas.to_vec();
    if let Some(last) = sigmas.last_mut()
        && *last == 0.0
    {
        *last = LAST_SIGMA;
    }
    let steps = sigmas.len().saturating_sub(1);
    let order = 3.min(sigmas.len().saturating_sub(2)).max(1);
    let Some(first) = sigmas.first().copied().filter(|_| steps > 0) else { return Ok(x) };

    // Predictions of the points so far, newest first, with their λ.
    let denoised = solver.denoise(&x, first)?;
    solver.report(0, &x, &denoised)?;
    let mut history = vec![(denoised, -first.ln())];
    let mut previous = first;
    for (step, sigma) in sigmas.iter().copied().enumerate().skip(1) {
        let used = order.min(step).min(if step >= order { steps + 1 - step } else { order });
        let corrects = step < steps;
        let (moved, denoised) = update(solver, &x, &history, (previous, sigma), used, variant, corrects)?;
        x = moved;
        if let Some(denoised) = denoised {
            solver.report(step, &x, &denoised)?;
            history.insert(0, (denoised, -sigma.ln()));
            history.truncate(order);
        }
        previous = sigma;
    }
    // What is left of the noise at the stand-in for 0, as after any last sigma.
    if solver.sigmas.last() == Some(&0.0) { solver.sampling.finish_latent(LAST_SIGMA, x) } else { Ok(x) }
}

/// Predicts the latent at `sigma`; with `corrects`, evaluates there and corrects it.
fn update(
    solver: &mut Solver<'_>,
    x: &Tensor,
    history: &[(Tensor, f64)],
    (previous, sigma): (f64, f64),
    order: usize,
    variant: Variant,
    corrects: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let Some(((newest, lambda), earlier)) = history.split_first() else { return Ok((x.clone(), None)) };
    let h = -sigma.ln() - lambda;
    // Differences to earlier predictions, each over its distance in steps.
    let mut places = Vec::new();
    let mut differences = Vec::new();
    for (prediction, earlier_lambda) in earlier.iter().take(order - 1) {
        let place = (earlier_lambda - lambda) / h;
        places.push(place);
        differences.push(((prediction - newest)? / place)?);
    }
    places.push(1.0);
    let scale = match variant {
        Variant::Bh1 => -h,
        Variant::Bh2 => (-h).exp_m1(),
    };
    let moments = moments(-h, scale, order);
    let base = weighted_sum(&[(sigma / previous, x), (-(-h).exp_m1(), newest)])?;

    let predictor = match order {
        1 => Vec::new(),
        // The paper's simplification of the second-order method.
        2 => vec![0.5],
        _ => solve(places.get(..order - 1).unwrap_or(&[]), moments.get(..order - 1).unwrap_or(&[])),
    };
    let combine = |base: &Tensor, weights: &[f64], extra: Option<(f64, &Tensor)>| -> Result<Tensor> {
        let mut terms = vec![(1.0, base)];
        terms.extend(weights.iter().zip(&differences).map(|(weight, d)| (-scale * weight, d)));
        terms.extend(extra.map(|(weight, d)| (-scale * weight, d)));
        weighted_sum(&terms)
    };
    let predicted = combine(&base, &predictor, None)?;
    if !corrects {
        return Ok((predicted, None));
    }
    let denoised = solver.denoise(&predicted, sigma)?;
    let corrector = if order == 1 { vec![0.5] } else { solve(&places, &moments) };
    let change = (&denoised - newest)?;
    let (last, rest) = corrector.split_last().map_or((0.0, [].as_slice()), |(last, rest)| (*last, rest));
    Ok((combine(&base, rest, Some((last, &change)))?, Some(denoised)))
}

/// The right sides: k!·φ_{k+1}(hh)·hh / B for k = 1, 2, ….
fn moments(hh: f64, scale: f64, order: usize) -> Vec<f64> {
    let mut phi = hh.exp_m1() / hh - 1.0;
    let mut factorial = 1.0;
    (1..=order)
        .map(|k| {
            let moment = phi * factorial / scale;
            factorial *= (k + 1) as f64;
            phi = phi / hh - 1.0 / factorial;
            moment
        })
        .collect()
}

/// Solves Σ_j places[j]^i · w_j = right[i] by elimination with pivoting; at most 3 × 3.
fn solve(places: &[f64], right: &[f64]) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = right
        .iter()
        .enumerate()
        .map(|(power, right)| places.iter().map(|place| place.powi(power as i32)).chain([*right]).collect())
        .collect();
    let at = |row: &[f64], column: usize| row.get(column).copied().unwrap_or(0.0);
    let count = rows.len();
    for column in 0..count {
        let pivot = (column..count)
            .max_by(|a, b| {
                let size = |row: &usize| rows.get(*row).map_or(0.0, |row| at(row, column).abs());
                size(a).total_cmp(&size(b))
            })
            .unwrap_or(column);
        rows.swap(column, pivot);
        let Some(lead) = rows.get(column).cloned() else { continue };
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = at(row, column) / at(&lead, column);
                row.iter_mut().zip(&lead).for_each(|(value, lead)| *value -= factor * lead);
            }
        }
    }
    rows.iter().enumerate().map(|(index, row)| at(row, count) / at(row, index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_of_a_small_system_satisfies_it() {
        let places = [-2.0, -0.7, 1.0];
        let right = [0.3, -0.2, 0.9];
        let weights = solve(&places, &right);
        for (power, right) in right.iter().enumerate() {
            let sum: f64 = places.iter().zip(&weights).map(|(p, w)| p.powi(power as i32) * w).sum();
            assert!((sum - right).abs() < 1e-12);
        }
    }
}
