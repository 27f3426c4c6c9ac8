//! Loaded files, shared by every loader node.
//!
//! A file is loaded once for each device as long as something uses it; the latest are kept although nothing does, so
//! that switching back and forth is cheap: as many as fit half of the machine's memory by the size of their files.
//! [`Residency::release`] forgets them. Locks are held for look-ups, never while a file is read.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use candle_core::Device;
use parking_lot::Mutex;
use rushlight_diffusion::weights::StateDict;
use rushlight_runtime::NodeError;
use rushlight_runtime::host::ModelSource;

/// Most files kept although nothing uses them, however small: a base model, a refiner, and a stack of LoRAs.
const KEPT: usize = 24;
/// The part of the machine's memory that kept files may take.
const SHARE: u64 = 2;

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
pub(crate) struct Residency {
    /// Latest last.
    kept: Mutex<VecDeque<(Key, Shared)>>,
    /// Bytes that the kept files may have together; the latest is kept whatever its size.
    budget: u64,
}

impl Default for Residency {
    fn default() -> Self {
        // A system that does not tell its memory keeps as many files as there may be.
        let total = sysinfo::System::new().map_or(u64::MAX, |mut system| {
            system.refresh_memory();
            system.total_memory()
        });
        Self::with_budget(total / SHARE)
    }
}

impl Residency {
    /// A cache of so many bytes.
    pub(crate) fn with_budget(budget: u64) -> Self {
        Self { kept: Mutex::default(), budget }
    }

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
        let mut total: u64 = kept.iter().map(|(key, _)| key.length).sum();
        while kept.len() > KEPT || (kept.len() > 1 && total > self.budget) {
            let Some((dropped, _)) = kept.pop_front() else { break };
            total -= dropped.length;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_files_used_last_are_kept_within_the_budget() {
        let residency = Residency::with_budget(25);
        let loads = AtomicUsize::new(0);
        let files: [&'static [u8]; 3] = [&[0; 10], &[1; 10], &[2; 10]];
        let load = |index: usize| {
            let source = ModelSource::Embedded(files[index]);
            let count = || Ok(loads.fetch_add(1, Ordering::Relaxed));
            residency.get("test", &source, &Device::Cpu, count).unwrap();
            loads.load(Ordering::Relaxed)
        };
        assert_eq!([load(0), load(1), load(0)], [1, 2, 2]);
        // The third file pushes out the second, which was used longest ago.
        assert_eq!([load(2), load(0), load(1)], [3, 3, 4]);
        residency.release();
        assert_eq!(load(1), 5);
    }
}
