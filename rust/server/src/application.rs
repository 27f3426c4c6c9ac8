//! The running server, as its extension sees it.

use std::path::PathBuf;
use std::sync::Arc;

use rushlight_protocol::{ErrorBody, PromptAccepted, PromptRejected, QueueItem};
use rushlight_runtime::placement::Dual;
use rushlight_runtime::{ClassTable, EventSink, Host, Node, Registry};
use rushlight_store::Folders;
use rushlight_store::folders::FolderKind;
use rushlight_store::records::HistoryPage;
use serde_json::{Map, Value, json};

use crate::extension::{Application, Validated};
use crate::queue::{Asked, FreeRequest};
use crate::state::AppState;
use crate::submit::{self, SubmitError};

/// A handle on the server for its extension.
pub struct Handle {
    state: AppState,
    native: Registry,
    folders: Arc<Folders>,
}

impl Handle {
    /// A handle; the classes known now are the native ones.
    pub fn new(state: AppState, folders: Arc<Folders>) -> Self {
        let native = state.classes().registry().clone();
        Self { state, native, folders }
    }
}

impl Application for Handle {
    fn register(&self, classes: Vec<(String, Arc<dyn Node>)>, prefer: bool) {
        let table = self.state.classes();
        let mut registry = table.registry().clone();
        for (name, python) in classes {
            let node = match self.native.get(&name) {
                Some(native) => Arc::new(Dual::new(native.clone(), python, prefer)),
                None => python,
            };
            registry.register(&name, node);
        }
        self.state.set_classes(Arc::new(ClassTable::new(registry, self.state.host.clone())));
    }

    fn replace(&self, classes: Vec<(String, Arc<dyn Node>)>) {
        let mut registry = self.state.classes().registry().clone();
        for (name, node) in classes {
            registry.register(&name, node);
        }
        self.state.set_classes(Arc::new(ClassTable::new(registry, self.state.host.clone())));
    }

    fn native(&self) -> Registry {
        self.native.clone()
    }

    fn sink(&self) -> Arc<dyn EventSink> {
        self.state.dispatcher.clone()
    }

    fn host(&self) -> Arc<dyn Host> {
        self.state.host.clone()
    }

    fn folders(&self) -> Value {
        let layout = self.folders.layout();
        let models = self.folders.models();
        let keys: Map<String, Value> = models
            .keys()
            .into_iter()
            .map(|key| {
                let entry = json!([models.paths(&key), models.extensions(&key)]);
                (key, entry)
            })
            .collect();
        json!({
            "base": layout.base, "models": layout.models, "user": layout.user,
            "input": self.folders.folder(FolderKind::Input), "output": self.folders.folder(FolderKind::Output),
            "temp": self.folders.folder(FolderKind::Temp), "custom_nodes": layout.custom_nodes, "keys": keys,
        })
    }

    fn add_model_folder(&self, key: &str, folder: PathBuf, first: bool) {
        self.folders.models().add_path(key, folder, first);
        self.state.classes().refresh();
    }

    fn set_model_folder(&self, key: &str, folders: Vec<PathBuf>, extensions: Vec<String>) {
        self.folders.models().set(key, folders, extensions);
        self.state.classes().refresh();
    }

    fn set_folder(&self, kind: &str, folder: PathBuf) -> bool {
        let Some(kind) = FolderKind::parse(kind) else { return false };
        self.folders.set_folder(kind, folder);
        self.state.classes().refresh();
        true
    }

    fn queue(&self) -> (Vec<QueueItem>, Vec<QueueItem>) {
        let (running, pending) = self.state.queue.snapshot();
        let read = |item: &str| serde_json::from_str(item).ok();
        (
            running.iter().filter_map(|running| read(&running.prompt.item)).collect(),
            pending.iter().filter_map(|prompt| read(&prompt.item)).collect(),
        )
    }

    fn history(&self, prompt_id: Option<&str>, max_items: Option<usize>, offset: Option<usize>) -> Value {
        let store = self.state.queue.store();
        let mut entries = Map::new();
        let read = match prompt_id {
            Some(id) => store.history_entry(id).map(|entry| {
                if let Some(entry) = entry.and_then(|entry| serde_json::from_str(&entry).ok()) {
                    entries.insert(id.to_owned(), entry);
                }
            }),
            None => {
                let count = |number: Option<usize>| number.and_then(|number| u64::try_from(number).ok());
                let page = HistoryPage { max_items: count(max_items), offset: count(offset) };
                store.history_page(page).and_then(|seqs| {
                    let read = store.history(&seqs, &mut |id, entry| {
                        if let Ok(entry) = serde_json::from_str(entry) {
                            entries.insert(id.to_owned(), entry);
                        }
                        true
                    });
                    read.map(drop)
                })
            }
        };
        if let Err(error) = read {
            tracing::error!(%error, "the history cannot be read");
        }
        Value::Object(entries)
    }

    fn delete_history(&self, prompt_id: Option<&str>) {
        let store = self.state.queue.store();
        let deleted = match prompt_id {
            Some(id) => store.delete_history(vec![id.to_owned()]).map(drop),
            None => store.clear_history().map(drop),
        };
        if let Err(error) = deleted {
            tracing::error!(%error, "the history cannot be changed");
        }
    }

    fn submit(&self, body: Value) -> Result<PromptAccepted, PromptRejected> {
        submit::submit_unchanged(&self.state, body).map_err(|error| match error {
            SubmitError::Rejected(rejected) => *rejected,
            error @ (SubmitError::Store(_) | SubmitError::Full { .. }) => PromptRejected {
                error: ErrorBody::new("store_failed", "The prompt could not be stored", error.to_string()),
                node_errors: Default::default(),
            },
        })
    }

    fn validate(&self, prompt: &Value, targets: Option<&[String]>) -> Result<Validated, PromptRejected> {
        let valid = submit::check_prompt(&self.state, prompt, targets).map_err(|rejected| *rejected)?;
        let outputs = valid.outputs.iter().map(|id| id.to_string()).collect();
        Ok(Validated { outputs, node_errors: valid.node_errors })
    }

    fn delete_queued(&self, prompt_id: Option<&str>) -> bool {
        let matches = |id: &str| prompt_id.is_none_or(|wanted| wanted == id);
        match self.state.queue.remove(|prompt| matches(&prompt.prompt_id)) {
            Ok(removed) => removed > 0,
            Err(error) => {
                tracing::error!(%error, "the queue cannot be changed");
                false
            }
        }
    }

    fn interrupt(&self, prompt_id: Option<&str>) {
        self.state.queue.interrupt(prompt_id, Asked::Interrupt);
    }

    fn free(&self, unload_models: bool, free_memory: bool) {
        if unload_models || free_memory {
            self.state.queue.free(FreeRequest { unload_models, free_memory }, self.state.workers);
        }
    }

    fn session_flags(&self, sid: &str) -> Option<Map<String, Value>> {
        let session = self.state.dispatcher.session(sid).filter(|session| session.is_connected())?;
        Some(session.flags().map(|flags| flags.0).unwrap_or_default())
    }

    fn sessions(&self) -> Vec<String> {
        self.state.dispatcher.connected().iter().map(|session| session.sid.to_string()).collect()
    }

    fn log(&self, line: &str) {
        self.state.files.logs.push(line);
    }
}
