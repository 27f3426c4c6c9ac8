//! Textual inversions from the `embeddings` folder.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::tokenizer::Embeddings;
use rushlight_diffusion::weights::{Entry, StateDict};
use rushlight_runtime::NodeContext;

use super::residency::Residency;
use super::resident::Measured;

/// Finds embeddings by file name, with or without extension.
pub(crate) struct Folder<'a> {
    residency: &'a Residency,
    ctx: &'a NodeContext,
}

impl<'a> Folder<'a> {
    /// The folder of a run, whose files are kept like models.
    pub(crate) fn new(residency: &'a Residency, ctx: &'a NodeContext) -> Self {
        Self { residency, ctx }
    }

    fn open(&self, name: &str) -> Option<Arc<Measured<StateDict>>> {
        let host = self.ctx.host();
        let file = ["", ".safetensors", ".pt", ".bin"]
            .iter()
            .map(|extension| format!("{name}{extension}"))
            .find(|file| host.model("embeddings", file).is_ok())?;
        self.residency
            .load(self.ctx, "embedding", ("embeddings", &file), |dict, _| {
                Ok(Measured::new(dict.clone(), dict))
            })
            .inspect_err(|error| tracing::warn!(name, %error, "embedding cannot be read"))
            .ok()
    }
}

/// The vectors in a file for the encoder `l`, `g` or `h`: those under its own key, else those of files that hold one
/// embedding, under any of the keys in use.
fn vectors(dict: &StateDict, encoder: &str) -> Option<Tensor> {
    let own = format!("clip_{encoder}");
    let table = |entry: &Entry| {
        let tensor = entry.tensor(DType::F32, &Device::Cpu).ok()?;
        match tensor.rank() {
            1 => tensor.unsqueeze(0).ok(),
            2 => Some(tensor),
            _ => None,
        }
    };
    if let Some(entry) = dict.get(&own) {
        return table(entry);
    }
    // A file for several encoders has nothing for this one.
    if dict.contains("clip_l") || dict.contains("clip_g") {
        return None;
    }
    ["emb_params", "string_to_param.*"].iter().find_map(|key| dict.get(key)).and_then(table).or_else(|| {
        dict.iter().filter(|(_, entry)| entry.dtype().is_float()).find_map(|(_, entry)| table(entry))
    })
}

impl Embeddings for Folder<'_> {
    fn find(&self, name: &str) -> Option<Tensor> {
        self.find_for(name, "l", 0)
    }

    fn find_for(&self, name: &str, encoder: &str, _width: usize) -> Option<Tensor> {
        vectors(&self.open(name)?.value, encoder)
    }
}

#[cfg(test)]
mod tests {
    use rushlight_diffusion::weights::FileDtype;
    use rushlight_runtime::host::ModelSource;

    use super::*;
    use crate::settings::Settings;
    use crate::testing::{MemoryHost, context};

    fn dict(entries: &[(&str, usize)]) -> StateDict {
        StateDict::from_entries(entries.iter().map(|(name, width)| {
            let entry = Entry::from_bytes(vec![0; width * 8], FileDtype::F32, vec![2, *width]);
            (name.to_string(), entry.unwrap())
        }))
    }

    #[test]
    fn a_file_is_read_once_for_all_prompts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../diffusion/tests/data/embedding.pt");
        let mut host = MemoryHost::default();
        host.models.insert(("embeddings".into(), "mine.pt".into()), ModelSource::Path(path.into()));
        let (ctx, _) = context(Arc::new(host));
        let residency = Residency::with_budget(1 << 20, &Settings::default());
        let folder = Folder::new(&residency, &ctx);
        let (first, again) = (folder.open("mine").unwrap(), folder.open("mine.pt").unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert!(folder.open("other").is_none());
    }

    #[test]
    fn each_encoder_takes_its_own_vectors() {
        let both = dict(&[("clip_g", 5), ("clip_l", 3)]);
        let width = |dict: &StateDict, encoder| vectors(dict, encoder).map(|t| t.dim(1).unwrap());
        assert_eq!((width(&both, "l"), width(&both, "g"), width(&both, "h")), (Some(3), Some(5), None));
        assert_eq!(width(&dict(&[("emb_params", 4)]), "l"), Some(4));
        assert_eq!(width(&dict(&[("string_to_param.*", 6)]), "h"), Some(6));
        assert_eq!(width(&dict(&[("whatever", 7)]), "g"), Some(7));
    }
}
