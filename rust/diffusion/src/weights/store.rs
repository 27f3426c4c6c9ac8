//! What a model is built from: tensors of a state dict, shared between a model and its patched copies.
//!
//! Tensors are kept in the narrower of the file's type and the compute type, patched ones too, and are widened by the
//! operations that use them (see `ops`): a file of eight-bit numbers takes a byte a number, whatever is computed with.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use parking_lot::Mutex;

use super::eight_bit::{self, Scales};
use super::state_dict::{Entry, StateDict};
use crate::error::{Error, Result};
use crate::ops::Weight;

/// A change to one weight: a LoRA delta, a replacement, a merge with another model.
pub trait Patch: Send + Sync + std::fmt::Debug {
    /// The patched weight. `weight` and the result are `f32` on the CPU, of the same shape.
    fn apply(&self, weight: &Tensor, strength: f64) -> Result<Tensor>;
}

/// A patch and its strength.
type Change = (f64, Arc<dyn Patch>);

/// Changes by weight name, in the order they are to be applied. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PatchSet {
    patches: HashMap<String, Vec<Change>>,
}

impl PatchSet {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// Names of the weights that are changed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.patches.keys().map(String::as_str)
    }

    /// Adds a change to the weight called `name`.
    pub fn add(&mut self, name: impl Into<String>, strength: f64, patch: Arc<dyn Patch>) {
        self.patches.entry(name.into()).or_default().push((strength, patch));
    }

    /// Adds all changes of `other` after these.
    pub fn extend(&mut self, other: &Self) {
        for (name, patches) in &other.patches {
            self.patches.entry(name.clone()).or_default().extend(patches.iter().cloned());
        }
    }
}

struct Store {
    dict: StateDict,
    dtype: DType,
    device: Device,
    /// Weights as they are kept; a model's layers hold clones that share their storage.
    cache: Mutex<HashMap<String, Weight>>,
    patches: PatchSet,
    /// The unpatched weights, asked for whatever is not patched here.
    base: Option<Arc<Store>>,
}

/// Weights under a prefix, in the compute type, on a device. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    store: Arc<Store>,
    prefix: String,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Weights({:?}, {} tensors)", self.prefix, self.store.dict.len())
    }
}

impl Weights {
    /// Weights of `dict`, converted to `dtype` on `device` when first used.
    pub fn new(dict: StateDict, dtype: DType, device: &Device) -> Self {
        let store = Store {
            dict,
            dtype,
            device: device.clone(),
            cache: Mutex::default(),
            patches: PatchSet::default(),
            base: None,
        };
        Self { store: Arc::new(store), prefix: String::new() }
    }

    /// The same weights with exactly `patches` applied (not in addition to those already there).
    /// Unpatched tensors are shared with the original, which stays as it was.
    pub fn patched(&self, patches: PatchSet) -> Self {
        let base = self.store.base.clone().unwrap_or_else(|| self.store.clone());
        if patches.is_empty() {
            return Self { store: base, prefix: self.prefix.clone() };
        }
        let store = Store {
            dict: base.dict.clone(),
            dtype: base.dtype,
            device: base.device.clone(),
            cache: Mutex::default(),
            patches,
            base: Some(base),
        };
        Self { store: Arc::new(store), prefix: self.prefix.clone() }
    }

    /// The weights under `name.`.
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        Self { store: self.store.clone(), prefix: format!("{}{name}.", self.prefix) }
    }

    /// The state dict that these weights come from, prefix included.
    pub fn dict(&self) -> &StateDict {
        &self.store.dict
    }

    /// The patches in force.
    pub fn patches(&self) -> &PatchSet {
        &self.store.patches
    }

    /// Compute type.
    pub fn dtype(&self) -> DType {
        self.store.dtype
    }

    /// Device of the tensors.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    /// Full name of a tensor.
    pub fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.store.dict.contains(&self.full_name(name))
    }

    /// Whether there is any tensor under `name.`.
    pub fn has(&self, name: impl std::fmt::Display) -> bool {
        self.store.dict.has_prefix(&format!("{}{name}.", self.prefix))
    }

    /// Number of blocks called `name.0`, `name.1`, …
    pub fn count(&self, name: &str) -> usize {
        self.store.dict.count_blocks(&format!("{}{name}.", self.prefix))
    }

    /// Shape of a tensor.
    ///
    /// # Errors
    /// When it is not there.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let name = self.full_name(name);
        self.store.dict.shape(&name).ok_or_else(|| missing(name))
    }

    /// One dimension of a tensor.
    ///
    /// # Errors
    /// When the tensor is not there or has fewer dimensions.
    pub fn dim(&self, name: &str, dimension: usize) -> Result<usize> {
        let shape = self.shape(name)?;
        shape.get(dimension).copied().ok_or_else(|| {
            let expected = format!("at least {} dimensions", dimension + 1);
            Error::shape(format!("tensor {:?}", self.full_name(name)), expected, &shape)
        })
    }

    /// A tensor in the compute type.
    ///
    /// # Errors
    /// When it is not there, or a patch does not fit it.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.store.get(&self.full_name(name))
    }

    /// A tensor as it is kept, for the weights of linear layers, convolutions and embeddings.
    ///
    /// # Errors
    /// When it is not there, or a patch does not fit it.
    pub fn get_stored(&self, name: &str) -> Result<Weight> {
        self.store.stored(&self.full_name(name))
    }

    /// A tensor's numbers with their patches, `f32` on the CPU. Nothing of them is kept: this is for those who make
    /// other weights of them.
    ///
    /// # Errors
    /// When it is not there, or a patch does not fit it.
    pub fn numbers(&self, name: &str) -> Result<Tensor> {
        let name = self.full_name(name);
        let entry = self.store.entry(&name)?;
        let numbers = self.store.numbers(&name, entry, &self.store.scales(&name, entry)?)?;
        entry.release();
        Ok(numbers)
    }

    /// The tensors under the prefix with their patches folded in, in the types of the file, without the prefix.
    ///
    /// # Errors
    /// When a patch does not fit its tensor.
    pub fn export(&self) -> Result<StateDict> {
        let mut exported = Vec::new();
        for (name, entry) in self.store.dict.iter() {
            let Some(short) = name.strip_prefix(&self.prefix) else { continue };
            let entry = match self.store.patches.patches.contains_key(name) {
                false => entry.clone(),
                true => {
                    let scales = self.store.scales(name, entry)?;
                    eight_bit::with_numbers(entry, &scales, &self.store.numbers(name, entry, &scales)?)?
                }
            };
            exported.push((short.to_string(), entry));
        }
        Ok(StateDict::from_entries(exported))
    }

    /// Bytes of the tensors that are in memory now, those shared with the unpatched weights included.
    pub fn resident_bytes(&self) -> usize {
        let own: usize = self.store.cache.lock().values().map(Weight::bytes).sum();
        let base = self.store.base.as_ref().map(|base| Self { store: base.clone(), prefix: String::new() });
        own + base.map_or(0, |base| base.resident_bytes())
    }

    /// A tensor in the compute type, `None` when it is not there.
    ///
    /// # Errors
    /// When a patch does not fit it.
    pub fn get_opt(&self, name: &str) -> Result<Option<Tensor>> {
        if self.contains(name) { self.get(name).map(Some) } else { Ok(None) }
    }

    /// A tensor that must have `shape`.
    ///
    /// # Errors
    /// When it is not there or has another shape.
    pub fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let found = self.shape(name)?;
        if found != shape {
            let what = format!("tensor {:?}", self.full_name(name));
            return Err(Error::shape(what, format!("{shape:?}"), &found));
        }
        self.get(name)
    }
}

fn missing(key: String) -> Error {
    Error::MissingTensor { key, what: "the model file".to_string() }
}

impl Store {
    fn entry(&self, name: &str) -> Result<&Entry> {
        self.dict.get(name).ok_or_else(|| missing(name.to_string()))
    }

    fn scales(&self, name: &str, entry: &Entry) -> Result<Scales> {
        Scales::of(&self.dict, name, entry)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        self.stored(name)?.wide(self.dtype)
    }

    /// The numbers of a tensor with its changes, `f32` on the CPU.
    fn numbers(&self, name: &str, entry: &Entry, scales: &Scales) -> Result<Tensor> {
        let mut numbers = eight_bit::numbers(entry, scales)?;
        for (strength, patch) in self.patches.patches.get(name).into_iter().flatten() {
            numbers = patch.apply(&numbers, *strength)?;
        }
        Ok(numbers)
    }

    fn stored(&self, name: &str) -> Result<Weight> {
        let is_patched = self.patches.patches.contains_key(name);
        if let (false, Some(base)) = (is_patched, &self.base) {
            return base.stored(name);
        }
        if let Some(weight) = self.cache.lock().get(name) {
            return Ok(weight.clone());
        }
        let weight = self.make(name, is_patched)?;
        self.cache.lock().insert(name.to_string(), weight.clone());
        Ok(weight)
    }

    /// A weight as it is to be kept.
    fn make(&self, name: &str, is_patched: bool) -> Result<Weight> {
        let entry = self.entry(name)?;
        let scales = self.scales(name, entry)?;
        let file = entry.dtype().compute_dtype();
        let narrower = file.size_in_bytes() < self.dtype.size_in_bytes();
        let kept = if narrower { file } else { self.dtype };
        let weight = match (entry.dtype().is_eight_bit_float(), is_patched) {
            (true, false) => eight_bit::weight(entry, scales, &self.device)?,
            (true, true) => {
                let numbers = self.numbers(name, entry, &scales)?;
                eight_bit::weight(&eight_bit::with_numbers(entry, &scales, &numbers)?, scales, &self.device)?
            }
            (false, false) => entry.tensor(kept, &self.device)?.into(),
            (false, true) => {
                let numbers = self.numbers(name, entry, &scales)?;
                numbers.to_dtype(kept)?.to_device(&self.device)?.into()
            }
        };
        entry.release();
        Ok(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::FileDtype;

    #[derive(Debug)]
    struct Add(f64);

    impl Patch for Add {
        fn apply(&self, weight: &Tensor, strength: f64) -> Result<Tensor> {
            Ok((weight + self.0 * strength)?)
        }
    }

    fn weights() -> Weights {
        let entry = |v: f32| Entry::from_bytes(v.to_le_bytes().to_vec(), FileDtype::F32, vec![1]).unwrap();
        let dict =
            StateDict::from_entries([("m.a".to_string(), entry(1.0)), ("m.b".to_string(), entry(2.0))]);
        Weights::new(dict, DType::F32, &Device::Cpu)
    }

    fn value(weights: &Weights, name: &str) -> f32 {
        weights.sub("m").get(name).unwrap().to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn patched_copies_leave_the_original_and_share_what_is_not_patched() {
        let original = weights();
        let mut patches = PatchSet::default();
        patches.add("m.a", 0.5, Arc::new(Add(4.0)));
        let patched = original.patched(patches);
        assert_eq!((value(&original, "a"), value(&patched, "a")), (1.0, 3.0));
        assert_eq!(value(&patched.patched(PatchSet::default()), "a"), 1.0);
        assert!(Arc::ptr_eq(&patched.patched(PatchSet::default()).store, &original.store));
    }

    #[test]
    fn exported_weights_have_their_patches_and_the_files_type() {
        let mut patches = PatchSet::default();
        patches.add("m.a", 0.5, Arc::new(Add(4.0)));
        let exported = weights().patched(patches).sub("m").export().unwrap();
        assert_eq!(exported.get("a").unwrap().to_f32(), [3.0]);
        assert_eq!(exported.get("b").unwrap().to_f32(), [2.0]);
        assert_eq!(exported.get("a").unwrap().dtype(), FileDtype::F32);
    }

    #[test]
    fn sixteen_bit_weights_are_kept_as_they_are_and_given_wide() {
        let bytes = half::f16::from_f32(1.5).to_le_bytes().to_vec();
        let entry = Entry::from_bytes(bytes, FileDtype::F16, vec![1]).unwrap();
        let dict = StateDict::from_entries([("a".to_string(), entry)]);
        let weights = Weights::new(dict, DType::F32, &Device::Cpu);
        assert_eq!(weights.get("a").unwrap().to_vec1::<f32>().unwrap(), [1.5]);
        assert_eq!(weights.resident_bytes(), 2);
    }

    /// A matrix of two rows called `m.weight`, and whatever else there is beside it.
    fn matrix(dtype: FileDtype, bytes: Vec<u8>, beside: &[(&str, &[f32])]) -> Weights {
        let columns = bytes.len() / dtype.size() / 2;
        let mut dict = StateDict::default();
        dict.insert("m.weight", Entry::from_bytes(bytes, dtype, vec![2, columns]).unwrap());
        for (name, numbers) in beside {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            dict.insert(*name, Entry::from_bytes(bytes, FileDtype::F32, vec![numbers.len()]).unwrap());
        }
        Weights::new(dict, DType::F32, &Device::Cpu)
    }

    fn rows(weights: &Weights) -> Vec<Vec<f32>> {
        weights.get("m.weight").unwrap().to_vec2().unwrap()
    }

    #[test]
    fn eight_bit_weights_take_a_byte_a_number() {
        for (dtype, bytes) in
            [(FileDtype::F8E4M3, [0x38, 0xb8, 0x30, 0x01]), (FileDtype::F8E5M2, [0x3c, 0xbc, 0x38, 0x01])]
        {
            let weights = matrix(dtype, bytes.to_vec(), &[]);
            let least = if dtype == FileDtype::F8E4M3 { 2f32.powi(-9) } else { 2f32.powi(-16) };
            assert_eq!(rows(&weights), [[1.0, -1.0], [0.5, least]]);
            assert_eq!(weights.resident_bytes(), 4);
        }
    }

    #[test]
    fn scales_beside_an_eight_bit_weight_multiply_it() {
        let bytes = vec![0x38, 0xb8, 0x30, 0x38];
        for (name, scales, expected) in [
            ("m.scale_weight", &[3.0][..], [[3.0, -3.0], [1.5, 3.0]]),
            ("m.weight_scale", &[3.0], [[3.0, -3.0], [1.5, 3.0]]),
            ("m.weight_scale", &[3.0, 4.0], [[3.0, -3.0], [2.0, 4.0]]),
            ("m.scale_input", &[3.0], [[1.0, -1.0], [0.5, 1.0]]),
        ] {
            let weights = matrix(FileDtype::F8E4M3, bytes.clone(), &[(name, scales)]);
            assert_eq!(rows(&weights), expected, "{name} {scales:?}");
            assert_eq!(weights.numbers("m.weight").unwrap().to_vec2::<f32>().unwrap(), expected);
        }
        let error = matrix(FileDtype::F8E4M3, bytes, &[("m.weight_scale", &[1.0, 2.0, 3.0])]).get("m.weight");
        assert!(error.unwrap_err().to_string().contains("m.weight"));
    }

    #[test]
    fn patched_weights_stay_in_the_files_type() {
        let add = |weights: &Weights, number: f64| {
            let mut patches = PatchSet::default();
            patches.add("m.weight", 1.0, Arc::new(Add(number)));
            weights.patched(patches)
        };
        let halves =
            |numbers: [f32; 4]| numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect();
        let patched = add(&matrix(FileDtype::F16, halves([1.0, 2.0, 3.0, 4.0]), &[]), 0.0001);
        // The nearest numbers of sixteen bits.
        assert_eq!(rows(&patched), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(patched.resident_bytes(), 8);

        let eight = matrix(FileDtype::F8E4M3, vec![0x38, 0xb8, 0x30, 0x7e], &[("m.scale_weight", &[2.0])]);
        let patched = add(&eight, 2.0);
        // What is beyond the largest number becomes that.
        assert_eq!(rows(&patched), [[4.0, 0.0], [3.0, 896.0]]);
        assert_eq!(patched.resident_bytes(), 4);
        assert_eq!(rows(&eight), [[2.0, -2.0], [1.0, 896.0]]);
        let exported = patched.export().unwrap();
        assert_eq!(exported.get("m.weight").unwrap().to_f32(), [2.0, 0.0, 1.5, 448.0]);
        assert_eq!(exported.get("m.scale_weight").unwrap().to_f32(), [2.0]);
    }

    #[test]
    fn weights_rounded_to_eight_bits_take_a_byte_a_number_in_memory_alone() {
        let bytes = [1.0f32, 1.07, -3.0, 0.2].iter().flat_map(|n| n.to_le_bytes()).collect();
        let wide = matrix(FileDtype::F32, bytes, &[]);
        let rounded = Weights::new(wide.dict().rounded_to(FileDtype::F8E4M3), DType::F32, &Device::Cpu);
        assert_eq!(rows(&rounded), [[1.0, 1.125], [-3.0, 0.203_125]]);
        assert_eq!(rounded.resident_bytes(), 4);
        assert_eq!(rounded.dict().stored_bytes(), 16);
    }

    #[test]
    fn a_missing_tensor_is_named_in_full() {
        let error = weights().sub("m").get("c").unwrap_err();
        assert!(error.to_string().contains("m.c"), "{error}");
    }
}
