//! `models.json`, `models_flow.json`: small whole networks with formula weights against recorded
//! inputs and outputs.
//!
//! What a network is, is read from its keys, so that a set with other sizes and other names is checked
//! the same way. Each kind turns the inputs of an `.io.safetensors` file into outputs by name.

mod kinds;

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::testing;
use rushlight_diffusion::weights::StateDict;
use serde_json::Value;

use super::compare::{Report, relative_to_max};

const TOLERANCE: f64 = 1e-3;

/// Checks the models of Stable Diffusion's families.
pub fn check(folder: &Path) -> Result<Report> {
    check_file(folder, "models.json")
}

/// Checks the flow models.
pub fn check_flow(folder: &Path) -> Result<Report> {
    check_file(folder, "models_flow.json")
}

/// A recorded model: its weights by formula, and its recorded tensors.
pub struct Recorded {
    /// Weights under their checkpoint keys.
    pub dict: StateDict,
    /// Inputs and outputs.
    pub io: Io,
}

/// Recorded tensors by name.
pub struct Io(StateDict);

impl Io {
    /// The tensor `name`.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name).with_context(|| format!("{name} is not in the file"))
    }

    /// The tensor `name`, if it is there.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.0.get(name)?.tensor(DType::F32, &Device::Cpu).ok()
    }

    /// What comes before the last slash of names that end in `/part`.
    pub fn cases(&self, part: &str) -> Vec<String> {
        let suffix = format!("/{part}");
        self.0.iter().filter_map(|(name, _)| Some(name.strip_suffix(&suffix)?.to_string())).collect()
    }
}

/// Everything a kind may need beside its own model.
pub struct Goldens<'a> {
    /// The folder of goldens.
    pub folder: &'a Path,
    /// The file that lists the models.
    pub models: &'a Value,
}

impl Goldens<'_> {
    /// Reads `NAME` from the list and `NAME.io.safetensors`.
    pub fn recorded(&self, name: &str) -> Result<Recorded> {
        let model = &self.models[name];
        let tensors = serde_json::from_value(model["tensors"].clone())
            .with_context(|| format!("{name} has no tensors"))?;
        let seed = model["seed"].as_u64().context("seed")?;
        let is_clip = |key: &str| key.ends_with("token_embedding.weight");
        let tensors: indexmap::IndexMap<String, Vec<usize>> = tensors;
        let dict = testing::formula_weights(&tensors, seed, tensors.keys().any(|key| is_clip(key)))?;
        // Through a file's bytes, as a user's weights would come.
        let dict = StateDict::from_vec(testing::to_safetensors(&dict), name)?;
        Ok(Recorded { dict, io: self.io(name)? })
    }

    /// Reads `NAME.io.safetensors`.
    pub fn io(&self, name: &str) -> Result<Io> {
        Ok(Io(StateDict::open(&self.folder.join(format!("{name}.io.safetensors")))?))
    }
}

fn check_file(folder: &Path, file: &str) -> Result<Report> {
    let models: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(file))?)?;
    let context = Goldens { folder, models: &models };
    let mut report = Report::default();
    for (name, model) in models.as_object().context("not an object")? {
        let outputs = if model.get("tensors").is_some() {
            context
                .recorded(name)
                .and_then(|recorded| Ok((kinds::outputs(&recorded, &context)?, recorded.io)))
        } else {
            context.io("lora").and_then(|io| Ok((kinds::lora(name, &io, &context)?, io)))
        };
        match outputs {
            Ok((Some(outputs), io)) => {
                for (part, found) in outputs {
                    report.outcome(&format!("{name} {part}"), difference(&found, &io, &part), TOLERANCE);
                }
            }
            Ok((None, _)) => report.missing(name, "no network of this kind"),
            Err(error) => report.failed(name, format!("{error:#}")),
        }
    }
    Ok(report)
}

fn difference(found: &Tensor, io: &Io, part: &str) -> Result<f64> {
    let numbers =
        |t: &Tensor| -> Result<Vec<f64>> { Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?) };
    Ok(relative_to_max(&numbers(found)?, &numbers(&io.get(part)?)?))
}
