//! Loaded files, shared by every loader node.
//!
//! A file is loaded once for each device as long as something uses it; a few of the latest are kept although nothing
//! does, so that switching back and forth is cheap. [`Residency::release`] forgets them. Locks are held for look-ups,
//! never while a file is read.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use candle_core::Device;
use parking_lot::Mutex;
use rushlight_diffusion::weights::StateDict;
use rushlight_runtime::NodeError;
use rushlight_runtime::host::ModelSource;

/// Files kept although nothing uses them: enough for a base model, a refiner and their helpers.
const KEPT: usize = 4;

/// What makes two loads the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// What was made of the file (`checkpoint`, `vae`, …) and with which options.
    purpose: String,
    source: String,
    modified: Option<SystemTime>,
    length: u64,
    device: String,
}

type Shared = Arc<dyn Any + Send + Sync>;

/// The cache.
#[derive(Default)]
pub(crate) struct Residency {
    /// Latest last.
    kept: Mutex<VecDeque<(Key, Shared)>>,
}

impl Residency {
    /// What `load` makes of a file, or what an earlier call made of the same file.
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        purpose: &str,
        source: &ModelSource,
        device: &Device,
        load: impl FnOnce() -> Result<T, NodeError>,
    ) -> Result<Arc<T>, NodeError> {
        let key = key(purpose, source, device);
        if let Some(found) = self.find(&key).and_then(|found| found.downcast().ok()) {
            return Ok(found);
        }
        let loaded = Arc::new(load()?);
        let mut kept = self.kept.lock();
        kept.push_back((key, loaded.clone()));
        while kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(loaded)
    }

    fn find(&self, key: &Key) -> Option<Shared> {
        let mut kept = self.kept.lock();
        let index = kept.iter().position(|(kept, _)| kept == key)?;
        let entry = kept.remove(index)?;
        let shared = entry.1.clone();
        kept.push_back(entry);
        Some(shared)
    }

    /// Forgets everything; what is in use lives until its users end.
    pub(crate) fn release(&self) {
        self.kept.lock().clear();
    }
}

fn key(purpose: &str, source: &ModelSource, device: &Device) -> Key {
    let (source, modified, length) = match source {
        ModelSource::Path(path) => {
            let metadata = std::fs::metadata(path).ok();
            (
                path.to_string_lossy().into_owned(),
                metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
                metadata.map_or(0, |metadata| metadata.len()),
            )
        }
        ModelSource::Embedded(bytes) => {
            (format!("embedded at {:p}", bytes.as_ptr()), None, bytes.len() as u64)
        }
    };
    Key { purpose: purpose.into(), source, modified, length, device: format!("{:?}", device.location()) }
}

/// The tensors of a model file.
pub(crate) fn open(source: &ModelSource, name: &str) -> Result<StateDict, NodeError> {
    let dict = match source {
        ModelSource::Path(path) => StateDict::open(path),
        ModelSource::Embedded(bytes) => StateDict::from_static(bytes, name),
    };
    dict.map_err(|error| named(name, super::objects::engine(error)))
}

/// The same failure with the file's name in front.
pub(crate) fn named(name: &str, error: NodeError) -> NodeError {
    match error {
        NodeError::Failed { exception_type, message, traceback } => NodeError::Failed {
            exception_type,
            message: format!("cannot load '{name}': {message}"),
            traceback,
        },
        interrupted => interrupted,
    }
}
