//! Loaded files, shared by every loader node.
//!
//! A file is loaded once for each device as long as something uses it; the latest are kept although nothing does, so
//! that switching back and forth is cheap: as many as fit half of the machine's memory by the bytes that their tensors
//! take now. [`Residency::release`] forgets them. Locks are held for look-ups, never while a file is read.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use candle_core::Device;
use parking_lot::Mutex;
use rushlight_diffusion::checkpoint::LoadOptions;
use rushlight_diffusion::weights::StateDict;
use rushlight_runtime::host::ModelSource;
use rushlight_runtime::{NodeContext, NodeError};

use super::objects::engine;
use super::resident::Resident;
use crate::memory;
use crate::settings::Settings;

/// Most files kept although nothing uses them, however small: a base model, a refiner, and a stack of LoRAs.
const KEPT: usize = 24;
/// The part of the machine's memory that kept files may take.
const SHARE: u64 = 2;

/// What makes two loads the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// What was made of the files (`checkpoint`, `vae`, …) and with which options.
    purpose: String,
    files: Vec<File>,
    device: String,
}

/// A file as it was when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    source: String,
    modified: Option<SystemTime>,
    length: u64,
}

/// Something loaded, and how many bytes its tensors take now.
struct Kept {
    key: Key,
    shared: Arc<dyn Any + Send + Sync>,
    bytes: Box<dyn Fn() -> usize + Send + Sync>,
}

/// The cache.
pub(crate) struct Residency {
    /// Latest last.
    kept: Mutex<VecDeque<Kept>>,
    /// Bytes that what is kept may take together; the latest is kept whatever its size.
    budget: u64,
    settings: Settings,
}

impl Residency {
    /// A cache within half of the machine's memory, less what the settings reserve.
    pub(crate) fn new(settings: &Settings) -> Self {
        // A system that does not tell its memory keeps as many files as there may be.
        let total = memory::total().unwrap_or(u64::MAX);
        Self::with_budget((total / SHARE).saturating_sub(settings.reserved_bytes), settings)
    }

    /// A cache of so many bytes.
    pub(crate) fn with_budget(budget: u64, settings: &Settings) -> Self {
        Self { kept: Mutex::default(), budget, settings: *settings }
    }

    /// How models are loaded for a run.
    pub(crate) fn options(&self, ctx: &NodeContext) -> LoadOptions {
        LoadOptions {
            device: ctx.device().clone(),
            vae_device: self.settings.vae_on_cpu.then_some(Device::Cpu),
            precision: self.settings.precision,
        }
    }

    /// What `load` makes of some files, or what an earlier call made of the same files.
    pub(crate) fn get<T: Resident>(
        &self,
        purpose: &str,
        sources: &[ModelSource],
        device: &Device,
        load: impl FnOnce() -> Result<T, NodeError>,
    ) -> Result<Arc<T>, NodeError> {
        let key = key(purpose, sources, device);
        if let Some(found) = self.find(&key).and_then(|found| found.downcast().ok()) {
            return Ok(found);
        }
        let loaded = Arc::new(load()?);
        let counted = loaded.clone();
        let bytes = Box::new(move || counted.bytes());
        let mut kept = self.kept.lock();
        kept.push_back(Kept { key, shared: loaded.clone(), bytes });
        let sizes: Vec<u64> = kept.iter().map(|kept| (kept.bytes)() as u64).collect();
        let mut total: u64 = sizes.iter().sum();
        for size in sizes {
            if kept.len() <= KEPT && (kept.len() <= 1 || total <= self.budget) {
                break;
            }
            kept.pop_front();
            total -= size;
        }
        Ok(loaded)
    }

    /// What `make` makes of the tensors of the file `name` in a model folder, or what an earlier call made of it.
    ///
    /// # Errors
    /// When there is no such file, or it is not what `make` takes it for; both name it.
    pub(crate) fn load<T: Resident>(
        &self,
        ctx: &NodeContext,
        purpose: &str,
        (folder, name): (&str, &str),
        make: impl FnOnce(&StateDict, &LoadOptions) -> rushlight_diffusion::Result<T>,
    ) -> Result<Arc<T>, NodeError> {
        let source = ctx.host().model(folder, name)?;
        self.get(purpose, std::slice::from_ref(&source), ctx.device(), || {
            make(&open(&source, name)?, &self.options(ctx)).map_err(|error| named(name, engine(error)))
        })
    }

    fn find(&self, key: &Key) -> Option<Arc<dyn Any + Send + Sync>> {
        let mut kept = self.kept.lock();
        let index = kept.iter().position(|kept| kept.key == *key)?;
        let entry = kept.remove(index)?;
        let shared = entry.shared.clone();
        kept.push_back(entry);
        Some(shared)
    }

    /// Forgets everything; what is in use lives until its users end.
    pub(crate) fn release(&self) {
        self.kept.lock().clear();
    }
}

fn key(purpose: &str, sources: &[ModelSource], device: &Device) -> Key {
    let files = sources.iter().map(|source| match source {
        ModelSource::Path(path) => {
            let metadata = std::fs::metadata(path).ok();
            File {
                source: path.to_string_lossy().into_owned(),
                modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
                length: metadata.map_or(0, |metadata| metadata.len()),
            }
        }
        ModelSource::Embedded(bytes) => File {
            source: format!("embedded at {:p}", bytes.as_ptr()),
            modified: None,
            length: bytes.len() as u64,
        },
    });
    Key { purpose: purpose.into(), files: files.collect(), device: format!("{:?}", device.location()) }
}

/// The tensors of a model file.
pub(crate) fn open(source: &ModelSource, name: &str) -> Result<StateDict, NodeError> {
    let dict = match source {
        ModelSource::Path(path) => StateDict::open(path),
        ModelSource::Embedded(bytes) => StateDict::from_static(bytes, name),
    };
    dict.map_err(|error| named(name, engine(error)))
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

    /// Ten bytes.
    struct Ten;

    impl Resident for Ten {
        fn bytes(&self) -> usize {
            10
        }
    }

    #[test]
    fn what_was_used_last_is_kept_within_the_budget() {
        let residency = Residency::with_budget(25, &Settings::default());
        let loads = AtomicUsize::new(0);
        let files: [&'static [u8]; 3] = [&[0], &[1], &[2]];
        let load = |index: usize| {
            let source = ModelSource::Embedded(files[index]);
            let count = || {
                loads.fetch_add(1, Ordering::Relaxed);
                Ok(Ten)
            };
            residency.get("test", &[source], &Device::Cpu, count).unwrap();
            loads.load(Ordering::Relaxed)
        };
        assert_eq!([load(0), load(1), load(0)], [1, 2, 2]);
        // The third file pushes out the second, which was used longest ago.
        assert_eq!([load(2), load(0), load(1)], [3, 3, 4]);
        residency.release();
        assert_eq!(load(1), 5);
    }
}
