//! Values on links, as Python objects and back.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use rushlight_diffusion::conditioning::Conditioning;
use rushlight_runtime::{Audio, Blocker, DynPrompt, Foreign, Latent, NodeError, Object, Value};
use serde_json::Map;

use crate::dynprompt::PyDynamicPrompt;
use crate::{conditioning, dlpack, error, json};

/// A Python object on a link; released with the interpreter attached.
pub struct PyValue(Option<Py<PyAny>>);

impl PyValue {
    /// Keeps an object.
    pub fn new(object: Py<PyAny>) -> Self {
        Self(Some(object))
    }

    /// The object.
    pub fn bind<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.as_ref().map(|object| object.bind(py).clone())
    }
}

impl Drop for PyValue {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            // An interpreter that is gone has released everything already.
            let _ = Python::try_attach(move |_| drop(object));
        }
    }
}

impl Foreign for PyValue {
    fn to_native(&self, wanted: &str, device: &Device) -> Result<Option<Value>, NodeError> {
        let made = Python::try_attach(|py| match self.bind(py) {
            Some(object) => to_native(&object, wanted, device),
            None => Ok(None),
        });
        made.unwrap_or(Ok(None))
    }
}

/// What a native node gets for a Python object that stayed one, on an input of type `wanted`; `None` for types that
/// are no value of both engines.
fn to_native(object: &Bound<'_, PyAny>, wanted: &str, device: &Device) -> Result<Option<Value>, NodeError> {
    let raised = |raised: PyErr| error::node_error(object.py(), raised);
    let plain = match wanted {
        "CONDITIONING" => return conditioning::from_python(object, device).map(Some),
        "PROMPT" | "EXTRA_PNGINFO" => return json::to_json(object).map(|it| Some(it.into())).map_err(raised),
        // Numbers of NumPy and the like.
        "INT" => {
            object.extract::<i128>().or_else(|_| object.call_method0("__int__")?.extract()).map(Value::Int)
        }
        "FLOAT" => object.extract().map(Value::Float),
        "BOOLEAN" => object.is_truthy().map(Value::Bool),
        "STRING" | "COMBO" => object.extract::<String>().map(|text| Value::String(text.into())),
        "MASK" if is_tensor(object).map_err(raised)? && rank(object).map_err(raised)? == 2 => {
            let mask = read_tensor(object, device).map_err(raised)?;
            return Ok(Some(Value::Mask(mask.unsqueeze(0)?)));
        }
        "IMAGE" | "MASK" | "SIGMAS" | "LATENT" | "AUDIO" => {
            match from_python(object, wanted, &Memo::new(device)).map_err(raised)? {
                Value::Object(_) => return Err(no_native_form(object, wanted)),
                value => return Ok(Some(value)),
            }
        }
        _ => return Ok(None),
    };
    plain.map(Some).map_err(|_| no_native_form(object, wanted))
}

/// Says why a Python object is no value of a type for native nodes.
fn no_native_form(object: &Bound<'_, PyAny>, wanted: &str) -> NodeError {
    let text = |made: PyResult<Bound<'_, PyAny>>| {
        made.and_then(|it| it.str()).map(|it| it.to_string_lossy().into_owned()).ok()
    };
    let kind = text(object.get_type().name().map(Bound::into_any)).unwrap_or_else(|| "object".into());
    let details = if let Ok(dict) = object.cast::<PyDict>() {
        let keys = dict.iter().filter_map(|(key, value)| {
            let kind = text(value.get_type().name().map(Bound::into_any))?;
            Some(format!("'{}': {kind}", text(Ok(key))?))
        });
        format!(" with {{{}}}", keys.collect::<Vec<_>>().join(", "))
    } else {
        let shape = text(object.getattr("shape"));
        shape.map(|shape| format!(" of shape {shape}")).unwrap_or_default()
    };
    NodeError::new(
        "TypeError",
        format!("must be {wanted} as the native engine knows it, got a {kind}{details} from Python"),
    )
}

fn rank(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    object.getattr("shape")?.len()
}

/// A value of the native engine (a model, a sampler, …) in Python's hands: opaque, but it may travel on.
#[pyclass(frozen, module = "rushlight._rushlight")]
pub struct NativeValue {
    value: Value,
}

impl NativeValue {
    /// Wraps a value.
    pub fn new(value: Value) -> Self {
        Self { value }
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

#[pymethods]
impl NativeValue {
    /// Socket type, such as `MODEL`.
    #[getter]
    fn kind(&self) -> &str {
        self.value.kind()
    }

    fn __repr__(&self) -> String {
        format!("<native {}>", self.value.kind())
    }

    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        py.import("rushlight.host.errors")?
            .call_method1("native_attribute", (self.value.kind(), name))
            .map(Bound::unbind)
    }
}

/// What one call was given: an object that comes back unchanged is the same value again.
pub struct Memo {
    known: Vec<(Py<PyAny>, Value)>,
    /// Where the engine's tensors live.
    device: Device,
}

impl Memo {
    /// Of a call that was given nothing; tensors that it gives go to `device`.
    pub fn new(device: &Device) -> Self {
        Self { known: Vec::new(), device: device.clone() }
    }

    fn find(&self, object: &Bound<'_, PyAny>) -> Option<&Value> {
        self.known.iter().find(|(known, _)| known.as_ptr() == object.as_ptr()).map(|(_, value)| value)
    }

    fn remember(&mut self, object: &Bound<'_, PyAny>, value: &Value) {
        self.known.push((object.clone().unbind(), value.clone()));
    }
}

/// A tensor in Python's hands.
///
/// # Errors
/// When Python refuses it.
pub fn tensor_to_python<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let view = Bound::new(py, dlpack::TensorView::new(tensor)?)?;
    py.import("rushlight.host.tensors")?.call_method1("from_view", (view,))
}

/// The Python form of a value.
///
/// # Errors
/// When Python refuses a tensor.
pub fn to_python<'py>(py: Python<'py>, value: &Value, memo: &mut Memo) -> PyResult<Bound<'py, PyAny>> {
    let object = match value {
        Value::None => return Ok(py.None().into_bound(py)),
        Value::Bool(flag) => return Ok(PyBool::new(py, *flag).to_owned().into_any()),
        Value::Int(int) => return Ok(int.into_pyobject(py)?.into_any()),
        Value::Float(float) => return Ok(PyFloat::new(py, *float).into_any()),
        Value::String(text) => return Ok(PyString::new(py, text).into_any()),
        Value::Json(value) => return json::to_python(py, value),
        Value::Image(tensor) | Value::Mask(tensor) | Value::Sigmas(tensor) => tensor_to_python(py, tensor)?,
        Value::Latent(latent) => latent_to_python(py, latent)?,
        Value::Audio(audio) => {
            let dict = PyDict::new(py);
            dict.set_item("waveform", tensor_to_python(py, &audio.waveform)?)?;
            dict.set_item("sample_rate", audio.sample_rate)?;
            dict.into_any()
        }
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items.iter() {
                list.append(to_python(py, item, memo)?)?;
            }
            return Ok(list.into_any());
        }
        Value::Object(object) => match object.get::<PyValue>().and_then(|inner| inner.bind(py)) {
            Some(object) => object,
            None => return native_to_python(py, object, value),
        },
        Value::Blocker(blocker) => {
            py.import("rushlight.host.errors")?.call_method1("blocker", (blocker.message.as_deref(),))?
        }
    };
    memo.remember(&object, value);
    Ok(object)
}

fn native_to_python<'py>(py: Python<'py>, object: &Object, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    if let Some(prompt) = object.get::<DynPrompt>() {
        return Ok(Bound::new(py, PyDynamicPrompt::new(prompt.clone()))?.into_any());
    }
    // Nodes change conditioning in place, so it is not taken to be the same again.
    if let Some(conditioning) = object.get::<Conditioning>() {
        return conditioning::to_python(py, conditioning);
    }
    Ok(Bound::new(py, NativeValue::new(value.clone()))?.into_any())
}

fn latent_to_python<'py>(py: Python<'py>, latent: &Latent) -> PyResult<Bound<'py, PyAny>> {
    let dict = PyDict::new(py);
    dict.set_item("samples", tensor_to_python(py, &latent.samples)?)?;
    if let Some(mask) = &latent.noise_mask {
        dict.set_item("noise_mask", tensor_to_python(py, mask)?)?;
    }
    if let Some(index) = &latent.batch_index {
        dict.set_item("batch_index", index)?;
    }
    for (key, value) in &latent.extra {
        dict.set_item(key, json::to_python(py, value)?)?;
    }
    Ok(dict.into_any())
}

/// The value of a Python object on an output whose declared type is `ty`.
///
/// Tensors that fit their declared type cross. Whatever does not fit a native type, and CONDITIONING, stays a Python
/// object: other Python nodes get that very object, native ones what [`Foreign::to_native`] makes of it.
///
/// # Errors
/// When a tensor cannot be read.
pub fn from_python(object: &Bound<'_, PyAny>, ty: &str, memo: &Memo) -> PyResult<Value> {
    if object.is_none() {
        return Ok(Value::None);
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if let Ok(int) = object.cast_exact::<PyInt>() {
        return Ok(int.extract::<i128>().map_or_else(|_| opaque(object, ty), Value::Int));
    }
    if let Ok(float) = object.cast_exact::<PyFloat>() {
        return Ok(Value::Float(float.value()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(json::text_of(text).into()));
    }
    if let Ok(native) = object.cast::<NativeValue>() {
        return Ok(native.get().value().clone());
    }
    if let Some(value) = memo.find(object) {
        // A dict may have been changed in place, so only tensors and opaque values are the same again.
        if !matches!(value, Value::Latent(_) | Value::Audio(_)) {
            return Ok(value.clone());
        }
    }
    if let Some(message) = blocker_message(object)? {
        return Ok(Value::Blocker(Arc::new(Blocker { message })));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        if let Some(value) = dict_value(dict, ty, &memo.device)? {
            return Ok(value);
        }
    } else if is_tensor(object)?
        && let Some(value) = tensor_value(object, ty, &memo.device)?
    {
        return Ok(value);
    }
    Ok(opaque(object, ty))
}

/// Whether an object is a tensor that can cross.
///
/// # Errors
/// What its class raises when it is looked at.
pub fn is_tensor(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.py().import("rushlight.host.tensors")?.call_method1("is_tensor", (object,))?.is_truthy()
}

fn opaque(object: &Bound<'_, PyAny>, ty: &str) -> Value {
    Value::Object(Object::foreign(ty, PyValue::new(object.clone().unbind())))
}

fn blocker_message(object: &Bound<'_, PyAny>) -> PyResult<Option<Option<String>>> {
    if object.get_type().name()?.to_string_lossy() != "ExecutionBlocker" {
        return Ok(None);
    }
    let message = object.getattr("message")?;
    Ok(Some(if message.is_none() { None } else { Some(message.str()?.to_string_lossy().into_owned()) }))
}

/// A Python tensor in the engine's hands, as contiguous `f32`.
///
/// # Errors
/// When it cannot be read.
pub fn read_tensor(object: &Bound<'_, PyAny>, device: &Device) -> PyResult<Tensor> {
    let capsule = object.py().import("rushlight.host.tensors")?.call_method1("to_capsule", (object,))?;
    let tensor = dlpack::as_f32(dlpack::take(&capsule)?)?;
    tensor.to_device(device).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

fn tensor_value(object: &Bound<'_, PyAny>, ty: &str, device: &Device) -> PyResult<Option<Value>> {
    let kind = match (ty, rank(object)?) {
        ("IMAGE", 4) => Value::Image,
        // Nodes give masks as `[H, W]`, too; only the batched form is what native nodes take.
        ("MASK", 3) => Value::Mask,
        ("SIGMAS", 1) => Value::Sigmas,
        _ => return Ok(None),
    };
    Ok(Some(kind(read_tensor(object, device)?)))
}

fn dict_value(dict: &Bound<'_, PyDict>, ty: &str, device: &Device) -> PyResult<Option<Value>> {
    match ty {
        "LATENT" => {
            let Some(samples) = dict.get_item("samples")? else { return Ok(None) };
            if !is_tensor(&samples)? {
                return Ok(None);
            }
            let mut latent = Latent::new(read_tensor(&samples, device)?);
            let mut extra = Map::new();
            for (key, value) in dict.iter() {
                let Ok(key) = key.cast::<PyString>() else { return Ok(None) };
                match json::text_of(key).as_str() {
                    "samples" => {}
                    "noise_mask" if is_tensor(&value)? => {
                        latent.noise_mask = Some(read_tensor(&value, device)?)
                    }
                    "noise_mask" if value.is_none() => {}
                    "batch_index" => match value.extract() {
                        Ok(index) => latent.batch_index = Some(index),
                        Err(_) => return Ok(None),
                    },
                    other => match json::to_json(&value) {
                        Ok(value) => drop(extra.insert(other.into(), value)),
                        Err(_) => return Ok(None),
                    },
                }
            }
            latent.extra = extra;
            Ok(Some(Value::latent(latent)))
        }
        "AUDIO" if dict.len() == 2 => {
            let (Some(waveform), Some(rate)) = (dict.get_item("waveform")?, dict.get_item("sample_rate")?)
            else {
                return Ok(None);
            };
            if !is_tensor(&waveform)? || waveform.getattr("shape")?.len()? != 3 {
                return Ok(None);
            }
            let Ok(sample_rate) = rate.extract() else { return Ok(None) };
            Ok(Some(Value::Audio(Arc::new(Audio { waveform: read_tensor(&waveform, device)?, sample_rate }))))
        }
        _ => Ok(None),
    }
}

/// The value of an output that gives a list: each item converted on its own.
///
/// # Errors
/// `TypeError` when it is no list.
pub fn list_from_python(object: &Bound<'_, PyAny>, ty: &str, memo: &Memo) -> PyResult<Value> {
    if blocker_message(object)?.is_some() {
        return from_python(object, ty, memo);
    }
    if let Some(Value::List(items)) = memo.find(object) {
        return Ok(Value::List(items.clone()));
    }
    if !object.is_instance_of::<PyList>() && !object.is_instance_of::<PyTuple>() {
        // Any iterable counts, as extending a list by it would.
        let items =
            object.try_iter()?.map(|item| from_python(&item?, ty, memo)).collect::<PyResult<Vec<_>>>()?;
        return Ok(Value::List(Arc::new(items)));
    }
    let items = object.try_iter()?.map(|item| from_python(&item?, ty, memo)).collect::<PyResult<Vec<_>>>()?;
    Ok(Value::List(Arc::new(items)))
}
