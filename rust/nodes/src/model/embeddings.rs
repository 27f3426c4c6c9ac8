//! Textual inversions from the `embeddings` folder.

use candle_core::{DType, Device, Tensor};
use rushlight_diffusion::tokenizer::Embeddings;
use rushlight_diffusion::weights::{Entry, StateDict};
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
        ["", ".safetensors", ".pt", ".bin"]
            .iter()
            .find_map(|extension| self.host.model("embeddings", &format!("{name}{extension}")).ok())
    }

    fn open(&self, name: &str) -> Option<StateDict> {
        let dict = match self.source(name)? {
            ModelSource::Path(path) => StateDict::open(&path),
            ModelSource::Embedded(bytes) => StateDict::from_static(bytes, name),
        };
        dict.inspect_err(|error| tracing::warn!(name, %error, "embedding cannot be read")).ok()
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
        vectors(&self.open(name)?, encoder)
    }
}

#[cfg(test)]
mod tests {
    use rushlight_diffusion::weights::FileDtype;

    use super::*;

    fn dict(entries: &[(&str, usize)]) -> StateDict {
        StateDict::from_entries(entries.iter().map(|(name, width)| {
            let entry = Entry::from_bytes(vec![0; width * 8], FileDtype::F32, vec![2, *width]);
            (name.to_string(), entry.unwrap())
        }))
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
