//! Python objects to JSON and back, by the rules of Python's `json` module.

use pyo3::exceptions::{PyRecursionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// Deeper values are refused, as a cycle would be.
const MAX_DEPTH: usize = 200;

/// The JSON form of a Python object. NaN and infinities, which JSON cannot hold, become `null`.
///
/// # Errors
/// `TypeError` for what JSON cannot hold, naming the type; `RecursionError` for a cycle.
pub fn to_json(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    convert(object, 0)
}

fn convert(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(PyRecursionError::new_err("the value is nested too deeply to be sent as JSON"));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(text_of(text)));
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if let Ok(int) = object.cast::<PyInt>() {
        return Ok(Value::Number(int_number(int)));
    }
    if let Ok(float) = object.cast::<PyFloat>() {
        return Ok(Number::from_f64(float.value()).map_or(Value::Null, Value::Number));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let mut map = Map::new();
        for (key, value) in dict.iter() {
            map.insert(key_of(&key)?, convert(&value, depth + 1)?);
        }
        return Ok(Value::Object(map));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        return object
            .try_iter()?
            .map(|item| convert(&item?, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::Array);
    }
    Err(PyTypeError::new_err(format!(
        "Object of type {} is not JSON serializable",
        object.get_type().name()?.to_string_lossy()
    )))
}

/// The text of a Python string; lone surrogates become U+FFFD.
pub fn text_of(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().into_owned()
}

fn int_number(int: &Bound<'_, PyInt>) -> Number {
    if let Ok(value) = int.extract::<i64>() {
        value.into()
    } else if let Ok(value) = int.extract::<u64>() {
        value.into()
    } else {
        // Beyond 64 bits JSON readers see a float anyway.
        int.extract::<f64>().ok().and_then(Number::from_f64).unwrap_or_else(|| 0.into())
    }
}

fn key_of(key: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(text_of(text));
    }
    match convert(key, MAX_DEPTH)? {
        Value::Null => Ok("null".into()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(PyTypeError::new_err("keys must be str, int, float, bool or None")),
    }
}

/// The Python form of JSON.
///
/// # Errors
/// Only when Python is out of memory.
pub fn to_python<'py>(py: Python<'py>, json: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match json {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Number(number) => {
            if let Some(value) = number.as_i64() {
                value.into_pyobject(py)?.into_any()
            } else if let Some(value) = number.as_u64() {
                value.into_pyobject(py)?.into_any()
            } else {
                PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any()
            }
        }
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(map) => {
            let dict = PyDict::new(py);
            for (key, value) in map {
                dict.set_item(key, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}
