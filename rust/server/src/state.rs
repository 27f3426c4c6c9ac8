//! What every route sees.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use rushlight_runtime::{ClassTable, Host};
use serde_json::{Map, Value};

use crate::dispatcher::Dispatcher;
use crate::extension::Extension;
use crate::files::Files;
use crate::heavy::Heavy;
use crate::queue::JobQueue;
use crate::security::token::Guesses;
use crate::settings::ServerSettings;

/// The running server, shared by all routes. Cloning is cheap.
#[derive(Clone)]
pub struct AppState(Arc<App>);

/// The parts of a running server.
pub struct App {
    /// How it was configured.
    pub settings: ServerSettings,
    /// Files and models.
    pub host: Arc<dyn Host>,
    /// What the file-like routes share.
    pub files: Files,
    /// Events on their way to clients.
    pub dispatcher: Arc<Dispatcher>,
    /// Prompts on their way to workers.
    pub queue: Arc<JobQueue>,
    /// Compute threads.
    pub workers: usize,
    /// What adds classes, routes and files.
    pub extension: Option<Arc<dyn Extension>>,
    pub(crate) classes: RwLock<Arc<ClassTable>>,
    pub(crate) ready: Ready,
    pub(crate) object_info: Mutex<Option<ObjectInfo>>,
    pub(crate) guesses: Guesses,
    pub(crate) heavy: Heavy,
}

/// `/object_info` as it was last made.
pub(crate) struct ObjectInfo {
    classes: Arc<ClassTable>,
    generation: u64,
    /// Some classes may change at any time, so it holds for one request.
    changes_freely: bool,
    bytes: Bytes,
}

/// Whether every class is known.
#[derive(Default)]
pub(crate) struct Ready {
    state: Mutex<Readiness>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    #[default]
    Loading,
    Ready,
    Stopped,
}

impl AppState {
    /// Shares the parts.
    pub fn new(app: App) -> Self {
        Self(Arc::new(app))
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

impl App {
    /// The node classes as they are now.
    pub fn classes(&self) -> Arc<ClassTable> {
        self.classes.read().clone()
    }

    /// Replaces the node classes, for prompts that are submitted or begin from now on.
    pub fn set_classes(&self, classes: Arc<ClassTable>) {
        *self.classes.write() = classes;
    }

    /// Waits until every class is known. False when the server stops before. Not for async threads.
    pub fn wait_ready(&self) -> bool {
        let mut state = self.ready.state.lock();
        self.ready.changed.wait_while(&mut state, |state| *state == Readiness::Loading);
        *state == Readiness::Ready
    }

    /// Whether every class is known.
    pub fn is_ready(&self) -> bool {
        *self.ready.state.lock() == Readiness::Ready
    }

    pub(crate) fn set_ready(&self) {
        self.change_readiness(Readiness::Ready);
    }

    pub(crate) fn set_stopped(&self) {
        self.change_readiness(Readiness::Stopped);
    }

    fn change_readiness(&self, to: Readiness) {
        *self.ready.state.lock() = to;
        self.ready.changed.notify_all();
    }

    /// Lets the extension change a submitted prompt. May block.
    pub fn on_prompt(&self, body: Value) -> Value {
        match &self.extension {
            Some(extension) if extension.changes_prompts() => extension.on_prompt(body),
            _ => body,
        }
    }

    /// Brings what the extension shares with the server up to date. May block.
    pub fn refresh_extension(&self) {
        if let Some(extension) = &self.extension {
            extension.refresh();
        }
    }

    /// `/object_info` as bytes if it was made and still holds. Takes microseconds.
    pub fn cached_object_info(&self) -> Option<Bytes> {
        let classes = self.classes();
        let cached = self.object_info.lock();
        let info = cached.as_ref().filter(|info| !info.changes_freely)?;
        let holds = Arc::ptr_eq(&info.classes, &classes) && info.generation == classes.generation();
        holds.then(|| info.bytes.clone())
    }

    /// `/object_info` as bytes, made if need be. Reads folders and may call Python: not for async threads.
    pub fn object_info(&self) -> Bytes {
        if let Some(bytes) = self.cached_object_info() {
            return bytes;
        }
        self.refresh_extension();
        let classes = self.classes();
        let generation = classes.generation();
        let changes_freely = classes.refresh_free(None);
        let all: Map<String, Value> =
            classes.schemas().map(|schema| (schema.name.to_string(), schema.to_object_info())).collect();
        let bytes = Bytes::from(Value::Object(all).to_string());
        *self.object_info.lock() =
            Some(ObjectInfo { classes, generation, changes_freely, bytes: bytes.clone() });
        bytes
    }
}
