//! Errors as clients see them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;
use rushlight_graph::python;
use rushlight_protocol::event::ExecutionError;
use serde_json::{Number, Value as Json};

use super::inputs::InputLists;
use crate::value::Value;

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// A node's failure, before it is known which node it was.
pub(super) struct Failure {
    pub(super) exception_type: String,
    pub(super) message: String,
    pub(super) traceback: Vec<String>,
    pub(super) inputs: IndexMap<String, Vec<Json>>,
}

impl Failure {
    pub(super) fn new(exception_type: &str, message: impl Into<String>) -> Self {
        Self {
            exception_type: exception_type.into(),
            message: message.into(),
            traceback: Vec::new(),
            inputs: IndexMap::new(),
        }
    }

    /// The event's message: ends with a newline, and says what to do when memory ran out.
    fn full_message(&self) -> String {
        let mut message = self.message.clone();
        if !message.ends_with('\n') {
            message.push('\n');
        }
        if self.exception_type.contains("OutOfMemoryError") || self.exception_type == "MemoryError" {
            message.push_str(
                "The device ran out of memory. Try a smaller picture or batch, close other programs that use the \
                 device, or start the server with --lowvram.\n",
            );
        }
        message
    }
}

/// Whose error it is and how far the run had come.
pub(super) struct ErrorPlace {
    pub(super) prompt_id: Arc<str>,
    pub(super) node_id: Arc<str>,
    pub(super) node_type: Arc<str>,
    pub(super) executed: Vec<Arc<str>>,
    pub(super) current_outputs: Vec<Arc<str>>,
}

/// The data of `execution_error`.
pub(super) fn execution_error(place: ErrorPlace, failure: &Failure) -> ExecutionError {
    ExecutionError {
        prompt_id: place.prompt_id,
        node_id: place.node_id,
        node_type: place.node_type,
        executed: place.executed,
        exception_message: failure.full_message(),
        exception_type: failure.exception_type.clone(),
        traceback: failure.traceback.clone(),
        current_inputs: failure.inputs.clone(),
        current_outputs: place.current_outputs,
        timestamp: now_ms(),
    }
}

/// The data of the error that tells a blocker's message; the run goes on.
pub(super) fn blocked_error(place: ErrorPlace, message: &str) -> ExecutionError {
    ExecutionError {
        prompt_id: place.prompt_id,
        node_id: place.node_id,
        node_type: place.node_type,
        executed: place.executed,
        exception_message: format!("Execution Blocked: {message}"),
        exception_type: "ExecutionBlocked".into(),
        traceback: Vec::new(),
        current_inputs: IndexMap::new(),
        current_outputs: Vec::new(),
        timestamp: now_ms(),
    }
}

/// Inputs for an error: scalars as they are, everything else as text.
pub(super) fn describe_inputs(lists: &InputLists) -> IndexMap<String, Vec<Json>> {
    lists.iter().map(|(name, values)| (name.to_string(), values.iter().map(describe).collect())).collect()
}

fn describe(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(int) => match (i64::try_from(*int), u64::try_from(*int)) {
            (Ok(int), _) => int.into(),
            (_, Ok(int)) => int.into(),
            _ => int.to_string().into(),
        },
        Value::Float(float) => {
            Number::from_f64(*float).map_or_else(|| Json::from(python::float_repr(*float)), Json::Number)
        }
        Value::String(text) => text.as_ref().into(),
        Value::Json(json) => python::to_str(json).into(),
        Value::Image(tensor) | Value::Mask(tensor) | Value::Sigmas(tensor) => {
            format!("<{} {:?} {}>", value.kind(), tensor.dims(), tensor.dtype().as_str()).into()
        }
        Value::Latent(latent) => format!("<LATENT {:?}>", latent.samples.dims()).into(),
        Value::Audio(audio) => {
            format!("<AUDIO {:?}, {} Hz>", audio.waveform.dims(), audio.sample_rate).into()
        }
        Value::List(items) => format!("<list of {}>", items.len()).into(),
        Value::Object(_) | Value::Blocker(_) => format!("<{}>", value.kind()).into(),
    }
}
