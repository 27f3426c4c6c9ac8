//! DPM-Solver (arXiv 2206.00927): single-step methods of order 1 to 3 in t = −ln σ, in a fixed
//! number of evaluations (`dpm_fast`) or with adaptive steps (`dpm_adaptive`).

use candle_core::Tensor;

use super::solver::{Solver, add_noise, ancestral_step, weighted_sum};
use crate::{Error, Result};

/// Step control of `dpm_adaptive`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveOptions {
    /// Order of the solution carried on: 2 or 3.
    pub order: usize,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// First step in t.
    pub h_init: f64,
    /// Proportional coefficient of the step controller.
    pub pcoeff: f64,
    /// Integral coefficient.
    pub icoeff: f64,
    /// Derivative coefficient.
    pub dcoeff: f64,
    /// A step is taken when the controller's factor is at least this.
    pub accept_safety: f64,
}

impl Default for AdaptiveOptions {
    fn default() -> Self {
        Self {
            order: 3,
            rtol: 0.05,
            atol: 0.0078,
            h_init: 0.05,
            pcoeff: 0.0,
            icoeff: 1.0,
            dcoeff: 0.0,
            accept_safety: 0.81,
        }
    }
}

/// Most steps of `dpm_adaptive`, taken or not: an end for predictions that are not finite.
const MAX_ADAPTIVE_STEPS: usize = 10_000;

fn epsilon(solver: &mut Solver<'_>, x: &Tensor, t: f64) -> Result<Tensor> {
    let sigma = (-t).exp();
    let denoised = solver.denoise(x, sigma)?;
    Ok(((x - denoised)? / sigma)?)
}

fn order_1(x: &Tensor, t: f64, next: f64, eps: &Tensor) -> Result<Tensor> {
    weighted_sum(&[(1.0, x), (-(-next).exp() * (next - t).exp_m1(), eps)])
}

/// Returns the step's end and the ε at its middle point, at `r` of the way.
fn order_2(
    solver: &mut Solver<'_>,
    x: &Tensor,
    (t, next, r): (f64, f64, f64),
    eps: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let h = next - t;
    let middle = t + r * h;
    let u = order_1(x, t, middle, eps)?;
    let eps_r = epsilon(solver, &u, middle)?;
    let factor = (-next).exp() * h.exp_m1();
    let difference = (&eps_r - eps)?;
    let end = weighted_sum(&[(1.0, x), (-factor, eps), (-factor / (2.0 * r), &difference)])?;
    Ok((end, eps_r))
}

/// Third order with points at ⅓ and ⅔; `eps_r` is ε at ⅓ if it is known.
fn order_3(
    solver: &mut Solver<'_>,
    x: &Tensor,
    (t, next): (f64, f64),
    eps: &Tensor,
    eps_r: Option<Tensor>,
) -> Result<Tensor> {
    const R1: f64 = 1.0 / 3.0;
    const R2: f64 = 2.0 / 3.0;
    let h = next - t;
    let (s1, s2) = (t + R1 * h, t + R2 * h);
    let eps_1 = match eps_r {
        Some(eps) => eps,
        None => {
            let u = order_1(x, t, s1, eps)?;
            epsilon(solver, &u, s1)?
        }
    };
    let change = (&eps_1 - eps)?;
    let factor = (R2 * h).exp_m1();
    let sigma = (-s2).exp();
    let u = weighted_sum(&[
        (1.0, x),
        (-sigma * factor, eps),
        (-sigma * (R2 / R1) * (factor / (R2 * h) - 1.0), &change),
    ])?;
    let eps_2 = epsilon(solver, &u, s2)?;
    let change = (&eps_2 - eps)?;
    let sigma = (-next).exp();
    weighted_sum(&[(1.0, x), (-sigma * h.exp_m1(), eps), (-sigma / R2 * (h.exp_m1() / h - 1.0), &change)])
}

/// First and last positive sigma as t, and the number of steps.
fn span(solver: &Solver<'_>) -> Result<(f64, f64, usize)> {
    let positive = |sigma: Option<&f64>| sigma.copied().filter(|sigma| *sigma > 0.0);
    let first = positive(solver.sigmas.first());
    let last = positive(solver.sigmas.last()).or_else(|| positive(solver.sigmas.iter().rev().nth(1)));
    match (first, last) {
        (Some(first), Some(last)) => Ok((-first.ln(), -last.ln(), solver.sigmas.len() - 1)),
        _ => Err(Error::invalid("first or last sigma", 0, "above 0 for DPM-Solver")),
    }
}

/// DPM-Solver-fast: as many evaluations as the schedule has steps, in steps of order 3 and a rest.
pub fn dpm_fast(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (start, end, evaluations) = span(solver)?;
    let (eta, s_noise) = (solver.eta(0.0), solver.s_noise());
    let mut noise = solver.fresh_noise(&x);
    let steps = evaluations / 3 + 1;
    let mut orders = vec![3; steps.saturating_sub(if evaluations.is_multiple_of(3) { 2 } else { 1 })];
    match evaluations % 3 {
        0 => orders.extend([2, 1]),
        rest => orders.push(rest),
    }
    let at = |i: usize| start + (end - start) * i as f64 / steps as f64;
    for (i, order) in orders.into_iter().take(steps).enumerate() {
        let (t, next) = (at(i), at(i + 1));
        let (down, up) = go_down(t, next, end, eta);
        let eps = epsilon(solver, &x, t)?;
        let denoised = weighted_sum(&[(1.0, &x), (-(-t).exp(), &eps)])?;
        solver.report(i, &x, &denoised)?;
        x = match order {
            1 => order_1(&x, t, down, &eps)?,
            2 => order_2(solver, &x, (t, down, 0.5), &eps)?.0,
            _ => order_3(solver, &x, (t, down), &eps, None)?,
        };
        if up > 0.0 {
            x = add_noise(x, &mut noise, ((-t).exp(), (-next).exp()), up * s_noise)?;
        }
    }
    Ok(x)
}

/// Where a step from `t` to `next` goes before noise is added, and how much noise.
fn go_down(t: f64, next: f64, end: f64, eta: f64) -> (f64, f64) {
    if eta == 0.0 {
        return (next, 0.0);
    }
    let (down, _) = ancestral_step((-t).exp(), (-next).exp(), eta);
    let down = (-down.ln()).min(end);
    (down, ((-2.0 * next).exp() - (-2.0 * down).exp()).max(0.0).sqrt())
}

/// DPM-Solver-12 or -23 with steps as long as the difference of the two orders allows.
pub fn dpm_adaptive(solver: &mut Solver<'_>, mut x: Tensor) -> Result<Tensor> {
    let (start, end, _) = span(solver)?;
    let options = solver.options.adaptive.unwrap_or_default();
    let (eta, s_noise) = (solver.eta(0.0), solver.s_noise());
    let mut noise = solver.fresh_noise(&x);
    let mut control = StepControl::new(&options, if eta > 0.0 { 1.5 } else { options.order as f64 });
    let mut t = start;
    let mut previous = x.clone();
    let mut index = 0;
    while t < end - 1e-5 {
        if index >= MAX_ADAPTIVE_STEPS {
            return Err(Error::Limit {
                what: "steps of dpm_adaptive".to_owned(),
                found: index as u64,
                limit: MAX_ADAPTIVE_STEPS as u64,
            });
        }
        let next = (t + control.h).min(end);
        let (down, up) = go_down(t, next, end, eta);
        let eps = epsilon(solver, &x, t)?;
        let denoised = weighted_sum(&[(1.0, &x), (-(-t).exp(), &eps)])?;
        let (low, high) = if options.order == 2 {
            let low = order_1(&x, t, down, &eps)?;
            (low, order_2(solver, &x, (t, down, 0.5), &eps)?.0)
        } else {
            let (low, eps_r) = order_2(solver, &x, (t, down, 1.0 / 3.0), &eps)?;
            (low, order_3(solver, &x, (t, down), &eps, Some(eps_r))?)
        };
        let error = step_error(&low, &high, &previous, &options)?;
        if control.accepts(error) {
            let sigmas = ((-t).exp(), (-next).exp());
            previous = low;
            x = if up > 0.0 { add_noise(high, &mut noise, sigmas, up * s_noise)? } else { high };
            t = next;
        }
        solver.report(index, &x, &denoised)?;
        index += 1;
    }
    Ok(x)
}

/// Root mean square of the difference of two orders, in units of the tolerance.
fn step_error(low: &Tensor, high: &Tensor, previous: &Tensor, options: &AdaptiveOptions) -> Result<f64> {
    let size = low.abs()?.maximum(&previous.abs()?)?;
    let delta = (size * options.rtol)?.maximum(options.atol)?;
    let mean = ((low - high)? / delta)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    Ok(f64::from(mean).sqrt())
}

/// A PID controller of the step length (k-diffusion, MIT).
struct StepControl {
    h: f64,
    exponents: [f64; 3],
    inverse_errors: Option<[f64; 3]>,
    accept_safety: f64,
}

impl StepControl {
    fn new(options: &AdaptiveOptions, order: f64) -> Self {
        let AdaptiveOptions { pcoeff, icoeff, dcoeff, .. } = *options;
        Self {
            h: options.h_init.abs(),
            exponents: [(pcoeff + icoeff + dcoeff) / order, -(pcoeff + 2.0 * dcoeff) / order, dcoeff / order],
            inverse_errors: None,
            accept_safety: options.accept_safety,
        }
    }

    /// Sets the next step length; whether the step with this error is taken.
    fn accepts(&mut self, error: f64) -> bool {
        let inverse = 1.0 / (error + 1e-8);
        let [_, last, before] = self.inverse_errors.unwrap_or([inverse; 3]);
        let [a, b, c] = self.exponents;
        let factor = inverse.powf(a) * last.powf(b) * before.powf(c);
        let factor = 1.0 + (factor - 1.0).atan();
        let accepted = factor >= self.accept_safety;
        self.inverse_errors = Some(if accepted { [inverse, inverse, last] } else { [inverse, last, before] });
        self.h *= factor;
        accepted
    }
}
