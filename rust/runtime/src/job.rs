//! What an executor is given, and what it gives back.

use std::sync::Arc;

use indexmap::IndexMap;
use rushlight_graph::validate::revive;
use rushlight_graph::{Classes, NodeId, Prompt, ValidPrompt};
use rushlight_protocol::{Event, HistoryStatus, NodeMeta, PromptRejected, QueueItem};
use serde_json::{Map, Value as Json};

use crate::secret::Secrets;

/// One prompt to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The prompt's id.
    pub prompt_id: Arc<str>,
    /// The graph.
    pub prompt: Arc<Prompt>,
    /// The graph in API format, for nodes that ask for `PROMPT`.
    pub prompt_json: Arc<Json>,
    /// Output nodes to run, in order.
    pub outputs: Vec<NodeId>,
    /// `extra_pnginfo`, secrets, and whatever else came with the request.
    pub extra_data: Arc<Map<String, Json>>,
    /// The secrets among `extra_data`, to keep them out of errors.
    pub secrets: Secrets,
}

impl Job {
    /// A job of a prompt that was just validated. `extra_data` may hold secrets: nodes that ask for them get them.
    pub fn new(prompt_id: impl Into<Arc<str>>, valid: ValidPrompt, extra_data: Map<String, Json>) -> Self {
        Self {
            prompt_id: prompt_id.into(),
            prompt: Arc::new(valid.prompt),
            prompt_json: Arc::new(valid.json),
            outputs: valid.outputs,
            secrets: Secrets::of(&extra_data),
            extra_data: Arc::new(extra_data),
        }
    }

    /// A job of a stored queue item. `secrets` are the parts of `extra_data` that are never stored.
    ///
    /// # Errors
    /// `invalid_prompt` when a class of the prompt is gone since it was queued.
    pub fn from_item(
        item: &QueueItem,
        secrets: &Map<String, Json>,
        classes: &dyn Classes,
    ) -> Result<Self, PromptRejected> {
        let mut extra_data = item.extra_data().clone();
        extra_data.extend(secrets.clone());
        Ok(Self {
            prompt_id: item.prompt_id().into(),
            prompt: Arc::new(revive(item.prompt(), classes)?),
            prompt_json: Arc::new(item.prompt().clone()),
            outputs: item.outputs().iter().map(|id| id.as_str().into()).collect(),
            secrets: Secrets::of(&extra_data),
            extra_data: Arc::new(extra_data),
        })
    }
}

/// How a run ended and what is kept of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `execution_success`, `execution_error` or `execution_interrupted`; not sent yet.
    pub terminal: Event,
    /// The history's status.
    pub status: HistoryStatus,
    /// UI outputs by node id.
    pub outputs: IndexMap<String, Json>,
    /// Origin of each output.
    pub meta: IndexMap<String, NodeMeta>,
}

impl Outcome {
    /// Whether everything ran.
    pub fn is_success(&self) -> bool {
        matches!(self.terminal, Event::ExecutionSuccess { .. })
    }
}
