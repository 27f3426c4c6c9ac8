//! Schedules that are nodes of their own, and nodes that take schedules apart.
//!
//! Each is a plain function from numbers to sigmas. Sources are named where a schedule was
//! published; k-diffusion's are MIT.

use super::model_sampling::ModelSampling;
use super::schedulers::{append_zero, linspace};
use crate::{Error, Result};

/// Polynomial in ln σ (k-diffusion).
pub fn polyexponential(steps: usize, sigma_min: f64, sigma_max: f64, rho: f64) -> Vec<f64> {
    let (low, span) = (sigma_min.ln() as f32, (sigma_max.ln() - sigma_min.ln()) as f32);
    append_zero(
        linspace(1.0, 0.0, steps)
            .map(|t| f64::from(((t as f32).powf(rho as f32) * span + low).exp()))
            .collect(),
    )
}

/// Continuous variance-preserving process (k-diffusion).
pub fn variance_preserving(steps: usize, beta_d: f64, beta_min: f64, eps_s: f64) -> Vec<f64> {
    append_zero(
        linspace(1.0, eps_s, steps)
            .map(|t| ((beta_d * t * t / 2.0 + beta_min * t).exp() - 1.0).sqrt())
            .map(|sigma| f64::from(sigma as f32))
            .collect(),
    )
}

/// Laplace distributed ln σ (arXiv 2407.03297), kept within the bounds; no 0 is added.
pub fn laplace(steps: usize, sigma_min: f64, sigma_max: f64, mu: f64, beta: f64) -> Vec<f64> {
    const EPSILON: f32 = 1e-5;
    let (mu, beta) = (mu as f32, beta as f32);
    linspace(0.0, 1.0, steps)
        .map(|x| {
            let off = 0.5 - x as f32;
            let sign = if off == 0.0 { 0.0 } else { off.signum() };
            let lambda = mu - beta * sign * (1.0 - 2.0 * off.abs() + EPSILON).ln();
            // The upper bound wins when they are swapped.
            f64::from(lambda.exp().max(sigma_min as f32).min(sigma_max as f32))
        })
        .collect()
}

/// Timesteps 999, 899, … of adversarially distilled models (SD Turbo), from `denoise` on.
pub fn sd_turbo(model: &ModelSampling, steps: usize, denoise: f64) -> Vec<f64> {
    let start = 10usize.saturating_sub((10.0 * denoise) as usize);
    append_zero((start..10).take(steps).map(|i| model.sigma((999 - 100 * i) as f64)).collect())
}

/// Align Your Steps (arXiv 2404.14507): the published optimised levels for 10 steps, interpolated
/// in ln σ for other numbers. `model_type`: `SD1`, `SDXL` or `SVD`.
pub fn align_your_steps(model_type: &str, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    const SD1: &[f64] = &[
        14.6146412293,
        6.4745760956,
        3.8636745985,
        2.694615152,
        1.8841921177,
        1.3943805092,
        0.9642583904,
        0.6523686016,
        0.3977456272,
        0.1515232662,
        0.0291671582,
    ];
    const SDXL: &[f64] = &[
        14.6146412293,
        6.3184485287,
        3.7681790315,
        2.1811480769,
        1.3405244945,
        0.8620721141,
        0.5550693289,
        0.3798540708,
        0.2332364134,
        0.1114188177,
        0.0291671582,
    ];
    const SVD: &[f64] = &[700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002];
    let levels = match model_type {
        "SD1" => SD1,
        "SDXL" => SDXL,
        "SVD" => SVD,
        _ => return Err(Error::unknown("Align Your Steps model type", model_type, ["SD1", "SDXL", "SVD"])),
    };
    Ok(levels_to_sigmas(levels, steps, denoise))
}

/// Optimal steps (arXiv 2503.21774): the levels for FLUX; other model types are not known here.
pub fn optimal_steps(model_type: &str, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    const FLUX: &[f64] =
        &[0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001];
    match model_type {
        "FLUX" => Ok(levels_to_sigmas(FLUX, steps, denoise)),
        _ => Err(Error::Unsupported {
            what: format!("OptimalStepsScheduler for {model_type}"),
            why: "only the levels for FLUX are included".to_owned(),
        }),
    }
}

/// GITS (arXiv 2405.11326): levels found by dynamic programming over the geometry of Stable Diffusion's trajectories,
/// a list for every coefficient and number of steps. Only the list of the node's defaults (coefficient 1.2, 10 steps)
/// is included: it is known from a recorded run; the paper's code (Apache-2.0) holds the search, not its results.
///
/// # Errors
/// For every other coefficient or number of steps that leaves anything to do.
pub fn gits(coefficient: f64, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    const DEFAULT: &[f64] = &[
        14.614641189575195,
        5.85520076751709,
        2.8448498249053955,
        1.6705001592636108,
        1.0889533758163452,
        0.748070478439331,
        0.501183807849884,
        0.32104822993278503,
        0.1989491581916809,
        0.09824532270431519,
        0.0,
    ];
    if denoise <= 0.0 {
        return Ok(Vec::new());
    }
    if denoise < 1.0 && (steps as f64 * denoise).round_ties_even() == 0.0 {
        return Ok(vec![0.0]);
    }
    if (coefficient - 1.2).abs() < 1e-6 && steps + 1 == DEFAULT.len() {
        return Ok(levels_to_sigmas(DEFAULT, steps, denoise));
    }
    Err(Error::Unsupported {
        what: format!("GITSScheduler with coefficient {coefficient} and {steps} steps"),
        why: "only the levels for coefficient 1.2 and 10 steps are included".to_owned(),
    })
}

/// Brings published levels to a number of steps, takes the end that `denoise` asks for and sets
/// its last sigma to 0.
fn levels_to_sigmas(levels: &[f64], steps: usize, denoise: f64) -> Vec<f64> {
    let total = if denoise < 1.0 {
        if denoise <= 0.0 {
            return Vec::new();
        }
        (steps as f64 * denoise).round_ties_even() as usize
    } else {
        steps
    };
    let mut sigmas =
        if steps + 1 == levels.len() { levels.to_vec() } else { log_interpolate(levels, steps + 1) };
    sigmas.drain(..sigmas.len().saturating_sub(total + 1));
    if let Some(last) = sigmas.last_mut() {
        *last = 0.0;
    }
    sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect()
}

/// `count` values along the levels, linear in the logarithm, both ends kept.
fn log_interpolate(levels: &[f64], count: usize) -> Vec<f64> {
    let last = levels.len().saturating_sub(1);
    (0..count)
        .filter_map(|i| {
            let place = if count > 1 { i as f64 * last as f64 / (count - 1) as f64 } else { last as f64 };
            let low = (place.floor() as usize).min(last);
            let (a, b) = (levels.get(low)?, levels.get((low + 1).min(last))?);
            let weight = place - low as f64;
            Some(((1.0 - weight) * a.ln() + weight * b.ln()).exp())
        })
        .collect()
}

/// LTX-Video: Flux's shift with μ growing linearly with the number of latent tokens (1,024 to
/// 4,096), optionally stretched so that the last sigma before 0 is `terminal`.
pub fn ltxv(
    steps: usize,
    max_shift: f64,
    base_shift: f64,
    stretch: bool,
    terminal: f64,
    tokens: Option<usize>,
) -> Vec<f64> {
    let slope = (max_shift - base_shift) / (4096.0 - 1024.0);
    let mu = tokens.unwrap_or(4096) as f64 * slope + base_shift - slope * 1024.0;
    let mut sigmas: Vec<f64> =
        linspace(1.0, 0.0, steps + 1).map(|t| super::tables::flux_shift_time(mu, t)).collect();
    if stretch {
        let last = sigmas.iter().rev().find(|sigma| **sigma != 0.0).copied().unwrap_or(0.0);
        let scale = (1.0 - last) / (1.0 - terminal);
        for sigma in sigmas.iter_mut().filter(|sigma| **sigma != 0.0) {
            *sigma = 1.0 - (1.0 - *sigma) / scale;
        }
    }
    sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect()
}

/// FLUX.2: Flux's shift with μ fitted to picture size and number of steps (diffusers, Apache-2.0).
/// `width` and `height` are in pixels.
pub fn flux2(steps: usize, width: usize, height: usize) -> Vec<f64> {
    let tokens = (width as f64 * height as f64 / 256.0).round_ties_even();
    let at_200 = 0.00016927 * tokens + 0.45666666;
    let mu = if tokens > 4300.0 {
        at_200
    } else {
        let at_10 = 8.73809524e-05 * tokens + 1.89833333;
        let slope = (at_200 - at_10) / 190.0;
        slope * steps as f64 + at_200 - 200.0 * slope
    };
    linspace(1.0, 0.0, steps + 1).map(|t| f64::from(super::tables::flux_shift_time(mu, t) as f32)).collect()
}

/// Splits at a step: both parts hold the sigma at the split.
pub fn split(sigmas: &[f64], step: usize) -> (Vec<f64>, Vec<f64>) {
    let high = sigmas.iter().take(step.saturating_add(1)).copied().collect();
    (high, sigmas.iter().skip(step).copied().collect())
}

/// Splits so that the second part has `denoise` of the steps.
pub fn split_denoise(sigmas: &[f64], denoise: f64) -> (Vec<f64>, Vec<f64>) {
    let steps = sigmas.len().saturating_sub(1);
    let total = (steps as f64 * denoise).round_ties_even() as usize;
    // The split counts from the end; none from the end leaves the first part empty.
    let high = if total == 0 { Vec::new() } else { keep(sigmas, sigmas.len().saturating_sub(total)) };
    (high, sigmas.iter().skip(sigmas.len().saturating_sub(total + 1)).copied().collect())
}

fn keep(sigmas: &[f64], count: usize) -> Vec<f64> {
    sigmas.iter().take(count).copied().collect()
}

/// Turns a schedule around, for going from a picture to noise; a first 0 becomes 0.0001.
pub fn flip(sigmas: &[f64]) -> Vec<f64> {
    let mut flipped: Vec<f64> = sigmas.iter().rev().copied().collect();
    if let Some(first) = flipped.first_mut()
        && *first == 0.0
    {
        *first = f64::from(1e-4f32);
    }
    flipped
}

/// Replaces the first sigma.
pub fn set_first(sigmas: &[f64], sigma: f64) -> Vec<f64> {
    let rest = sigmas.iter().skip(1).copied();
    sigmas.first().map(|_| f64::from(sigma as f32)).into_iter().chain(rest).collect()
}

/// Puts `steps - 1` sigmas between neighbours, after every sigma from `start_at` (any if negative)
/// down to `end_at`. `spacing` is `linear`, `cosine` (dense at the lower sigma) or `sine`.
pub fn extend_intermediate(
    sigmas: &[f64],
    steps: usize,
    start_at: f64,
    end_at: f64,
    spacing: &str,
) -> Result<Vec<f64>> {
    use std::f64::consts::FRAC_PI_2;
    let curve: fn(f64) -> f64 = match spacing {
        "linear" => |x| x,
        "cosine" => |x| (x * FRAC_PI_2).sin(),
        "sine" => |x| 1.0 - (x * FRAC_PI_2).cos(),
        _ => return Err(Error::unknown("spacing", spacing, ["linear", "cosine", "sine"])),
    };
    let start_at = if start_at < 0.0 { f64::INFINITY } else { start_at };
    let between: Vec<f64> =
        linspace(0.0, 1.0, steps + 1).skip(1).take(steps.saturating_sub(1)).map(curve).collect();
    let mut extended = Vec::new();
    for (index, sigma) in sigmas.iter().enumerate() {
        extended.push(*sigma);
        if let Some(next) = sigmas.get(index + 1)
            && (end_at..=start_at).contains(sigma)
        {
            extended.extend(between.iter().map(|part| f64::from((part * (next - sigma) + sigma) as f32)));
        }
    }
    Ok(extended)
}

/// All numbers of a text, in order; anything else separates them.
pub fn manual(text: &str) -> Vec<f64> {
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    text.split(|c| !number(c))
        .filter_map(|word| word.parse::<f64>().ok())
        .filter(|value| value.is_finite())
        .map(|value| f64::from(value as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_list_of_finite_sigmas(text in ".*") {
            prop_assert!(manual(&text).iter().all(|sigma| !sigma.is_nan()));
        }

        #[test]
        fn written_sigmas_are_read_back(sigmas in proptest::collection::vec(0f32..1e4, 0..20)) {
            let text: Vec<String> = sigmas.iter().map(f32::to_string).collect();
            let wide: Vec<f64> = sigmas.iter().map(|sigma| f64::from(*sigma)).collect();
            prop_assert_eq!(manual(&text.join(", ")), wide);
        }
    }

    #[test]
    fn both_parts_of_a_split_hold_the_sigma_between_them() {
        let sigmas = [4.0, 3.0, 2.0, 0.0];
        assert_eq!(split(&sigmas, 1), (vec![4.0, 3.0], vec![3.0, 2.0, 0.0]));
        assert_eq!(split_denoise(&sigmas, 0.67), (vec![4.0, 3.0], vec![3.0, 2.0, 0.0]));
        assert_eq!(split(&[], 3), (vec![], vec![]));
    }

    #[test]
    fn model_types_without_levels_are_named_in_the_error() {
        let error = optimal_steps("Wan", 20, 1.0);
        assert!(error.is_err_and(|e| e.to_string().contains("Wan")));
        assert!(align_your_steps("SD9", 10, 1.0).is_err());
        assert!(gits(1.3, 10, 1.0).is_err_and(|e| e.to_string().contains("1.3")));
    }

    #[test]
    fn gits_takes_the_end_of_its_levels() {
        assert_eq!(gits(1.2, 10, 0.2).unwrap(), [0.1989491581916809, 0.09824532270431519, 0.0]);
        assert_eq!(gits(0.8, 3, 0.1).unwrap(), [0.0]);
        assert!(gits(0.8, 3, 0.0).unwrap().is_empty());
    }
}
