//! A host and a context for tests and for the golden runner: no models, files in memory.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use candle_core::Device;
use parking_lot::Mutex;
use rushlight_protocol::{Audience, Event};
use rushlight_runtime::host::{HostError, ModelSource, SaveRequest, SavedFile};
use rushlight_runtime::{EventSink, Host, NodeContext, NodeIdentity, RunContext};

/// Files by name, models by (folder, name).
#[derive(Default)]
pub(crate) struct MemoryHost {
    /// What [`Host::read`] finds.
    pub(crate) files: HashMap<String, Bytes>,
    /// What [`Host::model`] finds.
    pub(crate) models: HashMap<(String, String), ModelSource>,
    /// What was saved: extension and bytes.
    pub(crate) saved: Mutex<Vec<(String, Vec<u8>)>>,
}

fn not_found(what: &str, name: &str) -> HostError {
    HostError::NotFound { what: what.into(), name: name.into() }
}

impl Host for MemoryHost {
    fn model_names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> =
            self.models.keys().filter(|key| key.0 == folder).map(|key| key.1.clone()).collect();
        names.sort();
        names
    }

    fn model(&self, folder: &str, name: &str) -> Result<ModelSource, HostError> {
        let key = (folder.to_owned(), name.to_owned());
        self.models.get(&key).cloned().ok_or_else(|| not_found(folder, name))
    }

    fn input_names(&self, _kinds: &[&str]) -> Vec<String> {
        let mut names: Vec<_> = self.files.keys().cloned().collect();
        names.sort();
        names
    }

    fn read(&self, annotated_name: &str) -> Result<Bytes, HostError> {
        self.files.get(annotated_name).cloned().ok_or_else(|| not_found("input file", annotated_name))
    }

    fn fingerprint(&self, annotated_name: &str) -> Result<String, HostError> {
        self.read(annotated_name).map(|bytes| bytes.len().to_string())
    }

    fn save(&self, request: &SaveRequest<'_>, bytes: &[u8]) -> Result<SavedFile, HostError> {
        let mut saved = self.saved.lock();
        saved.push((request.extension.to_owned(), bytes.to_vec()));
        Ok(SavedFile {
            filename: format!(
                "{}{}_{:05}_.{}",
                request.prefix,
                request.suffix,
                saved.len(),
                request.extension
            ),
            subfolder: String::new(),
            folder: request.folder,
        })
    }
}

/// Keeps every event.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<Event>>);

impl EventSink for Events {
    fn send(&self, _to: &Audience, event: Event) {
        self.0.lock().push(event);
    }
}

/// A context over a host; node `1` of prompt `test`.
pub(crate) fn context(host: Arc<MemoryHost>) -> (NodeContext, Arc<Events>) {
    let events = Arc::new(Events::default());
    let run = RunContext::new("test".into(), Audience::Everyone, host, events.clone(), Device::Cpu);
    let node = NodeIdentity {
        node_id: "1".into(),
        display_id: "1".into(),
        parent_id: None,
        real_id: "1".into(),
        class_type: "Test".into(),
    };
    let context = NodeContext {
        run: Arc::new(run),
        node: Arc::new(node),
        list_index: None,
        state: Arc::new(Mutex::new(None)),
    };
    (context, events)
}
