//! The text frame of an event, written straight from the event: with many events a second, building a JSON tree
//! first would be most of their cost.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Number, Value};

use crate::event::Event;

/// `{"type":…,"data":…}`.
#[derive(serde::Serialize)]
pub(crate) struct TextFrame<'a> {
    #[serde(rename = "type")]
    pub(crate) name: &'a str,
    pub(crate) data: Data<'a>,
}

/// The `data` of an event, keys in upstream's order; `null` for a binary event.
pub(crate) struct Data<'a>(pub(crate) &'a Event);

/// The `data` of `status`.
#[derive(serde::Serialize)]
pub(crate) struct Status<'a> {
    status: ExecInfo,
    /// Only in a connection's first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

#[derive(serde::Serialize)]
struct ExecInfo {
    exec_info: Remaining,
}

#[derive(serde::Serialize)]
struct Remaining {
    queue_remaining: usize,
}

impl<'a> Status<'a> {
    pub(crate) fn new(queue_remaining: usize, sid: Option<&'a str>) -> Self {
        Self { status: ExecInfo { exec_info: Remaining { queue_remaining } }, sid }
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// A map of these entries.
        macro_rules! map {
            ($($key:literal: $value:expr),* $(,)?) => {{
                let mut map = serializer.serialize_map(None)?;
                $(map.serialize_entry($key, $value)?;)*
                map.end()
            }};
        }
        match self.0 {
            Event::Status { queue_remaining } => Status::new(*queue_remaining, None).serialize(serializer),
            Event::ExecutionStart { prompt_id, timestamp }
            | Event::ExecutionSuccess { prompt_id, timestamp } => {
                map! { "prompt_id": prompt_id, "timestamp": timestamp }
            }
            Event::ExecutionCached { nodes, prompt_id, timestamp } => {
                map! { "nodes": nodes, "prompt_id": prompt_id, "timestamp": timestamp }
            }
            Event::Executing { node, display_node, prompt_id } => {
                map! { "node": node, "display_node": display_node, "prompt_id": prompt_id }
            }
            Event::ExecutingDone { prompt_id } => map! { "node": &(), "prompt_id": prompt_id },
            Event::ProgressState { prompt_id, nodes } => map! { "prompt_id": prompt_id, "nodes": nodes },
            Event::Progress { value, max, prompt_id, node } => {
                let (value, max): (&Number, &Number) = (value, max);
                map! { "value": value, "max": max, "prompt_id": prompt_id, "node": node }
            }
            Event::Executed { node, display_node, output, prompt_id } => {
                let output: &Value = output;
                map! { "node": node, "display_node": display_node, "output": output, "prompt_id": prompt_id }
            }
            Event::ExecutionError(error) => error.serialize(serializer),
            Event::ExecutionInterrupted { prompt_id, node_id, node_type, executed, timestamp } => map! {
                "prompt_id": prompt_id, "node_id": node_id, "node_type": node_type, "executed": executed,
                "timestamp": timestamp,
            },
            Event::Logs { entries } => map! { "entries": entries, "size": &() },
            Event::Custom { data, .. } => data.serialize(serializer),
            Event::Binary(_) => serializer.serialize_unit(),
        }
    }
}
