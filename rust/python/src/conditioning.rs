//! CONDITIONING as Python knows it: `[[tokens, {options}], …]`.
//!
//! Options that Python has names for are written out and read back; an entry also carries itself
//! ([`CarriedEntry`]), so that what has no name there (control networks) survives a node that copies the options.

use candle_core::{Device, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use rushlight_diffusion::conditioning::{Area, CondEntry, CondOptions, Conditioning, SizeConditioning};
use rushlight_runtime::Value;

use crate::value::{is_tensor, read_tensor, tensor_to_python};

const CARRIED: &str = "rushlight_entry";

/// An entry of the engine inside an options dict.
#[pyclass(frozen, module = "rushlight._rushlight")]
pub struct CarriedEntry(CondEntry);

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
    dict.set_item(
        "pooled_output",
        entry.pooled.as_ref().map(|pooled| tensor_to_python(py, pooled)).transpose()?,
    )?;
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
    dict.set_item(CARRIED, Bound::new(py, CarriedEntry(entry.clone()))?)?;
    Ok(dict)
}

/// The engine's form, `None` for what it cannot hold (then it stays a Python object).
///
/// # Errors
/// When a tensor cannot be read.
pub fn from_python(object: &Bound<'_, PyAny>, device: &Device) -> PyResult<Option<Value>> {
    let Ok(list) = object.cast::<PyList>() else { return Ok(None) };
    let mut entries = Vec::with_capacity(list.len());
    for item in list.iter() {
        if !item.is_instance_of::<PyList>() && !item.is_instance_of::<PyTuple>() || item.len()? != 2 {
            return Ok(None);
        }
        let (tokens, options) = (item.get_item(0)?, item.get_item(1)?);
        let Ok(options) = options.cast::<PyDict>() else { return Ok(None) };
        if !is_tensor(&tokens)? {
            return Ok(None);
        }
        let carried = options.get_item(CARRIED)?.and_then(|entry| entry.cast_into::<CarriedEntry>().ok());
        // Without its entry a Python-made control network would be lost silently.
        if carried.is_none() && options.contains("control")? {
            return Ok(None);
        }
        let mut entry = match &carried {
            Some(carried) => carried.get().0.clone(),
            None => CondEntry::new(read_tensor(&tokens, device)?, None),
        };
        entry.cross_attn = read_tensor(&tokens, device)?;
        read_options(options, &mut entry, device)?;
        entries.push(entry);
    }
    Ok(Some(Value::object("CONDITIONING", Conditioning(entries))))
}

fn read_options(dict: &Bound<'_, PyDict>, entry: &mut CondEntry, device: &Device) -> PyResult<()> {
    let present = |key: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(dict.get_item(key)?.filter(|value| !value.is_none()))
    };
    let tensor = |key: &str| present(key)?.map(|value| read_tensor(&value, device)).transpose();
    let number = |key: &str| present(key)?.map(|value| value.extract::<f64>()).transpose();
    let options = &mut entry.options;
    entry.pooled = tensor("pooled_output")?;
    options.area = match present("area")? {
        None => None,
        Some(area) => match area.extract::<(String, f64, f64, f64, f64)>() {
            Ok((_, height, width, y, x)) => Some(Area::Percent { height, width, y, x }),
            Err(_) => {
                let (height, width, y, x) = area.extract()?;
                Some(Area::Latent { height, width, y, x })
            }
        },
    };
    options.strength = number("strength")?.unwrap_or(1.0);
    options.mask = tensor("mask")?;
    options.mask_strength = number("mask_strength")?.unwrap_or(1.0);
    options.set_area_to_bounds = match present("set_area_to_bounds")? {
        Some(flag) => flag.is_truthy()?,
        None => false,
    };
    options.start_percent = number("start_percent")?.unwrap_or(0.0);
    options.end_percent = number("end_percent")?.unwrap_or(1.0);
    options.size = match (number("width")?, number("height")?) {
        (Some(width), Some(height)) => Some(SizeConditioning {
            height,
            width,
            crop_y: number("crop_h")?.unwrap_or(0.0),
            crop_x: number("crop_w")?.unwrap_or(0.0),
            target_height: number("target_height")?.unwrap_or(height),
            target_width: number("target_width")?.unwrap_or(width),
        }),
        _ => None,
    };
    options.aesthetic_score = number("aesthetic_score")?;
    options.guidance = number("guidance")?;
    options.concat_latent = tensor("concat_latent_image")?;
    options.concat_mask = tensor("concat_mask")?;
    options.attention_mask = tensor("attention_mask")?;
    options.reference_latents = match present("reference_latents")? {
        Some(latents) => {
            latents.try_iter()?.map(|latent| read_tensor(&latent?, device)).collect::<PyResult<_>>()?
        }
        None => Vec::new(),
    };
    Ok(())
}
