//! `POST /prompt`: what is accepted and how a refusal looks.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value};

/// The `error` object of a refused request.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{message}: {details}")]
pub struct ErrorBody {
    /// Machine-readable kind, such as `prompt_no_outputs`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence for a person.
    pub message: String,
    /// What exactly.
    pub details: String,
    /// More, by kind.
    pub extra_info: Map<String, Value>,
}

impl ErrorBody {
    /// An error with no `extra_info`.
    pub fn new(kind: &str, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), details: details.into(), extra_info: Map::new() }
    }

    /// The same with one more `extra_info` key.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra_info.insert(key.into(), value.into());
        self
    }
}

/// One fault of one node: an entry of `node_errors[id].errors`; the same shape as [`ErrorBody`].
pub type InputError = ErrorBody;

/// The faults of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeErrors {
    /// Each fault.
    pub errors: Vec<InputError>,
    /// Output nodes that cannot run because of them.
    pub dependent_outputs: Vec<String>,
    /// The node's class.
    pub class_type: String,
}

/// The 200 answer of `POST /prompt`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptAccepted {
    /// Given by the client, or a v4 uuid.
    pub prompt_id: String,
    /// Position: lower numbers run first.
    pub number: serde_json::Number,
    /// Faults of outputs that are left out.
    pub node_errors: IndexMap<String, NodeErrors>,
}

/// The 400 answer of `POST /prompt`.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{error}")]
pub struct PromptRejected {
    /// Why.
    pub error: ErrorBody,
    /// Faults of nodes.
    pub node_errors: IndexMap<String, NodeErrors>,
}
