//! Textual inversions from the `embeddings` folder.

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::tokenizer::Embeddings;
use rushlight_diffusion::weights::StateDict;
use rushlight_runtime::Host;
use rushlight_runtime::host::ModelSource;

/// Finds embeddings by file name, with or without extension.
pub(crate) struct Folder<'a> {
    host: &'a dyn Host,
}

impl<'a> Folder<'a> {
    /// The folder of a host.
    pub(crate) fn new(host: &'a dyn Host) -> Self {
        Self { host }
    }

    fn source(&self, name: &str) -> Option<ModelSource> {
        ["", ".safetensors"]
            .iter()
            .find_map(|extension| self.host.model("embeddings", &format!("{name}{extension}")).ok())
    }
}

impl Embeddings for Folder<'_> {
    fn find(&self, name: &str) -> Option<Tensor> {
        let dict = match self.source(name)? {
            ModelSource::Path(path) => StateDict::open(&path),
            ModelSource::Embedded(bytes) => StateDict::from_static(bytes, name),
        };
        let dict = match dict {
            Ok(dict) => dict,
            Err(error) => {
                tracing::warn!(name, %error, "embedding cannot be read");
                return None;
            }
        };
        // One tensor, the key of A1111's files, or one a text encoder.
        let entry = ["emb_params", "clip_l", "clip_g"]
            .iter()
            .find_map(|key| dict.get(key))
            .or_else(|| dict.iter().next().map(|(_, entry)| entry))?;
        let tensor = entry.tensor(DType::F32, &Device::Cpu).ok()?;
        match tensor.rank() {
            1 => tensor.unsqueeze(0).ok(),
            2 => Some(tensor),
            _ => None,
        }
    }
}
