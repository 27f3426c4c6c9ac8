//! `schedules.json`: noise levels and schedules of every prediction kind.

use std::path::Path;

use anyhow::{Context, Result};
use rushlight_diffusion::sampling::schedulers::{ksampler_sigmas, schedule};
use rushlight_diffusion::sampling::{ModelSampling, Prediction};
use serde_json::Value;

use super::compare::{Report, relative};

const TOLERANCE: f64 = 1e-5;

/// The prediction kinds of the goldens by name: `flowS` and `flowS_multM` are discrete flows,
/// `fluxM` Flux shifts; `_` stands for the decimal point.
pub fn model_sampling(kind: &str) -> Option<ModelSampling> {
    let number = |text: &str| text.replace('_', ".").parse::<f64>().ok();
    Some(match kind {
        "eps" => ModelSampling::stable_diffusion(Prediction::Eps),
        "v" => ModelSampling::stable_diffusion(Prediction::V),
        "v_zsnr" => ModelSampling::stable_diffusion_zero_snr(Prediction::V),
        "edm" => ModelSampling::continuous_edm(Prediction::Edm, 0.002, 80.0, 0.5),
        _ => {
            if let Some(mu) = kind.strip_prefix("flux") {
                return Some(ModelSampling::flux(number(mu)?));
            }
            let rest = kind.strip_prefix("flow")?;
            match rest.split_once("_mult") {
                Some((shift, multiplier)) => ModelSampling::flow(number(shift)?, number(multiplier)?),
                None => ModelSampling::flow(number(rest)?, 1000.0),
            }
        }
    })
}

/// Checks every entry of the file.
pub fn check(folder: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(folder.join("schedules.json"))?;
    // Python writes NaN, which JSON does not have.
    let file: Value = serde_json::from_str(&text.replace("NaN", "null"))?;
    let mut report = Report::default();
    for (kind, entry) in file.as_object().context("not an object")? {
        let Some(model) = model_sampling(kind) else {
            report.missing(kind, "unknown prediction kind");
            continue;
        };
        for (name, value) in entry.as_object().context("not an object")? {
            check_entry(&mut report, &model, kind, name, value)?;
        }
    }
    Ok(report)
}

fn check_entry(
    report: &mut Report,
    model: &ModelSampling,
    kind: &str,
    name: &str,
    value: &Value,
) -> Result<()> {
    let path = &format!("{kind}/{name}");
    let single = |found: f64| relative(&[found], &numbers(value));
    match name {
        "sigma_min" => report.compared(path, single(model.sigma_min()), TOLERANCE),
        "sigma_max" => report.compared(path, single(model.sigma_max()), TOLERANCE),
        "timestep_of_sigma" => pairs(report, path, value, |sigma| model.timestep(sigma)),
        "sigma_of_timestep" => pairs(report, path, value, |timestep| model.sigma(timestep)),
        "percent_to_sigma" => pairs(report, path, value, |percent| model.percent_to_sigma(percent)),
        "schedules" => {
            for (name, value) in value.as_object().context("schedules are not an object")? {
                let path = format!("{path}/{name}");
                match sigmas(model, kind, name) {
                    Ok(Some(found)) => report.compared(&path, relative(&found, &numbers(value)), TOLERANCE),
                    Ok(None) => report.missing(&path, "unknown kind of entry"),
                    Err(error) => report.failed(&path, error),
                }
            }
        }
        _ => report.missing(path, "unknown kind of entry"),
    }
    Ok(())
}

/// `SCHEDULER/STEPS`, or `KSampler SAMPLER/STEPS/denoise D` of the normal schedule (EDM: karras).
fn sigmas(model: &ModelSampling, kind: &str, name: &str) -> Result<Option<Vec<f64>>> {
    let parts: Vec<&str> = name.split('/').collect();
    Ok(match parts.as_slice() {
        [scheduler, steps] => Some(schedule(model, scheduler, steps.parse()?)?),
        [sampler, steps, denoise] => {
            match (sampler.strip_prefix("KSampler "), denoise.strip_prefix("denoise ")) {
                (Some(sampler), Some(denoise)) => {
                    let discard = rushlight_diffusion::samplers::discards_penultimate(sampler);
                    let scheduler = if kind == "edm" { "karras" } else { "normal" };
                    Some(ksampler_sigmas(model, scheduler, steps.parse()?, denoise.parse()?, discard)?)
                }
                _ => None,
            }
        }
        _ => None,
    })
}

fn pairs(report: &mut Report, path: &str, value: &Value, function: impl Fn(f64) -> f64) {
    for pair in value.as_array().into_iter().flatten() {
        let pair = numbers(pair);
        let [from, to] = pair.as_slice() else {
            report.failed(path, "not a pair");
            continue;
        };
        report.compared(&format!("{path}/{from}"), relative(&[function(*from)], &[*to]), TOLERANCE);
    }
}

/// The numbers of a value, which is one or a list of them; null is NaN.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect(),
        single => vec![single.as_f64().unwrap_or(f64::NAN)],
    }
}
