//! The wire form of each fault: type, message, details, extra_info.

use rushlight_protocol::InputError;
use serde_json::{Value, json};

use crate::python::{self, PyNumber};
use crate::schema::{InputSpec, InputType};

/// Choices that `value_not_in_list` writes out; longer lists are only counted.
const LISTED_CHOICES: usize = 20;

/// What Python would have raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exception {
    /// The exception's type name.
    pub(super) kind: &'static str,
    /// Its text.
    pub(super) text: String,
}

impl Exception {
    pub(super) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// The input through which a node is reached.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pub(super) input_name: String,
    pub(super) input_config: Value,
    pub(super) linked_node: Value,
}

pub(super) fn required_input_missing(name: &str) -> InputError {
    InputError::new("required_input_missing", "Required input is missing", name).with("input_name", name)
}

/// An error whose `extra_info` has the input's name, its config and the value that was sent.
fn received(kind: &str, message: String, details: String, spec: &InputSpec, value: &Value) -> InputError {
    InputError::new(kind, message, details)
        .with("input_name", spec.name.as_ref())
        .with("input_config", spec.config_pair_json())
        .with("received_value", value.clone())
}

pub(super) fn bad_linked_input(spec: &InputSpec, value: &Value) -> InputError {
    let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
    received("bad_linked_input", message.into(), spec.name.to_string(), spec, value)
}

pub(super) fn return_type_mismatch(spec: &InputSpec, output: &InputType, link: &Value) -> InputError {
    let received_type = output.to_json();
    let (given, wanted) = (python::to_str(&received_type), python::to_str(&spec.ty.to_json()));
    let details = format!("{}, received_type({given}) mismatch input_type({wanted})", spec.name);
    InputError::new("return_type_mismatch", "Return type mismatch between linked nodes", details)
        .with("input_name", spec.name.as_ref())
        .with("input_config", spec.config_pair_json())
        .with("received_type", received_type)
        .with("linked_node", link.clone())
}

pub(super) fn invalid_input_type(spec: &InputSpec, ty: &str, value: &Value, reason: &str) -> InputError {
    let message = format!("Failed to convert an input value to a {ty} value");
    let details = format!("{}, {}, {reason}", spec.name, python::to_str(value));
    received("invalid_input_type", message, details, spec, value).with("exception_message", reason)
}

pub(super) fn value_smaller_than_min(spec: &InputSpec, value: PyNumber, min: PyNumber) -> InputError {
    let message = format!("Value {} smaller than min of {}", value.repr(), min.repr());
    out_of_range("value_smaller_than_min", message, spec, value)
}

pub(super) fn value_bigger_than_max(spec: &InputSpec, value: PyNumber, max: PyNumber) -> InputError {
    let message = format!("Value {} bigger than max of {}", value.repr(), max.repr());
    out_of_range("value_bigger_than_max", message, spec, value)
}

fn out_of_range(kind: &str, message: String, spec: &InputSpec, value: PyNumber) -> InputError {
    // An infinity has no JSON number.
    let value = value.to_json().map_or_else(|| Value::from(value.repr()), Value::Number);
    received(kind, message, spec.name.to_string(), spec, &value)
}

pub(super) fn value_not_in_list(spec: &InputSpec, value: &Value, choices: &[Value]) -> InputError {
    let (list, config) = if choices.len() > LISTED_CHOICES {
        (format!("(list of length {})", choices.len()), Value::Null)
    } else {
        (python::to_str(&Value::Array(choices.to_vec())), spec.config_pair_json())
    };
    let details = format!("{}: '{}' not in {list}", spec.name, python::to_str(value));
    InputError::new("value_not_in_list", "Value not in list", details)
        .with("input_name", spec.name.as_ref())
        .with("input_config", config)
        .with("received_value", value.clone())
}

pub(super) fn custom_validation_failed(name: &str, text: &str) -> InputError {
    let details = match (name, text) {
        (name, "") => name.to_owned(),
        ("", text) => text.to_owned(),
        (name, text) => format!("{name} - {text}"),
    };
    InputError::new("custom_validation_failed", "Custom validation failed for node", details)
        .with("input_name", name)
}

pub(super) fn exception_during_validation(exception: &Exception) -> InputError {
    InputError::new("exception_during_validation", "Exception when validating node", exception.text.as_str())
        .with("exception_type", exception.kind)
        .with("traceback", json!([]))
}

pub(super) fn exception_during_inner_validation(exception: &Exception, via: &Via) -> InputError {
    let message = "Exception when validating inner node";
    InputError::new("exception_during_inner_validation", message, exception.text.as_str())
        .with("input_name", via.input_name.as_str())
        .with("input_config", via.input_config.clone())
        .with("exception_message", exception.text.as_str())
        .with("exception_type", exception.kind)
        .with("traceback", json!([]))
        .with("linked_node", via.linked_node.clone())
}
