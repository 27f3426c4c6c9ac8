//! The entries of `nodes.json` that are schedules.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::sampling::{scheduler_nodes as nodes, schedulers};
use serde_json::Value;

use super::compare::{Report, relative_to_max};

const TOLERANCE: f64 = 1e-5;

/// Checks every schedule of the file; other nodes are checked elsewhere.
pub fn check(folder: &Path) -> Result<Report> {
    let entries: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("nodes.json"))?)?;
    let tensors = candle_core::safetensors::load(folder.join("nodes.safetensors"), &Device::Cpu)?;
    let mut report = Report::default();
    for (name, entry) in entries.as_object().context("not an object")? {
        let node = name.split('/').next().unwrap_or_default();
        if !(node.ends_with("Scheduler") || node.contains("Sigma")) {
            continue;
        }
        let inputs = Inputs { values: &entry["inputs"], tensors: &tensors };
        match run(node, &inputs) {
            Ok(Some(outputs)) => {
                for (index, found) in outputs.iter().enumerate() {
                    let path = format!("{name}/out/{index}");
                    let expected = tensors.get(&path).context("output").and_then(sigmas);
                    report.outcome(&path, expected.map(|e| relative_to_max(found, &e)), TOLERANCE);
                }
            }
            Ok(None) => report.missing(name, "no such schedule"),
            Err(error) if error.to_string().contains("not supported") => report.missing(name, error),
            Err(error) => report.failed(name, format!("{error:#}")),
        }
    }
    Ok(report)
}

fn sigmas(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

struct Inputs<'a> {
    values: &'a Value,
    tensors: &'a HashMap<String, Tensor>,
}

impl Inputs<'_> {
    fn number(&self, key: &str) -> Result<f64> {
        self.values[key].as_f64().with_context(|| key.to_owned())
    }

    fn integer(&self, key: &str) -> Result<usize> {
        Ok(self.values[key].as_u64().with_context(|| key.to_owned())? as usize)
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.values[key].as_str().with_context(|| key.to_owned())
    }

    fn sigmas(&self) -> Result<Vec<f64>> {
        let key = self.values["sigmas"]["tensor"].as_str().context("sigmas")?;
        sigmas(self.tensors.get(key).context("sigmas")?)
    }

    /// Tokens of the latent, if there is one: everything after batch and channels.
    fn tokens(&self) -> Option<usize> {
        let key = self.values["latent"]["samples"]["tensor"].as_str()?;
        Some(self.tensors.get(key)?.dims().iter().skip(2).product())
    }
}

fn run(node: &str, inputs: &Inputs<'_>) -> Result<Option<Vec<Vec<f64>>>> {
    let steps = || inputs.integer("steps");
    let (low, high) = (|| inputs.number("sigma_min"), || inputs.number("sigma_max"));
    let one = match node {
        "KarrasScheduler" => schedulers::karras(steps()?, low()?, high()?, inputs.number("rho")?),
        "ExponentialScheduler" => schedulers::exponential(steps()?, low()?, high()?),
        "PolyexponentialScheduler" => {
            nodes::polyexponential(steps()?, low()?, high()?, inputs.number("rho")?)
        }
        "LaplaceScheduler" => {
            nodes::laplace(steps()?, low()?, high()?, inputs.number("mu")?, inputs.number("beta")?)
        }
        "VPScheduler" => {
            let (beta_d, beta_min) = (inputs.number("beta_d")?, inputs.number("beta_min")?);
            nodes::variance_preserving(steps()?, beta_d, beta_min, inputs.number("eps_s")?)
        }
        "AlignYourStepsScheduler" => {
            nodes::align_your_steps(inputs.text("model_type")?, steps()?, inputs.number("denoise")?)?
        }
        "OptimalStepsScheduler" => {
            nodes::optimal_steps(inputs.text("model_type")?, steps()?, inputs.number("denoise")?)?
        }
        "GITSScheduler" => return Ok(None),
        "LTXVScheduler" => nodes::ltxv(
            steps()?,
            inputs.number("max_shift")?,
            inputs.number("base_shift")?,
            inputs.values["stretch"].as_bool().unwrap_or(true),
            inputs.number("terminal")?,
            inputs.tokens(),
        ),
        "Flux2Scheduler" => nodes::flux2(steps()?, inputs.integer("width")?, inputs.integer("height")?),
        "FlipSigmas" => nodes::flip(&inputs.sigmas()?),
        "SetFirstSigma" => nodes::set_first(&inputs.sigmas()?, inputs.number("sigma")?),
        "ExtendIntermediateSigmas" => nodes::extend_intermediate(
            &inputs.sigmas()?,
            steps()?,
            inputs.number("start_at_sigma")?,
            inputs.number("end_at_sigma")?,
            inputs.text("spacing")?,
        )?,
        "ManualSigmas" => nodes::manual(inputs.text("sigmas")?),
        "SplitSigmas" => {
            let (high, low) = nodes::split(&inputs.sigmas()?, inputs.integer("step")?);
            return Ok(Some(vec![high, low]));
        }
        "SplitSigmasDenoise" => {
            let (high, low) = nodes::split_denoise(&inputs.sigmas()?, inputs.number("denoise")?);
            return Ok(Some(vec![high, low]));
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![one]))
}
