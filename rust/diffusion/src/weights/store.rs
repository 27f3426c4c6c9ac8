//! What a model is built from: tensors of a state dict, shared between a model and its patched copies.
//!
//! On the CPU large weights stay in the file's sixteen-bit type and are widened for each operation (see `ops`): that
//! is half the memory for a few percent of time. Elsewhere, and for what is patched, they are in the compute type.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use parking_lot::Mutex;

use super::dtype::FileDtype;
use super::state_dict::{Entry, StateDict};
use crate::error::{Error, Result};

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
    /// Tensors as they are kept; a model's layers hold clones that share their storage.
    cache: Mutex<HashMap<String, Tensor>>,
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

    /// A tensor as it is kept: in the compute type, or in fewer bits if the file has it so and the operations widen
    /// it. For the weights of linear layers, convolutions and embeddings.
    ///
    /// # Errors
    /// When it is not there, or a patch does not fit it.
    pub fn get_stored(&self, name: &str) -> Result<Tensor> {
        self.store.stored(&self.full_name(name))
    }

    /// The tensors under the prefix with their patches folded in, in the types of the file, without the prefix.
    ///
    /// # Errors
    /// When a patch does not fit its tensor.
    pub fn export(&self) -> Result<StateDict> {
        let mut exported = Vec::new();
        for (name, entry) in self.store.dict.iter() {
            let Some(short) = name.strip_prefix(&self.prefix) else { continue };
            let entry = match self.store.patches.patches.get(name) {
                None => entry.clone(),
                Some(patches) => {
                    let numbers = patched(entry, patches)?.flatten_all()?.to_vec1::<f32>()?;
                    entry.with_numbers(&numbers)?
                }
            };
            exported.push((short.to_string(), entry));
        }
        Ok(StateDict::from_entries(exported))
    }

    /// Bytes of the tensors that are in memory now, those shared with the unpatched weights included.
    pub fn resident_bytes(&self) -> usize {
        let own: usize =
            self.store.cache.lock().values().map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum();
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

/// A tensor with its changes, `f32` on the CPU.
fn patched(entry: &Entry, patches: &[Change]) -> Result<Tensor> {
    let mut weight = entry.tensor(DType::F32, &Device::Cpu)?;
    for (strength, patch) in patches {
        weight = patch.apply(&weight, *strength)?;
    }
    Ok(weight)
}

impl Store {
    fn get(&self, name: &str) -> Result<Tensor> {
        Ok(self.stored(name)?.to_dtype(self.dtype)?)
    }

    /// The type that an unpatched tensor is kept in.
    fn kept_dtype(&self, stored: FileDtype) -> DType {
        let widens = self.dtype == DType::F32 && matches!(self.device, Device::Cpu);
        match stored {
            // Every eight-bit float is a sixteen-bit one too.
            FileDtype::F16 | FileDtype::F8E4M3 | FileDtype::F8E5M2 if widens => DType::F16,
            FileDtype::BF16 if widens => DType::BF16,
            _ => self.dtype,
        }
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        let patches = self.patches.patches.get(name);
        if let (None, Some(base)) = (patches, &self.base) {
            return base.stored(name);
        }
        if let Some(tensor) = self.cache.lock().get(name) {
            return Ok(tensor.clone());
        }
        let entry = self.dict.get(name).ok_or_else(|| missing(name.to_string()))?;
        let tensor = match patches {
            None => entry.tensor(self.kept_dtype(entry.dtype()), &self.device)?,
            Some(patches) => patched(entry, patches)?.to_dtype(self.dtype)?.to_device(&self.device)?,
        };
        entry.release();
        self.cache.lock().insert(name.to_string(), tensor.clone());
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(weights.get_stored("a").unwrap().dtype(), DType::F16);
        assert_eq!(weights.get("a").unwrap().to_vec1::<f32>().unwrap(), [1.5]);
        assert_eq!(weights.resident_bytes(), 2);
    }

    #[test]
    fn a_missing_tensor_is_named_in_full() {
        let error = weights().sub("m").get("c").unwrap_err();
        assert!(error.to_string().contains("m.c"), "{error}");
    }
}
