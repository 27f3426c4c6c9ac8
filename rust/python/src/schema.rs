//! The description of a node class that the Python package makes, read into a [`NodeSchema`].

use std::sync::Arc;

use rushlight_graph::{InputSpec, InputType, NodeSchema, OutputSpec, Presence};
use serde_json::{Map, Value};

/// Reads a description: an object with the fields of [`NodeSchema`] under their names.
///
/// `extra` may hold `input`, `input_order` and `output`: they replace what the typed fields would give in
/// `/object_info`, so that clients see a class exactly as it declares itself.
pub fn from_description(description: &Value) -> NodeSchema {
    let text = |key: &str| -> Arc<str> { description.get(key).and_then(Value::as_str).unwrap_or("").into() };
    let flag = |key: &str| description.get(key).and_then(Value::as_bool).unwrap_or(false);
    let list = |key: &str| description.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    NodeSchema {
        name: text("name"),
        display_name: text("display_name"),
        category: text("category"),
        description: text("description"),
        python_module: text("python_module"),
        inputs: list("inputs").iter().map(input).collect(),
        outputs: list("outputs").iter().map(output).collect(),
        output_node: flag("output_node"),
        input_is_list: flag("input_is_list"),
        not_idempotent: flag("not_idempotent"),
        accepts_any_input: flag("accepts_any_input"),
        extra: description.get("extra").and_then(Value::as_object).cloned().unwrap_or_default(),
    }
}

fn input(entry: &Value) -> InputSpec {
    let presence = match entry.get("presence").and_then(Value::as_str) {
        Some("optional") => Presence::Optional,
        Some("hidden") => Presence::Hidden,
        _ => Presence::Required,
    };
    InputSpec {
        presence,
        ty: socket_type(entry.get("type")),
        options: entry.get("options").and_then(Value::as_object).cloned().unwrap_or_else(Map::new),
        ..InputSpec::new(entry.get("name").and_then(Value::as_str).unwrap_or(""), "*")
    }
}

fn output(entry: &Value) -> OutputSpec {
    OutputSpec {
        ty: socket_type(entry.get("type")),
        name: entry.get("name").and_then(Value::as_str).unwrap_or("").into(),
        is_list: entry.get("is_list").and_then(Value::as_bool).unwrap_or(false),
        tooltip: entry.get("tooltip").and_then(Value::as_str).map(Into::into),
    }
}

fn socket_type(value: Option<&Value>) -> InputType {
    match value {
        Some(Value::String(name)) => InputType::Named(name.as_str().into()),
        Some(Value::Array(choices)) => InputType::Choices(choices.clone().into()),
        _ => InputType::Named("*".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_description_becomes_a_schema() {
        let schema = from_description(&json!({
            "name": "Blend", "display_name": "Blend!", "category": "image", "python_module": "custom_nodes.pack",
            "inputs": [
                {"name": "image", "presence": "required", "type": "IMAGE", "options": {}},
                {"name": "mode", "presence": "optional", "type": ["a", "b"], "options": {"default": "b"}},
                {"name": "id", "presence": "hidden", "type": "UNIQUE_ID"},
            ],
            "outputs": [{"type": "IMAGE", "name": "out", "is_list": true}],
            "output_node": true, "extra": {"deprecated": true},
        }));
        assert!(schema.wants_hidden("UNIQUE_ID"));
        let info = schema.to_object_info();
        assert_eq!(info["input"]["optional"]["mode"], json!([["a", "b"], {"default": "b"}]));
        assert_eq!(info["output_is_list"], json!([true]));
        assert_eq!(info["deprecated"], json!(true));
    }

    #[test]
    fn a_class_may_say_itself_how_object_info_shows_it() {
        let schema = from_description(&json!({
            "name": "N", "inputs": [{"name": "x", "type": "*"}], "outputs": [],
            "extra": {"input": {"required": {"x": [{}]}}},
        }));
        assert_eq!(schema.to_object_info()["input"], json!({"required": {"x": [{}]}}));
    }
}
