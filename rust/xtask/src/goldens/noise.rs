//! `noise.safetensors`: PyTorch's CPU generator.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::noise::prepare_noise;
use rushlight_diffusion::rng::TorchGenerator;

use super::compare::{Report, relative_to_max};

const TOLERANCE: f64 = 1e-6;

/// Checks every entry of the file.
pub fn check(folder: &Path) -> Result<Report> {
    let tensors = candle_core::safetensors::load(folder.join("noise.safetensors"), &Device::Cpu)?;
    let mut names: Vec<_> = tensors.iter().collect();
    names.sort_by_key(|(name, _)| name.as_str());
    let mut report = Report::default();
    for (name, tensor) in names {
        match draw(name, tensor) {
            Ok(Some(found)) => report.outcome(name, difference(&found, tensor), TOLERANCE),
            Ok(None) => report.missing(name, "unknown kind of entry"),
            Err(error) => report.failed(name, format!("{error:#}")),
        }
    }
    Ok(report)
}

fn difference(found: &[f64], expected: &Tensor) -> Result<f64> {
    let expected = expected.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    Ok(relative_to_max(found, &expected))
}

/// The numbers that an entry's name asks for.
fn draw(name: &str, tensor: &Tensor) -> Result<Option<Vec<f64>>> {
    let parts: Vec<&str> = name.split('/').collect();
    let [kind, seed, rest @ ..] = parts.as_slice() else { return Ok(None) };
    let seed: u64 = seed.parse().context("seed")?;
    let mut generator = TorchGenerator::new(seed);
    let count = tensor.elem_count();
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    let integers = |values: Vec<i64>| values.into_iter().map(|v| v as f64).collect::<Vec<_>>();
    Ok(Some(match (*kind, rest) {
        ("randn", _) => wide(generator.randn(count)),
        ("randn_f64", _) => generator.randn_f64(count),
        ("rand", _) => wide(generator.rand(count)),
        ("randperm", _) => integers(generator.randperm(count)),
        ("randint", [range, ..]) => {
            let (low, high) = range.split_once("..").context("range")?;
            integers(generator.randint(low.parse()?, high.parse()?, count))
        }
        ("randn_twice", [counts]) => {
            let (first, second) = counts.split_once("_then_").context("counts")?;
            let mut values = generator.randn(first.parse()?);
            values.extend(generator.randn(second.parse()?));
            wide(values)
        }
        ("prepare_noise", [indexes]) => {
            let indexes = indexes.trim_start_matches("batch_index_").split('_');
            let indexes = indexes.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
            wide(prepare_noise(tensor.dims(), seed, Some(&indexes))?.flatten_all()?.to_vec1()?)
        }
        _ => return Ok(None),
    }))
}
