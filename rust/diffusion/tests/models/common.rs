//! Reading the recorded models and comparing with them.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use rushlight_diffusion::testing;
use rushlight_diffusion::weights::{StateDict, Weights};

/// A recorded model: its formula weights, and its inputs and outputs.
pub struct Recorded {
    pub dict: StateDict,
    pub io: Io,
}

/// Tensors of an `.io.safetensors` file.
pub struct Io(StateDict);

impl Io {
    /// Opens `NAME.io.safetensors`, or says that it is skipped.
    pub fn open(name: &str) -> Option<Self> {
        let path = testing::goldens().join(format!("{name}.io.safetensors"));
        if !path.exists() {
            eprintln!("skipped: {} is not there", path.display());
            return None;
        }
        Some(Self(StateDict::open(&path).unwrap()))
    }

    pub fn get(&self, name: &str) -> Tensor {
        self.get_opt(name).unwrap_or_else(|| panic!("no {name} in the recorded file"))
    }

    pub fn get_opt(&self, name: &str) -> Option<Tensor> {
        self.0.get(name).map(|e| e.tensor(DType::F32, &Device::Cpu).unwrap())
    }

    pub fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let rows = self.get(name).to_vec2::<f32>().unwrap();
        rows.into_iter().map(|row| row.into_iter().map(|v| v as u32).collect()).collect()
    }

    /// The parts before the first slash: the cases of the file.
    pub fn cases(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(|(name, _)| Some(name.split_once('/')?.0.to_string())).collect()
    }

    /// The parts between the first and the second slash under `group`.
    pub fn cases_of(&self, group: &str) -> BTreeSet<String> {
        self.0
            .iter()
            .filter_map(|(name, _)| {
                Some(name.strip_prefix(group)?.strip_prefix('/')?.split_once('/')?.0.to_string())
            })
            .collect()
    }
}

/// The recorded model `name`, or `None` (said by name) when the goldens do not have it.
pub fn recorded(name: &str) -> Option<Recorded> {
    let io = Io::open(name)?;
    let path = testing::goldens().join("models.json");
    let models: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let Some(model) = models.get(name) else {
        eprintln!("skipped: models.json has no {name}");
        return None;
    };
    let tensors: IndexMap<String, Vec<usize>> = serde_json::from_value(model["tensors"].clone()).unwrap();
    let seed = model["seed"].as_u64().unwrap();
    let dict = testing::formula_weights(&tensors, seed, name.starts_with("clip")).unwrap();
    // Through a file's bytes, as a user's weights would come.
    let dict = StateDict::from_vec(testing::to_safetensors(&dict), name).unwrap();
    Some(Recorded { dict, io })
}

/// Every recorded model whose name starts with `prefix`.
pub fn recorded_names(prefix: &str) -> Vec<String> {
    let path = testing::goldens().join("models.json");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return Vec::new();
    };
    let models: IndexMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
    models.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
}

pub fn weights(dict: &StateDict, prefix: &str) -> Weights {
    Weights::new(dict.view(prefix), DType::F32, &Device::Cpu)
}

/// Largest absolute difference over the largest absolute value expected.
pub fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let expected = expected.to_dtype(DType::F32).unwrap();
    let difference = (found.to_dtype(DType::F32).unwrap() - &expected).unwrap().abs().unwrap();
    let max = |t: &Tensor| t.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    max(&difference) / max(&expected.abs().unwrap()).max(1e-30)
}

#[track_caller]
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    let error = relative_error(found, expected);
    eprintln!("{what}: {error:.2e}");
    assert!(error <= tolerance, "{what}: relative error {error:.3e} is over {tolerance:e}");
}
