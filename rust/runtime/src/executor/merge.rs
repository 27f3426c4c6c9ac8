//! Results of several calls as one: a list of values an output, one UI output.

use std::sync::Arc;

use rushlight_graph::NodeSchema;
use serde_json::{Map, Value as Json};

use crate::value::{Blocker, Value};

/// What one call contributes to one output.
pub(super) enum Part {
    /// A value, appended; if the output is a list, its members.
    Value(Value),
    /// Values of a node of an expansion, all appended.
    Values(Arc<Vec<Value>>),
}

/// Puts the outputs of all calls together. `calls` hold one part an output.
pub(super) fn merge_slots(schema: &NodeSchema, calls: Vec<Vec<Part>>) -> Vec<Arc<Vec<Value>>> {
    let width = calls.iter().map(Vec::len).max().unwrap_or(schema.outputs.len());
    let mut slots: Vec<Vec<Value>> = vec![Vec::new(); width];
    for call in calls {
        for (i, (slot, part)) in slots.iter_mut().zip(call).enumerate() {
            let is_list = schema.outputs.get(i).is_some_and(|output| output.is_list);
            match part {
                Part::Values(values) => slot.extend(values.iter().cloned()),
                Part::Value(Value::List(items)) if is_list => slot.extend(items.iter().cloned()),
                Part::Value(Value::Json(json)) if is_list && json.is_array() => {
                    slot.extend(json.as_array().into_iter().flatten().map(|item| Value::from(item.clone())));
                }
                Part::Value(value) => slot.push(value),
            }
        }
    }
    slots.into_iter().map(Arc::new).collect()
}

/// The outputs of a call that was blocked: a silent blocker each, for the message was told already.
pub(super) fn blocked_parts(schema: &NodeSchema) -> Vec<Part> {
    let blocker = Value::Blocker(Arc::new(Blocker { message: None }));
    schema.outputs.iter().map(|_| Part::Value(blocker.clone())).collect()
}

/// Puts the UI outputs of all calls together: each key's items one after the other.
pub(super) fn merge_ui(calls: impl IntoIterator<Item = Map<String, Json>>) -> Option<Json> {
    let mut merged: Option<Map<String, Json>> = None;
    for ui in calls {
        let merged = merged.get_or_insert_with(Map::new);
        for (key, items) in ui {
            let list = merged.entry(key).or_insert_with(|| Json::Array(Vec::new()));
            if let Json::Array(list) = list {
                list.extend(iterate(items));
            }
        }
    }
    merged.map(Json::Object)
}

/// What Python iterates over: a text gives its letters, an object its keys.
fn iterate(items: Json) -> Vec<Json> {
    match items {
        Json::Array(items) => items,
        Json::String(text) => text.chars().map(|c| c.to_string().into()).collect(),
        Json::Object(map) => map.into_iter().map(|(key, _)| key.into()).collect(),
        single => vec![single],
    }
}
