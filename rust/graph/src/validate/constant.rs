//! Conversion, range and list checks of one constant.

use rushlight_protocol::InputError;
use serde_json::Value;

use super::errors;
use crate::prompt::Input;
use crate::python::{self, PyNumber};
use crate::schema::{InputSpec, InputType};

/// Converts a constant to its input's type by Python's rules; `None` when the type asks for no conversion.
///
/// # Errors
/// The text of Python's exception.
pub(super) fn convert(spec: &InputSpec, value: &Value) -> Result<Option<Input>, String> {
    let InputType::Named(ty) = &spec.ty else { return Ok(None) };
    Ok(Some(match ty.as_ref() {
        "INT" => number(PyNumber::Int(python::to_int(value)?)),
        "FLOAT" => number(PyNumber::Float(python::to_float(value)?)),
        "STRING" => Input::Constant(Value::String(python::to_str(value))),
        "BOOLEAN" => Input::Constant(Value::Bool(python::to_bool(value))),
        _ => return Ok(None),
    }))
}

fn number(number: PyNumber) -> Input {
    match (number.to_json(), number) {
        (Some(json), _) => Input::Constant(Value::Number(json)),
        (None, PyNumber::Float(float)) => Input::NonFinite(float),
        // Integers always have a JSON number, if need be a rounded one.
        (None, PyNumber::Int(int)) => Input::NonFinite(int as f64),
    }
}

/// The conversion, as a fault of the node if it fails.
pub(super) fn convert_or_fault(spec: &InputSpec, value: &Value) -> Result<Option<Input>, InputError> {
    convert(spec, value).map_err(|reason| {
        let ty = spec.ty.to_json();
        errors::invalid_input_type(spec, &python::to_str(&ty), value, &reason)
    })
}

/// Checks a converted constant against `min`, `max` and the list of choices.
pub(super) fn check(spec: &InputSpec, input: &Input) -> Option<InputError> {
    let value = match input {
        Input::Constant(value) => value,
        Input::NonFinite(float) => return check_range(spec, PyNumber::Float(*float)),
        Input::Link(_) => return None,
    };
    if let Value::Number(number) = value
        && let Some(fault) = check_range(spec, typed_number(spec, number))
    {
        return Some(fault);
    }
    let choices = choices(spec)?;
    let listed = |value: &Value| choices.iter().any(|choice| python::equal(choice, value));
    let accepted = match value {
        Value::Array(picked) if is_multiselect(spec) => picked.iter().all(listed),
        single => listed(single),
    };
    (!accepted).then(|| errors::value_not_in_list(spec, value, choices))
}

/// The number as its input's type has it: JSON holds an integer beyond 64 bits as a float.
fn typed_number(spec: &InputSpec, number: &serde_json::Number) -> PyNumber {
    match (&spec.ty, PyNumber::from_json(number)) {
        (InputType::Named(ty), PyNumber::Float(float)) if ty.as_ref() == "INT" => {
            PyNumber::Int(float as i128)
        }
        (_, number) => number,
    }
}

fn check_range(spec: &InputSpec, value: PyNumber) -> Option<InputError> {
    let bound = |key| match spec.options.get(key) {
        Some(Value::Number(number)) => Some(PyNumber::from_json(number)),
        _ => None,
    };
    if let Some(min) = bound("min").filter(|&min| value.less_than(min)) {
        return Some(errors::value_smaller_than_min(spec, value, min));
    }
    let max = bound("max").filter(|&max| max.less_than(value))?;
    Some(errors::value_bigger_than_max(spec, value, max))
}

/// The choices of a combo of either form; `None` for other types and for lists that the frontend fetches.
fn choices(spec: &InputSpec) -> Option<&[Value]> {
    match &spec.ty {
        InputType::Choices(items) => Some(items),
        InputType::Named(ty) if ty.as_ref() == "COMBO" && !spec.options.contains_key("remote") => {
            spec.options.get("options").and_then(Value::as_array).map(Vec::as_slice)
        }
        InputType::Named(_) => None,
    }
}

fn is_multiselect(spec: &InputSpec) -> bool {
    spec.options.get("multiselect").and_then(Value::as_bool).unwrap_or(false)
        || spec.options.contains_key("multi_select")
}
