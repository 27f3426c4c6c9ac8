//! `samplers.json`, `samplers.safetensors`: every sampler, and conditioning, on the analytic model.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use candle_core::{D, DType, Device, Tensor};
use rushlight_diffusion::conditioning::{Area, CondEntry, Conditioning};
use rushlight_diffusion::latent_format::LatentFormat;
use rushlight_diffusion::model::{DiffusionModel, Model, ModelInput};
use rushlight_diffusion::sample::KSampler;
use serde_json::Value;

use super::compare::{Report, relative_to_max};
use super::schedules::model_sampling;

/// Tolerances of deterministic and of stochastic samplers.
const DETERMINISTIC: f64 = 2e-4;
const STOCHASTIC: f64 = 1e-3;
/// Channels of the conditioning.
const WIDTH: usize = 8;

/// Checks every run of the file.
pub fn check(folder: &Path) -> Result<Report> {
    let runs: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("samplers.json"))?)?;
    let tensors = candle_core::safetensors::load(folder.join("samplers.safetensors"), &Device::Cpu)?;
    let mut report = Report::default();
    for (name, run) in runs.as_object().context("not an object")? {
        let sampler = run["sampler"].as_str().unwrap_or_default();
        let tolerance =
            if sampler.contains("sde") || sampler.contains("seeds") { STOCHASTIC } else { DETERMINISTIC };
        let setup = match Setup::new(name, run, &tensors) {
            Ok(setup) => setup,
            Err(why) => {
                report.missing(name, format!("{why:#}"));
                continue;
            }
        };
        match setup.run() {
            Ok(outcome) => {
                for (part, found) in outcome {
                    let path = format!("{name}/{part}");
                    if let Some(expected) = tensors.get(&path) {
                        report.outcome(&path, difference(&found, expected), tolerance);
                    }
                }
            }
            Err(error) => report.failed(name, format!("{error:#}")),
        }
    }
    Ok(report)
}

fn difference(found: &Tensor, expected: &Tensor) -> Result<f64> {
    if found.dims() != expected.dims() {
        bail!("shape {:?}, expected {:?}", found.dims(), expected.dims());
    }
    let values = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    Ok(relative_to_max(&values(found)?, &values(expected)?))
}

/// One run of the file.
struct Setup<'a> {
    run: &'a Value,
    model: Model,
    positive: Conditioning,
    negative: Conditioning,
    latent: Tensor,
    mask: Option<&'a Tensor>,
}

impl<'a> Setup<'a> {
    fn new(name: &str, run: &'a Value, tensors: &'a HashMap<String, Tensor>) -> Result<Self> {
        let kind = run["kind"].as_str().context("kind")?;
        let sampling = model_sampling(kind).with_context(|| format!("unknown prediction kind {kind}"))?;
        let model = Model::new(Arc::new(Analytic), sampling, LatentFormat::by_name("SD15")?);
        let shape: Vec<usize> = serde_json::from_value(run["shape"].clone()).context("shape")?;
        let (group, rest) = name.split_once('/').context("name")?;
        let positive =
            if group == "cond" { positive(rest, tensors)? } else { Conditioning(vec![tokens(0.3, 77)?]) };
        let from_picture = ["img2img", "inpaint"].iter().any(|kind| group.starts_with(kind))
            || group.starts_with("advanced_no_noise");
        let latent = if group == "cond" || !run_has_latent(group, from_picture, run) {
            Tensor::zeros(shape, DType::F32, &Device::Cpu)?
        } else {
            tensors.get(&format!("latent_for/{rest}")).context("latent of the run")?.clone()
        };
        let mask = match group.starts_with("inpaint") {
            true => Some(tensors.get(&format!("mask_for/{rest}")).context("mask of the run")?),
            false => None,
        };
        Ok(Self { run, model, positive, negative: Conditioning(vec![tokens(-0.2, 77)?]), latent, mask })
    }

    fn run(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let integer = |key: &str| self.run[key].as_u64().map(|v| v as usize);
        let number = |key: &str| self.run[key].as_f64();
        let flag = |key: &str| self.run[key].as_bool().unwrap_or(false);
        let ksampler = KSampler {
            model: &self.model,
            positive: &self.positive,
            negative: &self.negative,
            cfg: number("cfg").context("cfg")?,
            sampler: self.run["sampler"].as_str().context("sampler")?,
            scheduler: self.run["scheduler"].as_str().context("scheduler")?,
            steps: integer("steps").context("steps")?,
            denoise: number("denoise").unwrap_or(1.0),
            seed: self.run["seed"].as_u64().context("seed")?,
            latent: &self.latent,
            noise_mask: self.mask,
            batch_index: None,
            start_step: integer("start_step"),
            last_step: integer("last_step"),
            force_full_denoise: flag("force_full_denoise"),
            // The recordings passed the seed's noise to these runs, too.
            disable_noise: false,
        };
        let (mut first, mut last) = (None, None);
        let out = ksampler.run(&mut |step| {
            first.get_or_insert_with(|| step.denoised.clone());
            last = Some(step.denoised.clone());
            Ok(())
        })?;
        let mut outcome = vec![("out", out)];
        outcome.extend(first.map(|first| ("x0_first", first)));
        outcome.extend(last.map(|last| ("x0_last", last)));
        Ok(outcome)
    }
}

/// Whether a run starts from a recorded latent.
fn run_has_latent(group: &str, from_picture: bool, run: &Value) -> bool {
    from_picture || group.starts_with("advanced") || run.get("denoise").is_some()
}

/// Conditioning of one value.
fn tokens(value: f32, count: usize) -> Result<CondEntry> {
    Ok(CondEntry::new(Tensor::full(value, (1, count, WIDTH), &Device::Cpu)?, None))
}

/// The positive conditioning of a `cond/…` run.
fn positive(name: &str, tensors: &HashMap<String, Tensor>) -> Result<Conditioning> {
    let with = |value: f32, change: &dyn Fn(&mut CondEntry)| -> Result<CondEntry> {
        let mut entry = tokens(value, 77)?;
        change(&mut entry);
        Ok(entry)
    };
    let area = |height, width, y, x| Some(Area::Latent { height, width, y, x });
    let mask = || tensors.get("cond/mask_used").context("cond/mask_used").cloned();
    Ok(Conditioning(match name {
        "combine" => vec![tokens(0.3, 77)?, tokens(0.8, 77)?],
        "area" => vec![tokens(0.1, 77)?, with(0.9, &|e| e.options.area = area(8, 8, 4, 6))?],
        "area_strength" => vec![
            tokens(0.1, 77)?,
            with(0.9, &|e| {
                e.options.area = area(8, 12, 0, 2);
                e.options.strength = 0.5;
            })?,
        ],
        "area_percent" => vec![
            tokens(0.1, 77)?,
            with(0.9, &|e| {
                e.options.area = Some(Area::Percent { height: 0.5, width: 0.5, y: 0.25, x: 0.1 });
            })?,
        ],
        "mask" | "mask_bounds" => {
            let mask = mask()?;
            let bounds = name == "mask_bounds";
            vec![
                tokens(0.1, 77)?,
                with(0.9, &|e| {
                    e.options.mask = Some(mask.clone());
                    e.options.mask_strength = if bounds { 1.0 } else { 0.8 };
                    e.options.set_area_to_bounds = bounds;
                })?,
            ]
        }
        "timestep" => vec![
            with(0.3, &|e| e.options.end_percent = 0.4)?,
            with(-0.5, &|e| e.options.start_percent = 0.4)?,
        ],
        "strength" => vec![with(0.3, &|e| e.options.strength = 0.7)?, tokens(0.6, 77)?],
        "average" => vec![tokens(0.3 * 0.35 + 0.9 * 0.65, 77)?],
        "concat" => {
            let parts = [tokens(0.3, 77)?.cross_attn, tokens(0.9, 77)?.cross_attn];
            vec![CondEntry::new(Tensor::cat(&parts, 1)?, None)]
        }
        "zero_out" => vec![tokens(0.0, 77)?],
        "different_lengths" => vec![tokens(0.4, 154)?],
        "batch2" => vec![tokens(0.3, 77)?],
        _ => bail!("unknown conditioning {name}"),
    }))
}

/// The goldens' stand-in for a network (README, "Analytic model").
struct Analytic;

impl DiffusionModel for Analytic {
    fn forward(
        &self,
        x: &Tensor,
        timestep: &Tensor,
        input: &ModelInput,
    ) -> rushlight_diffusion::Result<Tensor> {
        let width = x.dim(D::Minus1)?;
        let large = timestep.gt(1.5f32)?.to_dtype(DType::F32)?;
        let scale = large.affine(1.0 / 1000.0 - 1.0, 1.0)?;
        let t = (timestep * scale)?.reshape(((), 1, 1, 1))?;
        let ramp: Vec<f32> = (0..width).map(|i| i as f32 * 2.0 / (width as f32 - 1.0) - 1.0).collect();
        let ramp = Tensor::from_vec(ramp, (1, 1, 1, width), x.device())?;
        let wave = (t.affine(3.0, 0.0)?.sin()? * 0.25)?.broadcast_mul(&ramp)?;
        let last = width - 1;
        let rolled = Tensor::cat(&[x.narrow(3, last, 1)?, x.narrow(3, 0, last)?], 3)?;
        let out = (((x * 0.8)?.tanh()? * 0.6)? + (rolled * 0.1)?)?.broadcast_add(&wave)?;
        let Some(context) = &input.context else { return Ok(out) };
        let mean = context.mean((1, 2))?.reshape(((), 1, 1, 1))?;
        Ok(out.broadcast_add(&(mean * 0.5)?)?)
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }
}
