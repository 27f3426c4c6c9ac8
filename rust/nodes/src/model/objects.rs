//! MODEL, CLIP, VAE and CONDITIONING values: how they are wrapped and taken out again.

use rushlight_diffusion::Error;
use rushlight_diffusion::checkpoint::Checkpoint;
use rushlight_diffusion::clip::Clip;
use rushlight_diffusion::conditioning::Conditioning;
use rushlight_diffusion::model::Model;
use rushlight_diffusion::vae::Vae;

use crate::prelude::*;

/// An engine's error under the name that a Python program would have given it.
pub(crate) fn engine(error: Error) -> NodeError {
    let kind = match &error {
        Error::Cancelled => return NodeError::Interrupted,
        Error::Tensor(inner) if is_out_of_memory(inner) => "torch.OutOfMemoryError",
        Error::Io { .. } => "OSError",
        Error::MissingTensor { .. } => "KeyError",
        Error::Unsupported { .. } => "NotImplementedError",
        Error::Shape { .. }
        | Error::UnknownName { .. }
        | Error::InvalidValue { .. }
        | Error::Limit { .. }
        | Error::Format { .. } => "ValueError",
        _ => "RuntimeError",
    };
    NodeError::new(kind, error.to_string())
}

fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("out of memory") || text.contains("out_of_memory")
}

/// Stands for a part that a checkpoint does not have, so that whoever needs it can say so.
#[derive(Debug, Clone)]
pub(crate) struct Absent {
    /// The file's name in its list.
    pub(crate) file: String,
    /// What is not in it, in words.
    pub(crate) part: &'static str,
    /// Which node to use in its place.
    pub(crate) instead: &'static str,
}

/// The object of an input, or the reason why the checkpoint before it has none.
fn object<'a, T: Send + Sync + 'static>(
    inputs: &'a Inputs,
    name: &str,
    kind: &str,
) -> Result<&'a T, NodeError> {
    if let Some(Value::Object(object)) = inputs.get(name)
        && let Some(Absent { file, part, instead }) = object.get::<Absent>()
    {
        return Err(NodeError::new(
            "RuntimeError",
            format!(
                "checkpoint '{file}' has no {part}: connect one from {instead}, or use another checkpoint"
            ),
        ));
    }
    inputs.object(name, kind)
}

/// The MODEL of an input.
pub(crate) fn model<'a>(inputs: &'a Inputs, name: &str) -> Result<&'a Model, NodeError> {
    object(inputs, name, "MODEL")
}

/// The CLIP of an input.
pub(crate) fn clip<'a>(inputs: &'a Inputs, name: &str) -> Result<&'a Clip, NodeError> {
    object(inputs, name, "CLIP")
}

/// The VAE of an input.
pub(crate) fn vae<'a>(inputs: &'a Inputs, name: &str) -> Result<&'a Vae, NodeError> {
    object(inputs, name, "VAE")
}

/// The CONDITIONING of an input.
pub(crate) fn conditioning<'a>(inputs: &'a Inputs, name: &str) -> Result<&'a Conditioning, NodeError> {
    object(inputs, name, "CONDITIONING")
}

/// Wraps a MODEL.
pub(crate) fn model_value(model: Model) -> Value {
    Value::object("MODEL", model)
}

/// Wraps a CLIP.
pub(crate) fn clip_value(clip: Clip) -> Value {
    Value::object("CLIP", clip)
}

/// Wraps a VAE.
pub(crate) fn vae_value(vae: Vae) -> Value {
    Value::object("VAE", vae)
}

/// Wraps a CONDITIONING.
pub(crate) fn conditioning_value(conditioning: Conditioning) -> Value {
    Value::object("CONDITIONING", conditioning)
}

/// The MODEL, CLIP and VAE of a checkpoint; parts it does not have become [`Absent`].
pub(crate) fn checkpoint_values(file: &str, checkpoint: &Checkpoint) -> [Value; 3] {
    let absent = |kind, part, instead| Value::object(kind, Absent { file: file.into(), part, instead });
    [
        checkpoint
            .model
            .clone()
            .map_or_else(|| absent("MODEL", "diffusion model (UNet)", "Load Diffusion Model"), model_value),
        checkpoint
            .clip
            .clone()
            .map_or_else(|| absent("CLIP", "text encoder (CLIP)", "Load CLIP"), clip_value),
        checkpoint.vae.clone().map_or_else(|| absent("VAE", "VAE", "Load VAE"), vae_value),
    ]
}
