//! LoRA files and their relatives: small changes of a model's weights, applied by strength.
//!
//! [`Lora`] is a file read into adapters by the name the file gives each module; applying it finds the
//! module under whichever of the usual names it was written (kohya, diffusers, peft, full names) and
//! makes a patched copy. The original model shares its weights and stays as it was.
//!
//! | module | holds |
//! |---|---|
//! | `adapter` | the arithmetic of each format |
//! | `names` | file names to modules |

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::weights::{PatchSet, StateDict};

mod adapter;
mod names;

use adapter::{Adapter, Target};
use names::{ModuleNames, Part};

/// A LoRA file.
#[derive(Debug, Clone)]
pub struct Lora {
    /// Adapters by the module name in the file, suffixes cut off.
    adapters: IndexMap<String, Arc<Adapter>>,
}

/// A patched model or text encoder, and what of the file found no place in it.
#[derive(Debug, Clone)]
pub struct Applied<T> {
    /// The patched copy.
    pub patched: T,
    /// Number of modules that were patched.
    pub matched: usize,
    /// Names of modules in the file that belong to this part but are not in the model.
    pub unmatched: Vec<String>,
}

impl Lora {
    /// Reads a LoRA file.
    ///
    /// # Errors
    /// When the file cannot be read or an adapter in it is incomplete.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_dict(&StateDict::open(path)?)
    }

    /// Reads a LoRA from tensors.
    ///
    /// # Errors
    /// When an adapter is incomplete.
    pub fn from_dict(dict: &StateDict) -> Result<Self> {
        let mut groups: IndexMap<String, StateDict> = IndexMap::new();
        for (name, entry) in dict.iter() {
            if let Some((stem, role)) = names::split_role(name) {
                groups.entry(stem).or_default().insert(role, entry.clone());
            }
        }
        let mut adapters = IndexMap::new();
        for (stem, tensors) in groups {
            if let Some(adapter) = Adapter::new(&stem, &tensors)? {
                adapters.insert(stem, Arc::new(adapter));
            }
        }
        Ok(Self { adapters })
    }

    /// Number of modules that the file changes.
    pub fn len(&self) -> usize {
        self.adapters.len()
    }

    /// Whether the file changes nothing that we know.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }

    /// A copy of `model` with this LoRA added to whatever patches it has.
    ///
    /// # Errors
    /// When the model's network cannot be patched.
    pub fn apply_to_model(&self, model: &Model, strength: f64) -> Result<Applied<Model>> {
        let unsupported = || Error::Unsupported {
            what: "a LoRA on this model".to_string(),
            why: "its network has no weights to patch".to_string(),
        };
        let weights = model.network.weights().ok_or_else(unsupported)?;
        let names = ModuleNames::of_diffusion_model(weights.dict());
        let mut patches = weights.patches().clone();
        let (matched, unmatched) = self.collect(Part::Model, &names, strength, &mut patches);
        let network = model.network.with_patches(patches).ok_or_else(unsupported)?;
        Ok(Applied { patched: Model { network, ..model.clone() }, matched, unmatched })
    }

    /// A copy of `clip` with this LoRA added to whatever patches it has.
    ///
    /// # Errors
    /// Never at present; the patches are computed when the encoder is next used.
    pub fn apply_to_clip(&self, clip: &Clip, strength: f64) -> Result<Applied<Clip>> {
        let (mut matched, mut unmatched) = (0, Vec::new());
        let mut patches = Vec::new();
        for (index, encoder) in clip.encoders().iter().enumerate() {
            let names = ModuleNames::of_text_encoder(encoder.weights().dict());
            let mut set = encoder.weights().patches().clone();
            let part = Part::text_encoder(index, encoder.name, clip.encoders().len());
            let (found, missing) = self.collect(part, &names, strength, &mut set);
            matched += found;
            unmatched.extend(missing);
            patches.push(set);
        }
        Ok(Applied { patched: clip.with_patches(patches), matched, unmatched })
    }

    /// Adds the adapters of one part to `patches`.
    fn collect(
        &self,
        part: Part,
        names: &ModuleNames,
        strength: f64,
        patches: &mut PatchSet,
    ) -> (usize, Vec<String>) {
        let (mut matched, mut unmatched) = (0, Vec::new());
        for (stem, adapter) in &self.adapters {
            let Some(name) = part.strip(stem) else { continue };
            let Some(module) = names.find(&name) else {
                unmatched.push(stem.clone());
                continue;
            };
            matched += 1;
            for target in adapter.targets() {
                let leaf = match target {
                    Target::Weight => "weight",
                    Target::Bias => "bias",
                };
                patches.add(format!("{module}.{leaf}"), strength, Arc::new(adapter.patch(target)));
            }
        }
        if !unmatched.is_empty() {
            tracing::warn!(
                count = unmatched.len(),
                first = unmatched.first(),
                "LoRA modules not in the model"
            );
        }
        (matched, unmatched)
    }
}
