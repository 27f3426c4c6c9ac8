//! CONDITIONING as Python knows it: `[[tokens, {options}], …]`.
//!
//! What the engine made is written out with all its options under Python's names; control networks are opaque values.
//! What Python made stays a Python object, whatever is in it, until a native node takes it: then it is read, and an
//! option that the engine does not know is an error that names it. None is lost without a word.

use candle_core::{Device, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use rushlight_diffusion::conditioning::{
    Area, CondEntry, CondOptions, Conditioning, ControlApply, SizeConditioning,
};
use rushlight_diffusion::unclip::PictureCondition;
use rushlight_runtime::{NodeError, Value};

use crate::error;
use crate::value::{NativeValue, is_tensor, read_tensor, tensor_to_python};

/// Options that are read; the rest are errors.
const KNOWN: [&str; 23] = [
    "pooled_output",
    "area",
    "strength",
    "mask",
    "mask_strength",
    "set_area_to_bounds",
    "start_percent",
    "end_percent",
    "width",
    "height",
    "crop_w",
    "crop_h",
    "target_width",
    "target_height",
    "aesthetic_score",
    "guidance",
    "concat_latent_image",
    "concat_mask",
    "attention_mask",
    "reference_latents",
    "control",
    "control_apply_to_uncond",
    "unclip_conditioning",
];

/// The control networks of an entry, as Python carries them.
struct Controls(Vec<ControlApply>);

/// The pictures of an entry for unCLIP models, as Python carries them.
struct Pictures(Vec<PictureCondition>);

/// The Python form.
///
/// # Errors
/// When Python refuses a tensor.
pub fn to_python<'py>(py: Python<'py>, conditioning: &Conditioning) -> PyResult<Bound<'py, PyAny>> {
    let entries = PyList::empty(py);
    for entry in &conditioning.0 {
        let made = PyList::empty(py);
        made.append(tensor_to_python(py, &entry.cross_attn)?)?;
        made.append(options_to_python(py, entry)?)?;
        entries.append(made)?;
    }
    Ok(entries.into_any())
}

fn options_to_python<'py>(py: Python<'py>, entry: &CondEntry) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let options = &entry.options;
    let plain = CondOptions::default();
    let tensor = |key: &str, tensor: Option<&Tensor>| -> PyResult<()> {
        tensor.map_or(Ok(()), |tensor| dict.set_item(key, tensor_to_python(py, tensor)?))
    };
    tensor("pooled_output", entry.pooled.as_ref())?;
    match options.area {
        Some(Area::Latent { height, width, y, x }) => dict.set_item("area", (height, width, y, x))?,
        Some(Area::Percent { height, width, y, x }) => {
            dict.set_item("area", ("percentage", height, width, y, x))?
        }
        None => {}
    }
    if options.strength != plain.strength {
        dict.set_item("strength", options.strength)?;
    }
    tensor("mask", options.mask.as_ref())?;
    if options.mask.is_some() {
        dict.set_item("mask_strength", options.mask_strength)?;
        dict.set_item("set_area_to_bounds", options.set_area_to_bounds)?;
    }
    if (options.start_percent, options.end_percent) != (plain.start_percent, plain.end_percent) {
        dict.set_item("start_percent", options.start_percent)?;
        dict.set_item("end_percent", options.end_percent)?;
    }
    if let Some(size) = options.size {
        for (key, value) in [
            ("width", size.width),
            ("height", size.height),
            ("crop_w", size.crop_x),
            ("crop_h", size.crop_y),
            ("target_width", size.target_width),
            ("target_height", size.target_height),
        ] {
            dict.set_item(key, value)?;
        }
    }
    if let Some(score) = options.aesthetic_score {
        dict.set_item("aesthetic_score", score)?;
    }
    if let Some(guidance) = options.guidance {
        dict.set_item("guidance", guidance)?;
    }
    tensor("concat_latent_image", options.concat_latent.as_ref())?;
    tensor("concat_mask", options.concat_mask.as_ref())?;
    tensor("attention_mask", options.attention_mask.as_ref())?;
    if !options.reference_latents.is_empty() {
        let list = PyList::empty(py);
        for latent in &options.reference_latents {
            list.append(tensor_to_python(py, latent)?)?;
        }
        dict.set_item("reference_latents", list)?;
    }
    if !options.controls.is_empty() {
        let controls = Value::object("CONTROL", Controls(options.controls.clone()));
        dict.set_item("control", Bound::new(py, NativeValue::new(controls))?)?;
        dict.set_item("control_apply_to_uncond", options.control_apply_to_uncond)?;
    }
    if !options.pictures.is_empty() {
        let pictures = Value::object("UNCLIP_CONDITIONING", Pictures(options.pictures.clone()));
        dict.set_item("unclip_conditioning", Bound::new(py, NativeValue::new(pictures))?)?;
    }
    Ok(dict)
}

/// The engine's form of a Python object on an input of type `CONDITIONING`.
///
/// # Errors
/// Says what of it the engine does not understand.
pub fn from_python(object: &Bound<'_, PyAny>, device: &Device) -> Result<Value, NodeError> {
    let py = object.py();
    let read = |raised: PyErr| error::node_error(py, raised);
    if !object.is_instance_of::<PyList>() && !object.is_instance_of::<PyTuple>() {
        return Err(refused(format!("is no list of [tensor, options] but a {}", type_of(object))));
    }
    let mut entries = Vec::new();
    for (place, item) in object.try_iter().map_err(read)?.enumerate() {
        let entry = read_entry(&item.map_err(read)?, device);
        entries.push(entry.map_err(|error| in_entry(error, place))?);
    }
    Ok(Value::object("CONDITIONING", Conditioning(entries)))
}

fn refused(why: String) -> NodeError {
    NodeError::new("TypeError", format!("the CONDITIONING that Python made {why}"))
}

fn in_entry(error: NodeError, place: usize) -> NodeError {
    match error {
        NodeError::Failed { exception_type, message, traceback } => {
            NodeError::Failed { exception_type, message: format!("{message} (entry {place})"), traceback }
        }
        NodeError::Interrupted => NodeError::Interrupted,
    }
}

fn type_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string_lossy().into_owned())
}

fn read_entry(item: &Bound<'_, PyAny>, device: &Device) -> Result<CondEntry, NodeError> {
    let py = item.py();
    let raised = |raised: PyErr| error::node_error(py, raised);
    let pair = item.extract::<[Bound<'_, PyAny>; 2]>();
    let Some([tokens, options]) = pair.ok() else {
        return Err(refused("has an entry that is no [tensor, options]".into()));
    };
    let Ok(options) = options.cast::<PyDict>() else {
        return Err(refused("has an entry whose options are no dict".into()));
    };
    if !is_tensor(&tokens).map_err(raised)? {
        return Err(refused(format!("has a {} in place of its tokens", type_of(&tokens))));
    }
    let mut entry = CondEntry::new(read_tensor(&tokens, device).map_err(raised)?, None);
    for (key, value) in options.iter() {
        let key = key.str().map_err(raised)?.to_string_lossy().into_owned();
        if !KNOWN.contains(&key.as_str()) && !value.is_none() {
            return Err(refused(format!(
                "has the option '{key}' ({}), which the native engine does not know: remove it before this node, or start \
                 Rushlight inside a ComfyUI checkout (--comfyui-dir PATH) to run this node on ComfyUI's engine",
                type_of(&value)
            )));
        }
    }
    read_options(options, &mut entry, device)?;
    Ok(entry)
}

/// The options of one entry, by name.
struct Options<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    device: &'a Device,
}

impl<'py> Options<'_, 'py> {
    fn present(&self, key: &str) -> Option<Bound<'py, PyAny>> {
        self.dict.get_item(key).ok().flatten().filter(|value| !value.is_none())
    }

    fn read<T>(
        &self,
        key: &str,
        what: &str,
        read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> Result<Option<T>, NodeError> {
        let Some(value) = self.present(key) else { return Ok(None) };
        match read(&value) {
            Ok(made) => Ok(Some(made)),
            Err(_) => Err(refused(format!(
                "has a {} as option '{key}', where the native engine takes {what}",
                type_of(&value)
            ))),
        }
    }

    fn tensor(&self, key: &str) -> Result<Option<Tensor>, NodeError> {
        self.read(key, "a tensor", |value| {
            if is_tensor(value)? { read_tensor(value, self.device) } else { Err(not_so()) }
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, NodeError> {
        self.read(key, "a number", |value| value.extract())
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, NodeError> {
        self.read(key, "a truth value", |value| value.is_truthy())
    }
}

/// Only says that a value is of the wrong kind; what is told of it names the option.
fn not_so() -> PyErr {
    pyo3::exceptions::PyTypeError::new_err("wrong type")
}

fn read_area(area: &Bound<'_, PyAny>) -> PyResult<Area> {
    if let Ok((_, height, width, y, x)) = area.extract::<(String, f64, f64, f64, f64)>() {
        return Ok(Area::Percent { height, width, y, x });
    }
    let (height, width, y, x) = area.extract()?;
    Ok(Area::Latent { height, width, y, x })
}

/// What the engine put into an option as an opaque value, read by `read`.
fn read_native<K: Send + Sync + 'static, T>(
    value: &Bound<'_, PyAny>,
    read: impl FnOnce(&K) -> T,
) -> PyResult<T> {
    let native = value.cast::<NativeValue>().map_err(|_| not_so())?;
    match native.get().value() {
        Value::Object(object) => object.get::<K>().map(read).ok_or_else(not_so),
        _ => Err(not_so()),
    }
}

fn read_options(dict: &Bound<'_, PyDict>, entry: &mut CondEntry, device: &Device) -> Result<(), NodeError> {
    let given = Options { dict, device };
    entry.pooled = given.tensor("pooled_output")?;
    let options = &mut entry.options;
    options.area = given.read("area", "(height, width, y, x)", read_area)?;
    options.strength = given.number("strength")?.unwrap_or(1.0);
    options.mask = given.tensor("mask")?;
    options.mask_strength = given.number("mask_strength")?.unwrap_or(1.0);
    options.set_area_to_bounds = given.flag("set_area_to_bounds")?.unwrap_or(false);
    options.start_percent = given.number("start_percent")?.unwrap_or(0.0);
    options.end_percent = given.number("end_percent")?.unwrap_or(1.0);
    let (width, height) = (given.number("width")?, given.number("height")?);
    if let (Some(width), Some(height)) = (width, height) {
        options.size = Some(SizeConditioning {
            height,
            width,
            crop_y: given.number("crop_h")?.unwrap_or(0.0),
            crop_x: given.number("crop_w")?.unwrap_or(0.0),
            target_height: given.number("target_height")?.unwrap_or(height),
            target_width: given.number("target_width")?.unwrap_or(width),
        });
    }
    options.aesthetic_score = given.number("aesthetic_score")?;
    options.guidance = given.number("guidance")?;
    options.concat_latent = given.tensor("concat_latent_image")?;
    options.concat_mask = given.tensor("concat_mask")?;
    options.attention_mask = given.tensor("attention_mask")?;
    let latents = given.read("reference_latents", "a list of tensors", |value| {
        value.try_iter()?.map(|latent| read_tensor(&latent?, device)).collect::<PyResult<Vec<_>>>()
    })?;
    options.reference_latents = latents.unwrap_or_default();
    let controls = given.read("control", "control networks of its own", |value| {
        read_native(value, |controls: &Controls| controls.0.clone())
    })?;
    options.controls = controls.unwrap_or_default();
    let pictures = given.read("unclip_conditioning", "pictures of its own", |value| {
        read_native(value, |pictures: &Pictures| pictures.0.clone())
    })?;
    options.pictures = pictures.unwrap_or_default();
    options.control_apply_to_uncond = given.flag("control_apply_to_uncond")?.unwrap_or(false);
    Ok(())
}
