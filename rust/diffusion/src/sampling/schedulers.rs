//! The named schedules: lists of sigmas from the noisiest down, and the rules that shorten them.
//!
//! Values are computed in the precision PyTorch computes them in (`f32` where a tensor is
//! involved), then widened, so that a schedule equals the one users' pictures were made with.

use super::beta::beta_quantile;
use super::model_sampling::ModelSampling;
use crate::{Error, Result};

/// Below this, the sigma at the end of a schedule counts as zero.
const ZERO: f64 = 1e-5;
/// Most steps a schedule is computed for.
pub const MAX_STEPS: usize = 10_000;

/// A function from a model's noise levels and a number of steps to sigmas.
pub type SchedulerFn = fn(&ModelSampling, usize) -> Vec<f64>;

/// Names and functions, in the order that user interfaces list them.
pub const SCHEDULERS: &[(&str, SchedulerFn)] = &[
    ("simple", simple),
    ("sgm_uniform", sgm_uniform),
    ("karras", |model, steps| karras(steps, model.sigma_min(), model.sigma_max(), 7.0)),
    ("exponential", |model, steps| exponential(steps, model.sigma_min(), model.sigma_max())),
    ("ddim_uniform", ddim_uniform),
    ("beta", |model, steps| beta(model, steps, 0.6, 0.6)),
    ("normal", normal),
    ("linear_quadratic", |model, steps| linear_quadratic(steps, model.sigma_max())),
    ("kl_optimal", |model, steps| kl_optimal(steps, model.sigma_min(), model.sigma_max())),
];

/// Checks a number of steps, of which every schedule makes a list.
///
/// # Errors
/// [`Error::Limit`] beyond [`MAX_STEPS`].
pub fn check_steps(steps: usize) -> Result<()> {
    if steps > MAX_STEPS {
        return Err(Error::Limit { what: "steps".to_owned(), found: steps as u64, limit: MAX_STEPS as u64 });
    }
    Ok(())
}

/// The whole schedule `name` of `steps` steps: `steps + 1` sigmas (some schedules differ), the last 0.
pub fn schedule(model: &ModelSampling, name: &str, steps: usize) -> Result<Vec<f64>> {
    check_steps(steps)?;
    let (_, function) = SCHEDULERS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| Error::unknown("scheduler", name, SCHEDULERS.iter().map(|(name, _)| *name)))?;
    if steps == 0 {
        return Ok(vec![0.0]);
    }
    Ok(function(model, steps))
}

/// The sigmas a `steps`-step run at `denoise` goes through: the end of a longer schedule.
///
/// `denoise` ≤ 0 gives none. `discard_penultimate` is for samplers that do better without the last
/// sigma before 0: one more step is computed and that sigma dropped.
pub fn ksampler_sigmas(
    model: &ModelSampling,
    name: &str,
    steps: usize,
    denoise: f64,
    discard_penultimate: bool,
) -> Result<Vec<f64>> {
    check_steps(steps)?;
    let whole = |steps: usize| -> Result<Vec<f64>> {
        check_steps(steps)?;
        if !discard_penultimate {
            return schedule(model, name, steps);
        }
        let mut sigmas = schedule(model, name, steps + 1)?;
        if sigmas.len() >= 2 {
            sigmas.remove(sigmas.len() - 2);
        }
        Ok(sigmas)
    };
    if denoise > 0.9999 {
        return whole(steps);
    }
    // NaN is no denoising either.
    if denoise.is_nan() || denoise <= 0.0 {
        return Ok(Vec::new());
    }
    let mut sigmas = whole((steps as f64 / denoise) as usize)?;
    Ok(sigmas.split_off(sigmas.len().saturating_sub(steps + 1)))
}

/// Cuts a schedule to the window of KSamplerAdvanced. `None` when nothing is left to do: the latent
/// stays as it is.
pub fn window(
    mut sigmas: Vec<f64>,
    start_step: Option<usize>,
    last_step: Option<usize>,
    force_full_denoise: bool,
) -> Option<Vec<f64>> {
    if let Some(last) = last_step
        && last + 1 < sigmas.len()
    {
        sigmas.truncate(last + 1);
        if force_full_denoise && let Some(sigma) = sigmas.last_mut() {
            *sigma = 0.0;
        }
    }
    match start_step {
        Some(start) if start + 1 < sigmas.len() => Some(sigmas.split_off(start)),
        Some(_) => None,
        None => Some(sigmas),
    }
}

/// Timesteps even from the top to the bottom.
fn normal(model: &ModelSampling, steps: usize) -> Vec<f64> {
    let (start, end) = ends(model);
    if model.sigma(end).abs() < ZERO {
        return linspace(start, end, steps + 1).map(|t| model.sigma(t)).collect();
    }
    append_zero(linspace(start, end, steps).map(|t| model.sigma(t)).collect())
}

/// Timesteps even from the top to one step before the bottom.
fn sgm_uniform(model: &ModelSampling, steps: usize) -> Vec<f64> {
    let (start, end) = ends(model);
    append_zero(linspace(start, end, steps + 1).take(steps).map(|t| model.sigma(t)).collect())
}

fn ends(model: &ModelSampling) -> (f64, f64) {
    (model.timestep(model.sigma_max()), model.timestep(model.sigma_min()))
}

/// Entries of the model's table at even distances.
fn simple(model: &ModelSampling, steps: usize) -> Vec<f64> {
    let table = model.sigmas();
    let stride = table.len() as f64 / steps as f64;
    let picked = (0..steps)
        .filter_map(|i| table.iter().rev().nth((i as f64 * stride) as usize).copied().map(f64::from));
    append_zero(picked.collect())
}

/// Every k-th entry of the model's table, from the second on; may have more or fewer steps.
fn ddim_uniform(model: &ModelSampling, steps: usize) -> Vec<f64> {
    let table = model.sigmas();
    let ends_at_zero = table.get(1).is_some_and(|sigma| f64::from(*sigma).abs() < ZERO);
    let steps = if ends_at_zero { steps + 1 } else { steps };
    let stride = (table.len() / steps).max(1);
    let mut sigmas: Vec<f64> = if ends_at_zero { Vec::new() } else { vec![0.0] };
    sigmas.extend(table.iter().skip(1).step_by(stride).copied().map(f64::from));
    sigmas.reverse();
    sigmas
}

/// Even in σ^(1/ρ) (arXiv 2206.00364, equation 5).
pub fn karras(steps: usize, sigma_min: f64, sigma_max: f64, rho: f64) -> Vec<f64> {
    let (low, high) = (sigma_min.powf(1.0 / rho), sigma_max.powf(1.0 / rho));
    let span = (low - high) as f32;
    let sigmas =
        linspace(0.0, 1.0, steps).map(|t| f64::from((high as f32 + t as f32 * span).powf(rho as f32)));
    append_zero(sigmas.collect())
}

/// Even in ln σ.
pub fn exponential(steps: usize, sigma_min: f64, sigma_max: f64) -> Vec<f64> {
    append_zero(
        linspace(sigma_max.ln(), sigma_min.ln(), steps).map(|t| f64::from((t as f32).exp())).collect(),
    )
}

/// Quantiles of a beta distribution over the model's table (arXiv 2407.12173).
pub fn beta(model: &ModelSampling, steps: usize, alpha: f64, beta: f64) -> Vec<f64> {
    let table = model.sigmas();
    let last = table.len().saturating_sub(1);
    let mut places: Vec<usize> = (0..steps)
        .map(|i| {
            let quantile = beta_quantile(1.0 - i as f64 / steps as f64, alpha, beta);
            (quantile * last as f64).round_ties_even() as usize
        })
        .collect();
    places.dedup();
    append_zero(places.into_iter().filter_map(|place| table.get(place).copied().map(f64::from)).collect())
}

/// Linear, then quadratic (Mochi): the first half of the steps goes over 2.5 % of the way.
pub fn linear_quadratic(steps: usize, sigma_max: f64) -> Vec<f64> {
    const THRESHOLD: f64 = 0.025;
    if steps <= 1 {
        return vec![sigma_max, 0.0];
    }
    let linear = (steps / 2) as f64;
    let quadratic = steps as f64 - linear;
    let gap = linear - THRESHOLD * steps as f64;
    let square = gap / (linear * quadratic.powi(2));
    let slope = THRESHOLD / linear - 2.0 * gap / quadratic.powi(2);
    let offset = square * linear.powi(2);
    let way = (0..steps).map(|i| {
        let i = i as f64;
        if i < linear { i * THRESHOLD / linear } else { square * i * i + slope * i + offset }
    });
    let scale = sigma_max as f32;
    way.chain([1.0]).map(|done| f64::from((1.0 - done) as f32 * scale)).collect()
}

/// Even in atan σ (AYS paper, theorem 3.1). One step has no two ends: its sigma is not a number.
pub fn kl_optimal(steps: usize, sigma_min: f64, sigma_max: f64) -> Vec<f64> {
    let sigmas = (0..steps).map(|i| {
        let done = i as f32 / (steps as f32 - 1.0);
        let angle = done * sigma_min.atan() as f32 + (1.0 - done) * sigma_max.atan() as f32;
        f64::from(angle.tan())
    });
    append_zero(sigmas.collect())
}

/// `torch.linspace` in float32: from both ends to the middle.
pub(super) fn linspace(start: f64, end: f64, count: usize) -> impl Iterator<Item = f64> {
    let (start, end) = (start as f32, end as f32);
    let step = if count > 1 { (end - start) / (count - 1) as f32 } else { 0.0 };
    (0..count).map(move |i| {
        let value = if i < count / 2 || count == 1 {
            start + step * i as f32
        } else {
            end - step * (count - 1 - i) as f32
        };
        f64::from(value)
    })
}

pub(super) fn append_zero(mut sigmas: Vec<f64>) -> Vec<f64> {
    sigmas.push(0.0);
    sigmas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Prediction;

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let model = ModelSampling::stable_diffusion(Prediction::Eps);
        let error = schedule(&model, "carras", 3);
        assert!(error.is_err_and(|e| e.to_string().contains("karras")));
    }

    #[test]
    fn a_window_past_the_end_leaves_nothing_to_do() {
        assert_eq!(window(vec![3.0, 2.0, 1.0, 0.0], Some(3), None, true), None);
        assert_eq!(window(vec![3.0, 2.0, 1.0, 0.0], Some(1), Some(2), true), Some(vec![2.0, 0.0]));
    }

    #[test]
    fn no_steps_and_no_denoising_are_no_error() -> Result<()> {
        let model = ModelSampling::flow(3.0, 1000.0);
        for (name, _) in SCHEDULERS {
            assert_eq!(schedule(&model, name, 0)?, [0.0]);
            assert!(ksampler_sigmas(&model, name, 5, 0.0, false)?.is_empty());
        }
        Ok(())
    }
}
