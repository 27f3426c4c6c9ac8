//! Runs the model-free nodes and the resizes on recorded inputs and compares with recorded outputs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rushlight_runtime::{Audio, Inputs, Latent, NodeContext, NodeError, Registry, Value};
use serde_json::{Map, Value as Json};

use crate::picture::resize::resize_cropped;
use crate::picture::{Method, Pixels};
use crate::testing::{MemoryHost, context};

/// What a set of goldens says.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries within tolerance.
    pub passed: Vec<Passed>,
    /// Entries that differ, and how.
    pub failed: Vec<(String, String)>,
    /// Entries that are not claimed to be supported, and why.
    pub missing: Vec<(String, String)>,
}

/// An entry within tolerance.
#[derive(Debug)]
pub struct Passed {
    /// Its name.
    pub name: String,
    /// Largest error over the largest recorded value.
    pub error: f64,
    /// What was allowed.
    pub tolerance: f64,
}

/// Largest error that counts as equal, relative to the largest recorded value.
const TOLERANCE: f64 = 1e-5;
/// The same where values go through 8-bit pictures.
const EIGHT_BIT: f64 = 1.0 / 255.0 + 1e-6;

/// Classes whose values go through 8-bit pictures.
const EIGHT_BIT_CLASSES: &[&str] = &[
    "CenterCropImages",
    "FluxKontextImageScale",
    "ImageGrid",
    "ImageQuantize",
    "ImageStitch",
    "LTXVPreprocess",
    "RandomCropImages",
    "ResizeImagesByLongerEdge",
    "ResizeImagesByShorterEdge",
    "WanMoveVisualizeTracks",
];

/// Classes that are native only where there is an `ffmpeg` executable.
const NEED_FFMPEG: &[&str] = &["LTXVPreprocess"];

/// The folder to read: `RUSHLIGHT_GOLDENS`, or the recorded set of this repository.
pub fn folder() -> PathBuf {
    match std::env::var_os("RUSHLIGHT_GOLDENS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens"),
    }
}

type Tensors = HashMap<String, Tensor>;

fn load_tensors(path: &Path) -> Result<Tensors, String> {
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs every entry of `nodes.json`.
///
/// # Errors
/// When the files cannot be read.
pub fn nodes(folder: &Path) -> Result<Report, String> {
    let path = folder.join("nodes.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let entries: Map<String, Json> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let tensors = load_tensors(&folder.join("nodes.safetensors"))?;
    let mut registry = Registry::new();
    crate::register(&mut registry);
    let (ctx, _) = context(Arc::new(MemoryHost::default()));
    let mut report = Report::default();
    for (name, entry) in entries {
        let class = name.split('/').next().unwrap_or_default();
        if registry.get(class).is_none() {
            let reason = if NEED_FFMPEG.contains(&class) && !crate::media::find::require(&name) {
                "needs an ffmpeg executable"
            } else {
                "not a native class"
            };
            report.missing.push((name, reason.into()));
            continue;
        }
        match run(&registry, &ctx, class, &entry, &tensors) {
            Ok((error, tolerance)) => report.passed.push(Passed { name, error, tolerance }),
            Err(Fault::Missing(reason)) => report.missing.push((name, reason)),
            Err(Fault::Differs(reason)) => report.failed.push((name, reason)),
        }
    }
    Ok(report)
}

/// Why an entry did not pass.
enum Fault {
    /// The node says that it does not do what the entry asks for.
    Missing(String),
    /// It failed otherwise, or gave something else.
    Differs(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Differs(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Fault::Differs(reason.into())
    }
}

impl From<NodeError> for Fault {
    fn from(error: NodeError) -> Self {
        match &error {
            NodeError::Failed { exception_type, .. } if exception_type == "NotImplementedError" => {
                Fault::Missing(error.to_string())
            }
            _ => Fault::Differs(error.to_string()),
        }
    }
}

/// The error and what is allowed.
fn run(
    registry: &Registry,
    ctx: &NodeContext,
    class: &str,
    entry: &Json,
    tensors: &Tensors,
) -> Result<(f64, f64), Fault> {
    let node = registry.get(class).ok_or("not native")?;
    let schema = node.schema(ctx.host());
    let mut inputs = Inputs::new();
    for (name, json) in entry.get("inputs").and_then(Json::as_object).ok_or("no inputs")? {
        let ty = schema.find_input(name).map(|input| input.ty.to_json());
        let ty = ty.as_ref().and_then(Json::as_str).unwrap_or_default();
        inputs.insert(name.as_str(), input_value(json, ty, tensors)?);
    }
    let output = node.execute(ctx, &inputs)?;
    let expected = entry.get("outputs").and_then(Json::as_array).ok_or("no outputs")?;
    if output.values.len() != expected.len() {
        return Err(format!("{} outputs, recorded {}", output.values.len(), expected.len()).into());
    }
    let eight_bit = EIGHT_BIT_CLASSES.contains(&class)
        || entry.pointer("/inputs").is_some_and(|inputs| inputs.to_string().contains("lanczos"));
    let tolerance = if eight_bit { EIGHT_BIT } else { TOLERANCE };
    let mut worst = 0f64;
    for (index, (value, expected)) in output.values.iter().zip(expected).enumerate() {
        let error =
            compare(value, expected, tensors).map_err(|reason| format!("output {index}: {reason}"))?;
        if error > tolerance {
            return Err(format!("output {index}: error {error:.3e} over {tolerance:.1e}").into());
        }
        worst = worst.max(error);
    }
    Ok((worst, tolerance))
}

fn recorded<'a>(json: &Json, tensors: &'a Tensors) -> Result<&'a Tensor, String> {
    let key = json.get("tensor").and_then(Json::as_str).ok_or("no tensor key")?;
    tensors.get(key).ok_or_else(|| format!("tensor {key} is not in the file"))
}

fn input_value(json: &Json, ty: &str, tensors: &Tensors) -> Result<Value, String> {
    if json.get("tensor").is_some() {
        let tensor = recorded(json, tensors)?.clone();
        return Ok(match ty {
            "MASK" => Value::Mask(tensor),
            "SIGMAS" => Value::Sigmas(tensor),
            _ => Value::Image(tensor),
        });
    }
    if let Some(samples) = json.get("samples") {
        let mut latent = Latent::new(recorded(samples, tensors)?.clone());
        if let Some(mask) = json.get("noise_mask") {
            latent.noise_mask = Some(recorded(mask, tensors)?.clone());
        }
        return Ok(Value::latent(latent));
    }
    if let Some(waveform) = json.get("waveform") {
        let rate = json.get("sample_rate").and_then(Json::as_u64).ok_or("no sample rate")?;
        return Ok(Value::Audio(Arc::new(Audio {
            waveform: recorded(waveform, tensors)?.clone(),
            sample_rate: rate as u32,
        })));
    }
    Ok(Value::from(json.clone()))
}

/// The error against a recorded output, or what is of another kind or shape.
fn compare(value: &Value, expected: &Json, tensors: &Tensors) -> Result<f64, String> {
    match (value, expected) {
        (Value::Image(t) | Value::Mask(t) | Value::Sigmas(t), Json::Object(_)) => {
            compare_tensor(t, expected, tensors)
        }
        (Value::Latent(latent), Json::Object(fields)) => {
            let mut worst = 0f64;
            for (key, expected) in fields {
                let error = match key.as_str() {
                    "samples" => compare_tensor(&latent.samples, expected, tensors)?,
                    "noise_mask" => {
                        let mask = latent.noise_mask.as_ref().ok_or("no noise_mask")?;
                        compare_tensor(mask, expected, tensors)?
                    }
                    "batch_index" => same(&Json::from(latent.batch_index.clone()), expected)?,
                    key => same(latent.extra.get(key).unwrap_or(&Json::Null), expected)?,
                };
                worst = worst.max(error);
            }
            Ok(worst)
        }
        (Value::Audio(audio), Json::Object(fields)) => {
            same(&Json::from(audio.sample_rate), fields.get("sample_rate").unwrap_or(&Json::Null))?;
            compare_tensor(&audio.waveform, fields.get("waveform").ok_or("no waveform")?, tensors)
        }
        (Value::List(items), Json::Array(expected)) if items.len() == expected.len() => {
            let mut worst = 0f64;
            for (item, expected) in items.iter().zip(expected) {
                worst = worst.max(compare(item, expected, tensors)?);
            }
            Ok(worst)
        }
        (Value::Int(i), Json::Number(n)) if n.as_i64().map(i128::from) == Some(*i) => Ok(0.0),
        (Value::Float(f), Json::Number(n)) => {
            let expected = n.as_f64().unwrap_or(f64::NAN);
            Ok((f - expected).abs() / expected.abs().max(1e-30))
        }
        (Value::Bool(b), expected) => same(&Json::from(*b), expected),
        (Value::String(s), expected) => same(&Json::from(s.as_ref()), expected),
        (Value::Json(json), expected) => same(json, expected),
        (value, expected) => Err(format!("{value:?}, recorded {expected}")),
    }
}

fn same(value: &Json, expected: &Json) -> Result<f64, String> {
    if value == expected { Ok(0.0) } else { Err(format!("{value}, recorded {expected}")) }
}

fn compare_tensor(tensor: &Tensor, expected: &Json, tensors: &Tensors) -> Result<f64, String> {
    let values = crate::picture::pixels::values(tensor).map_err(|error| error.to_string())?;
    if expected.get("tensor").is_some() {
        let expected = recorded(expected, tensors)?;
        if expected.dims() != tensor.dims() {
            return Err(format!("shape {:?}, recorded {:?}", tensor.dims(), expected.dims()));
        }
        let expected = crate::picture::pixels::values(expected).map_err(|error| error.to_string())?;
        return Ok(difference(&values, &expected));
    }
    let list = |key: &str| -> Vec<f32> {
        let items = expected.get(key).and_then(Json::as_array);
        items.into_iter().flatten().filter_map(Json::as_f64).map(|value| value as f32).collect()
    };
    same(&Json::from(tensor.dims()), expected.get("shape").unwrap_or(&Json::Null))?;
    let first = list("first");
    let start: Vec<f32> = values.iter().copied().take(first.len()).collect();
    let thin = list("every_997th");
    let thinned: Vec<f32> = values.iter().copied().step_by(997).take(thin.len()).collect();
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64;
    let recorded_mean = expected.get("mean").and_then(Json::as_f64).unwrap_or(f64::NAN);
    let worst = difference(&start, &first).max(difference(&thinned, &thin));
    // Means of f32 values recorded in f64: a looser bound than single values.
    Ok(worst.max((mean - recorded_mean).abs() / recorded_mean.abs().max(1.0) * 0.1))
}

/// Largest absolute error over the largest recorded value; equal non-numbers count as equal.
fn difference(values: &[f32], expected: &[f32]) -> f64 {
    if values.len() != expected.len() {
        return f64::INFINITY;
    }
    let scale =
        expected.iter().filter(|value| value.is_finite()).fold(0f32, |max, value| max.max(value.abs()));
    let worst = values.iter().zip(expected).fold(0f64, |max, (value, expected)| {
        let error = if value == expected || (value.is_nan() && expected.is_nan()) {
            0.0
        } else if value.is_finite() && expected.is_finite() {
            f64::from((value - expected).abs())
        } else {
            f64::INFINITY
        };
        max.max(error)
    });
    if worst == 0.0 { 0.0 } else { worst / f64::from(scale.max(1e-30)) }
}

/// Compares every `METHOD/CROP/HxW_to_HxW` of `resizes.safetensors`.
///
/// # Errors
/// When the file cannot be read.
pub fn resizes(folder: &Path) -> Result<Report, String> {
    let tensors = load_tensors(&folder.join("resizes.safetensors"))?;
    let mut report = Report::default();
    let mut names: Vec<_> = tensors.keys().filter(|name| !name.starts_with("in/")).collect();
    names.sort();
    for name in names {
        match resize_entry(name, &tensors) {
            Ok((error, tolerance)) if error <= tolerance => {
                report.passed.push(Passed { name: name.clone(), error, tolerance });
            }
            Ok((error, tolerance)) => {
                report.failed.push((name.clone(), format!("error {error:.3e} over {tolerance:.1e}")));
            }
            Err(reason) => report.failed.push((name.clone(), reason)),
        }
    }
    Ok(report)
}

fn resize_entry(name: &str, tensors: &Tensors) -> Result<(f64, f64), String> {
    let mut parts = name.split('/');
    let (Some(method), Some(crop), Some(sizes)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("unexpected name".into());
    };
    let (from, to) = sizes.split_once("_to_").ok_or("unexpected name")?;
    let (height, width) = to.split_once('x').ok_or("unexpected name")?;
    let (height, width): (usize, usize) =
        (height.parse().map_err(|_| "bad height")?, width.parse().map_err(|_| "bad width")?);
    let input = tensors.get(&format!("in/{from}")).ok_or("no input")?;
    let expected = tensors.get(name).ok_or("no output")?;
    let run = || -> Result<Vec<f32>, rushlight_runtime::NodeError> {
        let pixels = Pixels::from_image(&input.permute((0, 2, 3, 1))?.contiguous()?)?;
        let resized = resize_cropped(&pixels, height, width, Method::parse(method)?, crop)?;
        crate::picture::pixels::values(&resized.into_image()?.permute((0, 3, 1, 2))?)
    };
    let values = run().map_err(|error| error.to_string())?;
    let expected = crate::picture::pixels::values(expected).map_err(|error| error.to_string())?;
    let tolerance = if method == "lanczos" { EIGHT_BIT } else { TOLERANCE };
    Ok((difference(&values, &expected), tolerance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(report: Result<Report, String>, file: &str) {
        if !folder().join(file).exists() {
            eprintln!("skipped: {file} is not in {}", folder().display());
            return;
        }
        let report = report.unwrap();
        if !report.missing.is_empty() {
            let names: Vec<_> = report.missing.iter().map(|(name, _)| name.as_str()).collect();
            eprintln!("missing: {}", names.join(", "));
        }
        for (name, reason) in &report.failed {
            eprintln!("{name}: {reason}");
        }
        eprintln!("{} within tolerance", report.passed.len());
        assert!(report.failed.is_empty(), "{} entries differ", report.failed.len());
        assert!(!report.passed.is_empty());
    }

    #[test]
    fn recorded_nodes_give_recorded_outputs() {
        check(nodes(&folder()), "nodes.json");
    }

    #[test]
    fn resizes_give_recorded_pictures() {
        check(resizes(&folder()), "resizes.safetensors");
    }
}
