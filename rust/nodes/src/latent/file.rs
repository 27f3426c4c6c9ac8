//! Latents in files: safetensors with one tensor, as the original writes them.

use std::sync::Arc;

use candle_core::{DType, Device};
use rushlight_diffusion::weights::{Entry, FileDtype, StateDict, to_safetensors};
use rushlight_runtime::host::{FileFolder, SaveRequest};
use rushlight_runtime::{Fingerprint, Validation};
use serde_json::Map;

use crate::image::io::metadata;
use crate::model::objects::engine;
use crate::picture::pixels::values;
use crate::prelude::*;

/// Registers the family.
pub(crate) fn register(registry: &mut Registry) {
    add_saving(registry, "SaveLatent", save_latent_schema, save_latent);
    let load = Define::new(load_latent_schema, load_latent).fingerprint(file_changed).validate(file_exists);
    registry.register("LoadLatent", Arc::new(load));
}

/// The tensor.
const TENSOR: &str = "latent_tensor";
/// An empty tensor that says that the latent is in the user's space.
const VERSION: &str = "latent_format_version_0";
/// What older files were divided by.
const OLD_SCALE: f64 = 0.18215;

fn save_latent_schema(_: &dyn Host) -> NodeSchema {
    NodeSchema::new("SaveLatent", "_for_testing")
        .input(InputSpec::new("samples", "LATENT").bare())
        .input(InputSpec::new("filename_prefix", "STRING").default("latents/ComfyUI"))
        .input(InputSpec::hidden("prompt", "PROMPT"))
        .input(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"))
        .output_node()
}
fn save_latent(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let samples = &inputs.latent("samples")?.samples;
    let bytes = values(samples)?.into_iter().flat_map(f32::to_le_bytes).collect();
    let tensor = Entry::from_bytes(bytes, FileDtype::F32, samples.dims().to_vec()).map_err(engine)?;
    let version = Entry::from_bytes(Vec::new(), FileDtype::F32, vec![0]).map_err(engine)?;
    let dict = StateDict::from_entries([(VERSION.into(), version), (TENSOR.into(), tensor)]);
    let request = SaveRequest {
        folder: FileFolder::Output,
        prefix: inputs.str("filename_prefix")?,
        suffix: "",
        width: 0,
        height: 0,
        batch_index: 0,
        extension: "latent",
    };
    let saved = ctx.host().save(&request, &to_safetensors(&dict, &metadata(ctx, inputs)))?;
    Ok(NodeOutput::default().with_ui("latents", json!([saved])))
}

/// The input's file as it is now, so that a changed file is read again.
fn file_changed(ctx: &NodeContext, inputs: &Inputs) -> Result<Fingerprint, NodeError> {
    Ok(Fingerprint::Value(ctx.host().fingerprint(inputs.str("latent")?)?.into()))
}

fn file_exists(host: &dyn Host, inputs: &Inputs, _: &Map<String, serde_json::Value>) -> Validation {
    let fault = match inputs.get("latent") {
        Some(Value::String(name)) if host.fingerprint(name).is_ok() => None,
        Some(other) => Some(format!("Invalid latent file: {}", crate::pytext::text(other))),
        // A link: its value is not known yet.
        None => None,
    };
    Validation { takes_over: vec!["latent".into()], fault }
}

fn load_latent_schema(host: &dyn Host) -> NodeSchema {
    NodeSchema::new("LoadLatent", "_for_testing")
        .input(InputSpec::combo("latent", host.input_names(&[".latent"])).bare())
        .output(OutputSpec::new("LATENT"))
}
fn load_latent(ctx: &NodeContext, inputs: &Inputs) -> Result<NodeOutput, NodeError> {
    let name = inputs.str("latent")?;
    let bytes = ctx.host().read(name)?;
    let dict = StateDict::from_vec(bytes.to_vec(), name).map_err(engine)?;
    let entry =
        dict.get(TENSOR).ok_or_else(|| NodeError::new("KeyError", format!("'{name}' has no {TENSOR}")))?;
    crate::memory::check_shape("the latent", &entry.shape(), size_of::<f32>())?;
    let samples = entry.tensor(DType::F32, &Device::Cpu).map_err(engine)?;
    let samples = if dict.contains(VERSION) { samples } else { (samples / OLD_SCALE)? };
    Ok(NodeOutput::one(Value::latent(Latent::new(samples))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryHost, context};

    fn dict(entries: &[(&str, Vec<usize>)]) -> StateDict {
        StateDict::from_entries(entries.iter().map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let bytes = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
            (name.to_string(), Entry::from_bytes(bytes, FileDtype::F32, shape.clone()).unwrap())
        }))
    }

    fn loaded(file: Vec<u8>) -> Result<Vec<f32>, NodeError> {
        let mut host = MemoryHost::default();
        host.files.insert("a.latent".into(), file.into());
        let (ctx, _) = context(Arc::new(host));
        let mut inputs = Inputs::new();
        inputs.insert("latent", Value::String("a.latent".into()));
        match &load_latent(&ctx, &inputs)?.values[0] {
            Value::Latent(latent) => values(&latent.samples),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_saved_latent_is_loaded_as_it_was() {
        let host = Arc::new(MemoryHost::default());
        let (ctx, _) = context(host.clone());
        let samples = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap().reshape((1, 4, 2, 2)).unwrap();
        let mut inputs = Inputs::new();
        inputs.insert("samples", Value::latent(Latent::new(samples.clone())));
        inputs.insert("filename_prefix", Value::String("latents/x".into()));
        inputs.insert("prompt", Value::Json(Arc::new(json!({"1": {}}))));
        save_latent(&ctx, &inputs).unwrap();
        let (extension, file) = host.saved.lock()[0].clone();
        assert_eq!(extension, "latent");
        assert!(file.windows(9).any(|window| window == b"\"{\\\"1\\\": "));
        assert_eq!(loaded(file).unwrap(), values(&samples).unwrap());
    }

    #[test]
    fn files_without_a_version_are_in_model_space_and_others_are_refused() {
        let old = to_safetensors(&dict(&[(TENSOR, vec![1, 2])]), &[]);
        assert!((loaded(old).unwrap()[1] - 5.48998).abs() < 1e-4);
        assert!(loaded(to_safetensors(&dict(&[("other", vec![2])]), &[])).is_err());
        assert!(loaded(b"no safetensors file".to_vec()).is_err());
    }
}
