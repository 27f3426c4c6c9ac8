//! What tests, fixtures and benches need: the formula weights of the recorded small models and a
//! writer of safetensors files.
//!
//! The recorded models ship without weights; each weight is a hash of its key and index, so that
//! anybody can make the same file.

use std::path::{Path, PathBuf};

use half::f16;
use indexmap::IndexMap;

mod shapes;

pub use shapes::UNetSize;

use crate::error::Result;
use crate::weights::{Entry, FileDtype, StateDict};

/// The folder of recorded goldens: `RUSHLIGHT_GOLDENS`, or the repository's.
pub fn goldens() -> PathBuf {
    std::env::var_os("RUSHLIGHT_GOLDENS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens"), PathBuf::from)
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// The value in −1..1 of element `index` of the tensor `key`.
fn uniform(key_hash: u64, seed: u64, index: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let z0 = key_hash.wrapping_add(seed.wrapping_mul(GOLDEN)).wrapping_add(index);
    let z = z0.wrapping_mul(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f64 / (1u64 << 24) as f64 * 2.0 - 1.0
}

/// The formula weights of one tensor, as half-precision numbers.
pub fn formula_tensor(key: &str, shape: &[usize], seed: u64) -> Vec<f16> {
    let hash = fnv1a64(key.as_bytes());
    let count: usize = shape.iter().product();
    let fan_in: usize = shape.iter().skip(1).product();
    let is_gain = key.ends_with(".weight") || key.ends_with(".scale") || key.ends_with(".gamma");
    (0..count)
        .map(|index| {
            let u = uniform(hash, seed, index as u64);
            let value = match (shape.len(), is_gain) {
                (2.., _) => u * 0.9 * 3f64.sqrt() / (fan_in as f64).sqrt(),
                (_, true) => 1.0 + 0.17 * u,
                (_, false) => 0.17 * u,
            };
            f16::from_f32(value as f32)
        })
        .collect()
}

/// Whether a tensor is one of the token or position tables, which are eight times the formula in the
/// recorded CLIP models.
fn is_clip_table(key: &str) -> bool {
    ["token_embedding.weight", "position_embedding.weight", "positional_embedding"]
        .iter()
        .any(|name| key.ends_with(name))
}

/// A state dict of formula weights in half precision. `clip_tables` says whether token and position
/// tables are eight times larger.
///
/// # Errors
/// When a shape does not fit memory.
pub fn formula_weights(
    tensors: &IndexMap<String, Vec<usize>>,
    seed: u64,
    clip_tables: bool,
) -> Result<StateDict> {
    let mut dict = StateDict::default();
    for (key, shape) in tensors {
        let factor = if clip_tables && is_clip_table(key) { 8.0 } else { 1.0 };
        let bytes = formula_tensor(key, shape, seed)
            .into_iter()
            .flat_map(|v| f16::from_f32(v.to_f32() * factor).to_le_bytes())
            .collect();
        dict.insert(key.clone(), Entry::from_bytes(bytes, FileDtype::F16, shape.clone())?);
    }
    Ok(dict)
}

/// A state dict as the bytes of a safetensors file.
pub fn to_safetensors(dict: &StateDict) -> Vec<u8> {
    crate::weights::to_safetensors(dict, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula_weights_match_their_published_test_vector() {
        let key = "first_stage_model.decoder.conv_out.weight";
        let values = formula_tensor(key, &[3, 32, 3, 3], 11);
        for (value, expected) in values.iter().zip([0.083_679_2, 0.06622314, 0.08813477, -0.08532715f32]) {
            assert!((value.to_f32() - expected).abs() < 1e-7, "{value} {expected}");
        }
        let gains = formula_tensor("first_stage_model.decoder.norm_out.weight", &[32], 11);
        assert!((gains[0].to_f32() - 1.0751953).abs() < 1e-6);
        let biases = formula_tensor("first_stage_model.decoder.norm_out.bias", &[32], 11);
        assert!((biases[0].to_f32() + 0.1224365).abs() < 1e-6);
    }

    #[test]
    fn written_files_are_read_back() {
        let tensors = IndexMap::from([("a.weight".to_string(), vec![2, 3]), ("b".to_string(), vec![4])]);
        let dict = formula_weights(&tensors, 1, false).unwrap();
        let back = StateDict::from_vec(to_safetensors(&dict), "test").unwrap();
        assert_eq!(back.get("a.weight").unwrap().to_f32(), dict.get("a.weight").unwrap().to_f32());
    }
}
