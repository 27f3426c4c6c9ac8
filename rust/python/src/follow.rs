//! Follows the runs for Python: which node runs, seen from any thread, and the bars of every node for the handlers and
//! hooks that packs add.
//!
//! Which node runs is kept without Python. Bars reach Python (`rushlight.host.progress`) only while a pack has added
//! something that hears of them: else no run ever waits for the interpreter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rushlight_protocol::{Audience, ImageFormat, NodeProgress, NodeState};
use rushlight_runtime::follower::Preview;
use rushlight_runtime::{NodeContext, NodeError, NodeIdentity, RunContext, RunFollower};

use crate::context::PyNodeContext;
use crate::{error, json, thread};

/// The runs as Python hears of them.
#[derive(Default)]
pub struct Follower {
    last: Mutex<Option<NodeContext>>,
    running: AtomicBool,
    handlers: AtomicBool,
    hook: AtomicBool,
}

impl Follower {
    /// The node that had its turn last, of the newest run. Its id is empty while the run has only begun.
    pub fn last(&self) -> Option<NodeContext> {
        self.last.lock().clone()
    }

    /// The client of the prompt that runs; everyone while none runs, or while it is nobody's. For what belongs to no node.
    pub fn audience(&self) -> Audience {
        match self.last.lock().as_ref().map(|last| &last.run.audience) {
            Some(Audience::Session(sid)) if self.running.load(Ordering::Acquire) => {
                Audience::Session(sid.clone())
            }
            _ => Audience::Everyone,
        }
    }

    /// A run has ended.
    pub fn run_ended(&self, prompt_id: &str) {
        if self.last.lock().as_ref().is_some_and(|last| last.run.prompt_id.as_ref() == prompt_id) {
            self.running.store(false, Ordering::Release);
        }
    }

    /// Whether there are handlers, which hear of every node, and a hook, which takes the bars of native nodes over.
    pub fn set_listeners(&self, handlers: bool, hook: bool) {
        self.handlers.store(handlers, Ordering::Release);
        self.hook.store(hook, Ordering::Release);
    }

    fn remember(&self, run: &Arc<RunContext>, node: Arc<NodeIdentity>, list_index: Option<usize>) {
        // Without the state that the node keeps: that goes when no prompt uses the node.
        let context = NodeContext { run: run.clone(), node, list_index, state: Arc::default() };
        *self.last.lock() = Some(context);
    }
}

/// Calls a function of `rushlight.host.progress`; `None` when that raised.
fn ask<T>(call: impl for<'py> FnOnce(Bound<'py, PyModule>) -> PyResult<T>) -> Option<Result<T, NodeError>> {
    // Python's own threads move bars, too.
    thread::attach(|py| {
        let asked = py.import("rushlight.host.progress").and_then(call);
        asked.map_err(|raised| error::node_error(py, raised))
    })
}

fn picture<'py>(py: Python<'py>, preview: Preview<'_>) -> Option<(&'static str, Bound<'py, PyBytes>)> {
    preview.map(|(format, image)| {
        let format = match format {
            ImageFormat::Jpeg => "JPEG",
            ImageFormat::Png => "PNG",
        };
        (format, PyBytes::new(py, image))
    })
}

/// A state under the name that `comfy_execution.progress.NodeState` gives it.
pub fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Running => "Running",
        NodeState::Finished => "Finished",
        NodeState::Error => "Error",
    }
}

impl RunFollower for Follower {
    fn run_begins(&self, run: &Arc<RunContext>) {
        let nothing: Arc<str> = "".into();
        let node = NodeIdentity {
            node_id: nothing.clone(),
            display_id: nothing.clone(),
            parent_id: None,
            real_id: nothing.clone(),
            class_type: nothing,
        };
        self.remember(run, Arc::new(node), None);
        self.running.store(true, Ordering::Release);
    }

    fn node_begins(&self, node: &NodeContext) {
        self.remember(&node.run, node.node.clone(), node.list_index);
    }

    fn moves_bar(
        &self,
        node: &NodeContext,
        bar: (u64, u64),
        preview: Preview<'_>,
    ) -> Result<bool, NodeError> {
        if !self.hook.load(Ordering::Acquire) {
            return Ok(false);
        }
        let told = ask(|progress| {
            let py = progress.py();
            let context = Bound::new(py, PyNodeContext::new(node.clone()))?;
            progress.call_method1("call_hook", (context, bar.0, bar.1, picture(py, preview)))?.extract()
        });
        match told {
            Some(Ok(told)) => Ok(told),
            Some(Err(NodeError::Interrupted)) => Err(NodeError::Interrupted),
            Some(Err(error)) => {
                tracing::warn!("a pack's progress hook failed: {error}");
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn progressed(&self, progress: &NodeProgress, moved: bool, preview: Preview<'_>) {
        if !self.handlers.load(Ordering::Acquire) {
            return;
        }
        let told = ask(|module| {
            let py = module.py();
            let value = json::to_python(py, &progress.value.clone().into())?;
            let max = json::to_python(py, &progress.max.clone().into())?;
            let arguments = (
                progress.prompt_id.as_ref(),
                progress.node_id.as_ref(),
                state_name(progress.state),
                value,
                max,
                moved,
                picture(py, preview),
            );
            module.call_method1("hear", arguments).map(drop)
        });
        if let Some(Err(error)) = told {
            tracing::warn!("telling progress handlers failed: {error}");
        }
    }
}
