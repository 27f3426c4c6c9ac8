//! Noise: the start state of a picture and what stochastic samplers add on the way.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::brownian::BrownianTree;
use crate::rng::TorchGenerator;
use crate::{Error, Result};

/// Start noise of a latent of shape `dims` (`[B, C, …]`), float32, on the CPU.
///
/// With `batch_index`, noise is drawn one picture at a time from one generator, and picture k takes
/// draw number `batch_index[k]`; there must be one index a picture.
pub fn prepare_noise(dims: &[usize], seed: u64, batch_index: Option<&[usize]>) -> Result<Tensor> {
    let mut generator = TorchGenerator::new(seed);
    let Some(indexes) = batch_index else {
        return Ok(Tensor::from_vec(generator.randn(dims.iter().product()), dims, &Device::Cpu)?);
    };
    let picture: usize = dims.iter().skip(1).product();
    let last = indexes.iter().max().copied().unwrap_or(0);
    if last > MAX_BATCH_INDEX {
        return Err(Error::Limit {
            what: "batch_index".to_owned(),
            found: last as u64,
            limit: MAX_BATCH_INDEX as u64,
        });
    }
    let mut wanted: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for draw in 0..=last {
        let values = generator.randn(picture);
        if indexes.contains(&draw) {
            wanted.insert(draw, values);
        }
    }
    let values: Vec<f32> = indexes.iter().filter_map(|index| wanted.get(index)).flatten().copied().collect();
    let mut shape = dims.to_vec();
    if let Some(batch) = shape.first_mut() {
        *batch = indexes.len();
    }
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Largest `batch_index` that is drawn for: each costs a whole picture's noise.
const MAX_BATCH_INDEX: usize = 1 << 16;

/// Noise that a sampler adds between two sigmas, of unit variance.
pub trait NoiseSource {
    /// The noise of the step from `sigma` to `sigma_next`, shaped as the latent.
    fn sample(&mut self, sigma: f64, sigma_next: f64) -> Result<Tensor>;
}

/// One draw of a generator after another, whatever the sigmas.
pub struct GeneratorNoise {
    generator: TorchGenerator,
    dims: Vec<usize>,
    device: Device,
}

impl GeneratorNoise {
    /// Noise shaped and placed as `like`, from `seed`.
    pub fn new(like: &Tensor, seed: u64) -> Self {
        let (dims, device) = (like.dims().to_vec(), like.device().clone());
        Self { generator: TorchGenerator::new(seed), dims, device }
    }
}

impl NoiseSource for GeneratorNoise {
    fn sample(&mut self, _sigma: f64, _sigma_next: f64) -> Result<Tensor> {
        let values = self.generator.randn(self.dims.iter().product());
        Ok(Tensor::from_vec(values, self.dims.as_slice(), &self.device)?)
    }
}

/// Increments of one Brownian path, so that the same sigmas give the same noise in any order and
/// number of steps.
pub struct BrownianNoise {
    tree: BrownianTree,
    dims: Vec<usize>,
    device: Device,
}

impl BrownianNoise {
    /// A path over the positive sigmas of a schedule, shaped and placed as `like`.
    pub fn new(like: &Tensor, sigmas: &[f64], seed: u64) -> Self {
        let positive = || sigmas.iter().copied().filter(|sigma| *sigma > 0.0);
        let low = positive().fold(f64::INFINITY, f64::min);
        let high = positive().fold(0.0, f64::max);
        let tree = BrownianTree::new(low.min(high), high, like.elem_count(), seed);
        Self { tree, dims: like.dims().to_vec(), device: like.device().clone() }
    }
}

impl NoiseSource for BrownianNoise {
    fn sample(&mut self, sigma: f64, sigma_next: f64) -> Result<Tensor> {
        let (low, high) = if sigma < sigma_next { (sigma, sigma_next) } else { (sigma_next, sigma) };
        let sign = if sigma < sigma_next { 1.0 } else { -1.0 };
        let scale = sign / (sigma_next as f32 - sigma as f32).abs().sqrt();
        let mut values = self.tree.increment(low, high);
        values.iter_mut().for_each(|value| *value *= scale);
        Ok(Tensor::from_vec(values, self.dims.as_slice(), &self.device)?)
    }
}
