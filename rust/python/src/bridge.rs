//! The Python side as an extension of the server.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use rushlight_runtime::RunFollower;
use rushlight_server::extension::{Application, Extension, ForwardTarget, Pack};
use serde_json::{Map, Value};

use crate::app::{PyApp, Told};
use crate::follow::Follower;
use crate::watch::Watch;
use crate::{error, json};

/// Loads `rushlight.host` into the interpreter when the server's socket is open.
pub struct PythonExtension {
    options: Value,
    watch: Arc<Watch>,
    follower: Arc<Follower>,
    told: Arc<Mutex<Told>>,
}

impl PythonExtension {
    /// An extension with the command line's options for it; a node that ignores interrupts is ended after `grace`.
    pub fn new(options: Value, grace: Duration) -> Self {
        Self { options, watch: Watch::start(grace), follower: Arc::default(), told: Arc::default() }
    }

    fn host<T>(&self, call: impl for<'py> FnOnce(Bound<'py, PyModule>) -> PyResult<T>) -> Option<T> {
        Python::try_attach(|py| {
            let called = py.import("rushlight.host").and_then(call);
            called.map_err(|raised| tracing::error!("the Python side failed: {}", full_text(py, raised))).ok()
        })
        .flatten()
    }
}

fn full_text(py: Python<'_>, raised: PyErr) -> String {
    let frames = raised.traceback(py).and_then(|frames| frames.format().ok()).unwrap_or_default();
    format!("{}\n{frames}", error::node_error(py, raised))
}

impl Extension for PythonExtension {
    fn start(&self, app: Arc<dyn Application>) {
        let app = PyApp::new(
            app,
            self.watch.clone(),
            self.follower.clone(),
            self.told.clone(),
            self.options.clone(),
        );
        self.host(|host| host.call_method1("start", (Bound::new(host.py(), app)?,)).map(drop));
    }

    fn on_prompt(&self, body: Value) -> Value {
        let changed = self.host(|host| {
            let changed = host.call_method1("on_prompt", (json::to_python(host.py(), &body)?,))?;
            json::to_json(&changed)
        });
        changed.unwrap_or(body)
    }

    fn changes_prompts(&self) -> bool {
        self.told.lock().changes_prompts
    }

    fn forward_to(&self) -> Option<ForwardTarget> {
        self.told.lock().forward.clone()
    }

    fn follower(&self) -> Option<Arc<dyn RunFollower>> {
        Some(self.follower.clone())
    }

    fn refresh(&self) {
        self.host(|host| host.call_method0("refresh").map(drop));
    }

    fn packs(&self) -> Vec<Pack> {
        self.told.lock().packs.clone()
    }

    fn run_ended(&self, prompt_id: &str) {
        self.follower.run_ended(prompt_id);
        self.host(|host| host.call_method1("run_ended", (prompt_id,)).map(drop));
    }

    fn free(&self, unload_models: bool, free_memory: bool) {
        self.host(|host| host.call_method1("free", (unload_models, free_memory)).map(drop));
    }

    fn versions(&self) -> Map<String, Value> {
        self.told.lock().versions.clone()
    }

    fn stop(&self) {
        self.watch.stop();
        self.host(|host| host.call_method0("stop").map(drop));
    }
}
