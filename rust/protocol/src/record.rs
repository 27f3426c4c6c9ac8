//! Queue items and history entries, in the shapes that `GET /queue` and `GET /history` return.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// One queued prompt: on the wire `[number, prompt_id, prompt, extra_data, [output node ids]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueItem(pub Number, pub String, pub Value, pub Map<String, Value>, pub Vec<String>);

impl QueueItem {
    /// Position in the queue: lower runs first.
    pub fn number(&self) -> &Number {
        &self.0
    }
    /// The prompt's id.
    pub fn prompt_id(&self) -> &str {
        &self.1
    }
    /// The graph in API format.
    pub fn prompt(&self) -> &Value {
        &self.2
    }
    /// `extra_data`, without secrets.
    pub fn extra_data(&self) -> &Map<String, Value> {
        &self.3
    }
    /// Output nodes that run.
    pub fn outputs(&self) -> &[String] {
        &self.4
    }
    /// The session that its events go to.
    pub fn client_id(&self) -> Option<&str> {
        self.3.get("client_id").and_then(Value::as_str)
    }
}

/// Which node of the graph made an output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeMeta {
    /// The node's id in the expanded graph.
    pub node_id: String,
    /// The id a frontend shows it as.
    pub display_node: String,
    /// The node that expanded into it.
    pub parent_node: Option<String>,
    /// The outermost node.
    pub real_node_id: String,
}

/// How a prompt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryStatus {
    /// `success` or `error`.
    pub status_str: String,
    /// Whether everything ran.
    pub completed: bool,
    /// `[event, data]` pairs of `execution_start`, `_cached`, and the last one.
    pub messages: Vec<(String, Value)>,
}

/// One finished prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The queue item it was.
    pub prompt: QueueItem,
    /// UI outputs by node id.
    pub outputs: IndexMap<String, Value>,
    /// How it ended.
    pub status: HistoryStatus,
    /// Origin of each output.
    pub meta: IndexMap<String, NodeMeta>,
}
