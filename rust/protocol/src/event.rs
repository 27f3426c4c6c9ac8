//! Events: what happened, to whom it is told, and its text frame.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Number, Value};

use crate::frame::BinaryFrame;
use crate::wire::{Data, Status, TextFrame};

/// Who is told of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every connected client.
    Everyone,
    /// One session (`clientId`), and nobody when it is not connected.
    Session(Arc<str>),
    /// Nobody: the prompt was queued without a `client_id`.
    Nobody,
}

/// State of a node within a run, as `progress_state` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// The node has begun.
    Running,
    /// The node has ended, or came from the cache.
    Finished,
    /// The node failed.
    Error,
}

/// One node's entry in `progress_state`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeProgress {
    /// Steps done, in the unit of `max`; an integer or a float as the node reported it.
    pub value: Number,
    /// Steps in all; 1.0 for a node that reports none.
    pub max: Number,
    /// Where the node is.
    pub state: NodeState,
    /// The node's id in the (possibly expanded) graph.
    pub node_id: Arc<str>,
    /// The prompt the node runs for.
    pub prompt_id: Arc<str>,
    /// The id a frontend shows the progress on.
    pub display_node_id: Arc<str>,
    /// The node that expanded into this one.
    pub parent_node_id: Option<Arc<str>>,
    /// The outermost node of the submitted prompt.
    pub real_node_id: Arc<str>,
}

/// Everything that the server tells its clients.
///
/// [`Event::to_text`] is the exact text frame; [`Event::Binary`] has no text form.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The queue's length changed.
    Status {
        /// Pending and running prompts.
        queue_remaining: usize,
    },
    /// A prompt left the queue and begins.
    ExecutionStart {
        /// The prompt.
        prompt_id: Arc<str>,
        /// Milliseconds since the epoch.
        timestamp: u64,
    },
    /// Which nodes need not run.
    ExecutionCached {
        /// Ids of nodes whose outputs are in the cache.
        nodes: Vec<Arc<str>>,
        /// The prompt.
        prompt_id: Arc<str>,
        /// Milliseconds since the epoch.
        timestamp: u64,
    },
    /// A node begins.
    Executing {
        /// The node's id.
        node: Arc<str>,
        /// The id a frontend shows it as.
        display_node: Arc<str>,
        /// The prompt.
        prompt_id: Arc<str>,
    },
    /// The prompt ended, however it ended: `executing` with `node: null`.
    ExecutingDone {
        /// The prompt.
        prompt_id: Arc<str>,
    },
    /// Progress of every node of the run that is not pending.
    ProgressState {
        /// The prompt.
        prompt_id: Arc<str>,
        /// Node id to progress, in the order the nodes began.
        nodes: IndexMap<Arc<str>, NodeProgress>,
    },
    /// One progress bar moved.
    Progress {
        /// Steps done.
        value: Number,
        /// Steps in all.
        max: Number,
        /// The prompt.
        prompt_id: Arc<str>,
        /// The node whose bar it is.
        node: Arc<str>,
    },
    /// A node has UI output, or a cached node was passed.
    Executed {
        /// The node's id.
        node: Arc<str>,
        /// The id a frontend shows it as.
        display_node: Arc<str>,
        /// The UI output, `null` for a cached node that has none.
        output: Arc<Value>,
        /// The prompt.
        prompt_id: Arc<str>,
    },
    /// The prompt ended well.
    ExecutionSuccess {
        /// The prompt.
        prompt_id: Arc<str>,
        /// Milliseconds since the epoch.
        timestamp: u64,
    },
    /// A node failed, and with it the prompt (or, for a blocker, its branch).
    ExecutionError(Arc<ExecutionError>),
    /// The prompt was interrupted.
    ExecutionInterrupted {
        /// The prompt.
        prompt_id: Arc<str>,
        /// The node that was running.
        node_id: Arc<str>,
        /// Its class.
        node_type: Arc<str>,
        /// Nodes that had ended.
        executed: Vec<Arc<str>>,
        /// Milliseconds since the epoch.
        timestamp: u64,
    },
    /// Log lines, for subscribed clients.
    Logs {
        /// Lines with their times.
        entries: Vec<LogEntry>,
    },
    /// What a custom node sends.
    Custom {
        /// The event's name.
        name: Arc<str>,
        /// Its data, as the node gave it.
        data: Arc<Value>,
    },
    /// A binary frame.
    Binary(BinaryFrame),
}

/// The data of `execution_error`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutionError {
    /// The prompt.
    pub prompt_id: Arc<str>,
    /// The node that failed.
    pub node_id: Arc<str>,
    /// Its class.
    pub node_type: Arc<str>,
    /// Nodes that had ended.
    pub executed: Vec<Arc<str>>,
    /// The message; ends with a newline.
    pub exception_message: String,
    /// Dotted type name, such as `ValueError`.
    pub exception_type: String,
    /// One string a frame.
    pub traceback: Vec<String>,
    /// Inputs of the call that failed, each as the list of its values; large values as text.
    pub current_inputs: IndexMap<String, Vec<Value>>,
    /// Node ids that have outputs.
    pub current_outputs: Vec<Arc<str>>,
    /// Milliseconds since the epoch.
    pub timestamp: u64,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// ISO 8601 time.
    pub t: String,
    /// The text, with its newline.
    pub m: String,
}

impl Event {
    /// The `type` of the text frame, or `None` for a binary event.
    pub fn name(&self) -> Option<&str> {
        Some(match self {
            Event::Status { .. } => "status",
            Event::ExecutionStart { .. } => "execution_start",
            Event::ExecutionCached { .. } => "execution_cached",
            Event::Executing { .. } | Event::ExecutingDone { .. } => "executing",
            Event::ProgressState { .. } => "progress_state",
            Event::Progress { .. } => "progress",
            Event::Executed { .. } => "executed",
            Event::ExecutionSuccess { .. } => "execution_success",
            Event::ExecutionError(_) => "execution_error",
            Event::ExecutionInterrupted { .. } => "execution_interrupted",
            Event::Logs { .. } => "logs",
            Event::Custom { name, .. } => name,
            Event::Binary(_) => return None,
        })
    }
}

impl Event {
    /// The text frame `{"type":…,"data":…}`, or `None` for a binary event.
    ///
    /// `data` keys come in upstream's order; `status` carries no `sid` (only the frame on connect does,
    /// see [`connect_status`]).
    pub fn to_text(&self) -> Option<String> {
        let frame = TextFrame { name: self.name()?, data: Data(self) };
        // Maps with text keys and numbers that JSON has: nothing that can fail to be written.
        serde_json::to_string(&frame).ok()
    }

    /// The `data` of the text frame, which is also what history keeps of it; `null` for a binary event.
    pub fn data(&self) -> Value {
        serde_json::to_value(Data(self)).unwrap_or_default()
    }
}

/// The first frame of a connection: `status` with the session's id.
pub fn connect_status(queue_remaining: usize, sid: &str) -> String {
    let status = Status::new(queue_remaining, Some(sid));
    serde_json::json!({ "type": "status", "data": status }).to_string()
}
